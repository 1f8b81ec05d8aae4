//! Gathers what holds at this moment, for the metrics, the accounts' list and the status.

use crate::{
    account::{Steps, health::State, pool::Account},
    clock::Moment,
    limit::budget,
    live::Live,
    metrics::{AccountNow, LedgerNow, Present, Spread, WindowNow},
};
use std::{sync::atomic::Ordering, time::Duration};

/// The present state of the process.
pub(super) fn present(live: &Live) -> Present {
    let (snapshot, now) = (live.snapshot(), live.clock.now());
    let (counters, line) = (&live.counters, snapshot.pool.line());
    Present {
        requests: counters.requests.load(Ordering::Relaxed),
        waiting: snapshot.pool.waiting(),
        waited: (line.joined, line.served, line.waited),
        places: spread(&line.places),
        waits: spread(&line.waits),
        body_bytes: counters.body_bytes.load(Ordering::Relaxed),
        draining: counters.draining.load(Ordering::Relaxed),
        accounts: snapshot.pool.accounts().iter().map(|account| account_now(account, now)).collect(),
        users: snapshot.config.users.len(),
        models: snapshot.config.models.len(),
        loaded_at: snapshot.loaded.unix_millis() / 1000,
        ledger: ledger(live),
    }
}

fn spread(steps: &Steps) -> Spread {
    Spread { steps: steps.each().collect(), sum: steps.sum() }
}

fn ledger(live: &Live) -> LedgerNow {
    let health = live.ledger.as_ref().map(|ledger| ledger.health()).unwrap_or_default();
    LedgerNow {
        waiting: health.waiting as u64,
        written: health.written,
        lost: health.dropped,
        stuck: health.stuck,
        unpriced: health.unpriced as u64,
    }
}

fn account_now(account: &Account, now: Moment) -> AccountNow {
    let state = account.live.state(now);
    AccountNow {
        name: account.settings.name.clone(),
        state: state.name(),
        in_flight: account.live.in_flight(),
        cooldown: until(state).map_or(Duration::ZERO, |until| until.since(now)),
        windows: windows(account, now).into_iter().map(|w| WindowNow { left: w.share(), name: w.name }).collect(),
    }
}

/// When a state ends by itself.
pub(super) fn until(state: State) -> Option<Moment> {
    match state {
        State::Cooling { until } | State::Exhausted { until } => Some(until),
        State::Ready | State::Suspended | State::Probing => None,
    }
}

/// What is left of one limit of an account.
pub(super) struct Window {
    pub(super) name: String,
    pub(super) from: &'static str,
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) reset_ms: Option<u64>,
}

impl Window {
    /// The share that is left, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { (self.remaining as f64 / self.limit as f64).clamp(0.0, 1.0) }
    }
}

/// The windows that are known of an account: those that its provider's replies tell, then those of the file.
pub(super) fn windows(account: &Account, now: Moment) -> Vec<Window> {
    let told = account.live.headroom(now).into_iter().map(|(model, figure)| Window {
        name: model.map_or_else(|| figure.kind.name().to_owned(), |model| format!("{} of {model}", figure.kind.name())),
        from: "provider",
        limit: figure.limit,
        remaining: figure.left,
        reset_ms: figure.reset.map(Moment::unix_millis),
    });
    let quotas = account.live.quotas(&account.settings, now);
    told.chain(quotas.into_iter().flat_map(configured)).collect()
}

/// One window for each amount that a quota names.
fn configured(standing: budget::Standing) -> Vec<Window> {
    let used = standing.spent.plus(standing.reserved);
    let amounts = [
        ("tokens", standing.quota.tokens, used.tokens),
        ("requests", standing.quota.requests, used.requests),
        ("cost", standing.quota.cost_nanos, used.cost_nanos),
    ];
    let named = |(what, limit, used): (&str, Option<u64>, u64)| {
        let limit = limit?;
        let name = format!("{} per {}", what, standing.quota.window.name());
        Some(Window {
            name,
            from: "configured",
            limit,
            remaining: limit.saturating_sub(used),
            reset_ms: standing.until,
        })
    };
    amounts.into_iter().filter_map(named).collect()
}
