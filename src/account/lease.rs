//! Leases, and the wait for one.
//!
//! A lease counts as in flight from the moment that it is made until it drops, on every path, a panic included. Between
//! choosing and leasing nothing is trusted: the place is taken first, then the account's health is asked, under its lock
//! unless nothing is known against it.

use super::{
    appetite::Need,
    board::{Chosen, Wish},
    candidate::{Candidate, Candidates},
    claim::{Arrival, Claim, Hold, Home},
    health::Standing,
    line::{Line, Ticket},
    live::{Begun, Refused, Took},
    pool::Unavailable,
    schedule::{self, Choice, LeftOut},
    windows::Origin,
};
use crate::clock::Moment;
use std::sync::Arc;

/// How often a choice is made anew when others take the place first; after that the request waits its turn.
const MOST_ROUNDS: u64 = 64;
/// So many accounts without room for a request of its size are passed over.
const MOST_PASSED: usize = 24;

/// Leases the best of the candidates that are not among `tried`, or the one where the conversation is at home.
pub(super) fn lease(
    line: &Arc<Line>,
    (candidates, tried): (&Candidates, &[usize]),
    (claim, home): (&Claim, Option<Home>),
    (draw, now): (u64, Moment),
) -> Result<Lease, Unavailable> {
    let (mut stale, mut passed) = (None, Passed::default());
    for round in 0..MOST_ROUNDS {
        let left_out = passed.left_out.as_ref().map_or(tried, LeftOut::as_slice);
        let wish = Wish { left_out, home, draw: schedule::mix(draw, round), now };
        let Chosen { choice, moves } = candidates.choose(&wish, stale);
        let (index, candidate, fixed) = match choice {
            Choice::Pick(index) => match candidates.get(index).zip(candidates.fixed(index)) {
                Some((candidate, fixed)) => (index, candidate, fixed),
                None => break,
            },
            Choice::Busy { until } => return Err(Unavailable::Busy { until: passed.earlier(until) }),
            Choice::Away { until } => return Err(Unavailable::Cooling { until: passed.earlier(until) }),
        };
        // Others may have been quicker than the board.
        stale = Some(index);
        let Some(begun) = fixed.begin(candidate, claim.need, now) else { continue };
        match begun {
            Ok(begun) => {
                let arrival = claim.conversation.filter(|_| moves).map(|c| arrival(c, home));
                let terms = Terms { need: claim.need, begun, arrival };
                return Ok(Lease::new(line, (index, candidate), terms, (draw, now)));
            }
            Err(Refused::NoRoom(_, until)) if !passed.over(index, tried, until) => {
                return Err(Unavailable::Cooling { until: passed.until });
            }
            Err(Refused::NoRoom(..) | Refused::Health(_)) => {}
        }
    }
    Err(Unavailable::Busy { until: None })
}

fn arrival(conversation: u64, home: Option<Home>) -> Arrival {
    Arrival { conversation, left: home.map(|home| home.account) }
}

/// The accounts that have no room for this request, though they may have for a smaller one.
#[derive(Default)]
struct Passed {
    left_out: Option<LeftOut>,
    count: usize,
    /// When the first of them has room.
    until: Option<Moment>,
}

impl Passed {
    /// Adds one; `false` where that is one too many.
    fn over(&mut self, index: usize, tried: &[usize], until: Option<Moment>) -> bool {
        self.left_out.get_or_insert_with(|| LeftOut::of(tried)).add(index);
        self.count += 1;
        self.until = self.earlier(until);
        self.count <= MOST_PASSED
    }

