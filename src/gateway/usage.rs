//! `GET /v1/usage`: what the caller has used, what it may use, and what is left.
//!
//! Only the caller's own: its key's and its user's. Amounts of money are numbers in US dollars, exact to the nano-dollar.

use super::{
    exchange::{Answer, Exchange},
    state::Shared,
};
use crate::{
    clock::Moment,
    limit::{
        calendar::rfc3339,
        limiter::{Limiter, Room},
        owner::Subject,
        terms::{Quota, Unit, Window, dollars},
    },
};
use http::HeaderValue;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Usage<'a> {
    object: &'static str,
    user: Option<&'a str>,
    key: Option<&'a str>,
    limits: Vec<Limit>,
    budgets: Vec<Budget>,
    used: Vec<Used>,
}

#[derive(Serialize)]
struct Limit {
    whose: &'static str,
    of: &'static str,
    limit: u64,
    remaining: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_in_seconds: Option<u64>,
}

#[derive(Serialize)]
struct Budget {
    whose: &'static str,
    window: &'static str,
    of: &'static str,
    limit: Box<RawValue>,
    spent: Box<RawValue>,
    set_aside: Box<RawValue>,
    remaining: Box<RawValue>,
    resets_at: Option<String>,
}

#[derive(Serialize)]
struct Used {
    whose: &'static str,
    window: &'static str,
    requests: u64,
    tokens: u64,
    cost_usd: Box<RawValue>,
    resets_at: Option<String>,
}

/// The answer to the caller.
pub(super) fn answer(shared: &Shared, exchange: &Exchange) -> Answer {
    let now = shared.live.clock.now();
    let caller = exchange.caller.as_ref();
    let subjects = caller.map_or(&[][..], |caller| &caller.subjects);
    let usage = Usage {
        object: "usage",
        user: caller.map(|caller| caller.user.name.as_str()),
        key: caller.map(|caller| &*caller.key_id),
        limits: subjects.iter().flat_map(|subject| limits(&shared.live.limiter, subject, now)).collect(),
        budgets: subjects.iter().flat_map(|subject| budgets(subject, now)).collect(),
        used: subjects.iter().flat_map(|subject| used(subject, now)).collect(),
    };
    let content_type = Some(HeaderValue::from_static("application/json"));
    Answer { status: 200, content_type, body: serde_json::to_vec(&usage).unwrap_or_default().into() }
}

fn limits(limiter: &Limiter, subject: &Subject, now: Moment) -> Vec<Limit> {
    let whose = subject.owner.whose.name();
    let rates = limiter.rates(std::slice::from_ref(subject), now);
    let rate = |of, room: Room| Limit {
        whose,
        of,
        limit: room.limit,
        remaining: room.remaining,
        resets_in_seconds: Some(room.reset.as_millis().div_ceil(1_000) as u64),
    };
    let places = subject.limits.concurrency.map(|limit| Limit {
        whose,
        of: "requests_at_the_same_time",
        limit: u64::from(limit),
        remaining: u64::from(limit.saturating_sub(subject.owner.in_flight.count())),
        resets_in_seconds: None,
    });
    let requests = rates.requests.map(|room| rate("requests_per_minute", room));
    let tokens = rates.tokens.map(|room| rate("tokens_per_minute", room));
    [requests, tokens, places].into_iter().flatten().collect()
}

fn budgets(subject: &Subject, now: Moment) -> Vec<Budget> {
    let stands = subject.owner.budgets.standing(&subject.budgets, now);
    let each = stands.iter().flat_map(|stand| Unit::ALL.map(|unit| (stand, unit)));
    each.filter_map(|(stand, unit)| {
        let limit = unit.limit(&stand.quota)?;
        let (spent, set_aside) = (unit.of(&stand.spent), unit.of(&stand.reserved));
        Some(Budget {
            whose: subject.owner.whose.name(),
            window: stand.quota.window.name(),
            of: name(unit),
            limit: number(unit, limit),
            spent: number(unit, spent),
            set_aside: number(unit, set_aside),
            remaining: number(unit, limit.saturating_sub(spent).saturating_sub(set_aside)),
            resets_at: stand.until.map(rfc3339),
        })
    })
    .collect()
}

fn used(subject: &Subject, now: Moment) -> Vec<Used> {
    let all = Window::ALL.map(|window| Quota { window, tokens: None, requests: None, cost_nanos: None });
    let stands = subject.owner.budgets.standing(&all, now);
    let used = stands.into_iter().map(|stand| Used {
        whose: subject.owner.whose.name(),
        window: stand.quota.window.name(),
        requests: stand.spent.requests,
        tokens: stand.spent.tokens,
        cost_usd: number(Unit::Cost, stand.spent.cost_nanos),
        resets_at: stand.until.map(rfc3339),
    });
    used.collect()
}

fn name(unit: Unit) -> &'static str {
    match unit {
        Unit::Tokens => "tokens",
        Unit::Requests => "requests",
        Unit::Cost => "cost_usd",
    }
}

/// An amount as a JSON number, without a float's rounding.
fn number(unit: Unit, amount: u64) -> Box<RawValue> {
    let text = match unit {
        Unit::Tokens | Unit::Requests => amount.to_string(),
        Unit::Cost => dollars(amount),
    };
    RawValue::from_string(text).unwrap_or_default()
}
