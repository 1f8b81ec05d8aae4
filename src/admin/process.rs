//! The process as a whole: health, metrics, reload, drain.

use super::{answer::Answer, present::present, route::Ask};
use crate::{live::Reload, metrics};
use serde::Serialize;

const PLAIN: &str = "text/plain; charset=utf-8";

/// `GET /livez`
pub(super) fn live(_ask: &Ask) -> Answer {
    Answer::text(PLAIN, "alive\n".to_owned())
}

/// `GET /readyz`
pub(super) fn ready(ask: &Ask) -> Answer {
    match ask.live.is_ready() {
        true => Answer::text(PLAIN, "ready\n".to_owned()),
        false => Answer::text(PLAIN, "not ready\n".to_owned()).with_status(503),
    }
}

/// `GET /metrics`
pub(super) fn metrics(ask: &Ask) -> Answer {
    Answer::text(metrics::CONTENT_TYPE, ask.live.metrics.encode(&present(&ask.live)))
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    draining: bool,
    requests: usize,
    waiting: usize,
    body_bytes: usize,
    accounts: usize,
    users: usize,
    loaded_at: u64,
}

/// `GET /api/v1/status`
pub(super) fn status(ask: &Ask) -> Answer {
    let now = present(&ask.live);
    Answer::json(&Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: ask.live.is_ready(),
        draining: now.draining,
        requests: now.requests,
        waiting: now.waiting,
        body_bytes: now.body_bytes,
        accounts: now.accounts.len(),
        users: now.users,
        loaded_at: now.loaded_at,
    })
}

#[derive(Serialize)]
struct Reloaded {
    accounts: usize,
    restart_needed: Vec<&'static str>,
}

#[derive(Serialize)]
struct Refused {
    error: Faults,
}

#[derive(Serialize)]
struct Faults {
    message: &'static str,
    faults: Vec<String>,
}

/// `POST /api/v1/reload`: the file is read again; a faulty one is refused, with all its faults.
pub(super) fn reload(ask: &Ask) -> Answer {
    match ask.live.reload_file() {
        Reload::Done { accounts, restart_needed } => Answer::json(&Reloaded { accounts, restart_needed }),
        Reload::Refused(faults) => {
            let faults = faults.to_string().lines().map(str::to_owned).collect();
            let message = "the file is faulty: the last good configuration stays in force";
            Answer::json(&Refused { error: Faults { message, faults } }).with_status(422)
        }
        Reload::NoFile => Answer::fault(409, "this process was started without a configuration file"),
    }
}

#[derive(Serialize)]
struct Failures {
    failures: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    at_ms: u64,
    request: String,
    account: String,
    class: &'static str,
    reason: String,
}

/// `GET /api/v1/failures?limit=N`: the last failed attempts, the newest first.
pub(super) fn failures(ask: &Ask) -> Answer {
    let limit = ask.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(50);
    let failed = |failed: metrics::FailedAttempt| {
        let metrics::FailedAttempt { at_ms, request, account, class, reason } = failed;
        Failed { at_ms, request, account, class, reason }
    };
    Answer::json(&Failures { failures: ask.live.metrics.failures(limit).into_iter().map(failed).collect() })
}

#[derive(Serialize)]
struct Draining {
    draining: bool,
    requests: usize,
}

/// `POST /api/v1/drain`: as `SIGTERM`; no new connections, and the process ends after the last request.
pub(super) fn drain(ask: &Ask) -> Answer {
    ask.live.drain();
    Answer::json(&Draining { draining: true, requests: present(&ask.live).requests }).with_status(202)
}