    fn earlier(&self, until: Option<Moment>) -> Option<Moment> {
        match (self.until, until) {
            (Some(a), Some(b)) => Some(if b.mono < a.mono { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// A request's place among those who want an account. It joins the line when it first finds everything busy, and keeps
/// its place there until it is dropped.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    candidates: Arc<Candidates>,
    tried: Box<[usize]>,
    claim: Claim,
    home: Option<Home>,
    ticket: Option<Ticket>,
}

impl Place {
    pub(super) fn new(
        line: Arc<Line>,
        candidates: Arc<Candidates>,
        tried: Box<[usize]>,
        (claim, home): (Claim, Option<Home>),
    ) -> Place {
        Place { line, candidates, tried, claim, home, ticket: None }
    }

    /// Leases the best candidate, or the one that was kept for this request. After `Busy` the request is in the line.
    pub fn lease(&mut self, draw: u64, now: Moment) -> Result<Lease, Unavailable> {
        if let Some(lease) = self.granted(draw, now) {
            return Ok(lease);
        }
        let refused = match self.lease_any(draw, now) {
            Err(Unavailable::Busy { .. }) if self.ticket.is_none() => {
                let only = self.home.filter(|home| home.hold == Hold::Only).map(|home| home.account);
                self.ticket = Some(self.line.join(&self.candidates, &self.tried, (&self.claim, only), now));
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

    /// How many were in line when this request joined it, itself included; 0 before that.
    pub fn position(&self) -> usize {
        self.ticket.as_ref().map_or(0, Ticket::position)
    }

    /// Whether no other account than one can serve the request.
    pub fn is_tied(&self) -> bool {
        self.home.is_some_and(|home| home.hold == Hold::Only)
    }

    /// Whether the conversation's own account is waited for while others could serve.
    pub fn is_bound(&self) -> bool {
        self.home.is_some_and(|home| home.hold == Hold::Bound)
    }

    /// Gives up waiting for the conversation's own account while others could serve. Returns whether that changes
    /// anything.
    pub fn settle_for_another(&mut self) -> bool {
        let bound = self.home.as_mut().filter(|home| home.hold == Hold::Bound);
        bound.map(|home| home.hold = Hold::Prefers).is_some()
    }

    fn lease_any(&self, draw: u64, now: Moment) -> Result<Lease, Unavailable> {
        lease(&self.line, (&self.candidates, &self.tried), (&self.claim, self.home), (draw, now))
    }

    /// Turns a kept place into a lease, if the account still takes requests.
    fn granted(&mut self, draw: u64, now: Moment) -> Option<Lease> {
        let ticket = self.ticket.as_ref()?;
        let index = ticket.take_grant(now)?;
        let candidate = self.candidates.get(index)?;
        match candidate.begin(self.claim.need, now) {
            Ok(begun) => {
                // Who has a home had to leave it for want of a place there: the next turn finds it again.
                let conversation = self.claim.conversation.filter(|_| self.home.is_none());
                let arrival = conversation.map(|c| arrival(c, None));
                let terms = Terms { need: self.claim.need, begun, arrival };
                self.ticket = None;
                Some(Lease::new(&self.line, (index, candidate), terms, (draw, now)))
            }
            Err(refused) => {
                let live = &candidate.account.live;
                live.leave();
                if matches!(refused, Refused::Health(Standing::Away(_)) | Refused::NoRoom(..)) {
                    // Those behind may wait for it in vain as well: each looks anew.
                    self.line.call_all(live);
                }
                None
            }
        }
    }
}

/// The right to send one request to an account. Dropping it gives the place back and wakes the next one who waits for it.
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
    terms: Terms,
    /// What it took in the end; nothing as long as nobody says so.
    took: Took,
}

/// What was agreed for one request.
#[derive(Clone, Copy, Debug)]
struct Terms {
    need: Need,
    begun: Begun,
    /// The conversation that is at home here if it goes well.
    arrival: Option<Arrival>,
}

impl Lease {
    fn new(
        line: &Arc<Line>,
        (index, candidate): (usize, &Candidate),
        terms: Terms,
        (draw, begun): (u64, Moment),
    ) -> Lease {
        Lease { index, candidate: candidate.clone(), line: line.clone(), begun, draw, terms, took: Took::default() }
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { begun: self.begun, tally: self.terms.begun.tally }
    }

    pub(super) fn arrival(&self) -> Option<&Arrival> {
        self.terms.arrival.as_ref()
    }

    /// Says what the request took, to be booked when the lease drops; the last word counts. Without one it took nothing.
    pub fn took(&mut self, took: Took) {
        self.took = took;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let live = &self.candidate.account.live;
        live.release(&self.candidate.upstream_model, self.terms.begun.probe);
        if !self.candidate.is_counting {
            live.settle(&self.candidate.asked(), (self.terms.need, &self.terms.begun), &self.took, self.begun);
        }
        live.leave();
        self.line.grant(live, 1);
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

    fn messages(pool: &Pool, model: &str) -> Arc<Candidates> {
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
        let mut places: Vec<_> = (0..3).map(|_| pool.line_up(&candidates, &[], Claim::default(), now)).collect();
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
    fn the_line_s_figures_tell_each_place_and_each_wait() {
        let clock = ManualClock::new();
        let pool = pool(&[account("a", "anthropic").cap(1)], &[]);
        let candidates = messages(&pool, "m");
        let mut held = Some(pool.lease(&candidates, &[], 0, clock.now()).unwrap());
        let mut places: Vec<_> =
            (0..3).map(|_| pool.line_up(&candidates, &[], Claim::default(), clock.now())).collect();
        assert!(places.iter_mut().all(|place| is_busy(place.lease(0, clock.now()))));
        assert_eq!(places.iter().map(Place::position).collect::<Vec<_>>(), [1, 2, 3]);
        let mut turned_away = pool.line_up(&candidates, &[], Claim::default(), clock.now());
        assert!(is_busy(turned_away.lease(0, clock.now())));
        drop(turned_away);
        assert!(!places.iter().chain(&places).any(is_called));
        // The last one gives up; the others are served after 2 and 6 seconds.
        places.pop();
        for (place, wait) in places.iter_mut().zip([2, 4]) {
            clock.advance(Duration::from_secs(wait));
            drop(held.take());
            held = Some(place.lease(0, clock.now()).unwrap());
        }
        let figures = pool.line();
        assert_eq!((figures.joined, figures.places.count(), figures.places.sum()), (3, 3, 6.0));
        assert_eq!((figures.waits.count(), figures.waits.sum()), (2, 8.0));
    }

    #[test]
    fn a_free_place_goes_to_the_first_who_wants_that_account() {
        let now = ManualClock::new().now();
        let accounts = [account("x", "anthropic").model("mx").cap(1), account("y", "anthropic").model("my").cap(1)];
        let pool = pool(&accounts, &[]);
        let (wants_x, wants_y) = (messages(&pool, "mx"), messages(&pool, "my"));
        let _x = pool.lease(&wants_x, &[], 0, now).unwrap();
        let y = pool.lease(&wants_y, &[], 0, now).unwrap();
        let (mut first, mut second) =
            (pool.line_up(&wants_x, &[], Claim::default(), now), pool.line_up(&wants_y, &[], Claim::default(), now));
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
        let mut place = pool.line_up(&candidates, &[0], Claim::default(), now);
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
        let (mut first, mut second) = (
            pool.line_up(&candidates, &[], Claim::default(), now),
            pool.line_up(&candidates, &[], Claim::default(), now),
        );
        assert!(is_busy(first.lease(0, now)) && is_busy(second.lease(0, now)));
        drop(held);
        drop(first);
        assert!(is_called(&second));
        drop(second.lease(0, now).unwrap());
        drop(second);
        assert_eq!(pool.waiting(), 0);
        assert_eq!(pool.accounts()[0].live.in_flight(), 0);
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
        let mut places: Vec<_> =
            (0..4).map(|_| pool.line_up(&candidates, &[], Claim::default(), clock.now())).collect();
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
        let mut places: Vec<_> =
            (0..4).map(|_| pool.line_up(&candidates, &[], Claim::default(), clock.now())).collect();
        assert!(places.iter_mut().all(|place| is_busy(place.lease(0, clock.now()))));
        assert!(pool.report_failure(&test, &fault(), clock.now()).is_some());
        drop(test);
        for place in &mut places {
            assert!(is_called(place));
            assert!(matches!(place.lease(0, clock.now()), Err(Unavailable::Cooling { until: Some(_) })));
        }
        drop(lease);
        assert_eq!(pool.accounts()[0].live.in_flight(), 0);
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
        let mut place = pool.line_up(&candidates, &[], Claim::default(), clock.now());
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
        let mut place = pool.line_up(&candidates, &[], Claim::default(), clock.now());
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
                        let mut place = pool.line_up(&candidates, &[], Claim::default(), clock.now());
                        let lease = loop {
                            match place.lease(thread << 32 | round, clock.now()) {
                                Ok(lease) => break lease,
                                Err(Unavailable::Busy { .. }) => runtime.block_on(place.called()),
                                Err(Unavailable::Cooling { .. }) => panic!("nothing is cooling"),
                            }
                        };
                        let account = &lease.candidate.account;
                        assert!(account.live.in_flight() <= account.settings.limits.concurrency.unwrap());
                        served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(served.load(std::sync::atomic::Ordering::Relaxed), 3_200);
        assert_eq!(pool.waiting(), 0);
        assert!(pool.accounts().iter().all(|account| account.live.in_flight() == 0));
    }
}
