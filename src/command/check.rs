//! `sub2api check`: reads configuration files and tells everything that is wrong with them.

use super::help;
use crate::config::{Config, Loaded};
use lexopt::prelude::*;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

const HELP: &str = "\
sub2api check FILE...

Reads configuration files, and files of prices, and reports every fault in them with its line and path. Exit code 2 if there is any.
  -c, --config FILE   the same as FILE";

/// The exit code when a file has faults.
pub(super) const FAULTY: u8 = 2;

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let mut files = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => files.push(PathBuf::from(parser.value()?)),
            Value(file) => files.push(PathBuf::from(file)),
            Short('h') | Long("help") => return help(HELP),
            other => return Err(other.unexpected()),
        }
    }
    if files.is_empty() {
        return Err("name a file to check".into());
    }
    let code = run(&files, &mut io::stdout().lock()).unwrap_or(FAULTY);
    Ok(ExitCode::from(code))
}

/// Checks every file, all of them whatever the first ones say; returns the exit code, [`FAULTY`] if any has a fault.
pub(super) fn run(files: &[PathBuf], out: &mut dyn Write) -> io::Result<u8> {
    let mut code = 0;
    for file in files {
        code = code.max(check(file, out)?);
    }
    Ok(code)
}

/// Whether a file is a list, as one of prices is, and no configuration.
fn is_prices(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    first.is_some_and(|line| line.starts_with('-') && line != "---")
}

fn check_prices(file: &Path, out: &mut dyn Write) -> io::Result<u8> {
    match Config::load_prices(file) {
        Ok(rows) => {
            writeln!(
                out,
                "{}: ok ({})",
                file.display(),
                if rows == 1 { "1 row of prices".to_owned() } else { format!("{rows} rows of prices") }
            )?;
            Ok(0)
        }
        Err(faults) => {
            writeln!(out, "{faults}")?;
            Ok(FAULTY)
        }
    }
}

fn check(file: &Path, out: &mut dyn Write) -> io::Result<u8> {
    if is_prices(file) {
        return check_prices(file, out);
    }
    match Config::load(file) {
        Ok(loaded) => {
            report(file, &loaded, out)?;
            Ok(0)
        }
        Err(faults) => {
            writeln!(out, "{faults}")?;
            Ok(FAULTY)
        }
    }
}

fn report(file: &Path, loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    for warning in &loaded.warnings {
        writeln!(out, "{}: warning: {warning}", file.display())?;
    }
    let config = &loaded.config;
    let callers = match (config.open, config.users.len()) {
        (true, _) => "no keys needed".to_owned(),
        (false, users) => counted(users, "user"),
    };
    let accounts = counted(config.accounts.len(), "account");
    let models = counted(config.models.len(), "model name");
    let listen = config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    writeln!(out, "{}: ok ({accounts}, {models}, {callers}, listening on {listen})", file.display())
}

fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_on(files: &[PathBuf]) -> (u8, String) {
        let mut out = Vec::new();
        let code = run(files, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_reference_configuration_passes() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sub2api.yaml");
        let (code, text) = run_on(&[file]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(": ok (") && text.contains("listening on 127.0.0.1:8080"), "{text}");
    }

    #[test]
    fn the_built_in_prices_pass_as_a_file_of_prices() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/prices.yaml");
        let (code, text) = run_on(&[file]);
        assert!(code == 0 && text.contains("rows of prices)"), "{text}");
    }

    #[test]
    fn a_file_with_faults_is_reported_and_the_others_are_still_checked() {
        let absent = PathBuf::from("no/such/file.yaml");
        let (code, text) = run_on(&[absent.clone(), absent]);
        assert_eq!(code, FAULTY);
        assert_eq!(text.matches("no/such/file.yaml: cannot be read: ").count(), 2, "{text}");
    }
}
