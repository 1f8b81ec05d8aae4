//! The accounts of one configuration with their live state, which survives a reload.

use super::health::Health;
use crate::{
    clock::Moment,
    config::{AccountSettings, Config},
    provider::verdict::{FailureClass, Verdict},
    wire::Endpoint,
};
use std::sync::{Arc, Mutex, atomic::AtomicU32};

/// An account as the pool knows it: settings of this configuration, state shared with the next.
#[derive(Debug)]
pub struct Account {
    /// What the configuration says.
    pub settings: Arc<AccountSettings>,
    /// What has happened, kept by name across reloads.
    pub live: Arc<Live>,
}

/// The state of an account that outlives a configuration.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests in flight.
    pub in_flight: AtomicU32,
    /// Cooldowns and suspicion.
    pub health: Mutex<Health>,
}

/// What a request needs from an account.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The model as the client asked for it.
    pub model: &'a str,
    /// The call.
    pub endpoint: &'a Endpoint,
}

/// One possible way to serve a demand: an account, and what it calls the model.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The account.
    pub account: Arc<Account>,
    /// The upstream's name for the model.
    pub upstream_model: Arc<str>,
    /// 0 for the alias' first target, 1 for its second, …; all of one are tried before the next.
    pub target: u32,
}

/// Why no account can be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// All that could serve are at their concurrency limit: waiting helps.
    Busy,
    /// All that could serve are cooling, exhausted or suspended (or tried already); `until` is the earliest return.
    Cooling {
        /// When the first one comes back, if that is known.
        until: Option<Moment>,
    },
}

/// All accounts.
#[derive(Debug, Default)]
pub struct Pool {
    accounts: Vec<Arc<Account>>,
}

impl Pool {
    /// The pool of a configuration; live state of accounts with the same name is taken over from `previous`.
    pub fn new(config: &Config, previous: Option<&Pool>) -> Pool {
        let _ = (config, previous);
        unimplemented!()
    }

    /// The ways to serve a demand, unfiltered by state; empty where no account knows the model.
    pub fn candidates(&self, demand: &Demand<'_>) -> Arc<[Candidate]> {
        let _ = demand;
        unimplemented!()
    }

    /// Leases the best candidate that is not among `tried` (indices into `candidates`).
    pub fn lease(
        &self,
        candidates: &[Candidate],
        tried: &[usize],
        draw: u64,
        now: Moment,
    ) -> Result<Lease, Unavailable> {
        let _ = (candidates, tried, draw, now);
        unimplemented!()
    }

    /// Books a failed attempt, and returns the new state if it changed (to be logged once).
    pub fn report_failure(&self, lease: &Lease, verdict: &Verdict, now: Moment) -> Option<String> {
        let _ = (lease, verdict, now);
        unimplemented!()
    }

    /// Books an attempt that brought content.
    pub fn report_success(&self, lease: &Lease, now: Moment) -> Option<String> {
        let _ = (lease, now);
        unimplemented!()
    }

    /// Every account, in the configuration's order.
    pub fn accounts(&self) -> &[Arc<Account>] {
        &self.accounts
    }

    /// Whether any account is ready to serve.
    pub fn can_serve(&self, now: Moment) -> bool {
        let _ = now;
        unimplemented!()
    }

    /// Waits until some lease is returned (a wake-up, not a promise).
    pub fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        unimplemented!()
    }
    /// Names.
    pub fn nearest(&self, _: &str) -> Vec<String> {
        unimplemented!()
    }
}

/// The right to send one request to an account. Dropping it gives the place back and wakes one waiter.
#[derive(Debug)]
pub struct Lease {
    /// Index among the candidates.
    pub index: usize,
    /// What was leased.
    pub candidate: Candidate,
}

#[allow(dead_code)]
fn _unused(_: FailureClass) {}
