//! Whose limits are kept: a user's or a key's counters, which outlive a configuration, and what this one allows.

use super::{
    budget::Budgets,
    calendar::Zone,
    inflight::InFlight,
    terms::{Limits, Quota},
    window::RateKey,
};
use std::sync::Arc;

/// What kind of owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// One key of a user.
    Key,
    /// A user, all keys together.
    User,
}

impl Whose {
    /// How a refusal names it to the caller.
    pub fn name(self) -> &'static str {
        match self {
            Whose::Key => "key",
            Whose::User => "user",
        }
    }
}

/// The counters of one owner, kept by name across reloads.
#[derive(Debug)]
pub struct Owner {
    /// What kind.
    pub whose: Whose,
    /// Requests per minute are counted by this.
    pub(super) requests: RateKey,
    /// Tokens per minute are counted by this.
    pub(super) tokens: RateKey,
    /// Requests in flight.
    pub in_flight: InFlight,
    /// What was spent.
    pub budgets: Budgets,
}

impl Owner {
    /// An owner that has used nothing yet.
    pub fn new(whose: Whose, name: &str, zone: &Zone) -> Owner {
        Owner {
            whose,
            requests: RateKey::of((whose, name, "requests")),
            tokens: RateKey::of((whose, name, "tokens")),
            in_flight: InFlight::default(),
            budgets: Budgets::new(zone.clone()),
        }
    }
}

/// An owner with what one configuration allows it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The counters.
    pub owner: Arc<Owner>,
    /// Rates and places.
    pub limits: Limits,
    /// Budgets.
    pub budgets: Vec<Quota>,
}
