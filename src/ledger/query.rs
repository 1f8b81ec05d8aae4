//! Asks the ledger: sums by whatever they are kept by, single rows, and what was spent since a time.
//!
//! Reads beside the writer without disturbing it, from the same process or another. Sums are exact up to the last commit:
//! those of whole days and hours come from their tables, the rest from the rows.

use super::{
    entry::{self, COUNT_COLUMNS, Row},
    schema::{self, DIMENSIONS},
    store::{LedgerError, integer},
};
use rusqlite::{Connection, OpenFlags, ToSql};
use serde::Serialize;
use std::{collections::HashMap, path::Path, time::Duration};

const HOUR_MILLIS: u64 = 3_600_000;
const DAY_MILLIS: u64 = 24 * HOUR_MILLIS;
/// The end of time, in milliseconds since 1970: the year 9999.
const FAR: u64 = 253_370_764_800_000;
/// How long a question waits for a lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// What sums can be kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The user.
    User,
    /// The first digits of the key's hash.
    Key,
    /// The account.
    Account,
    /// The provider.
    Provider,
    /// The call.
    Call,
    /// The model asked for.
    Model,
    /// The model at the provider.
    Served,
    /// The hour in which the request began (UTC).
    Hour,
    /// The day in which the request began (UTC).
    Day,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 9] = [
        Group::User,
        Group::Key,
        Group::Account,
        Group::Provider,
        Group::Call,
        Group::Model,
        Group::Served,
        Group::Hour,
        Group::Day,
    ];

    /// The word for it in questions and answers.
    pub fn name(self) -> &'static str {
        match self {
            Group::User => "user",
            Group::Key => "key",
            Group::Account => "account",
            Group::Provider => "provider",
            Group::Call => "call",
            Group::Model => "model",
            Group::Served => "served",
            Group::Hour => "hour",
            Group::Day => "day",
        }
    }

    /// The group with this name.
    pub fn find(name: &str) -> Option<Group> {
        Group::ALL.into_iter().find(|group| group.name() == name)
    }

    fn expression(self) -> &'static str {
        match self {
            Group::Hour => "strftime('%Y-%m-%dT%H:00Z', at / 1000, 'unixepoch')",
            Group::Day => "strftime('%Y-%m-%d', at / 1000, 'unixepoch')",
            Group::User
            | Group::Key
            | Group::Account
            | Group::Provider
            | Group::Call
            | Group::Model
            | Group::Served => self.name(),
        }
    }
}

/// Which rows are asked for; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Requests that began at this time or later, in milliseconds since 1970. Sums take whole hours.
    pub from: Option<u64>,
    /// Requests that began before this time. Sums take whole hours.
    pub to: Option<u64>,
    /// What a column must be, or begin with where a `*` stands at the end. `Model` looks at both names of the model.
    pub only: Vec<(Group, String)>,
}

/// Sums of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Attempts.
    pub attempts: u64,
    /// Requests: their first attempts.
    pub requests: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Attempts with a count that is an estimate.
    pub estimated: u64,
    /// Attempts whose model has no price.
    pub unpriced: u64,
    /// Fresh input tokens.
    pub input: u64,
    /// Input tokens from a cache.
    pub cache_read: u64,
    /// Input tokens to a cache, for 5 minutes.
    pub cache_write: u64,
    /// Input tokens to a cache, for 1 hour.
    pub cache_write_1h: u64,
    /// Output tokens.
    pub output: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
    /// Calls of the provider's own tools.
    pub server_tools: u64,
    /// Images made.
    pub images: u64,
    /// The cost, in nano-dollars.
    pub cost_nanos: u64,
    /// Bytes of the callers' bodies.
    pub bytes_in: u64,
    /// Bytes that the providers answered.
    pub bytes_out: u64,
    /// Time, in microseconds.
    pub total_micros: u64,
}

impl Sums {
    /// Input tokens of every kind, and output tokens.
    pub fn tokens(&self) -> u64 {
        self.input + self.cache_read + self.cache_write + self.cache_write_1h + self.output
    }

    fn read(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Sums> {
        let at =
            |index: usize| row.get::<_, Option<i64>>(from + index).map(|sum| sum.unwrap_or(0).max(0).cast_unsigned());
        Ok(Sums {
            attempts: at(0)?,
            requests: at(1)?,
            failures: at(2)?,
            estimated: at(3)?,
            unpriced: at(4)?,
            input: at(5)?,
            cache_read: at(6)?,
            cache_write: at(7)?,
            cache_write_1h: at(8)?,
            output: at(9)?,
            reasoning: at(10)?,
            server_tools: at(11)?,
            images: at(12)?,
            cost_nanos: at(13)?,
            bytes_in: at(14)?,
            bytes_out: at(15)?,
            total_micros: at(16)?,
        })
    }
}

/// One line of an answer: what it is about, and its sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The values of the groups asked for, in their order.
    pub groups: Vec<String>,
    /// The sums.
    pub sums: Sums,
}

/// Which lines of a long answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many are left out first.
    pub skip: u64,
    /// How many are given at most.
    pub take: u64,
}

