//! The tables of the ledger's file, and how an older file is brought up to date.
//!
//! `entries` grows at its end: the writer numbers its rows. What many rows share (user, account, model, …) stands once, in
//! `kinds`, so that a row is half as long; nothing is ever taken out of it, and `days` remembers as much. `attempts` shows
//! both together, for every question. `hours` and `days` hold the sums of rows up to the one that `meta.rolled` names; a
//! reader adds the rows behind it, so that the sums are exact at any time and after any crash.

use rusqlite::{Connection, Result};

/// The number of this version's tables.
const VERSION: i64 = 4;

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

/// What rows share, in the order of the columns.
pub(super) const SHARED: &str =
    "user, key, account, provider, call, model, served, client_format, upstream_format, outcome, failure";

/// What each row has for itself, in the order in which it is written.
pub(super) const OWN: &str = "began, exchange, attempt, kind, request, client, stream, status, input, cache_read, cache_write, \
                              cache_write_1h, output, reasoning, server_tools, images, estimates, cost, first_micros, \
                              total_micros, bytes_in, bytes_out";

/// Without types and without `NOT NULL`, which SQLite would check for each value of each row: the writer knows what it
/// writes, and nobody else writes here.
const ENTRIES: &str = "CREATE TABLE entries (
  seq INTEGER PRIMARY KEY,
  began, exchange, attempt, kind, request, client, stream, status, input, cache_read, cache_write, cache_write_1h, output,
  reasoning, server_tools, images, estimates, cost, first_micros, total_micros, bytes_in, bytes_out,
  UNIQUE (began, exchange, attempt)
)";

const KINDS: &str = "CREATE TABLE kinds (
  kind INTEGER PRIMARY KEY,
  user TEXT NOT NULL, key TEXT NOT NULL, account TEXT NOT NULL, provider TEXT NOT NULL, call TEXT NOT NULL,
  model TEXT NOT NULL, served TEXT NOT NULL, client_format TEXT NOT NULL, upstream_format TEXT NOT NULL,
  outcome TEXT NOT NULL, failure TEXT NOT NULL,
  UNIQUE (user, key, account, provider, call, model, served, client_format, upstream_format, outcome, failure)
) STRICT";

const META: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('rolled', 0);";

