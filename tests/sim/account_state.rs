//! What users reported of other gateways about the state of accounts, line by line: none of it happens here.

use http::HeaderMap;
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use sub2api::{
    account::{
        Claim, Lease, Pool,
        pool::{Candidates, Demand, Unavailable},
    },
    clock::ManualClock,
    config::Config,
    provider::verdict::judge,
    wire::{
        Endpoint, WireFormat,
        conversation::{hash_of, joined},
        envelope::scan,
        tap::{Seen, UpstreamError},
    },
};

/// A pool under a clock of its own.
struct Bench {
    pool: Pool,
    clock: ManualClock,
}

impl Bench {
    /// `accounts` as in the file, one a line; `more` is what follows them.
    fn new(accounts: &[&str], more: &str) -> Bench {
        let list: String = accounts.iter().map(|account| format!("  - {{ {account} }}\n")).collect();
        let text = format!("auth: none\naccounts:\n{list}{more}");
        let config = Config::parse(&text, &|_| None).unwrap_or_else(|faults| panic!("{faults}")).config;
        let clock = ManualClock::new();
        Bench { pool: Pool::new(&config, None, clock.now()), clock }
    }

    /// Accounts at Anthropic that serve everything.
    fn claudes(names: &[&str]) -> Bench {
        let accounts: Vec<_> = names
            .iter()
            .map(|name| format!("name: {name}, provider: anthropic, credentials: {{ api_key: k }}"))
            .collect();
        Bench::new(&accounts.iter().map(String::as_str).collect::<Vec<_>>(), "")
    }

    fn candidates(&self, endpoint: &Endpoint) -> Arc<Candidates> {
        self.pool.candidates(&Demand { model: "m", endpoint })
    }

    fn lease(&self, tried: &[usize]) -> Result<Lease, Unavailable> {
        self.pool.lease(&self.candidates(&Endpoint::Messages), tried, 7, self.clock.now())
    }

    fn lease_for(&self, claim: Claim, tried: &[usize]) -> Result<Lease, Unavailable> {
        let now = self.clock.now();
        self.pool.line_up(&self.candidates(&Endpoint::Messages), tried, claim, now).lease(7, now)
    }

