//! Why past requests went where they went: the last of them, for whoever asks by a request's id.
//!
//! Never on a request's way longer than a push. Bounded in requests, and in the candidates that are looked at for each.

use super::{
    Claim,
    candidate::Candidates,
    explain::{Explained, Reason},
    pool::Pool,
};
use crate::{clock::Moment, config, provider::verdict::Verdict, telemetry};
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// One choice: an attempt of a request.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The account that was chosen, by its place among the candidates.
    pub index: usize,
    /// When.
    pub at: Moment,
    /// How long it was waited for.
    pub waited: Duration,
    /// Which of what the decision explains belongs to it.
    explained: Range<usize>,
    /// Why the attempt failed: class and reason; `None` where it did not.
    pub failed: Option<(&'static str, String)>,
}

/// The choices of one request.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The request's id.
    pub request: String,
    /// The model asked for.
    pub model: String,
    /// The ways there were.
    pub candidates: Arc<Candidates>,
    /// Whether it belongs to a conversation that is known by its fields or its beginning.
    pub has_conversation: bool,
    /// One for each attempt.
    pub choices: Vec<Choice>,
    /// What is known of all choices, one behind the other.
    explained: Vec<Explained>,
}

impl Decision {
    /// Begins for a request that has not chosen yet. The memory of the request before is used again.
    fn begin(&mut self, request: &str, model: &str, candidates: Arc<Candidates>, claim: &Claim) {
        self.request.clear();
        self.request.push_str(request);
        self.model.clear();
        self.model.push_str(telemetry::clip(model));
        self.candidates = candidates;
        self.has_conversation = claim.conversation.is_some() || claim.previous.is_some();
        self.choices.clear();
        self.explained.clear();
    }

    /// Notes a choice that was just made.
    pub fn chose(
        &mut self,
        pool: &Pool,
        (index, tried, claim): (usize, &[usize], &Claim),
        (at, waited): (Moment, Duration),
        bounds: &config::Explain,
    ) {
        let from = self.explained.len();
        if self.candidates.len() <= bounds.candidates {
            pool.explain_behind(&self.candidates, (tried, claim), at, &mut self.explained);
        }
        let mut own = self.explained.iter_mut().skip(from);
        if let Some(chosen) = own.find(|explained| explained.index == index)
            && chosen.reason != Reason::Home
        {
            chosen.reason = Reason::Best;
        }
        self.choices.push(Choice { index, at, waited, explained: from..self.explained.len(), failed: None });
    }

    /// How the candidates of a choice stood, the chosen one as it was after it had been taken; none where there were too
    /// many.
    pub fn explained(&self, choice: &Choice) -> &[Explained] {
        self.explained.get(choice.explained.clone()).unwrap_or_default()
    }

    /// The last choice failed.
    pub fn failed(&mut self, verdict: &Verdict) {
        if let Some(choice) = self.choices.last_mut() {
            choice.failed = Some((verdict.class.name(), verdict.reason.clone()));
        }
    }
}

/// Most forgotten decisions that wait for their memory to be used again.
const MOST_SPARE: usize = 64;

/// The decisions about the last requests.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<Kept>);

/// Decisions live long and come at every request: with memory of their own each time, all that is freed around them would
/// lie scattered.
#[derive(Debug, Default)]
struct Kept {
    /// The newest one first.
    decisions: VecDeque<Box<Decision>>,
    #[expect(clippy::vec_box, reason = "they come from the other list, and go to requests, in their boxes")]
    spare: Vec<Box<Decision>>,
}

impl Decisions {
    /// The decision of a request that has not chosen yet.
    pub fn begin(&self, request: &str, model: &str, candidates: Arc<Candidates>, claim: &Claim) -> Box<Decision> {
        let mut decision = self.lock().spare.pop().unwrap_or_default();
        decision.begin(request, model, candidates, claim);
        decision
    }

    /// Keeps a finished request's; the oldest are forgotten.
    pub fn keep(&self, decision: Box<Decision>, bounds: &config::Explain) {
        let mut kept = self.lock();
        kept.decisions.push_front(decision);
        while kept.decisions.len() > bounds.requests {
            let forgotten = kept.decisions.pop_back();
            if kept.spare.len() < MOST_SPARE {
                kept.spare.extend(forgotten);
            }
        }
    }

    /// The newest one about the request of this id.
    pub fn find(&self, request: &str) -> Option<Decision> {
        self.lock().decisions.iter().find(|kept| kept.request == request).map(|kept| Decision::clone(kept))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{account, pool};
    use super::*;
    use crate::{account::pool::Demand, clock::ManualClock, wire::Endpoint};

    const BOUNDS: config::Explain = config::Explain { requests: 2, candidates: 2 };

    fn decision(decisions: &Decisions, pool: &Pool, request: &str, now: Moment) -> Box<Decision> {
        let candidates = pool.candidates(&Demand { model: "m", endpoint: &Endpoint::Messages });
        let mut decision = decisions.begin(request, "m", candidates.clone(), &Claim::default());
        let lease = pool.lease(&candidates, &[], 0, now).unwrap();
        decision.chose(pool, (lease.index, &[], &Claim::default()), (now, Duration::ZERO), &BOUNDS);
        decision
    }

    #[test]
    fn a_decision_tells_of_each_attempt_and_of_who_was_passed_over() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("a", "anthropic"), account("b", "anthropic").priority(1)], &[]);
        let mut decision = decision(&Decisions::default(), &pool, "r1", now);
        decision.failed(&Verdict::fault("reset"));
        let choice = &decision.choices[0];
        let reasons: Vec<_> = decision.explained(choice).iter().map(|explained| explained.reason).collect();
        assert_eq!((choice.index, reasons), (0, vec![Reason::Best, Reason::Later]));
        assert_eq!(choice.failed, Some(("fault", "reset".to_owned())));
    }

    #[test]
    fn decisions_and_what_is_looked_at_for_them_are_bounded() {
        let now = ManualClock::new().now();
        let few = pool(&[account("a", "anthropic")], &[]);
        let decisions = Decisions::default();
        for n in 0..5 {
            decisions.keep(decision(&decisions, &few, &format!("r{n}"), now), &BOUNDS);
        }
        assert!(decisions.find("r4").is_some() && decisions.find("r3").is_some() && decisions.find("r2").is_none());
        let newest = decisions.find("r4").unwrap();
        assert_eq!(
            (newest.choices.len(), newest.explained(&newest.choices[0]).len()),
            (1, 1),
            "nothing of those before"
        );
        let many = pool(&["a", "b", "c"].map(|name| account(name, "anthropic")), &[]);
        let decision = decision(&decisions, &many, "r", now);
        assert!(decision.explained(&decision.choices[0]).is_empty());
    }
}
