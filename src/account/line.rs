//! The line of requests that wait for an account with a free place.
//!
//! First come, first served, each for the accounts that can serve it: a place that becomes free is taken for the first
//! request in the line that wants it before that request is woken, so nobody who comes later can snatch it, and nobody
//! polls. The line has no bound of its own; who lets requests wait bounds them.

use super::pool::{Candidate, Live};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// All who wait, in the order of their tickets.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    /// How many wait; read without the lock by every request that ends.
    length: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    line: VecDeque<Waiter>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    wants: Arc<[Candidate]>,
    /// Indices of `wants` that it does not want after all.
    tried: Box<[usize]>,
    /// The candidate in whose account a place was taken for it.
    granted: Option<usize>,
    bell: Arc<Notify>,
}

impl Waiter {
    fn wish(&self, live: &Arc<Live>) -> Option<usize> {
        let is_wanted = |(at, candidate): &(usize, &Candidate)| {
            Arc::ptr_eq(&candidate.account.live, live) && !self.tried.contains(at)
        };
        self.wants.iter().enumerate().find(is_wanted).map(|(at, _)| at)
    }
}

/// One request's ticket. Dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Ticket {
    line: Arc<Line>,
    number: u64,
    bell: Arc<Notify>,
}

impl Line {
    /// Joins the end of the line.
    pub(super) fn join(self: &Arc<Self>, wants: &Arc<[Candidate]>, tried: &[usize]) -> Ticket {
        let bell = Arc::new(Notify::new());
        let mut waiting = self.lock();
        let number = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.line.push_back(Waiter {
            ticket: number,
            wants: wants.clone(),
            tried: tried.into(),
            granted: None,
            bell: bell.clone(),
        });
        self.length.store(waiting.line.len(), Ordering::SeqCst);
        Ticket { line: self.clone(), number, bell }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Gives free places of an account to at most `most` of those who want it and hold at least this ticket.
    pub(super) fn grant(&self, live: &Arc<Live>, from_ticket: u64, most: usize) {
        if self.len() == 0 {
            return;
        }
        let mut waiting = self.lock();
        let eligible = waiting.line.iter_mut().filter(|w| w.ticket >= from_ticket && w.granted.is_none());
        for waiter in eligible.filter_map(|w| w.wish(live).map(|at| (at, w))).take(most) {
            let (at, waiter) = waiter;
            let cap = waiter.wants.get(at).and_then(|candidate| candidate.account.settings.limits.concurrency);
            if !live.in_flight.enter(cap) {
                return;
            }
            waiter.granted = Some(at);
            waiter.bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Takes the place that was taken for it: the candidate's index. Its account counts it as in flight.
    pub(super) fn take_grant(&self) -> Option<usize> {
        self.line.lock().line.iter_mut().find(|w| w.ticket == self.number)?.granted.take()
    }

    /// The ticket after this one.
    pub(super) fn behind(&self) -> u64 {
        self.number + 1
    }

    /// Waits until a place was taken for it.
    pub(super) async fn called(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        let Ok(at) = waiting.line.binary_search_by_key(&self.number, |waiter| waiter.ticket) else { return };
        let left = waiting.line.remove(at);
        self.line.length.store(waiting.line.len(), Ordering::SeqCst);
        drop(waiting);
        // A place that was taken for somebody who has gone is the next one's.
        let unused = left.and_then(|waiter| Some(waiter.wants.get(waiter.granted?)?.account.live.clone()));
        if let Some(live) = unused {
            live.in_flight.leave();
            self.line.grant(&live, 0, 1);
        }
    }
}
