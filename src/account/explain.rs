//! Says how each candidate of a demand stands and why, for a person who asks. Looks at all of them: never on a request's way.

use super::{
    candidate::{Candidate, Candidates},
    claim::{Claim, Hold, Home},
    health::Standing,
    outlook::{LimitName, Outlook},
    schedule::{self, Fitness, Rank, Readiness},
    windows::scarcity,
};
use crate::clock::Moment;
use std::fmt;

/// Why a candidate is not chosen, or that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is among the best: one of them is drawn by weight.
    Best,
    /// The conversation is at home there.
    Home,
    /// The request has tried it.
    Tried,
    /// Its health keeps it away; its state says why.
    Unwell,
    /// One request tests whether it is well again.
    Tested,
    /// A limit has no room.
    Limit(LimitName),
    /// As many requests as it may have are in flight.
    Full,
    /// Another target, or a lower priority number, comes first.
    Later,
    /// Others have more headroom.
    Scarcer,
    /// Others have less in flight for their weight.
    Busier,
    /// The conversation is at home elsewhere.
    NotHome,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Best => "among the best",
            Reason::Home => "the conversation is at home here",
            Reason::Tried => "tried already",
            Reason::Unwell => "not well",
            Reason::Tested => "being tested by another request",
            Reason::Limit(limit) => return write!(f, "no room: {limit}"),
            Reason::Full => "at its concurrency limit",
            Reason::Later => "a lower priority comes first",
            Reason::Scarcer => "others have more headroom",
            Reason::Busier => "others are less busy",
            Reason::NotHome => "the conversation is at home elsewhere",
        })
    }
}

/// How one candidate stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// Its place among the candidates.
    pub index: usize,
    /// Why it is or is not chosen.
    pub reason: Reason,
    /// Until when, where that is known.
    pub until: Option<Moment>,
    /// The smallest share that is left of any of its limits, from 0 to 1.
    pub headroom: f64,
    /// Its requests in flight.
    pub in_flight: u32,
    /// Its rank, if it can be chosen.
    rank: Option<Rank>,
}

/// Explains a choice that would be made now, behind what `told` holds already.
pub(super) fn explain(
    candidates: &Candidates,
    tried: &[usize],
    (claim, home): (&Claim, Option<Home>),
    now: Moment,
    told: &mut Vec<Explained>,
) {
    let from = told.len();
    let mut tier = 0;
    let mut before = None;
    told.reserve(candidates.len());
    for (at, candidate) in candidates.iter().enumerate() {
        let key = (candidate.target, candidate.account.settings.priority);
        tier += u32::from(before.replace(key).is_some_and(|before| before != key));
        told.push(look(candidate, (at, tier), tried.contains(&at), (claim, now)));
    }
    let Some(told) = told.get_mut(from..) else { return };
    let Some(best) = told.iter().filter_map(|explained| explained.rank).min() else { return };
    let is_home = |at: usize| home.filter(|home| is_at(candidates, at, home));
    let at_home = told.iter().find_map(|explained| {
        let fitness = explained.rank?.beside(best);
        let is_firm = is_home(explained.index)?.hold != Hold::Prefers;
        (is_firm || fitness == Fitness::Fit).then_some(explained.index)
    });
    for explained in told {
        let Some(rank) = explained.rank else { continue };
        explained.reason = match at_home {
            Some(at) if at == explained.index => Reason::Home,
            Some(_) => Reason::NotHome,
            None => against(rank, best),
        };
    }
}

fn is_at(candidates: &Candidates, at: usize, home: &Home) -> bool {
    candidates.get(at).is_some_and(|candidate| candidate.account.live.number() == home.account)
}

fn against(rank: Rank, best: Rank) -> Reason {
    match (rank == best, rank.tier() == best.tier(), rank.scarcity() == best.scarcity()) {
        (true, ..) => Reason::Best,
        (false, false, _) => Reason::Later,
        (false, true, false) => Reason::Scarcer,
        (false, true, true) => Reason::Busier,
    }
}

