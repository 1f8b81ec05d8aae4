//! The ledger's file, as the writer uses it: rows in, sums kept, old rows out.
//!
//! One transaction for all rows of a call: either all are in the file afterwards, or none. A row that is there already is
//! left alone. Nothing here retries or waits longer than SQLite does for another process's transaction.

use super::{
    insert::{self, Filled, Insert},
    kinds::Kinds,
    record::Record,
    schema::{self, DIMENSIONS},
    segment::Records,
    settings::LedgerSettings,
    sums::{self, Pending},
};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
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
    insert: Insert,
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
            let insert = Insert::new();
            insert.prepare(&connection)?;
            Ok(Store {
                connection,
                insert,
                roll: [roll("hours", "hour", HOUR_MILLIS), roll("days", "day", DAY_MILLIS)],
                kinds: Kinds::new(),
                pending: Pending::new(),
            })
        };
        open().map_err(|cause| LedgerError::Open { path: path.to_owned(), cause })
    }

    /// Writes the next rows, so many at most, all or none. Gives the number of rows that were not there yet.
    pub(super) fn write(&mut self, rows: &mut Records<'_>, most: usize) -> Result<usize, LedgerError> {
        let all = rows.clone();
        let mut written = self.write_all(rows, most, true);
        if written.as_ref().is_err_and(is_conflict) {
            // One of them is there already. That is rare: a row comes twice where a kill hit between its commit and the
            // end of its journal.
            self.doubt();
            *rows = all;
            written = self.write_all(rows, most, false);
        }
        if written.is_err() {
            self.doubt();
        }
        Ok(written?)
    }

    fn doubt(&mut self) {
        self.pending.doubt();
        self.kinds.doubt();
    }

    /// Writes many rows at a time where all are taken for new; fails then where one is not.
    fn write_all(&mut self, rows: &mut Records<'_>, most: usize, are_new: bool) -> rusqlite::Result<usize> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (rolled, last) = bounds(&change)?;
        self.pending.expect(rolled, last);
        let mut end = End { change: &change, kinds: &mut self.kinds, pending: &mut self.pending, last, seq: last };
        let (mut one, mut many) = (self.insert.one(&change)?, None);
        let (mut left, mut bundle) = (most, Vec::with_capacity(insert::MANY));
        while left > 0 {
            bundle.clear();
            let wanted = if end.is_first() { 1 } else { insert::MANY.min(left) };
            bundle.extend(rows.by_ref().take(wanted));
            left = if bundle.len() == wanted { left - wanted } else { 0 };
            if are_new && bundle.len() == insert::MANY {
                let many = match &mut many {
                    Some(many) => many,
                    none => none.insert(self.insert.many(&change)?),
                };
                end.add_all(many, &bundle)?;
            } else {
                bundle.iter().try_for_each(|row| end.add(&mut one, row))?;
            }
        }
        let new = end.seq - last;
        drop((one, many));
        change.commit()?;
        Ok(new as usize)
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

/// The end of the file, where rows are added.
struct End<'s, 'c> {
    change: &'s Transaction<'c>,
    kinds: &'s mut Kinds,
    pending: &'s mut Pending,
    /// The number of the last row before.
    last: i64,
    /// The number of the last row.
    seq: i64,
}

impl End<'_, '_> {
    /// Whether the next row is the first one. It is told its number, and the others go on behind it: where rows have been
    /// let go of, the last one that is there says nothing.
    fn is_first(&self) -> bool {
        self.seq == self.last
    }

    /// Adds as many rows as the statement takes. Fails where one is there already.
    fn add_all<'r>(&mut self, many: &mut Filled<'_, 'r>, rows: &[Record<'r>]) -> rusqlite::Result<()> {
        for (place, row) in rows.iter().enumerate() {
            let kind = self.kinds.of(self.change, row)?;
            self.seq += 1;
            many.put(place, kind, row)?;
            self.pending.add(self.seq, kind, row);
        }
        many.write_all()
    }

    /// Adds a row, if it is not there yet.
    fn add<'r>(&mut self, one: &mut Filled<'_, 'r>, row: &Record<'r>) -> rusqlite::Result<()> {
        let kind = self.kinds.of(self.change, row)?;
        one.put(0, kind, row)?;
        if one.write(self.is_first().then_some(self.seq + 1))? {
            self.seq += 1;
            self.pending.add(self.seq, kind, row);
        }
        Ok(())
    }
}

fn is_conflict(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// The last row that is summed up, and the last one.
fn bounds(change: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    let rolled =
        change.prepare_cached("SELECT value FROM meta WHERE name = 'rolled'")?.query_row([], |row| row.get(0))?;
    let last = change.prepare_cached(schema::LAST)?.query_row([], |row| row.get(0))?;
    Ok((rolled, last))
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

#[cfg(test)]
impl Store {
    /// Bounds the file, as a full disk would.
    pub(super) fn limit_pages(&mut self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}
