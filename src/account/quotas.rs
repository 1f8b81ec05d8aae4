//! An account's configured `quotas`, over the exact counters of [`Budgets`].
//!
//! What a request will probably take is set aside when it is sent, and what it took is booked when it has ended, so that
//! requests at the same time cannot all use the same rest.

use super::outlook::{LimitName, Outlook};
use crate::{
    clock::Moment,
    limit::{
        budget::{Budgets, Spent},
        calendar::Zone,
        terms::{Amounts, Quota, Window},
    },
};
use std::time::Duration;

/// What is only set aside may come back; it is looked at again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The counters of one account, whatever quotas are set.
#[derive(Debug)]
pub(super) struct Quotas(Budgets);

impl Default for Quotas {
    fn default() -> Self {
        Quotas(Budgets::new(Zone::default()))
    }
}

impl Quotas {
    /// What the quotas say about a request of so many tokens.
    pub(super) fn outlook(&self, quotas: &[Quota], now: Moment) -> Outlook {
        if quotas.is_empty() {
            return Outlook::CLEAR;
        }
        let spent = self.0.is_open(quotas, now).err();
        let blocked = spent.map(|spent| blocked(&spent, now));
        let review = blocked.and_then(|(_, until)| until);
        Outlook { share: self.0.least_left(quotas, now), blocked, review }
    }

    /// Sets aside what a request will take, or says which quota has no room and when it will.
    pub(super) fn reserve(
        &self,
        quotas: &[Quota],
        want: Amounts,
        now: Moment,
    ) -> Result<Amounts, (LimitName, Option<Moment>)> {
        if quotas.is_empty() {
            return Ok(Amounts::default());
        }
        self.0.reserve(quotas, want, now).map(|()| want).map_err(|spent| blocked(&spent, now))
    }

    /// Books what was used before the process started, in one window only.
    pub(super) fn begin(&self, window: Window, used: Amounts, at: u64) {
        self.0.begin(window, used, at);
    }

    /// Gives back what was set aside.
    pub(super) fn release(&self, reserved: Amounts) {
        self.0.release(reserved);
    }

    /// Books what was used, at the time (milliseconds since 1970) when the request was sent, in place of what was set
    /// aside.
    pub(super) fn settle(&self, reserved: Amounts, used: Amounts, at: u64) {
        self.0.settle(reserved, used, at);
    }

    /// How these quotas stand.
    pub(super) fn standing(&self, quotas: &[Quota], now: Moment) -> Vec<crate::limit::budget::Standing> {
        self.0.standing(quotas, now)
    }
}

fn blocked(spent: &Spent, now: Moment) -> (LimitName, Option<Moment>) {
    let ends = spent.until.map(|end| now.plus(Duration::from_millis(end.saturating_sub(now.unix_millis()))));
    let until = if spent.is_reserved { Some(now.plus(AGAIN)) } else { ends };
    (LimitName::Quota(spent.window), until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, limit::terms::Window};

    fn tokens(tokens: u64) -> Amounts {
        Amounts { tokens, requests: 1, cost_nanos: 0 }
    }

    #[test]
    fn a_spent_quota_blocks_until_its_window_ends_and_what_is_set_aside_only_for_a_moment() {
        let (quotas, clock) = (Quotas::default(), ManualClock::new());
        let limits = [Quota { window: Window::FiveHours, tokens: Some(100), requests: None, cost_nanos: None }];
        let set_aside = quotas.reserve(&limits, tokens(100), clock.now()).unwrap();
        let (limit, until) = quotas.outlook(&limits, clock.now()).blocked.unwrap();
        assert_eq!((limit, until), (LimitName::Quota(Window::FiveHours), Some(clock.now().plus(AGAIN))));
        quotas.settle(set_aside, tokens(90), clock.now().unix_millis());
        let outlook = quotas.outlook(&limits, clock.now());
        assert!(outlook.blocked.is_none() && (outlook.share - 0.1).abs() < 1e-9);
        quotas.settle(Amounts::default(), tokens(10), clock.now().unix_millis());
        clock.advance(Duration::from_secs(3_600));
        let until = quotas.outlook(&limits, clock.now()).blocked.unwrap().1.unwrap();
        let wait = until.since(clock.now());
        assert!(wait.abs_diff(Duration::from_secs(4 * 3_600)) < Duration::from_millis(2), "{wait:?}");
        clock.advance(wait);
        assert!(quotas.outlook(&limits, clock.now()).blocked.is_none());
    }

    #[test]
    fn a_total_that_is_spent_has_no_end() {
        let (quotas, now) = (Quotas::default(), ManualClock::new().now());
        let limits = [Quota { window: Window::Total, tokens: None, requests: Some(1), cost_nanos: None }];
        quotas.settle(Amounts::default(), tokens(1), now.unix_millis());
        assert_eq!(quotas.outlook(&limits, now).blocked, Some((LimitName::Quota(Window::Total), None)));
        assert!(quotas.reserve(&limits, tokens(1), now).is_err());
    }
}
