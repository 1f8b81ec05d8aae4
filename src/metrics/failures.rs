//! The last failed attempts with their reasons, for who looks at the gateway right now. Bounded; the log has all of them.

use crate::{clock::Moment, provider::verdict::Verdict};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// How many are kept.
const KEPT: usize = 200;

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The request's id.
    pub request: String,
    /// The account.
    pub account: String,
    /// The failure class.
    pub class: &'static str,
    /// Status and code, as in the log.
    pub reason: String,
}

/// The last of them.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<VecDeque<FailedAttempt>>);

impl Failures {
    pub(super) fn keep(&self, request: &str, account: &str, verdict: &Verdict, now: Moment) {
        let failed = FailedAttempt {
            at_ms: now.unix_millis(),
            request: request.to_owned(),
            account: account.to_owned(),
            class: verdict.class.name(),
            reason: verdict.reason.clone(),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_back();
        }
        kept.push_front(failed);
    }

    /// The newest first.
    pub(super) fn newest(&self, most: usize) -> Vec<FailedAttempt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_newest_come_first_and_the_oldest_are_forgotten() {
        let (failures, clock) = (Failures::default(), ManualClock::new());
        for n in 0..KEPT + 5 {
            failures.keep(&format!("r{n}"), "a", &Verdict::fault("reset"), clock.now());
        }
        let kept = failures.newest(usize::MAX);
        assert_eq!((kept.len(), kept[0].request.as_str()), (KEPT, "r204"));
        assert_eq!(failures.newest(2).len(), 2);
    }
}