impl Default for Page {
    fn default() -> Self {
        Page { skip: 0, take: 1_000_000 }
    }
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests.
    pub requests: u64,
    /// Tokens of every kind.
    pub tokens: u64,
    /// Nano-dollars.
    pub cost_nanos: u64,
}

/// The ledger's file, open for questions.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Reader, LedgerError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(PATIENCE)?;
            // A file that is none of ours is told here, not in the midst of an answer.
            connection.query_row("SELECT value FROM meta WHERE name = 'rolled'", [], |_| Ok(()))?;
            Ok(Reader { connection })
        };
        open().map_err(|cause| LedgerError::Open { path: path.to_owned(), cause })
    }

    /// Sums of what the filter lets through, kept apart by these groups: by time where one of them is a time, else the
    /// dearest first.
    pub fn sums(&self, filter: &Filter, groups: &[Group], page: Page) -> Result<Vec<Line>, LedgerError> {
        let span = Span::of(filter);
        let (conditions, values) = conditions(filter);
        let keys: Vec<&str> = groups.iter().map(|group| group.expression()).collect();
        let sums = schema::SUMS.map(|(name, _)| format!("sum({name})")).join(", ");
        let keyed = if keys.is_empty() { String::new() } else { format!("{}, ", keys.join(", ")) };
        let grouped = if keys.is_empty() { String::new() } else { format!("GROUP BY {}", keys.join(", ")) };
        let is_timed = groups.iter().any(|group| matches!(group, Group::Hour | Group::Day));
        let places: Vec<String> = (1..=keys.len()).map(|at| at.to_string()).collect();
        let order = match (is_timed, places.is_empty()) {
            (_, true) => String::new(),
            (true, false) => format!("ORDER BY {}", places.join(", ")),
            (false, false) => format!("ORDER BY sum(cost) DESC, sum(input + output) DESC, {}", places.join(", ")),
        };
        let is_hourly = groups.contains(&Group::Hour);
        let source = span.source(&conditions, is_hourly);
        let sql =
            format!("SELECT {keyed}{sums} FROM ({source}) {grouped} {order} LIMIT {} OFFSET {}", page.take, page.skip);
        let mut statement = self.connection.prepare(&sql)?;
        let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        let lines = statement.query_map(values.as_slice(), |row| {
            let named = (0..groups.len()).map(|at| row.get::<_, String>(at)).collect::<Result<_, _>>()?;
            Ok(Line { groups: named, sums: Sums::read(row, groups.len())? })
        })?;
        Ok(lines.collect::<Result<Vec<_>, _>>()?)
    }

    /// The sums of everything that the filter lets through.
    pub fn total(&self, filter: &Filter) -> Result<Sums, LedgerError> {
        Ok(self.sums(filter, &[], Page::default())?.first().map(|line| line.sums).unwrap_or_default())
    }

    /// What each user, key, account, … has spent on requests that began at this time (milliseconds since 1970) or later.
    pub fn spent(&self, by: Group, since: u64) -> Result<HashMap<String, Spent>, LedgerError> {
        let whole = Span::exactly(since);
        let key = by.expression();
        let sql = format!(
            "SELECT {key}, sum(requests), sum(input + cache_read + cache_write + cache_write_1h + output), sum(cost) \
             FROM ({}) GROUP BY 1",
            whole.source("", false)
        );
        let mut statement = self.connection.prepare(&sql)?;
        let lines = statement.query_map([], |row| {
            let at = |index: usize| row.get::<_, i64>(index).map(|sum| sum.max(0).cast_unsigned());
            Ok((row.get::<_, String>(0)?, Spent { requests: at(1)?, tokens: at(2)?, cost_nanos: at(3)? }))
        })?;
        Ok(lines.collect::<Result<HashMap<_, _>, _>>()?)
    }

    /// Hands over the rows that the filter lets through, in the order in which they were written. Stops at the first
    /// error of the receiver.
    pub fn rows<E: From<LedgerError>>(
        &self,
        filter: &Filter,
        page: Page,
        mut take: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let sqlite = |error| E::from(LedgerError::Sqlite(error));
        let (conditions, values) = conditions(filter);
        let (from, to) = (filter.from.unwrap_or(0), filter.to.unwrap_or(FAR));
        let sql = format!(
            "SELECT {} FROM attempts WHERE began >= {from} AND began < {to}{conditions} ORDER BY seq LIMIT {} OFFSET {}",
            schema::SHOWN.join(", "),
            page.take,
            page.skip
        );
        let mut statement = self.connection.prepare(&sql).map_err(sqlite)?;
        let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        let mut rows = statement.query(values.as_slice()).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            take(&read_row(row).map_err(sqlite)?)?;
        }
        Ok(())
    }
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let number = |name: &str| row.get::<_, i64>(name).map(|n| n.max(0).cast_unsigned());
    let maybe = |name: &str| row.get::<_, Option<i64>>(name).map(|n| n.map(|n| n.max(0).cast_unsigned()));
    let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] = COUNT_COLUMNS;
    Ok(Row {
        began: number("began")?,
        request: row.get("request")?,
        attempt: row.get("attempt")?,
        user: row.get("user")?,
        key: row.get("key")?,
        account: row.get("account")?,
        provider: row.get("provider")?,
        call: row.get("call")?,
        model: row.get("model")?,
        served: row.get("served")?,
        client_format: row.get("client_format")?,
        upstream_format: row.get("upstream_format")?,
        stream: row.get("stream")?,
        status: row.get("status")?,
        outcome: row.get("outcome")?,
        failure: row.get("failure")?,
        input: maybe(input)?,
        cache_read: maybe(cache_read)?,
        cache_write: maybe(cache_write)?,
        cache_write_1h: maybe(cache_write_1h)?,
        output: maybe(output)?,
        reasoning: maybe(reasoning)?,
        server_tools: maybe(server_tools)?,
        images: maybe(images)?,
        estimated: entry::estimated_names(row.get("estimates")?),
        cost_nanos: maybe("cost")?,
        first_micros: maybe("first_micros")?,
        total_micros: number("total_micros")?,
        bytes_in: number("bytes_in")?,
        bytes_out: number("bytes_out")?,
        client: row.get("client")?,
    })
}

