//! `sub2api explain`: why a request went where it went, or where one would go now.

use super::{
    admin::{AdminListener, WHERE, escaped, table},
    help,
};
use lexopt::prelude::*;
use serde_json::Value;
use std::{path::PathBuf, process::ExitCode};

const HELP: &str = "\
sub2api explain [-c FILE] --request ID
sub2api explain [-c FILE] --model NAME [--call CALL]

Shows which account was chosen, or would be now, and why the others were passed over and until when.
      --request ID   a past request, by the id that its answer had in x-request-id
      --model NAME   a dry run for this model
      --call CALL    the call, as the log names it: chat_completions (the default), messages, responses, …
";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let (mut file, mut request, mut model, mut call) = (None, None, None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => file = Some(PathBuf::from(parser.value()?)),
            Long("request") => request = Some(parser.value()?.string()?),
            Long("model") => model = Some(parser.value()?.string()?),
            Long("call") => call = Some(parser.value()?.string()?),
            Short('h') | Long("help") => return help(&format!("{HELP}{WHERE}")),
            other => return Err(other.unexpected()),
        }
    }
    let query = match (request, model) {
        (Some(request), None) => format!("request={}", escaped(&request)),
        (None, Some(model)) => {
            format!("model={}&call={}", escaped(&model), escaped(call.as_deref().unwrap_or("chat_completions")))
        }
        (Some(_), Some(_)) | (None, None) => return Err("name either --request or --model".into()),
    };
    let told = AdminListener::find(file).and_then(|at| at.json("GET", &format!("/api/v1/explain?{query}")));
    Ok(match told {
        Ok(told) => {
            println!("{}", shown(&told));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("sub2api: {fault}");
            ExitCode::FAILURE
        }
    })
}

fn shown(told: &Value) -> String {
    let choices = told.get("choices").and_then(Value::as_array).into_iter().flatten();
    let model = told.get("model").and_then(Value::as_str).unwrap_or("-");
    let mut parts = vec![match told.get("request").and_then(Value::as_str) {
        Some(request) => format!("request {request}, model {model}"),
        None => format!("a request for {model} now"),
    }];
    parts.extend(choices.enumerate().map(|(at, choice)| shown_choice(at + 1, choice)));
    parts.join("\n\n")
}

fn shown_choice(number: usize, choice: &Value) -> String {
    let account = choice.get("account").and_then(Value::as_str).unwrap_or("nobody");
    let waited = choice.get("waited_ms").and_then(Value::as_u64).filter(|waited| *waited > 0);
    let waited = waited.map_or_else(String::new, |waited| format!(", after waiting {waited} ms"));
    let failed = choice.get("failed").filter(|failed| !failed.is_null()).map(|failed| {
        let text = |name: &str| failed.get(name).and_then(Value::as_str).unwrap_or("-");
        format!(", which failed ({}: {})", text("class"), text("reason"))
    });
    let heading = format!("attempt {number}: {account}{waited}{}", failed.unwrap_or_default());
    let columns = ["", "ACCOUNT", "MODEL", "FORMAT", "PRIORITY", "IN FLIGHT", "LEFT", "UNTIL", "WHY"];
    let ways = choice.get("candidates").and_then(Value::as_array).into_iter().flatten().map(row);
    let rows: Vec<Vec<String>> = std::iter::once(columns.map(str::to_owned).to_vec()).chain(ways).collect();
    format!("{heading}\n{}", table(&rows))
}

fn row(way: &Value) -> Vec<String> {
    let text = |name: &str| way.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let number = |name: &str| way.get(name).and_then(Value::as_u64).unwrap_or(0).to_string();
    let chosen = way.get("chosen").and_then(Value::as_bool).unwrap_or(false);
    let left = way.get("headroom").and_then(Value::as_f64).unwrap_or(1.0);
    let until = way.get("seconds_left").and_then(Value::as_f64);
    vec![
        if chosen { "→" } else { "" }.to_owned(),
        text("account"),
        text("model"),
        text("format"),
        number("priority"),
        number("in_flight"),
        format!("{:.0}%", left * 100.0),
        until.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}s")),
        text("reason"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_request_shows_each_attempt_with_those_passed_over() {
        let way = |account: &str, chosen: bool, reason: &str| {
            serde_json::json!({ "account": account, "model": "m", "format": "anthropic", "priority": 1, "chosen": chosen,
                "reason": reason, "headroom": 0.5, "in_flight": 2 })
        };
        let told = serde_json::json!({ "request": "req_1", "model": "smart", "choices": [
            { "account": "a", "waited_ms": 12, "failed": { "class": "rate", "reason": "429" },
              "candidates": [way("a", true, "among the best"), way("b", false, "a lower priority comes first")] }] });
        let text = shown(&told);
        assert!(text.starts_with("request req_1, model smart"), "{text}");
        assert!(text.contains("attempt 1: a, after waiting 12 ms, which failed (rate: 429)"), "{text}");
        assert!(
            text.contains("→  a") && text.contains("50%") && text.contains("a lower priority comes first"),
            "{text}"
        );
    }
}
