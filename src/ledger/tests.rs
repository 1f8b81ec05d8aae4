//! What the ledger as a whole promises, on real files.

use super::{
    query::{Filter, Page, Sums},
    *,
};
use crate::{clock::ManualClock, wire::Usage};
use proptest::prelude::*;
use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const HOUR: u64 = 3_600_000;

/// A directory of its own for each test, gone with it.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sub2api-ledger-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(super) fn ledger(&self, settings: LedgerSettings) -> Ledger {
        Ledger::open(&self.0, settings, Clock::System).unwrap()
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::open(&self.0.join(FILE_NAME)).unwrap()
    }

    /// Another process with a transaction of its own.
    pub(super) fn other(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.0.join(FILE_NAME)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now() -> u64 {
    Clock::System.now().unix_millis()
}

/// Writes rows as the writer does, from memory.
pub(super) fn write(store: &mut Store, entries: &[Entry<'_>]) -> Result<usize, LedgerError> {
    store.write(&mut segment::Records::of(&segment::Records::bytes(entries)), usize::MAX)
}

pub(super) fn entry(exchange: u64, attempt: u32) -> Entry<'static> {
    let usage = Usage { input: Some(10), output: Some(exchange), ..Usage::default() };
    Entry {
        began: now(),
        exchange,
        attempt,
        user: "ada",
        account: "a",
        model: "m",
        provider: "openai",
        served: "m-1",
        counts: Counts::reported(&usage),
        cost_nanos: Some(exchange),
        ..Entry::default()
    }
}

/// With these a reply's end waits for its row's commit.
fn waiting_for_the_disk() -> LedgerSettings {
    LedgerSettings { fsync: true, commit_wait: Duration::from_secs(30), ..LedgerSettings::default() }
}

pub(super) fn wait_until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

#[tokio::test]
async fn a_row_that_is_acknowledged_is_in_the_file() {
    let folder = Folder::new();
    let ledger = folder.ledger(waiting_for_the_disk());
    for exchange in 1..=20 {
        assert!(ledger.submit(entry(exchange, 1)).unwrap().committed().await);
        assert_eq!(folder.reader().total(&Filter::default()).unwrap().attempts, exchange);
    }
    assert_eq!(ledger.health().written, 20);
}

#[test]
fn a_row_that_is_written_twice_counts_once() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    let row = entry(5, 1);
    ledger.submit(row);
    ledger.submit(Entry { cost_nanos: Some(99), ..row });
    ledger.submit(Entry { attempt: 2, ..row });
    ledger.close();
    let total = folder.reader().total(&Filter::default()).unwrap();
    assert_eq!((total.attempts, total.requests, total.cost_nanos), (2, 1, 10));
}

#[test]
fn two_requests_with_the_same_request_id_are_two() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    let row = Entry { request: "req_mine", ..entry(1, 1) };
    ledger.submit(row);
    ledger.submit(Entry { exchange: 2, ..row });
    ledger.close();
    assert_eq!(folder.reader().total(&Filter::default()).unwrap().requests, 2);
}

#[test]
fn a_zero_an_unknown_count_and_an_estimate_stay_what_they_are() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    let mut counts = Counts::reported(&Usage { input: Some(0), ..Usage::default() });
    counts.estimate_output(7);
    ledger.submit(Entry { counts, cost_nanos: None, ..entry(1, 1) });
    ledger.close();
    let mut rows = Vec::new();
    let read: Result<(), LedgerError> = folder.reader().rows(&Filter::default(), Page::default(), |row| {
        rows.push(row.clone());
        Ok(())
    });
    read.unwrap();
    let row = &rows[0];
    assert_eq!((row.input, row.cache_read, row.output, row.cost_nanos), (Some(0), None, Some(7), None));
    assert_eq!(row.estimated, ["output"]);
    assert_eq!(folder.reader().total(&Filter::default()).unwrap().unpriced, 1);
}

#[test]
fn a_model_without_a_price_is_named_once() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    for exchange in 1..=3 {
        ledger.submit(Entry { cost_nanos: None, ..entry(exchange, 1) });
    }
    assert_eq!(ledger.health().unpriced, 1);
}

