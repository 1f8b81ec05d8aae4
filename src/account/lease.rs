//! Leases, and the wait for one.
//!
//! A lease counts as in flight from the moment that it is made until it drops, on every path, a panic included. Between
//! choosing and leasing nothing is trusted: the place is taken first, then the account's health is asked under its lock.

use super::{
    health::{Probe, Standing},
    line::{Line, Ticket},
    pool::{Candidate, Unavailable},
    schedule::{self, Choice, select},
};
use crate::clock::Moment;
use std::sync::Arc;

/// How often a choice is made anew when others take the place first; after that the request waits its turn.
const MOST_ROUNDS: u64 = 64;

/// Leases the best of the candidates that are not among `tried`.
pub(super) fn lease(
    line: &Arc<Line>,
    (candidates, tried): (&[Candidate], &[usize]),
    draw: u64,
    now: Moment,
) -> Result<Lease, Unavailable> {
    for round in 0..MOST_ROUNDS {
        let options = candidates.iter().enumerate().map(|(at, c)| c.standing(tried.contains(&at), now));
        let (index, candidate) = match select(options, schedule::mix(draw, round)) {
            Choice::Pick(index) => match candidates.get(index) {
                Some(candidate) => (index, candidate),
                None => break,
            },
            Choice::Busy { until } => return Err(Unavailable::Busy { until }),
            Choice::Away { until } => return Err(Unavailable::Cooling { until }),
        };
        let live = &candidate.account.live;
        if !live.in_flight.enter(candidate.account.settings.limits.concurrency) {
            continue;
        }
        match candidate.admit(now) {
            Ok(probe) => return Ok(Lease::new(line, (index, candidate), probe, draw, now)),
            Err(_) => live.in_flight.leave(),
        }
    }
    Err(Unavailable::Busy { until: None })
}

/// A request's place among those who want an account. It joins the line when it first finds everything busy, and keeps
/// its place there until it is dropped.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    candidates: Arc<[Candidate]>,
    tried: Box<[usize]>,
    ticket: Option<Ticket>,
}

impl Place {
    pub(super) fn new(line: Arc<Line>, candidates: Arc<[Candidate]>, tried: Box<[usize]>) -> Place {
        Place { line, candidates, tried, ticket: None }
    }

    /// Leases the best candidate, or the one that was kept for this request. After `Busy` the request is in the line.
    pub fn lease(&mut self, draw: u64, now: Moment) -> Result<Lease, Unavailable> {
        if let Some(lease) = self.granted(draw, now) {
            return Ok(lease);
        }
        let refused = match self.lease_any(draw, now) {
            Err(Unavailable::Busy { .. }) if self.ticket.is_none() => {
                self.ticket = Some(self.line.join(&self.candidates, &self.tried));
                // Again, for a place that was given back before the line was joined.
                self.lease_any(draw, now)
            }
            outcome => outcome,
        };
        if !matches!(refused, Err(Unavailable::Busy { .. })) {
            self.ticket = None;
        }
        refused
    }

    /// Waits until a place was kept for this request; call [`Place::lease`] then. Waits for ever before the first `Busy`.
    pub async fn called(&self) {
        match &self.ticket {
            Some(ticket) => ticket.called().await,
            None => std::future::pending().await,
        }
    }

    fn lease_any(&self, draw: u64, now: Moment) -> Result<Lease, Unavailable> {
        lease(&self.line, (&self.candidates, &self.tried), draw, now)
    }

    /// Turns a kept place into a lease, if the account still takes requests.
    fn granted(&mut self, draw: u64, now: Moment) -> Option<Lease> {
        let ticket = self.ticket.as_ref()?;
        let index = ticket.take_grant()?;
        let candidate = self.candidates.get(index)?;
        match candidate.admit(now) {
            Ok(probe) => {
                let lease = Lease::new(&self.line, (index, candidate), probe, draw, now);
                self.ticket = None;
                Some(lease)
            }
            Err(refused) => {
                let live = &candidate.account.live;
                live.in_flight.leave();
                if matches!(refused, Standing::Away(_)) {
                    // Those behind wait for it in vain as well: each looks anew, none twice.
                    self.line.grant(live, ticket.behind(), 1);
                }
                None
            }
        }
    }
}

/// The right to send one request to an account. Dropping it gives the place back and wakes the first one who waits for it.
#[derive(Debug)]
pub struct Lease {
    /// Index among the candidates.
    pub index: usize,
    /// What was leased.
    pub candidate: Candidate,
    /// When it was made.
    pub begun: Moment,
    /// The random number that it was drawn with.
    pub(super) draw: u64,
    line: Arc<Line>,
    probe: Probe,
}

