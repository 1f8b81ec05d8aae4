//! The rows on their way to the file: taken from any thread without waiting, handed to the writer in bundles.
//!
//! Bounded. Whoever gives a row may get an [`Ack`], which says when the row is in the file; while the file cannot be
//! written nobody gets one, so that requests go on and their rows wait.

use super::{
    entry::Entry,
    settings::{Durability, LedgerSettings, WhenFull},
};
use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// The most rows of one transaction.
const BUNDLE: usize = 4_000;

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

/// A row that waits, with whoever waits for it.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) ack: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Rows that the writer holds at the moment.
    in_hand: usize,
    closing: bool,
}

/// The queue, and what is known of how the writing goes.
pub(super) struct Queue {
    settings: LedgerSettings,
    waiting: Mutex<Waiting>,
    came: Condvar,
    /// Whether the last attempt to write failed.
    pub(super) stuck: AtomicBool,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// What the writer is to do next.
pub(super) struct Bundle {
    pub(super) jobs: Vec<Job>,
    pub(super) closing: bool,
}

impl Queue {
    pub(super) fn new(settings: LedgerSettings) -> Queue {
        Queue {
            settings,
            waiting: Mutex::default(),
            came: Condvar::new(),
            stuck: AtomicBool::new(false),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a row in. Never waits.
    pub(super) fn push(&self, entry: Entry) -> Option<Ack> {
        let stuck = self.stuck.load(Ordering::Relaxed);
        let mut waiting = self.lock();
        let length = waiting.jobs.len() + waiting.in_hand;
        if length >= self.settings.queue && self.settings.when_full == WhenFull::DropOldest {
            waiting.jobs.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let is_awaited = match self.settings.durability {
            Durability::Strict => true,
            // Nobody waits for the file, but nobody runs away from it either.
            Durability::Relaxed => length >= self.settings.queue / 2,
        };
        let (ack, receiver) = if is_awaited && !stuck {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(Ack { receiver, wait: self.settings.commit_wait }))
        } else {
            (None, None)
        };
        waiting.jobs.push_back(Job { entry, ack });
        let is_first = waiting.jobs.len() == 1;
        drop(waiting);
        if is_first {
            self.came.notify_one();
        }
        receiver
    }

    /// Rows that are not in the file yet.
    pub(super) fn length(&self) -> usize {
        let waiting = self.lock();
        waiting.jobs.len() + waiting.in_hand
    }

    /// Waits for rows, at most this long, and gives them to the writer.
    pub(super) fn take(&self, patience: Duration) -> Bundle {
        let mut waiting = self.lock();
        if waiting.jobs.is_empty() && !waiting.closing {
            waiting = self.came.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = waiting.jobs.len().min(BUNDLE);
        let jobs: Vec<Job> = waiting.jobs.drain(..count).collect();
        waiting.in_hand = jobs.len();
        Bundle { jobs, closing: waiting.closing }
    }

    /// The writer has written what it had in hand: those who wait are told.
    pub(super) fn wrote(&self, jobs: Vec<Job>) {
        self.lock().in_hand = 0;
        self.written.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        jobs.into_iter().filter_map(|job| job.ack).for_each(|ack| _ = ack.send(()));
    }

    /// The writer could not write: nobody waits for these rows any longer, nor for those behind them.
    pub(super) fn failed(&self, jobs: &mut [Job]) {
        self.stuck.store(true, Ordering::Relaxed);
        let mut waiting = self.lock();
        jobs.iter_mut().chain(waiting.jobs.iter_mut()).for_each(|job| job.ack = None);
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

    /// No more rows will come.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.came.notify_all();
    }
}
