//! Writes OpenAI's errors, which Chat Completions and Responses share.

use crate::wire::{
    compose,
    reply::{ErrorKind, ReplyError},
};

/// Status, type and code of each kind.
fn row(kind: ErrorKind) -> (u16, &'static str, Option<&'static str>) {
    match kind {
        ErrorKind::InvalidRequest => (400, "invalid_request_error", None),
        ErrorKind::ContextTooLong => (400, "invalid_request_error", Some("context_length_exceeded")),
        ErrorKind::Authentication => (401, "invalid_request_error", Some("invalid_api_key")),
        ErrorKind::Quota => (429, "insufficient_quota", Some("insufficient_quota")),
        ErrorKind::Permission => (403, "permission_error", None),
        ErrorKind::NotFound => (404, "invalid_request_error", Some("model_not_found")),
        ErrorKind::TooLarge => (413, "invalid_request_error", Some("request_too_large")),
        ErrorKind::RateLimit => (429, "requests", Some("rate_limit_exceeded")),
        ErrorKind::Server => (500, "server_error", None),
        ErrorKind::Overloaded => (503, "server_error", Some("overloaded")),
        ErrorKind::Timeout => (504, "server_error", Some("timeout")),
    }
}

pub(crate) fn status(kind: ErrorKind) -> u16 {
    row(kind).0
}

/// The typed code, with the upstream's own where the kind has none.
pub(crate) fn code(error: &ReplyError) -> Option<&str> {
    row(error.kind).2.or(error.code.as_deref())
}

/// The body of an error reply, and of an error event of a chat stream.
pub(crate) fn body(error: &ReplyError) -> Vec<u8> {
    let (_, kind, _) = row(error.kind);
    let mut out = Vec::new();
    compose::obj(&mut out, |o| {
        o.obj("error", |o| {
            o.str("message", &error.message);
            o.str("type", kind);
            o.null("param");
            o.str_or_null("code", code(error));
        });
    });
    out
}
