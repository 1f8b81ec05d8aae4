//! How a user or a key stands: its limits and budgets with what is left of them, and what it has used.
//!
//! Amounts of money are numbers in US dollars, exact to the nano-dollar.

use super::{
    calendar::rfc3339,
    limiter::{Limiter, Room},
    owner::Subject,
    terms::{Quota, Unit, Window, dollars},
};
use crate::clock::Moment;
use serde::Serialize;
use serde_json::value::RawValue;

/// One limit, and what is left of it.
#[derive(Serialize)]
pub struct Limit {
    whose: &'static str,
    of: &'static str,
    limit: u64,
    remaining: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_in_seconds: Option<u64>,
}

/// One budget, and what is left of it.
#[derive(Serialize)]
pub struct Budget {
    whose: &'static str,
    window: &'static str,
    of: &'static str,
    limit: Box<RawValue>,
    spent: Box<RawValue>,
    set_aside: Box<RawValue>,
    remaining: Box<RawValue>,
    resets_at: Option<String>,
}

/// What was used in one window.
#[derive(Serialize)]
pub struct Used {
    whose: &'static str,
    window: &'static str,
    requests: u64,
    tokens: u64,
    cost_usd: Box<RawValue>,
    resets_at: Option<String>,
}

/// How these subjects stand.
#[derive(Serialize)]
pub struct Report {
    limits: Vec<Limit>,
    budgets: Vec<Budget>,
    used: Vec<Used>,
}

impl Report {
    /// How they stand now.
    pub fn new(limiter: &Limiter, subjects: &[Subject], now: Moment) -> Report {
        Report {
            limits: subjects.iter().flat_map(|subject| limits(limiter, subject, now)).collect(),
            budgets: subjects.iter().flat_map(|subject| budgets(subject, now)).collect(),
            used: subjects.iter().flat_map(|subject| used(subject, now)).collect(),
        }
    }
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
