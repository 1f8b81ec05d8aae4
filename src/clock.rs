//! Time, as an argument.
//!
//! Everything that decides by time takes a `Moment`; only this file reads the system's clocks.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// One reading of both clocks: `mono` to measure with, `wall` to compare with dates that others name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time.
    pub mono: Instant,
    /// Calendar time.
    pub wall: SystemTime,
}

impl Moment {
    /// This moment, later by `wait` on both clocks.
    pub fn plus(self, wait: Duration) -> Moment {
        Moment { mono: self.mono + wait, wall: self.wall + wait }
    }

    /// The time since `earlier`, zero if that lies ahead.
    pub fn since(self, earlier: Moment) -> Duration {
        self.mono.saturating_duration_since(earlier.mono)
    }

    /// The calendar time as whole milliseconds since 1970.
    pub fn unix_millis(self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}

/// Where the time comes from: the system, or a test's hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clocks.
    #[default]
    System,
    /// A clock that only moves when told to.
    Manual(ManualClock),
}

impl Clock {
    /// The time now.
    #[allow(clippy::disallowed_methods, reason = "here the clock is read")]
    pub fn now(&self) -> Moment {
        match self {
            Clock::System => system(Instant::now()),
            Clock::Manual(clock) => clock.now(),
        }
    }
}

/// How long the calendar is carried on by the monotonic clock before it is looked at again: as late as that a change of
/// the system's date is seen.
const CARRIED_ON: Duration = Duration::from_millis(500);

thread_local! {
    static LOOKED_AT: Cell<Option<Moment>> = const { Cell::new(None) };
}

/// The moment at which the monotonic clock shows `mono`, which is now. A request asks for the time a dozen times.
#[allow(clippy::disallowed_methods, reason = "here the clock is read")]
fn system(mono: Instant) -> Moment {
    if let Some(then) = LOOKED_AT.get()
        && let Some(passed) = mono.checked_duration_since(then.mono).filter(|passed| *passed < CARRIED_ON)
    {
        return Moment { mono, wall: then.wall + passed };
    }
    let now = Moment { mono, wall: SystemTime::now() };
    LOOKED_AT.set(Some(now));
    now
}

/// A clock for tests and simulations.
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: Moment,
    elapsed_nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands still at the present.
    pub fn new() -> Self {
        ManualClock { start: Clock::System.now(), elapsed_nanos: Arc::default() }
    }

    /// A clock that stands still at this calendar time, so that a run can be made again exactly.
    pub fn at(wall: SystemTime) -> Self {
        ManualClock { start: Moment { wall, ..Clock::System.now() }, elapsed_nanos: Arc::default() }
    }

    /// What the clock shows.
    pub fn now(&self) -> Moment {
        self.start.plus(Duration::from_nanos(self.elapsed_nanos.load(Ordering::Relaxed)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.elapsed_nanos.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "compares with the system's clocks")]
    fn the_calendar_is_the_systems_however_often_it_is_asked() {
        const SLACK: Duration = Duration::from_millis(20);
        let mut last = Clock::System.now();
        for _ in 0..4 {
            let (before, now, after) = (SystemTime::now(), Clock::System.now(), SystemTime::now());
            assert!(now.wall + SLACK >= before && now.wall <= after + SLACK);
            assert!(now.mono >= last.mono);
            last = now;
            std::thread::sleep(CARRIED_ON / 3);
        }
    }
}
