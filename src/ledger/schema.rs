//! The tables of the ledger's file, and how an older file is brought up to date.
//!
//! `attempts` grows at its end: the writer numbers its rows. `hours` and `days` hold its sums up to the row that `meta.rolled` names; a reader adds the
//! rows behind it, so that the sums are exact at any time and after any crash.

use rusqlite::{Connection, Result};

/// The number of this version's tables.
const VERSION: i64 = 2;

/// What sums are kept by, in the order of the columns.
pub(super) const DIMENSIONS: &str = "user, key, account, provider, call, model, served";

/// The columns of sums, each with the way it is made of rows.
pub(super) const SUMS: [(&str, &str); 17] = [
    ("attempts", "count(*)"),
    ("requests", "sum(attempt = 1)"),
    ("failures", "sum(failure <> '')"),
    ("estimated", "sum(estimates <> 0)"),
    ("unpriced", "sum(cost IS NULL)"),
    ("input", "sum(coalesce(input, 0))"),
    ("cache_read", "sum(coalesce(cache_read, 0))"),
    ("cache_write", "sum(coalesce(cache_write, 0))"),
    ("cache_write_1h", "sum(coalesce(cache_write_1h, 0))"),
    ("output", "sum(coalesce(output, 0))"),
    ("reasoning", "sum(coalesce(reasoning, 0))"),
    ("server_tools", "sum(coalesce(server_tools, 0))"),
    ("images", "sum(coalesce(images, 0))"),
    ("cost", "sum(coalesce(cost, 0))"),
    ("bytes_in", "sum(bytes_in)"),
    ("bytes_out", "sum(bytes_out)"),
    ("total_micros", "sum(total_micros)"),
];

const ATTEMPTS: &str = "
CREATE TABLE attempts (
  seq INTEGER PRIMARY KEY,
  began INTEGER NOT NULL, exchange INTEGER NOT NULL, attempt INTEGER NOT NULL,
  request TEXT NOT NULL, user TEXT NOT NULL, key TEXT NOT NULL, account TEXT NOT NULL, provider TEXT NOT NULL,
  call TEXT NOT NULL, model TEXT NOT NULL, served TEXT NOT NULL, client_format TEXT NOT NULL,
  upstream_format TEXT NOT NULL, stream INTEGER NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL,
  failure TEXT NOT NULL,
  input INTEGER, cache_read INTEGER, cache_write INTEGER, cache_write_1h INTEGER, output INTEGER, reasoning INTEGER,
  server_tools INTEGER, images INTEGER, estimates INTEGER NOT NULL,
  cost INTEGER, first_micros INTEGER, total_micros INTEGER NOT NULL, bytes_in INTEGER NOT NULL,
  bytes_out INTEGER NOT NULL, client TEXT NOT NULL,
  UNIQUE (began, exchange, attempt)
) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('rolled', 0);";

/// The columns that a row is written with, as they stand in `attempts`.
pub(super) const WRITTEN: [&str; 32] = [
    "began",
    "exchange",
    "attempt",
    "request",
    "user",
    "key",
    "account",
    "provider",
    "call",
    "model",
    "served",
    "client_format",
    "upstream_format",
    "stream",
    "status",
    "outcome",
    "failure",
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "server_tools",
    "images",
    "estimates",
    "cost",
    "first_micros",
    "total_micros",
    "bytes_in",
    "bytes_out",
    "client",
];

/// The names of the sums, separated by commas.
pub(super) fn sum_names() -> String {
    SUMS.map(|(name, _)| name).join(", ")
}

/// How the sums are made of rows, separated by commas.
pub(super) fn sums_of_rows() -> String {
    SUMS.map(|(_, sum)| sum).join(", ")
}

fn sums_table(name: &str, unit: &str) -> String {
    let columns: String = SUMS.iter().map(|(sum, _)| format!("{sum} INTEGER NOT NULL, ")).collect();
    format!(
        "CREATE TABLE {name} ({unit} INTEGER NOT NULL, user TEXT NOT NULL, key TEXT NOT NULL, \
         account TEXT NOT NULL, provider TEXT NOT NULL, call TEXT NOT NULL, model TEXT NOT NULL, served TEXT NOT NULL, \
         {columns}PRIMARY KEY ({unit}, {DIMENSIONS})) STRICT, WITHOUT ROWID;"
    )
}

/// Makes the tables where they are missing, and changes those of an earlier version. Fails on a file of a later one.
pub(super) fn prepare(connection: &mut Connection) -> Result<()> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    // Another process may be doing the same.
    let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    match version(&change)? {
        VERSION => return Ok(()),
        0 => {
            change.execute_batch(ATTEMPTS)?;
            change.execute_batch(&sums_table("hours", "hour"))?;
            change.execute_batch(&sums_table("days", "day"))?;
        }
        1 => number_rows_ourselves(&change)?,
        later => {
            return Err(rusqlite::Error::InvalidParameterName(format!(
                "the file is of a later version of sub2api (tables {later}, this one knows {VERSION})"
            )));
        }
    }
    change.execute_batch(&format!("PRAGMA user_version = {VERSION}"))?;
    change.commit()
}

fn version(connection: &Connection) -> Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Version 1 let SQLite keep the last number of `attempts` in a table of its own (`AUTOINCREMENT`), which cost every row
/// another write. The rows are stored alike without it, so that only the table's own words change: a file of any size is
/// ready at once. SQLite names this way in <https://www.sqlite.org/lang_altertable.html#otheralter>.
fn number_rows_ourselves(change: &Connection) -> Result<()> {
    let schema: i64 = change.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
    change.execute_batch(&format!(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, ' AUTOINCREMENT', '') WHERE type = 'table' AND name = 'attempts';
         PRAGMA schema_version = {};
         PRAGMA writable_schema = OFF;",
        schema + 1
    ))
}
