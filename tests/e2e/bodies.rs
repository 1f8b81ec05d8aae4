//! Request bodies of every size and framing arrive as they were sent, also after a failover.

use crate::{
    client::{self, Ask},
    gateway::{Gateway, account},
    upstream::{Act, Upstream, whole},
    upstream_h2,
};

const OK: &str = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;

/// A chat request of exactly this many bytes; its content differs in every place.
fn body(bytes: usize) -> Vec<u8> {
    let (head, tail) = (br#"{"model":"gpt-test","messages":[{"role":"user","content":""#, br#""}]}"#);
    let mut body = head.to_vec();
    let mut state = bytes as u64 | 1;
    while body.len() < bytes - tail.len() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.push(b"abcdefghijklmnopqrstuvwxyz0123456789"[(state >> 33) as usize % 36]);
    }
    body.extend_from_slice(tail);
    body
}

const SIZES: [usize; 5] = [1 << 10, 64 << 10, (64 << 10) + 1, 2 << 20, 32 << 20];

async fn arrives(gateway: &Gateway, size: usize) -> Vec<u8> {
    let sent = body(size);
    for chunked in [false, true] {
        let mut ask = Ask::post("/v1/chat/completions", sent.clone());
        if chunked {
            ask = ask.in_chunks(50_000);
        }
        let over_h1 = client::h1(gateway.address, &ask).await.unwrap();
        assert_eq!((over_h1.status, over_h1.text().as_str()), (200, OK), "{size} bytes, chunked {chunked}, h1");
        let over_h2 = client::h2(gateway.address, &ask).await.unwrap();
        assert_eq!((over_h2.status, over_h2.text().as_str()), (200, OK), "{size} bytes, chunked {chunked}, h2");
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_arrive_byte_for_byte() {
    for size in SIZES {
        let upstream = Upstream::always(whole(200, "application/json", OK)).await;
        let gateway = Gateway::start(&[account("only", "openai", &format!("{}/v1", upstream.url()), "")], "").await;
        let sent = arrives(&gateway, size).await;
        let seen = upstream.seen();
        assert_eq!(seen.len(), 4, "{size}");
        assert!(seen.iter().all(|request| request.body == sent), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_arrive_over_http2_upstream() {
    for size in SIZES {
        let upstream = upstream_h2::Upstream::always(upstream_h2::Answer::new(200, "application/json", &[OK])).await;
        let accounts = [account("only", "openai", &format!("{}/v1", upstream.url()), "http2: always")];
        let gateway = Gateway::start(&accounts, "").await;
        let sent = arrives(&gateway, size).await;
        let seen = upstream.seen();
        assert_eq!(seen.len(), 4, "{size}");
        assert!(seen.iter().all(|request| request.body == sent), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_arrive_whole_after_failovers() {
    for size in SIZES {
        let limited =
            whole(429, "application/json", r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#);
        let first = Upstream::always(limited).await;
        let second = upstream_h2::Upstream::always(upstream_h2::Answer::new(503, "text/plain", &[""; 0])).await;
        let third = Upstream::always(vec![Act::Reset]).await;
        let good = Upstream::always(whole(200, "application/json", OK)).await;
        let accounts = [
            account("first", "openai", &format!("{}/v1", first.url()), "priority: 1"),
            account("second", "openai", &format!("{}/v1", second.url()), "priority: 2, http2: always"),
            account("third", "openai", &format!("{}/v1", third.url()), "priority: 3"),
            account("good", "openai", &format!("{}/v1", good.url()), "priority: 4"),
        ];
        let more = "cooldown: { base: 1ms, max: 1ms, told_max: 1ms }\n";
        let gateway = Gateway::start(&accounts, more).await;
        let sent = arrives(&gateway, size).await;
        assert!(good.seen().iter().all(|request| request.body == sent), "{size}");
        assert_eq!(good.seen().len(), 4, "{size}");
        assert!(!first.seen().is_empty() && !second.seen().is_empty() && !third.seen().is_empty(), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_bound_is_a_413_in_the_callers_format() {
    let upstream = Upstream::always(whole(200, "application/json", OK)).await;
    let accounts = [account("only", "openai", &format!("{}/v1", upstream.url()), "")];
    let gateway = Gateway::start(&accounts, "bounds: { body_bytes: 1MiB }\n").await;
    let large = body(8 << 20);
    for chunked in [false, true] {
        for path in ["/v1/chat/completions", "/v1/messages", "/v1beta/models/x:generateContent"] {
            let mut ask = Ask::post(path, large.clone());
            if chunked {
                ask = ask.in_chunks(60_000);
            }
            for reply in
                [client::h1(gateway.address, &ask).await.unwrap(), client::h2(gateway.address, &ask).await.unwrap()]
            {
                assert_eq!(reply.status, 413, "{path}, chunked {chunked}: {}", reply.text());
                assert!(reply.json()["error"]["message"].is_string(), "{}", reply.text());
            }
        }
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_asked_for_with_expect_comes_after_the_100() {
    let upstream = Upstream::always(whole(200, "application/json", OK)).await;
    let accounts = [account("only", "openai", &format!("{}/v1", upstream.url()), "")];
    let gateway = Gateway::start(&accounts, "").await;
    let sent = body(1000);
    let mut connection = client::Connection::open(gateway.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        sent.len()
    );
    connection.raw(head.as_bytes()).await.unwrap();
    let first = connection.read_some(12).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&first));
    connection.raw(&sent).await.unwrap();
    let reply = connection.receive().await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(upstream.seen()[0].body, sent);
    assert_eq!(upstream.seen()[0].header("expect"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_100_there_is_still_failover_and_an_error_when_all_fail() {
    let bad = Upstream::always(whole(503, "text/plain", "no")).await;
    let good = Upstream::always(whole(200, "application/json", OK)).await;
    let of =
        |name: &str, upstream: &Upstream, more: &str| account(name, "openai", &format!("{}/v1", upstream.url()), more);
    let both = [of("bad", &bad, "priority: 1"), of("good", &good, "priority: 2")];
    let ask = Ask::post("/v1/chat/completions", body(300)).header("expect", "100-continue");
    for (accounts, expected) in [(&both[..], 200), (&both[..1], 503)] {
        let gateway = Gateway::start(accounts, "").await;
        let reply = client::h1(gateway.address, &ask).await.unwrap();
        assert_eq!(reply.status, expected, "{}", reply.text());
        let refused = client::h1(gateway.address, &ask.clone().header("connection", "host")).await.unwrap();
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_framings_in_one_request_are_refused() {
    let upstream = Upstream::always(whole(200, "application/json", OK)).await;
    let accounts = [account("only", "openai", &format!("{}/v1", upstream.url()), "")];
    let gateway = Gateway::start(&accounts, "").await;
    let mut connection = client::Connection::open(gateway.address).await.unwrap();
    let both = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\ncontent-length: 4\r\n\
                transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    connection.raw(both.as_bytes()).await.unwrap();
    let reply = connection.receive().await.unwrap();
    assert_eq!((reply.status, reply.json()["type"].as_str()), (400, Some("error")), "{}", reply.text());
    assert!(upstream.seen().is_empty());
}
