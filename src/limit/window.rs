//! How much each of many keys took within the last minute, and whether more fits under a limit.
//!
//! The minute slides: what was taken counts for exactly sixty seconds, so no burst at a border passes twice. A count-min
//! estimator holds the counts; it can be too high where keys collide, never too low. So "there is room" is taken from it
//! at once, and "there is none" only after the key's own entries in the log have been added up: nobody is refused for
//! what others took. The log is bounded: entries of one key that follow each other closely become one while they are
//! together at most a hundredth of the limit, which is how exact the count is (a limit up to 400 is kept exactly: so many
//! entries there is room for anyway).
//! Never reads a clock, never waits.

use crate::clock::Moment;
use pingora_limits::estimator::Estimator;
use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The window's length.
pub const MINUTE: Duration = Duration::from_secs(60);

const MINUTE_NANOS: u64 = 60_000_000_000;
/// Entries further apart than this are never merged.
const MERGE_NANOS: u64 = 250_000_000;
/// How far back a log is searched for an entry to merge with.
const MERGE_REACH: usize = 64;
/// Rows of the estimator.
const HASHES: usize = 4;
/// Counters in a row for each key: with fewer, keys collide in every row too often.
const SLOTS_PER_KEY: usize = 8;
/// Keys that share a log and its lock, about.
const KEYS_PER_SHARD: usize = 8;
/// The most entries in the log for each key of a shard; a full log forgets its oldest entry before its time.
const ENTRIES_PER_KEY: usize = 512;
/// Up to this limit no entries are merged; a larger one has at most about as many, of which 240 for the time that passes.
const EXACT: u64 = 400;
/// The largest amount of one entry: far more than any request takes, and no sum of them overflows.
const MOST: u64 = 1 << 40;

/// What is counted by: a user, a key, an account, each for requests and for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateKey(u64);

impl RateKey {
    /// The key of anything that can be hashed; the same in every process.
    pub fn of(value: impl Hash) -> RateKey {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        RateKey(hasher.finish())
    }
}

/// When something was taken; [`Window::give_back`] finds it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64);

/// What was asked for does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// What the key took within the last minute.
    pub used: u64,
    /// How long until it fits; `None` where it never does, because it is more than the limit.
    pub wait: Option<Duration>,
}

/// The last minute of many keys.
pub struct Window {
    began: Moment,
    counts: Estimator,
    shards: Box<[Mutex<Log>]>,
    longest: usize,
}

/// What the keys of one shard took, oldest first.
#[derive(Default)]
struct Log(VecDeque<Entry>);

#[derive(Clone, Copy)]
struct Entry {
    at: u64,
    key: RateKey,
    amount: u64,
}

impl Window {
    /// An empty window, sized for this many keys at the same time. More are counted as exactly, only slower.
    pub fn new(keys: usize, now: Moment) -> Window {
        let keys = keys.clamp(64, 1 << 22);
        let shards = (keys / KEYS_PER_SHARD).next_power_of_two();
        Window {
            began: now,
            counts: Estimator::new(HASHES, (keys * SLOTS_PER_KEY).next_power_of_two()),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            longest: keys.div_ceil(shards) * ENTRIES_PER_KEY,
        }
    }

    /// Takes `amount`, if with it the last minute holds no more than `limit`.
    pub fn try_take(&self, key: RateKey, amount: u64, limit: u64, now: Moment) -> Result<Stamp, Full> {
        let (mut log, at) = self.log(key, now);
        let amount = amount.min(MOST);
        if self.raise(key, amount) > limit {
            let used = log.sum(key);
            if used.saturating_add(amount) > limit {
                self.lower(key, amount);
                return Err(Full { used, wait: log.wait(key, amount, used, limit, at) });
            }
        }
        self.note(&mut log, Entry { at, key, amount }, limit);
        Ok(Stamp(at))
    }

    /// Takes `amount` whether it fits or not: it was used already.
    pub fn take(&self, key: RateKey, amount: u64, limit: u64, now: Moment) -> Stamp {
        let (mut log, at) = self.log(key, now);
        let amount = amount.min(MOST);
        self.raise(key, amount);
        self.note(&mut log, Entry { at, key, amount }, limit);
        Stamp(at)
    }

