//! `sub2api account`: takes an account of a running gateway out, in, or to the test.

use super::{
    admin::{AdminListener, WHERE, escaped},
    help,
};
use lexopt::prelude::*;
use std::{path::PathBuf, process::ExitCode};

const HELP: &str = "\
sub2api account [-c FILE] NAME suspend|resume|clear|probe

  suspend   no requests until it is resumed, cleared or probed, or the gateway starts anew
  resume    its pause or suspension is over
  clear     nothing is held against it or single models of it any more
  probe     one request at a time finds out whether it is well again
";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let (mut file, mut words) = (None, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => file = Some(PathBuf::from(parser.value()?)),
            Value(word) if words.len() < 2 => words.push(word.string()?),
            Short('h') | Long("help") => return help(&format!("{HELP}{WHERE}")),
            other => return Err(other.unexpected()),
        }
    }
    let [name, operation] = words.as_slice() else { return Err("name an account and what to do with it".into()) };
    let path = format!("/api/v1/accounts/{}/{}", escaped(name), escaped(operation));
    Ok(match AdminListener::find(file).and_then(|at| at.json("POST", &path)) {
        Ok(told) => {
            println!("{name}: {}", told.get("state").and_then(serde_json::Value::as_str).unwrap_or("done"));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("sub2api: {fault}");
            ExitCode::FAILURE
        }
    })
}
