//! The accounts, as the operator sees them.

use super::{
    answer::Answer,
    present::{self, until},
    route::Ask,
};
use crate::{
    account::{
        health::{Operation, State},
        pool::Account,
    },
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
    /// Why it is in this state: the last change, as in the log.
    reason: Option<String>,
    windows: Vec<WindowView>,
    history: Vec<Happened>,
    /// Models of it that are away on their own.
    models_away: Vec<ModelAway>,
}

/// What is left of one of its limits.
#[derive(Serialize)]
struct WindowView {
    name: String,
    /// `provider` where its replies tell, `configured` where the file does.
    from: &'static str,
    limit: u64,
    remaining: u64,
    /// The share that is left, 0 to 1.
    left: f64,
    reset_ms: Option<u64>,
}

#[derive(Serialize)]
struct Happened {
    at_ms: u64,
    what: String,
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
        let history = live.history();
        let state = live.state(now);
        let reason = history.last().filter(|_| state != State::Ready).map(|event| event.what.clone());
        View {
            name: settings.name.clone(),
            provider: settings.provider.name(),
            priority: settings.priority,
            weight: settings.weight,
            models: settings.models.iter().map(rule).collect(),
            formats: settings.formats.iter().map(|format| format.name()).collect(),
            state: Standing::new(state, now),
            in_flight: live.in_flight(),
            concurrency: settings.limits.concurrency,
            reason,
            windows: windows(account, now),
            history: history.into_iter().map(|e| Happened { at_ms: e.at.unix_millis(), what: e.what }).collect(),
            models_away: away.map(|(model, state)| ModelAway { model, state: Standing::new(state, now) }).collect(),
        }
    }
}

fn windows(account: &Account, now: Moment) -> Vec<WindowView> {
    let shares = present::windows(account, now).into_iter();
    shares
        .map(|window| WindowView {
            left: window.share(),
            name: window.name,
            from: window.from,
            limit: window.limit,
            remaining: window.remaining,
            reset_ms: window.reset_ms,
        })
        .collect()
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
    let name = ask.segment("/api/v1/accounts/{name}", 0);
    match snapshot.pool.accounts().iter().find(|account| account.settings.name == name) {
        Some(account) => Answer::json(&View::new(account, now)),
        None => Answer::fault(404, "there is no account of this name"),
    }
}

/// `POST /api/v1/accounts/{name}/{operation}`: suspend, resume, clear, probe.
pub(super) fn operate(ask: &Ask) -> Answer {
    const PATTERN: &str = "/api/v1/accounts/{name}/{operation}";
    let (name, word) = (ask.segment(PATTERN, 0), ask.segment(PATTERN, 1));
    let Some(operation) = Operation::find(&word) else {
        let words: Vec<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        return Answer::fault(404, &format!("an account can be told to {}", words.join(", ")));
    };
    let now = ask.live.clock.now();
    match ask.live.snapshot().pool.operate(&name, operation, now) {
        Some(state) => {
            log::warn!("account {name}: {} ({} by hand)", state.name(), operation.name());
            Answer::json(&Operated { account: name, state: Standing::new(state, now) })
        }
        None => Answer::fault(404, "there is no account of this name"),
    }
}

#[derive(Serialize)]
struct Operated {
    account: String,
    #[serde(flatten)]
    state: Standing,
}
