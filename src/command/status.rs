//! `sub2api status`: the accounts of a running gateway as a table.

use super::{
    admin::{AdminListener, WHERE, table},
    help,
};
use lexopt::prelude::*;
use serde_json::Value;
use std::{path::PathBuf, process::ExitCode, thread, time::Duration};

const HELP: &str = "\
sub2api status [-c FILE] [--watch [SECONDS]]

Shows the accounts of a running gateway: state, how long it lasts and why, requests in flight, and what is left of the
tightest window.
      --watch         again every two seconds, or as many as are given, until Ctrl-C
";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let (mut file, mut watch) = (None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => file = Some(PathBuf::from(parser.value()?)),
            Long("watch") => {
                let seconds = parser.optional_value().map(|value| value.parse()).transpose()?;
                watch = Some(Duration::from_secs_f64(seconds.unwrap_or(2.0_f64).clamp(0.1, 3600.0)));
            }
            Value(seconds) if watch.is_some() => {
                watch = Some(Duration::from_secs_f64(seconds.parse::<f64>()?.clamp(0.1, 3600.0)));
            }
            Short('h') | Long("help") => return help(&format!("{HELP}{WHERE}")),
            other => return Err(other.unexpected()),
        }
    }
    Ok(match run(file, watch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("sub2api: {fault}");
            ExitCode::FAILURE
        }
    })
}

fn run(file: Option<PathBuf>, watch: Option<Duration>) -> Result<(), String> {
    let listener = AdminListener::find(file)?;
    loop {
        let status = listener.json("GET", "/api/v1/status")?;
        let accounts = listener.json("GET", "/api/v1/accounts")?;
        let text = format!("{}\n\n{}", summary(&status), table(&rows(&accounts)));
        let Some(pause) = watch else {
            println!("{text}");
            return Ok(());
        };
        // Clears the screen and begins at its top.
        println!("\x1b[2J\x1b[H{text}");
        thread::sleep(pause);
    }
}

fn summary(status: &Value) -> String {
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
    let is = |name: &str| status.get(name).and_then(Value::as_bool).unwrap_or(false);
    let state = match (is("draining"), is("ready")) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "no account can serve",
    };
    let version = status.get("version").and_then(Value::as_str).unwrap_or("?");
    let (requests, waiting) = (number("requests"), number("waiting"));
    format!("sub2api {version}: {state}, {requests} requests in flight, {waiting} waiting")
}

fn rows(accounts: &Value) -> Vec<Vec<String>> {
    let heading = ["ACCOUNT", "PROVIDER", "STATE", "FOR", "IN FLIGHT", "LEFT", "WHY"];
    let accounts = accounts.get("accounts").and_then(Value::as_array).into_iter().flatten();
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(accounts.map(row)).collect()
}

fn row(account: &Value) -> Vec<String> {
    let text = |name: &str| account.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let left = account.get("seconds_left").and_then(Value::as_f64);
    let in_flight = account.get("in_flight").and_then(Value::as_u64).unwrap_or(0);
    let in_flight = match account.get("concurrency").and_then(Value::as_u64) {
        Some(cap) => format!("{in_flight}/{cap}"),
        None => in_flight.to_string(),
    };
    vec![
        text("name"),
        text("provider"),
        text("state"),
        left.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}s")),
        in_flight,
        tightest(account),
        text("reason"),
    ]
}

/// The window of which the smallest share is left.
fn tightest(account: &Value) -> String {
    let windows = account.get("windows").and_then(Value::as_array).into_iter().flatten();
    let share = |window: &Value| Some((window.get("left")?.as_f64()?, window.get("name")?.as_str()?.to_owned()));
    let tightest = windows.filter_map(share).min_by(|a, b| a.0.total_cmp(&b.0));
    tightest.map_or_else(|| "-".to_owned(), |(left, name)| format!("{:.0}% {name}", left * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_one_row_with_its_tightest_window() {
        let account = serde_json::json!({
            "name": "a", "provider": "anthropic", "state": "cooling", "seconds_left": 12.04, "in_flight": 2,
            "concurrency": 5, "reason": "429",
            "windows": [{ "name": "tokens", "left": 0.5 }, { "name": "requests", "left": 0.25 }]
        });
        assert_eq!(row(&account), ["a", "anthropic", "cooling", "12.0s", "2/5", "25% requests", "429"]);
    }
}
