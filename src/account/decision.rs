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
    sync::{Arc, Mutex, PoisonError},
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
    /// How the candidates stood, the chosen one as it was after it had been taken; none where there are too many.
    pub explained: Vec<Explained>,
    /// Why the attempt failed: class and reason; `None` where it did not.
    pub failed: Option<(&'static str, String)>,
}

/// The choices of one request.
#[derive(Clone, Debug)]
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
}

impl Decision {
    /// A request that has not chosen yet.
    pub fn new(request: &str, model: &str, candidates: Arc<Candidates>, claim: &Claim) -> Decision {
        let has_conversation = claim.conversation.is_some() || claim.previous.is_some();
        let (request, model) = (request.to_owned(), telemetry::clip(model).to_owned());
        Decision { request, model, candidates, has_conversation, choices: Vec::with_capacity(1) }
    }

    /// Notes a choice that was just made.
    pub fn chose(
        &mut self,
        pool: &Pool,
        (index, tried, claim): (usize, &[usize], &Claim),
        (at, waited): (Moment, Duration),
        bounds: &config::Explain,
    ) {
        let few = self.candidates.len() <= bounds.candidates;
        let mut explained = if few { pool.explain(&self.candidates, tried, claim, at) } else { Vec::new() };
        if let Some(chosen) = explained.iter_mut().find(|explained| explained.index == index)
            && chosen.reason != Reason::Home
        {
            chosen.reason = Reason::Best;
        }
        self.choices.push(Choice { index, at, waited, explained, failed: None });
    }

    /// The last choice failed.
    pub fn failed(&mut self, verdict: &Verdict) {
        if let Some(choice) = self.choices.last_mut() {
            choice.failed = Some((verdict.class.name(), verdict.reason.clone()));
        }
    }
}

/// The decisions about the last requests.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<VecDeque<Decision>>);

impl Decisions {
    /// Keeps a finished request's; the oldest are forgotten.
    pub fn keep(&self, decision: Decision, bounds: &config::Explain) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front(decision);
        kept.truncate(bounds.requests);
    }

    /// The newest one about the request of this id.
    pub fn find(&self, request: &str) -> Option<Decision> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|kept| kept.request == request).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{account, pool};
    use super::*;
    use crate::{account::pool::Demand, clock::ManualClock, wire::Endpoint};

    const BOUNDS: config::Explain = config::Explain { requests: 2, candidates: 2 };

    fn decision(pool: &Pool, request: &str, now: Moment) -> Decision {
        let candidates = pool.candidates(&Demand { model: "m", endpoint: &Endpoint::Messages });
        let mut decision = Decision::new(request, "m", candidates.clone(), &Claim::default());
        let lease = pool.lease(&candidates, &[], 0, now).unwrap();
        decision.chose(pool, (lease.index, &[], &Claim::default()), (now, Duration::ZERO), &BOUNDS);
        decision
    }

    #[test]
    fn a_decision_tells_of_each_attempt_and_of_who_was_passed_over() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("a", "anthropic"), account("b", "anthropic").priority(1)], &[]);
        let mut decision = decision(&pool, "r1", now);
        decision.failed(&Verdict::fault("reset"));
        let choice = &decision.choices[0];
        let reasons: Vec<_> = choice.explained.iter().map(|explained| explained.reason).collect();
        assert_eq!((choice.index, reasons), (0, vec![Reason::Best, Reason::Later]));
        assert_eq!(choice.failed, Some(("fault", "reset".to_owned())));
    }

    #[test]
    fn decisions_and_what_is_looked_at_for_them_are_bounded() {
        let now = ManualClock::new().now();
        let few = pool(&[account("a", "anthropic")], &[]);
        let decisions = Decisions::default();
        for n in 0..5 {
            decisions.keep(decision(&few, &format!("r{n}"), now), &BOUNDS);
        }
        assert!(decisions.find("r4").is_some() && decisions.find("r3").is_some() && decisions.find("r2").is_none());
        let many = pool(&["a", "b", "c"].map(|name| account(name, "anthropic")), &[]);
        assert!(decision(&many, "r", now).choices[0].explained.is_empty());
    }
}
