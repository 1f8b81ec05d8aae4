//! The statements that write rows: many at a time where many wait.
//!
//! A fifth of what a row costs in a statement of its own is the statement's. Invariant: rows are written in the order in
//! which they are given, each once.

use super::{record::Record, schema::OWN, store::integer};
use rusqlite::{
    CachedStatement, Connection, Transaction,
    types::{ToSqlOutput, ValueRef},
};
use std::iter;

/// How many columns with numbers a row has beside its own number.
const NUMBERS: usize = 20;
/// How many of them stand before the texts.
const FIRST: usize = 4;
/// How many columns with texts.
const TEXTS: usize = 2;
const COLUMNS: usize = NUMBERS + TEXTS;
/// So many rows are written at a time.
pub(super) const MANY: usize = 16;

/// The statements, as text.
pub(super) struct Insert {
    one: String,
    many: String,
}

impl Insert {
    pub(super) fn new() -> Insert {
        // The numbers' parameters come first, and stand around the texts.
        let places = |row: usize| {
            let order = (1..=FIRST).chain(NUMBERS + 1..=COLUMNS).chain(FIRST + 1..=NUMBERS);
            order.map(|at| format!("?{}", row * COLUMNS + at)).collect::<Vec<_>>().join(", ")
        };
        let rows = (0..MANY).map(|row| format!("(NULL, {})", places(row))).collect::<Vec<_>>().join(", ");
        Insert {
            one: format!("INSERT OR IGNORE INTO entries (seq, {OWN}) VALUES (?{}, {})", 1 + COLUMNS, places(0)),
            // A row that is there already ends the transaction: a statement that leaves it out says not which one it was,
            // and one that undoes only itself keeps account of what it does.
            many: format!("INSERT OR ROLLBACK INTO entries (seq, {OWN}) VALUES {rows}"),
        }
    }

    /// Has SQLite read the long one, which takes as long as writing many rows.
    pub(super) fn prepare(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.prepare_cached(&self.many).map(drop)
    }

    /// For one row.
    pub(super) fn one<'c, 'r>(&self, change: &'c Transaction<'_>) -> rusqlite::Result<Filled<'c, 'r>> {
        Filled::new(change, &self.one, 1)
    }

    /// For [`MANY`] rows, which get the numbers behind the last one in the table: SQLite need not look for their places.
    pub(super) fn many<'c, 'r>(&self, change: &'c Transaction<'_>) -> rusqlite::Result<Filled<'c, 'r>> {
        Filled::new(change, &self.many, MANY)
    }
}

/// A statement, and what its parameters hold.
pub(super) struct Filled<'c, 'r> {
    statement: CachedStatement<'c>,
    rows: Vec<Row<'r>>,
}

/// What the parameters of one row hold: nothing, at first.
type Row<'r> = ([Option<i64>; NUMBERS], [Option<&'r [u8]>; TEXTS]);

impl<'c, 'r> Filled<'c, 'r> {
    fn new(change: &'c Transaction<'_>, sql: &str, rows: usize) -> rusqlite::Result<Filled<'c, 'r>> {
        let mut statement = change.prepare_cached(sql)?;
        statement.clear_bindings();
        Ok(Filled { statement, rows: vec![Row::default(); rows] })
    }

    /// Fills the place of one of its rows. Much is as in the row that stood there before, and stays.
    pub(super) fn put(&mut self, place: usize, kind: i64, row: &Record<'r>) -> rusqlite::Result<()> {
        let Some((numbers, texts)) = self.rows.get_mut(place) else { return Ok(()) };
        let mut at = place * COLUMNS;
        for (bound, number) in iter::zip(numbers, &numbers_of(kind, row)) {
            at += 1;
            if bound != number {
                let value = number.map_or(ValueRef::Null, ValueRef::Integer);
                self.statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(value))?;
                *bound = *number;
            }
        }
        for (bound, text) in iter::zip(texts, [row.request, row.client]) {
            at += 1;
            if *bound != Some(text) {
                self.statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(ValueRef::Text(text)))?;
                *bound = Some(text);
            }
        }
        Ok(())
    }

    /// Writes the only row under this number, else under the one behind the last in the table. `false` where the row is
    /// there already.
    pub(super) fn write(&mut self, seq: Option<i64>) -> rusqlite::Result<bool> {
        self.statement.raw_bind_parameter(1 + COLUMNS, seq)?;
        Ok(self.statement.raw_execute()? == 1)
    }

    /// Writes all rows. Fails where one is there already, and undoes the transaction then.
    pub(super) fn write_all(&mut self) -> rusqlite::Result<()> {
        self.statement.raw_execute().map(drop)
    }
}

