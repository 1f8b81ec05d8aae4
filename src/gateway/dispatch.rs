//! Chooses the account of the next attempt, and waits for one where that helps.
//!
//! `account` decides; this file holds the request's side of it: what has been tried, how long a wait may be, and what the
//! client is told when nothing is left.

use super::{
    bounds::WaitPermit,
    exchange::{Attempt, Exchange, Plan},
    route::{Route, Target},
    state::Shared,
};
use crate::{
    account::{
        Lease,
        pool::{Demand, Unavailable},
    },
    error::{Reason, Rejection},
    provider::{Call, verdict::FailureClass},
    wire::{Endpoint, envelope},
};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Finds the ways to serve the request; refuses a model that nobody serves.
pub(super) fn plan(exchange: &mut Exchange, endpoint: &Endpoint) -> Result<(), Rejection> {
    let model = exchange.model();
    if let Some(caller) = &exchange.caller {
        caller.may_use(model)?;
    }
    let candidates = exchange.snapshot.pool.candidates(&Demand { model, endpoint });
    if candidates.is_empty() {
        return Err(unknown_model(exchange, model, endpoint));
    }
    exchange.plan = Some(Plan { candidates, tried: Vec::new() });
    Ok(())
}

fn unknown_model(exchange: &Exchange, model: &str, endpoint: &Endpoint) -> Rejection {
    let shown: String = model.chars().take(100).collect();
    let mut nearest = exchange.snapshot.pool.nearest(model);
    nearest.retain(|name| exchange.caller.as_ref().is_none_or(|caller| caller.may_use(name).is_ok()));
    let hint = if nearest.is_empty() { String::new() } else { format!(", did you mean {}?", nearest.join(" or ")) };
    let message = format!("no account serves the model `{shown}` for {}{hint}", endpoint.name());
    Rejection::new(Reason::UnknownModel, message).at("model")
}

/// Begins the next attempt, or says why there is none.
pub(super) async fn next(shared: &Shared, exchange: &mut Exchange) -> Result<(), Rejection> {
    exchange.attempt = None;
    let failover = exchange.snapshot.config.failover;
    let late = exchange.attempts > 0 && exchange.age(shared.live.clock.now()) >= failover.within;
    if exchange.attempts >= failover.attempts || late {
        return Err(nothing_left(exchange, None));
    }
    let lease = lease(shared, exchange).await?;
    let Some((request, plan)) = exchange.request.as_ref().zip(exchange.plan.as_mut()) else {
        return Err(Rejection::new(Reason::Internal, "the request was lost on its way"));
    };
    plan.tried.push(lease.index);
    let Some(Route { target: Target::Call(endpoint), version, .. }) = &exchange.route else {
        return Err(Rejection::new(Reason::Internal, "the route was lost on its way"));
    };
    let settings = &lease.candidate.account.settings;
    let call =
        Call { endpoint, model: &lease.candidate.upstream_model, version: *version, query: request.query.as_deref() };
    let Some(path) = settings.provider.path(&settings.base_url, &call) else {
        return Err(Rejection::new(Reason::Internal, "the account does not offer this call"));
    };
    let body = envelope::splice(&request.body, &request.envelope, &lease.candidate.upstream_model);
    exchange.attempts += 1;
    exchange.last_account = Some(lease.candidate.account.clone());
    exchange.attempt =
        Some(Attempt { lease, body, path, reply: None, reported: false, connects_failed: 0, again: true, stale: 0 });
    Ok(())
}

/// A lease of the best account left; waits where all are busy, or where the first one is back soon.
async fn lease(shared: &Shared, exchange: &Exchange) -> Result<Lease, Rejection> {
    let Some(plan) = &exchange.plan else {
        return Err(Rejection::new(Reason::Internal, "the plan was lost on its way"));
    };
    let pool = &exchange.snapshot.pool;
    let queue = exchange.snapshot.config.queue;
    let deadline = Instant::now() + queue.timeout;
    let mut place = None;
    loop {
        let freed = pool.freed();
        let now = shared.live.clock.now();
        let wake = match pool.lease(&plan.candidates, &plan.tried, shared.live.draw(), now) {
            Ok(lease) => return Ok(lease),
            Err(Unavailable::Busy) => deadline,
            Err(Unavailable::Cooling { until }) => {
                let wait = until.map(|until| until.since(now));
                match wait {
                    Some(wait)
                        if plan.tried.is_empty() && wait <= queue.cooldown && Instant::now() + wait < deadline =>
                    {
                        Instant::now() + wait + Duration::from_millis(1)
                    }
                    Some(_) | None => return Err(nothing_left(exchange, wait)),
                }
            }
        };
        if Instant::now() >= deadline {
            let message = "every account that serves this model is busy: try again";
            return Err(Rejection::new(Reason::Unavailable, message).after(Some(Duration::from_secs(1))));
        }
        if place.is_none() {
            place = WaitPermit::take(&shared.live.counters, queue.length);
            if place.is_none() {
                let message = "every account is busy and the gateway's queue is full: try again";
                return Err(Rejection::new(Reason::Unavailable, message).after(Some(Duration::from_secs(1))));
            }
        }
        let _ = timeout_at(wake.min(deadline), freed).await;
    }
}

/// What the client is told when no account is left to try.
pub(super) fn nothing_left(exchange: &Exchange, wait: Option<Duration>) -> Rejection {
    let told = exchange.failures.iter().filter_map(|f| f.verdict.retry_after).min();
    let wait = wait.or(told);
    let Some(failure) = exchange.worst() else {
        let message = "no account can serve this model now: all are cooling down or switched off";
        return Rejection::new(Reason::Unavailable, message).after(wait);
    };
    let tries = exchange.attempts;
    let (reason, message) = match failure.verdict.class {
        FailureClass::Rate => {
            (Reason::LimitReached, "the providers' rate limit is reached on every account that serves this model")
        }
        FailureClass::Overload => (Reason::Unavailable, "the provider is overloaded"),
        FailureClass::MoneyGone => (Reason::Unavailable, "the credit or quota of every account is used up"),
        FailureClass::AuthDead => (Reason::Unavailable, "the provider refuses the gateway's credentials"),
        FailureClass::Fault if failure.silent => (Reason::UpstreamSilent, "the provider did not answer in time"),
        FailureClass::Fault => (Reason::UpstreamFailed, "the provider failed to answer"),
        FailureClass::NotHere => (Reason::UnknownModel, "no account has the model"),
        FailureClass::Client => (Reason::Malformed, "the provider refuses the request"),
    };
    let wait = wait.filter(|_| !failure.verdict.class.is_about_the_request());
    Rejection::new(reason, format!("{message} ({tries} tried, last: {})", failure.verdict.reason)).after(wait)
}
