//! What the ledger knows, as JSON or CSV, by page.

use super::{answer::Answer, route::Ask};
use crate::ledger::{
    Group, LedgerError, Reader,
    entry::Row,
    export,
    query::{Filter, Page},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// The most lines of one answer; further ones come with the next page.
const MOST: u64 = 10_000;
const USUAL: u64 = 100;
const CSV: &str = "text/csv; charset=utf-8";
const HOUR_MS: u64 = 3_600_000;

#[derive(Serialize)]
struct Lines {
    rows: Vec<Value>,
    /// What to send as `skip` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize)]
struct Attempts {
    rows: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// `GET /api/v1/usage`: sums by the groups in `by`.
pub(super) fn sums(ask: &Ask) -> Answer {
    respond(ask, |ask, reader, filter, page| {
        let by = ask.parameter("by").unwrap_or_else(|| "user,model".to_owned());
        let Some(groups) = by.split(',').map(|name| Group::find(name.trim())).collect::<Option<Vec<_>>>() else {
            let names = Group::ALL.map(Group::name).join(", ");
            return Ok(Answer::fault(400, &format!("`by` takes {names}, with commas between them")));
        };
        let mut lines = reader.sums(filter, &groups, more(page))?;
        let next = next(&mut lines, page);
        if is_csv(ask) {
            let mut out = Vec::new();
            // Writing to memory cannot fail.
            let _ = export::sums_csv(&mut out, &groups, &lines);
            return Ok(Answer::text(CSV, String::from_utf8_lossy(&out).into_owned()));
        }
        let rows = lines.iter().map(|line| {
            let mut row = export::sums_json(&groups, line);
            if let Some(object) = row.as_object_mut() {
                object.insert("cost_nanos".to_owned(), line.sums.cost_nanos.into());
                object.extend(start(&groups, &line.groups).map(|start| ("start_ms".to_owned(), start.into())));
            }
            row
        });
        Ok(Answer::json(&Lines { rows: rows.collect(), next }))
    })
}

/// `GET /api/v1/usage/attempts`: the rows themselves, in the order in which they were written.
pub(super) fn attempts(ask: &Ask) -> Answer {
    respond(ask, |ask, reader, filter, page| {
        let mut rows: Vec<Row> = Vec::new();
        reader.rows::<LedgerError>(filter, more(page), |row| {
            rows.push(row.clone());
            Ok(())
        })?;
        let next = next(&mut rows, page);
        let mut out = Vec::new();
        if is_csv(ask) {
            let _ = export::rows_csv_header(&mut out);
            rows.iter().for_each(|row| drop(export::row_csv(&mut out, row)));
            return Ok(Answer::text(CSV, String::from_utf8_lossy(&out).into_owned()));
        }
        let rows = rows.iter().filter_map(|row| serde_json::value::to_raw_value(row).ok()).collect();
        Ok(Answer::json(&Attempts { rows, next }))
    })
}

fn respond(ask: &Ask, answer: impl FnOnce(&Ask, &Reader, &Filter, Page) -> Result<Answer, LedgerError>) -> Answer {
    let Some(ledger) = &ask.live.ledger else { return Answer::fault(409, "this process keeps no ledger") };
    let (filter, page) = match (filter(ask), page(ask)) {
        (Ok(filter), Ok(page)) => (filter, page),
        (Err(fault), _) | (_, Err(fault)) => return Answer::fault(400, &fault),
    };
    match ledger.reader().and_then(|reader| answer(ask, &reader, &filter, page)) {
        Ok(answer) => answer,
        Err(error) => Answer::fault(500, &format!("the ledger cannot be read: {error}")),
    }
}

fn filter(ask: &Ask) -> Result<Filter, String> {
    let (from, to) = (number(ask, "from_ms")?, number(ask, "to_ms")?);
    let untimed = Group::ALL.into_iter().filter(|group| !matches!(group, Group::Hour | Group::Day));
    let only = untimed.filter_map(|group| Some((group, ask.parameter(group.name())?))).collect();
    Ok(Filter { from, to, only })
}

fn page(ask: &Ask) -> Result<Page, String> {
    let take = number(ask, "limit")?.unwrap_or(USUAL).clamp(1, MOST);
    Ok(Page { skip: number(ask, "skip")?.unwrap_or(0), take })
}

fn number(ask: &Ask, name: &str) -> Result<Option<u64>, String> {
    let text = ask.parameter(name);
    text.map(|text| text.parse().map_err(|_| format!("`{name}` must be a whole number"))).transpose()
}

/// One line more than asked for tells whether there is another page.
fn more(page: Page) -> Page {
    Page { take: page.take + 1, ..page }
}

fn next<T>(lines: &mut Vec<T>, page: Page) -> Option<u64> {
    let is_more = lines.len() as u64 > page.take;
    lines.truncate(usize::try_from(page.take).unwrap_or(usize::MAX));
    is_more.then(|| page.skip.saturating_add(page.take))
}

fn is_csv(ask: &Ask) -> bool {
    ask.parameter("format").is_some_and(|format| format == "csv")
}

/// When a line's hour or day begins, in milliseconds since 1970.
fn start(groups: &[Group], values: &[String]) -> Option<u64> {
    let at = groups.iter().position(|group| matches!(group, Group::Hour | Group::Day))?;
    let text = values.get(at)?;
    let (day, hour) = text.split_once('T').unwrap_or((text, "00"));
    let day: jiff::civil::Date = day.parse().ok()?;
    let days = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond();
    let hour: u64 = hour.get(..2)?.parse().ok()?;
    Some(u64::try_from(days).ok()?.saturating_add(hour * HOUR_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_have_their_beginning_in_milliseconds() {
        let at = |group, text: &str| start(&[Group::User, group], &["u".to_owned(), text.to_owned()]);
        assert_eq!(at(Group::Hour, "2026-11-25T10:00Z"), Some(1_795_600_800_000));
        assert_eq!(at(Group::Day, "2026-11-25"), Some(1_795_564_800_000));
        assert_eq!(at(Group::Model, "m"), None);
    }
}
