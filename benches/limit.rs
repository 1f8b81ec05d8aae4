//! What do the limits of a user and a key cost each request, from admission to settlement?
//!
//!     cargo bench --bench limit
//!
//! The whole of it (places, requests and tokens per minute, budgets, for a key and its user) is to stay within 1 µs.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be set up has to stop")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::{hint::black_box, net::IpAddr, sync::Arc};
use sub2api::{
    clock::Clock,
    limit::{
        calendar::Zone,
        flood::Floods,
        limiter::Limiter,
        owner::{Subject, Whose},
        terms::{Amounts, Limits, Quota, Window},
        window::{RateKey, Window as Minute},
    },
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PLENTY: u64 = 1 << 50;

fn pair(limiter: &Limiter, name: &str, limits: Limits, budgets: &[Quota]) -> Arc<[Subject]> {
    let subject = |whose| Subject {
        owner: limiter.owner(whose, name, &Zone::default(), |_| {}),
        limits,
        budgets: budgets.to_vec(),
    };
    [subject(Whose::Key), subject(Whose::User)].into()
}

/// What does a request cost whose key and user have these limits?
fn admit_and_settle(c: &mut Criterion) {
    let mut group = c.benchmark_group("admit and settle");
    let all = Limits { rpm: Some(PLENTY), tpm: Some(PLENTY), concurrency: Some(1_000) };
    let quota = |window| Quota { window, tokens: Some(PLENTY), requests: Some(PLENTY), cost_nanos: Some(PLENTY) };
    let budgets = [quota(Window::Day), quota(Window::Month)];
    for (name, limits, budgets) in [
        ("no limits", Limits::default(), &[][..]),
        ("budgets", Limits::default(), &budgets),
        ("all limits", all, &budgets),
    ] {
        let clock = Clock::System;
        let limiter = Arc::new(Limiter::new(1_000, clock.now()));
        let callers: Vec<_> = (0..100).map(|n| pair(&limiter, &format!("caller-{n}"), limits, budgets)).collect();
        let mut turn = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                turn += 1;
                let subjects = callers.get(turn % callers.len()).unwrap();
                let now = clock.now();
                let mut permit = limiter.admit(subjects, now).unwrap();
                permit.reserve(Amounts { tokens: 1_000, requests: 1, cost_nanos: 5_000 }, now).unwrap();
                permit.charge(Amounts { tokens: 400, requests: 1, cost_nanos: 2_000 }, now.unix_millis(), now);
                black_box(permit)
            });
        });
        let now = clock.now();
        group.bench_function(format!("what is left, for the headers: {name}"), |b| {
            b.iter(|| limiter.rates(black_box(callers.first().unwrap()), now));
        });
    }
}

/// What does a refusal cost, which has to look for the time when there is room?
fn refuse(c: &mut Criterion) {
    let mut group = c.benchmark_group("refuse");
    for keys in [1, 1_000, 10_000_u64] {
        let clock = Clock::System;
        let window = Minute::new(keys as usize, clock.now());
        for key in 0..keys {
            assert!((0..100).all(|_| window.try_take(RateKey::of(key), 1, 100, clock.now()).is_ok()));
        }
        let now = clock.now();
        group.bench_function(format!("{keys} keys at a limit of 100"), |b| {
            b.iter(|| window.try_take(black_box(RateKey::of(0_u64)), 1, 100, now).unwrap_err());
        });
    }
    let floods = Floods::new(8_192, Clock::System.now());
    let now = Clock::System.now();
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    group.bench_function("a stranger's flood", |b| b.iter(|| floods.count(black_box(address), 120, now)));
}

criterion_group!(benches, admit_and_settle, refuse);
criterion_main!(benches);
