//! `sub2api usage`: what was used and what it cost, as a table, CSV or JSON.

use super::{USAGE_ERROR, help};
use crate::{
    clock::Clock,
    config::Config,
    ledger::{
        FILE_NAME, Group, LedgerError, Reader, export,
        query::{Filter, Line, Page},
        recover,
    },
};
use lexopt::prelude::*;
use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const HELP: &str = "\
sub2api usage [-c FILE | --data DIR] [--by GROUPS] [FILTERS] [--csv | --json] [--rows]

What was used and what it cost, read beside a running gateway.
  -c, --config FILE   the configuration, for its data_dir (default: as `serve` without a file)
      --data DIR      the data directory itself
      --by GROUPS     kept apart by, with commas: user, key, account, provider, call, model, served, hour, day
                      (default: user,model)
      --from T --to T requests that began from T on, before T: a date, a time (RFC 3339), or a span back from now (7d, 12h)
      --user, --key, --account, --provider, --call, --model NAME
                      only these; a name can end with `*`
      --csv, --json   as CSV, or as JSON, one object a line
      --rows          every attempt by itself instead of sums (with --csv or --json; --json is the default)
      --skip N --take N
                      a part of a long answer
Sums take whole hours, in UTC.";

/// What is asked for.
#[derive(Debug, Default)]
struct Asked {
    config: Option<PathBuf>,
    data: Option<PathBuf>,
    groups: Vec<Group>,
    filter: Filter,
    page: Page,
    form: Form,
    rows: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Table,
    Csv,
    Json,
}

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let mut asked = Asked { groups: vec![Group::User, Group::Model], ..Asked::default() };
    while let Some(argument) = parser.next()? {
        let only = |group, value: String, asked: &mut Asked| asked.filter.only.push((group, value));
        match argument {
            Short('c') | Long("config") => asked.config = Some(parser.value()?.into()),
            Long("data") => asked.data = Some(parser.value()?.into()),
            Long("by") => asked.groups = groups(&parser.value()?.string()?)?,
            Long("from") => asked.filter.from = Some(moment(&parser.value()?.string()?)?),
            Long("to") => asked.filter.to = Some(moment(&parser.value()?.string()?)?),
            Long("csv") => asked.form = Form::Csv,
            Long("json") => asked.form = Form::Json,
            Long("rows") => asked.rows = true,
            Long("skip") => asked.page.skip = parser.value()?.parse()?,
            Long("take") => asked.page.take = parser.value()?.parse()?,
            Short('h') | Long("help") => return help(HELP),
            Long(name) => match Group::find(name).filter(|group| !matches!(group, Group::Hour | Group::Day)) {
                Some(group) => only(group, parser.value()?.string()?, &mut asked),
                None => return Err(Long(name).unexpected()),
            },
            other => return Err(other.unexpected()),
        }
    }
    Ok(answer(&asked))
}