#[tokio::test]
async fn a_locked_file_stops_nobody_and_loses_nothing() {
    let folder = Folder::new();
    let ledger = folder.ledger(waiting_for_the_disk());
    ledger.submit(entry(1, 1)).unwrap().committed().await;
    let other = folder.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first one to find out is told, long before its own wait is over; those behind it need not wait at all.
    let found_out = ledger.submit(entry(2, 1)).unwrap();
    assert!(!found_out.committed().await);
    assert!(ledger.health().stuck && ledger.submit(entry(3, 1)).is_none());
    other.execute_batch("COMMIT").unwrap();
    wait_until("the rows' way into the file", || ledger.health().waiting == 0);
    assert!(!ledger.health().stuck);
    assert_eq!(folder.reader().total(&Filter::default()).unwrap().attempts, 3);
    assert!(ledger.submit(entry(4, 1)).unwrap().committed().await);
}

#[test]
fn a_full_disk_stops_nobody_and_loses_nothing() {
    let folder = Folder::new();
    // SQLite's own bound on the file stands for the disk's: it fails in the same way.
    let mut store = Store::open(&folder.0.join(FILE_NAME), &LedgerSettings::default()).unwrap();
    write(&mut store, &[entry(1, 1)]).unwrap();
    store.limit_pages(20);
    let rows: Vec<Entry<'_>> = (2..2_000).map(|exchange| entry(exchange, 1)).collect();
    let error = write(&mut store, &rows).unwrap_err().to_string();
    assert!(error.contains("full"), "{error}");
    assert_eq!(folder.reader().total(&Filter::default()).unwrap().attempts, 1, "all or none");
    store.limit_pages(1 << 20);
    assert_eq!(write(&mut store, &rows).unwrap(), rows.len());
}

#[test]
fn when_too_many_rows_wait_new_requests_are_refused_and_rows_under_way_are_kept() {
    let folder = Folder::new();
    let settings = LedgerSettings { queue: 10, ..LedgerSettings::default() };
    let ledger = folder.ledger(settings);
    let other = folder.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ledger.submit(entry(1, 1));
    wait_until("the trouble", || ledger.health().stuck);
    assert!(!ledger.is_full());
    (2..=15).for_each(|exchange| _ = ledger.submit(entry(exchange, 1)));
    assert!(ledger.is_full());
    other.execute_batch("COMMIT").unwrap();
    wait_until("the end of the trouble", || !ledger.is_full() && ledger.health().waiting == 0);
    assert_eq!(folder.reader().total(&Filter::default()).unwrap().attempts, 15);
}

#[test]
fn with_drop_oldest_the_newest_rows_are_kept_and_the_lost_ones_counted() {
    let folder = Folder::new();
    let settings = LedgerSettings { queue: 10, when_full: WhenFull::DropOldest, ..LedgerSettings::default() };
    let ledger = folder.ledger(settings);
    let other = folder.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ledger.submit(entry(1, 1));
    wait_until("the trouble", || ledger.health().stuck);
    (2..=30).for_each(|exchange| _ = ledger.submit(entry(exchange, 1)));
    assert_eq!((ledger.health().waiting, ledger.health().dropped), (10, 20));
    assert!(!ledger.is_full());
    other.execute_batch("COMMIT").unwrap();
    ledger.close();
    assert_eq!(folder.reader().total(&Filter::default()).unwrap().attempts, 10);
}

#[test]
fn two_processes_write_into_the_same_file_while_a_third_reads() {
    let folder = Folder::new();
    let (first, second) = (folder.ledger(LedgerSettings::default()), folder.ledger(LedgerSettings::default()));
    let reader = folder.reader();
    for exchange in 1..=500 {
        first.submit(entry(exchange, 1));
        second.submit(entry(exchange + 1_000, 1));
        reader.total(&Filter::default()).unwrap();
    }
    first.close();
    second.close();
    assert_eq!(reader.total(&Filter::default()).unwrap().attempts, 1_000);
}

