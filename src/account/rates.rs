//! An account's configured `limits.rpm` and `limits.tpm`, over the sliding minute of [`Window`].
//!
//! Tokens are taken by estimate when a request is sent and set right when it has ended. Takes nothing where there is no
//! limit.

use super::outlook::{LimitName, Outlook};
use crate::{
    clock::Moment,
    config::Limits,
    limit::window::{RateKey, Stamp, Window},
};
use std::{sync::Arc, time::Duration};

/// How often a share that grows by itself is looked at again.
const REVIEW: Duration = Duration::from_secs(1);

/// The rates of one account.
#[derive(Debug)]
pub(super) struct Rates {
    window: Arc<Window>,
    requests: RateKey,
    tokens: RateKey,
}

/// What was taken for one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    tokens: Option<(Stamp, u64)>,
}

impl Taken {
    pub(super) fn is_nothing(&self) -> bool {
        self.tokens.is_none()
    }
}

impl Rates {
    pub(super) fn new(window: Arc<Window>, account: u32) -> Rates {
        let key = |what: &str| RateKey::of(("account", account, what));
        Rates { window, requests: key("requests"), tokens: key("tokens") }
    }

    /// What the rates say about a request of so many tokens.
    pub(super) fn outlook(&self, limits: &Limits, tokens: u64, now: Moment) -> Outlook {
        let requests = self.look(LimitName::RequestsPerMinute, (self.requests, limits.rpm), 1, now);
        requests.and(self.look(LimitName::TokensPerMinute, (self.tokens, limits.tpm), tokens, now))
    }

    /// Takes a request of so many tokens, or says which limit has no room and when it will.
    pub(super) fn take(&self, limits: &Limits, tokens: u64, now: Moment) -> Result<Taken, (LimitName, Option<Moment>)> {
        let later = |name, wait: Option<Duration>| (name, wait.map(|wait| now.plus(wait)));
        let request = limits.rpm.map(|rpm| self.window.try_take(self.requests, 1, rpm, now)).transpose();
        let request = request.map_err(|full| later(LimitName::RequestsPerMinute, full.wait))?;
        // What is more than the limit goes when nothing else does.
        let amount = |tpm: u64| tokens.min(tpm);
        match limits.tpm.map(|tpm| self.window.try_take(self.tokens, amount(tpm), tpm, now)).transpose() {
            Ok(stamp) => Ok(Taken { tokens: stamp.zip(limits.tpm.map(amount)) }),
            Err(full) => {
                if let Some(stamp) = request {
                    self.window.give_back(self.requests, stamp, 1, now);
                }
                Err(later(LimitName::TokensPerMinute, full.wait))
            }
        }
    }

    /// Sets right what was taken: so many tokens it really was.
    pub(super) fn settle(&self, limits: &Limits, taken: Taken, tokens: u64, now: Moment) {
        let Some((stamp, estimate)) = taken.tokens else { return };
        if tokens < estimate {
            self.window.give_back(self.tokens, stamp, estimate - tokens, now);
        } else if let Some(tpm) = limits.tpm.filter(|_| tokens > estimate) {
            self.window.take(self.tokens, tokens - estimate, tpm, now);
        }
    }

    fn look(&self, name: LimitName, (key, limit): (RateKey, Option<u64>), amount: u64, now: Moment) -> Outlook {
        let Some(limit) = limit.map(|limit| limit.max(1)) else { return Outlook::CLEAR };
        let used = self.window.used(key, now).min(limit);
        if used == 0 {
            return Outlook::CLEAR;
        }
        let share = (limit - used) as f64 / limit as f64;
        let amount = amount.min(limit);
        let wait = if used + amount > limit { self.window.wait(key, amount, limit, now) } else { None };
        let wait = wait.filter(|wait| !wait.is_zero());
        Outlook { share, blocked: wait.map(|wait| (name, Some(now.plus(wait)))), review: Some(now.plus(REVIEW)) }
    }
}
