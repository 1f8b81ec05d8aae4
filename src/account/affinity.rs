//! Keeps a conversation on its account: its prompt cache is there, and what was signed there is best read there.
//!
//! Only remembers where a conversation was served; whether that account is fit to serve again is for the choice to say.
//! Bounded, and forgetful: two generations, of which the older one is dropped when the younger one is full or has lived for
//! half the time that an unused entry is kept.

use super::claim::{Arrival, Claim, Hold, Home};
use crate::{clock::Moment, config::Affinity as Settings};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Where conversations are at home.
#[derive(Debug, Default)]
pub(super) struct Affinity(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, u32>,
    old: HashMap<u64, u32>,
    /// When the younger one began.
    began: Option<Moment>,
}

impl Affinity {
    /// Where the conversation of a request is at home.
    pub(super) fn home(&self, claim: &Claim, settings: &Settings, now: Moment) -> Option<Home> {
        if settings.entries == 0 || (claim.previous.is_none() && claim.conversation.is_none()) {
            return None;
        }
        let mut generations = self.lock();
        generations.turn(settings, now);
        if let Some(account) = claim.previous.and_then(|id| generations.find(id)) {
            return Some(Home { account, hold: Hold::Only });
        }
        let account = claim.conversation.and_then(|id| generations.find(id))?;
        Some(Home { account, hold: if claim.is_bound { Hold::Bound } else { Hold::Prefers } })
    }

    /// Remembers where a conversation is at home from now on, unless it has found another home since it was looked for:
    /// of the first turns that are sent at the same time, the first answer decides.
    pub(super) fn settle(&self, arrival: &Arrival, account: u32, settings: &Settings, now: Moment) {
        if settings.entries == 0 {
            return;
        }
        let mut generations = self.lock();
        if generations.find(arrival.conversation) == arrival.left {
            generations.young.insert(arrival.conversation, account);
            generations.turn(settings, now);
        }
    }

    /// Remembers which account made a response.
    pub(super) fn keep(&self, id: u64, account: u32, settings: &Settings, now: Moment) {
        if settings.entries == 0 {
            return;
        }
        let mut generations = self.lock();
        generations.young.insert(id, account);
        generations.turn(settings, now);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        let generations = self.lock();
        generations.young.len() + generations.old.len()
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    /// One that is found is young again.
    fn find(&mut self, id: u64) -> Option<u32> {
        if let Some(account) = self.young.get(&id) {
            return Some(*account);
        }
        let account = self.old.remove(&id)?;
        self.young.insert(id, account);
        Some(account)
    }

    fn turn(&mut self, settings: &Settings, now: Moment) {
        let began = *self.began.get_or_insert(now);
        let age = now.since(began);
        if self.young.len() < settings.entries.div_ceil(2) && age < settings.expiry / 2 {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if age >= settings.expiry {
            // Nobody came for so long that these are too old as well.
            self.old.clear();
        }
        self.began = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::Duration;

    const SETTINGS: Settings = Settings { entries: 100, expiry: Duration::from_secs(60) };

    fn of(conversation: u64) -> Claim {
        Claim { conversation: Some(conversation), ..Claim::default() }
    }

    fn account(affinity: &Affinity, claim: &Claim, now: Moment) -> Option<u32> {
        affinity.home(claim, &SETTINGS, now).map(|home| home.account)
    }

    #[test]
    fn a_conversation_in_use_is_kept_and_one_that_is_not_is_forgotten() {
        let (affinity, clock) = (Affinity::default(), ManualClock::new());
        affinity.keep(1, 7, &SETTINGS, clock.now());
        affinity.keep(2, 8, &SETTINGS, clock.now());
        for _ in 0..10 {
            clock.advance(Duration::from_secs(20));
            assert_eq!(account(&affinity, &of(1), clock.now()), Some(7));
        }
        assert_eq!(account(&affinity, &of(2), clock.now()), None);
        clock.advance(Duration::from_secs(60));
        assert_eq!(account(&affinity, &of(1), clock.now()), None, "nor is anything kept through a long silence");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_least_used_go_first() {
        let (affinity, clock) = (Affinity::default(), ManualClock::new());
        for n in 0..10_000 {
            affinity.keep(n, 1, &SETTINGS, clock.now());
            assert_eq!(account(&affinity, &of(0), clock.now()), Some(1));
            assert!(affinity.len() <= SETTINGS.entries);
        }
    }

    #[test]
    fn of_turns_that_are_sent_at_the_same_time_the_first_answer_decides_the_home() {
        let (affinity, now) = (Affinity::default(), ManualClock::new().now());
        let first = Arrival { conversation: 1, left: None };
        affinity.settle(&first, 7, &SETTINGS, now);
        affinity.settle(&first, 8, &SETTINGS, now);
        assert_eq!(account(&affinity, &of(1), now), Some(7));
        affinity.settle(&Arrival { conversation: 1, left: Some(7) }, 9, &SETTINGS, now);
        assert_eq!(account(&affinity, &of(1), now), Some(9), "one that left its home has a new one");
    }

    #[test]
    fn signed_reasoning_binds_and_an_earlier_response_admits_no_other_account() {
        let (affinity, now) = (Affinity::default(), ManualClock::new().now());
        affinity.keep(1, 7, &SETTINGS, now);
        affinity.keep(2, 9, &SETTINGS, now);
        let hold = |claim: Claim| affinity.home(&claim, &SETTINGS, now).map(|home| (home.account, home.hold));
        assert_eq!(hold(of(1)), Some((7, Hold::Prefers)));
        assert_eq!(hold(Claim { is_bound: true, ..of(1) }), Some((7, Hold::Bound)));
        assert_eq!(hold(Claim { previous: Some(2), ..of(1) }), Some((9, Hold::Only)));
        assert_eq!(hold(Claim { previous: Some(3), ..of(1) }), Some((7, Hold::Prefers)), "nobody knows whose it is");
    }

    #[test]
    fn with_no_entries_nothing_is_remembered() {
        let (affinity, now) = (Affinity::default(), ManualClock::new().now());
        let off = Settings { entries: 0, ..SETTINGS };
        affinity.keep(1, 7, &off, now);
        assert_eq!((affinity.len(), affinity.home(&of(1), &off, now)), (0, None));
    }
}