#[test]
fn relaxed_rows_are_not_waited_for_until_half_of_the_room_is_taken() {
    let folder = Folder::new();
    let settings = LedgerSettings { queue: 10, durability: Durability::Relaxed, ..LedgerSettings::default() };
    let queue = Queue::new(folder.0.clone(), settings).unwrap();
    assert!((1..=5).all(|exchange| queue.push(&entry(exchange, 1)).is_none()));
    assert!(queue.push(&entry(6, 1)).is_some());
}

#[test]
fn a_directory_that_cannot_be_written_is_told_at_the_start() {
    let error = Ledger::open(Path::new("/proc/nowhere"), LedgerSettings::default(), Clock::System).unwrap_err();
    assert!(error.to_string().contains("cannot use the ledger /proc/nowhere/usage.sqlite"), "{error}");
    let folder = Folder::new();
    fs::write(folder.0.join(FILE_NAME), "this is no database, and never was one").unwrap();
    assert!(Ledger::open(&folder.0, LedgerSettings::default(), Clock::System).is_err());
    assert!(Reader::open(&folder.0.join(FILE_NAME)).is_err());
}

#[test]
fn old_rows_go_and_their_sums_stay() {
    let folder = Folder::new();
    let old = now() - 100 * 24 * HOUR;
    let ledger = folder.ledger(LedgerSettings::default());
    ledger.submit(Entry { began: old, ..entry(1, 1) });
    ledger.submit(entry(2, 1));
    ledger.close();
    let mut store = Store::open(&folder.0.join(FILE_NAME), &LedgerSettings::default()).unwrap();
    assert!(!store.roll_up().unwrap());
    assert!(!store.forget(now() - 24 * HOUR, 0).unwrap());
    let reader = folder.reader();
    let mut rows = 0;
    let read: Result<(), LedgerError> = reader.rows(&Filter::default(), Page::default(), |_| {
        rows += 1;
        Ok(())
    });
    read.unwrap();
    assert_eq!((rows, reader.total(&Filter::default()).unwrap().attempts), (1, 2));
    assert_eq!(reader.spent(Group::User, 0).unwrap()["ada"].requests, 2);
    store.forget(0, now() - 24 * HOUR).unwrap();
    assert_eq!(reader.total(&Filter::default()).unwrap().attempts, 2, "the day is still known");
}

#[test]
fn what_was_spent_is_exact_to_the_millisecond_of_a_window() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    let start = now() / (24 * HOUR) * (24 * HOUR) - 3 * 24 * HOUR + 30 * 60_000;
    for (exchange, began) in [(1, start - 1), (2, start), (3, start + 1), (4, start + 2 * HOUR), (5, start + 50 * HOUR)]
    {
        ledger.submit(Entry { began, ..entry(exchange, 1) });
    }
    ledger.close();
    let expected = Spent { requests: 4, tokens: 4 * 10 + 14, cost_nanos: 14 };
    assert_eq!(folder.reader().spent(Group::User, start).unwrap()["ada"], expected);
    let mut store = Store::open(&folder.0.join(FILE_NAME), &LedgerSettings::default()).unwrap();
    store.roll_up().unwrap();
    assert_eq!(folder.reader().spent(Group::User, start).unwrap()["ada"], expected, "the same when summed up");
    assert_eq!(folder.reader().spent(Group::Account, 0).unwrap()["a"].requests, 5);
}

#[test]
fn a_filter_lets_through_only_what_it_names() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    ledger.submit(Entry { user: "ada", model: "gpt-4.1", served: "gpt-4.1", ..entry(1, 1) });
    ledger.submit(Entry { user: "bob", model: "smart", served: "gpt-4.1", ..entry(2, 1) });
    ledger.submit(Entry { user: "bob'; --", model: "%", ..entry(4, 1) });
    ledger.close();
    let reader = folder.reader();
    let cost = |only: &[(Group, &str)]| {
        let only = only.iter().map(|(group, value)| (*group, (*value).to_owned())).collect();
        reader.total(&Filter { only, ..Filter::default() }).unwrap().cost_nanos
    };
    assert_eq!(cost(&[(Group::Model, "gpt-4.1")]), 3, "either name of the model");
    assert_eq!(cost(&[(Group::Model, "gpt-*"), (Group::User, "bob")]), 2);
    assert_eq!(cost(&[(Group::User, "bob*")]), 6);
    assert_eq!((cost(&[(Group::User, "bob'; --")]), cost(&[(Group::Model, "%")])), (4, 4));
    assert_eq!(cost(&[(Group::User, "nobody")]), 0);
}

