//! Rows and sums as files: CSV by RFC 4180, JSON one object a line.
//!
//! A name that a caller chose can neither forge a line nor become a formula in a spreadsheet.

use super::{
    entry::Row,
    query::{Group, Line, Sums},
};
use serde_json::{Map, Value};
use std::io::{self, Write};

/// Nano-dollars as dollars, exactly, without zeros at the end beyond the cents.
pub fn dollars(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let keep = text.len() - 7;
    let short = text.trim_end_matches('0');
    text.get(..short.len().max(keep)).unwrap_or(&text).to_owned()
}

/// The columns of sums, with their values; money in dollars.
fn columns(sums: &Sums) -> [(&'static str, String); 16] {
    [
        ("requests", sums.requests.to_string()),
        ("attempts", sums.attempts.to_string()),
        ("failures", sums.failures.to_string()),
        ("input", sums.input.to_string()),
        ("cache_read", sums.cache_read.to_string()),
        ("cache_write", sums.cache_write.to_string()),
        ("cache_write_1h", sums.cache_write_1h.to_string()),
        ("output", sums.output.to_string()),
        ("reasoning", sums.reasoning.to_string()),
        ("server_tools", sums.server_tools.to_string()),
        ("images", sums.images.to_string()),
        ("cost_usd", dollars(sums.cost_nanos)),
        ("unpriced", sums.unpriced.to_string()),
        ("estimated", sums.estimated.to_string()),
        ("bytes_in", sums.bytes_in.to_string()),
        ("bytes_out", sums.bytes_out.to_string()),
    ]
}

/// Writes sums as CSV, with a header.
pub fn sums_csv(out: &mut dyn Write, groups: &[Group], lines: &[Line]) -> io::Result<()> {
    let names = columns(&Sums::default()).map(|(name, _)| name);
    record(out, groups.iter().map(|group| group.name()).chain(names))?;
    lines.iter().try_for_each(|line| {
        let values = columns(&line.sums).map(|(_, value)| value);
        record(out, line.groups.iter().map(String::as_str).chain(values.iter().map(String::as_str)))
    })
}

/// Sums as a JSON object.
pub fn sums_json(groups: &[Group], line: &Line) -> Value {
    let named = groups.iter().zip(&line.groups).map(|(group, value)| (group.name().to_owned(), value.clone().into()));
    let mut object: Map<String, Value> = named.collect();
    for (name, value) in columns(&line.sums) {
        // Money stays a text: a float could not hold it.
        let value =
            if name == "cost_usd" { value.into() } else { value.parse::<u64>().map_or(Value::Null, Value::from) };
        object.insert(name.to_owned(), value);
    }
    object.insert("tokens".to_owned(), line.sums.tokens().into());
    Value::Object(object)
}

/// The columns of [`row_csv`].
const ROW_COLUMNS: [&str; 31] = [
    "began",
    "request",
    "attempt",
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
    "estimated",
    "cost_usd",
    "first_ms",
    "total_ms",
    "bytes_in",
    "bytes_out",
    "client",
];

/// Writes the header of rows as CSV.
pub fn rows_csv_header(out: &mut dyn Write) -> io::Result<()> {
    record(out, ROW_COLUMNS.into_iter())
}

/// Writes one row as CSV.
pub fn row_csv(out: &mut dyn Write, row: &Row) -> io::Result<()> {
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    let values: [String; ROW_COLUMNS.len()] = [
        time(row.began),
        row.request.clone(),
        row.attempt.to_string(),
        row.user.clone(),
        row.key.clone(),
        row.account.clone(),
        row.provider.clone(),
        row.call.clone(),
        row.model.clone(),
        row.served.clone(),
        row.client_format.clone(),
        row.upstream_format.clone(),
        row.stream.to_string(),
        row.status.to_string(),
        row.outcome.clone(),
        row.failure.clone(),
        count(row.input),
        count(row.cache_read),
        count(row.cache_write),
        count(row.cache_write_1h),
        count(row.output),
        count(row.reasoning),
        count(row.server_tools),
        count(row.images),
        row.estimated.join(" "),
        row.cost_nanos.map(dollars).unwrap_or_default(),
        row.first_micros.map(millis).unwrap_or_default(),
        millis(row.total_micros),
        row.bytes_in.to_string(),
        row.bytes_out.to_string(),
        row.client.clone(),
    ];
    record(out, values.iter().map(String::as_str))
}

/// A row as one line of JSON. Money is in nano-dollars.
pub fn row_json(out: &mut dyn Write, row: &Row) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

/// A time in milliseconds since 1970 as RFC 3339, in UTC.
pub fn time(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1_000).unwrap_or(i64::MAX);
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(seconds) else { return millis.to_string() };
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        millis % 1_000
    )
}

fn record<'v>(out: &mut dyn Write, values: impl Iterator<Item = &'v str>) -> io::Result<()> {
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        field(out, value)?;
    }
    out.write_all(b"\r\n")
}

fn field(out: &mut dyn Write, value: &str) -> io::Result<()> {
    // A spreadsheet takes a text that begins like this for a formula.
    let is_formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !is_formula && !value.contains([',', '"', '\n', '\r']) {
        return out.write_all(value.as_bytes());
    }
    let guard = if is_formula { "'" } else { "" };
    write!(out, "\"{guard}{}\"", value.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn money_is_shown_exactly() {
        assert_eq!(dollars(0), "0.00");
        assert_eq!(dollars(1), "0.000000001");
        assert_eq!(dollars(1_230_000_000), "1.23");
        assert_eq!(dollars(12_345_600_000), "12.3456");
        assert_eq!(dollars(u64::MAX), "18446744073.709551615");
    }

    #[test]
    fn a_hostile_name_is_one_value_and_no_formula() {
        let row = Row { model: "x\",\n=1".into(), user: "=cmd()".into(), ..Row::default() };
        let line = text(|out| row_csv(out, &row));
        assert!(line.contains("\"x\"\",\n=1\"") && line.contains(",\"'=cmd()\","), "{line}");
        let json = text(|out| row_json(out, &row));
        assert_eq!(json.lines().count(), 1);
    }

    #[test]
    fn a_header_has_as_many_columns_as_a_row() {
        let line = Line { groups: vec!["u".into()], sums: Sums::default() };
        let table = text(|out| sums_csv(out, &[Group::User], std::slice::from_ref(&line)));
        let widths: Vec<usize> = table.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(widths, [17, 17]);
        assert_eq!(sums_json(&[Group::User], &line)["cost_usd"], "0.00");
        let header = text(rows_csv_header);
        assert_eq!(header.split(',').count(), text(|out| row_csv(out, &Row::default())).split(',').count());
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_764_068_143_007), "2025-11-25T10:55:43.007Z");
    }
}