/// The filter's conditions on columns, as SQL that begins with `AND`, and their values.
fn conditions(filter: &Filter) -> (String, Vec<String>) {
    let (mut sql, mut values) = (String::new(), Vec::new());
    for (group, wanted) in &filter.only {
        let (value, begins) = wanted.strip_suffix('*').map_or((wanted.as_str(), false), |beginning| (beginning, true));
        values.push(value.to_owned());
        let place = values.len();
        let one = |column: &str| match begins {
            true => format!("substr({column}, 1, length(?{place})) = ?{place}"),
            false => format!("{column} = ?{place}"),
        };
        sql += &match group {
            Group::Model => format!(" AND ({} OR {})", one("model"), one("served")),
            Group::Hour | Group::Day => format!(" AND ?{place} = ?{place}"),
            Group::User | Group::Key | Group::Account | Group::Provider | Group::Call | Group::Served => {
                format!(" AND {}", one(group.name()))
            }
        };
    }
    (sql, values)
}

/// A span of time, in milliseconds since 1970.
struct Span {
    /// Up to the first whole hour it is made of rows.
    from: u64,
    from_hour: u64,
    /// Before this hour.
    to_hour: u64,
}

impl Span {
    /// A filter's, widened to whole hours.
    fn of(filter: &Filter) -> Span {
        let from_hour = filter.from.unwrap_or(0) / HOUR_MILLIS;
        let to_hour = filter.to.unwrap_or(FAR).min(FAR).div_ceil(HOUR_MILLIS);
        Span { from: from_hour * HOUR_MILLIS, from_hour, to_hour }
    }

    /// From this millisecond on.
    fn exactly(from: u64) -> Span {
        Span { from, from_hour: from.min(FAR).div_ceil(HOUR_MILLIS), to_hour: FAR / HOUR_MILLIS }
    }

    /// The rows of sums that make up the span, as SQL: days where they are whole, hours at their ends, single rows before
    /// the first hour, and the rows that are not summed up yet.
    fn source(&self, conditions: &str, is_hourly: bool) -> String {
        let names = schema::sum_names();
        let sums = schema::sums_of_rows();
        let (first_day, end_day) = (self.from_hour.div_ceil(24), self.to_hour / 24);
        let hours = |from: u64, to: u64| {
            format!(
                "SELECT {DIMENSIONS}, hour * {HOUR_MILLIS} AS at, {names} FROM hours \
                 WHERE hour >= {from} AND hour < {to}{conditions}"
            )
        };
        let mut parts = if is_hourly || first_day >= end_day {
            vec![hours(self.from_hour, self.to_hour)]
        } else {
            let days = format!(
                "SELECT {DIMENSIONS}, day * {DAY_MILLIS} AS at, {names} FROM days \
                 WHERE day >= {first_day} AND day < {end_day}{conditions}"
            );
            vec![hours(self.from_hour, first_day * 24), days, hours(end_day * 24, self.to_hour)]
        };
        let rows = |condition: String| {
            format!(
                "SELECT {DIMENSIONS}, began / {HOUR_MILLIS} * {HOUR_MILLIS} AS at, {sums} FROM attempts \
                 WHERE {condition}{conditions} GROUP BY began / {HOUR_MILLIS}, {DIMENSIONS}"
            )
        };
        const ROLLED: &str = "(SELECT value FROM meta WHERE name = 'rolled')";
        let (first, end) = (integer(self.from_hour * HOUR_MILLIS), integer(self.to_hour * HOUR_MILLIS));
        if integer(self.from) < first {
            parts.push(rows(format!("began >= {} AND began < {first} AND seq <= {ROLLED}", self.from)));
        }
        parts.push(rows(format!("seq > {ROLLED} AND began >= {} AND began < {end}", self.from)));
        parts.join(" UNION ALL ")
    }
}