    /// Gives back `amount` of what was taken at `stamp`; nothing where that is more than a minute ago.
    pub fn give_back(&self, key: RateKey, stamp: Stamp, amount: u64, now: Moment) {
        let (mut log, _) = self.log(key, now);
        let back = log.give_back(key, stamp.0, amount);
        self.lower(key, back);
    }

    /// What the key took within the last minute: the exact amount, or in rare cases (keys that collide) a little more.
    pub fn used(&self, key: RateKey, now: Moment) -> u64 {
        let (_log, _) = self.log(key, now);
        u64::try_from(self.counts.get(key)).unwrap_or(0)
    }

    /// How long until `amount` fits under `limit`: zero where it does now, `None` where it is more than the limit.
    pub fn wait(&self, key: RateKey, amount: u64, limit: u64, now: Moment) -> Option<Duration> {
        let (log, at) = self.log(key, now);
        log.wait(key, amount, log.sum(key), limit, at)
    }

    /// The key's log without what is older than a minute, and the time in it.
    fn log(&self, key: RateKey, now: Moment) -> (MutexGuard<'_, Log>, u64) {
        // The mask keeps the index within; the spare log only spares a panic.
        static SPARE: Mutex<Log> = Mutex::new(Log(VecDeque::new()));
        let shard = self.shards.get(key.0 as usize & (self.shards.len() - 1)).unwrap_or(&SPARE);
        let mut log = shard.lock().unwrap_or_else(PoisonError::into_inner);
        // Two threads may come with their readings of the clock in the wrong order; the log stays in order.
        let now = u64::try_from(now.since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let at = now.max(log.0.back().map_or(0, |last| last.at));
        while let Some(old) = log.0.front().copied().filter(|entry| at - entry.at >= MINUTE_NANOS) {
            log.0.pop_front();
            self.lower(old.key, old.amount);
        }
        (log, at)
    }

    fn note(&self, log: &mut Log, entry: Entry, limit: u64) {
        if limit > EXACT && log.merge(entry, limit / 100) {
            return;
        }
        if log.0.len() >= self.longest
            && let Some(old) = log.0.pop_front()
        {
            self.lower(old.key, old.amount);
        }
        log.0.push_back(entry);
    }

    fn raise(&self, key: RateKey, amount: u64) -> u64 {
        u64::try_from(self.counts.incr(key, amount as isize)).unwrap_or(0)
    }

    fn lower(&self, key: RateKey, amount: u64) {
        self.counts.decr(key, amount as isize);
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl Log {
    fn of(&self, key: RateKey) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.key == key)
    }

    fn sum(&self, key: RateKey) -> u64 {
        self.of(key).map(|entry| entry.amount).sum()
    }

    /// Adds to the key's last entry where that is close and both together are at most `most`.
    fn merge(&mut self, new: Entry, most: u64) -> bool {
        let close = |entry: &&mut Entry| new.at - entry.at < MERGE_NANOS;
        let mut recent = self.0.iter_mut().rev().take(MERGE_REACH).take_while(close);
        match recent.find(|entry| entry.key == new.key).filter(|entry| entry.amount + new.amount <= most) {
            Some(last) => {
                last.amount += new.amount;
                true
            }
            None => false,
        }
    }

    /// Lessens what holds the amount taken at `at`, which is the key's last entry that began no later, and those of the
    /// same moment. Returns by how much.
    fn give_back(&mut self, key: RateKey, at: u64, amount: u64) -> u64 {
        let end = self.0.partition_point(|entry| entry.at <= at);
        let (mut left, mut moment) = (amount, None);
        for entry in self.0.range_mut(..end).rev().filter(|entry| entry.key == key) {
            if left == 0 || *moment.get_or_insert(entry.at) != entry.at {
                break;
            }
            let back = left.min(entry.amount);
            entry.amount -= back;
            left -= back;
        }
        amount - left
    }

    fn wait(&self, key: RateKey, amount: u64, used: u64, limit: u64, now: u64) -> Option<Duration> {
        let most = limit.checked_sub(amount)?;
        let mut left = used;
        let mut wait = 0;
        for entry in self.of(key) {
            if left <= most {
                break;
            }
            left -= entry.amount;
            wait = (entry.at + MINUTE_NANOS).saturating_sub(now);
        }
        Some(Duration::from_nanos(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn key(number: u64) -> RateKey {
        RateKey::of(("key", number))
    }

    /// The most and the fewest of these times that lie in any half-open minute between the first and the last.
    fn in_any_minute(times: &[Duration], from: Duration, until: Duration) -> (usize, usize) {
        let before = |end: Duration| times.partition_point(|time| *time < end);
        let within = |start: Duration| before(start + MINUTE) - before(start);
        let begins = times.iter().flat_map(|t| [*t, *t + Duration::from_nanos(1)]);
        let counts: Vec<usize> = begins.filter(|b| *b >= from && *b + MINUTE <= until).map(within).collect();
        (counts.iter().copied().min().unwrap(), counts.iter().copied().max().unwrap())
    }

    #[test]
    fn fifty_clients_get_exactly_the_limit_in_any_sliding_minute() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        let (mut admitted, mut elapsed) = (Vec::new(), Duration::ZERO);
        // One client takes what there is, at uneven distances; the others come later, and want all that comes free.
        while elapsed < secs(200) {
            for client in 0..50_u64 {
                let is_there = client == 0 || elapsed > secs(20);
                if is_there && window.try_take(key(0), 1, 100, clock.now()).is_ok() {
                    admitted.push(elapsed);
                }
                let step = Duration::from_micros(200 + (client * 7_919 + elapsed.as_micros() as u64) % 1_600);
                clock.advance(step);
                elapsed += step;
            }
        }
        let (fewest, most) = in_any_minute(&admitted, Duration::ZERO, secs(199));
        println!("50 clients at 100 a minute: {fewest} to {most} in any sliding minute");
        assert!((99..=101).contains(&fewest) && (99..=101).contains(&most), "{fewest} to {most}");
    }

    #[test]
    fn ten_thousand_active_keys_are_never_refused_falsely_and_none_gets_more() {
        let clock = ManualClock::new();
        let window = Window::new(10_000, clock.now());
        for round in 0..30 {
            for number in 0..10_000 {
                assert!(window.try_take(key(number), 1, 30, clock.now()).is_ok(), "key {number} in round {round}");
            }
            clock.advance(secs(1));
        }
        assert!((0..10_000).all(|number| window.try_take(key(number), 1, 30, clock.now()).is_err()));
    }

    #[test]
    fn a_window_sized_for_far_fewer_keys_still_refuses_nobody_falsely() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        for _ in 0..5 {
            assert!((0..2_000).all(|number| window.try_take(key(number), 7, 35, clock.now()).is_ok()));
            clock.advance(secs(2));
        }
        assert!((0..2_000).all(|number| window.try_take(key(number), 1, 35, clock.now()).is_err()));
    }

    #[test]
    fn what_was_taken_counts_for_a_minute_and_a_refusal_says_when_there_is_room() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        for _ in 0..3 {
            assert!(window.try_take(key(1), 10, 30, clock.now()).is_ok());
            clock.advance(secs(10));
        }
        assert_eq!(window.try_take(key(1), 10, 30, clock.now()), Err(Full { used: 30, wait: Some(secs(30)) }));
        assert_eq!(window.wait(key(1), 20, 30, clock.now()), Some(secs(40)));
        assert_eq!(window.try_take(key(1), 31, 30, clock.now()), Err(Full { used: 30, wait: None }));
        clock.advance(secs(30) - Duration::from_nanos(1));
        assert!(window.try_take(key(1), 10, 30, clock.now()).is_err());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(window.wait(key(1), 10, 30, clock.now()), Some(Duration::ZERO));
        assert!(window.try_take(key(1), 10, 30, clock.now()).is_ok());
        clock.advance(MINUTE);
        assert_eq!(window.used(key(1), clock.now()), 0);
    }

    #[test]
    fn what_is_given_back_is_free_at_once_and_leaves_no_debt_to_later() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        let first = window.try_take(key(1), 800, 1_000, clock.now()).unwrap();
        clock.advance(secs(50));
        window.give_back(key(1), first, 500, clock.now());
        assert_eq!(window.used(key(1), clock.now()), 300);
        assert!(window.try_take(key(1), 700, 1_000, clock.now()).is_ok());
        clock.advance(secs(10));
        assert_eq!(window.used(key(1), clock.now()), 700);
        window.give_back(key(1), first, 300, clock.now());
        assert_eq!(window.used(key(1), clock.now()), 700, "what has left the minute is not given back again");
        window.take(key(1), 5_000, 1_000, clock.now());
        assert_eq!(window.used(key(1), clock.now()), 5_700);
    }

