//! Sums of rows that have just been written, kept in memory until they go into the tables of sums.
//!
//! Spares reading the rows again. Invariant: they are those of the rows behind `from` up to `to`, without a gap; where
//! another process wrote between them, or a transaction failed, they say nothing, and the tables are made from the rows.

use super::{
    record::Record,
    schema::{DIMENSIONS, SUMS},
    store::{HOUR_MILLIS, integer},
};
use rusqlite::{Statement, Transaction};
use std::{collections::HashMap, iter};

/// So many groups are at hand.
const NEAR: usize = 256;

/// The sums of the rows in a span of the file.
pub(super) struct Pending {
    /// By the hour and the rows' kind: the place of their sums.
    groups: HashMap<Group, usize>,
    sums: Vec<[i64; SUMS.len()]>,
    /// Those of the last rows, each at a place that its group gives.
    near: Vec<Option<(Group, usize)>>,
    span: Option<Span>,
}

/// An hour, and a kind of rows.
type Group = (u64, i64);

/// Rows in the file, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Span {
    from: i64,
    to: i64,
}

impl Pending {
    pub(super) fn new() -> Pending {
        Pending { groups: HashMap::new(), sums: Vec::new(), near: vec![None; NEAR], span: None }
    }

    /// Rows are going to be written behind the last one that is there.
    pub(super) fn expect(&mut self, rolled: i64, last: i64) {
        let is_ours = self.span.is_some_and(|span| span.from == rolled && span.to == last);
        if !is_ours {
            self.forget(rolled, last);
        }
    }

    /// Nothing is known but where the tables of sums and the rows end.
    pub(super) fn forget(&mut self, rolled: i64, last: i64) {
        self.clear();
        self.span = (rolled == last).then_some(Span { from: rolled, to: last });
    }

    /// What is kept may not be what is in the file.
    pub(super) fn doubt(&mut self) {
        self.clear();
        self.span = None;
    }

    fn clear(&mut self) {
        self.groups.clear();
        self.sums.clear();
        self.near.fill(None);
    }

    /// Where the span ends, if it begins where the tables of sums end.
    pub(super) fn end(&self, rolled: i64, last: i64) -> Option<i64> {
        self.span.filter(|span| span.from == rolled && span.to <= last).map(|span| span.to)
    }

    /// A row of this kind has been written under this number.
    pub(super) fn add(&mut self, seq: i64, kind: i64, row: &Record<'_>) {
        let Some(span) = &mut self.span else { return };
        span.to = seq;
        let group = (row.began / HOUR_MILLIS, kind);
        let place = self.place(group);
        match self.sums.get_mut(place) {
            Some(sums) => iter::zip(sums, sums_of(row)).for_each(|(sum, value)| *sum += value),
            None => self.sums.push(sums_of(row)),
        }
    }

    /// Where the sums of a group are, or are going to be.
    fn place(&mut self, group: Group) -> usize {
        let at = group.1 as usize % NEAR;
        if let Some(Some((near, place))) = self.near.get(at)
            && *near == group
        {
            return *place;
        }
        let place = *self.groups.entry(group).or_insert(self.sums.len());
        if let Some(near) = self.near.get_mut(at) {
            *near = Some((group, place));
        }
        place
    }

    /// Adds them to the tables of sums.
    pub(super) fn write(&self, change: &Transaction<'_>) -> rusqlite::Result<()> {
        for (table, unit, hours) in [("hours", "hour", 1), ("days", "day", 24)] {
            let mut statement = change.prepare_cached(&upsert(table, unit))?;
            for ((hour, kind), place) in &self.groups {
                let Some(sums) = self.sums.get(*place) else { continue };
                upsert_one(&mut statement, hour / hours, *kind, sums)?;
            }
        }
        Ok(())
    }
}

/// What one row adds to each sum, in the order of [`SUMS`].
fn sums_of(row: &Record<'_>) -> [i64; SUMS.len()] {
    let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] =
        row.counts.map(|count| integer(count.unwrap_or(0)));
    [
        1,
        i64::from(row.attempt == 1),
        i64::from(row.is_failure),
        i64::from(row.estimates != 0),
        i64::from(row.cost.is_none()),
        input,
        cache_read,
        cache_write,
        cache_write_1h,
        output,
        reasoning,
        server_tools,
        images,
        integer(row.cost.unwrap_or(0)),
        integer(row.bytes_in),
        integer(row.bytes_out),
        integer(row.total_micros),
    ]
}

fn upsert(table: &str, unit: &str) -> String {
    let places = (3..).take(SUMS.len()).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO {table} ({unit}, {DIMENSIONS}, {}) SELECT ?1, {DIMENSIONS}, {places} FROM kinds WHERE kind = ?2 {}",
        super::schema::sum_names(),
        added(unit)
    )
}

/// What happens to sums that are there already.
pub(super) fn added(unit: &str) -> String {
    let added = SUMS.map(|(name, _)| format!("{name} = {name} + excluded.{name}")).join(", ");
    format!("ON CONFLICT ({unit}, {DIMENSIONS}) DO UPDATE SET {added}")
}

fn upsert_one(statement: &mut Statement<'_>, unit: u64, kind: i64, sums: &[i64; SUMS.len()]) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(1, integer(unit))?;
    statement.raw_bind_parameter(2, kind)?;
    for (at, sum) in iter::zip(3.., sums) {
        statement.raw_bind_parameter(at, sum)?;
    }
    statement.raw_execute().map(drop)
}
