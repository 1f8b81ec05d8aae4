//! How many rows a second does the ledger take, and what does a price cost?
//!
//!     cargo bench --bench ledger
//!
//! The file is a real one, in the directory of temporary files. `submit` is what the end of a reply waits for, on its own
//! thread; `submit and commit` goes through journal and thread, until the last row is in the file.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be set up has to stop")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{fs, hint::black_box, path::PathBuf, sync::LazyLock, time::Duration};
use sub2api::{
    clock::Clock,
    config::Config,
    ledger::{Counts, Entry, Group, Ledger, LedgerSettings, Outcome, Price, query::Filter},
    wire::Usage,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sub2api-bench-ledger-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn usage() -> Usage {
    Usage { input: Some(1_200), cache_read: Some(30_000), output: Some(700), reasoning: Some(200), ..Usage::default() }
}

/// The names of a busy team's users and accounts, and ids of requests.
struct Names {
    users: Vec<String>,
    accounts: Vec<String>,
    requests: Vec<String>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    users: (0..50).map(|user| format!("user-{user}")).collect(),
    accounts: (0..8).map(|account| format!("account-{account}")).collect(),
    requests: (0..20_000).map(|request| format!("req_{request:024x}")).collect(),
});

/// One of a list, in turn.
fn turn(list: &[String], at: u64) -> &str {
    list.get(at as usize % list.len()).unwrap()
}

/// A row as the gateway makes them.
fn entry(exchange: u64) -> Entry<'static> {
    Entry {
        began: Clock::System.now().unix_millis(),
        exchange,
        attempt: 1,
        request: turn(&NAMES.requests, exchange),
        user: turn(&NAMES.users, exchange),
        key: "c00397de",
        account: turn(&NAMES.accounts, exchange),
        provider: "anthropic",
        call: "messages",
        model: "claude-sonnet-4-5",
        served: "claude-sonnet-4-5-20250929",
        client_format: "anthropic",
        upstream_format: "anthropic",
        stream: true,
        status: 200,
        outcome: Outcome::Served,
        failure: "",
        counts: Counts::reported(&usage()),
        cost_nanos: Some(123_456_789),
        first_micros: Some(400_000),
        total_micros: 9_000_000,
        bytes_in: 120_000,
        bytes_out: 20_000,
        client: "10.0.0.7",
    }
}

/// How long does it take until so many rows that come at once are in the file?
fn rows(c: &mut Criterion) {
    const ROWS: u64 = 20_000;
    let mut group = c.benchmark_group("ledger");
    group.sample_size(10).measurement_time(Duration::from_secs(10)).throughput(Throughput::Elements(ROWS));
    let path = folder("rows");
    let ledger = Ledger::open(&path, roomy(), Clock::System).unwrap();
    let mut next = 0;
    group.bench_function("submit and commit", |b| {
        b.iter_batched(
            || {
                next += ROWS;
                (next..next + ROWS).map(entry).collect::<Vec<_>>()
            },
            |entries| {
                entries.into_iter().for_each(|entry| _ = ledger.submit(entry));
                ledger.flush();
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let mut group = c.benchmark_group("question");
    let reader = ledger.reader().unwrap();
    group.bench_function(BenchmarkId::new("by user and model", "of all rows so far"), |b| {
        b.iter(|| reader.sums(&Filter::default(), &[Group::User, Group::Model], Default::default()).unwrap());
    });
    group.finish();
    drop(ledger);
    let _ = fs::remove_dir_all(path);
}

/// Settings under which nobody waits because many rows do.
fn roomy() -> LedgerSettings {
    LedgerSettings { queue: 10_000_000, ..LedgerSettings::default() }
}

/// What does a row cost the thread that ends a reply, while rows come at a busy gateway's pace and are written beside it?
fn submit(c: &mut Criterion) {
    let path = folder("submit");
    let ledger = Ledger::open(&path, roomy(), Clock::System).unwrap();
    let mut next = 0;
    c.benchmark_group("submit").bench_function("one row, strict", |b| {
        b.iter_custom(|count| {
            let mut time = Duration::ZERO;
            for _ in 0..count {
                next += 1;
                let entry = entry(next);
                let began = Clock::System.now().mono;
                assert!(black_box(ledger.submit(entry)).is_none());
                time += Clock::System.now().mono - began;
                if next.is_multiple_of(500) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            time
        });
    });
    drop(ledger);
    let _ = fs::remove_dir_all(path);
}

/// How long does the end of a reply wait for its row where each commit waits for the disk, when nothing else goes on?
fn commit(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = folder("commit");
    let settings = LedgerSettings { fsync: true, ..LedgerSettings::default() };
    let ledger = Ledger::open(&path, settings, Clock::System).unwrap();
    let mut next = 0;
    c.benchmark_group("commit").sample_size(50).bench_function("one row, waiting for the disk", |b| {
        b.iter(|| {
            next += 1;
            let ack = ledger.submit(entry(next)).unwrap();
            assert!(runtime.block_on(ack.committed()));
        });
    });
    drop(ledger);
    let _ = fs::remove_dir_all(path);
}

/// What does it cost to find a model's price and to work out a cost?
fn price(c: &mut Criterion) {
    let text = "auth: none\naccounts: [{ name: a, provider: openai, credentials: { api_key: k } }]\n";
    let prices = Config::parse(text, &|_| None).unwrap().config.prices;
    let mut group = c.benchmark_group("price");
    for (provider, model) in [("anthropic", "claude-sonnet-4-5-20250929"), ("openai", "gpt-4.1"), ("openai", "unknown")]
    {
        group.bench_function(format!("of {model}"), |b| {
            b.iter(|| {
                let price: Option<&Price> = prices.find(black_box(provider), black_box(model));
                price.map(|price| price.cost_nanos(black_box(&usage())))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = price, submit, commit, rows
}
criterion_main!(benches);
