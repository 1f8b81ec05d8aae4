//! What users and keys may do: rates, places, addresses, budgets; refused in the caller's format, before anything is spent.

use crate::{
    anthropic,
    client::{self, Ask, Connection, Reply},
    formats::{
        FORMATS,
        Format::{self, Anthropic, Chat, Gemini, Responses},
        Mode::{Stream, Whole},
        said,
    },
    gateway::{Gateway, account, data_dir, test_key},
    upstream::{Act, Upstream, chunk, end, stream_head, whole},
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use sub2api::{
    config::Config,
    error::Reason,
    ledger::{Reader, query::Filter},
};
use tokio::task::JoinSet;

/// A whole answer that says it used these tokens.
fn used(format: Format, input: u64, output: u64) -> Vec<Act> {
    let body = match format {
        Chat => json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hi" } }],
            "usage": { "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output } }),
        Responses => json!({ "id": "r", "object": "response", "created_at": 1, "status": "completed", "model": "m",
            "output": [{ "type": "message", "id": "m", "status": "completed", "role": "assistant",
                "content": [{ "type": "output_text", "text": "hi", "annotations": [] }] }],
            "usage": { "input_tokens": input, "output_tokens": output, "total_tokens": input + output } }),
        Anthropic => {
            json!({ "id": "a", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{ "type": "text", "text": "hi" }], "usage": { "input_tokens": input, "output_tokens": output } })
        }
        Gemini => json!({ "candidates": [{ "index": 0, "finishReason": "STOP",
                "content": { "role": "model", "parts": [{ "text": "hi" }] } }],
            "usageMetadata": { "promptTokenCount": input, "candidatesTokenCount": output,
                "totalTokenCount": input + output } }),
    };
    whole(200, "application/json", body.to_string())
}

/// The format that an upstream was asked in.
fn asked_in(path: &str) -> Format {
    match path {
        path if path.contains("messages") => Anthropic,
        path if path.contains("Content") => Gemini,
        path if path.contains("responses") => Responses,
        _ => Chat,
    }
}

/// An upstream that serves every format, and says each time that it used this.
async fn upstream(input: u64, output: u64) -> Upstream {
    Upstream::start(move |_, seen| used(asked_in(seen.path()), input, output)).await
}

fn accounts(upstream: &Upstream) -> Vec<String> {
    let url = upstream.url();
    ["openai", "anthropic", "gemini"].map(|kind| account(&format!("x-{kind}"), kind, &url, "")).to_vec()
}

/// A gateway with one user, of whom this is said.
async fn gateway(upstream: &Upstream, user: &str, more: &str) -> Gateway {
    let users = format!("users: [ {{ name: ann, keys: [\"{}\"], {user} }} ]\n", test_key());
    Gateway::start(&accounts(upstream), &format!("{users}{more}")).await
}

async fn ask(gateway: &Gateway, format: Format) -> Reply {
    client::h1(gateway.address, &format.ask(Whole, format.vendor(), "hello")).await.unwrap()
}

fn seconds(reply: &Reply) -> u64 {
    reply.header("retry-after").and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{:?}", reply.headers))
}

async fn usage(gateway: &Gateway) -> Value {
    client::h1(gateway.address, &Ask::get("/v1/usage")).await.unwrap().json()
}

/// What was used and is set aside of the user's first budget, once nothing is under way.
async fn budget(gateway: &Gateway) -> (u64, u64) {
    assert_eq!(gateway.left_over().await, [""; 0]);
    let budget = usage(gateway).await["budgets"][0].clone();
    (budget["spent"].as_u64().unwrap(), budget["set_aside"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_per_minute_are_refused_in_the_caller_s_format_and_told_on_every_answer() {
    let upstream = upstream(5, 5).await;
    for format in FORMATS {
        let gateway = gateway(&upstream, "limits: { rpm: 2, tpm: 1_000_000 }", "").await;
        for left in ["1", "0"] {
            let reply = ask(&gateway, format).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("2"));
            assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some(left));
            assert_eq!(reply.header("x-ratelimit-limit-tokens"), Some("1000000"));
            let names = reply.headers.iter().filter(|(name, _)| name.starts_with("anthropic-ratelimit-")).count();
            assert_eq!(names, if format == Anthropic { 6 } else { 0 });
        }
        let refused = ask(&gateway, format).await;
        format.check_refusal(&refused, Reason::LimitReached).unwrap();
        assert!(refused.text().contains("the user's limit of 2 requests per minute"), "{}", refused.text());
        assert!((1..=60).contains(&seconds(&refused)), "{:?}", refused.headers);
        assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
        assert!(refused.header("x-ratelimit-reset-requests").is_some_and(|reset| reset.ends_with('s')));
        if format == Anthropic {
            let reset = refused.header("anthropic-ratelimit-requests-reset").unwrap();
            assert!(reset.starts_with("20") && reset.ends_with('Z'), "{reset}");
        }
        assert_eq!(gateway.left_over().await, [""; 0]);
    }
    assert_eq!(upstream.seen().len(), 8, "what was refused reached no provider");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_limits_of_its_own_beside_its_user_s() {
    let upstream = upstream(5, 5).await;
    let users = format!(
        "users: [ {{ name: ann, limits: {{ rpm: 3 }}, keys: [ {{ sha256: \"{}\", limits: {{ rpm: 1 }}, models: [\"gpt-*\"] }}, \"{}\" ] }} ]\n",
        test_key(),
        hash("sk-other")
    );
    let gateway = Gateway::start(&accounts(&upstream), &users).await;
    let other = |format: Format| format.ask(Whole, format.vendor(), "hi").header("authorization", "Bearer sk-other");
    assert_eq!(ask(&gateway, Anthropic).await.status, 403, "a model that the key may not use");
    // That request was counted: it was let in before its model was known.
    let refused = ask(&gateway, Chat).await;
    assert!(refused.text().contains("the key's limit of 1 requests per minute"), "{}", refused.text());
    for status in [200, 200, 429] {
        let reply = client::h1(gateway.address, &other(Anthropic)).await.unwrap();
        assert_eq!(reply.status, status, "{}", reply.text());
    }
}

fn hash(key: &str) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(key.as_bytes());
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_never_has_more_requests_at_the_same_time_than_allowed() {
    let slow = [vec![Act::Sleep(Duration::from_millis(200))], used(Chat, 5, 5)].concat();
    let upstream = Upstream::always(slow).await;
    let gateway = gateway(&upstream, "limits: { concurrency: 3 }", "").await;
    let mut crowd = JoinSet::new();
    for n in 0..24 {
        let (address, ask) = (gateway.address, Chat.ask(Whole, "gpt-4.1", "hi"));
        crowd.spawn(async move {
            if n % 2 == 0 { client::h1(address, &ask).await.unwrap() } else { client::h2(address, &ask).await.unwrap() }
        });
    }
    let replies = crowd.join_all().await;
    assert!(upstream.most_at_once() <= 3, "{}", upstream.most_at_once());
    let served = replies.iter().filter(|reply| reply.status == 200).count();
    assert!(served >= 3, "{served}");
    for refused in replies.iter().filter(|reply| reply.status != 200) {
        Chat.check_refusal(refused, Reason::LimitReached).unwrap();
        assert_eq!(seconds(refused), 1);
        assert!(refused.text().contains("the user's limit of 3 requests at the same time"), "{}", refused.text());
    }
    assert_eq!(gateway.left_over().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_per_minute_count_what_was_really_used() {
    let upstream = upstream(300, 100).await;
    let gateway = gateway(&upstream, "limits: { tpm: 1_000 }", "budgets: { reserve_output: 100 }\n").await;
    for left in [600, 200] {
        let reply = ask(&gateway, Chat).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(gateway.left_over().await, [""; 0]);
        let limits = usage(&gateway).await["limits"].clone();
        assert_eq!(limits[0]["remaining"], left, "{limits}");
    }
    assert_eq!(ask(&gateway, Chat).await.status, 200, "its estimate fits");
    let refused = ask(&gateway, Responses).await;
    Responses.check_refusal(&refused, Reason::LimitReached).unwrap();
    assert!(refused.text().contains("the user's limit of 1000 tokens per minute"), "{}", refused.text());
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_works_only_from_its_addresses_and_only_trusted_proxies_are_believed() {
    let upstream = upstream(5, 5).await;
    let from = |told: &str| Anthropic.ask(Whole, "claude-x", "hi").header("x-forwarded-for", told);
    let direct = gateway(&upstream, "addresses: [\"10.0.0.0/8\"]", "").await;
    let reply = client::h1(direct.address, &from("10.1.1.1")).await.unwrap();
    assert_eq!((reply.status, upstream.seen().len()), (403, 0), "{}", reply.text());
    assert_eq!(reply.json()["error"]["type"], "permission_error");
    let proxies = "client_address: { trusted_proxies: [\"127.0.0.0/8\"] }\n";
    let behind = gateway(&upstream, "addresses: [\"10.0.0.0/8\"]", proxies).await;
    for (told, status) in
        [("10.1.1.1", 200), ("192.0.2.1, 10.1.1.1", 200), ("10.1.1.1, 192.0.2.1", 403), ("unknown", 403), ("::1", 403)]
    {
        let reply = client::h1(behind.address, &from(told)).await.unwrap();
        assert_eq!(reply.status, status, "{told}: {}", reply.text());
    }
    let standard = "client_address: { trusted_proxies: [\"127.0.0.1\"], header: forwarded }\n";
    let behind = gateway(&upstream, "addresses: [\"2001:db8::/32\"]", standard).await;
    let told = |value: &str| from("10.1.1.1").header("forwarded", value);
    for (value, status) in [("for=\"[2001:db8::7]:80\";proto=https", 200), ("for=10.1.1.1", 403)] {
        assert_eq!(client::h1(behind.address, &told(value)).await.unwrap().status, status, "{value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_without_a_good_key_is_refused_before_its_bodies_are_read() {
    let upstream = upstream(5, 5).await;
    let gateway = gateway(&upstream, "", "bounds: { unauthenticated: 20 }\n").await;
    let body = Bytes::from(vec![b'x'; 100]);
    let mut statuses = Vec::new();
    for n in 0..40 {
        let format = FORMATS[n % 4];
        let ask = Ask { body: body.clone(), ..format.ask(Whole, "m", "") };
        let ask = if n % 3 == 0 { ask.without("authorization") } else { ask.header("authorization", "Bearer sk-no") };
        let reply = client::h1(gateway.address, &ask).await.unwrap();
        statuses.push(reply.status);
        if reply.status == 429 {
            format.check_refusal(&reply, Reason::LimitReached).unwrap();
            assert_eq!((seconds(&reply), reply.header("connection")), (60, Some("close")));
        }
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 20);
    assert!(statuses[20..].iter().all(|status| *status == 429), "{statuses:?}");
    // The answer comes although nothing of a large body was sent.
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let head = "POST /v1/messages HTTP/1.1\r\nhost: g\r\nx-api-key: sk-no\r\ncontent-length: 50000000\r\n\r\n";
    connection.raw(head.as_bytes()).await.unwrap();
    let reply = tokio::time::timeout(Duration::from_secs(20), connection.receive()).await.unwrap().unwrap();
    assert_eq!(reply.status, 429);
    assert_eq!(ask(&gateway, Chat).await.status, 200, "a good key from the same address");
}

/// Every call that an account serves, with a body.
fn calls() -> Vec<Ask> {
    let form = "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nsound\r\n--x--\r\n";
    let multipart = |path: &str| Ask::post(path, form).header("content-type", "multipart/form-data; boundary=x");
    let post = |path: &str, body: Value| Ask::post(path, body.to_string());
    let mut calls: Vec<Ask> =
        FORMATS.iter().flat_map(|f| [Whole, Stream].map(|mode| f.ask(mode, f.vendor(), "hi"))).collect();
    calls.extend([
        post("/v1/embeddings", json!({ "model": "text-embedding-3-small", "input": "hi" })),
        post("/v1/completions", json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "hi" })),
        post("/v1/moderations", json!({ "input": "hi" })),
        post("/v1/rerank", json!({ "model": "rerank-1", "query": "hi", "documents": ["a"] })),
        post("/v1/images/generations", json!({ "prompt": "a cat" })),
        post("/v1/audio/speech", json!({ "model": "tts-1", "input": "hi", "voice": "alloy" })),
        multipart("/v1/audio/transcriptions"),
        multipart("/v1/images/edits"),
        post("/v1/responses/compact", json!({ "model": "gpt-4.1", "input": "hi" })),
        post("/v1beta/models/gemini-embedding-001:embedContent", json!({ "content": { "parts": [{ "text": "hi" }] } })),
    ]);
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_stops_every_call_relayed_ones_too() {
    let upstream = upstream(900, 100).await;
    let gateway = gateway(&upstream, "budgets: [{ window: day, tokens: 10_000 }]", "").await;
    while ask(&gateway, Chat).await.status == 200 {}
    let (spent, set_aside) = budget(&gateway).await;
    assert!(spent <= 10_000 && set_aside == 0, "{spent} {set_aside}");
    // What is left is too little for an answer; spend it on calls without one.
    let small = Ask::post("/v1/embeddings", json!({ "model": "e", "input": "x".repeat(400) }).to_string());
    while client::h1(gateway.address, &small).await.unwrap().status == 200 {}
    let served = upstream.seen().len();
    for ask in calls() {
        for reply in
            [client::h1(gateway.address, &ask).await.unwrap(), client::h2(gateway.address, &ask).await.unwrap()]
        {
            assert_eq!(reply.status, 402, "{}: {}", ask.path, reply.text());
            assert!(reply.text().contains("the user's budget of 10000 tokens for the day"), "{}", reply.text());
            assert!(seconds(&reply) <= 86_400);
        }
    }
    assert_eq!(upstream.seen().len(), served, "nothing more reached a provider");
    let free = Ask::post("/v1/messages/count_tokens", anthropic::ASK_WHOLE);
    assert_ne!(client::h1(gateway.address, &free).await.unwrap().status, 402, "counting is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_of_requests_counts_each_request_once_whatever_was_tried() {
    let (bad, good) = (Upstream::always(whole(500, "text/plain", "no")).await, upstream(1, 1).await);
    let accounts =
        [account("bad", "openai", &bad.url(), "priority: 1"), account("good", "openai", &good.url(), "priority: 2")];
    let users = format!(
        "users: [ {{ name: ann, keys: [\"{}\"], budgets: [{{ window: month, requests: 3 }}] }} ]\n",
        test_key()
    );
    let gateway = Gateway::start(&accounts, &users).await;
    for _ in 0..3 {
        assert_eq!(ask(&gateway, Chat).await.status, 200);
    }
    assert!(!bad.seen().is_empty(), "some were tried twice");
    assert_eq!((budget(&gateway).await, good.seen().len()), ((3, 0), 3));
    assert_eq!(ask(&gateway, Chat).await.status, 402);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_says_is_what_counts_be_it_nothing() {
    for (input, output) in [(0, 0), (70, 5)] {
        let upstream = upstream(input, output).await;
        for format in FORMATS {
            let gateway = gateway(&upstream, "budgets: [{ window: day, tokens: 100_000 }]", "").await;
            assert_eq!(ask(&gateway, format).await.status, 200);
            assert_eq!(budget(&gateway).await, (input + output, 0), "{format:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_aside_comes_back_whatever_becomes_of_the_request() {
    let acts: [(&str, Vec<Act>); 5] = [
        ("an error", whole(500, "application/json", "{}")),
        ("the request's fault", whole(400, "application/json", r#"{"error":{"message":"no"}}"#)),
        ("a reset", vec![Act::Reset]),
        ("a break", vec![stream_head(), chunk(anthropic::preamble("m") + &anthropic::delta("x")), Act::Reset]),
        ("silence", vec![Act::Sleep(Duration::from_secs(3))]),
    ];
    for (name, acts) in acts {
        let upstream = Upstream::always(acts).await;
        let more =
            "timeouts: { first_byte: 200ms, whole: 200ms }\nfailover: { attempts: 2 }\nqueue: { cooldown: 0s }\n";
        let gateway = gateway(&upstream, "budgets: [{ window: day, tokens: 10_000 }]", more).await;
        for ask in [Anthropic.ask(Whole, "claude-x", "hi"), Anthropic.ask(Stream, "claude-x", "hi")] {
            let _ = client::h1(gateway.address, &ask).await.unwrap();
        }
        let (spent, set_aside) = budget(&gateway).await;
        assert_eq!(set_aside, 0, "{name}");
        assert!(spent <= 100, "{name}: {spent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_gives_back_what_it_did_not_use() {
    let events = vec![
        stream_head(),
        chunk(anthropic::preamble("m") + &anthropic::delta("some text")),
        Act::Sleep(Duration::from_secs(20)),
    ];
    let upstream = Upstream::always(events).await;
    let gateway = gateway(&upstream, "budgets: [{ window: day, tokens: 10_000 }]", "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(&Ask::post("/v1/messages", anthropic::ASK)).await.unwrap();
    connection.read_some(50).await.unwrap();
    assert!(usage(&gateway).await["budgets"][0]["set_aside"].as_u64().unwrap() > 0);
    drop(connection);
    let (spent, set_aside) = budget(&gateway).await;
    assert_eq!(set_aside, 0);
    assert!((7..200).contains(&spent), "what was seen is charged, and no more: {spent}");
}

/// 200 clients share one budget; whatever they do, it holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_do_not_overrun_one_budget() {
    const BUDGET: u64 = 60_000;
    // Estimated at about 20 + 100, used 20 + 110: each is up to 30 more than was set aside.
    let upstream = upstream(40, 110).await;
    let user = format!("budgets: [{{ window: day, tokens: {BUDGET} }}]");
    let gateway = gateway(&upstream, &user, "budgets: { reserve_output: 100 }\n").await;
    let mut crowd = JoinSet::new();
    for n in 0..200_usize {
        let (address, format) = (gateway.address, FORMATS[n % 4]);
        crowd.spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            let ask = format.ask(Whole, format.vendor(), "hello");
            let (mut served, mut tries) = (0_u64, 0);
            while tries < 40 {
                tries += 1;
                connection.send(&ask).await.unwrap();
                let reply = connection.receive().await.unwrap();
                if reply.header("connection") == Some("close") {
                    connection = Connection::open(address).await.unwrap();
                }
                match reply.status {
                    200 => served += 1,
                    429 => tokio::time::sleep(Duration::from_millis(5)).await,
                    402 => break,
                    other => panic!("{other}: {}", reply.text()),
                }
            }
            served
        });
    }
    let served: u64 = crowd.join_all().await.iter().sum();
    let (spent, _) = budget(&gateway).await;
    assert_eq!(spent, served * 150, "each served request is charged once, with what it used");
    assert!(served * 150 + 300 > BUDGET, "the budget was not used: {served} served");
    let overrun = spent.saturating_sub(BUDGET);
    println!(
        "200 clients on one budget of {BUDGET} tokens: {served} served, overrun {overrun} tokens, bound {}",
        200 * 30
    );
    assert!(overrun <= 200 * 30, "{overrun}");
}

/// A stream of this many pieces, each one token.
fn long_stream(format: Format, pieces: usize) -> Vec<Act> {
    let chat = |text: &str| {
        let delta = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
        format!("data: {delta}\n\n")
    };
    let mut acts = vec![stream_head()];
    if format == Anthropic {
        acts.push(chunk(anthropic::preamble("m")));
    }
    for _ in 0..pieces {
        acts.push(chunk(if format == Anthropic { anthropic::delta("word ") } else { chat("word ") }));
        acts.push(Act::Sleep(Duration::from_micros(200)));
    }
    acts.extend([chunk(if format == Anthropic { anthropic::ending() } else { "data: [DONE]\n\n".into() }), end()]);
    acts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_passes_its_budget_ends_with_the_format_s_error() {
    for (format, wire) in [(Anthropic, Anthropic), (Chat, Chat), (Responses, Anthropic), (Gemini, Chat)] {
        let upstream = Upstream::start(move |_, _| long_stream(wire, 800)).await;
        let kind = if wire == Anthropic { "anthropic" } else { "openai-compatible" };
        let users = format!(
            "users: [ {{ name: ann, keys: [\"{}\"], budgets: [{{ window: day, tokens: 400 }}] }} ]\n",
            test_key()
        );
        for ends in [true, false] {
            let more = format!("{users}budgets: {{ reserve_output: 100, end_streams: {ends} }}\n");
            let gateway = Gateway::start(&[account("only", kind, &wire.base(&upstream.url()), "")], &more).await;
            let reply = client::h1(gateway.address, &format.ask(Stream, "m", "hi")).await.unwrap();
            let text = reply.text();
            let words = said(format, Stream, &text).matches("word").count();
            assert_eq!(reply.status, 200, "{text}");
            assert!(reply.complete, "{format:?}");
            if ends {
                assert!((200..=450).contains(&words), "{format:?}: {words}");
                assert!(text.contains("the user's budget of 400 tokens for the day"), "{format:?}: {text}");
            } else {
                assert!(words >= 800 && !text.contains("budget"), "{format:?}: {words}");
            }
            assert_eq!(gateway.left_over().await, [""; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_limits_and_keeps_what_was_used() {
    let upstream = upstream(100, 100).await;
    let gateway = gateway(&upstream, "budgets: [{ window: day, tokens: 100_000 }], limits: { rpm: 10 }", "").await;
    for _ in 0..3 {
        assert_eq!(ask(&gateway, Chat).await.status, 200);
    }
    let text = format!(
        "listen: [\"{}\"]\naccounts:\n{}users: [ {{ name: ann, keys: [\"{}\"], limits: {{ rpm: 4 }}, budgets: [{{ window: week, tokens: 700 }}] }} ]\n",
        gateway.address,
        accounts(&upstream).concat(),
        test_key()
    );
    gateway.live().reload(Config::parse(&text, &|_| None).unwrap().config);
    assert_eq!(budget(&gateway).await, (600, 0), "of the week, which was counted before there was a budget for it");
    assert_eq!(ask(&gateway, Chat).await.status, 402);
    let limits = usage(&gateway).await["limits"].clone();
    assert_eq!((&limits[0]["limit"], &limits[0]["remaining"]), (&json!(4), &json!(0)), "{limits}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_sees_its_own_usage_and_nobody_else_s() {
    let upstream = upstream(60, 40).await;
    let users = format!(
        "users: [ {{ name: ann, keys: [\"{}\"], budgets: [{{ window: day, cost_usd: 2.5, tokens: 1_000_000 }}] }}, {{ name: bob, keys: [\"{}\"] }} ]\n",
        test_key(),
        hash("sk-bob")
    );
    let gateway = Gateway::start(&accounts(&upstream), &users).await;
    assert_eq!(ask(&gateway, Anthropic).await.status, 200);
    assert_eq!(gateway.left_over().await, [""; 0]);
    let own = usage(&gateway).await;
    assert_eq!((&own["user"], own["key"].as_str().map(str::len)), (&json!("ann"), Some(8)));
    assert_eq!((&own["budgets"][0]["of"], &own["budgets"][0]["spent"]), (&json!("tokens"), &json!(100)));
    assert_eq!(own["budgets"][1]["limit"], 2.5);
    let days: Vec<&Value> = own["used"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|used| used["window"] == "day" && used["tokens"] == 100)
        .collect();
    assert_eq!(days.len(), 2, "the key's and the user's: {own}");
    let bob = Ask::get("/usage").header("authorization", "Bearer sk-bob");
    let bob = client::h1(gateway.address, &bob).await.unwrap();
    assert!(
        !bob.text().contains("ann") && bob.json()["used"].as_array().unwrap().iter().all(|used| used["tokens"] == 0)
    );
    let nobody = client::h1(gateway.address, &Ask::get("/v1/usage").without("authorization")).await.unwrap();
    assert_eq!(nobody.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_and_quotas_go_on_where_they_were_after_a_restart() {
    let upstream = upstream(1_000, 500).await;
    let url = upstream.url();
    let accounts = [account("only", "anthropic", &url, "quotas: [ { window: day, requests: 5 } ]")];
    let budgets = "budgets: [ { window: day, tokens: 1_000_000 }, { window: total, cost_usd: 3 } ]";
    let users = format!("users: [ {{ name: tester, keys: [\"{}\"], {budgets} }} ]\n", test_key());
    let start = async |data| {
        let more = format!("server: {{ threads: 2 }}\n{users}");
        Gateway::start_in(data, &accounts, &more).await
    };
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let send = async |gateway: &Gateway| client::h1(gateway.address, &Ask::post("/v1/messages", body)).await.unwrap();
    let stands = async |gateway: &Gateway| {
        let told = usage(gateway).await;
        let budgets: Vec<_> = told["budgets"].as_array().unwrap().iter().map(|b| b["spent"].clone()).collect();
        (budgets, told["used"].clone())
    };
    let first = start(data_dir()).await;
    for _ in 0..3 {
        let reply = send(&first).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert!(first.left_over().await.is_empty());
    let before = stands(&first).await;
    assert_eq!(before.0[0], json!(4_500), "{before:?}");
    assert!(before.0[1].as_f64().unwrap() > 0.0, "money is spent: {before:?}");
    let second = start(first.stop()).await;
    let after = stands(&second).await;
    assert_eq!(after.0, before.0);
    assert_eq!(after.1[1]["tokens"], before.1[1]["tokens"], "a day");
    for expected in [200, 200, 503] {
        let reply = send(&second).await;
        assert_eq!(reply.status, expected, "the account's five of the day include those before: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_after_a_kill_include_what_only_the_journal_held() {
    let upstream = upstream(1_000, 500).await;
    let accounts = [account("only", "anthropic", &upstream.url(), "quotas: [ { window: day, requests: 4 } ]")];
    let users = format!(
        "users: [ {{ name: tester, keys: [\"{}\"], budgets: [ {{ window: day, tokens: 9_000 }} ] }} ]\n",
        test_key()
    );
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let send = async |gateway: &Gateway| client::h1(gateway.address, &Ask::post("/v1/messages", body)).await.unwrap();
    let first = Gateway::start_in(data_dir(), &accounts, &users).await;
    let live = first.live();
    assert_eq!(send(&first).await.status, 200);
    live.ledger.as_ref().unwrap().flush();
    // From now on rows come into the journal, and no further.
    let data = live.snapshot().config.data_dir.clone();
    let other = rusqlite::Connection::open(data.join(sub2api::ledger::FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..2 {
        assert_eq!(send(&first).await.status, 200);
    }
    // A kill leaves the files as they are, and lets go of every lock.
    let killed = data_dir();
    std::fs::create_dir_all(&killed).unwrap();
    for file in std::fs::read_dir(&data).unwrap().map(Result::unwrap).filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), killed.join(file.file_name())).unwrap();
    }
    let reader = Reader::open(&killed.join(sub2api::ledger::FILE_NAME)).unwrap();
    assert_eq!(reader.total(&Filter::default()).unwrap().attempts, 1, "the others are in the journal only");
    other.execute_batch("COMMIT").unwrap();
    let second = Gateway::start_in(killed, &accounts, &users).await;
    let told = usage(&second).await;
    assert_eq!(told["budgets"][0]["spent"], json!(4_500), "{told}");
    assert_eq!(reader.total(&Filter::default()).unwrap().attempts, 3);
    for expected in [200, 503] {
        let reply = send(&second).await;
        assert_eq!(reply.status, expected, "the account's four of the day include those before: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_in_money_is_spent_by_the_price_table_and_refuses_with_402() {
    // Sonnet: 3 dollars a million in, 15 out: 3 + 7.5 thousandths of a dollar for each answer.
    let upstream = upstream(1_000, 500).await;
    let gateway = gateway(&upstream, "budgets: [ { window: day, cost_usd: 0.025 } ]", "").await;
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":500,"messages":[{"role":"user","content":"Hi"}]}"#;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client::h1(gateway.address, &Ask::post("/v1/messages", body)).await.unwrap().status);
        assert!(gateway.left_over().await.is_empty());
    }
    // After two answers 0.021 is spent, and a third sets 0.0075 and more aside.
    assert_eq!(statuses, [200, 200, 402, 402]);
    assert_eq!(usage(&gateway).await["budgets"][0]["spent"], json!(0.021));
}