fn answer(asked: &Asked) -> ExitCode {
    let reader = match open(asked.config.as_deref(), asked.data.as_deref()) {
        Ok(reader) => reader,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = if asked.rows { rows(&reader, asked, &mut out) } else { sums(&reader, asked, &mut out) };
    match done.and_then(|()| out.flush().map_err(Fault::from)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has had enough (`| head`).
        Err(Fault::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("sub2api: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// The ledger that is meant: the one in the data directory of this configuration, or in this directory; with what a process
/// that was killed left in its journal.
pub(super) fn open(config: Option<&Path>, data: Option<&Path>) -> Result<Reader, String> {
    let directory = match (data, config) {
        (Some(data), _) => data.to_owned(),
        (None, Some(file)) => Config::load(file).map_err(|faults| faults.to_string())?.config.data_dir,
        (None, None) => Config::default_data_dir(&|name| std::env::var(name).ok()),
    };
    // A gateway that runs does this itself.
    if let Err(error) = recover(&directory) {
        eprintln!("sub2api: rows of a process that was killed are left out: {error}");
    }
    Reader::open(&directory.join(FILE_NAME)).map_err(|error| format!("sub2api: {error}"))
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

fn rows(reader: &Reader, asked: &Asked, out: &mut dyn Write) -> Result<(), Fault> {
    if asked.form == Form::Csv {
        export::rows_csv_header(out)?;
    }
    reader.rows(&asked.filter, asked.page, |row| {
        match asked.form {
            Form::Csv => export::row_csv(out, row)?,
            Form::Json | Form::Table => export::row_json(out, row)?,
        }
        Ok(())
    })
}

fn sums(reader: &Reader, asked: &Asked, out: &mut dyn Write) -> Result<(), Fault> {
    let lines = reader.sums(&asked.filter, &asked.groups, asked.page)?;
    match asked.form {
        Form::Csv => export::sums_csv(out, &asked.groups, &lines)?,
        Form::Json => {
            for line in &lines {
                writeln!(out, "{}", export::sums_json(&asked.groups, line))?;
            }
        }
        Form::Table => {
            let total = reader.total(&asked.filter)?;
            table(out, asked, &lines, Line { groups: Vec::new(), sums: total })?;
        }
    }
    Ok(())
}

fn table(out: &mut dyn Write, asked: &Asked, lines: &[Line], total: Line) -> io::Result<()> {
    let head: Vec<String> = asked.groups.iter().map(|group| group.name().to_owned()).collect();
    let names = ["requests", "failed", "input", "cached", "written", "output", "cost_usd"].map(str::to_owned);
    let mut cells: Vec<Vec<String>> = vec![head.iter().cloned().chain(names).collect()];
    cells.extend(lines.iter().map(|line| line.groups.iter().map(|name| shown(name)).chain(figures(line)).collect()));
    let label = head.iter().enumerate().map(|(at, _)| if at == 0 { "all".to_owned() } else { String::new() });
    cells.push(label.chain(figures(&total)).collect());
    let widths: Vec<usize> = (0..head.len() + 7)
        .map(|at| cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in &cells {
        let padded = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at < head.len() {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    if total.sums.estimated > 0 {
        writeln!(out, "\n{} of {} attempts have estimated counts.", total.sums.estimated, total.sums.attempts)?;
    }
    if total.sums.unpriced > 0 {
        writeln!(out, "\n{} attempts used models without a price; they are not in the cost.", total.sums.unpriced)?;
    }
    Ok(())
}

fn figures(line: &Line) -> [String; 7] {
    let sums = &line.sums;
    [
        sums.requests.to_string(),
        sums.failures.to_string(),
        sums.input.to_string(),
        sums.cache_read.to_string(),
        (sums.cache_write + sums.cache_write_1h).to_string(),
        sums.output.to_string(),
        export::dollars(sums.cost_nanos),
    ]
}

/// A name on a terminal: one that a caller chose may hold anything.
fn shown(name: &str) -> String {
    match name {
        "" => "-".to_owned(),
        _ if name.chars().any(char::is_control) => format!("{name:?}"),
        _ => name.to_owned(),
    }
}

fn groups(text: &str) -> Result<Vec<Group>, lexopt::Error> {
    let names = Group::ALL.map(Group::name).join(", ");
    let one = |name: &str| Group::find(name).ok_or_else(|| format!("`{name}` is none of {names}").into());
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(one).collect()
}

/// A date (its beginning, in UTC), a time, or a span back from now; in milliseconds since 1970.
fn moment(text: &str) -> Result<u64, lexopt::Error> {
    let full = if text.len() == "2026-12-31".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    if let Ok(at) = OffsetDateTime::parse(&full, &Rfc3339) {
        return u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| "a time before 1970".into());
    }
    let unit =
        |text: &str, suffix: char, seconds: u64| text.strip_suffix(suffix)?.parse::<u64>().ok()?.checked_mul(seconds);
    let units = [('d', 86_400), ('h', 3_600), ('m', 60)];
    let span = units.iter().find_map(|(suffix, seconds)| unit(text, *suffix, *seconds)).map(Duration::from_secs);
    let span = span.ok_or_else(|| format!("`{text}` is no date, no time and no span such as 7d or 12h"))?;
    Ok(Clock::System.now().unix_millis().saturating_sub(span.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_moments_and_spans_back_from_now() {
        assert_eq!(moment("1970-01-02").unwrap(), 86_400_000);
        assert_eq!(moment("1970-01-02T01:00:00+01:00").unwrap(), 86_400_000);
        let now = Clock::System.now().unix_millis();
        assert!((now - 7 * 86_400_000).abs_diff(moment("7d").unwrap()) < 60_000);
        assert!(moment("yesterday").is_err() && moment("99999999999999999999d").is_err());
    }

    #[test]
    fn groups_are_names_with_commas_between() {
        assert_eq!(groups("day, user").unwrap(), [Group::Day, Group::User]);
        assert!(groups("users").is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each_group_and_one_for_all() {
        let line = Line { groups: vec!["ada".into(), "m\n".into()], ..Line::default() };
        let asked = Asked { groups: vec![Group::User, Group::Model], ..Asked::default() };
        let mut out = Vec::new();
        table(&mut out, &asked, &[line], Line::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().nth(1).unwrap().contains("\"m\\n\"") && text.lines().nth(2).unwrap().starts_with("all"));
    }
}
