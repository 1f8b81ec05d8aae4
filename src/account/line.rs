//! The line of requests that wait for an account with a free place.
//!
//! Each user has a queue of its own, first come first served, and the users take turns by deficit round robin: a turn is
//! worth a number of tokens, and who asks for much waits for more turns, so that nobody's crowd, nor anybody's long requests,
//! keep another user waiting. A place that becomes free is taken for the request whose turn it is before that request is
//! woken, so nobody who comes later can snatch it, and nobody polls. The line has no bound of its own; who lets requests
//! wait bounds them.

use super::{candidate::Candidates, claim::Claim, live::Live, steps::Steps};
use crate::clock::Moment;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// What one turn of a user is worth, in tokens.
const TURN: u64 = 8_192;
/// How much of the average time between two places a new one replaces.
const LEARNING: f64 = 0.1;

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    /// How many wait; read without the lock by every request that ends.
    length: AtomicUsize,
}

/// Borders of places in line.
const PLACES: Steps = Steps::new(&[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]);
/// Borders of waits, in seconds.
const WAITS: Steps = Steps::new(&[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0]);

/// How the line stands, for metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineFigures {
    /// Requests that wait.
    pub waiting: usize,
    /// Users with requests that wait.
    pub users: usize,
    /// Requests that have ever waited.
    pub joined: u64,
    /// Of these, how many were given a place.
    pub served: u64,
    /// The time that those who were given a place waited, all together.
    pub waited: Duration,
    /// The time between two places that were given out, on average of late.
    pub pace: Duration,
    /// How many were in line when each of those that have ever waited joined it, itself included.
    pub places: Steps,
    /// The waits of those who were given a place, in seconds.
    pub waits: Steps,
}

impl Default for LineFigures {
    fn default() -> LineFigures {
        let (waited, pace) = (Duration::ZERO, Duration::ZERO);
        LineFigures { waiting: 0, users: 0, joined: 0, served: 0, waited, pace, places: PLACES, waits: WAITS }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Who waits, in the order of turns.
    users: VecDeque<Queue>,
    next_ticket: u64,
    figures: LineFigures,
    /// When the last place was given out, or the line began.
    last: Option<Moment>,
}

/// Those of one user, first come first served.
#[derive(Debug)]
struct Queue {
    user: u64,
    /// Tokens that the user's turns were worth and that it has not had yet.
    credit: u64,
    line: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    wants: Arc<Candidates>,
    /// Indices of `wants` that it does not want after all.
    tried: Box<[usize]>,
    /// The only account that can serve it, if there is but one.
    only: Option<u32>,
    cost: u64,
    joined: Moment,
    /// The candidate in whose account a place was taken for it.
    granted: Option<usize>,
    bell: Arc<Notify>,
}

impl Waiter {
    fn wish(&self, live: &Arc<Live>) -> Option<usize> {
        if self.only.is_some_and(|only| only != live.number()) {
            return None;
        }
        self.wants.position(live, &self.tried)
    }
}

/// One request's ticket. Dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Ticket {
    line: Arc<Line>,
    user: u64,
    number: u64,
    position: usize,
    /// Whether it is among the figures: not before it waits, since a full queue turns it away.
    is_counted: AtomicBool,
    bell: Arc<Notify>,
}

