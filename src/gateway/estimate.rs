//! The answer to a counting call that no account gives: an estimate, and marked as one.
//!
//! Counting is free and says nothing about an account, so that whatever goes wrong with it ends here instead of with an
//! error. Only a model that somebody serves is counted for.

use super::exchange::{Answer, Exchange};
use crate::{
    account::pool::Demand,
    tokens,
    wire::{Endpoint, counting},
};
use http::HeaderValue;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Says which part of an answer is an estimate of the gateway.
pub(super) const HEADER: &str = "x-sub2api-estimate";

/// Whether somebody serves the model, so that a request for its next turn would be taken.
pub(super) fn is_served(exchange: &Exchange, model: &str) -> bool {
    upstream_model(exchange, model).is_some()
}

/// What the first account that would be asked for the next turn calls the model.
fn upstream_model(exchange: &Exchange, model: &str) -> Option<String> {
    let calls = [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Messages, Endpoint::GenerateContent];
    let first = |endpoint| {
        let found = exchange.snapshot.pool.candidates(&Demand { model, endpoint });
        found.first().map(|candidate| candidate.upstream_model.to_string())
    };
    calls.iter().find_map(first)
}

/// Whether a provider has said what is wrong with the request itself, or that there is no such model: then that is the
/// answer. A provider without the call says neither.
pub(super) fn is_answered(exchange: &Exchange) -> bool {
    let names_model = |answer: &Answer| {
        answer.body.trim_ascii_start().starts_with(b"{") && memchr::memmem::find(&answer.body, b"model").is_some()
    };
    let failures = &exchange.failures;
    let all_told = failures.iter().all(|failure| failure.answer.as_ref().is_some_and(names_model));
    // A 404 that names no model is about the call, which the provider's own format has and this provider has not.
    let is_told = |answer: &Answer| answer.status != 404 || names_model(answer);
    exchange.answer.as_ref().is_some_and(is_told) || (!failures.is_empty() && all_told)
}

/// An estimate of a call's input. What takes long does so beside the other requests of this thread, and not before them.
pub(super) fn tokens_of(endpoint: &Endpoint, body: &[u8], model: &str) -> u64 {
    let count = || tokens::estimate_call(endpoint, body, model);
    let has_others = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_others && !tokens::is_quick(body.len()) { block_in_place(count) } else { count() }
}

/// The estimate, where the call only counts.
pub(super) fn answer(exchange: &Exchange) -> Option<Answer> {
    let endpoint = exchange.endpoint().filter(|endpoint| endpoint.is_counting())?;
    let request = exchange.request.as_ref()?;
    let model = upstream_model(exchange, &request.model)?;
    let tokens = tokens_of(endpoint, &request.body, &model);
    let body = counting::reply(endpoint, tokens).into();
    Some(Answer { status: 200, content_type: Some(HeaderValue::from_static("application/json")), body })
}
