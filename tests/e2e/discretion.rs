//! No answer tells a client whose account served it, where that is, or by which key.

use crate::{
    anthropic,
    client::{Ask, h1, h2},
    gateway::{Gateway, account, free_port},
    upstream::{Act, Upstream, chunk, stream_head, whole, with_headers},
};
use std::time::Duration;

/// A call of each wire format.
const CALLS: [(&str, &str, &str); 4] = [
    ("openai", "/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#),
    ("openai", "/v1/responses", r#"{"model":"m","input":"hi"}"#),
    ("anthropic", "/v1/messages", anthropic::ASK),
    ("gemini", "/v1beta/models/m:generateContent", r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#),
];

/// An error text that tells everything, in a shape that every format reads.
fn indiscreet(port: u16, code: &str) -> String {
    let message = format!(
        "Incorrect key sk-upstream-acct-hush for organization org-hush12345678 and project proj_hush12345678 at \
         http://localhost:{port}/v1, contact sales"
    );
    format!(r#"{{"type":"error","error":{{"type":"{code}","code":"{code}","status":"{code}","message":"{message}"}}}}"#)
}

/// What the provider does, by name.
fn failures(port: u16) -> Vec<(String, Vec<Act>)> {
    let json = |status: u16, code: &str| {
        let headers = [("content-type", "application/json"), ("openai-organization", "org-hush12345678")];
        (format!("{status} {code}"), with_headers(status, &headers, indiscreet(port, code)))
    };
    let html = format!("<html>nginx at localhost:{port} for acct-hush: sk-upstream-acct-hush</html>");
    let mut all = vec![
        json(400, "invalid_request_error"),
        json(401, "invalid_api_key"),
        json(402, "billing_error"),
        json(403, "permission_error"),
        json(404, "model_not_found"),
        json(413, "request_too_large"),
        json(422, "invalid"),
        json(429, "rate_limit_exceeded"),
        json(429, "insufficient_quota"),
        json(500, "server_error"),
        json(529, "overloaded_error"),
        ("a 200 in html".into(), whole(200, "text/html", &html)),
        ("a reset".into(), vec![Act::Reset]),
        ("an end".into(), vec![Act::Close]),
        ("silence".into(), vec![Act::Sleep(Duration::from_secs(3))]),
        (
            "no HTTP".into(),
            vec![Act::Send(format!("sk-upstream-acct-hush localhost:{port}\r\n\r\n").into()), Act::Close],
        ),
    ];
    for status in [400, 403, 404, 500, 502, 503] {
        all.push((format!("{status} in html"), whole(status, "text/html", &html)));
    }
    all
}

async fn says_nothing(gateway: &Gateway, port: u16, name: &str, ask: &Ask, secrets: &[&str]) {
    let port = port.to_string();
    for reply in [h1(gateway.address, ask).await.unwrap(), h2(gateway.address, ask).await.unwrap()] {
        assert!(reply.status >= 400, "{name} {}: {}", ask.path, reply.text());
        let all = format!("{:?} {}", reply.headers, reply.text());
        for secret in secrets.iter().chain(&[port.as_str()]) {
            assert!(!all.contains(secret), "{name} {}: {secret} is told: {all}", ask.path);
        }
    }
}

const SECRETS: [&str; 6] = ["hush", "sk-upstream", "localhost", "127.0.0.1", "nginx", "invalid.test"];
const MORE: &str = "timeouts: { first_byte: 200ms, connect: 500ms }\nqueue: { cooldown: 0s }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_provider_is_not_given_away() {
    let port = free_port();
    let names: Vec<String> = failures(port).into_iter().map(|(name, _)| name).collect();
    for (at, name) in names.iter().enumerate() {
        let upstream = Upstream::start(move |_, _| failures(port).swap_remove(at).1).await;
        let url = format!("http://localhost:{}", upstream.address.port());
        let accounts = ["openai", "anthropic", "gemini"].map(|kind| {
            account("acct-hush", kind, &url, "").replace("name: acct-hush,", &format!("name: acct-hush-{kind},"))
        });
        let gateway = Gateway::start(&accounts, MORE).await;
        for (_, path, body) in CALLS {
            says_nothing(&gateway, upstream.address.port(), name, &Ask::post(path, body), &SECRETS).await;
        }
        assert!(!upstream.seen().is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_cannot_be_reached_is_not_given_away() {
    let plain = Upstream::always(whole(200, "application/json", "{}")).await;
    let closed = free_port();
    for (name, url, port) in [
        ("nobody listens", format!("http://localhost:{closed}"), closed),
        ("no such name", "http://hush.invalid.test:8099".to_owned(), 8099),
        ("no TLS there", format!("https://localhost:{}", plain.address.port()), plain.address.port()),
    ] {
        let accounts = ["openai", "anthropic", "gemini"].map(|kind| {
            account("acct-hush", kind, &url, "").replace("name: acct-hush,", &format!("name: acct-hush-{kind},"))
        });
        let gateway = Gateway::start(&accounts, MORE).await;
        for (_, path, body) in CALLS {
            says_nothing(&gateway, port, name, &Ask::post(path, body), &SECRETS).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_does_not_give_its_provider_away() {
    let begun = anthropic::preamble("m") + &anthropic::delta("Hello");
    let acts = vec![stream_head(), chunk(&begun), Act::Sleep(Duration::from_millis(50)), Act::Reset];
    let upstream = Upstream::always(acts).await;
    let url = format!("http://localhost:{}", upstream.address.port());
    let gateway = Gateway::start(&[account("acct-hush", "anthropic", &url, "")], "").await;
    let reply = h1(gateway.address, &Ask::post("/v1/messages", anthropic::ASK)).await.unwrap();
    let text = reply.text();
    assert!(text.contains("event: error"), "{text}");
    assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
}
