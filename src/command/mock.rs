//! `sub2api mock`: the mock providers alone, for tests and benchmarks.

use super::help;
use crate::mock::{self, COMMANDS, FAULTS};
use lexopt::prelude::*;
use std::{fmt::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

const HELP: &str = "\
sub2api mock [--listen ADDRESS] [--log FILE]

Mock providers of all kinds on one port. They are strict about what they get and answer the same thing every time.
      --listen ADDRESS   default 127.0.0.1:9100
      --log FILE         appends a JSON line for every request
";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let mut listen: SocketAddr = ([127, 0, 0, 1], 9100).into();
    let mut options = mock::Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = parser.value()?.parse()?,
            Long("log") => options.log_file = Some(PathBuf::from(parser.value()?)),
            Short('h') | Long("help") => return help(&long_help()),
            other => return Err(other.unexpected()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    match runtime.block_on(mock::run(listen, options)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("sub2api: the mock providers cannot run on {listen}: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn long_help() -> String {
    let mut text = format!("{HELP}\nCommands in the last prompt:\n");
    for (command, answer) in COMMANDS {
        let _ = writeln!(text, "  {command:<28} {answer}");
    }
    text.push_str("\nFaults, as fault-NAME[-ARGUMENT][xTIMES] in the model, the key or the last prompt:\n");
    for fault in FAULTS {
        let _ = writeln!(text, "  {:<14} {}", fault.name, fault.about);
    }
    text
}
