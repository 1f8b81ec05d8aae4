//! The gateway's own bounds: requests at the same time, request bytes in memory, requests that wait.
//!
//! Each is a counter with a guard that gives back on drop.

use crate::live::Counters;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Adds `amount` unless that passes `limit`.
fn take(counter: &AtomicUsize, amount: usize, limit: usize) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| now.checked_add(amount).filter(|sum| *sum <= limit))
        .is_ok()
}

/// A place among the requests at the same time.
pub(super) struct RequestPermit(Arc<Counters>);

impl RequestPermit {
    /// Takes a place, whatever the bound: the caller compares the returned count and refuses politely.
    pub(super) fn take(counters: &Arc<Counters>) -> (RequestPermit, usize) {
        let now = counters.requests.fetch_add(1, Ordering::Relaxed) + 1;
        (RequestPermit(counters.clone()), now)
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of one request body, counted among those in flight.
pub(super) struct BodyPermit {
    counters: Arc<Counters>,
    bytes: usize,
}

impl BodyPermit {
    /// A permit for no bytes yet.
    pub(super) fn new(counters: &Arc<Counters>) -> BodyPermit {
        BodyPermit { counters: counters.clone(), bytes: 0 }
    }

    /// Counts the body at `total` bytes; `false` where that passes the bound for all bodies together.
    pub(super) fn grow_to(&mut self, total: usize, limit: usize) -> bool {
        let more = total.saturating_sub(self.bytes);
        let taken = take(&self.counters.body_bytes, more, limit);
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.counters.body_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A place among the waiting.
pub(super) struct WaitPermit(Arc<Counters>);

impl WaitPermit {
    /// Takes a place in a queue of this length, if one is free.
    pub(super) fn take(counters: &Arc<Counters>, length: usize) -> Option<WaitPermit> {
        take(&counters.waiting, 1, length).then(|| WaitPermit(counters.clone()))
    }
}

impl Drop for WaitPermit {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_never_passed_and_all_comes_back() {
        let counters = Arc::new(Counters::default());
        let mut first = BodyPermit::new(&counters);
        assert!(first.grow_to(60, 100));
        let mut second = BodyPermit::new(&counters);
        assert!(!second.grow_to(41, 100));
        assert!(second.grow_to(40, 100));
        drop((first, second));
        assert_eq!(counters.body_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_queue_takes_nobody() {
        let counters = Arc::new(Counters::default());
        let place = WaitPermit::take(&counters, 1);
        assert!(place.is_some() && WaitPermit::take(&counters, 1).is_none());
        drop(place);
        assert!(WaitPermit::take(&counters, 1).is_some());
    }
}
