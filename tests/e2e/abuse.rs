//! Requests that try to be something else on the other side: smuggled, injected, climbing out of their path.

use crate::{
    anthropic::{ASK_WHOLE, overloaded},
    client::{self, Ask, Connection},
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, end, stream, stream_head, whole},
};
use std::time::{Duration, Instant};

const GEMINI_REPLY: &str =
    r#"{"candidates":[{"content":{"parts":[{"text":"x"}],"role":"model"},"finishReason":"STOP","index":0}]}"#;
const CHAT_REPLY: &str = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;

async fn gemini() -> (Upstream, Gateway) {
    let upstream = Upstream::always(whole(200, "application/json", GEMINI_REPLY)).await;
    let gateway = Gateway::start(&[account("only", "gemini", &upstream.url(), "")], "").await;
    (upstream, gateway)
}

/// Sends bytes as they are; the status of the first reply, 0 where the connection just ends.
async fn raw(gateway: &Gateway, bytes: &str) -> u16 {
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.raw(bytes.as_bytes()).await.unwrap();
    let reply = tokio::time::timeout(Duration::from_secs(10), connection.receive()).await.expect("the gateway hangs");
    reply.map_or(0, |reply| reply.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_framing_is_understood_in_two_ways() {
    let upstream = Upstream::always(whole(200, "application/json", CHAT_REPLY)).await;
    let gateway = Gateway::start(&[account("only", "openai", &format!("{}/v1", upstream.url()), "")], "").await;
    let start = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\n";
    let inner = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\ncontent-length: 13\r\n\r\n{\"model\":\"m\"}";
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        "content-length: 4, 5\r\n\r\nabcde",
        "content-length: +4\r\n\r\nabcd",
        "content-length: -1\r\n\r\n",
        "content-length: 4 4\r\n\r\nabcd",
        "content-length: 99999999999999999999\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ] {
        // What follows would be a good request, if anyone took it for one.
        let status = raw(&gateway, &format!("{start}{framing}{inner}")).await;
        assert!(status == 0 || (400..500).contains(&status), "{framing:?}: {status}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.body == b"{\"model\":\"m\"}"), "{:?}", upstream.seen());
    // The same length twice is one length.
    let twice = format!("{start}content-length: 13\r\ncontent-length: 13\r\n\r\n{{\"model\":\"m\"}}");
    assert_eq!(raw(&gateway, &twice).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_in_the_path_stays_one_segment_of_it() {
    let (upstream, gateway) = gemini().await;
    for path in [
        "/v1beta/models/../../x:generateContent",
        "/v1beta/models/..:generateContent",
        "/v1beta/models/%2e%2e:generateContent",
        "/v1beta/models/%2e%2e%2f%2e%2e%2fv1%2fadmin:generateContent",
        "/v1beta/models/a%2F..%2F..%2Fadmin:generateContent",
        "/v1beta/models/a%3Fkey=x%23:generateContent",
        "/v1beta/models/a%0d%0ax-evil:%201%0d%0a:generateContent",
        "/v1beta/models/a%20HTTP%2f1.1:generateContent",
        "/v1beta/models/models/../x:generateContent",
        "/v1beta/tunedModels/../../x:generateContent",
        "/v1beta/models/\u{fc}:generateContent",
        "/v1beta/../v1beta/models/x:generateContent",
    ] {
        let body = r#"{"contents":[{"parts":[{"text":"x"}]}]}"#;
        let Ok(reply) = client::h1(gateway.address, &Ask::post(path, body)).await else { continue };
        assert!([200, 400, 404].contains(&reply.status), "{path}: {} {}", reply.status, reply.text());
    }
    for seen in upstream.seen() {
        let model = seen.path().strip_prefix("/v1beta/models/").or(seen.path().strip_prefix("/v1beta/tunedModels/"));
        let model =
            model.and_then(|rest| rest.strip_suffix(":generateContent")).unwrap_or_else(|| panic!("{}", seen.head));
        assert!(!model.contains('/') && !matches!(model, "" | "." | ".."), "{}", seen.head);
        assert_eq!(seen.header("x-evil"), None);
    }
    assert!(!upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_cannot_replace_the_key_or_the_layout() {
    let (upstream, gateway) = gemini().await;
    let path = "/v1beta/models/m:generateContent";
    for query in [
        "key=sk-test",
        "k%65y=sk-test",
        "KEY=sk-test",
        "$key=sk-test",
        "access_token=sk-test",
        "oauth_token=sk-test",
        "alt=media",
        "%61lt=media",
        "$alt=media",
        "callback=f",
        "%24callback=f",
        "a=b&k%65y=sk-test&alt=proto",
    ] {
        let body = r#"{"contents":[{"parts":[{"text":"x"}]}]}"#;
        let reply = client::h1(gateway.address, &Ask::post(&format!("{path}?{query}"), body)).await.unwrap();
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    }
    for seen in upstream.seen() {
        assert!([path, &format!("{path}?a=b")].contains(&seen.path()), "{}", seen.path());
    }
    // What cannot be read stays an ordinary parameter, on the one line that it came on.
    let odd = Ask::post(&format!("{path}?x=%0d%0ahost:%20evil&y=%zz"), r#"{"contents":[]}"#);
    client::h1(gateway.address, &odd).await.unwrap();
    let last = upstream.seen().pop().unwrap();
    assert_eq!(last.path(), format!("{path}?x=%0d%0ahost:%20evil&y=%zz"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_of_the_client_becomes_another_one() {
    let upstream = Upstream::always(whole(200, "application/json", CHAT_REPLY)).await;
    let gateway = Gateway::start(&[account("only", "azure-openai", &upstream.url(), "")], "").await;
    let body = r#"{"model":"gpt\r\nx-evil: 1 \u0000 ..\/..\/admin","messages":[]}"#;
    for (name, value) in [
        ("x-request-id", "a b"),
        ("x-request-id", "a\tx-evil:1"),
        ("x-request-id", "\u{fc}"),
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("api-key", "sk-other"),
        ("content-length", "0000000069"),
        ("connection", "x-request-id, api-key, content-length"),
    ] {
        let mut ask = Ask::post("/v1/chat/completions", body);
        ask.headers.push((name.to_owned(), value.to_owned()));
        let Ok(reply) = client::h1(gateway.address, &ask).await else { continue };
        assert!([200, 400].contains(&reply.status), "{name}: {value}: {}", reply.text());
        assert_ne!(reply.header("x-request-id").unwrap_or(""), value);
    }
    assert!(upstream.seen().len() >= 5);
    for seen in upstream.seen() {
        assert_eq!(seen.header("host"), Some(upstream.address.to_string().as_str()));
        assert_eq!(seen.header("api-key"), Some("sk-upstream-only"));
        assert!(seen.header("x-evil").is_none() && seen.header("x-forwarded-host").is_none(), "{}", seen.head);
        assert!(seen.path().starts_with("/openai/deployments/gpt%0D%0Ax-evil"), "{}", seen.path());
        let id = seen.header("x-request-id").unwrap();
        assert!(id.starts_with("req_"), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_invented_models_leave_little_behind() {
    let upstream = Upstream::always(stream(&[overloaded()])).await;
    let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    for n in 0..1_000 {
        let body = ASK_WHOLE.replace("claude-test", &format!("invented-{n}"));
        connection.send(&Ask::post("/v1/messages", body)).await.unwrap();
        let reply = connection.receive().await.unwrap();
        assert!(reply.status >= 400, "{}", reply.text());
        if reply.header("connection") == Some("close") {
            connection = Connection::open(gateway.address).await.unwrap();
        }
    }
    let live = gateway.running.as_ref().unwrap().live();
    let known = live.snapshot().pool.accounts()[0].live.models(live.clock.now()).len();
    assert!(known <= 64, "{known} models of one account are remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_list_waits_for_silent_upstreams_together_and_not_one_after_the_other() {
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(Upstream::always(vec![Act::Sleep(Duration::from_secs(60))]).await);
    }
    let of = |(n, upstream): (usize, &Upstream)| account(&format!("silent{n}"), "anthropic", &upstream.url(), "");
    let accounts: Vec<String> = silent.iter().enumerate().map(of).collect();
    let gateway = Gateway::start(&accounts, "models: [ { name: known, targets: [x] } ]\n").await;
    let started = Instant::now();
    let ask = Ask::get("/v1/models");
    let (first, second) = tokio::join!(client::h1(gateway.address, &ask), client::h1(gateway.address, &ask));
    for reply in [first.unwrap(), second.unwrap()] {
        assert_eq!((reply.status, reply.json()["data"][0]["id"].as_str()), (200, Some("known")), "{}", reply.text());
    }
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_dribbles_in_is_given_up_and_a_long_answer_is_not() {
    let slow = [stream_head(), chunk(CHAT_EVENT), Act::Sleep(Duration::from_millis(1_500)), chunk(CHAT_END), end()];
    let upstream = Upstream::always(slow.to_vec()).await;
    let accounts = [account("only", "openai", &format!("{}/v1", upstream.url()), "")];
    let gateway = Gateway::start(&accounts, "bounds: { client_head: 700ms, client_idle: 1s }\n").await;
    let live = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    for before in ["", live] {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.raw(before.as_bytes()).await.unwrap();
        let dribble = async {
            connection.raw(b"GET /livez HTTP/1.1\r\nx-long: ").await?;
            loop {
                connection.raw(b"x").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ended: Result<Result<(), std::io::Error>, _> = tokio::time::timeout(Duration::from_secs(20), dribble).await;
        assert!(ended.is_ok_and(|written| written.is_err()), "the head dribbles on behind {before:?}");
    }
    let ask = r#"{"model":"m","stream":true,"messages":[]}"#;
    let reply = client::h1(gateway.address, &Ask::post("/v1/chat/completions", ask)).await.unwrap();
    assert!(reply.complete && reply.text() == format!("{CHAT_EVENT}{CHAT_END}"), "{}", reply.text());
}

const CHAT_EVENT: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
const CHAT_END: &str = "data: [DONE]\n\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_request_ends_and_a_short_request_is_a_whole_one() {
    let upstream = Upstream::always(whole(200, "application/json", CHAT_REPLY)).await;
    let accounts = [account("only", "openai", &format!("{}/v1", upstream.url()), "")];
    let gateway = Gateway::start(&accounts, "bounds: { client_read: 1s, client_idle: 1s }\n").await;
    // Whole, though shorter than what HTTP/2 begins with.
    assert_eq!(raw(&gateway, "GET /livez HTTP/1.0\r\n\r\n").await, 200);
    let live = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = "\0\0\0\x04\0\0\0\0\0";
    for begun in
        ["", "P", "GE", "PRI * HT", "GET /v1/mod", live, &format!("{live}GET"), &format!("{preface}{settings}")]
    {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.raw(begun.as_bytes()).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), connection.read_some(1 << 20)).await;
        assert!(ended.is_ok(), "the connection stays open behind {begun:?}");
    }
}
