//! What does each part that runs for every request of the byte lane cost, without sockets?
//!
//!     cargo bench --bench passthrough
//!
//! One question per group. The sum of a request's parts is what the gateway adds of its own; what Pingora and the kernel
//! cost beside it is measured by `scripts/bench.sh`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot be set up has to stop"
)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, hint::black_box, time::Duration};
use sub2api::{
    account::{Pool, pool::Demand},
    clock::Clock,
    config::Config,
    limit::{limiter::Limiter, opening::Opening},
    telemetry::{self, Access},
    user::KeyRing,
    wire::{
        Endpoint, Usage, WireFormat,
        envelope::{scan, splice},
        tap::{Shape, Tap},
    },
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A conversation of about this many bytes, its turns of a few hundred each as agents send them, the model at its end.
fn conversation(bytes: usize) -> Bytes {
    let mut body = String::from(r#"{"max_tokens":4096,"stream":true,"messages":["#);
    let mut turn = 0;
    while body.len() + 60 < bytes {
        let role = if turn % 2 == 0 { "user" } else { "assistant" };
        let room = (bytes - body.len() - 60).min(420);
        let text = "fn main() {\\n    println!(\\\"quoted\\\");\\n}\\n".repeat(1 + room / 60);
        let comma = if turn > 0 { "," } else { "" };
        let _ = write!(body, r#"{comma}{{"role":"{role}","content":[{{"type":"text","text":"{text}"}}]}}"#);
        turn += 1;
    }
    body.push_str(r#"],"model":"claude-sonnet-4-5"}"#);
    body.into()
}

/// What does it cost to find the model in a body, and to put another name in its place?
fn envelope(c: &mut Criterion) {
    for (name, bytes) in [("1KB", 1 << 10), ("100KB", 100 << 10), ("283KB", 283 << 10), ("2MB", 2 << 20)] {
        let body = conversation(bytes);
        let mut group = c.benchmark_group("envelope");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("scan {name}"), |b| {
            b.iter(|| scan(&Endpoint::Messages, Some("application/json"), black_box(&body)).unwrap());
        });
        group.bench_function(format!("scan and splice {name}"), |b| {
            b.iter(|| {
                let found = scan(&Endpoint::Messages, Some("application/json"), black_box(&body)).unwrap();
                splice(&body, &found, "another-name")
            });
        });
        group.finish();
    }
}

/// The pieces of a stream of 50 text deltas, as providers send them, an event each.
fn stream(format: WireFormat) -> Vec<Bytes> {
    let word = |n: usize| format!("word{n} ");
    let mut events = Vec::new();
    let mut push = |event: String| events.push(Bytes::from(event));
    match format {
        WireFormat::OpenaiChat => {
            for n in 0..50 {
                push(format!(
                    "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4.1\",\"system_fingerprint\":\"fp_1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n",
                    word(n)
                ));
            }
            push("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4.1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".into());
            push("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4.1\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":50,\"total_tokens\":70}}\n\n".into());
            push("data: [DONE]\n\n".into());
        }
        WireFormat::OpenaiResponses => {
            push("event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"in_progress\",\"output\":[]}}\n\n".into());
            for n in 0..50 {
                push(format!(
                    "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{n},\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"{}\",\"logprobs\":[]}}\n\n",
                    word(n)
                ));
            }
            push("event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":60,\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":20,\"output_tokens\":50,\"total_tokens\":70}}}\n\n".into());
        }
        WireFormat::Anthropic => {
            push("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":20,\"output_tokens\":1}}}\n\n".into());
            push("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n".into());
            for n in 0..50 {
                push(format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{}\"}}}}\n\n",
                    word(n)
                ));
            }
            push("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n".into());
            push("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":50}}\n\n".into());
            push("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into());
        }
        WireFormat::Gemini => {
            for n in 0..50 {
                let finish = if n == 49 { "\"finishReason\":\"STOP\"," } else { "" };
                push(format!(
                    "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": \"{}\"}}],\"role\": \"model\"}},{finish}\"index\": 0}}],\"usageMetadata\": {{\"promptTokenCount\": 20,\"candidatesTokenCount\": {n},\"totalTokenCount\": 70}},\"modelVersion\": \"gemini-2.5-flash\",\"responseId\": \"r\"}}\r\n\r\n",
                    word(n)
                ));
            }
        }
    }
    events
}

/// What does reading along cost, for an event?
fn tap(c: &mut Criterion) {
    let mut group = c.benchmark_group("tap");
    for format in [WireFormat::OpenaiChat, WireFormat::OpenaiResponses, WireFormat::Anthropic, WireFormat::Gemini] {
        let events = stream(format);
        let burst = Bytes::from(events.concat());
        group.throughput(Throughput::Elements(events.len() as u64));
        let read = |pieces: &[Bytes]| {
            let mut tap = Tap::new(format, Shape::Sse, 256 << 10);
            for piece in pieces {
                black_box(tap.feed(piece.clone()));
            }
            tap.finish();
            assert!(tap.seen.terminal && !tap.seen.usage.is_empty());
        };
        group.bench_function(format!("{} an event at a time", format.name()), |b| b.iter(|| read(black_box(&events))));
        let burst = std::slice::from_ref(&burst);
        group.bench_function(format!("{} all at once", format.name()), |b| b.iter(|| read(black_box(burst))));
    }
    group.finish();
}

fn hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A gateway of so many accounts and as many users.
fn config(accounts: usize) -> Config {
    let mut text = String::from("listen: \"127.0.0.1:1\"\nusers:\n");
    for n in 0..accounts {
        let _ =
            writeln!(text, "  - {{ name: user{n}, keys: [\"{}\"], models: [\"claude-*\"] }}", hash(&format!("sk-{n}")));
    }
    text.push_str("accounts:\n");
    for n in 0..accounts {
        let _ = writeln!(
            text,
            "  - {{ name: a{n}, provider: anthropic, credentials: {{ api_key: sk-up-{n} }}, priority: {} }}",
            n % 3
        );
    }
    Config::parse(&text, &|_| None).unwrap().config
}

/// What does it cost to know the caller, and to take and give back a place at an account?
fn admission(c: &mut Criterion) {
    let mut group = c.benchmark_group("admission");
    for accounts in [2, 20, 200] {
        let config = config(accounts);
        let limiter = Limiter::new(64, Clock::System.now());
        let (keys, pool) =
            (KeyRing::new(&config, &limiter, &Opening::default()), Pool::new(&config, None, Clock::System.now()));
        let now = Clock::System.now();
        let demand = Demand { model: "claude-sonnet-4-5", endpoint: &Endpoint::Messages };
        group.bench_function(format!("key and model list, {accounts} users"), |b| {
            b.iter(|| keys.lookup(black_box("sk-1"), now).unwrap().may_use("claude-sonnet-4-5").unwrap());
        });
        group.bench_function(format!("candidates, {accounts} accounts"), |b| {
            b.iter(|| pool.candidates(black_box(&demand)));
        });
        let candidates = pool.candidates(&demand);
        let mut draw = 0_u64;
        group.bench_function(format!("lease and release, {accounts} accounts"), |b| {
            b.iter(|| {
                draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let lease = pool.lease(&candidates, &[], draw, now).unwrap();
                black_box(pool.report_success(&lease, now));
            });
        });
    }
    group.finish();
}

/// Takes lines and throws them away, after they have been made.
struct Nowhere;

impl log::Log for Nowhere {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        black_box(record.args().to_string());
    }
    fn flush(&self) {}
}

fn access() -> Access<'static> {
    Access {
        request: "req_0123456789abcdef01234567",
        user: "someone",
        key: "01234567",
        client: "127.0.0.1:50000",
        call: "messages",
        format: "anthropic",
        upstream_format: "anthropic",
        model: "claude-sonnet-4-5",
        served_model: "claude-sonnet-4-5-20250929",
        account: "team-account",
        stream: true,
        status: 200,
        outcome: "served",
        failure: "-",
        attempts: 1,
        finish: "end_turn",
        usage: Usage { input: Some(20), output: Some(50), ..Usage::default() },
        bytes_in: 1000,
        bytes_out: 8000,
        first_content: Some(Duration::from_millis(300)),
        total: Duration::from_millis(2000),
    }
}

/// What does the line in the log cost, without writing it?
fn access_line(c: &mut Criterion) {
    log::set_logger(&Nowhere).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let mut group = c.benchmark_group("access line");
    for json in [false, true] {
        telemetry::set_json(json);
        group.bench_function(if json { "json" } else { "text" }, |b| {
            b.iter_batched(access, |access| telemetry::access(black_box(&access)), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(40);
    targets = envelope, tap, admission, access_line
}
criterion_main!(benches);