#[test]
fn an_export_of_each_vendor_is_compared_and_its_differences_are_named() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    let day = 1_764_028_800_000;
    let usage = Usage {
        input: Some(200),
        cache_read: Some(800),
        cache_write: Some(5),
        cache_write_1h: Some(6),
        output: Some(500),
        server_tools: Some(1),
        ..Usage::default()
    };
    for (exchange, provider, served) in [(1, "openai", "gpt-4o"), (2, "anthropic", "claude-sonnet-4-5")] {
        let counts = Counts::reported(&usage);
        ledger.submit(Entry { began: day + 5 * HOUR, provider, served, counts, ..entry(exchange, 1) });
    }
    ledger.close();
    let openai = r#"{"object":"page","data":[{"object":"bucket","start_time":1764028800,"end_time":1764115200,"results":[
        {"object":"organization.usage.completions.result","input_tokens":1011,"output_tokens":OUT,"input_cached_tokens":800,
         "num_model_requests":1,"project_id":null,"model":"gpt-4o-2024-08-06","batch":null}]}],"has_more":false}"#;
    let reader = folder.reader();
    let compared = |text: &str| reconcile::compare(&reconcile::read(text).unwrap(), &reader, None).unwrap();
    let same = compared(&openai.replace("OUT", "500"));
    assert_eq!((same.compared, same.differences), (4, Vec::new()));
    let other = compared(&openai.replace("OUT", "512"));
    let difference = &other.differences[0];
    assert_eq!((difference.figure.name(), difference.provider, difference.ledger), ("output", 512, 500));
    assert_eq!(difference.model.as_deref(), Some("gpt-4o"));
    let anthropic = r#"{"data":[{"starting_at":"2025-11-25T00:00:00Z","ending_at":"2025-11-26T00:00:00Z","results":[
        {"uncached_input_tokens":200,"cache_creation":{"ephemeral_1h_input_tokens":6,"ephemeral_5m_input_tokens":5},
         "cache_read_input_tokens":800,"output_tokens":500,"server_tool_use":{"web_search_requests":1},
         "model":"claude-sonnet-4-5-20250929","service_tier":"standard"}]}],"has_more":false,"next_page":null}"#;
    let same = compared(anthropic);
    assert_eq!((same.compared, same.differences), (6, Vec::new()));
    let costs = r#"{"data":[{"object":"bucket","start_time":1764028800,"end_time":1764115200,"results":[
        {"object":"organization.costs.result","amount":{"value":1e-9,"currency":"usd"},"line_item":null}]}]}"#;
    assert_eq!(compared(costs).differences, Vec::new(), "the ledger booked one nano-dollar");
    let without =
        r#"{"data":[{"start_time":1764028800,"end_time":1764115200,"results":[{"input_tokens":0,"model":"gpt-5"}]}]}"#;
    let missing = compared(without);
    assert_eq!(missing.differences[0].model.as_deref(), Some("gpt-4o"), "a model that only the ledger knows is named");
}

#[test]
fn the_clock_decides_what_is_old() {
    let clock = ManualClock::new();
    let folder = Folder::new();
    let settings = LedgerSettings { keep_attempts: Duration::from_secs(3_600), ..LedgerSettings::default() };
    let ledger = Ledger::open(&folder.0, settings, Clock::Manual(clock)).unwrap();
    ledger.submit(Entry { began: now() - 5 * HOUR, ..entry(1, 1) });
    wait_until("the row", || ledger.health().waiting == 0);
    ledger.close();
    assert_eq!(folder.reader().total(&Filter::default()).unwrap().attempts, 1);
}

