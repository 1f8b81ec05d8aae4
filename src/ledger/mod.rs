//! What every attempt used, and what it cost: counts, prices, and the file that keeps them.
//!
//! A row is taken from any thread without waiting; one thread writes all that wait in one transaction. The file is SQLite
//! in the data directory, so that whatever has been committed survives the process. Invariant: a row counts once, and
//! leaves memory only into the file, unless the settings say otherwise.

pub mod count;
pub mod entry;
pub mod export;
pub mod price;
pub mod query;
mod queue;
pub mod reconcile;
mod schema;
pub mod settings;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use count::{Count, Counts};
pub use entry::{Entry, Outcome};
pub use price::{Price, PriceTable, Unpriced};
pub use query::{Group, Reader, Spent};
pub use queue::Ack;
pub use settings::{Durability, LedgerSettings, WhenFull};
pub use store::{FILE_NAME, LedgerError};

use crate::clock::Clock;
use queue::Queue;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
};
use store::Store;
use writer::Writer;

/// The most models without a price that are remembered as named.
const MOST_NAMED: usize = 1_000;

/// The ledger of a running gateway.
pub struct Ledger {
    path: PathBuf,
    settings: LedgerSettings,
    queue: Arc<Queue>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    unpriced: Mutex<HashSet<(String, String)>>,
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
    /// Opens or makes the file in this directory, and starts the thread that writes.
    pub fn open(directory: &Path, settings: LedgerSettings, clock: Clock) -> Result<Ledger, LedgerError> {
        let path = directory.join(FILE_NAME);
        let store = Store::open(&path, &settings)?;
        let queue = Arc::new(Queue::new(settings));
        let writer = Writer::new(queue.clone(), store, settings, clock);
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run());
        let thread =
            thread.map_err(|error| LedgerError::Asked(format!("the ledger's thread cannot start: {error}")))?;
        Ok(Ledger { path, settings, queue, thread: Mutex::new(Some(thread)), unpriced: Mutex::default() })
    }

    /// Takes a row in, without waiting. Where its commit is to be waited for, says so.
    pub fn submit(&self, entry: Entry) -> Option<Ack> {
        if entry.cost_nanos.is_none() {
            self.name_unpriced(&entry);
        }
        self.queue.push(entry)
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
            unpriced: self.unpriced.lock().unwrap_or_else(PoisonError::into_inner).len(),
        }
    }

    /// Opens the file for questions.
    pub fn reader(&self) -> Result<Reader, LedgerError> {
        Reader::open(&self.path)
    }

    /// Writes what waits, and ends. Rows that come later are not written.
    pub fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("ledger: the thread that writes has panicked");
        }
    }

    /// Names a model without a price in the log, once.
    fn name_unpriced(&self, entry: &Entry) {
        let mut named = self.unpriced.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < MOST_NAMED && named.insert((entry.provider.to_owned(), entry.served.clone())) {
            log::warn!(
                "the model {:?} of {} has no price: its tokens are counted, its cost is unknown (`prices.models`)",
                entry.served,
                entry.provider
            );
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}
