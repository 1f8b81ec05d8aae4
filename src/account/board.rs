//! Keeps how the candidates of one demand stand, so that a choice need not look at them all.
//!
//! Reads which accounts have changed since the last choice, and those whose time has come, and looks at these again. Its
//! invariant: what it chooses was open when it was last looked at, and it is looked at again after every change. Who leases
//! checks once more, since others choose at the same time.

use super::{
    appetite::Need,
    candidate::Candidate,
    changes::{BATCH, Changes, Unseen},
    claim::{Hold, Home},
    live::{Begun, Live, Refused},
    schedule::{Choice, Fitness, Readiness, Schedule, Standing},
};
use crate::clock::Moment;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// So many whose time has come are looked at before one choice, unless there is nothing to choose.
const MOST_REVIEWS: usize = 64;
/// A standing that says it is over already is looked at again after this.
const AGAIN: Duration = Duration::from_millis(1);

/// What is asked of a board.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// Which candidates are out of the question.
    pub(super) left_out: &'a [usize],
    /// Where the conversation is at home.
    pub(super) home: Option<Home>,
    pub(super) draw: u64,
    pub(super) now: Moment,
}

/// What a board chose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) choice: Choice,
    /// Whether the conversation is at home there from now on, if it goes well.
    pub(super) moves: bool,
}

#[derive(Debug)]
pub(super) struct Board {
    /// The accounts' numbers with their places among the candidates, in order.
    places: Box<[(u32, u32)]>,
    /// What does not change of each candidate, side by side.
    fixed: Box<[Fixed]>,
    changes: Arc<Changes>,
    kept: Mutex<Kept>,
}

/// What a look at a candidate and most leases need of it: a whole account is many lines of memory.
#[derive(Debug)]
pub(super) struct Fixed {
    live: Arc<Live>,
    /// The rank of its target and priority.
    tier: u32,
    weight: u32,
    cap: Option<u32>,
    /// Whether it has limits or quotas of its own, so that it always has to be looked at as a whole.
    is_limited: bool,
}

const _: () = assert!(size_of::<Fixed>() <= 32);

impl Fixed {
    fn of(candidate: &Candidate, tier: u32) -> Fixed {
        let settings = &candidate.account.settings;
        let is_limited = settings.limits.rpm.is_some() || settings.limits.tpm.is_some() || !settings.quotas.is_empty();
        let (weight, cap) = (settings.weight, settings.limits.concurrency);
        Fixed { live: candidate.account.live.clone(), tier, weight, cap, is_limited }
    }

    /// Takes a place for a request, if one is free, then asks the candidate that it belongs to for leave, where a glance is
    /// not enough; without leave the place is given back.
    pub(super) fn begin(&self, candidate: &Candidate, need: Need, now: Moment) -> Option<Result<Begun, Refused>> {
        if !self.live.enter(self.cap) {
            return None;
        }
        let plain = if self.is_limited { None } else { self.live.begin_plain() };
        let begun = plain.map_or_else(|| candidate.begin(need, now), Ok);
        Some(begun.inspect_err(|_| self.live.leave()))
    }

    /// How it stands, where a glance is enough.
    fn glance(&self) -> Option<Standing> {
        if self.is_limited || !self.live.is_plain() {
            return None;
        }
        let in_flight = self.live.in_flight();
        let is_full = self.cap.is_some_and(|cap| in_flight >= cap);
        let readiness = if is_full { Readiness::Full } else { Readiness::Open };
        Some(Standing { tier: self.tier, scarcity: 0, weight: self.weight, in_flight, readiness, review: None })
    }
}

#[derive(Debug)]
struct Kept {
    schedule: Schedule,
    /// How many of the changes have been read.
    seen: u64,
}

impl Board {
    pub(super) fn new(candidates: &[Candidate], changes: Arc<Changes>, now: Moment) -> Board {
        let mut places: Vec<_> = (0..).zip(candidates).map(|(at, c)| (c.account.live.number(), at)).collect();
        places.sort_unstable();
        let mut rank = 0;
        let mut before: Option<&Candidate> = None;
        let tier = |candidate| {
            let key = |c: &Candidate| (c.target, c.account.settings.priority);
            rank += u32::from(before.replace(candidate).is_some_and(|before| key(before) != key(candidate)));
            Fixed::of(candidate, rank)
        };
        let fixed = candidates.iter().map(tier).collect();
        let kept = Kept { schedule: Schedule::new(candidates.len(), now), seen: changes.written() };
        let board = Board { places: places.into(), fixed, changes, kept: Mutex::new(kept) };
        {
            let mut kept = board.kept.lock().unwrap_or_else(PoisonError::into_inner);
            board.look_at_all(&mut kept.schedule, candidates, now);
        }
        board
    }

