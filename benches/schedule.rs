//! What does it cost to choose an account, and does it grow with their number?
//!
//!     cargo bench --bench schedule
//!
//! One choice is what a request costs the pool: a lease, the report of its success, and its end. Each is measured with 10,
//! 1,000 and 10,000 accounts; that nothing is allocated is checked before the clock runs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot be set up has to stop"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt::Write as _, hint::black_box, sync::Arc, time::Duration};
use sub2api::{
    account::{
        Pool,
        pool::{Candidates, Demand},
        schedule::{Choice, Readiness, Schedule, Standing, mix},
    },
    clock::{ManualClock, Moment},
    config::Config,
    provider::verdict::{FailureClass, Verdict},
    wire::Endpoint,
};

/// Counts for the thread that allocates; the program's own allocator does the work.
#[global_allocator]
static ALLOCATOR: alloc_counter::AllocCounter<mimalloc::MiMalloc> = alloc_counter::AllocCounter(mimalloc::MiMalloc);

/// So many accounts of three priorities, weights from 1 to 4, each for 100 requests at the same time.
fn pool(accounts: usize) -> Pool {
    let mut text = String::from("auth: none\naccounts:\n");
    for n in 0..accounts {
        let (priority, weight) = (1 + n % 3, 1 + n % 4);
        let _ = writeln!(
            text,
            "  - {{ name: a{n}, provider: anthropic, credentials: {{ api_key: k{n} }}, models: [\"m\"], \
             priority: {priority}, weight: {weight}, limits: {{ concurrency: 100 }} }}"
        );
    }
    Pool::new(&Config::parse(&text, &|_| None).unwrap().config, None, ManualClock::new().now())
}

fn candidates(pool: &Pool) -> Arc<Candidates> {
    pool.candidates(&Demand { model: "m", endpoint: &Endpoint::Messages })
}

/// One request, from its choice to its end.
fn request(pool: &Pool, candidates: &Candidates, draw: u64, now: Moment) {
    let lease = pool.lease(candidates, &[], draw, now).unwrap();
    pool.report_success(&lease, now);
    drop(black_box(lease));
}

/// Puts every third account away for an hour.
fn trouble(pool: &Pool, candidates: &Candidates, now: Moment) {
    let verdict = Verdict {
        class: FailureClass::Rate,
        retry_after: Some(Duration::from_secs(3600)),
        ..Verdict::fault("away for an hour")
    };
    for draw in 0..candidates.len() as u64 / 3 {
        let lease = pool.lease(candidates, &[], draw, now).unwrap();
        pool.report_failure(&lease, &verdict, now);
    }
}

/// Has every account that can be chosen tell of two windows, as most providers do in every answer.
fn told(pool: &Pool, candidates: &Candidates, now: Moment) {
    let words = [
        ("x-ratelimit-limit-requests", "1000000000000"),
        ("x-ratelimit-remaining-requests", "999999999999"),
        ("x-ratelimit-reset-requests", "1h"),
        ("x-ratelimit-limit-tokens", "1000000000000000"),
        ("x-ratelimit-remaining-tokens", "999999999999999"),
        ("x-ratelimit-reset-tokens", "1h"),
    ];
    let headers = words.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let headers = HeaderMap::from_iter(headers);
    let at_once: Vec<_> =
        (0..candidates.len() as u64).map(|draw| pool.lease(candidates, &[], draw, now).unwrap()).collect();
    at_once.iter().for_each(|lease| pool.report_headers(lease, &headers, now));
}

fn measure(c: &mut Criterion, name: &str, prepare: fn(&Pool, &Candidates, Moment), held: usize) {
    let mut group = c.benchmark_group(name);
    for accounts in [10, 1_000, 10_000] {
        let (pool, now) = (pool(accounts), ManualClock::new().now());
        let candidates = candidates(&pool);
        prepare(&pool, &candidates, now);
        let _held: Vec<_> = (0..held as u64).map(|draw| pool.lease(&candidates, &[], draw, now).unwrap()).collect();
        request(&pool, &candidates, 0, now);
        let (allocated, ()) = alloc_counter::count_alloc(|| {
            (0..1_000).for_each(|draw| request(&pool, &candidates, draw, now));
        });
        assert_eq!(allocated, (0, 0, 0), "{accounts} accounts");
        let mut draw = 0;
        group.bench_function(format!("{accounts} accounts"), |b| {
            b.iter(|| {
                draw += 1;
                request(&pool, &candidates, draw, now);
            });
        });
    }
    group.finish();
}

/// The choice alone, and with the change that it makes of the chosen one.
fn select(c: &mut Criterion) {
    let now = ManualClock::new().now();
    let standing = |option: usize, in_flight| Standing {
        tier: (option % 3) as u32,
        scarcity: 0,
        weight: 1 + (option % 4) as u32,
        in_flight,
        readiness: Readiness::Open,
        review: None,
    };
    for (name, takes) in [("select", false), ("select and take", true)] {
        let mut group = c.benchmark_group(name);
        for options in [10, 1_000, 10_000] {
            let mut schedule = Schedule::new(options, now);
            (0..options).for_each(|option| schedule.set(option, &standing(option, 0)));
            let mut draw = 0;
            group.bench_function(format!("{options} accounts"), |b| {
                b.iter(|| {
                    draw += 1;
                    let Choice::Pick(picked) = schedule.choose(&[], mix(draw, 0)) else { panic!("nobody is open") };
                    if takes {
                        schedule.set(picked, &standing(picked, 1));
                        schedule.set(picked, &standing(picked, 0));
                    }
                    black_box(picked)
                });
            });
        }
        group.finish();
    }
}

fn idle(c: &mut Criterion) {
    measure(c, "all idle", |_, _, _| {}, 0);
}

fn telling(c: &mut Criterion) {
    measure(c, "all tell of their limits", told, 0);
}

fn loaded(c: &mut Criterion) {
    measure(c, "300 requests in flight", |_, _, _| {}, 300);
}

fn cooling(c: &mut Criterion) {
    measure(c, "a third cooling", trouble, 0);
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = select, idle, loaded, cooling, telling
}
criterion_main!(benches);
