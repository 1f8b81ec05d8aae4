//! The statement that writes rows: many at a time where many wait.
//!
//! What a statement costs beside its rows is the larger part of what one row costs. Invariant: rows are written in the
//! order in which they are given, each once.

use super::{record::Record, schema::OWN, store::integer};
use rusqlite::{
    Transaction,
    types::{ToSqlOutput, ValueRef},
};
use std::iter;

/// How many columns a row has.
const COLUMNS: usize = 23;
/// So many rows are written at a time.
pub(super) const MANY: usize = 16;

/// The statements, as text.
pub(super) struct Insert {
    one: String,
    many: String,
}

impl Insert {
    pub(super) fn new() -> Insert {
        let places = |row: usize| {
            let places = (1..=COLUMNS).map(|at| format!("?{}", row * COLUMNS + at));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        };
        let rows = (0..MANY).map(places).collect::<Vec<_>>().join(", ");
        Insert {
            one: format!("INSERT OR IGNORE INTO entries (seq, {OWN}) VALUES {}", places(0)),
            // A row that is there already ends the transaction: a statement that were to leave it out, or to be undone by
            // itself, would have to keep account of what it does.
            many: format!("INSERT OR ROLLBACK INTO entries (seq, {OWN}) VALUES {rows}"),
        }
    }

    /// For one row, which is left out where it is there already.
    pub(super) fn one<'c, 'r>(&self, change: &'c Transaction<'_>) -> rusqlite::Result<Filled<'c, 'r>> {
        Filled::new(change, &self.one, 1)
    }

    /// For [`MANY`] rows. Fails where one is there already, and undoes the transaction then.
    pub(super) fn many<'c, 'r>(&self, change: &'c Transaction<'_>) -> rusqlite::Result<Filled<'c, 'r>> {
        Filled::new(change, &self.many, MANY)
    }
}

/// A statement, and what its parameters hold.
pub(super) struct Filled<'c, 'r> {
    statement: rusqlite::CachedStatement<'c>,
    bound: Vec<Option<ValueRef<'r>>>,
}

impl<'c, 'r> Filled<'c, 'r> {
    fn new(change: &'c Transaction<'_>, sql: &str, rows: usize) -> rusqlite::Result<Filled<'c, 'r>> {
        Ok(Filled { statement: change.prepare_cached(sql)?, bound: vec![None; rows * COLUMNS] })
    }

    /// Fills the place of one of its rows, with the row's number and its kind's.
    pub(super) fn put(&mut self, place: usize, (seq, kind): (i64, i64), row: &Record<'r>) -> rusqlite::Result<()> {
        let first = place * COLUMNS;
        let places = self.bound.iter_mut().enumerate().skip(first);
        for ((at, bound), column) in iter::zip(places, columns(seq, kind, row)) {
            // SQLite copies a text that it is given, and much is as in the row that stood here before.
            if *bound != Some(column) {
                self.statement.raw_bind_parameter(at + 1, ToSqlOutput::Borrowed(column))?;
                *bound = Some(column);
            }
        }
        Ok(())
    }

    /// Writes its rows. Gives how many were not there yet.
    pub(super) fn execute(&mut self) -> rusqlite::Result<usize> {
        self.statement.raw_execute()
    }
}

/// What is written of a row: its number, then the columns in the order of [`OWN`], which is the table's.
fn columns<'r>(seq: i64, kind: i64, row: &Record<'r>) -> [ValueRef<'r>; COLUMNS] {
    let number = |number: u64| ValueRef::Integer(integer(number));
    let maybe = |maybe: Option<u64>| maybe.map_or(ValueRef::Null, number);
    let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] =
        row.counts.map(maybe);
    [
        ValueRef::Integer(seq),
        number(row.began),
        // The bits of the number, whatever their sign.
        ValueRef::Integer(row.exchange.cast_signed()),
        number(row.attempt.into()),
        ValueRef::Integer(kind),
        ValueRef::Text(row.request),
        ValueRef::Text(row.client),
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