impl Lease {
    fn new(line: &Arc<Line>, (index, candidate): (usize, &Candidate), probe: Probe, draw: u64, begun: Moment) -> Lease {
        Lease { index, candidate: candidate.clone(), line: line.clone(), begun, draw, probe }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let live = &self.candidate.account.live;
        live.release(&self.candidate.upstream_model, self.probe);
        live.in_flight.leave();
        self.line.grant(live, 0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        pool::{Demand, Pool},
        testing::{account, pool},
    };
    use super::*;
    use crate::{
        clock::ManualClock,
        provider::verdict::{FailureClass, Verdict},
        wire::Endpoint,
    };
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    fn messages(pool: &Pool, model: &str) -> Arc<[Candidate]> {
        pool.candidates(&Demand { model, endpoint: &Endpoint::Messages })
    }

    /// Whether the place's turn has come, without waiting for it.
    fn is_called(place: &Place) -> bool {
        pin!(place.called()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    fn is_busy(outcome: Result<Lease, Unavailable>) -> bool {
        matches!(outcome, Err(Unavailable::Busy { .. }))
    }

    fn fault() -> Verdict {
        Verdict::fault("test")
    }

    #[test]
    fn who_came_first_is_served_first_and_nobody_overtakes() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("a", "anthropic").cap(1)], &[]);
        let candidates = messages(&pool, "m");
        let held = pool.lease(&candidates, &[], 0, now).unwrap();
        let mut places: Vec<_> = (0..3).map(|_| pool.line_up(&candidates, &[])).collect();
        for place in &mut places {
            assert!(is_busy(place.lease(0, now)));
            assert!(!is_called(place));
        }
        assert_eq!(pool.waiting(), 3);
        let mut held = Some(held);
        for at in 0..3 {
            drop(held.take());
            assert!(is_busy(pool.lease(&candidates, &[], 0, now)), "a newcomer does not snatch the place");
            assert!(places.iter().enumerate().all(|(other, place)| is_called(place) == (other == at)));
            held = Some(places[at].lease(0, now).unwrap());
            assert_eq!(pool.waiting(), 2 - at);
        }
        drop(held);
        assert!(pool.lease(&candidates, &[], 0, now).is_ok());
    }

    #[test]
    fn a_free_place_goes_to_the_first_who_wants_that_account() {
        let now = ManualClock::new().now();
        let accounts = [account("x", "anthropic").model("mx").cap(1), account("y", "anthropic").model("my").cap(1)];
        let pool = pool(&accounts, &[]);
        let (wants_x, wants_y) = (messages(&pool, "mx"), messages(&pool, "my"));
        let _x = pool.lease(&wants_x, &[], 0, now).unwrap();
        let y = pool.lease(&wants_y, &[], 0, now).unwrap();
        let (mut first, mut second) = (pool.line_up(&wants_x, &[]), pool.line_up(&wants_y, &[]));
        assert!(is_busy(first.lease(0, now)) && is_busy(second.lease(0, now)));
        drop(y);
        assert!(!is_called(&first) && is_called(&second));
        assert!(second.lease(0, now).is_ok());
    }

