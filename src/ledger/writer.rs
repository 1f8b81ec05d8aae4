//! The thread that writes: all rows that wait in one transaction, then tells those who wait for them.
//!
//! Where the file cannot be written (disk full, file locked) it keeps the rows in hand and tries again until it can.
//! Invariant: a row leaves its hands only into the file.

use super::{
    queue::{Bundle, Queue},
    settings::LedgerSettings,
    store::{LedgerError, Store},
};
use crate::clock::{Clock, Moment};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How often sums are brought up to date while nothing else is to do.
const ROLL_EVERY: Duration = Duration::from_secs(1);
/// How many rows are summed up at once where there is always something else to do.
const ROLL_AFTER: usize = 10_000;
/// How often old rows are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// The pause before the next attempt to write.
const RETRY: Duration = Duration::from_millis(200);
/// How often an alarm is repeated.
const ALARM_EVERY: Duration = Duration::from_secs(60);
/// How long the end is put off for rows that cannot be written.
const LAST_PATIENCE: Duration = Duration::from_secs(20);

/// The writer's state.
pub(super) struct Writer {
    queue: Arc<Queue>,
    store: Store,
    settings: LedgerSettings,
    clock: Clock,
    rolled: Moment,
    unrolled: usize,
    forgot: Option<Moment>,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, store: Store, settings: LedgerSettings, clock: Clock) -> Writer {
        let rolled = clock.now();
        // What a process that was killed left behind is summed up first.
        Writer { queue, store, settings, clock, rolled, unrolled: ROLL_AFTER, forgot: None }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            let Bundle { jobs, closing } = self.queue.take(ROLL_EVERY);
            let is_idle = jobs.is_empty();
            if !is_idle && !self.write(jobs) {
                return;
            }
            if is_idle && closing {
                self.keep_house(true);
                return;
            }
            self.keep_house(is_idle);
        }
    }

    /// Writes rows, however long it takes. `false` where the end came before they could be written.
    fn write(&mut self, mut jobs: Vec<super::queue::Job>) -> bool {
        let mut trouble: Option<Trouble> = None;
        loop {
            match self.store.write(jobs.iter().map(|job| &job.entry)) {
                Ok(_) => break,
                Err(error) => {
                    self.queue.failed(&mut jobs);
                    let now = self.clock.now();
                    let trouble = trouble.get_or_insert(Trouble { since: now, alarmed: None, closing_since: None });
                    trouble.alarm(&error, self.queue.length(), now);
                    let closing = self.queue.pause(RETRY);
                    if trouble.is_hopeless(closing, self.clock.now()) {
                        log::error!("ledger: {} rows are lost: the file could not be written", self.queue.length());
                        return false;
                    }
                }
            }
        }
        if let Some(trouble) = trouble {
            self.queue.stuck.store(false, Ordering::Relaxed);
            let time = self.clock.now().since(trouble.since);
            log::warn!("ledger: rows are written again, after {time:.1?}; none was lost by the wait");
        }
        self.unrolled += jobs.len();
        self.queue.wrote(jobs);
        true
    }

    /// Brings sums up to date and lets go of old rows, in small steps.
    fn keep_house(&mut self, is_idle: bool) {
        let now = self.clock.now();
        let is_due = is_idle && self.unrolled > 0 && now.since(self.rolled) >= ROLL_EVERY;
        if is_due || self.unrolled >= ROLL_AFTER {
            match self.store.roll_up() {
                Ok(more) => self.unrolled = if more { ROLL_AFTER } else { 0 },
                // The next transaction of rows raises the alarm if this lasts.
                Err(error) => log::debug!("{error}"),
            }
            self.rolled = now;
        }
        if is_idle && self.forgot.is_none_or(|forgot| now.since(forgot) >= FORGET_EVERY) {
            let before = |kept: Duration| match kept.is_zero() {
                true => 0,
                false => now.unix_millis().saturating_sub(kept.as_millis() as u64),
            };
            let gone = self.store.forget(before(self.settings.keep_attempts), before(self.settings.keep_hours));
            let more = gone.unwrap_or_else(|error| {
                log::debug!("{error}");
                false
            });
            self.forgot = if more { None } else { Some(now) };
        }
    }
}

/// The time since writing began to fail.
struct Trouble {
    since: Moment,
    alarmed: Option<Moment>,
    closing_since: Option<Moment>,
}

impl Trouble {
    fn alarm(&mut self, error: &LedgerError, waiting: usize, now: Moment) {
        if self.alarmed.is_none_or(|alarmed| now.since(alarmed) >= ALARM_EVERY) {
            log::error!("{error}: {waiting} rows wait in memory, requests go on");
            self.alarmed = Some(now);
        }
    }

    /// Whether the process ends and waited long enough for its last rows.
    fn is_hopeless(&mut self, closing: bool, now: Moment) -> bool {
        closing && now.since(*self.closing_since.get_or_insert(now)) >= LAST_PATIENCE
    }
}
