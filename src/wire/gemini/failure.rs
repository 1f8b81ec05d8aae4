//! Writes Google's errors.

use crate::wire::{
    compose::{self, Obj},
    reply::{ErrorKind, ReplyError},
};

/// Status and word of each kind.
fn row(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::ContextTooLong => (400, "INVALID_ARGUMENT"),
        ErrorKind::Authentication => (401, "UNAUTHENTICATED"),
        ErrorKind::Permission => (403, "PERMISSION_DENIED"),
        ErrorKind::NotFound => (404, "NOT_FOUND"),
        ErrorKind::TooLarge => (413, "INVALID_ARGUMENT"),
        ErrorKind::Quota | ErrorKind::RateLimit => (429, "RESOURCE_EXHAUSTED"),
        ErrorKind::Server => (500, "INTERNAL"),
        ErrorKind::Overloaded => (503, "UNAVAILABLE"),
        ErrorKind::Timeout => (504, "DEADLINE_EXCEEDED"),
    }
}

pub(crate) fn status(kind: ErrorKind) -> u16 {
    row(kind).0
}

/// Writes the members of an error reply, and of an error chunk.
pub(crate) fn put(o: &mut Obj<'_>, error: &ReplyError) {
    let (code, word) = row(error.kind);
    o.obj("error", |o| {
        o.int("code", u64::from(code));
        o.str("message", &error.message);
        o.str("status", word);
        o.arr("details", |a| {
            if error.kind == ErrorKind::Quota {
                a.obj(|o| {
                    o.word("@type", "type.googleapis.com/google.rpc.ErrorInfo");
                    o.word("reason", "QUOTA_EXCEEDED");
                });
            }
            if let Some(wait) = error.retry_after {
                a.obj(|o| {
                    o.word("@type", "type.googleapis.com/google.rpc.RetryInfo");
                    o.str("retryDelay", &format!("{}s", wait.as_secs_f64()));
                });
            }
        });
    });
}

/// The body of an error reply.
pub(crate) fn body(error: &ReplyError) -> Vec<u8> {
    let mut out = Vec::new();
    compose::obj(&mut out, |o| put(o, error));
    out
}
