//! Lets requests in, or says whose limit keeps them out.
//!
//! One place for every call, relayed ones too. What a request takes (places, rates, parts of budgets) belongs to its
//! [`Permit`]. Never waits, never reads a clock.

use super::{
    calendar::Zone,
    owner::{Owner, Subject, Whose},
    permit::Permit,
    refusal::Refusal,
    window::Window,
};
use crate::clock::Moment;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Owners that are kept although no configuration names them any more; beyond it they are forgotten.
const MOST_UNNAMED: usize = 10_000;

/// The counters of all users and keys of a process.
#[derive(Debug)]
pub struct Limiter {
    pub(super) window: Window,
    owners: Mutex<HashMap<(Whose, String), Arc<Owner>>>,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The limit, per minute.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// With something left: until all of it is back. With nothing: until something is.
    pub reset: Duration,
}

/// What is left of the tightest rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests per minute.
    pub requests: Option<Room>,
    /// Tokens per minute.
    pub tokens: Option<Room>,
}

impl Limiter {
    /// A limiter sized for this many users and keys with limits per minute.
    pub fn new(owners: usize, now: Moment) -> Limiter {
        Limiter { window: Window::new(owners.saturating_mul(2), now), owners: Mutex::default() }
    }

    /// The owner of this name; one that was never seen begins with what `begin` books for it.
    pub fn owner(&self, whose: Whose, name: &str, zone: &Zone, begin: impl FnOnce(&Owner)) -> Arc<Owner> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = owners.get(&(whose, name.to_owned())) {
            owner.budgets.move_to(zone);
            return owner.clone();
        }
        if owners.len() >= MOST_UNNAMED {
            owners.retain(|_, owner| Arc::strong_count(owner) > 1);
        }
        let owner = Arc::new(Owner::new(whose, name, zone));
        begin(&owner);
        owners.insert((whose, name.to_owned()), owner.clone());
        owner
    }

    /// All owners that are known, in no order.
    pub fn owners(&self) -> Vec<Arc<Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Lets a request in as far as can be told before its body is read: a place, and a request of the minute. The order
    /// of the subjects is the order in which they refuse.
    pub fn admit(self: &Arc<Self>, subjects: &Arc<[Subject]>, now: Moment) -> Result<Permit, Refusal> {
        let mut permit = Permit::new(self.clone(), subjects.clone());
        permit.enter(now)?;
        Ok(permit)
    }

    /// What is left of the rates of these subjects, the tighter one of each kind.
    pub fn rates(&self, subjects: &[Subject], now: Moment) -> Rates {
        let room = |key, limit: Option<u64>| {
            let limit = limit?;
            let remaining = limit.saturating_sub(self.window.used(key, now));
            let wait = || self.window.wait(key, 1, limit, now).unwrap_or_default();
            let reset = match remaining {
                0 => wait(),
                _ if remaining == limit => Duration::ZERO,
                _ => super::window::MINUTE,
            };
            Some(Room { limit, remaining, reset })
        };
        let requests = subjects.iter().filter_map(|subject| room(subject.owner.requests, subject.limits.rpm));
        let tokens = subjects.iter().filter_map(|subject| room(subject.owner.tokens, subject.limits.tpm));
        Rates { requests: requests.min_by_key(|room| room.remaining), tokens: tokens.min_by_key(|room| room.remaining) }
    }
}