/// The columns of `attempts` behind its number: those that versions 1 and 2 had in one table.
pub(super) const SHOWN: [&str; 32] = [
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

/// Shows rows with what they share. The rows are looked through, and their kinds are looked up, never the other way round
/// (`CROSS JOIN`). A process of an earlier version that has not ended yet writes its rows through the view.
fn view() -> String {
    let shown = SHOWN.join(", ");
    let (values, wanted) = (prefixed("NEW", SHARED), prefixed("NEW", OWN));
    let wanted = wanted.replace("NEW.kind", &format!("(SELECT kind FROM kinds WHERE ({SHARED}) = ({values}))"));
    format!(
        "CREATE VIEW attempts AS SELECT seq, {shown} FROM entries CROSS JOIN kinds ON kinds.kind = entries.kind;
         CREATE TRIGGER attempts_written INSTEAD OF INSERT ON attempts BEGIN
           INSERT OR IGNORE INTO kinds ({SHARED}) VALUES ({values});
           INSERT OR IGNORE INTO entries (seq, {OWN}) SELECT 1 + ({LAST}), {wanted};
         END;"
    )
}

/// The number of the last row that is there, or was: only what is summed up is let go of.
pub(super) const LAST: &str =
    "SELECT max(value, coalesce((SELECT max(seq) FROM entries), 0)) FROM meta WHERE name = 'rolled'";

/// Names, each behind the name of its table.
fn prefixed(table: &str, names: &str) -> String {
    names.split(", ").map(|name| format!("{table}.{name}")).collect::<Vec<_>>().join(", ")
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
            change.execute_batch(META)?;
            change.execute_batch(&sums_table("hours", "hour"))?;
            change.execute_batch(&sums_table("days", "day"))?;
            make(&change)?;
        }
        1 | 2 => take_kinds_apart(&change)?,
        3 => relax(&change)?,
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

/// Makes the tables of rows, and the view that shows them.
fn make(change: &Connection) -> Result<()> {
    change.execute_batch(&format!("{ENTRIES}; {KINDS}; {}", view()))
}

/// Versions 1 and 2 wrote everything into every row, in a table with the name of today's view. The rows keep their
/// numbers, by which `meta.rolled` knows them.
fn take_kinds_apart(change: &Connection) -> Result<()> {
    change.execute_batch("ALTER TABLE attempts RENAME TO earlier")?;
    make(change)?;
    change.execute_batch(&format!(
        "INSERT INTO kinds ({SHARED}) SELECT DISTINCT {SHARED} FROM earlier;
         INSERT INTO entries (seq, {OWN}) SELECT seq, {OWN} FROM earlier CROSS JOIN kinds ON ({}) = ({}) ORDER BY seq;
         DROP TABLE earlier;",
        prefixed("kinds", SHARED),
        prefixed("earlier", SHARED)
    ))
}

/// Version 3 had the same table with types that are checked. Rows look the same without: only what the file says of the
/// table changes, as SQLite's page on `ALTER TABLE` has it for constraints.
fn relax(change: &Connection) -> Result<()> {
    let schema: i64 = change.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
    change.execute_batch("PRAGMA writable_schema = ON")?;
    change.execute("UPDATE sqlite_schema SET sql = ?1 WHERE type = 'table' AND name = 'entries'", [ENTRIES])?;
    change.execute_batch(&format!("PRAGMA schema_version = {}; PRAGMA writable_schema = RESET", schema + 1))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Counts, Entry, Group, LedgerError, LedgerSettings, Outcome, Reader,
            query::{Filter, Page},
            store::{FILE_NAME, Store},
            tests::{self, Folder, entry},
        },
        *,
    };
    use crate::wire::Usage;
    use rusqlite::{ToSql, params};

    /// The table that versions 1 and 2 wrote, but for its first column.
    const ATTEMPTS: &str = "began INTEGER NOT NULL, exchange INTEGER NOT NULL, attempt INTEGER NOT NULL,
        request TEXT NOT NULL, user TEXT NOT NULL, key TEXT NOT NULL, account TEXT NOT NULL, provider TEXT NOT NULL,
        call TEXT NOT NULL, model TEXT NOT NULL, served TEXT NOT NULL, client_format TEXT NOT NULL,
        upstream_format TEXT NOT NULL, stream INTEGER NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL,
        failure TEXT NOT NULL, input INTEGER, cache_read INTEGER, cache_write INTEGER, cache_write_1h INTEGER,
        output INTEGER, reasoning INTEGER, server_tools INTEGER, images INTEGER, estimates INTEGER NOT NULL,
        cost INTEGER, first_micros INTEGER, total_micros INTEGER NOT NULL, bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL, client TEXT NOT NULL, UNIQUE (began, exchange, attempt)";

    /// The table of rows that version 3 wrote.
    const CHECKED_ENTRIES: &str = "CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        began INTEGER NOT NULL, exchange INTEGER NOT NULL, attempt INTEGER NOT NULL, kind INTEGER NOT NULL,
        request TEXT NOT NULL, client TEXT NOT NULL, stream INTEGER NOT NULL, status INTEGER NOT NULL,
        input INTEGER, cache_read INTEGER, cache_write INTEGER, cache_write_1h INTEGER, output INTEGER,
        reasoning INTEGER, server_tools INTEGER, images INTEGER, estimates INTEGER NOT NULL,
        cost INTEGER, first_micros INTEGER, total_micros INTEGER NOT NULL, bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        UNIQUE (began, exchange, attempt)
      ) STRICT";

    /// Makes a file as an earlier version left it.
    fn earlier(folder: &Folder, version: i64) -> Connection {
        let tables = match version {
            1 => format!("CREATE TABLE attempts (seq INTEGER PRIMARY KEY AUTOINCREMENT, {ATTEMPTS}) STRICT"),
            2 => format!("CREATE TABLE attempts (seq INTEGER PRIMARY KEY, {ATTEMPTS}) STRICT"),
            _ => format!("{CHECKED_ENTRIES}; {KINDS}; {}", view()),
        };
        let file = folder.other();
        file.execute_batch(&format!("{tables}; {META}")).unwrap();
        file.execute_batch(&sums_table("hours", "hour")).unwrap();
        file.execute_batch(&sums_table("days", "day")).unwrap();
        file.execute_batch(&format!("PRAGMA user_version = {version}; PRAGMA journal_mode = wal")).unwrap();
        file
    }

    /// Writes rows as versions 1 and 2 did. In a file of version 3 they go through the view.
    fn write(file: &Connection, first: i64, entries: &[Entry<'_>]) {
        let places = (1..=33).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT OR IGNORE INTO attempts (seq, {}) VALUES ({places})", SHOWN.join(", "));
        for (seq, row) in (first..).zip(entries) {
            let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] =
                row.counts.all().map(|count| count.value().map(u64::cast_signed));
            let numbers = params![
                seq,
                row.began,
                row.exchange.cast_signed(),
                row.attempt,
                row.request,
                row.user,
                row.key,
                row.account,
                row.provider,
                row.call,
                row.model,
                row.served,
                row.client_format,
                row.upstream_format,
                row.stream,
                row.status,
                row.outcome.name(),
                row.failure,
                input,
                cache_read,
                cache_write,
                cache_write_1h,
                output,
                reasoning,
                server_tools,
                images,
                row.counts.estimated_bits(),
                row.cost_nanos,
                row.first_micros,
                row.total_micros,
                row.bytes_in,
                row.bytes_out,
                row.client
            ];
            let all: &[&dyn ToSql] = numbers;
            file.execute(&sql, all).unwrap();
        }
    }

    fn rows(exchanges: std::ops::RangeInclusive<u64>) -> Vec<Entry<'static>> {
        let row = |exchange: u64| {
            let mut counts = Counts::reported(&Usage { input: Some(exchange), ..Usage::default() });
            if exchange.is_multiple_of(3) {
                counts.estimate_output(7);
            }
            Entry {
                exchange: exchange.wrapping_mul(0x9E37_79B9_7F4A_7C15),
                request: format!("req_{exchange}").leak(),
                user: ["ada", "bob", ""][exchange as usize % 3],
                model: ["smart", "it's \"quoted\"", "\u{e9}\n"][exchange as usize / 2 % 3],
                outcome: if exchange.is_multiple_of(5) { Outcome::Failed } else { Outcome::Served },
                failure: if exchange.is_multiple_of(5) { "fault" } else { "" },
                cost_nanos: (!exchange.is_multiple_of(4)).then_some(exchange),
                client: format!("10.0.0.{}", exchange % 7).leak(),
                stream: exchange.is_multiple_of(2),
                counts,
                ..entry(exchange, 1)
            }
        };
        exchanges.map(row).collect()
    }

    /// Every row and many sums, as questions are answered.
    fn told(reader: &Reader) -> String {
        let mut told = String::new();
        let every: Result<(), LedgerError> = reader.rows(&Filter::default(), Page::default(), |row| {
            told += &format!("{row:?}\n");
            Ok(())
        });
        every.unwrap();
        for groups in [&[][..], &[Group::User, Group::Model], &[Group::Key, Group::Hour], &Group::ALL] {
            told += &format!("{:?}\n", reader.sums(&Filter::default(), groups, Page::default()).unwrap());
        }
        let only = vec![(Group::User, "a*".to_owned())];
        told += &format!("{:?}", reader.sums(&Filter { only, ..Filter::default() }, &[Group::Served], Page::default()));
        let mut spent: Vec<_> = reader.spent(Group::User, 0).unwrap().into_iter().collect();
        spent.sort_by(|a, b| a.0.cmp(&b.0));
        told + &format!("{spent:?}")
    }

    fn open(folder: &Folder) -> Store {
        Store::open(&folder.0.join(FILE_NAME), &LedgerSettings::default()).unwrap()
    }

    #[test]
    fn a_file_of_an_earlier_version_answers_as_before_and_goes_on() {
        for version in [1, 2, 3] {
            let folder = Folder::new();
            let all = rows(1..=60);
            let (old, new) = all.split_at(40);
            let file = earlier(&folder, version);
            write(&file, 1, old);
            let rolled = SUMS.map(|(_, sum)| sum).join(", ");
            for (table, millis) in [("hours", 3_600_000), ("days", 86_400_000)] {
                let sums = format!(
                    "INSERT INTO {table} SELECT began / {millis}, {DIMENSIONS}, {rolled} FROM attempts WHERE seq <= 25 \
                     GROUP BY 1, {DIMENSIONS}"
                );
                file.execute_batch(&sums).unwrap();
            }
            file.execute_batch("UPDATE meta SET value = 25").unwrap();
            let before = told(&folder.reader());
            let mut store = open(&folder);
            assert_eq!(told(&folder.reader()), before, "from version {version}");
            assert_eq!(tests::write(&mut store, &all).unwrap(), new.len(), "what is there is known as such");
            store.roll_up().unwrap();
            let fresh = Folder::new();
            tests::write(&mut open(&fresh), &all).unwrap();
            assert_eq!(told(&folder.reader()), told(&fresh.reader()), "from version {version}");
            let text = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
            let schema = "SELECT group_concat(coalesce(sql, name)) FROM (SELECT * FROM sqlite_schema \
                          WHERE name <> 'sqlite_sequence' ORDER BY name)";
            assert_eq!(text(schema), fresh.other().query_row(schema, [], |row| row.get::<_, String>(0)).unwrap());
            assert!(!text("SELECT group_concat(sql) FROM sqlite_schema").contains("AUTOINCREMENT"));
            assert_eq!(text("PRAGMA integrity_check"), "ok");
        }
    }

    #[test]
    fn a_file_that_cannot_be_changed_over_stays_as_it_was() {
        let folder = Folder::new();
        let file = earlier(&folder, 2);
        write(&file, 1, &rows(1..=9));
        let before = told(&folder.reader());
        file.execute_batch("CREATE TABLE kinds (stands_in_the_way)").unwrap();
        assert!(Store::open(&folder.0.join(FILE_NAME), &LedgerSettings::default()).is_err());
        assert_eq!(told(&folder.reader()), before);
        file.execute_batch("DROP TABLE kinds").unwrap();
        open(&folder);
        assert_eq!(told(&folder.reader()), before);
    }

    #[test]
    fn a_process_of_an_earlier_version_goes_on_writing_until_it_ends() {
        let folder = Folder::new();
        let all = rows(1..=60);
        let file = earlier(&folder, 2);
        write(&file, 1, &all[..20]);
        let mut store = open(&folder);
        tests::write(&mut store, &all[20..30]).unwrap();
        // Its numbers are those that it would give: today's are given in their place.
        write(&file, 21, &all[25..40]);
        store.roll_up().unwrap();
        write(&file, 21, &all[35..50]);
        tests::write(&mut store, &all[40..]).unwrap();
        for _ in 0..2 {
            let fresh = Folder::new();
            tests::write(&mut open(&fresh), &all).unwrap();
            assert_eq!(told(&folder.reader()), told(&fresh.reader()));
            store.roll_up().unwrap();
        }
    }

    #[test]
    fn a_process_of_version_3_goes_on_writing_with_the_statement_that_it_has() {
        let folder = Folder::new();
        let all = rows(1..=60);
        let file = earlier(&folder, 3);
        write(&file, 1, &all[..20]);
        let values = OWN.replace("exchange", "exchange + 1");
        let sql = format!(
            "INSERT OR IGNORE INTO entries ({OWN}, seq) SELECT {values}, 1 + ({LAST}) FROM entries WHERE seq = ?1"
        );
        let mut insert = file.prepare(&sql).unwrap();
        assert_eq!(insert.execute([1]).unwrap(), 1);
        let mut store = open(&folder);
        assert_eq!(insert.execute([2]).unwrap(), 1);
        assert_eq!(tests::write(&mut store, &all).unwrap(), 40);
        assert_eq!(
            (insert.execute([1]).unwrap(), insert.execute([3]).unwrap()),
            (0, 1),
            "what is there is known as such"
        );
        for _ in 0..2 {
            assert_eq!(folder.reader().total(&Filter::default()).unwrap().attempts, 63);
            store.roll_up().unwrap();
        }
    }

    #[test]
    fn rows_are_looked_through_and_kinds_are_looked_up() {
        let folder = Folder::new();
        tests::write(&mut open(&folder), &rows(1..=60)).unwrap();
        let file = folder.other();
        for (condition, way) in [
            ("user = 'ada' AND seq > 7", "SEARCH entries USING INTEGER PRIMARY KEY (rowid>?)"),
            ("began >= 7 AND began < 9 AND user = 'ada'", "SEARCH entries USING INDEX"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT user, sum(cost) FROM attempts WHERE {condition} GROUP BY 1");
            let mut plan = file.prepare(&sql).unwrap();
            let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
            assert!(steps[0].starts_with(way), "{steps:?}");
            assert_eq!(steps[1], "SEARCH kinds USING INTEGER PRIMARY KEY (rowid=?)", "{steps:?}");
        }
    }
}
