//! `sub2api serve`: runs the gateway until it is told to end.

use super::{USAGE_ERROR, help, log};
use crate::{
    config::Config,
    server::{self, Options},
};
use lexopt::prelude::*;
use std::{path::PathBuf, process::ExitCode};

const HELP: &str = "\
sub2api serve [-c FILE] [--upgrade]

Runs the gateway in the foreground.
  -c, --config FILE   the configuration; without one, an account is made of every provider key in the environment
                      (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, …) and http://127.0.0.1:8080 answers without a key
      --upgrade       take the listeners over from a running gateway: start this, then send SIGQUIT to the old process

Signals: SIGHUP reads the configuration again, SIGTERM ends after the last request, SIGINT ends at once.";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let (mut file, mut upgrade) = (None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => file = Some(PathBuf::from(parser.value()?)),
            Long("upgrade") => upgrade = true,
            Short('h') | Long("help") => return help(HELP),
            other => return Err(other.unexpected()),
        }
    }
    Ok(serve(file, upgrade))
}

fn serve(file: Option<PathBuf>, upgrade: bool) -> ExitCode {
    let loaded = match &file {
        Some(file) => Config::load(file),
        None => Config::from_environment(&|name| std::env::var(name).ok()),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    log::start(&loaded.config.log);
    for warning in &loaded.warnings {
        ::log::warn!("{warning}");
    }
    let listen: Vec<String> = loaded.config.listen.iter().map(ToString::to_string).collect();
    let accounts = loaded.config.accounts.len();
    let options = Options { upgrade, config_file: file, signals: true };
    match server::start(loaded.config, options) {
        Ok(running) => {
            ::log::info!("sub2api {} on {} with {accounts} accounts", env!("CARGO_PKG_VERSION"), listen.join(", "));
            running.wait();
            ::log::info!("ended");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sub2api: {error}");
            ExitCode::FAILURE
        }
    }
}