    #[test]
    fn amounts_taken_at_the_same_moment_are_given_back_whole() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        let stamps = [40, 50, 9].map(|amount| window.try_take(key(1), amount, 100, clock.now()).unwrap());
        window.give_back(key(1), stamps[0], 40, clock.now());
        window.give_back(key(1), stamps[1], 50, clock.now());
        assert_eq!(window.used(key(1), clock.now()), 9);
        window.give_back(key(1), stamps[2], 1_000, clock.now());
        assert_eq!(window.used(key(1), clock.now()), 0);
    }

    #[test]
    fn a_limit_of_400_is_kept_to_the_request_however_they_come() {
        for (limit, exactly) in [(199, true), (400, true), (4_000, false)] {
            let clock = ManualClock::new();
            let window = Window::new(64, clock.now());
            let (mut admitted, mut elapsed) = (Vec::new(), Duration::ZERO);
            // First at distances at which entries could be merged, then whenever there is room again.
            while elapsed < secs(130) {
                if window.try_take(key(1), 1, limit, clock.now()).is_ok() {
                    admitted.push(elapsed);
                }
                let step = if elapsed < secs(20) { secs(20) / limit as u32 } else { Duration::from_millis(1) };
                clock.advance(step);
                elapsed += step;
            }
            let (_, most) = in_any_minute(&admitted, Duration::ZERO, secs(129));
            assert!(most as u64 <= limit + if exactly { 0 } else { limit / 100 }, "{most} of {limit}");
        }
    }

    #[test]
    fn large_limits_are_kept_to_a_hundredth_with_a_short_log() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        let (mut admitted, mut elapsed) = (Vec::new(), Duration::ZERO);
        while elapsed < secs(200) {
            if window.try_take(key(1), 1, 6_000, clock.now()).is_ok() {
                admitted.push(elapsed);
            }
            let step = Duration::from_micros(2_000 + elapsed.as_micros() as u64 * 31 % 5_000);
            clock.advance(step);
            elapsed += step;
        }
        let (_, most) = in_any_minute(&admitted, Duration::ZERO, secs(199));
        assert!((6_000..=6_060).contains(&most), "{most}");
        let entries: usize = window.shards.iter().map(|shard| shard.lock().unwrap().0.len()).sum();
        assert!(entries <= 512, "{entries}");
    }

    #[test]
    fn the_log_stays_within_its_bound_whatever_comes() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        for number in 0..200_000 {
            window.take(key(number % 7), 1_000, 10, clock.now());
        }
        assert!(window.shards.iter().all(|shard| shard.lock().unwrap().0.len() <= window.longest));
        clock.advance(MINUTE);
        assert!((0..7).all(|number| window.used(key(number), clock.now()) == 0));
    }

    #[test]
    fn threads_together_never_take_more_than_the_limit() {
        let clock = ManualClock::new();
        let window = Window::new(64, clock.now());
        let admitted = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let taken = window.try_take(key(1), 1, 1_000, clock.now()).is_ok();
                        admitted.fetch_add(u64::from(taken), std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 1_000);
    }
}
