//! Users and keys as the operator sees them: what they may use, and what is left. Keys by the beginning of their hash only.

use super::{answer::Answer, route::Ask};
use crate::{limit::report::Report, user::Caller};
use serde::Serialize;

#[derive(Serialize)]
struct Keys {
    keys: Vec<Key>,
}

/// One key.
#[derive(Serialize)]
struct Key {
    key: String,
    user: String,
    /// Whether it is let in now.
    active: bool,
    disabled: bool,
    expires_ms: Option<u64>,
    models: Vec<String>,
}

#[derive(Serialize)]
struct Limits {
    keys: Vec<Standing>,
}

/// How one key and its user stand.
#[derive(Serialize)]
struct Standing {
    key: String,
    user: String,
    #[serde(flatten)]
    report: Report,
}

/// `GET /api/v1/keys`
pub(super) fn keys(ask: &Ask) -> Answer {
    let (snapshot, now) = (ask.live.snapshot(), ask.live.clock.now());
    let key = |(caller, refused): (&Caller, bool)| Key {
        key: caller.key_id.to_string(),
        user: caller.user.name.clone(),
        active: !refused,
        disabled: caller.user.disabled || caller.key.disabled,
        expires_ms: [caller.user.expires_unix_millis, caller.key.expires_unix_millis].into_iter().flatten().min(),
        models: caller.user.models.clone(),
    };
    Answer::json(&Keys { keys: snapshot.keys.all(now).into_iter().map(key).collect() })
}

/// `GET /api/v1/limits`: limits and budgets of every key and its user, with what is left; `user=` and `key=` narrow it.
pub(super) fn limits(ask: &Ask) -> Answer {
    let (snapshot, now) = (ask.live.snapshot(), ask.live.clock.now());
    let (user, key) = (ask.parameter("user"), ask.parameter("key"));
    let all = snapshot.keys.all(now).into_iter().map(|(caller, _)| caller);
    let asked = all.filter(|caller| {
        user.as_deref().is_none_or(|user| user == caller.user.name)
            && key.as_deref().is_none_or(|key| *key == *caller.key_id)
    });
    let standing = |caller: &Caller| Standing {
        key: caller.key_id.to_string(),
        user: caller.user.name.clone(),
        report: Report::new(&ask.live.limiter, &caller.subjects, now),
    };
    Answer::json(&Limits { keys: asked.map(standing).collect() })
}
