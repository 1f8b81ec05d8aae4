//! Gathers what holds at this moment, for the metrics, the accounts' list and the status.

use crate::{
    account::{health::State, pool::Account},
    clock::Moment,
    live::Live,
    metrics::{AccountNow, Present},
};
use std::{sync::atomic::Ordering, time::Duration};

/// The present state of the process.
pub(super) fn present(live: &Live) -> Present {
    let (snapshot, now) = (live.snapshot(), live.clock.now());
    let counters = &live.counters;
    Present {
        requests: counters.requests.load(Ordering::Relaxed),
        waiting: snapshot.pool.waiting(),
        body_bytes: counters.body_bytes.load(Ordering::Relaxed),
        draining: counters.draining.load(Ordering::Relaxed),
        accounts: snapshot.pool.accounts().iter().map(|account| account_now(account, now)).collect(),
        users: snapshot.config.users.len(),
        models: snapshot.config.models.len(),
        loaded_at: snapshot.loaded.unix_millis() / 1000,
        ..Present::default()
    }
}

fn account_now(account: &Account, now: Moment) -> AccountNow {
    let state = account.live.state(now);
    AccountNow {
        name: account.settings.name.clone(),
        state: state.name(),
        in_flight: account.live.in_flight(),
        cooldown: until(state).map_or(Duration::ZERO, |until| until.since(now)),
        windows: Vec::new(),
    }
}

/// When a state ends by itself.
pub(super) fn until(state: State) -> Option<Moment> {
    match state {
        State::Cooling { until } | State::Exhausted { until } => Some(until),
        State::Ready | State::Suspended | State::Probing => None,
    }
}