/// The numbers that are written of a row, in the order of [`OWN`].
fn numbers_of(kind: i64, row: &Record<'_>) -> [Option<i64>; NUMBERS] {
    let number = |number: u64| Some(integer(number));
    let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] =
        row.counts.map(|count| count.map(integer));
    [
        number(row.began),
        // The bits of the number, whatever their sign.
        Some(row.exchange.cast_signed()),
        number(row.attempt.into()),
        Some(kind),
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
        row.cost.map(integer),
        row.first_micros.map(integer),
        number(row.total_micros),
        number(row.bytes_in),
        number(row.bytes_out),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{
        Entry, LedgerSettings, Reader,
        query::{Filter, Page},
        store::{FILE_NAME, LedgerError, Store},
        tests::{self, Folder, entry},
    };

    fn store(folder: &Folder) -> Store {
        Store::open(&folder.0.join(FILE_NAME), &LedgerSettings::default()).unwrap()
    }

    fn rows(exchanges: impl Iterator<Item = u64>) -> Vec<Entry<'static>> {
        exchanges.map(|exchange| Entry { began: 1_764_028_800_000, ..entry(exchange, 1) }).collect()
    }

    /// What was charged for each row, which is the number of its exchange, in the order of the file.
    fn written(reader: &Reader) -> Vec<u64> {
        let mut written = Vec::new();
        let read: Result<(), LedgerError> = reader.rows(&Filter::default(), Page::default(), |row| {
            written.extend(row.cost_nanos);
            Ok(())
        });
        read.unwrap();
        written
    }

    #[test]
    fn a_row_among_many_that_is_there_already_is_left_out_and_the_others_are_written_in_their_order() {
        let folder = Folder::new();
        let mut store = store(&folder);
        assert_eq!(tests::write(&mut store, &rows(1..=2)).unwrap(), 2);
        for (known, from) in [(2, 3), (40, 103), (202, 203)] {
            let new = from..from + 100;
            let mut exchanges: Vec<u64> = new.clone().collect();
            exchanges.insert(50, known);
            exchanges.insert(51, from);
            assert_eq!(tests::write(&mut store, &rows(exchanges.into_iter())).unwrap(), 100);
        }
        assert_eq!(written(&folder.reader()), (1..=302).collect::<Vec<_>>());
        assert!(!store.roll_up().unwrap());
        assert_eq!(folder.reader().total(&Filter::default()).unwrap().cost_nanos, (1..=302).sum::<u64>());
    }

    #[test]
    fn numbers_go_on_behind_rows_that_have_been_let_go_of() {
        let folder = Folder::new();
        let mut store = store(&folder);
        for bundle in [1..=100, 101..=200] {
            tests::write(&mut store, &rows(bundle)).unwrap();
            store.roll_up().unwrap();
            store.forget(u64::MAX, 0).unwrap();
            assert!(written(&folder.reader()).is_empty());
        }
        tests::write(&mut store, &rows(201..=300)).unwrap();
        let numbers = folder.other().query_row("SELECT min(seq), max(seq), count(*) FROM entries", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
        assert_eq!(numbers.unwrap(), (201, 300, 100));
        assert_eq!(folder.reader().total(&Filter::default()).unwrap().cost_nanos, (1..=300).sum::<u64>());
    }
}
