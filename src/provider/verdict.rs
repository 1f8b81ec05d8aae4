//! Judges an upstream's answer: from status, headers and the body's code to a failure class.
//!
//! Pure; `now` is an argument. The table is in `docs/accounts.md`.

use crate::{clock::Moment, wire::tap::UpstreamError};
use std::time::Duration;

/// What a failed attempt says about the account, and what follows for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The account's rate limit is reached.
    Rate,
    /// The provider (or this model on it) is overloaded.
    Overload,
    /// Credit or quota is used up.
    MoneyGone,
    /// The key is refused.
    AuthDead,
    /// Transport or server fault.
    Fault,
    /// The request itself is at fault; the answer goes to the caller as it is.
    Client,
}

impl FailureClass {
    /// Whether another account may serve the request.
    pub fn fails_over(self) -> bool {
        self != FailureClass::Client
    }

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            FailureClass::Rate => "rate",
            FailureClass::Overload => "overload",
            FailureClass::MoneyGone => "money_gone",
            FailureClass::AuthDead => "auth_dead",
            FailureClass::Fault => "fault",
            FailureClass::Client => "client",
        }
    }
}

/// The judgement of one failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The class.
    pub class: FailureClass,
    /// How long the provider asks to stay away, from headers or body; not yet clamped.
    pub retry_after: Option<Duration>,
    /// Whether only this model of the account is affected.
    pub model_only: bool,
    /// About the request.
    pub about_request: bool,
    /// A short reason for logs and states: status and code, never the body's text.
    pub reason: String,
}

/// Judges an answer with an error status, or an error event inside a stream (then `status` is what the event stands for).
pub fn judge(status: u16, headers: &http::HeaderMap, error: Option<&UpstreamError>, now: Moment) -> Verdict {
    let _ = (status, headers, error, now);
    unimplemented!()
}

impl Verdict {
    /// A fault.
    pub fn fault(_: &str) -> Verdict {
        unimplemented!()
    }
}
