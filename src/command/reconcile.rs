//! `sub2api reconcile`: the ledger beside what a provider says was used.

use super::{USAGE_ERROR, help, usage};
use crate::ledger::{
    Reader, export,
    reconcile::{self, Difference, Export, Outcome},
};
use lexopt::prelude::*;
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

const HELP: &str = "\
sub2api reconcile [-c FILE | --data DIR] [--account NAME] EXPORT...

Compares the ledger with a provider's own usage or cost report, and names the differences. Exit code 1 if there are any.
Take OpenAI's /v1/organization/usage/completions or /costs, or Anthropic's /v1/organizations/usage_report/messages or
/cost_report, best with bucket_width=1d and group_by=model, and save the answers as they are: several pages in one file, or
in several.
  -c, --config FILE   the configuration, for its data_dir (default: as `serve` without a file)
      --data DIR      the data directory itself
      --account NAME  only this account (default: all accounts of that provider)";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let (mut config, mut data, mut account, mut files) = (None, None, None, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Long("data") => data = Some(PathBuf::from(parser.value()?)),
            Long("account") => account = Some(parser.value()?.string()?),
            Value(file) => files.push(PathBuf::from(file)),
            Short('h') | Long("help") => return help(HELP),
            other => return Err(other.unexpected()),
        }
    }
    if files.is_empty() {
        return Err("name a provider's export".into());
    }
    let done =
        usage::open(config.as_deref(), data.as_deref()).and_then(|reader| run(&files, &reader, account.as_deref()));
    Ok(done.unwrap_or_else(|fault| {
        eprintln!("{fault}");
        ExitCode::from(USAGE_ERROR)
    }))
}

fn run(files: &[PathBuf], reader: &Reader, account: Option<&str>) -> Result<ExitCode, String> {
    let mut text = String::new();
    for file in files {
        let one = fs::read_to_string(file).map_err(|error| format!("sub2api: {}: {error}", file.display()))?;
        text.push_str(&one);
        text.push('\n');
    }
    let fault = |error: crate::ledger::LedgerError| format!("sub2api: {error}");
    let export = reconcile::read(&text).map_err(fault)?;
    let outcome = reconcile::compare(&export, reader, account).map_err(fault)?;
    report(&export, &outcome, &mut io::stdout().lock()).map_err(|error| format!("sub2api: {error}"))?;
    Ok(if outcome.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(export: &Export, outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    for difference in &outcome.differences {
        line(difference, out)?;
    }
    let (compared, different) = (outcome.compared, outcome.differences.len());
    writeln!(out, "{}: {compared} figures compared, {different} differ", export.vendor.provider())
}

fn line(difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    let Difference { from, to, model, figure, provider, ledger, estimated } = difference;
    let sign = if ledger >= provider { "+" } else { "-" };
    let note = match estimated {
        0 => String::new(),
        some => format!(" ({some} attempts of the ledger are estimates)"),
    };
    writeln!(
        out,
        "{} to {}  {}  {}: provider {}, ledger {} ({sign}{}){note}",
        export::time(*from),
        export::time(*to),
        model.as_deref().unwrap_or("all models"),
        figure.name(),
        figure.shown(*provider),
        figure.shown(*ledger),
        figure.shown(ledger.abs_diff(*provider)),
    )
}
