//! The ledger's file, as the writer uses it: rows in, sums kept, old rows out.
//!
//! One transaction for all rows of a call: either all are in the file afterwards, or none. A row that is there already is
//! left alone. Nothing here retries or waits longer than SQLite does for another process's transaction.

use super::{
    entry::Entry,
    schema::{self, DIMENSIONS, SUMS, WRITTEN},
    settings::LedgerSettings,
};
use rusqlite::{Connection, Statement, ToSql, Transaction, TransactionBehavior, params};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The name of the file in the data directory.
pub const FILE_NAME: &str = "usage.sqlite";
/// How long a transaction waits for one of another process (a hand-over, a back-up).
const PATIENCE: Duration = Duration::from_millis(500);
/// Pages of the log after which it is put into the file.
const CHECKPOINT_PAGES: u32 = 4_000;
/// The most rows that one step sums up, or lets go of.
const STEP: i64 = 20_000;
const HOUR_MILLIS: u64 = 3_600_000;
const DAY_MILLIS: u64 = 24 * HOUR_MILLIS;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened or made.
    #[error("cannot use the ledger {path}: {cause}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: rusqlite::Error,
    },
    /// The file cannot be read or written.
    #[error("ledger: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// What was asked for does not exist.
    #[error("{0}")]
    Asked(String),
}

/// The file, open for writing.
pub(super) struct Store {
    connection: Connection,
    insert: String,
    roll: [String; 2],
}

impl Store {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path, settings: &LedgerSettings) -> Result<Store, LedgerError> {
        let open = || {
            let mut connection = Connection::open(path)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", if settings.fsync { "full" } else { "normal" })?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
            connection.pragma_update(None, "cache_size", -16_000)?;
            schema::prepare(&mut connection)?;
            connection.set_prepared_statement_cache_capacity(16);
            Ok(Store {
                connection,
                insert: insert(),
                roll: [roll("hours", "hour", HOUR_MILLIS), roll("days", "day", DAY_MILLIS)],
            })
        };
        open().map_err(|cause| LedgerError::Open { path: path.to_owned(), cause })
    }

    /// Writes rows, all or none. Gives the number of rows that were not there yet.
    pub(super) fn write<'e>(&mut self, entries: impl Iterator<Item = &'e Entry>) -> Result<usize, LedgerError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut new = 0;
        {
            let mut statement = change.prepare_cached(&self.insert)?;
            for entry in entries {
                new += insert_one(&mut statement, entry)?;
            }
        }
        change.commit()?;
        Ok(new)
    }

    /// Sums up rows that are not summed up yet, a step of them. Gives whether more are left.
    pub(super) fn roll_up(&mut self) -> Result<bool, LedgerError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (from, last) = bounds(&change)?;
        let to = last.min(from.saturating_add(STEP));
        if to > from {
            for roll in &self.roll {
                change.prepare_cached(roll)?.execute(params![from, to])?;
            }
            change.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'rolled'")?.execute([to])?;
        }
        change.commit()?;
        Ok(to < last)
    }

    /// Lets go of a step of what began before these times (milliseconds since 1970). Gives whether more is left. Only what
    /// is summed up is let go of.
    pub(super) fn forget(&mut self, attempts_before: u64, hours_before: u64) -> Result<bool, LedgerError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let gone = change
            .prepare_cached(
                "DELETE FROM attempts WHERE seq IN (SELECT seq FROM attempts WHERE began < ?1 \
                 AND seq <= (SELECT value FROM meta WHERE name = 'rolled') LIMIT ?2)",
            )?
            .execute(params![integer(attempts_before), STEP])?;
        change.prepare_cached("DELETE FROM hours WHERE hour < ?1")?.execute([integer(hours_before / HOUR_MILLIS)])?;
        change.commit()?;
        Ok(i64::try_from(gone).is_ok_and(|gone| gone == STEP))
    }
}

/// The last row that is summed up, and the last one that is there.
fn bounds(change: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    let rolled = change.query_row("SELECT value FROM meta WHERE name = 'rolled'", [], |row| row.get(0))?;
    let last = change.query_row("SELECT coalesce(max(seq), 0) FROM attempts", [], |row| row.get(0))?;
    Ok((rolled, last))
}

fn insert() -> String {
    let places = (1..=WRITTEN.len()).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
    format!("INSERT OR IGNORE INTO attempts ({}) VALUES ({places})", WRITTEN.join(", "))
}

fn roll(table: &str, unit: &str, millis: u64) -> String {
    let added = SUMS.map(|(name, _)| format!("{name} = {name} + excluded.{name}")).join(", ");
    format!(
        "INSERT INTO {table} ({unit}, {DIMENSIONS}, {}) SELECT began / {millis}, {DIMENSIONS}, {} FROM attempts \
         WHERE seq > ?1 AND seq <= ?2 GROUP BY 1, {DIMENSIONS} \
         ON CONFLICT ({unit}, {DIMENSIONS}) DO UPDATE SET {added}",
        schema::sum_names(),
        schema::sums_of_rows()
    )
}

/// A number as SQLite keeps it: those beyond 63 bits never occur, and would stay the largest one.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn insert_one(statement: &mut Statement<'_>, entry: &Entry) -> rusqlite::Result<usize> {
    let whole = |number: Option<u64>| number.map(integer);
    let counts = entry.counts.all().map(|count| whole(count.value()));
    let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] = &counts;
    let values: [&dyn ToSql; WRITTEN.len()] = [
        &integer(entry.began),
        // The bits of the number, whatever their sign.
        &entry.exchange.cast_signed(),
        &entry.attempt,
        &entry.request,
        &entry.user,
        &entry.key,
        &entry.account,
        &entry.provider,
        &entry.call,
        &entry.model,
        &entry.served,
        &entry.client_format,
        &entry.upstream_format,
        &entry.stream,
        &entry.status,
        &entry.outcome.name(),
        &entry.failure,
        input,
        cache_read,
        cache_write,
        cache_write_1h,
        output,
        reasoning,
        server_tools,
        images,
        &entry.counts.estimated_bits(),
        &whole(entry.cost_nanos),
        &whole(entry.first_micros),
        &integer(entry.total_micros),
        &integer(entry.bytes_in),
        &integer(entry.bytes_out),
        &entry.client,
    ];
    statement.execute(values)
}

#[cfg(test)]
impl Store {
    /// Bounds the file, as a full disk would.
    pub(super) fn limit_pages(&mut self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}