    /// Chooses among the candidates that the board was made for. `stale` is one whose standing turned out to be another
    /// than the board knew.
    pub(super) fn choose(&self, candidates: &[Candidate], wish: &Wish<'_>, stale: Option<usize>) -> Chosen {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        self.catch_up(kept, candidates, wish.now);
        if let Some(at) = stale {
            self.look_at(&mut kept.schedule, candidates, at, wish.now);
        }
        match wish.home {
            Some(home) => self.choose_near(kept, candidates, wish, home),
            None => Chosen { choice: kept.schedule.choose(wish.left_out, wish.draw), moves: true },
        }
    }

    /// Chooses the conversation's own account where that is fit, or has to be waited for.
    fn choose_near(&self, kept: &mut Kept, candidates: &[Candidate], wish: &Wish<'_>, home: Home) -> Chosen {
        let mut places = self.places(home.account).peekable();
        let is_here = places.peek().is_some();
        let at = places.find(|at| !wish.left_out.contains(at));
        let fitness = at.map_or(Fitness::Unfit, |at| kept.schedule.fitness(at, wish.left_out));
        let stays = |choice| Chosen { choice, moves: false };
        match (home.hold, fitness, at) {
            (_, Fitness::Fit, Some(at)) => stays(Choice::Pick(at)),
            (Hold::Bound | Hold::Only, Fitness::Crowded | Fitness::Spared, Some(at)) => stays(Choice::Pick(at)),
            (Hold::Bound | Hold::Only, Fitness::Full, _) => stays(Choice::Busy { until: None }),
            (Hold::Only, _, _) if is_here => {
                let back = |at: usize| match candidates.get(at)?.standing(0, wish.now).readiness {
                    Readiness::Away(until) => until,
                    Readiness::Open | Readiness::Full => None,
                };
                stays(Choice::Away { until: at.and_then(back) })
            }
            (_, fitness, _) => {
                // One that is only busy has the conversation back for its next turn.
                let moves = !matches!(fitness, Fitness::Full | Fitness::Crowded);
                Chosen { choice: kept.schedule.choose(wish.left_out, wish.draw), moves }
            }
        }
    }

    /// What does not change of a candidate.
    pub(super) fn fixed(&self, at: usize) -> Option<&Fixed> {
        self.fixed.get(at)
    }

    /// Where an account stands among the candidates.
    pub(super) fn places(&self, account: u32) -> impl Iterator<Item = usize> {
        let first = self.guess(account).unwrap_or_else(|| self.places.partition_point(|place| place.0 < account));
        self.places.get(first..).unwrap_or_default().iter().take_while(move |p| p.0 == account).map(|p| p.1 as usize)
    }

    /// Where the account is if all numbers are there and each once, as mostly in a configuration that serves one model:
    /// a search among thousands reads a dozen places that are far from each other.
    fn guess(&self, account: u32) -> Option<usize> {
        let at = account.checked_sub(self.places.first()?.0)? as usize;
        let before = at.checked_sub(1).and_then(|before| self.places.get(before));
        let is_it = self.places.get(at)?.0 == account && before.is_none_or(|before| before.0 < account);
        is_it.then_some(at)
    }

    fn catch_up(&self, kept: &mut Kept, candidates: &[Candidate], now: Moment) {
        let mut batch = [0; BATCH];
        loop {
            let Unseen::Some(filled) = self.changes.read(&mut kept.seen, &mut batch) else {
                self.look_at_all(&mut kept.schedule, candidates, now);
                continue;
            };
            let mut before = None;
            for account in batch.iter().take(filled).copied() {
                if before.replace(account) != Some(account) {
                    self.places(account).for_each(|at| self.look_at(&mut kept.schedule, candidates, at, now));
                }
            }
            if filled < BATCH {
                break;
            }
        }
        for reviews in 0..candidates.len() {
            let Some(at) = kept.schedule.due(now).filter(|_| reviews < MOST_REVIEWS || !kept.schedule.is_any_open())
            else {
                break;
            };
            self.look_at(&mut kept.schedule, candidates, at, now);
        }
    }

    fn look_at_all(&self, schedule: &mut Schedule, candidates: &[Candidate], now: Moment) {
        (0..candidates.len()).for_each(|at| self.look_at(schedule, candidates, at, now));
    }

    fn look_at(&self, schedule: &mut Schedule, candidates: &[Candidate], at: usize, now: Moment) {
        let Some(fixed) = self.fixed.get(at) else { return };
        if let Some(standing) = fixed.glance() {
            return schedule.set(at, &standing);
        }
        let Some(candidate) = candidates.get(at) else { return };
        let mut standing = candidate.standing(fixed.tier, now);
        let later = |moment: Moment| if moment.mono > now.mono { moment } else { now.plus(AGAIN) };
        standing.review = standing.review.map(later);
        if let Readiness::Away(until) = &mut standing.readiness {
            *until = until.map(later);
        }
        schedule.set(at, &standing);
    }
}
