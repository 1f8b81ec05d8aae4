//! A panic in the midst of a request takes that request down, and nothing else: what it held is given back.
//!
//! No hook in the gateway is needed for it: the test's own logger panics at certain lines, which are written inside filters.

use crate::{
    client,
    client_h2::H2,
    failover::good,
    formats::{
        Format::Chat,
        Mode::{Stream, Whole},
    },
    gateway::{Gateway, account},
    log,
    upstream::{Act, Upstream, chunk, end, stream_head, whole, with_headers},
};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// Lines at which the logger panics.
const BOMBS: [&str; 4] = [
    // While a failed attempt is booked, in a body filter and where there is no body.
    "account bomb-failed: cooling",
    "account bomb-header: cooling",
    // While the first content is booked, with the answer half on its way.
    "account bomb-ready: ready",
    // At the very end, in place of the access line.
    "\"account\":\"bomb-end\"",
];

/// How many went off.
static PANICS: AtomicU32 = AtomicU32::new(0);

/// Panics at such a line.
pub(crate) fn blow(line: &str) {
    assert!(!BOMBS.iter().any(|bomb| line.contains(bomb)), "a bomb of the test");
}

fn arm() {
    log::keep();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let told = info.payload();
        let words = told.downcast_ref::<&str>().copied().or(told.downcast_ref::<String>().map(String::as_str));
        if words.is_some_and(|words| words.contains("a bomb of the test")) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        } else {
            usual(info);
        }
    }));
}

/// A short stream.
fn streamed(pause: Duration) -> Vec<Act> {
    let event = |text: &str, finish: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let last = event("", "\"stop\"") + "data: [DONE]\n\n";
    vec![stream_head(), chunk(event("one", "null")), Act::Sleep(pause), chunk(last), end()]
}

/// What may take long, but not for ever.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(5), what).await.expect("a client is kept waiting")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_gives_everything_back_and_harms_nobody_else() {
    arm();
    let limited =
        || whole(429, "application/json", r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#);
    let failed = Upstream::always(limited()).await;
    let header = Upstream::always(with_headers(429, &[], "")).await;
    // Three faults open the breaker without a bomb; the answer after them closes it with one.
    let ready = Upstream::start(|n, _| if n < 3 { whole(500, "application/json", "{}") } else { good(Chat) }).await;
    let at_end = Upstream::always(good(Chat)).await;
    let well = Upstream::always(streamed(Duration::from_millis(250))).await;
    let bad = [("bomb-failed", &failed), ("bomb-header", &header), ("bomb-ready", &ready), ("bomb-end", &at_end)];
    let mut accounts: Vec<String> = bad
        .iter()
        .map(|(name, upstream)| {
            let more = format!("models: [{name}], limits: {{ concurrency: 1 }}");
            account(name, "openai", &Chat.base(&upstream.url()), &more)
        })
        .collect();
    accounts.push(account("well", "openai", &Chat.base(&well.url()), "models: [well]"));
    let gateway = Gateway::start(&accounts, "cooldown: { base: 20ms, max: 20ms }\n").await;
    let connection = H2::open(gateway.address).await.unwrap();
    for (name, upstream) in bad {
        for over_h2 in [false, true] {
            if name == "bomb-ready" && over_h2 {
                // It is well since it blew up.
                continue;
            }
            while name == "bomb-ready" && upstream.seen().len() < 3 {
                soon(client::h1(gateway.address, &Chat.ask(Whole, name, "hi"))).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
            // Somebody else on the same connection, who must not notice.
            let beside = connection.send(&Chat.ask(Stream, "well", "hi")).await.unwrap();
            let (asked, panics) = (upstream.seen().len(), PANICS.load(Ordering::SeqCst));
            let ask = Chat.ask(Whole, name, "hi");
            let reply = if over_h2 {
                let sent = connection.send(&ask).await.unwrap();
                soon(async { Ok(sent.arrives().await?.finish().await) }).await
            } else {
                soon(client::h1(gateway.address, &ask)).await
            };
            let name = format!("{name}, h2 {over_h2}");
            assert_eq!(upstream.seen().len(), asked + 1, "{name}");
            // At the end, the answer has gone out already; before it, nobody gets half of one for whole.
            let is_answered = reply.as_ref().is_ok_and(|reply| reply.status == 200 && reply.complete);
            assert!(is_answered == name.starts_with("bomb-end"), "{name}: {reply:?}");
            assert_eq!(gateway.left_over().await.iter().filter(|left| left.contains("bomb")).count(), 0, "{name}");
            assert_eq!(PANICS.load(Ordering::SeqCst), panics + 1, "{name}: the bomb went off");
            let beside = soon(async { beside.arrives().await.unwrap().finish().await }).await;
            assert!(beside.complete && beside.text().contains("[DONE]"), "{name}: somebody else was harmed");
        }
    }
    drop(connection);
    assert_eq!(gateway.left_over().await, [""; 0]);
}
