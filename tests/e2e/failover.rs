//! What a failure does to an account, seen from outside: when it is left alone, for how long, and when it is asked again.

use crate::{
    client::{self, Ask, Reply},
    formats::{
        FORMATS,
        Format::{self, Anthropic, Chat, Gemini, Responses},
        Mode::{Stream, Whole},
    },
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, stream, stream_head, whole, with_headers},
};
use std::{collections::HashSet, time::Duration};
use sub2api::{
    account::health::State,
    error::Reason::{LimitReached, Unavailable, UpstreamFailed},
};
use tokio::{task::JoinSet, time::Instant};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A good whole answer of each format.
pub(crate) fn good(format: Format) -> Vec<Act> {
    whole(200, "application/json", good_body(format))
}

fn good_body(format: Format) -> &'static str {
    match format {
        Chat => {
            r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#
        }
        Responses => {
            r#"{"id":"r","object":"response","status":"completed","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"ok"}]}]}"#
        }
        Anthropic => {
            r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn"}"#
        }
        Gemini => {
            r#"{"candidates":[{"content":{"parts":[{"text":"ok"}],"role":"model"},"finishReason":"STOP","index":0}]}"#
        }
    }
}

/// An error with these words in each format's shape.
fn failed(format: Format, status: u16, name: &str, message: &str) -> Vec<Act> {
    failed_with(format, status, name, message, &[])
}

fn failed_with(format: Format, status: u16, name: &str, message: &str, headers: &[(&str, &str)]) -> Vec<Act> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    with_headers(status, &all, failed_body(format, status, name, message))
}

