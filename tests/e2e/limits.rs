//! The places of an account and the line for them: never too many, first come first served, and nobody waits for ever.

use crate::{
    client::{self, Ask, Connection, Reply},
    client_h2::H2,
    failover::good,
    formats::{
        FORMATS,
        Format::{self, Anthropic, Chat, Gemini, Responses},
        Mode::{self, Stream, Whole},
    },
    gateway::{Gateway, account, free_port},
    upstream::{Act, Seen, Upstream, chunk, end, stream_head, whole},
};
use std::time::Duration;
use sub2api::error::Reason::Unavailable;
use tokio::{task::JoinSet, time::Instant};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A good answer after a while.
fn after(time: Duration, format: Format) -> Vec<Act> {
    [vec![Act::Sleep(time)], good(format)].concat()
}

/// What was asked, in the order of arrival.
fn prompts(seen: &[Seen]) -> Vec<usize> {
    let number = |seen: &Seen| {
        let text = String::from_utf8_lossy(&seen.body).into_owned();
        let (_, rest) = text.split_once("turn-")?;
        rest.split('.').next()?.parse().ok()
    };
    seen.iter().map(|seen| number(seen).unwrap()).collect()
}

/// Sends this many requests, one every few milliseconds, all at the same time in flight.
async fn crowd(gateway: &Gateway, format: Format, mode: Mode, count: usize, apart: Duration) -> Vec<Reply> {
    let mut running = JoinSet::new();
    for n in 0..count {
        let (address, ask) = (gateway.address, format.ask(mode, "m", &format!("turn-{n}.")));
        running.spawn(async move {
            tokio::time::sleep(apart * u32::try_from(n).unwrap()).await;
            // Half of them over each protocol.
            let reply = if n % 2 == 0 { client::h1(address, &ask).await } else { client::h2(address, &ask).await };
            (n, reply.unwrap())
        });
    }
    let mut replies = running.join_all().await;
    replies.sort_by_key(|(n, _)| *n);
    replies.into_iter().map(|(_, reply)| reply).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_never_has_more_requests_than_its_limit_and_who_came_first_is_served_first() {
    let upstream = Upstream::always(after(millis(150), Chat)).await;
    let accounts = [account("only", "openai", &Chat.base(&upstream.url()), "limits: { concurrency: 3 }")];
    let gateway = Gateway::start(&accounts, "").await;
    let started = Instant::now();
    let replies = crowd(&gateway, Chat, Whole, 24, millis(20)).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(upstream.most_at_once(), 3, "all places are used, and no more");
    assert!(started.elapsed() >= millis(8 * 150), "{:?}", started.elapsed());
    let order = prompts(&upstream.seen());
    assert_eq!(order.len(), 24);
    // Three are served at the same time, so neighbours may arrive at the upstream in either order.
    for (place, n) in order.iter().enumerate() {
        assert!(place.abs_diff(*n) <= 2, "number {n} was served as the {place}th: {order:?}");
    }
    assert_eq!(gateway.left_over().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_its_place_to_its_end() {
    let mut acts = vec![stream_head(), chunk(crate::anthropic::preamble("m") + &crate::anthropic::delta("x"))];
    acts.extend([Act::Sleep(millis(250)), chunk(crate::anthropic::ending()), end()]);
    let upstream = Upstream::always(acts).await;
    let accounts = [account("only", "anthropic", &upstream.url(), "limits: { concurrency: 2 }")];
    let gateway = Gateway::start(&accounts, "").await;
    let replies = crowd(&gateway, Anthropic, Stream, 8, millis(0)).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.text().contains("message_stop")));
    assert_eq!(upstream.most_at_once(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_while_requests_fail_over() {
    let failing = || [vec![Act::Sleep(millis(30))], whole(500, "application/json", "{}")].concat();
    let (a, b) = (Upstream::always(failing()).await, Upstream::always(after(millis(40), Chat)).await);
    let accounts = [
        account("a", "openai", &Chat.base(&a.url()), "priority: 1, limits: { concurrency: 4 }"),
        account("b", "openai", &Chat.base(&b.url()), "priority: 2, limits: { concurrency: 3 }"),
    ];
    let gateway = Gateway::start(&accounts, "cooldown: { base: 1ms, max: 1ms }\n").await;
    let replies = crowd(&gateway, Chat, Whole, 40, millis(1)).await;
    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{:?}",
        replies.iter().map(|r| r.status).collect::<Vec<_>>()
    );
    assert!(a.most_at_once() <= 4 && b.most_at_once() == 3, "{} and {}", a.most_at_once(), b.most_at_once());
    let mut served = prompts(&b.seen());
    served.sort_unstable();
    assert_eq!(served, (0..40).collect::<Vec<_>>(), "each once");
    assert_eq!(gateway.left_over().await, [""; 0]);
}

/// A gateway whose only places, one for each format's account, are taken for a while.
async fn full(more: &str) -> (Gateway, Upstream, JoinSet<Reply>) {
    let upstream = Upstream::start(|_, seen| {
        let format = if seen.path().contains("messages") {
            Anthropic
        } else if seen.path().contains("Content") {
            Gemini
        } else if seen.path().contains("responses") {
            Responses
        } else {
            Chat
        };
        after(millis(900), format)
    })
    .await;
    let accounts = [Chat, Anthropic, Gemini].map(|format| {
        account(format.provider(), format.provider(), &format.base(&upstream.url()), "limits: { concurrency: 1 }")
    });
    let gateway = Gateway::start(&accounts, more).await;
    let mut first = JoinSet::new();
    for format in [Chat, Anthropic, Gemini] {
        let address = gateway.address;
        first.spawn(async move { client::h1(address, &format.ask(Whole, "m", "turn-0.")).await.unwrap() });
    }
    while upstream.seen().len() < 3 {
        tokio::time::sleep(millis(5)).await;
    }
    (gateway, upstream, first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_in_the_callers_format() {
    let (gateway, upstream, first) = full("queue: { length: 0, timeout: 20s }\n").await;
    for format in FORMATS {
        for mode in [Whole, Stream] {
            let started = Instant::now();
            let reply = client::h1(gateway.address, &format.ask(mode, "m", "turn-1.")).await.unwrap();
            format.check_refusal(&reply, Unavailable).unwrap();
            assert_eq!(reply.header("retry-after"), Some("1"), "{format:?}");
            assert!(started.elapsed() < millis(600), "{format:?}: {:?}", started.elapsed());
        }
    }
    assert!(first.join_all().await.iter().all(|reply| reply.status == 200));
    assert_eq!(upstream.seen().len(), 3);
    assert_eq!(gateway.left_over().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_takes_as_many_as_it_is_long() {
    let admin = format!("127.0.0.1:{}", free_port());
    let more =
        format!("queue: {{ length: 2, timeout: 20s }}\nadmin: {{ listen: \"{admin}\", key: sk-admin-of-tests }}\n");
    let (gateway, upstream, first) = full(&more).await;
    let mut waiting = JoinSet::new();
    for n in 1..=2 {
        let (address, ask) = (gateway.address, Chat.ask(Whole, "m", &format!("turn-{n}.")));
        waiting.spawn(async move { client::h1(address, &ask).await.unwrap() });
        tokio::time::sleep(millis(60)).await;
    }
    // The queue is the gateway's, whichever account one waits for.
    for format in FORMATS {
        let reply = client::h2(gateway.address, &format.ask(Whole, "m", "turn-9.")).await.unwrap();
        format.check_refusal(&reply, Unavailable).unwrap();
    }
    let served = [first.join_all().await, waiting.join_all().await].concat();
    assert!(served.iter().all(|reply| reply.status == 200));
    assert_eq!(upstream.seen().len(), 5);
    assert_eq!(gateway.left_over().await, [""; 0]);
    // Two joined the line, as the first and the second in it; one waited for about 0.8 seconds, the other for 0.9 more.
    let metrics = Ask::get("/metrics").header("authorization", "Bearer sk-admin-of-tests");
    let metrics = client::h1(admin.parse().unwrap(), &metrics).await.unwrap().text();
    for line in [
        "sub2api_queue_position_bucket{le=\"1\"} 1",
        "sub2api_queue_position_bucket{le=\"2\"} 2",
        "sub2api_queue_position_sum 3.0",
        "sub2api_queue_wait_seconds_bucket{le=\"0.1\"} 0",
        "sub2api_queue_wait_seconds_bucket{le=\"10\"} 2",
    ] {
        assert!(metrics.lines().any(|there| there == line), "no {line} in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_too_long_is_told_to_come_back() {
    let (gateway, upstream, first) = full("queue: { timeout: 300ms }\n").await;
    let mut waiting = JoinSet::new();
    for format in FORMATS {
        let address = gateway.address;
        waiting.spawn(async move {
            let started = Instant::now();
            let reply = client::h1(address, &format.ask(Stream, "m", "turn-1.")).await.unwrap();
            format.check_refusal(&reply, Unavailable).unwrap();
            assert_eq!(reply.header("retry-after"), Some("1"), "{format:?}");
            assert!(started.elapsed() >= millis(290) && started.elapsed() < millis(900), "{:?}", started.elapsed());
        });
    }
    waiting.join_all().await;
    assert!(first.join_all().await.iter().all(|reply| reply.status == 200));
    assert_eq!(upstream.seen().len(), 3);
    assert_eq!(gateway.left_over().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_line_leaves_its_place_to_the_next() {
    let (gateway, upstream, first) = full("").await;
    let ask = |n: usize| Chat.ask(Whole, "m", &format!("turn-{n}."));
    let mut leaving = Vec::new();
    for n in 1..=3 {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(&ask(n)).await.unwrap();
        leaving.push(connection);
    }
    let over_h2 = H2::open(gateway.address).await.unwrap();
    let leaving_h2 = over_h2.send(&ask(4)).await.unwrap();
    tokio::time::sleep(millis(150)).await;
    assert_eq!(gateway.live().snapshot().pool.waiting(), 4);
    let staying = {
        let (address, ask) = (gateway.address, ask(5));
        tokio::spawn(async move { client::h1(address, &ask).await.unwrap() })
    };
    tokio::time::sleep(millis(100)).await;
    drop((leaving, leaving_h2));
    let left = Instant::now();
    while gateway.live().snapshot().pool.waiting() > 1 && left.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(millis(5)).await;
    }
    assert!(left.elapsed() < millis(500), "{:?}: {} wait", left.elapsed(), gateway.live().snapshot().pool.waiting());
    assert!(first.join_all().await.iter().all(|reply| reply.status == 200));
    assert_eq!(staying.await.unwrap().status, 200);
    let asked: Vec<usize> = prompts(&upstream.seen()).into_iter().filter(|n| *n > 0).collect();
    assert_eq!(asked, [5], "those who left were not asked for");
    assert_eq!(gateway.left_over().await, [""; 0]);
}

/// Two accounts of which the first fails at once, and the second has its only place taken for two seconds.
async fn second_is_busy(first: &str, more: &str) -> (Gateway, Upstream, tokio::task::JoinHandle<Reply>) {
    let broken = Upstream::always(whole(500, "application/json", "{}")).await;
    let busy = Upstream::always(after(millis(2000), Chat)).await;
    let accounts = [
        account("broken", "openai", &Chat.base(&broken.url()), &format!("priority: 1, models: [m]{first}")),
        account("busy", "openai", &Chat.base(&busy.url()), "priority: 2, limits: { concurrency: 1 }"),
    ];
    let gateway = Gateway::start(&accounts, more).await;
    let (address, ask) = (gateway.address, Chat.ask(Whole, "other", "turn-0."));
    let first = tokio::spawn(async move { client::h1(address, &ask).await.unwrap() });
    while busy.seen().is_empty() {
        tokio::time::sleep(millis(5)).await;
    }
    (gateway, busy, first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_waiting_for_a_second_account_leaves_the_line() {
    let (gateway, busy, first) = second_is_busy("", "").await;
    let ask = Chat.ask(Whole, "m", "turn-1.");
    let mut over_h1 = Connection::open(gateway.address).await.unwrap();
    over_h1.send(&ask).await.unwrap();
    let connection = H2::open(gateway.address).await.unwrap();
    let over_h2 = connection.send(&ask).await.unwrap();
    let waiting = || gateway.live().snapshot().pool.waiting();
    let asked = Instant::now();
    while waiting() < 2 && asked.elapsed() < millis(1500) {
        tokio::time::sleep(millis(5)).await;
    }
    assert_eq!(waiting(), 2);
    drop((over_h1, over_h2));
    let left = Instant::now();
    while waiting() > 0 && left.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(millis(5)).await;
    }
    assert!(left.elapsed() < millis(500), "{:?}", left.elapsed());
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(gateway.left_over().await, [""; 0]);
    assert_eq!(busy.seen().len(), 1, "nobody was asked for those who had left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_for_attempts_holds_while_waiting_as_well() {
    for (first, more) in [("", "failover: { within: 400ms }\n"), (", timeouts: { total: 500ms }", "")] {
        let (gateway, busy, first) = second_is_busy(first, more).await;
        let started = Instant::now();
        let reply = client::h1(gateway.address, &Chat.ask(Whole, "m", "turn-1.")).await.unwrap();
        assert!(matches!(reply.status, 502 | 503), "{more}: {}", reply.text());
        assert!(started.elapsed() >= millis(300), "{more}: {:?}", started.elapsed());
        assert!(started.elapsed() < millis(1300), "{more}: {:?}", started.elapsed());
        assert_eq!(busy.seen().len(), 1, "{more}");
        first.await.unwrap();
        assert_eq!(gateway.left_over().await, [""; 0], "{more}");
    }
}
