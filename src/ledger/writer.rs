//! The thread that writes: all rows that wait in one transaction, then tells those who wait for them.
//!
//! Where the file cannot be written (disk full, file locked) it keeps the rows in hand and tries again until it can.
//! Invariant: a row leaves its hands only into the file; at the end of the process, also into the journal.

use super::{
    queue::{Queue, Sealed},
    recover,
    segment::Segment,
    settings::LedgerSettings,
    store::{LedgerError, Store},
};
use crate::clock::{Clock, Moment};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How the ledger is kept, and by which clock.
type Setting = (LedgerSettings, Clock);

/// The most rows of one transaction.
const BUNDLE: usize = 4_000;
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
/// How often segments of processes that have ended are looked for.
const ADOPT_EVERY: Duration = Duration::from_secs(10);
/// How long the end is put off for rows that cannot be written, neither into the file nor into the journal.
const LAST_PATIENCE: Duration = Duration::from_secs(20);

/// The writer's state.
pub(super) struct Writer {
    directory: PathBuf,
    queue: Arc<Queue>,
    store: Store,
    settings: LedgerSettings,
    clock: Clock,
    rolled: Moment,
    unrolled: usize,
    forgot: Option<Moment>,
    adopted: Moment,
}

impl Writer {
    pub(super) fn new(directory: PathBuf, queue: Arc<Queue>, store: Store, (settings, clock): Setting) -> Writer {
        let now = clock.now();
        // What a process that was killed left behind is summed up first.
        let (rolled, unrolled, forgot, adopted) = (now, ROLL_AFTER, None, now);
        Writer { directory, queue, store, settings, clock, rolled, unrolled, forgot, adopted }
    }

    /// Writes until the queue is closed and empty. The spare segment takes the place of the one that is filled.
    pub(super) fn run(mut self, mut spare: Segment) {
        loop {
            let mut sealed = self.queue.take(spare, ROLL_EVERY);
            let is_idle = sealed.segment.rows() == 0;
            if !is_idle && !self.write(&mut sealed) {
                return;
            }
            if is_idle && sealed.closing {
                self.keep_house(true);
                sealed.segment.remove();
                return;
            }
            spare = self.done(sealed);
            self.keep_house(is_idle);
        }
    }

    /// Writes a segment's rows, however long it takes. `false` where the end came before they could be written.
    fn write(&mut self, sealed: &mut Sealed) -> bool {
        let mut trouble: Option<Trouble> = None;
        let (mut place, mut left) = (0, sealed.segment.rows());
        while left > 0 {
            let mut rows = sealed.segment.records(place);
            match self.store.write(&mut rows, BUNDLE) {
                Ok(_) => {
                    place = sealed.segment.place(&rows);
                    left = left.saturating_sub(BUNDLE);
                }
                Err(error) => {
                    let trouble = trouble.get_or_insert(Trouble::new(self.clock.now()));
                    if self.is_over(&error, sealed, trouble) {
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
        true
    }

    /// Waits before the next attempt. Gives whether there is none, since the process ends.
    fn is_over(&mut self, error: &LedgerError, sealed: &mut Sealed, trouble: &mut Trouble) -> bool {
        let is_safe = self.queue.failed(sealed);
        trouble.alarm(error, self.queue.length(), self.clock.now());
        // The attempt that has just failed was the last one, if the end had come before it.
        let is_last = trouble.closing_since.is_some();
        let closing = self.queue.pause(RETRY);
        if is_last && is_safe {
            log::warn!("ledger: {} rows wait in the journal, for the next start", self.queue.length());
            return true;
        }
        let is_hopeless = trouble.is_hopeless(closing, self.clock.now());
        if is_hopeless {
            log::error!("ledger: {} rows are lost: nothing could be written", self.queue.length());
        }
        is_hopeless
    }

    /// Those who wait are told, and the segment is empty again.
    fn done(&mut self, mut sealed: Sealed) -> Segment {
        let rows = sealed.segment.rows();
        if rows > 0 {
            // The rows are in the file: should they be read from the journal as well, they count once.
            let emptied = sealed.segment.empty();
            emptied.unwrap_or_else(|error| log::warn!("ledger: a segment of the journal stays full: {error}"));
            self.unrolled += rows;
            self.queue.wrote(rows, sealed.acks);
        }
        sealed.segment
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
        if now.since(self.adopted) >= ADOPT_EVERY {
            let adopted = recover::take_in(&self.directory, &mut self.store);
            self.unrolled += adopted.unwrap_or_else(|error| {
                log::debug!("{error}");
                0
            });
            self.adopted = now;
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
    fn new(since: Moment) -> Trouble {
        Trouble { since, alarmed: None, closing_since: None }
    }

    fn alarm(&mut self, error: &LedgerError, waiting: usize, now: Moment) {
        if self.alarmed.is_none_or(|alarmed| now.since(alarmed) >= ALARM_EVERY) {
            log::error!("{error}: {waiting} rows wait, requests go on");
            self.alarmed = Some(now);
        }
    }

    /// Whether the process ends and waited long enough for its last rows.
    fn is_hopeless(&mut self, closing: bool, now: Moment) -> bool {
        closing && now.since(*self.closing_since.get_or_insert(now)) >= LAST_PATIENCE
    }
}
