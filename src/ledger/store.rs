//! The ledger's file, as the writer uses it: rows in, sums kept, old rows out.
//!
//! One transaction for all rows of a call: either all are in the file afterwards, or none. A row that is there already is
//! left alone. Nothing here retries or waits longer than SQLite does for another process's transaction.

use super::{
    kinds::Kinds,
    record::Record,
    schema::{self, DIMENSIONS, OWN},
    settings::LedgerSettings,
    sums::{self, Pending},
};
use rusqlite::{
    Connection, Statement, Transaction, TransactionBehavior, params,
    types::{ToSqlOutput, ValueRef},
};
use std::{
    iter,
    path::{Path, PathBuf},
    time::Duration,
};

/// The name of the file in the data directory.
pub const FILE_NAME: &str = "usage.sqlite";
/// How long a transaction waits for one of another process (a hand-over, a back-up).
const PATIENCE: Duration = Duration::from_millis(500);
/// Pages of the log after which it is put into the file.
const CHECKPOINT_PAGES: u32 = 4_000;
/// Rows come in at the file's end: a larger cache would hold what is not looked at again, and keep it out of the CPU's.
const CACHE_KIB: i32 = -4_000;
/// The most rows that one step sums up, or lets go of.
const STEP: i64 = 20_000;
pub(super) const HOUR_MILLIS: u64 = 3_600_000;
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
    /// A file of the journal cannot be made, read or removed.
    #[error("cannot use the ledger's journal in {path}: {cause}")]
    Journal {
        /// Where.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
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
    kinds: Kinds,
    /// The sums of what has been written since the last time that they went into their tables.
    pending: Pending,
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
            connection.pragma_update(None, "cache_size", CACHE_KIB)?;
            schema::prepare(&mut connection)?;
            connection.set_prepared_statement_cache_capacity(16);
            Ok(Store {
                connection,
                insert: insert(),
                roll: [roll("hours", "hour", HOUR_MILLIS), roll("days", "day", DAY_MILLIS)],
                kinds: Kinds::new(),
                pending: Pending::default(),
            })
        };
        open().map_err(|cause| LedgerError::Open { path: path.to_owned(), cause })
    }

    /// Writes rows, all or none. Gives the number of rows that were not there yet.
    pub(super) fn write<'r>(&mut self, rows: impl Iterator<Item = Record<'r>>) -> Result<usize, LedgerError> {
        let written = self.write_all(rows);
        if written.is_err() {
            self.pending.doubt();
            self.kinds.doubt();
        }
        Ok(written?)
    }

    fn write_all<'r>(&mut self, rows: impl Iterator<Item = Record<'r>>) -> rusqlite::Result<usize> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (rolled, last) = bounds(&change)?;
        self.pending.expect(rolled, last);
        let (mut seq, mut new) = (last, 0);
        {
            let mut insert = Insert { statement: &mut *change.prepare_cached(&self.insert)?, bound: [None; COLUMNS] };
            for row in rows {
                let kind = self.kinds.of(&change, &row)?;
                if insert.row(seq + 1, kind, &row)? {
                    (seq, new) = (seq + 1, new + 1);
                    self.pending.add(seq, kind, &row);
                }
            }
        }
        change.commit()?;
        Ok(new)
    }

    /// Brings the tables of sums up to date, by a step. Gives whether more is left.
    pub(super) fn roll_up(&mut self) -> Result<bool, LedgerError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (rolled, last) = bounds(&change)?;
        let to = match self.pending.end(rolled, last) {
            Some(to) => {
                self.pending.write(&change)?;
                to
            }
            // Another process wrote them, or this one before it ended: they are read again.
            None => {
                let to = last.min(rolled.saturating_add(STEP));
                for roll in &self.roll {
                    change.prepare_cached(roll)?.execute(params![rolled, to])?;
                }
                to
            }
        };
        change.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'rolled'")?.execute([to])?;
        change.commit()?;
        self.pending.forget(to, last);
        Ok(to < last)
    }

    /// Lets go of a step of what began before these times (milliseconds since 1970). Gives whether more is left. Only what
    /// is summed up is let go of.
    pub(super) fn forget(&mut self, attempts_before: u64, hours_before: u64) -> Result<bool, LedgerError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let gone = change
            .prepare_cached(
                "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE began < ?1 \
                 AND seq <= (SELECT value FROM meta WHERE name = 'rolled') LIMIT ?2)",
            )?
            .execute(params![integer(attempts_before), STEP])?;
        change.prepare_cached("DELETE FROM hours WHERE hour < ?1")?.execute([integer(hours_before / HOUR_MILLIS)])?;
        change.commit()?;
        Ok(i64::try_from(gone).is_ok_and(|gone| gone == STEP))
    }
}