impl Line {
    /// Joins the end of the user's queue.
    pub(super) fn join(
        self: &Arc<Self>,
        wants: &Arc<Candidates>,
        tried: &[usize],
        (claim, only): (&Claim, Option<u32>),
        now: Moment,
    ) -> Ticket {
        let bell = Arc::new(Notify::new());
        let mut waiting = self.lock();
        let number = waiting.next_ticket;
        waiting.next_ticket += 1;
        let waiter = Waiter {
            ticket: number,
            wants: wants.clone(),
            tried: tried.into(),
            only,
            cost: claim.cost(),
            joined: now,
            granted: None,
            bell: bell.clone(),
        };
        if waiting.users.is_empty() {
            waiting.last = Some(now);
        }
        waiting.join(claim.user, waiter);
        let position = self.length.fetch_add(1, Ordering::SeqCst) + 1;
        Ticket { line: self.clone(), user: claim.user, number, position, is_counted: AtomicBool::new(false), bell }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Gives free places of an account to at most `most` of those who want it, in fair turns.
    pub(super) fn grant(&self, live: &Arc<Live>, most: usize) {
        if self.len() == 0 {
            return;
        }
        let mut waiting = self.lock();
        for _ in 0..most {
            if !waiting.grant_one(live) {
                return;
            }
        }
    }

    /// Wakes all who want an account, to look anew at what there is.
    pub(super) fn call_all(&self, live: &Arc<Live>) {
        let waiting = self.lock();
        let all = waiting.users.iter().flat_map(|queue| &queue.line);
        all.filter(|waiter| waiter.granted.is_none() && waiter.wish(live).is_some()).for_each(|w| w.bell.notify_one());
    }

    /// How the line stands.
    pub(super) fn figures(&self) -> LineFigures {
        let waiting = self.lock();
        let count = waiting.users.iter().map(|queue| queue.line.len()).sum();
        LineFigures { waiting: count, users: waiting.users.len(), ..waiting.figures }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn join(&mut self, user: u64, waiter: Waiter) {
        match self.users.iter_mut().find(|queue| queue.user == user) {
            Some(queue) => queue.line.push_back(waiter),
            None => self.users.push_back(Queue { user, credit: 0, line: [waiter].into() }),
        }
    }

    /// Gives one place of an account to the user whose turn it is; `false` where nobody wants it or none is free.
    fn grant_one(&mut self, live: &Arc<Live>) -> bool {
        let mut next: Option<Turn> = None;
        for (order, queue) in self.users.iter().enumerate() {
            let Some(turn) = queue.turn(order, live) else { continue };
            if next.as_ref().is_none_or(|best| turn.rounds < best.rounds) {
                next = Some(turn);
            }
        }
        let Some(turn) = next else { return false };
        let queue = self.users.get_mut(turn.order).and_then(|queue| queue.line.get_mut(turn.place));
        let Some(waiter) = queue else { return false };
        let cap = waiter.wants.get(turn.candidate).and_then(|c| c.account.settings.limits.concurrency);
        if !live.enter(cap) {
            return false;
        }
        waiter.granted = Some(turn.candidate);
        waiter.bell.notify_one();
        self.pay(&turn, live);
        true
    }

    /// Gives all who were passed over the turns that the one needed who was not.
    fn pay(&mut self, served: &Turn, live: &Arc<Live>) {
        let worth = TURN.saturating_mul(served.rounds);
        for (order, queue) in self.users.iter_mut().enumerate() {
            if order == served.order {
                queue.credit = queue.credit.saturating_add(worth).saturating_sub(served.cost);
            } else if worth > 0 && queue.turn(order, live).is_some() {
                queue.credit = queue.credit.saturating_add(worth);
            }
        }
        // Who has had its turn comes after the others.
        if let Some(queue) = self.users.remove(served.order) {
            self.users.push_back(queue);
        }
    }

    fn waiter(&mut self, user: u64, ticket: u64) -> Option<&mut Waiter> {
        let queue = self.users.iter_mut().find(|queue| queue.user == user)?;
        let at = queue.line.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        queue.line.get_mut(at)
    }

    fn leave(&mut self, user: u64, ticket: u64) -> Option<Waiter> {
        let order = self.users.iter().position(|queue| queue.user == user)?;
        let queue = self.users.get_mut(order)?;
        let at = queue.line.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        let left = queue.line.remove(at);
        if queue.line.is_empty() {
            self.users.remove(order);
        }
        left
    }

    fn served(&mut self, joined: Moment, now: Moment) {
        let since = now.since(self.last.replace(now).unwrap_or(now)).as_secs_f64();
        let figures = &mut self.figures;
        figures.served += 1;
        figures.waited = figures.waited.saturating_add(now.since(joined));
        figures.waits.observe(now.since(joined).as_secs_f64());
        let old = figures.pace.as_secs_f64();
        let mixed = if old == 0.0 { since } else { old + (since - old) * LEARNING };
        figures.pace = Duration::try_from_secs_f64(mixed).unwrap_or_default();
    }
}

/// One user's claim to the next place.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Where the user stands in the order of turns.
    order: usize,
    /// Where the request stands in the user's queue.
    place: usize,
    /// Which of its candidates the place would be.
    candidate: usize,
    cost: u64,
    /// How many more turns the user has to wait for it.
    rounds: u64,
}

impl Queue {
    /// The user's claim to a place of this account, for its first request that wants one and has none yet.
    fn turn(&self, order: usize, live: &Arc<Live>) -> Option<Turn> {
        let mut without = self.line.iter().enumerate().filter(|(_, waiter)| waiter.granted.is_none());
        let (place, candidate, cost) =
            without.find_map(|(place, waiter)| Some((place, waiter.wish(live)?, waiter.cost)))?;
        let rounds = cost.saturating_sub(self.credit).div_ceil(TURN);
        Some(Turn { order, place, candidate, cost, rounds })
    }
}

impl Ticket {
    /// Takes the place that was taken for it: the candidate's index. Its account counts it as in flight.
    pub(super) fn take_grant(&self, now: Moment) -> Option<usize> {
        let mut waiting = self.line.lock();
        let waiter = waiting.waiter(self.user, self.number)?;
        let (granted, joined) = (waiter.granted.take()?, waiter.joined);
        waiting.served(joined, now);
        Some(granted)
    }

    /// How many were in line when it joined, itself included.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Waits until a place was taken for it, or there is reason to look anew.
    pub(super) async fn called(&self) {
        self.count();
        self.bell.notified().await;
    }

    fn count(&self) {
        if !self.is_counted.swap(true, Ordering::Relaxed) {
            let figures = &mut self.line.lock().figures;
            figures.joined += 1;
            figures.places.observe(self.position as f64);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let left = self.line.lock().leave(self.user, self.number);
        self.line.length.fetch_sub(1, Ordering::SeqCst);
        // A place that was taken for somebody who has gone is the next one's.
        let unused = left.and_then(|waiter| Some(waiter.wants.get(waiter.granted?)?.account.live.clone()));
        if let Some(live) = unused {
            live.leave();
            self.line.grant(&live, 1);
        }
    }
}