/// How one candidate stands.
fn look(
    candidate: &Candidate,
    (index, tier): (usize, u32),
    is_tried: bool,
    (claim, now): (&Claim, Moment),
) -> Explained {
    let (settings, live) = (&candidate.account.settings, &candidate.account.live);
    let (standing, limits) = match candidate.is_counting {
        true => (live.standing(&candidate.upstream_model, now), Outlook::CLEAR),
        false => live.look_for(&candidate.asked(), claim.need, now),
    };
    let in_flight = live.in_flight();
    let is_full = settings.limits.concurrency.is_some_and(|cap| in_flight >= cap);
    let (reason, until) = match (standing, limits.blocked) {
        _ if is_tried => (Reason::Tried, None),
        (Standing::Away(until), _) => (Reason::Unwell, until),
        (_, Some((limit, until))) => (Reason::Limit(limit), until),
        (Standing::Testing, None) if !candidate.is_counting => (Reason::Tested, None),
        (Standing::Open | Standing::Testing, None) if is_full => (Reason::Full, None),
        (Standing::Open | Standing::Testing, None) => (Reason::Best, None),
    };
    let (scarcity, weight, readiness) = (scarcity(limits.share), settings.weight, Readiness::Open);
    let standing = schedule::Standing { tier, scarcity, weight, in_flight, readiness, review: None };
    let rank = (reason == Reason::Best).then(|| Rank::of(&standing));
    Explained { index, reason, until, headroom: limits.share, in_flight, rank }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{account, pool};
    use super::*;
    use crate::{
        account::pool::{Demand, Pool},
        clock::ManualClock,
        provider::verdict::{FailureClass, Verdict},
        wire::Endpoint,
    };
    use std::{sync::Arc, time::Duration};

    fn candidates(pool: &Pool) -> Arc<Candidates> {
        pool.candidates(&Demand { model: "m", endpoint: &Endpoint::Messages })
    }

    fn reasons(pool: &Pool, tried: &[usize], claim: &Claim, now: Moment) -> Vec<String> {
        pool.explain(&candidates(pool), tried, claim, now).iter().map(|e| e.reason.to_string()).collect()
    }

    #[test]
    fn every_candidate_that_is_passed_over_has_its_reason_and_its_end() {
        let clock = ManualClock::new();
        let accounts = [
            account("well", "anthropic"),
            account("busy", "anthropic"),
            account("full", "anthropic").cap(0),
            account("cooling", "anthropic"),
            account("spent", "anthropic").rpm(1),
            account("later", "anthropic").priority(1),
        ];
        let pool = pool(&accounts, &[]);
        let all = candidates(&pool);
        let only = |at: usize| (0..all.len()).filter(|other| *other != at).collect::<Vec<_>>();
        let _busy = pool.lease(&all, &only(1), 0, clock.now()).unwrap();
        let cooling = pool.lease(&all, &only(3), 0, clock.now()).unwrap();
        let told =
            Verdict { class: FailureClass::Rate, retry_after: Some(Duration::from_secs(7)), ..Verdict::fault("x") };
        pool.report_failure(&cooling, &told, clock.now());
        drop(pool.lease(&all, &only(4), 0, clock.now()).unwrap());
        let explained = pool.explain(&all, &[], &Claim::default(), clock.now());
        let expected = [
            Reason::Best,
            Reason::Busier,
            Reason::Full,
            Reason::Unwell,
            Reason::Limit(LimitName::RequestsPerMinute),
            Reason::Later,
        ];
        assert_eq!(explained.iter().map(|e| e.reason).collect::<Vec<_>>(), expected);
        let waits: Vec<_> = explained.iter().map(|e| e.until.map(|until| until.since(clock.now()).as_secs())).collect();
        assert_eq!(waits, [None, None, None, Some(7), Some(60), None]);
        assert_eq!((explained[4].headroom, explained[1].in_flight), (0.0, 1));
        assert_eq!(pool.lease(&all, &[], 0, clock.now()).unwrap().index, 0, "and so it is chosen");
    }

    #[test]
    fn a_conversation_s_home_is_told_and_a_tried_account() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("a", "anthropic"), account("b", "anthropic")], &[]);
        let claim = Claim { conversation: Some(1), ..Claim::default() };
        let served = pool.line_up(&candidates(&pool), &[0], claim, now).lease(0, now).unwrap();
        pool.report_success(&served, now);
        assert_eq!(
            reasons(&pool, &[], &claim, now),
            ["the conversation is at home elsewhere", "the conversation is at home here"]
        );
        assert_eq!(reasons(&pool, &[1], &claim, now), ["among the best", "tried already"]);
    }
}