    /// Sends a request that gets this answer.
    fn answer(&self, status: u16, headers: &[(&'static str, &str)], error: Option<&UpstreamError>) {
        let lease = self.lease(&[]).unwrap();
        self.answer_to(&lease, status, headers, error);
    }

    fn answer_to(&self, lease: &Lease, status: u16, headers: &[(&'static str, &str)], error: Option<&UpstreamError>) {
        let mut map: HeaderMap =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        map.insert("content-type", "application/json".parse().unwrap());
        self.pool.report_headers(lease, &map, self.clock.now());
        let verdict = judge(status, &map, error, self.clock.now());
        self.pool.report_failure(lease, &verdict, self.clock.now());
    }

    fn state(&self, at: usize) -> &'static str {
        self.pool.accounts()[at].live.state(self.clock.now()).name()
    }

    /// How long until a request can be sent again.
    fn back_in(&self) -> f64 {
        match self.lease(&[]) {
            Ok(_) => 0.0,
            Err(Unavailable::Cooling { until: Some(until) }) => until.since(self.clock.now()).as_secs_f64(),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn pass(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
    }
}

fn error(code: &str, message: &str) -> UpstreamError {
    UpstreamError { code: code.into(), message: message.into(), ..UpstreamError::default() }
}

fn talk(conversation: u64) -> Claim {
    Claim { conversation: Some(conversation), ..Claim::default() }
}

#[test]
fn a_short_429_does_not_cool_the_account_for_its_longest_window() {
    let bench = Bench::claudes(&["a"]);
    let told = [
        ("retry-after", "2"),
        ("x-ratelimit-limit-requests", "1000"),
        ("x-ratelimit-remaining-requests", "400"),
        ("x-ratelimit-reset-requests", "24h0m0s"),
        ("anthropic-ratelimit-unified-status", "allowed"),
        ("anthropic-ratelimit-unified-7d-utilization", "0.9"),
        ("anthropic-ratelimit-unified-7d-reset", "99999999999"),
    ];
    bench.answer(429, &told, None);
    assert_eq!(bench.back_in(), 2.0);
    bench.pass(2.0);
    assert_eq!((bench.back_in(), bench.state(0)), (0.0, "ready"));
}

#[test]
fn a_gemini_429_without_a_readable_delay_is_not_a_park_until_midnight() {
    let bench = Bench::claudes(&["a"]);
    bench.answer(429, &[], Some(&error("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")));
    assert!(bench.back_in() <= 1.0, "{}", bench.back_in());
}

#[test]
fn retry_after_is_obeyed_however_it_is_written() {
    let gemini = br#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Please retry in 7.5s.",
        "details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7.5s"}]}}"#;
    let mut seen = Seen::default();
    WireFormat::Gemini.behaviour().read_reply(gemini, &mut seen);
    for (headers, body, expected) in [
        (vec![("retry-after", "3")], None, 3.0),
        (vec![("retry-after-ms", "1500")], None, 1.5),
        (vec![("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "4s")], None, 4.0),
        (vec![], seen.error.as_ref(), 7.5),
    ] {
        let bench = Bench::claudes(&["a"]);
        bench.answer(429, &headers, body);
        assert!((bench.back_in() - expected).abs() < 0.01, "{headers:?}: {}", bench.back_in());
    }
}

#[test]
fn cooling_again_never_keeps_the_shorter_deadline() {
    let bench = Bench::claudes(&["a"]);
    let leases = [bench.lease(&[]).unwrap(), bench.lease(&[]).unwrap()];
    bench.answer_to(&leases[0], 429, &[("retry-after", "60")], None);
    bench.pass(1.0);
    bench.answer_to(&leases[1], 429, &[("retry-after", "2")], None);
    assert_eq!(bench.back_in(), 59.0);
}

#[test]
fn a_failed_fallback_is_cooled_too() {
    let bench = Bench::claudes(&["a", "b"]);
    let first = bench.lease(&[]).unwrap();
    let tried = [first.index];
    bench.answer_to(&first, 429, &[("retry-after", "60")], None);
    let fallback = bench.lease(&tried).unwrap();
    bench.answer_to(&fallback, 429, &[("retry-after", "50")], None);
    assert_eq!(bench.back_in(), 50.0);
}

#[test]
fn one_401_or_403_is_no_permanent_error() {
    for (status, code) in [(401, "invalid_api_key"), (403, "invalid_api_key")] {
        let bench = Bench::claudes(&["a"]);
        bench.answer(status, &[], Some(&error(code, "Incorrect API key provided.")));
        assert_eq!(bench.state(0), "cooling", "{status}");
        bench.pass(10.0);
        let lease = bench.lease(&[]).unwrap();
        bench.pool.report_success(&lease, bench.clock.now());
        assert_eq!(bench.state(0), "ready", "{status}");
    }
}

#[test]
fn counting_tokens_puts_no_account_into_cooldown() {
    let bench = Bench::claudes(&["a"]);
    for status in [404, 401, 429, 500] {
        let counting = bench.candidates(&Endpoint::CountTokens);
        let lease = bench.pool.lease(&counting, &[], 7, bench.clock.now()).unwrap();
        bench.answer_to(&lease, status, &[("retry-after", "600")], None);
        assert_eq!((bench.state(0), bench.back_in()), ("ready", 0.0), "{status}");
    }
}

#[test]
fn an_account_that_failed_is_probed_and_comes_back_by_itself() {
    let bench = Bench::claudes(&["a"]);
    for _ in 0..3 {
        bench.answer(500, &[], None);
    }
    assert_eq!(bench.state(0), "cooling");
    bench.pass(1.0);
    let probe = bench.lease(&[]).unwrap();
    assert!(matches!(bench.lease(&[]), Err(Unavailable::Busy { .. })), "one live request at a time finds out");
    bench.pool.report_success(&probe, bench.clock.now());
    assert_eq!((bench.state(0), bench.lease(&[]).is_ok()), ("ready", true));
    let history: Vec<_> = bench.pool.accounts()[0].live.history().into_iter().map(|event| event.what).collect();
    assert_eq!(history.len(), 2, "{history:?}");
    assert!(history[0].starts_with("cooling for") && history[1] == "ready", "{history:?}");
}

#[test]
fn plain_clients_keep_their_account_though_their_messages_grow() {
    let bench = Bench::claudes(&["a", "b", "c", "d", "e"]);
    let mut turns = vec![r#"{"role":"user","content":"hello"}"#.to_owned()];
    let mut homes = HashSet::new();
    for turn in 0..10 {
        let body = format!(r#"{{"model":"m","system":"be brief","messages":[{}]}}"#, turns.join(","));
        let said = scan(&Endpoint::Messages, None, body.as_bytes()).unwrap().conversation;
        let lease = bench.lease_for(talk(joined(&[1, said.session.or(said.prefix).unwrap()])), &[]).unwrap();
        bench.pool.report_success(&lease, bench.clock.now());
        homes.insert(lease.index);
        turns.push(format!(r#"{{"role":"assistant","content":"answer {turn}"}}"#));
        turns.push(format!(r#"{{"role":"user","content":"question {turn}"}}"#));
    }
    assert_eq!(homes.len(), 1);
}

#[test]
fn encrypted_reasoning_and_earlier_responses_go_to_the_account_that_made_them() {
    let bench = Bench::claudes(&["a", "b", "c", "d"]);
    let made = bench.lease_for(talk(5), &[]).unwrap();
    let home = made.index;
    bench.pool.report_success(&made, bench.clock.now());
    bench.pool.remember_response(&made, hash_of(b"resp_1"), bench.clock.now());
    // Its account has far more to do than the others, and is preferred all the same.
    let _crowd: Vec<_> = (0..12).map(|_| bench.lease_for(Claim { is_bound: true, ..talk(5) }, &[]).unwrap()).collect();
    let others: Vec<_> = (0..4).filter(|at| *at != home).collect();
    for claim in [Claim { is_bound: true, ..talk(5) }, Claim { previous: Some(hash_of(b"resp_1")), ..Claim::default() }]
    {
        assert_eq!(bench.lease_for(claim, &[]).unwrap().index, home);
    }
    bench.answer_to(&made, 429, &[("retry-after", "30")], None);
    // Signed reasoning may well be read elsewhere; a response that only one account keeps may not.
    assert!(others.contains(&bench.lease_for(Claim { is_bound: true, ..talk(5) }, &[]).unwrap().index));
    let only = bench.lease_for(Claim { previous: Some(hash_of(b"resp_1")), ..Claim::default() }, &[]);
    let Err(Unavailable::Cooling { until: Some(until) }) = only else { panic!("{only:?}") };
    assert_eq!(until.since(bench.clock.now()).as_secs(), 30);
}

#[test]
fn who_can_only_be_served_by_one_account_waits_for_that_one() {
    let account = |name: &str| {
        format!("name: {name}, provider: anthropic, credentials: {{ api_key: k }}, limits: {{ concurrency: 1 }}")
    };
    let accounts = [account("a"), account("b")];
    let bench = Bench::new(&[&accounts[0], &accounts[1]], "");
    let (one, two) = (bench.lease(&[]).unwrap(), bench.lease(&[]).unwrap());
    bench.pool.remember_response(&one, 1, bench.clock.now());
    let now = bench.clock.now();
    let claim = Claim { previous: Some(1), ..Claim::default() };
    let mut place = bench.pool.line_up(&bench.candidates(&Endpoint::Messages), &[], claim, now);
    assert!(matches!(place.lease(7, now), Err(Unavailable::Busy { .. })));
    drop(two);
    assert!(matches!(place.lease(7, now), Err(Unavailable::Busy { .. })), "the other account's place is not for it");
    let home = one.index;
    drop(one);
    assert_eq!(place.lease(7, now).unwrap().index, home);
}

#[test]
fn the_fan_out_of_one_conversation_does_not_pin_all_of_it_to_one_account() {
    let bench = Bench::claudes(&["a", "b", "c"]);
    let first = bench.lease_for(talk(9), &[]).unwrap();
    bench.pool.report_success(&first, bench.clock.now());
    let at_once: Vec<_> = (0..30).map(|_| bench.lease_for(talk(9), &[]).unwrap()).collect();
    let on = |at: usize| at_once.iter().filter(|lease| lease.index == at).count();
    assert!((0..3).all(|at| on(at) >= 5), "{:?}", [on(0), on(1), on(2)]);
    drop(at_once);
    assert_eq!(bench.lease_for(talk(9), &[]).unwrap().index, first.index, "and then it is back at home");
}

#[test]
fn neither_load_nor_a_conversation_overrides_priority() {
    let account = |name: &str, priority: u32| {
        format!(
            "name: {name}, provider: anthropic, credentials: {{ api_key: k }}, priority: {priority}, limits: {{ concurrency: 1000 }}"
        )
    };
    let accounts = [account("first", 1), account("second", 2)];
    let bench = Bench::new(&[&accounts[0], &accounts[1]], "");
    // The conversation came to the second account while the first one was away.
    let away = bench.lease(&[]).unwrap();
    bench.answer_to(&away, 429, &[("retry-after", "5")], None);
    let moved = bench.lease_for(talk(1), &[]).unwrap();
    assert_eq!(moved.index, 1);
    bench.pool.report_success(&moved, bench.clock.now());
    bench.pass(5.0);
    let held: Vec<_> = (0..500).map(|_| bench.lease_for(talk(1), &[]).unwrap()).collect();
    assert!(held.iter().all(|lease| lease.index == 0));
}

#[test]
fn no_place_at_an_account_leaks() {
    let bench =
        Bench::new(&["name: a, provider: anthropic, credentials: { api_key: k }, limits: { concurrency: 2 }"], "");
    for _ in 0..1_000 {
        let lease = bench.lease(&[]).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = lease;
            std::panic::resume_unwind(Box::new("a filter fails"));
        }));
        assert!(outcome.is_err());
    }
    assert_eq!(bench.pool.accounts()[0].live.in_flight(), 0);
    let _both = [bench.lease(&[]).unwrap(), bench.lease(&[]).unwrap()];
}

#[test]
fn a_choice_allocates_nothing_however_many_accounts_there_are() {
    let (one, _) = alloc_counter::count_alloc(|| std::hint::black_box(Box::new(1)));
    assert_eq!(one.0, 1, "the allocations of this program are counted");
    for count in [10, 1_000, 5_000] {
        let names: Vec<_> = (0..count).map(|n| format!("a{n}")).collect();
        let bench = Bench::claudes(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let candidates = bench.candidates(&Endpoint::Messages);
        let now = bench.clock.now();
        let request = |draw| {
            let lease = bench.pool.lease(&candidates, &[], draw, now).unwrap();
            bench.pool.report_success(&lease, now);
        };
        request(0);
        let (allocated, ()) = alloc_counter::count_alloc(|| (1..100).for_each(request));
        assert_eq!(allocated, (0, 0, 0), "{count} accounts");
    }
}

#[test]
fn a_choice_looks_at_no_more_accounts_however_many_there_are() {
    // A look at every account would take fifty times as long with fifty times as many.
    let least = [100, 5_000].map(|count| {
        let names: Vec<_> = (0..count).map(|n| format!("a{n}")).collect();
        let bench = Bench::claudes(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let candidates = bench.candidates(&Endpoint::Messages);
        let now = bench.clock.now();
        let round = |round: u64| {
            let begun = Instant::now();
            (0..50).for_each(|draw| drop(bench.pool.lease(&candidates, &[], round * 50 + draw, now).unwrap()));
            begun.elapsed()
        };
        (0..40).map(round).min().unwrap()
    });
    assert!(least[1] < least[0] * 10, "50 choices among 100 and among 5,000: {least:?}");
}

#[test]
fn what_is_remembered_of_an_account_is_bounded_by_the_file() {
    let account = ["name: a, provider: anthropic, credentials: { api_key: k }"];
    for (more, events, models) in
        [("", 32, 50), ("bounds: { account_events: 3, account_models: 2, model_names: 7 }\n", 3, 2)]
    {
        let bench = Bench::new(&account, more);
        for n in 0..50 {
            let (model, now) = (format!("m{n}"), bench.clock.now());
            let candidates = bench.pool.candidates(&Demand { model: &model, endpoint: &Endpoint::Messages });
            let lease = bench.pool.lease(&candidates, &[], 7, now).unwrap();
            bench.answer_to(&lease, 529, &[], None);
        }
        let live = &bench.pool.accounts()[0].live;
        assert_eq!((live.history().len(), live.models(bench.clock.now()).len()), (events, models), "{more}");
    }
}