/// The last row that is summed up, and the last one.
fn bounds(change: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    let rolled =
        change.prepare_cached("SELECT value FROM meta WHERE name = 'rolled'")?.query_row([], |row| row.get(0))?;
    let last = change.prepare_cached(schema::LAST)?.query_row([], |row| row.get(0))?;
    Ok((rolled, last))
}

fn insert() -> String {
    let places = (1..=1 + COLUMNS).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
    format!("INSERT OR IGNORE INTO entries ({OWN}, seq) VALUES ({places})")
}

fn roll(table: &str, unit: &str, millis: u64) -> String {
    format!(
        "INSERT INTO {table} ({unit}, {DIMENSIONS}, {}) SELECT began / {millis}, {DIMENSIONS}, {} FROM attempts \
         WHERE seq > ?1 AND seq <= ?2 GROUP BY 1, {DIMENSIONS} {}",
        schema::sum_names(),
        schema::sums_of_rows(),
        sums::added(unit)
    )
}

/// A number as SQLite keeps it: those beyond 63 bits never occur, and would stay the largest one.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The statement that writes rows.
struct Insert<'i, 'c, 'r> {
    statement: &'i mut Statement<'c>,
    /// What its parameters hold.
    bound: [Option<ValueRef<'r>>; COLUMNS],
}

impl<'r> Insert<'_, '_, 'r> {
    /// Writes a row under this number. `false` where it was there already.
    fn row(&mut self, seq: i64, kind: i64, row: &Record<'r>) -> rusqlite::Result<bool> {
        for ((place, bound), column) in iter::zip(iter::zip(1.., &mut self.bound), columns(kind, row)) {
            // SQLite copies a text that it is given, and most are those of the row before.
            if *bound != Some(column) {
                self.statement.raw_bind_parameter(place, ToSqlOutput::Borrowed(column))?;
                *bound = Some(column);
            }
        }
        self.statement.raw_bind_parameter(1 + COLUMNS, seq)?;
        Ok(self.statement.raw_execute()? == 1)
    }
}

/// How many columns a row has beside its number.
const COLUMNS: usize = 22;

/// What is written of a row, in the order of [`OWN`].
fn columns<'r>(kind: i64, row: &Record<'r>) -> [ValueRef<'r>; COLUMNS] {
    let text = |text: &'r str| ValueRef::Text(text.as_bytes());
    let number = |number: u64| ValueRef::Integer(integer(number));
    let maybe = |maybe: Option<u64>| maybe.map_or(ValueRef::Null, number);
    let [request, .., client] = row.texts.map(text);
    let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] =
        row.counts.map(maybe);
    [
        number(row.began),
        // The bits of the number, whatever their sign.
        ValueRef::Integer(row.exchange.cast_signed()),
        number(row.attempt.into()),
        ValueRef::Integer(kind),
        request,
        client,
        number(row.stream.into()),
        number(row.status.into()),
        input,
        cache_read,
        cache_write,
        cache_write_1h,
        output,
        reasoning,
        server_tools,
        images,
        number(row.estimates.into()),
        maybe(row.cost),
        maybe(row.first_micros),
        number(row.total_micros),
        number(row.bytes_in),
        number(row.bytes_out),
    ]
}

#[cfg(test)]
impl Store {
    /// Bounds the file, as a full disk would.
    pub(super) fn limit_pages(&mut self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}
