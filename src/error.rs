//! `Rejection`, the only error that a client ever sees.
//!
//! It says what went wrong, whose limit it was and when to come back; the wire formats turn it into their own shape.
//! It never holds a key, an account name or an upstream address.

use std::time::Duration;

/// Why a request is refused. Each reason has one HTTP status; a wire format adds its own typed code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No key was sent (401).
    MissingKey,
    /// A key was sent that nobody owns (401).
    UnknownKey,
    /// The key's user is disabled (403).
    KeyDisabled,
    /// The key has expired (403).
    KeyExpired,
    /// This key may not use the model (403).
    ModelNotAllowed,
    /// This key may not be used from the caller's address (403).
    AddressNotAllowed,
    /// No account serves this model (404).
    UnknownModel,
    /// No such path (404).
    UnknownPath,
    /// The path exists, but not with this method (405).
    MethodNotAllowed,
    /// The request cannot be read, or asks for what cannot be carried (400).
    Malformed,
    /// The client took too long to send its request (408).
    ClientTooSlow,
    /// The body is larger than allowed (413).
    TooLarge,
    /// The header section is larger than allowed (431).
    HeadersTooLarge,
    /// A budget is spent (402).
    BudgetSpent,
    /// A rate or concurrency limit of the key, the user or the provider is reached (429).
    LimitReached,
    /// No account can serve now, or the gateway is at one of its own bounds (503).
    Unavailable,
    /// The upstream failed in a way that is not the caller's fault (502).
    UpstreamFailed,
    /// The upstream kept silent for too long (504).
    UpstreamSilent,
    /// A fault of the gateway itself (500).
    Internal,
}

impl Reason {
    /// The HTTP status of this reason, before a wire format maps it to what its clients know.
    pub fn status(self) -> u16 {
        match self {
            Reason::Malformed => 400,
            Reason::MissingKey | Reason::UnknownKey => 401,
            Reason::BudgetSpent => 402,
            Reason::KeyDisabled | Reason::KeyExpired | Reason::ModelNotAllowed | Reason::AddressNotAllowed => 403,
            Reason::UnknownModel | Reason::UnknownPath => 404,
            Reason::MethodNotAllowed => 405,
            Reason::ClientTooSlow => 408,
            Reason::TooLarge => 413,
            Reason::LimitReached => 429,
            Reason::HeadersTooLarge => 431,
            Reason::Internal => 500,
            Reason::UpstreamFailed => 502,
            Reason::Unavailable => 503,
            Reason::UpstreamSilent => 504,
        }
    }
}

/// A refusal: what a client is told instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why; decides the status and the typed code.
    pub reason: Reason,
    /// What, where and what to do, for a person. Holds no secret.
    pub message: String,
    /// The request field at fault, where one is.
    pub param: Option<String>,
    /// When it makes sense to come back.
    pub retry_after: Option<Duration>,
}

impl Rejection {
    /// A refusal with a message and nothing else.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Rejection { reason, message: message.into(), param: None, retry_after: None }
    }

    /// Names the request field at fault.
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to come back.
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.reason.status()
    }
}
