//! Every recorded exchange through every ordered pair of wire formats.
//!
//! What the output must say is read by this file's own small readers, not by the code under test. The outputs are left in
//! `target/matrix/out.jsonl` for `scripts/validate-matrix.sh`, which holds them against the recorded traffic's validator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod conversation;
mod scores;
mod seen;

use seen::{Seen, of_stream, of_whole};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};
use sub2api::wire::{
    WireFormat,
    loss::Losses,
    tap::Shape,
    translate::{Context, Options, ReplyTranslator, translate_error, translate_request},
};

const APIS: [(&str, WireFormat); 4] = [
    ("openai.chat", WireFormat::OpenaiChat),
    ("openai.responses", WireFormat::OpenaiResponses),
    ("anthropic.messages", WireFormat::Anthropic),
    ("gemini.generateContent", WireFormat::Gemini),
];

/// Replies that rightly do not come out whole, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("chat.azure.s.567b175dbd", "the recording counts more cached tokens than prompt tokens"),
    ("chat.azure.s.8f3b2607c1", "the recording counts more cached tokens than prompt tokens"),
    ("gemini.google-vertex.n.64f41da569", "the recording is of another call (embeddings)"),
    (
        "messages.anthropic.s.d2d1ed9f84",
        "the recording starts its message twice; a client gets an error, not two answers",
    ),
];

fn api_of(format: WireFormat) -> &'static str {
    APIS.iter().find(|(_, f)| *f == format).unwrap().0
}

fn model_for(format: WireFormat) -> &'static str {
    match format {
        WireFormat::OpenaiChat | WireFormat::OpenaiResponses => "gpt-5.2",
        WireFormat::Anthropic => "claude-sonnet-4-5",
        WireFormat::Gemini => "gemini-3-flash-preview",
    }
}

struct Exchange {
    id: String,
    from: WireFormat,
    value: Value,
}

fn exchanges() -> Option<Vec<Exchange>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = Some(root.join("../shared/traffic/exchanges")).filter(|path| path.is_dir())?;
    let mut all = Vec::new();
    for (api, from) in APIS {
        let mut files: Vec<PathBuf> = fs::read_dir(root.join(api)).ok()?.map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files {
            let value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            all.push(Exchange { id: value["id"].as_str().unwrap().to_owned(), from, value });
        }
    }
    Some(all)
}

#[derive(Default)]
struct Cell {
    checked: usize,
    passed: usize,
    refused: usize,
}

#[derive(Default)]
struct Report {
    cells: BTreeMap<(String, String, &'static str), Cell>,
    failures: Vec<String>,
    refusals: BTreeMap<String, usize>,
    losses: BTreeMap<String, usize>,
    /// Pairs of a reply with log probabilities and a format.
    scored: usize,
    lines: String,
}

impl Report {
    fn note(&mut self, from: WireFormat, to: WireFormat, kind: &'static str, id: &str, result: Result<(), String>) {
        let cell = self.cells.entry((from.name().into(), to.name().into(), kind)).or_default();
        cell.checked += 1;
        match result {
            Ok(()) => cell.passed += 1,
            Err(why) => {
                if EXCEPTIONS.iter().any(|(known, _)| *known == id) {
                    cell.passed += 1;
                } else {
                    self.failures.push(format!("{id} -> {} {kind}: {why}", to.name()));
                }
            }
        }
    }