    #[test]
    fn a_tried_account_is_not_waited_for() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("x", "anthropic").cap(1), account("y", "anthropic").cap(1)], &[]);
        let candidates = messages(&pool, "m");
        let x = pool.lease(&candidates, &[1], 0, now).unwrap();
        let y = pool.lease(&candidates, &[0], 0, now).unwrap();
        let mut place = pool.line_up(&candidates, &[0]);
        assert!(is_busy(place.lease(0, now)));
        drop(x);
        assert!(!is_called(&place));
        drop(y);
        assert_eq!(place.lease(0, now).unwrap().index, 1);
    }

    #[test]
    fn who_leaves_the_line_after_being_called_leaves_the_place_to_the_next() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("a", "anthropic").cap(1)], &[]);
        let candidates = messages(&pool, "m");
        let held = pool.lease(&candidates, &[], 0, now).unwrap();
        let (mut first, mut second) = (pool.line_up(&candidates, &[]), pool.line_up(&candidates, &[]));
        assert!(is_busy(first.lease(0, now)) && is_busy(second.lease(0, now)));
        drop(held);
        drop(first);
        assert!(is_called(&second));
        drop(second.lease(0, now).unwrap());
        drop(second);
        assert_eq!(pool.waiting(), 0);
        assert_eq!(pool.accounts()[0].live.in_flight.count(), 0);
    }

    #[test]
    fn those_who_wait_for_a_test_all_go_when_it_succeeds() {
        let clock = ManualClock::new();
        let pool = pool(&[account("a", "anthropic")], &[]);
        let candidates = messages(&pool, "m");
        let lease = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        (0..3).for_each(|_| drop(pool.report_failure(&lease, &fault(), clock.now())));
        clock.advance(Duration::from_secs(1));
        let test = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        let mut places: Vec<_> = (0..4).map(|_| pool.line_up(&candidates, &[])).collect();
        assert!(places.iter_mut().all(|place| is_busy(place.lease(0, clock.now()))));
        assert_eq!(pool.report_success(&test, clock.now()).as_deref(), Some("ready"));
        assert!(places.iter().all(is_called));
        assert!(places.iter_mut().all(|place| place.lease(0, clock.now()).is_ok()));
        assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn those_who_wait_for_a_test_all_learn_that_it_failed() {
        let clock = ManualClock::new();
        let pool = pool(&[account("a", "anthropic")], &[]);
        let candidates = messages(&pool, "m");
        let lease = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        (0..3).for_each(|_| drop(pool.report_failure(&lease, &fault(), clock.now())));
        clock.advance(Duration::from_secs(1));
        let test = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        let mut places: Vec<_> = (0..4).map(|_| pool.line_up(&candidates, &[])).collect();
        assert!(places.iter_mut().all(|place| is_busy(place.lease(0, clock.now()))));
        assert!(pool.report_failure(&test, &fault(), clock.now()).is_some());
        drop(test);
        for place in &mut places {
            assert!(is_called(place));
            assert!(matches!(place.lease(0, clock.now()), Err(Unavailable::Cooling { until: Some(_) })));
        }
        drop(lease);
        assert_eq!(pool.accounts()[0].live.in_flight.count(), 0);
    }

    #[test]
    fn a_test_that_ends_without_a_word_hands_the_test_on() {
        let clock = ManualClock::new();
        let pool = pool(&[account("a", "anthropic")], &[]);
        let candidates = messages(&pool, "m");
        let lease = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        pool.report_failure(&lease, &Verdict { class: FailureClass::Rate, ..fault() }, clock.now());
        clock.advance(Duration::from_secs(1));
        let test = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        let mut place = pool.line_up(&candidates, &[]);
        assert!(is_busy(place.lease(0, clock.now())));
        drop(test);
        assert!(is_called(&place) && place.lease(0, clock.now()).is_ok());
    }

    #[test]
    fn busy_says_when_one_that_is_away_comes_back() {
        let clock = ManualClock::new();
        let pool = pool(&[account("x", "anthropic").cap(1), account("y", "anthropic")], &[]);
        let candidates = messages(&pool, "m");
        let y = pool.lease(&candidates, &[0], 0, clock.now()).unwrap();
        let told = Verdict { class: FailureClass::Rate, retry_after: Some(Duration::from_secs(2)), ..fault() };
        pool.report_failure(&y, &told, clock.now());
        let _x = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        let mut place = pool.line_up(&candidates, &[]);
        let Err(Unavailable::Busy { until: Some(until) }) = place.lease(0, clock.now()) else { panic!("not busy") };
        assert_eq!(until.since(clock.now()), Duration::from_secs(2));
        clock.advance(Duration::from_secs(2));
        assert_eq!(place.lease(0, clock.now()).unwrap().index, 1);
    }

    /// Eight tasks on two threads fight for three places; nobody may wait for ever, and no cap may be passed.
    #[test]
    fn nobody_waits_for_ever_while_places_come_free() {
        let clock = ManualClock::new();
        let accounts = [account("a", "anthropic").cap(2), account("b", "anthropic").model("m").cap(1)];
        let pool = Arc::new(pool(&accounts, &[]));
        let served = Arc::new(std::sync::atomic::AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (pool, clock, served) = (pool.clone(), clock.clone(), served.clone());
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for round in 0..400_u64 {
                        let candidates = messages(&pool, if thread % 2 == 0 { "m" } else { "other" });
                        let mut place = pool.line_up(&candidates, &[]);
                        let lease = loop {
                            match place.lease(thread << 32 | round, clock.now()) {
                                Ok(lease) => break lease,
                                Err(Unavailable::Busy { .. }) => runtime.block_on(place.called()),
                                Err(Unavailable::Cooling { .. }) => panic!("nothing is cooling"),
                            }
                        };
                        let account = &lease.candidate.account;
                        assert!(account.live.in_flight.count() <= account.settings.limits.concurrency.unwrap());
                        served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(served.load(std::sync::atomic::Ordering::Relaxed), 3_200);
        assert_eq!(pool.waiting(), 0);
        assert!(pool.accounts().iter().all(|account| account.live.in_flight.count() == 0));
    }
}
