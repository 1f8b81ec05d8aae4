//! Holding, failing over, waiting and ending: the downstream adapter's traps, each seen from the client's side.

use crate::{
    anthropic::{self, ASK, ASK_WHOLE, answer, delta, ending, overloaded, preamble},
    client::{self, Ask, Connection},
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, end, stream, stream_head, whole, with_headers},
    upstream_h2,
};
use std::time::Duration;

const MESSAGES: &str = "/v1/messages";

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A gateway whose first account is broken in some way and whose second is well.
async fn failing_first(first: Vec<Act>, more: &str) -> (Gateway, Upstream, Upstream) {
    let bad = Upstream::always(first).await;
    let good = Upstream::always(stream(&[answer("msg_good")])).await;
    let accounts = [
        account("bad", "anthropic", &bad.url(), "priority: 1"),
        account("good", "anthropic", &good.url(), "priority: 2"),
    ];
    (Gateway::start(&accounts, more).await, bad, good)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_before_content_is_answered_whole_by_the_next_account() {
    let start = preamble("msg_bad");
    let cases: Vec<(&str, Vec<Act>)> = vec![
        ("preamble, then an error event", stream(&[&start, &overloaded()])),
        ("the same in one piece", stream(&[start.clone() + &overloaded()])),
        ("an error event at once", stream(&[overloaded()])),
        ("preamble, then a reset", vec![stream_head(), chunk(&start), Act::Sleep(millis(30)), Act::Reset]),
        (
            "preamble, then a cut chunk",
            vec![stream_head(), chunk(&start), Act::Send("40\r\nevent: con".into()), Act::Close],
        ),
        ("preamble, then a clean end", stream(&[&start])),
        ("nothing but an end", stream(&[""; 0])),
        ("an empty 200", whole(200, "application/json", "")),
        ("html with 200", whole(200, "text/html", "<html>Sign in</html>")),
        (
            "a 429 with a body",
            whole(429, "application/json", r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#),
        ),
        ("a 429 without a body", with_headers(429, &[("retry-after", "1")], "")),
        (
            "a 529",
            whole(529, "application/json", r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#),
        ),
        ("a 502 in html", whole(502, "text/html", "<html>Bad gateway</html>")),
        ("a closed connection", vec![Act::Close]),
        ("a reset connection", vec![Act::Reset]),
        ("an answer that is no HTTP", vec![Act::Send("SSH-2.0-OpenSSH\r\n".into()), Act::Close]),
    ];
    for (name, acts) in cases {
        let (gateway, bad, good) = failing_first(acts, "").await;
        for (version, reply) in [
            ("h1", client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
            ("h2", client::h2(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
        ] {
            assert_eq!(reply.status, 200, "{name} over {version}: {}", reply.text());
            assert!(reply.complete, "{name} over {version}");
            assert_eq!(reply.text(), answer("msg_good"), "{name} over {version}");
        }
        assert!(!bad.seen().is_empty(), "{name}: the first account was asked");
        assert_eq!(good.seen().len(), 2, "{name}: the second account answered both");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_over_http2_before_content_is_answered_by_the_next_account() {
    let start = preamble("msg_bad");
    let cases = [
        ("a broken stream", upstream_h2::Answer::new(200, "text/event-stream", &[&start]).then_reset()),
        ("a clean end without content", upstream_h2::Answer::new(200, "text/event-stream", &[&start])),
        ("an error event", upstream_h2::Answer::new(200, "text/event-stream", &[start.clone() + &overloaded()])),
        ("an error that is only a header", upstream_h2::Answer::new(529, "application/json", &[""; 0])),
    ];
    for (name, answer) in cases {
        let bad = upstream_h2::Upstream::always(answer).await;
        let good = Upstream::always(stream(&[answer_text()])).await;
        let accounts = [
            account("bad", "anthropic", &bad.url(), "priority: 1, http2: always"),
            account("good", "anthropic", &good.url(), "priority: 2"),
        ];
        let gateway = Gateway::start(&accounts, "").await;
        let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, answer_text()), "{name}");
        assert!(reply.complete && bad.seen().len() == 1, "{name}");
    }
}

fn answer_text() -> String {
    answer("msg_good")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_connection_survives_a_failover() {
    let (gateway, _bad, _good) = failing_first(stream(&[preamble("msg_bad") + &overloaded()]), "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    for _ in 0..3 {
        connection.send(&Ask::post(MESSAGES, ASK)).await.unwrap();
        let reply = connection.receive().await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, answer("msg_good")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_dies_after_content_ends_with_the_formats_error_and_never_cleanly() {
    let begun = preamble("msg_1") + &delta("Hello");
    let half = "event: content_block_delta\ndata: {\"type\":\"content_bl";
    let cases: Vec<(&str, Vec<Act>)> = vec![
        ("reset", vec![stream_head(), chunk(&begun), Act::Sleep(millis(50)), Act::Reset]),
        ("closed", vec![stream_head(), chunk(&begun), Act::Sleep(millis(50)), Act::Close]),
        ("a clean end without the stream's own", stream(&[&begun])),
        ("a clean end inside an event", stream(&[&begun, half])),
        ("closed inside an event", vec![stream_head(), chunk(&begun), chunk(half), Act::Sleep(millis(50)), Act::Close]),
    ];
    for (name, acts) in cases {
        let upstream = Upstream::always(acts).await;
        let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
        for (version, reply) in [
            ("h1", client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
            ("h2", client::h2(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
        ] {
            let text = reply.text();
            assert!(text.starts_with(&begun), "{name} over {version}: {text}");
            let rest = &text[begun.len()..];
            assert!(rest.starts_with("event: error\ndata: {\"type\":\"error\""), "{name} over {version}: {rest}");
            assert!(!rest.contains("message_stop"), "{name} over {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_event_after_content_reaches_the_client_as_it_is() {
    let text = preamble("msg_1") + &delta("Hello") + &overloaded();
    let upstream = Upstream::always(stream(&[&text])).await;
    let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
    let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap();
    assert_eq!(reply.text(), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_pass_as_they_come() {
    let mut acts = vec![stream_head(), chunk(preamble("msg_1") + &delta("one")), Act::Sleep(millis(600))];
    acts.extend([chunk(delta("two")), Act::Sleep(millis(600)), chunk(ending()), end()]);
    let upstream = Upstream::always(acts).await;
    let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
    for (version, reply) in [
        ("h1", client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
        ("h2", client::h2(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
    ] {
        assert!(reply.first_byte < millis(400), "{version}: the first event came after {:?}", reply.first_byte);
        assert_eq!(reply.text(), preamble("msg_1") + &delta("one") + &delta("two") + &ending(), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_account_is_left_for_the_next_one_in_time() {
    let silent = [
        ("no header", vec![Act::Sleep(Duration::from_secs(20))]),
        ("a preamble only", vec![stream_head(), chunk(preamble("msg_bad")), Act::Sleep(Duration::from_secs(20))]),
    ];
    for (name, acts) in silent {
        let (gateway, _bad, _good) = failing_first(acts, "timeouts: { first_byte: 400ms }\n").await;
        let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, answer("msg_good")), "{name}");
        assert!(reply.first_byte >= millis(380) && reply.first_byte < millis(2000), "{name}: {:?}", reply.first_byte);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_of_every_account_is_a_504() {
    let upstream = Upstream::always(vec![Act::Sleep(Duration::from_secs(20))]).await;
    let accounts = [account("only", "anthropic", &upstream.url(), "timeouts: { first_byte: 300ms }")];
    let gateway = Gateway::start(&accounts, "").await;
    for ask in [ASK, ASK_WHOLE] {
        let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ask)).await.unwrap();
        assert_eq!(reply.status, 504, "{}", reply.text());
        assert_eq!(reply.json()["type"], "error");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_stream_gets_pings_and_then_its_error() {
    let acts = vec![stream_head(), chunk(preamble("msg_1") + &delta("Hello")), Act::Sleep(Duration::from_secs(20))];
    let upstream = Upstream::always(acts).await;
    let accounts = [account("only", "anthropic", &upstream.url(), "timeouts: { idle: 1s }")];
    let gateway = Gateway::start(&accounts, "streams: { ping: 300ms }\n").await;
    for (version, reply) in [
        ("h1", client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
        ("h2", client::h2(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
    ] {
        let text = reply.text();
        let after = text.split("Hello").nth(1).unwrap();
        assert!((2..=3).contains(&after.matches("event: ping").count()), "{version}: {after}");
        assert!(after.contains("event: error") && !after.contains("message_stop"), "{version}: {after}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_total_time_ends_a_stream_that_goes_on_and_on() {
    let mut acts = vec![stream_head(), chunk(preamble("msg_1"))];
    for _ in 0..200 {
        acts.extend([chunk(delta("x")), Act::Sleep(millis(20))]);
    }
    let upstream = Upstream::always(acts).await;
    let accounts = [account("only", "anthropic", &upstream.url(), "timeouts: { total: 700ms }")];
    let gateway = Gateway::start(&accounts, "").await;
    let started = tokio::time::Instant::now();
    let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap();
    assert!(started.elapsed() < millis(2500), "{:?}", started.elapsed());
    assert!(reply.text().contains("event: error"), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_cancels_the_upstream_within_half_a_second() {
    let begun = preamble("msg_1") + &delta("Hello");
    let acts = vec![stream_head(), chunk(&begun), Act::Sleep(Duration::from_secs(20))];
    let upstream = Upstream::always(acts).await;
    let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
    let mut times = Vec::new();
    for client in 0..3 {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(&Ask::post(MESSAGES, ASK)).await.unwrap();
        connection.read_some(begun.len()).await.unwrap();
        drop(connection);
        let gone = tokio::time::Instant::now();
        while upstream.seen()[client].left_after.is_none() && gone.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(millis(10)).await;
        }
        times.push(gone.elapsed());
    }
    // The middle one: a machine that has other things to do may sleep over one of them.
    times.sort_unstable();
    assert!(times[1] < millis(500) && times[2] < Duration::from_secs(3), "the upstream was left after {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_upstream_connection_that_died_is_replaced_without_a_word() {
    // Each connection serves one request and is then closed, although it said that it would stay.
    let upstream = Upstream::start(|_, _| {
        let mut acts = whole(200, "application/json", r#"{"type":"message","id":"m","content":[]}"#);
        acts.extend([Act::Sleep(millis(60)), Act::Close]);
        acts
    })
    .await;
    let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
    for _ in 0..5 {
        let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ASK_WHOLE)).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        tokio::time::sleep(millis(120)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_own_fault_comes_back_as_the_provider_said_it() {
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: must be positive"},"request_id":"req_up"}"#;
    let (gateway, _bad, good) = failing_first(whole(400, "application/json", body), "").await;
    let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ASK_WHOLE)).await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (400, body));
    assert!(good.seen().is_empty(), "a bad request is not tried elsewhere");
    let _ = anthropic::ASK;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_are_limited_the_client_learns_when_to_come_back() {
    let limited = with_headers(
        429,
        &[("retry-after", "7"), ("content-type", "application/json")],
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"org org-secret-name is limited"}}"#,
    );
    let (a, b) = (Upstream::always(limited.clone()).await, Upstream::always(limited).await);
    let accounts = [account("account-a", "anthropic", &a.url(), ""), account("account-b", "anthropic", &b.url(), "")];
    let gateway = Gateway::start(&accounts, "").await;
    let reply = client::h1(gateway.address, &Ask::post(MESSAGES, ASK_WHOLE)).await.unwrap();
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 6);
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
    for secret in ["account-a", "account-b", "org-secret-name", "sk-upstream"] {
        assert!(!reply.text().contains(secret), "{secret} was shown: {}", reply.text());
    }
    // While both are cooling, nobody is asked again.
    let again = client::h1(gateway.address, &Ask::post(MESSAGES, ASK_WHOLE)).await.unwrap();
    assert!(matches!(again.status, 429 | 503), "{}", again.text());
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_a_wrong_label_and_a_length_does_not_end_cleanly_when_it_is_cut() {
    let begun = anthropic::preamble("m") + &anthropic::delta("Hel");
    let upstream = Upstream::always(whole(200, "application/json", &begun)).await;
    let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
    let streamed = client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap();
    assert!(streamed.complete && streamed.text().starts_with(&begun), "{}", streamed.text());
    assert!(streamed.text()[begun.len()..].starts_with("event: error\n"), "{}", streamed.text());
    // Nobody expected a stream here, and its length has been told already.
    // No reply at all is as clear an answer as a broken one.
    if let Ok(whole) = client::h1(gateway.address, &Ask::post(MESSAGES, ASK_WHOLE)).await {
        assert!(!whole.complete || whole.status == 502, "{} {}", whole.status, whole.text());
    }
}