fn failed_body(format: Format, status: u16, name: &str, message: &str) -> String {
    match format {
        Chat | Responses => {
            format!(r#"{{"error":{{"message":"{message}","type":"{name}","param":null,"code":"{name}"}}}}"#)
        }
        Anthropic => {
            format!(r#"{{"type":"error","error":{{"type":"{name}","message":"{message}"}},"request_id":"req_up"}}"#)
        }
        Gemini => format!(r#"{{"error":{{"code":{status},"message":"{message}","status":"{name}"}}}}"#),
    }
}

/// Two accounts: the first is asked first, the second answers whatever the first does not.
pub(crate) struct Two {
    pub(crate) gateway: Gateway,
    pub(crate) first: Upstream,
    pub(crate) second: Upstream,
    format: Format,
}

impl Two {
    /// The first account answers its n-th request by this script, and well once it says nothing more.
    pub(crate) async fn start(
        format: Format,
        more: &str,
        script: impl Fn(usize) -> Option<Vec<Act>> + Send + Sync + 'static,
    ) -> Two {
        let first = Upstream::start(move |n, _| script(n).unwrap_or_else(|| good(format))).await;
        let second = Upstream::always(good(format)).await;
        let accounts = [
            account("first", format.provider(), &format.base(&first.url()), "priority: 1"),
            account("second", format.provider(), &format.base(&second.url()), "priority: 2"),
        ];
        Two { gateway: Gateway::start(&accounts, more).await, first, second, format }
    }

    async fn ask(&self) -> Reply {
        self.send(&self.format.ask(Whole, "some-model", "hi")).await
    }

    async fn send(&self, ask: &Ask) -> Reply {
        client::h1(self.gateway.address, ask).await.unwrap()
    }

    /// How often each was asked.
    fn asked(&self) -> (usize, usize) {
        (self.first.seen().len(), self.second.seen().len())
    }

    /// Asks until the first account is asked for the `n`-th time, and tells how long that took.
    async fn until_first_is_asked(&self, n: usize, patience: Duration) -> Option<Duration> {
        let started = Instant::now();
        while started.elapsed() < patience {
            assert_eq!(self.ask().await.status, 200);
            if self.asked().0 >= n {
                return Some(started.elapsed());
            }
            tokio::time::sleep(millis(15)).await;
        }
        None
    }

    pub(crate) fn state(&self) -> State {
        let live = self.gateway.live();
        live.snapshot().pool.accounts()[0].live.state(live.clock.now())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_account_is_left_alone_until_the_time_that_was_told_and_asked_again_after_it() {
    const RETRY_INFO: &str = r#"{"error":{"code":429,"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"0.8s"}]}}"#;
    let limited = |format, name, headers: &[(&str, &str)]| failed_with(format, 429, name, "slow down", headers);
    let cases: Vec<(&str, Format, Vec<Act>, u64)> = vec![
        ("retry-after", Anthropic, limited(Anthropic, "rate_limit_error", &[("retry-after", "2")]), 2000),
        ("retry-after-ms", Chat, limited(Chat, "rate_limit_exceeded", &[("retry-after-ms", "700")]), 700),
        (
            "retry-after-ms beside a coarser retry-after",
            Responses,
            limited(Responses, "rate_limit_exceeded", &[("retry-after-ms", "700"), ("retry-after", "1")]),
            700,
        ),
        ("RetryInfo", Gemini, whole(429, "application/json", RETRY_INFO), 800),
        (
            "a window that is used up, among others that are not",
            Chat,
            limited(
                Chat,
                "rate_limit_exceeded",
                &[
                    ("x-ratelimit-remaining-requests", "100"),
                    ("x-ratelimit-reset-requests", "24h0m0s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "600ms"),
                ],
            ),
            600,
        ),
        ("words", Chat, failed(Chat, 429, "rate_limit_exceeded", "Please try again in 750ms."), 750),
        ("no time at all: the shortest rest", Chat, limited(Chat, "rate_limit_exceeded", &[]), 400),
        ("text only", Anthropic, with_headers(429, &[("retry-after-ms", "500")], "slow down"), 500),
    ];
    let mut running = JoinSet::new();
    for (name, format, acts, wait) in cases {
        running.spawn(async move {
            let more = "cooldown: { base: 400ms, max: 60s }\n";
            let two = Two::start(format, more, move |n| (n == 0).then(|| acts.clone())).await;
            let before = Instant::now();
            assert_eq!(two.ask().await.status, 200, "{name}");
            assert_eq!(two.asked(), (1, 1), "{name}");
            let back = two.until_first_is_asked(2, millis(wait) + Duration::from_secs(4)).await;
            let back = back.unwrap_or_else(|| panic!("{name}: never asked again"));
            // A guessed rest may be a tenth shorter. However slow the machine is, the rest lies between these two.
            let most = before.elapsed();
            assert!(most >= millis(wait * 9 / 10), "{name}: asked again after {most:?} of {wait} ms");
            assert!(back <= millis(wait + 1500), "{name}: asked again only after {back:?} of {wait} ms");
        });
    }
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn used_up_money_parks_an_account_for_as_long_as_the_settings_say() {
    let cases = [
        // The retry-after of an empty purse is no promise.
        (Chat, failed_with(Chat, 429, "insufficient_quota", "You exceeded your quota", &[])),
        (Anthropic, failed(Anthropic, 400, "invalid_request_error", "Your credit balance is too low to go on.")),
        (Gemini, failed(Gemini, 429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.")),
        (Chat, failed(Chat, 402, "billing", "Insufficient Balance")),
    ];
    let mut running = JoinSet::new();
    for (format, acts) in cases {
        running.spawn(async move {
            let more = "cooldown: { base: 10ms, max: 20ms, money: 1200ms }\n";
            let two = Two::start(format, more, move |n| (n == 0).then(|| acts.clone())).await;
            let before = Instant::now();
            assert_eq!(two.ask().await.status, 200);
            assert!(matches!(two.state(), State::Exhausted { .. }), "{format:?}: {:?}", two.state());
            let back = two.until_first_is_asked(2, Duration::from_secs(6)).await.unwrap();
            let most = before.elapsed();
            assert!(most >= millis(1000) && back <= millis(3000), "{format:?}: {back:?} to {most:?}");
        });
    }
    running.join_all().await;
}

/// Ten seconds pass between a refusal of a key and its confirmation, so all that need them run side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_is_suspended_by_a_second_refusal_and_not_by_a_first_one() {
    let refused = || failed(Chat, 401, "invalid_api_key", "Incorrect API key provided: sk-x.");
    let always = Two::start(Chat, "", move |_| Some(refused())).await;
    let once = Two::start(Chat, "", move |n| (n == 0).then(refused)).await;
    // A page of a proxy in the way says nothing about the key.
    let proxy =
        Two::start(Chat, "", |n| (n < 2).then(|| whole(401, "text/html", "<h1>Authorization Required</h1>"))).await;
    // Five at the same time are one sign.
    let burst =
        Two::start(Chat, "", move |n| (n < 5).then(|| [vec![Act::Sleep(millis(200))], refused()].concat())).await;
    for two in [&always, &once] {
        assert_eq!(two.ask().await.status, 200);
        assert!(matches!(two.state(), State::Cooling { .. }), "{:?}", two.state());
    }
    for n in 1..=2 {
        assert_eq!((proxy.ask().await.status, proxy.asked()), (200, (n, n)), "asked again at once");
    }
    let replies = tokio::join!(burst.ask(), burst.ask(), burst.ask(), burst.ask(), burst.ask());
    assert!([&replies.0, &replies.1, &replies.2, &replies.3, &replies.4].iter().all(|reply| reply.status == 200));
    assert_eq!(burst.asked(), (5, 5));
    assert!(matches!(burst.state(), State::Cooling { .. }), "{:?}", burst.state());
    let patience = Duration::from_secs(14);
    let (back, _, _) = tokio::join!(
        once.until_first_is_asked(2, patience),
        always.until_first_is_asked(2, patience),
        burst.until_first_is_asked(6, patience)
    );
    assert!(back.is_some_and(|back| back >= Duration::from_secs(9)), "{back:?}");
    assert_eq!((once.state(), burst.state()), (State::Ready, State::Ready), "a success clears the suspicion");
    assert_eq!(always.state(), State::Suspended);
    let asked = always.asked().0;
    for _ in 0..5 {
        assert_eq!(always.ask().await.status, 200);
    }
    assert_eq!(always.asked().0, asked, "a suspended account is asked by nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_tokens_never_harms_an_account() {
    let counts = [
        (Anthropic, "/v1/messages/count_tokens", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#),
        (Gemini, "/v1beta/models/m:countTokens", r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#),
    ];
    for (format, path, body) in counts {
        let failures = [
            failed(format, 404, "not_found_error", "no such model m"),
            failed(format, 429, "rate_limit_error", "slow down"),
            failed(format, 401, "authentication_error", "invalid x-api-key"),
            failed(format, 401, "authentication_error", "invalid x-api-key"),
            failed(format, 529, "overloaded_error", "Overloaded"),
            failed(format, 500, "api_error", "oops"),
            failed(format, 500, "api_error", "oops"),
            failed(format, 500, "api_error", "oops"),
            failed(format, 402, "billing_error", "pay"),
            vec![Act::Reset],
        ];
        let count = failures.len();
        let two = Two::start(format, "", move |n| failures.get(n).cloned()).await;
        for n in 0..count {
            two.send(&Ask::post(path, body)).await;
            assert_eq!(two.state(), State::Ready, "{path}: failure {n}");
        }
        let before = two.asked();
        assert_eq!(before.0, count, "{path}: asked every time");
        assert_eq!(two.ask().await.status, 200);
        assert_eq!(two.asked(), (before.0 + 1, before.1), "{path}: the first account still answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_own_faults_come_back_as_they_are_and_harm_nobody() {
    for (format, status, name) in [
        (Anthropic, 400, "invalid_request_error"),
        (Anthropic, 413, "request_too_large"),
        (Chat, 400, "invalid_request_error"),
        (Chat, 422, "invalid_request_error"),
        (Responses, 404, "invalid_request_error"),
        (Gemini, 400, "INVALID_ARGUMENT"),
    ] {
        let acts = failed_with(format, status, name, "field 7 is wrong", &[("retry-after", "30")]);
        let two = Two::start(format, "", move |_| Some(acts.clone())).await;
        for n in 1..=8 {
            let reply = two.ask().await;
            let body = failed_body(format, status, name, "field 7 is wrong");
            assert_eq!((reply.status, reply.text()), (status, body), "{format:?} {status}");
            assert_eq!(two.asked(), (n, 0), "{format:?} {status}");
        }
        assert_eq!(two.state(), State::Ready);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_one_account_lacks_is_asked_of_the_next_one() {
    let missing = |format| match format {
        Chat | Responses => failed(format, 404, "model_not_found", "The model `some-model` does not exist."),
        Anthropic => failed(format, 404, "not_found_error", "model: some-model"),
        Gemini => failed(format, 404, "NOT_FOUND", "models/some-model is not found for API version v1beta"),
    };
    for format in FORMATS {
        let two = Two::start(format, "", move |_| Some(missing(format))).await;
        for n in 1..=4 {
            assert_eq!(two.ask().await.status, 200, "{format:?}");
            assert_eq!(two.asked(), (n, n), "{format:?}: not having one model is no illness");
        }
        let upstream = Upstream::always(missing(format)).await;
        let accounts = [account("only", format.provider(), &format.base(&upstream.url()), "")];
        let gateway = Gateway::start(&accounts, "").await;
        let reply = client::h1(gateway.address, &format.ask(Whole, "some-model", "hi")).await.unwrap();
        assert_eq!(reply.status, 404, "{format:?}: {}", reply.text());
        assert!(reply.text().contains("some-model"), "{format:?}: the provider's own words: {}", reply.text());
    }
}

/// Streams that tell of an overload: before any content, and after it.
fn overload(format: Format) -> (Vec<Act>, Vec<Act>) {
    let (begin, error) = match format {
        Anthropic => (
            crate::anthropic::preamble("m") + &crate::anthropic::delta("Hello"),
            crate::anthropic::overloaded(),
        ),
        Gemini => (
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hello\"}]}}]}\r\n\r\n".to_owned(),
            "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n".to_owned(),
        ),
        Chat => (
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n".to_owned(),
            "data: {\"error\":{\"message\":\"The engine is currently overloaded\",\"type\":\"server_error\",\"param\":null,\"code\":\"server_overloaded\"}}\n\n".to_owned(),
        ),
        Responses => (
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\",\"sequence_number\":1}\n\n".to_owned(),
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_overloaded\",\"message\":\"overloaded\",\"param\":null,\"sequence_number\":2}\n\n".to_owned(),
        ),
    };
    (stream(&[&error]), stream(&[&begin, &error]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overload_inside_a_stream_spares_that_model_of_that_account_for_a_while() {
    let mut running = JoinSet::new();
    for format in FORMATS {
        for late in [false, true] {
            running.spawn(spared_after_overload(format, late));
        }
    }
    running.join_all().await;
}

async fn spared_after_overload(format: Format, late: bool) {
    let name = format!("{format:?}, late: {late}");
    let (early_error, late_error) = overload(format);
    let acts = if late { late_error } else { early_error };
    let two = Two::start(format, "cooldown: { base: 1200ms }\n", move |n| (n == 0).then(|| acts.clone())).await;
    let reply = two.send(&format.ask(Stream, "some-model", "hi")).await;
    assert_eq!(reply.status, 200, "{name}: {}", reply.text());
    assert_eq!(two.asked(), (1, usize::from(!late)), "{name}");
    assert_eq!(two.ask().await.status, 200);
    assert_eq!(two.asked().0, 1, "{name}: the model is spared");
    two.send(&format.ask(Whole, "other-model", "hi")).await;
    assert_eq!(two.asked().0, 2, "{name}: another model is not");
    let back = two.until_first_is_asked(3, Duration::from_secs(5)).await;
    assert!(back.is_some(), "{name}: asked again later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_faults_in_a_row_open_the_breaker_and_one_request_closes_it() {
    let broken = |n: usize| match n {
        0 => Some(whole(500, "application/json", "{}")),
        1 => Some(vec![Act::Reset]),
        2 => Some(vec![stream_head(), chunk("data: {"), Act::Close]),
        _ => None,
    };
    let two = Two::start(Chat, "cooldown: { base: 500ms }\n", broken).await;
    for n in 1..=3 {
        assert_eq!(two.ask().await.status, 200);
        assert_eq!(two.asked().0, n, "one fault is no reason to stay away");
    }
    assert!(matches!(two.state(), State::Cooling { .. }), "{:?}", two.state());
    assert_eq!(two.ask().await.status, 200);
    assert_eq!(two.asked().0, 3, "the breaker is open");
    assert!(two.until_first_is_asked(4, Duration::from_secs(4)).await.is_some());
    assert_eq!(two.state(), State::Ready);
    let (first, second) = two.asked();
    for _ in 0..4 {
        assert_eq!(two.ask().await.status, 200);
    }
    assert_eq!(two.asked(), (first + 4, second), "it serves again as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_error_shows_that_a_broken_server_is_there_again() {
    let script = |n: usize| match n {
        0..=2 => Some(whole(500, "application/json", "{}")),
        3 => Some(failed(Chat, 400, "invalid_request_error", "no")),
        _ => None,
    };
    let two = Two::start(Chat, "cooldown: { base: 300ms }\n", script).await;
    for _ in 0..3 {
        assert_eq!(two.ask().await.status, 200);
    }
    tokio::time::sleep(millis(350)).await;
    assert_eq!(two.state(), State::Probing);
    assert_eq!(two.ask().await.status, 400);
    assert_eq!(two.state(), State::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lower_priorities_are_asked_first_and_weights_share_the_rest() {
    let upstreams =
        [Upstream::always(good(Chat)).await, Upstream::always(good(Chat)).await, Upstream::always(good(Chat)).await];
    let base = |at: usize| Chat.base(&upstreams[at].url());
    let accounts = [
        account("later", "openai", &base(0), "priority: 5, weight: 100"),
        account("heavy", "openai", &base(1), "priority: 2, weight: 3"),
        account("light", "openai", &base(2), "priority: 2, weight: 1"),
    ];
    let gateway = Gateway::start(&accounts, "").await;
    let mut connection = client::Connection::open(gateway.address).await.unwrap();
    for n in 0..400 {
        // Each is a conversation of its own: one that goes on stays where it is.
        connection.send(&Chat.ask(Whole, "m", &format!("conversation {n}"))).await.unwrap();
        assert_eq!(connection.receive().await.unwrap().status, 200);
    }
    let counts = upstreams.each_ref().map(|upstream| upstream.seen().len());
    assert_eq!((counts[0], counts[1] + counts[2]), (0, 400));
    // 300 expected, with a standard deviation of 8.7: five of them.
    assert!((256..=344).contains(&counts[1]), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aliass_targets_are_tried_in_order_and_a_target_may_name_its_account() {
    let broken = || whole(500, "application/json", "{}");
    let (a, b, c) =
        (Upstream::always(broken()).await, Upstream::always(broken()).await, Upstream::always(good(Chat)).await);
    let accounts = [
        account("a", "openai", &Chat.base(&a.url()), "priority: 9"),
        account("b", "openai", &Chat.base(&b.url()), "priority: 5"),
        account("c", "openai", &Chat.base(&c.url()), "priority: 1"),
    ];
    let more = "models: [ { name: smart, targets: [ { account: a, model: one }, { account: b, model: two }, \
                { account: c, model: three } ] } ]\n";
    let gateway = Gateway::start(&accounts, more).await;
    let reply = client::h1(gateway.address, &Chat.ask(Whole, "smart", "hi")).await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, good_body(Chat)));
    for (upstream, model) in [(&a, "one"), (&b, "two"), (&c, "three")] {
        let seen = upstream.seen();
        assert_eq!(seen.len(), 1, "{model}");
        let mut body: serde_json::Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(body["model"], model);
        body["model"] = "smart".into();
        assert_eq!(body.to_string().as_bytes(), Chat.ask(Whole, "smart", "hi").body, "nothing else was changed");
    }
    let order = [&a, &b, &c].map(|upstream| upstream.seen()[0].began.unwrap());
    assert!(order.is_sorted(), "the alias' order goes before the accounts' priority");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_bounded_in_number() {
    let mut upstreams = Vec::new();
    for _ in 0..12 {
        upstreams.push(Upstream::always(whole(500, "application/json", "{}")).await);
    }
    let accounts: Vec<String> = upstreams
        .iter()
        .enumerate()
        .map(|(n, upstream)| account(&format!("a{n}"), "openai", &Chat.base(&upstream.url()), ""))
        .collect();
    for (more, most) in [("failover: { attempts: 3 }\n", 3), ("", 6), ("failover: { attempts: 1 }\n", 1)] {
        let before: usize = upstreams.iter().map(|upstream| upstream.seen().len()).sum();
        let gateway = Gateway::start(&accounts, more).await;
        let reply = client::h1(gateway.address, &Chat.ask(Whole, "m", "hi")).await.unwrap();
        Chat.check_refusal(&reply, UpstreamFailed).unwrap();
        assert!(reply.text().contains(&format!("{most} tried")), "{}", reply.text());
        let after: usize = upstreams.iter().map(|upstream| upstream.seen().len()).sum();
        assert_eq!(after - before, most, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_bounded_in_time() {
    let slow = || [vec![Act::Sleep(millis(400))], whole(500, "application/json", "{}")].concat();
    let mut upstreams = Vec::new();
    for _ in 0..5 {
        upstreams.push(Upstream::always(slow()).await);
    }
    let accounts: Vec<String> = upstreams
        .iter()
        .enumerate()
        .map(|(n, upstream)| account(&format!("a{n}"), "openai", &Chat.base(&upstream.url()), ""))
        .collect();
    let gateway = Gateway::start(&accounts, "failover: { attempts: 50, within: 600ms }\n").await;
    let started = Instant::now();
    let reply = client::h1(gateway.address, &Chat.ask(Whole, "m", "hi")).await.unwrap();
    Chat.check_refusal(&reply, UpstreamFailed).unwrap();
    let asked: usize = upstreams.iter().map(|upstream| upstream.seen().len()).sum();
    assert_eq!(asked, 2, "the second began after 400 ms, and a third would begin after 800 ms");
    assert!(started.elapsed() < millis(2000), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_account_is_not_asked_over_and_over() {
    // Accepts, reads and breaks off; and one where nobody listens.
    let reset = Upstream::always(vec![Act::Reset]).await;
    let nobody = format!("http://127.0.0.1:{}", crate::gateway::free_port());
    let more = "failover: { attempts: 100 }\ncooldown: { base: 1ms, max: 1ms }\n";
    for (name, url) in [("resets", reset.url()), ("refuses", nobody)] {
        let gateway = Gateway::start(&[account("only", "openai", &Chat.base(&url), "")], more).await;
        let started = Instant::now();
        let reply = client::h1(gateway.address, &Chat.ask(Whole, "m", "hi")).await.unwrap();
        Chat.check_refusal(&reply, UpstreamFailed).unwrap();
        assert!(reply.text().contains("1 tried"), "{name}: {}", reply.text());
        assert!(started.elapsed() < millis(1500), "{name}: {:?}", started.elapsed());
    }
    assert_eq!(reset.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_rest_of_the_only_account_is_waited_for_and_a_long_one_is_told() {
    let limited = |n: usize, wait: &'static str| {
        (n == 0).then(|| failed_with(Chat, 429, "rate_limit_exceeded", "slow down", &[("retry-after-ms", wait)]))
    };
    for (wait, waits) in [("600", true), ("9000", false)] {
        let upstream = Upstream::start(move |n, _| limited(n, wait).unwrap_or_else(|| good(Chat))).await;
        let gateway = Gateway::start(&[account("only", "openai", &Chat.base(&upstream.url()), "")], "").await;
        let ask = Chat.ask(Whole, "m", "hi");
        let first = client::h1(gateway.address, &ask).await.unwrap();
        Chat.check_refusal(&first, LimitReached).unwrap();
        let started = Instant::now();
        let second = client::h1(gateway.address, &ask).await.unwrap();
        if waits {
            assert_eq!(second.status, 200, "{}", second.text());
            assert!(started.elapsed() >= millis(400) && started.elapsed() < millis(2500), "{:?}", started.elapsed());
        } else {
            Chat.check_refusal(&second, Unavailable).unwrap();
            let told: u64 = second.header("retry-after").unwrap().parse().unwrap();
            assert!((8..=9).contains(&told) && started.elapsed() < millis(1000), "{told} {:?}", started.elapsed());
            assert_eq!(upstream.seen().len(), 1, "nobody is asked meanwhile");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_attempts_of_a_request_go_to_the_same_account() {
    let mut upstreams = Vec::new();
    for _ in 0..5 {
        upstreams.push(Upstream::always(failed(Anthropic, 529, "overloaded_error", "Overloaded")).await);
    }
    let accounts: Vec<String> = upstreams
        .iter()
        .enumerate()
        .map(|(n, upstream)| account(&format!("a{n}"), "anthropic", &upstream.url(), &format!("priority: {n}")))
        .collect();
    let gateway = Gateway::start(&accounts, "cooldown: { base: 1ms, max: 1ms }\n").await;
    let reply = client::h1(gateway.address, &Anthropic.ask(Stream, "m", "hi")).await.unwrap();
    Anthropic.check_refusal(&reply, Unavailable).unwrap();
    let ids: HashSet<String> = upstreams
        .iter()
        .map(|upstream| {
            let seen = upstream.seen();
            assert_eq!(seen.len(), 1);
            seen[0].header("x-request-id").unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 1, "all attempts carry the request's id");
}
