//! What every attempt used, and what it cost: counts, prices, and the file that keeps them.
//!
//! A row is taken from any thread without waiting, and appended to a journal, where it survives the process; one thread
//! writes all that wait into the file in one transaction. The file is SQLite in the data directory. Invariant: a row counts
//! once, and leaves journal and memory only into the file, unless the settings say otherwise.

pub mod count;
pub mod entry;
pub mod export;
mod insert;
mod kinds;
pub mod price;
pub mod query;
mod queue;
pub mod reconcile;
mod record;
mod recover;
mod schema;
mod segment;
pub mod settings;
mod store;
mod sums;
mod writer;

#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod tests;

pub use count::{Count, Counts};
pub use entry::{Entry, Outcome};
pub use price::{Price, PriceTable, Unpriced};
pub use query::{Group, Reader, Spent};
pub use queue::Ack;
pub use recover::recover;
pub use settings::{Durability, LedgerSettings, WhenFull};
pub use store::{FILE_NAME, LedgerError};

use crate::clock::Clock;
use queue::Queue;
use segment::Segment;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};
use store::Store;
use writer::Writer;

/// The most models without a price that are remembered as named.
const MOST_NAMED: usize = 1_000;
/// How long a question waits for the rows that are on their way.
const FLUSH: Duration = Duration::from_secs(2);

/// Models without a price that have been named in the log, by their providers.
type Named = BTreeMap<Box<str>, BTreeSet<Box<str>>>;

/// The ledger of a running gateway.
pub struct Ledger {
    path: PathBuf,
    settings: LedgerSettings,
    queue: Arc<Queue>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    unpriced: Mutex<Named>,
}

/// How the ledger is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Rows that are not in the file yet.
    pub waiting: usize,
    /// Whether the last attempt to write failed.
    pub stuck: bool,
    /// Rows written since the start.
    pub written: u64,
    /// Rows given up since the start (`when_full: drop_oldest`).
    pub dropped: u64,
    /// Models that were used and have no price.
    pub unpriced: usize,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("path", &self.path).field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens or makes the file in this directory, takes in what a process that was killed left behind, and starts the
    /// thread that writes.
    pub fn open(directory: &Path, settings: LedgerSettings, clock: Clock) -> Result<Ledger, LedgerError> {
        let path = directory.join(FILE_NAME);
        let mut store = Store::open(&path, &settings)?;
        if let Err(error) = recover::take_in(directory, &mut store) {
            // Not lost: the writer tries again.
            log::error!("rows of an earlier process are not in the ledger yet: {error}");
        }
        let journal = |cause| LedgerError::Journal { path: directory.to_owned(), cause };
        let queue = Arc::new(Queue::new(directory.to_owned(), settings).map_err(journal)?);
        let spare = Segment::create(directory).map_err(journal)?;
        let writer = Writer::new(directory.to_owned(), queue.clone(), store, (settings, clock));
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(spare));
        let thread =
            thread.map_err(|error| LedgerError::Asked(format!("the ledger's thread cannot start: {error}")))?;
        Ok(Ledger { path, settings, queue, thread: Mutex::new(Some(thread)), unpriced: Mutex::default() })
    }

    /// Takes a row in, without waiting. Where nothing would hold it if the process were killed, and its commit is to be
    /// waited for, says so.
    pub fn submit(&self, entry: Entry<'_>) -> Option<Ack> {
        if entry.cost_nanos.is_none() {
            self.name_unpriced(&entry);
        }
        self.queue.push(&entry)
    }

    /// Whether so many rows wait that new requests are to be refused.
    pub fn is_full(&self) -> bool {
        self.settings.when_full == WhenFull::Refuse
            && self.queue.stuck.load(Ordering::Relaxed)
            && self.queue.length() >= self.settings.queue
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        Health {
            waiting: self.queue.length(),
            stuck: self.queue.stuck.load(Ordering::Relaxed),
            written: self.queue.written.load(Ordering::Relaxed),
            dropped: self.queue.dropped.load(Ordering::Relaxed),
            unpriced: length(&self.unpriced.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Opens the file for questions. What this process has taken in is in it, unless the file cannot be written.
    pub fn reader(&self) -> Result<Reader, LedgerError> {
        self.flush();
        Reader::open(&self.path)
    }

    /// Waits until what has been taken in is in the file, for a short time at most.
    pub fn flush(&self) {
        self.queue.flush(FLUSH);
    }

    /// Writes what waits, and ends. A row that comes later is in the file after the next start.
    pub fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("ledger: the thread that writes has panicked");
        }
    }

    /// Names a model without a price in the log, once.
    fn name_unpriced(&self, entry: &Entry<'_>) {
        let mut named = self.unpriced.lock().unwrap_or_else(PoisonError::into_inner);
        if named.get(entry.provider).is_some_and(|models| models.contains(entry.served)) {
            return;
        }
        if length(&named) < MOST_NAMED {
            named.entry(entry.provider.into()).or_default().insert(entry.served.into());
            log::warn!(
                "the model {:?} of {} has no price: its tokens are counted, its cost is unknown (`prices.models`)",
                entry.served,
                entry.provider
            );
        }
    }
}

fn length(named: &Named) -> usize {
    named.values().map(BTreeSet::len).sum()
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}