    /// Leaves an output for the validator; `source` is what it was made of, with what was lost on the way.
    fn line(&mut self, id: &str, to: WireFormat, kind: &str, body: &[u8], source: Option<(&Value, &Losses)>) {
        let text = String::from_utf8(body.to_vec()).expect("output is UTF-8");
        assert!(!text.contains(['\u{2028}', '\u{2029}', '\u{85}']), "{id}: a raw separator came out");
        let body = if kind == "sse" {
            Value::String(text)
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        let mut line = json!({"id": id, "api": api_of(to), "kind": kind, "body": body});
        if let Some((source, losses)) = source {
            line["source"] = source.clone();
            line["losses"] = losses.iter().map(|loss| json!([loss.field, loss.how.name()])).collect();
        }
        writeln!(self.lines, "{line}").unwrap();
    }
}

fn context(to: WireFormat) -> Context {
    // As if the client had asked for everything that a reply can show.
    let body = match to {
        WireFormat::OpenaiChat => {
            r#"{"messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#
        }
        WireFormat::OpenaiResponses => r#"{"input":"hi","stream":true}"#,
        WireFormat::Anthropic => {
            r#"{"max_tokens":5000,"thinking":{"type":"enabled","budget_tokens":1024},"messages":[{"role":"user","content":"hi"}]}"#
        }
        WireFormat::Gemini => {
            r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{"thinkingConfig":{"includeThoughts":true}}}"#
        }
    };
    let other = if to == WireFormat::OpenaiChat { WireFormat::Anthropic } else { WireFormat::OpenaiChat };
    let options = Options { model: "served-model", request_id: "req_1", now: 1_700_000_000, ..Options::default() };
    translate_request(to, other, body.as_bytes(), &options).unwrap().context
}

fn run(
    from: WireFormat,
    to: WireFormat,
    shapes: (Shape, Shape),
    body: &[u8],
    chunk: usize,
) -> (Vec<u8>, ReplyTranslator) {
    let mut translator = ReplyTranslator::new(from, to, shapes, context(to)).unwrap();
    let mut out = Vec::new();
    for part in body.chunks(chunk.max(1)) {
        out.extend(translator.feed(part));
    }
    out.extend(translator.finish());
    (out, translator)
}

fn compare(what: &str, want: &Seen, got: &Seen) -> Result<(), String> {
    let check = |name: &str, want: String, got: String| {
        if want == got { Ok(()) } else { Err(format!("{what}: {name} differs: want {want:.300}, got {got:.300}")) }
    };
    check("text", want.text.clone(), got.text.clone())?;
    let bare = |seen: &Seen| seen.calls.iter().map(|c| (c.name.clone(), c.arguments.clone())).collect::<Vec<_>>();
    check("calls", format!("{:?}", bare(want)), format!("{:?}", bare(got)))?;
    for (a, b) in want.calls.iter().zip(&got.calls) {
        if !a.id.is_empty() && !b.id.is_empty() {
            let b = b.id.split("__s2a__").next().unwrap_or_default();
            // Anthropic takes only some characters in an id: others get a likeness of it.
            let plain = a.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if plain {
                check("call id", a.id.clone(), b.to_owned())?;
            }
        }
    }
    check("usage", format!("{:?}", want.usage), format!("{:?}", got.usage))?;
    check("finish", want.finish.clone(), got.finish.clone())?;
    check("error", want.is_error.to_string(), got.is_error.to_string())
}

/// What of a recording can be said in the target at all.
fn expected(source: &Seen, to: WireFormat) -> Seen {
    let mut want = source.clone();
    want.finish = seen::finish_in(&source.finish, to);
    if to == WireFormat::Gemini {
        if want.finish == "length" && !want.calls.is_empty() {
            // A reader of Gemini goes by the calls.
            want.finish = "tools".into();
        }
        want.calls.iter_mut().for_each(|call| call.id.clear());
    }
    if source.is_error {
        want.finish.clear();
        want.usage = Default::default();
    }
    want
}

fn reply(report: &mut Report, exchange: &Exchange, to: WireFormat) {
    let (from, id) = (exchange.from, &exchange.id);
    let body = &exchange.value["response_body"];
    let (bytes, shape_in, source) = match body {
        Value::String(text) if exchange.value["streamed"] == true => {
            (text.clone().into_bytes(), Shape::Sse, of_stream(from, text))
        }
        Value::Array(_) if from == WireFormat::Gemini => {
            (body.to_string().into_bytes(), Shape::JsonArray, of_stream(from, &body.to_string()))
        }
        other => (other.to_string().into_bytes(), Shape::Json, of_whole(from, other)),
    };
    let want = expected(&source, to);
    let (streamed, translator) = run(from, to, (shape_in, Shape::Sse), &bytes, usize::MAX);
    for loss in translator.losses().iter() {
        *report.losses.entry(format!("{} -> {}: {}", from.name(), to.name(), loss.field)).or_default() += 1;
    }
    for chunk in [1, 7, 1021] {
        let again = run(from, to, (shape_in, Shape::Sse), &bytes, chunk).0;
        assert!(again == streamed, "{id} -> {}: another split gives another output", to.name());
    }
    let stream = std::str::from_utf8(&streamed).unwrap();
    let got = of_stream(to, stream);
    let mut result = compare("stream", &want, &got);
    let scored = match shape_in {
        Shape::Json => scores::of(from, std::slice::from_ref(body)),
        Shape::Sse | Shape::JsonArray | Shape::Opaque => {
            scores::of(from, &seen::events(std::str::from_utf8(&bytes).unwrap()))
        }
    };
    result = result.and_then(|()| scores_are(to, &scored, &seen::events(stream), translator.losses()));
    // An error ends what is said, and has no room for what came before it.
    let told = translator.error().is_none() && !source.is_error;
    report.line(id, to, "sse", &streamed, told.then(|| (body, translator.losses())));
    let (whole, translator) = run(from, to, (shape_in, Shape::Json), &bytes, usize::MAX);
    let value: Value = serde_json::from_slice(&whole).unwrap_or_else(|e| panic!("{id} -> {}: {e}", to.name()));
    let got = of_whole(to, &value);
    // A whole error has no room for the text before it.
    let want = if want.is_error { Seen { is_error: true, ..Seen::default() } } else { want };
    result = result.and_then(|()| compare("whole", &want, &got));
    if translator.error().is_none() {
        report.scored += usize::from(!scored.is_empty());
        result = result.and_then(|()| scores_are(to, &scored, &[value], translator.losses()));
    }
    let kind = if translator.error().is_some() { "error" } else { "response" };
    let told = translator.error().is_none() && !source.is_error;
    report.line(id, to, kind, &whole, told.then(|| (body, translator.losses())));
    report.note(from, to, if shape_in == Shape::Json { "whole reply" } else { "streamed reply" }, id, result);
}

/// Every token's log probability is told, or all of them are listed as lost.
fn scores_are(to: WireFormat, want: &[Value], replies: &[Value], losses: &Losses) -> Result<(), String> {
    let got = scores::of(to, replies);
    let lost = losses.iter().any(|loss| loss.field.starts_with("logprobs"));
    match (want.is_empty(), to == WireFormat::Anthropic) {
        (true, _) if got.is_empty() => Ok(()),
        (false, true) if lost => Ok(()),
        (false, false) if got == want && !lost => Ok(()),
        _ => Err(format!("log probabilities differ: want {want:?}, got {got:?}, {losses:?}")),
    }
}

fn error(report: &mut Report, exchange: &Exchange, to: WireFormat) {
    let status = exchange.value["status"].as_u64().unwrap() as u16;
    let body = match &exchange.value["response_body"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let translated = translate_error(to, status, body.as_bytes(), "req_1");
    report.line(&exchange.id, to, "error", &translated.body, None);
    let same_class = translated.status / 100 == status / 100;
    let result = if same_class { Ok(()) } else { Err(format!("status {status} became {}", translated.status)) };
    report.note(exchange.from, to, "error", &exchange.id, result);
}

fn request(report: &mut Report, exchange: &Exchange, to: WireFormat) {
    let body = &exchange.value["request_body"];
    if !body.is_object() {
        return;
    }
    let (from, id) = (exchange.from, &exchange.id);
    let options = Options {
        model: model_for(to),
        stream: Some(exchange.value["streamed"] == true),
        request_id: "req_1",
        now: 1_700_000_000,
        ..Options::default()
    };
    match translate_request(from, to, body.to_string().as_bytes(), &options) {
        Ok(translated) => {
            for loss in translated.losses.iter() {
                let key = format!("{} -> {}: {}={}", from.name(), to.name(), loss.field, loss.how.name());
                *report.losses.entry(key).or_default() += 1;
            }
            report.line(id, to, "request", &translated.body, Some((body, &translated.losses)));
            let got: Value = serde_json::from_slice(&translated.body).unwrap();
            let result = conversation::same_conversation(from, body, to, &got);
            // A request that its own provider refused need not come out right.
            let result = if exchange.value["status"].as_u64() >= Some(400) { Ok(()) } else { result };
            report.note(from, to, "request", id, result);
        }
        Err(refusal) => {
            let key = format!("{} -> {}: {}", from.name(), to.name(), refusal.param.clone().unwrap_or_default());
            *report.refusals.entry(key).or_default() += 1;
            let kind = (from.name().to_owned(), to.name().to_owned(), "request");
            report.cells.entry(kind).or_default().refused += 1;
        }
    }
}

#[test]
fn every_recorded_exchange_passes_through_every_pair() {
    let Some(exchanges) = exchanges() else {
        println!("skipped: matrix: shared traffic not present");
        return;
    };
    let mut report = Report::default();
    for exchange in &exchanges {
        for (_, to) in APIS {
            if to == exchange.from {
                continue;
            }
            request(&mut report, exchange, to);
            match exchange.value["status"].as_u64() {
                Some(400..) => error(&mut report, exchange, to),
                _ => reply(&mut report, exchange, to),
            }
        }
    }
    let target = std::env::var("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join("matrix");
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("out.jsonl"), &report.lines).unwrap();
    println!("{:18}{:18}{:16}{:>8}{:>8}{:>8}", "from", "to", "what", "checked", "passed", "refused");
    for ((from, to, kind), cell) in &report.cells {
        println!("{from:18}{to:18}{kind:16}{:8}{:8}{:8}", cell.checked, cell.passed, cell.refused);
    }
    println!("\nrefused requests, by field:");
    report.refusals.iter().for_each(|(what, n)| println!("{n:6} {what}"));
    println!("\nreplies with log probabilities, times formats: {}", report.scored);
    println!("\nlosses, by field:");
    report.losses.iter().for_each(|(what, n)| println!("{n:6} {what}"));
    println!("\nexceptions:");
    EXCEPTIONS.iter().for_each(|(id, why)| println!("  {id}: {why}"));
    println!("\nfailures: {}", report.failures.len());
    report.failures.iter().for_each(|failure| println!("FAIL {failure}"));
    assert!(report.failures.is_empty(), "{} of the outputs differ from the recordings", report.failures.len());
}
