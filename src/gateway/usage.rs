//! `GET /v1/usage`: what the caller has used, what it may use, and what is left.
//!
//! Only the caller's own: its key's and its user's.

use super::{
    exchange::{Answer, Exchange},
    state::Shared,
};
use crate::limit::report::Report;
use http::HeaderValue;
use serde::Serialize;

#[derive(Serialize)]
struct Usage<'a> {
    object: &'static str,
    user: Option<&'a str>,
    key: Option<&'a str>,
    #[serde(flatten)]
    report: Report,
}

/// The answer to the caller.
pub(super) fn answer(shared: &Shared, exchange: &Exchange) -> Answer {
    let caller = exchange.caller.as_ref();
    let subjects = caller.map_or(&[][..], |caller| &caller.subjects);
    let usage = Usage {
        object: "usage",
        user: caller.map(|caller| caller.user.name.as_str()),
        key: caller.map(|caller| &*caller.key_id),
        report: Report::new(&shared.live.limiter, subjects, shared.live.clock.now()),
    };
    let content_type = Some(HeaderValue::from_static("application/json"));
    Answer { status: 200, content_type, body: serde_json::to_vec(&usage).unwrap_or_default().into() }
}