fn arbitrary_row() -> impl Strategy<Value = Entry<'static>> {
    let day = now() / (24 * HOUR) * (24 * HOUR);
    let counts = prop::array::uniform4(prop::option::of(0u64..2_000));
    (0u64..72, 0usize..3, 0usize..3, 0usize..2, counts, any::<bool>(), 1u32..4).prop_map(
        move |(hours, user, model, account, [input, cache_read, output, images], broken, attempt)| {
            let usage = Usage { input, cache_read, output, images, ..Usage::default() };
            let mut counts = Counts::reported(&usage);
            if broken {
                counts.estimate_output(100);
            }
            Entry {
                began: day - hours * HOUR,
                attempt,
                user: ["ada", "bob", ""][user],
                model: ["m", "n", "o"][model],
                account: ["a", "b"][account],
                cost_nanos: input,
                failure: if broken { "fault" } else { "" },
                counts,
                ..Entry::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_sums_are_those_of_the_rows_however_they_are_written_and_summed_up(
        rows in prop::collection::vec(arbitrary_row(), 1..60),
        bundles in prop::collection::vec(1usize..20, 1..10),
        rolls in prop::collection::vec(any::<(bool, bool)>(), 1..10),
    ) {
        let folder = Folder::new();
        let open = || Store::open(&folder.0.join(FILE_NAME), &LedgerSettings::default()).unwrap();
        // During a hand-over two processes write, and either may sum up.
        let mut stores = [open(), open()];
        let rows: Vec<Entry<'_>> =
            rows.into_iter().enumerate().map(|(at, row)| Entry { exchange: at as u64, ..row }).collect();
        let mut rest = rows.as_slice();
        for (at, size) in bundles.iter().cycle().enumerate() {
            let (bundle, left) = rest.split_at((*size).min(rest.len()));
            let (is_rolled, is_other) = rolls[at % rolls.len()];
            let store = &mut stores[usize::from(is_other)];
            write(store, bundle).unwrap();
            // What a process that was killed before it was told writes again.
            write(store, bundle).unwrap();
            if is_rolled {
                stores[at % 2].roll_up().unwrap();
            }
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        let reader = folder.reader();
        for (group, key) in [
            (Group::User, (|row| row.user) as fn(&Entry<'static>) -> &'static str),
            (Group::Model, |row| row.model),
            (Group::Account, |row| row.account),
        ] {
            let mut expected: std::collections::BTreeMap<String, Sums> = Default::default();
            for row in &rows {
                let sums = expected.entry(key(row).to_owned()).or_default();
                let usage = row.counts.usage();
                sums.attempts += 1;
                sums.requests += u64::from(row.is_first());
                sums.failures += u64::from(!row.failure.is_empty());
                sums.estimated += u64::from(row.counts.is_estimated());
                sums.unpriced += u64::from(row.cost_nanos.is_none());
                sums.input += usage.input.unwrap_or(0);
                sums.cache_read += usage.cache_read.unwrap_or(0);
                sums.output += usage.output.unwrap_or(0);
                sums.images += usage.images.unwrap_or(0);
                sums.cost_nanos += row.cost_nanos.unwrap_or(0);
            }
            let lines = reader.sums(&Filter::default(), &[group], Page::default()).unwrap();
            let found: std::collections::BTreeMap<String, Sums> =
                lines.into_iter().map(|line| (line.groups[0].clone(), line.sums)).collect();
            prop_assert_eq!(&found, &expected);
            let by_hour = reader.sums(&Filter::default(), &[group, Group::Hour], Page::default()).unwrap();
            prop_assert_eq!(by_hour.iter().map(|line| line.sums.cost_nanos).sum::<u64>(), expected.values().map(|s| s.cost_nanos).sum::<u64>());
        }
        let (from, to) = (rows[0].began, rows[0].began + 24 * HOUR);
        let filter = Filter { from: Some(from), to: Some(to), ..Filter::default() };
        let within = rows.iter().filter(|row| row.began >= from && row.began < to).count() as u64;
        prop_assert_eq!(reader.total(&filter).unwrap().attempts, within);
    }
}
