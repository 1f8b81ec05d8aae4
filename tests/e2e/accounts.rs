//! Accounts that look after themselves, seen from outside: limits that are told and configured, conversations, recovery.

use crate::{
    client::{self, Ask, Reply},
    failover::{Two, good},
    formats::{
        Format::{self, Anthropic, Chat, Responses},
        Mode::Whole,
    },
    gateway::{Gateway, account},
    upstream::{Act, Upstream, with_headers},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use sub2api::account::health::State;
use tokio::time::Instant;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn ask(gateway: &Gateway, format: Format, prompt: &str) -> Reply {
    client::h1(gateway.address, &format.ask(Whole, "m", prompt)).await.unwrap()
}

/// An upstream with five requests in a window of two seconds, which tells what is left and counts what it has to refuse.
async fn five_in_two_seconds(format: Format, refused: Arc<AtomicU32>) -> Upstream {
    let window: Mutex<Option<(Instant, u32)>> = Mutex::default();
    let Act::Send(body) = &good(format)[0] else { unreachable!() };
    let body = String::from_utf8_lossy(body).split_once("\r\n\r\n").unwrap().1.to_owned();
    Upstream::start(move |_, _| {
        let (now, length) = (Instant::now(), Duration::from_secs(2));
        let mut window = window.lock().unwrap();
        let (end, left) = window.filter(|(end, _)| now < *end).unwrap_or((now + length, 6));
        *window = Some((end, left.saturating_sub(1)));
        let reset = format!("{}ms", (end - now).as_millis() + 1);
        if left == 0 {
            refused.fetch_add(1, Ordering::Relaxed);
            return with_headers(429, &[JSON, ("retry-after", "2")], "{}");
        }
        let left = (left - 1).to_string();
        let told = [
            JSON,
            ("x-ratelimit-limit-requests", "6"),
            ("x-ratelimit-remaining-requests", &left),
            ("x-ratelimit-reset-requests", &reset),
        ];
        with_headers(200, &told, &body)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_says_five_requests_left_is_avoided_before_it_answers_429_and_used_again_after_its_reset() {
    let refused = Arc::new(AtomicU32::new(0));
    let (first, second) = (five_in_two_seconds(Chat, refused.clone()).await, Upstream::always(good(Chat)).await);
    let accounts = [
        account("first", "openai", &Chat.base(&first.url()), "priority: 1"),
        account("second", "openai", &Chat.base(&second.url()), "priority: 2"),
    ];
    let gateway = Gateway::start(&accounts, "").await;
    let started = Instant::now();
    let mut asked = 0;
    while started.elapsed() < Duration::from_secs(5) {
        asked += 1;
        assert_eq!(ask(&gateway, Chat, &format!("question {asked}")).await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refused.load(Ordering::Relaxed), 0, "of {asked} requests none had to be refused");
    // Six in the first window, and as many in at least one later.
    assert!((12..=24).contains(&first.seen().len()), "{} of {asked}", first.seen().len());
    assert_eq!(first.seen().len() + second.seen().len(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_asks_for_two_seconds_gets_them_and_one_without_quota_more() {
    let short = || with_headers(429, &[JSON, ("retry-after", "2")], "{}");
    let told = Two::start(Chat, "", move |n| (n == 0).then(short)).await;
    let quota =
        r#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let empty = move || with_headers(429, &[JSON], quota);
    let spent = Two::start(Chat, "", move |n| (n == 0).then(empty)).await;
    assert_eq!(ask(&spent.gateway, Chat, "first").await.status, 200);
    assert_eq!(ask(&told.gateway, Chat, "first").await.status, 200);
    let started = Instant::now();
    assert!(matches!(told.state(), State::Cooling { .. }), "{:?}", told.state());
    let mut back = None;
    while started.elapsed() < Duration::from_secs(4) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let prompt = format!("after {:?}", started.elapsed());
        assert_eq!(ask(&told.gateway, Chat, &prompt).await.status, 200);
        assert_eq!(ask(&spent.gateway, Chat, &prompt).await.status, 200);
        back = back.or_else(|| (told.first.seen().len() > 1).then(|| started.elapsed()));
    }
    let back = back.expect("the first account is used again");
    // The clock starts a little after the pause does.
    assert!(back >= Duration::from_millis(1_900) && back <= Duration::from_secs(3), "{back:?}");
    assert_eq!(told.state(), State::Ready);
    assert_eq!(spent.first.seen().len(), 1, "an empty purse is not filled by waiting two seconds");
    assert!(matches!(spent.state(), State::Exhausted { .. }));
}

/// A conversation's n-th turn, the whole of it as clients send it.
fn turn(format: Format, n: usize) -> Ask {
    let mut messages = Vec::new();
    for at in 0..n {
        messages.push(format!(r#"{{"role":"user","content":"question {at}"}}"#));
        messages.push(format!(r#"{{"role":"assistant","content":"answer {at}"}}"#));
    }
    messages.push(format!(r#"{{"role":"user","content":"question {n}"}}"#));
    let list = messages.join(",");
    match format {
        Anthropic => Ask::post(
            "/v1/messages",
            format!(r#"{{"model":"m","max_tokens":100,"system":"be brief","messages":[{list}]}}"#),
        ),
        Responses => {
            Ask::post("/v1/responses", format!(r#"{{"model":"m","prompt_cache_key":"s-1","input":[{list}]}}"#))
        }
        _ => Ask::post(
            "/v1/chat/completions",
            format!(r#"{{"model":"m","messages":[{{"role":"system","content":"be brief"}},{list}]}}"#),
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_of_ten_turns_stays_on_one_account_and_moves_without_an_error_when_that_is_cut_off() {
    for format in [Anthropic, Chat, Responses] {
        let cut: Vec<Arc<AtomicBool>> = (0..4).map(|_| Arc::default()).collect();
        let mut upstreams = Vec::new();
        for cut in &cut {
            let cut = cut.clone();
            upstreams.push(
                Upstream::start(move |_, _| if cut.load(Ordering::SeqCst) { vec![Act::Reset] } else { good(format) })
                    .await,
            );
        }
        let accounts: Vec<_> = upstreams
            .iter()
            .enumerate()
            .map(|(at, upstream)| account(&format!("a{at}"), format.provider(), &format.base(&upstream.url()), ""))
            .collect();
        let gateway = Gateway::start(&accounts, "").await;
        let mut served = Vec::new();
        for n in 0..10 {
            let before: Vec<_> = upstreams.iter().map(|upstream| upstream.seen().len()).collect();
            assert_eq!(client::h1(gateway.address, &turn(format, n)).await.unwrap().status, 200, "{format:?} {n}");
            let now: Vec<_> = upstreams.iter().map(|upstream| upstream.seen().len()).collect();
            let mut asked = (0..4).filter(|at| now[*at] > before[*at] && !cut[*at].load(Ordering::SeqCst));
            served.push(asked.next_back().expect("somebody answered"));
            if n == 4 {
                cut[served[0]].store(true, Ordering::SeqCst);
            }
        }
        assert!(served[..5].iter().all(|at| *at == served[0]), "{format:?}: {served:?}");
        assert!(served[5..].iter().all(|at| *at == served[5] && *at != served[0]), "{format:?}: {served:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_continues_a_response_goes_to_the_account_that_made_it_or_is_refused_with_the_reason() {
    let limited = Arc::new(AtomicBool::new(false));
    let mut upstreams = Vec::new();
    for at in 0..3 {
        let limited = limited.clone();
        upstreams.push(
            Upstream::start(move |_, _| {
                if limited.load(Ordering::SeqCst) {
                    return with_headers(429, &[JSON, ("retry-after", "60")], "{}");
                }
                let body = format!(
                    r#"{{"id":"resp_{at}","object":"response","status":"completed","output":[{{"type":"message","role":"assistant","content":[{{"type":"output_text","text":"ok"}}]}}]}}"#
                );
                with_headers(200, &[JSON], body)
            })
            .await,
        );
    }
    let accounts: Vec<_> = upstreams
        .iter()
        .enumerate()
        .map(|(at, upstream)| account(&format!("a{at}"), "openai", &Responses.base(&upstream.url()), ""))
        .collect();
    let gateway = Gateway::start(&accounts, "").await;
    let first = ask(&gateway, Responses, "begin").await;
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let home: usize = id.strip_prefix("resp_").unwrap().parse().unwrap();
    let next = |n: usize| {
        Ask::post("/v1/responses", format!(r#"{{"model":"m","previous_response_id":"{id}","input":"and {n}?"}}"#))
    };
    for n in 0..10 {
        let reply = client::h1(gateway.address, &next(n)).await.unwrap();
        assert_eq!((reply.status, reply.json()["id"].as_str()), (200, Some(id.as_str())), "{n}");
    }
    assert_eq!(upstreams[home].seen().len(), 11);
    limited.store(true, Ordering::SeqCst);
    assert_eq!(client::h1(gateway.address, &next(10)).await.unwrap().status, 429);
    limited.store(false, Ordering::SeqCst);
    let refused = client::h1(gateway.address, &next(11)).await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("previous_response_id"), "{}", refused.text());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(upstreams.iter().map(|upstream| upstream.seen().len()).sum::<usize>(), 12, "nobody else was asked");
    assert_eq!(ask(&gateway, Responses, "another").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_limits_and_quotas_of_an_account_are_kept() {
    for limit in ["limits: { rpm: 3 }", "quotas: [ { window: day, requests: 3 } ]"] {
        let (first, second) = (Upstream::always(good(Chat)).await, Upstream::always(good(Chat)).await);
        let accounts = [
            account("first", "openai", &Chat.base(&first.url()), &format!("priority: 1, {limit}")),
            account("second", "openai", &Chat.base(&second.url()), "priority: 2, limits: { rpm: 4 }"),
        ];
        let gateway = Gateway::start(&accounts, "").await;
        for n in 0..7 {
            assert_eq!(ask(&gateway, Chat, &format!("question {n}")).await.status, 200, "{limit}: {n}");
        }
        assert_eq!((first.seen().len(), second.seen().len()), (3, 4), "{limit}");
        let refused = ask(&gateway, Chat, "one more").await;
        assert_eq!(refused.status, 503, "{limit}");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{limit}: {wait}");
        assert_eq!(gateway.left_over().await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_a_provider_for_its_models_never_harms_an_account() {
    for status in [401, 404, 429, 500] {
        let upstream = Upstream::start(move |_, seen| match seen.path().contains("/models") {
            true => with_headers(status, &[JSON, ("retry-after", "600")], "{}"),
            false => good(Chat),
        })
        .await;
        let gateway = Gateway::start(&[account("only", "openai", &Chat.base(&upstream.url()), "")], "").await;
        for _ in 0..3 {
            client::h1(gateway.address, &Ask::get("/v1/models")).await.unwrap();
        }
        assert!(upstream.seen().iter().any(|seen| seen.path().contains("/models")), "{status}: it was asked");
        let live = gateway.live();
        let state = live.snapshot().pool.accounts()[0].live.state(live.clock.now());
        assert_eq!(state, State::Ready, "{status}");
        assert_eq!(ask(&gateway, Chat, "question").await.status, 200, "{status}");
    }
}
