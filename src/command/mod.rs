//! The commands of the program, one file each. They alone print.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]

mod account;
mod admin;
mod check;
mod demo;
mod explain;
mod key;
mod log;
mod mock;
mod outlet;
mod reconcile;
mod serve;
mod status;
mod translate;
mod usage;

use lexopt::prelude::*;
use std::{ffi::OsString, process::ExitCode};

const USAGE: &str = "\
sub2api: one endpoint in front of many AI provider accounts

  sub2api serve [-c FILE] [--upgrade]   run the gateway; without a file, from the provider keys in the environment
  sub2api check FILE...                 report every fault of configuration files
  sub2api demo [--listen ADDRESS]       run the gateway with built-in mock providers
  sub2api mock [--listen ADDRESS]       run the mock providers alone
  sub2api key new                       make a key for a user
  sub2api status [--watch]              the accounts of a running gateway
  sub2api account NAME suspend|…        take an account out, in, or to the test
  sub2api explain --request ID|--model  why a request went where it went, or where one would go now
  sub2api usage [--by GROUPS]           what was used and what it cost, as a table, CSV or JSON
  sub2api reconcile EXPORT...           the ledger beside a provider's own usage report
  sub2api translate --from F --to G     show a request or a reply in another wire format, and what is lost
  sub2api --version | --help

Each command takes --help.";

/// Exit code for a wrong command line or a faulty configuration.
pub(crate) const USAGE_ERROR: u8 = 2;

/// Runs the command that the arguments name.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let outcome = dispatch(arguments);
    ::log::logger().flush();
    match outcome {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("sub2api: {fault}\nTry: sub2api --help");
            ExitCode::from(USAGE_ERROR)
        }
    }
}

fn dispatch(arguments: Vec<OsString>) -> Result<ExitCode, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    match parser.next()? {
        Some(Value(command)) => match command.to_string_lossy().as_ref() {
            "serve" => serve::command(parser),
            "check" => check::command(parser),
            "demo" => demo::command(parser),
            "mock" => mock::command(parser),
            "key" => key::command(parser),
            "status" => status::command(parser),
            "account" => account::command(parser),
            "explain" => explain::command(parser),
            "translate" => translate::command(parser),
            "usage" => usage::command(parser),
            "reconcile" => reconcile::command(parser),
            other => Err(format!("there is no command `{other}`").into()),
        },
        Some(Short('V') | Long("version")) => {
            println!("sub2api {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Some(Short('h') | Long("help")) | None => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected()),
    }
}

/// Prints the help text of a command.
fn help(text: &str) -> Result<ExitCode, lexopt::Error> {
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}
