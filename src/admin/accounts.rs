//! The accounts, as the operator sees them.

use super::{answer::Answer, present::until, route::Ask};
use crate::{
    account::{health::State, pool::Account},
    clock::Moment,
    config::ModelRule,
};
use serde::Serialize;

#[derive(Serialize)]
struct Accounts {
    accounts: Vec<View>,
}

/// One account.
#[derive(Serialize)]
struct View {
    name: String,
    provider: &'static str,
    priority: u32,
    weight: u32,
    models: Vec<String>,
    formats: Vec<&'static str>,
    #[serde(flatten)]
    state: Standing,
    in_flight: u32,
    concurrency: Option<u32>,
    /// Models of it that are away on their own.
    models_away: Vec<ModelAway>,
}

#[derive(Serialize)]
struct ModelAway {
    model: String,
    #[serde(flatten)]
    state: Standing,
}

#[derive(Serialize)]
struct Standing {
    state: &'static str,
    /// When it ends by itself, in milliseconds since 1970.
    until_ms: Option<u64>,
    /// The same as seconds from now.
    seconds_left: Option<f64>,
}

impl Standing {
    fn new(state: State, now: Moment) -> Standing {
        let until = until(state);
        Standing {
            state: state.name(),
            until_ms: until.map(Moment::unix_millis),
            seconds_left: until.map(|until| until.since(now).as_secs_f64()),
        }
    }
}

impl View {
    fn new(account: &Account, now: Moment) -> View {
        let (settings, live) = (&account.settings, &account.live);
        let away = live.models(now).into_iter();
        View {
            name: settings.name.clone(),
            provider: settings.provider.name(),
            priority: settings.priority,
            weight: settings.weight,
            models: settings.models.iter().map(rule).collect(),
            formats: settings.formats.iter().map(|format| format.name()).collect(),
            state: Standing::new(live.state(now), now),
            in_flight: live.in_flight(),
            concurrency: settings.limits.concurrency,
            models_away: away.map(|(model, state)| ModelAway { model, state: Standing::new(state, now) }).collect(),
        }
    }
}

fn rule(rule: &ModelRule) -> String {
    match rule {
        ModelRule::Exact(name) => name.clone(),
        ModelRule::Prefix(beginning) => format!("{beginning}*"),
        ModelRule::Alias { name, upstream } => format!("{name} → {upstream}"),
    }
}

/// `GET /api/v1/accounts`
pub(super) fn list(ask: &Ask) -> Answer {
    let (snapshot, now) = (ask.live.snapshot(), ask.live.clock.now());
    let accounts = snapshot.pool.accounts().iter().map(|account| View::new(account, now)).collect();
    Answer::json(&Accounts { accounts })
}

/// `GET /api/v1/accounts/{name}`
pub(super) fn one(ask: &Ask) -> Answer {
    let (snapshot, now) = (ask.live.snapshot(), ask.live.clock.now());
    let name = ask.segment("/api/v1/accounts/{name}");
    match snapshot.pool.accounts().iter().find(|account| account.settings.name == name) {
        Some(account) => Answer::json(&View::new(account, now)),
        None => Answer::fault(404, "there is no account of this name"),
    }
}
