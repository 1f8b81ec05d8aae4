//! The rows on their way to the file: taken from any thread without waiting, handed to the writer by the segment.
//!
//! Bounded. A row that the journal holds is safe from whatever kills the process, so that its reply need not wait. Whoever
//! gives a row that nothing holds yet may get an [`Ack`], which says when it is in the file; while the file cannot be
//! written nobody gets one, so that requests go on and their rows wait.

use super::{
    entry::Entry,
    segment::Segment,
    settings::{Durability, LedgerSettings, WhenFull},
};
use std::{
    io, mem,
    path::PathBuf,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// How long rows gather where nobody waits for them: many in one transaction are cheap (3.9 µs of CPU a row every 10 ms,
/// 2.6 every 40, 2.1 every 100, at 8,000 rows a second).
const PACE: Duration = Duration::from_millis(100);
/// So many rows gather no longer: their transaction would keep a core from the replies.
const MANY: usize = 2_000;

/// Comes when a row is in the file.
#[derive(Debug)]
pub struct Ack {
    receiver: oneshot::Receiver<()>,
    wait: Duration,
}

impl Ack {
    /// Waits until the row is in the file, at most the configured time. `false` where it is not; it waits on then, and
    /// the reply need not.
    pub async fn committed(self) -> bool {
        matches!(tokio::time::timeout(self.wait, self.receiver).await, Ok(Ok(())))
    }
}

struct Waiting {
    active: Segment,
    acks: Vec<oneshot::Sender<()>>,
    /// Rows that the writer holds at the moment.
    in_hand: usize,
    /// Rows that have left since the start: into the file, or given up.
    gone: u64,
    /// Whether somebody waits for what waits.
    hurry: bool,
    /// Whether the last row could not be put into the journal.
    unsafe_now: bool,
    closing: bool,
}

impl Waiting {
    fn length(&self) -> usize {
        self.active.rows() + self.in_hand
    }

    /// Puts into the journal what waits. Gives whether all of it is there.
    fn save(&mut self) -> bool {
        let saved = self.active.save();
        self.tell(&saved);
        saved.is_ok()
    }

    fn tell(&mut self, saved: &io::Result<()>) {
        match saved {
            Err(error) if !self.unsafe_now => {
                log::error!("ledger: the journal cannot be written, rows wait in memory: {error}");
            }
            Ok(()) if self.unsafe_now => log::warn!("ledger: the journal can be written again"),
            Ok(()) | Err(_) => {}
        }
        self.unsafe_now = saved.is_err();
    }
}

/// The queue, and what is known of how the writing goes.
pub(super) struct Queue {
    directory: PathBuf,
    settings: LedgerSettings,
    waiting: Mutex<Waiting>,
    came: Condvar,
    went: Condvar,
    /// Whether the last attempt to write failed.
    pub(super) stuck: AtomicBool,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// What the writer has in hand: a segment that nobody adds to any longer, and those who wait for its rows.
pub(super) struct Sealed {
    pub(super) segment: Segment,
    pub(super) acks: Vec<oneshot::Sender<()>>,
    pub(super) closing: bool,
}

impl Queue {
    pub(super) fn new(directory: PathBuf, settings: LedgerSettings) -> io::Result<Queue> {
        let active = Segment::create(&directory)?;
        let (acks, in_hand, gone, hurry, unsafe_now, closing) = (Vec::new(), 0, 0, false, false, false);
        Ok(Queue {
            directory,
            settings,
            waiting: Mutex::new(Waiting { active, acks, in_hand, gone, hurry, unsafe_now, closing }),
            came: Condvar::new(),
            went: Condvar::new(),
            stuck: AtomicBool::new(false),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Takes a row in. Never waits, but for the kernel to take its bytes.
    pub(super) fn push(&self, row: &Entry<'_>) -> Option<Ack> {
        let (settings, stuck) = (&self.settings, self.is_stuck());
        let is_strict = settings.durability == Durability::Strict;
        let mut waiting = self.lock();
        if stuck && settings.when_full == WhenFull::DropOldest {
            self.make_room(&mut waiting);
        }
        // Nobody waits for the file, but nobody runs away from it either.
        let is_crowded = waiting.length() >= settings.queue / 2;
        waiting.active.push(row);
        // Where each commit waits for the disk, a reply waits for the commit, and needs no journal before it.
        let is_journaled = is_strict && (!settings.fsync || stuck);
        let is_safe = is_journaled && waiting.save();
        let is_awaited = !stuck && (is_crowded || (is_strict && !is_safe));
        let ack = is_awaited.then(|| {
            let (sender, receiver) = oneshot::channel();
            waiting.acks.push(sender);
            Ack { receiver, wait: settings.commit_wait }
        });
        let is_news = matches!(waiting.active.rows(), 1 | MANY) || (is_awaited && !waiting.hurry);
        waiting.hurry |= is_awaited;
        drop(waiting);
        if is_news {
            self.came.notify_one();
        }
        ack
    }

    /// Gives up the oldest rows until there is room for one.
    fn make_room(&self, waiting: &mut Waiting) {
        while waiting.length() >= self.settings.queue && waiting.active.rows() > 0 {
            waiting.active.drop_first(&self.directory);
            waiting.gone += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Rows that are not in the file yet.
    pub(super) fn length(&self) -> usize {
        self.lock().length()
    }

    /// Waits for rows, at most this long, and lets them gather; then gives their segment to the writer, whose empty one
    /// takes its place.
    pub(super) fn take(&self, spare: Segment, patience: Duration) -> Sealed {
        let is_over = |waiting: &Waiting| waiting.closing || waiting.hurry;
        let mut waiting = self.lock();
        for (time, rows) in [(patience, 1), (PACE, MANY)] {
            let wait = |waiting: &mut Waiting| !is_over(waiting) && waiting.active.rows() < rows;
            waiting = self.came.wait_timeout_while(waiting, time, wait).unwrap_or_else(PoisonError::into_inner).0;
            if waiting.active.rows() == 0 {
                break;
            }
        }
        let segment = mem::replace(&mut waiting.active, spare);
        waiting.in_hand = segment.rows();
        waiting.hurry = false;
        Sealed { segment, acks: mem::take(&mut waiting.acks), closing: waiting.closing }
    }

    /// The writer has written what it had in hand: those who wait are told.
    pub(super) fn wrote(&self, rows: usize, acks: Vec<oneshot::Sender<()>>) {
        let mut waiting = self.lock();
        waiting.in_hand = 0;
        waiting.gone += rows as u64;
        drop(waiting);
        self.written.fetch_add(rows as u64, Ordering::Relaxed);
        self.went.notify_all();
        acks.into_iter().for_each(|ack| _ = ack.send(()));
    }

    /// The writer could not write: nobody waits for these rows any longer, nor for those behind them. Gives whether the
    /// journal holds all of them.
    pub(super) fn failed(&self, sealed: &mut Sealed) -> bool {
        self.stuck.store(true, Ordering::Relaxed);
        sealed.acks.clear();
        let mut waiting = self.lock();
        waiting.acks.clear();
        waiting.hurry = false;
        self.went.notify_all();
        let saved = sealed.segment.save();
        waiting.tell(&saved);
        saved.is_ok() && waiting.save()
    }

    /// Waits until the rows that have come so far are in the file, at most this long, and no longer than there is hope.
    pub(super) fn flush(&self, patience: Duration) {
        let mut waiting = self.lock();
        let target = waiting.gone + waiting.length() as u64;
        if waiting.gone < target && !waiting.closing && !self.is_stuck() {
            waiting.hurry = true;
            self.came.notify_one();
            let wait = |waiting: &mut Waiting| waiting.gone < target && !self.is_stuck();
            drop(self.went.wait_timeout_while(waiting, patience, wait));
        }
    }

    /// Sleeps before the next attempt, unless the end has come. Gives whether it has.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let waiting = self.lock();
        if waiting.closing {
            drop(waiting);
            std::thread::sleep(time);
            return true;
        }
        self.came.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// The writer is to write what waits and to end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.came.notify_all();
    }
}

#[cfg(test)]
impl Queue {
    /// From now on nothing more can be written to the segment in use.
    pub(super) fn fill_the_disk(&self) {
        self.lock().active.fill_the_disk();
    }
}

impl Drop for Queue {
    /// A segment with rows stays, for the next start.
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        if waiting.active.rows() == 0 {
            waiting.active.remove();
        }
    }
}
