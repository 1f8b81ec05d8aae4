//! Writes Anthropic's errors.

use crate::wire::{
    compose,
    reply::{ErrorKind, ReplyError},
};

/// Status and type of each kind.
fn row(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::ContextTooLong => (400, "invalid_request_error"),
        ErrorKind::Authentication => (401, "authentication_error"),
        ErrorKind::Quota => (402, "billing_error"),
        ErrorKind::Permission => (403, "permission_error"),
        ErrorKind::NotFound => (404, "not_found_error"),
        ErrorKind::TooLarge => (413, "request_too_large"),
        ErrorKind::RateLimit => (429, "rate_limit_error"),
        ErrorKind::Server => (500, "api_error"),
        ErrorKind::Overloaded => (529, "overloaded_error"),
        ErrorKind::Timeout => (504, "timeout_error"),
    }
}

pub(crate) fn status(kind: ErrorKind) -> u16 {
    row(kind).0
}

/// The body of an error reply, and of an error event.
pub(crate) fn body(error: &ReplyError, request_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    compose::obj(&mut out, |o| {
        o.word("type", "error");
        o.obj("error", |o| {
            o.str("type", row(error.kind).1);
            o.str("message", &error.message);
        });
        o.str_or_null("request_id", Some(request_id).filter(|id| !id.is_empty()));
    });
    out
}
