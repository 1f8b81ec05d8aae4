//! What a caller's limits have to say: before the body is read, before an account is chosen, during a stream, at the end.
//!
//! `limit` decides and keeps the counters; this file knows what a request may use and what it has used. Every call that an
//! account serves passes here, relayed ones too; only counting tokens is free.

use super::{exchange::Exchange, state::Shared};
use crate::{
    clock::Moment,
    error::{Reason, Rejection},
    limit::terms::Amounts,
    wire::Endpoint,
};
use pingora_proxy::Session;
use std::time::Duration;

/// Bytes of a request that are taken for one token, where nothing better is known.
const BYTES_PER_TOKEN: u64 = 4;
/// How many tokens more a stream sets aside at a time.
const STEP: u64 = 256;
/// The largest count that is believed of an answer.
const MOST: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

/// What a request was estimated at when it was let in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    /// Its input tokens.
    pub input: u64,
    /// The output tokens that are set aside for it by now; beyond them a stream has to set more aside.
    pub output: u64,
    /// Whether its stream is watched.
    pub is_watched: bool,
}

/// A request without a good key: its own refusal, until too many come from its address.
pub(super) fn stranger(shared: &Shared, session: &mut Session, exchange: &Exchange, rejection: Rejection) -> Rejection {
    let limit = exchange.snapshot.config.bounds.unauthenticated;
    let Some(address) = exchange.client.filter(|_| limit > 0) else { return rejection };
    if shared.live.floods.count(address, limit, exchange.started) {
        return rejection;
    }
    session.set_keepalive(None);
    let message = format!("more than {limit} requests per minute without a good key came from this address");
    Rejection::new(Reason::LimitReached, message).after(Some(MINUTE))
}

/// Lets the caller in as far as can be told before the body: places, requests per minute, budgets that are spent.
pub(super) fn admit(shared: &Shared, exchange: &mut Exchange, endpoint: &Endpoint) -> Result<(), Rejection> {
    let Some(caller) = &exchange.caller else { return Ok(()) };
    let (limiter, now) = (&shared.live.limiter, exchange.started);
    let admitted = limiter.admit(&caller.subjects, now).and_then(|permit| {
        if !endpoint.is_counting() {
            permit.check_budgets(now)?;
        }
        Ok(permit)
    });
    match admitted {
        Ok(permit) => {
            // A call that sets nothing aside has no better time to learn its rates.
            if endpoint.is_counting() {
                exchange.rates = permit.rates(now);
            }
            exchange.admission = Some(permit);
            Ok(())
        }
        Err(refusal) => {
            exchange.rates = limiter.rates(&caller.subjects, now);
            Err(refusal.into_rejection(now))
        }
    }
}

/// Sets aside what the request may use.
pub(super) fn reserve(shared: &Shared, exchange: &mut Exchange, endpoint: &Endpoint) -> Result<(), Rejection> {
    if exchange.admission.is_none() || endpoint.is_counting() {
        return Ok(());
    }
    let estimate = estimate(exchange, endpoint);
    let want = amounts(exchange, estimate.input, estimate.output);
    let now = exchange.marks.received.unwrap_or_else(|| shared.live.clock.now());
    exchange.estimate = estimate;
    let Some(permit) = &mut exchange.admission else { return Ok(()) };
    let reserved = permit.reserve(want, now);
    exchange.rates = permit.rates(now);
    reserved.map_err(|refusal| refusal.into_rejection(now))
}

/// What the request may use: its input, and the output that it allows up to a bound.
fn estimate(exchange: &Exchange, endpoint: &Endpoint) -> Estimate {
    let settings = &exchange.snapshot.config.budgets;
    let Some(request) = &exchange.request else { return Estimate::default() };
    let has_output = match endpoint {
        Endpoint::Embeddings
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents
        | Endpoint::Moderations
        | Endpoint::Rerank => false,
        Endpoint::ChatCompletions
        | Endpoint::Responses
        | Endpoint::ResponsesInputTokens
        | Endpoint::ResponsesCompact
        | Endpoint::Messages
        | Endpoint::CountTokens
        | Endpoint::GenerateContent
        | Endpoint::StreamGenerateContent { .. }
        | Endpoint::GeminiCountTokens
        | Endpoint::Completions
        | Endpoint::Images(_)
        | Endpoint::Audio(_) => true,
    };
    let is_json = request.body.trim_ascii_start().first() == Some(&b'{');
    // The files in a form are no text.
    let input = if is_json { request.body.len() as u64 / BYTES_PER_TOKEN } else { 0 };
    let told = request.envelope.max_output_tokens.unwrap_or(u64::MAX);
    let output = if has_output { told.min(settings.reserve_output) } else { 0 };
    let has_budgets = exchange.admission.as_ref().is_some_and(|permit| permit.has_budgets());
    Estimate { input, output, is_watched: request.stream && settings.end_streams && has_budgets }
}

/// What so many tokens are of a budget: their cost by the dearest price among the accounts that may serve. A model
/// without a price costs nothing here, as in the ledger; `prices.unpriced: refuse` keeps it out.
fn amounts(exchange: &Exchange, input: u64, output: u64) -> Amounts {
    let prices = &exchange.snapshot.config.prices;
    let images = u64::from(matches!(exchange.endpoint(), Some(Endpoint::Images(_))));
    let prices = exchange.plan.iter().flat_map(|plan| plan.candidates.prices(prices)).flatten();
    let cost = prices.map(|price| price.most_nanos(input, output, images));
    Amounts { tokens: input.saturating_add(output), requests: 1, cost_nanos: cost.max().unwrap_or(0) }
}

/// Whether a stream has used more than was set aside, and no more can be: then it has to end, with the refusal in the
/// exchange.
pub(super) fn is_overrun(shared: &Shared, exchange: &mut Exchange, end: bool) -> bool {
    let Estimate { input, output: allowed, is_watched } = exchange.estimate;
    if !is_watched || end {
        return false;
    }
    let Some(reply) = exchange.attempt.as_ref().and_then(|attempt| attempt.reply.as_ref()) else { return false };
    // What the provider has told by now can be old; what has passed is weighed.
    let output = reply.seen().usage.output.unwrap_or(0).max(reply.output_tokens()).min(MOST);
    if output <= allowed {
        return false;
    }
    let input = input.max(reply.seen().usage.total_input());
    let now = shared.live.clock.now();
    let wants = [STEP, 0].map(|more| (more, amounts(exchange, input, output + more)));
    let Some(permit) = &mut exchange.admission else { return false };
    let mut grow = |(more, want): (u64, Amounts)| permit.grow(want, now).map(|()| more);
    let [ample, bare] = wants;
    match grow(ample).or_else(|_| grow(bare)) {
        Ok(more) => {
            exchange.estimate.output = output + more;
            false
        }
        Err(refusal) => {
            exchange.cut = Some(refusal.into_rejection(now));
            true
        }
    }
}

/// Books what an attempt used, as its row in the ledger says it: tokens and nano-dollars.
pub(super) fn charge(exchange: &mut Exchange, (tokens, cost_nanos): (u64, u64), now: Moment) {
    let used = Amounts { tokens, requests: u64::from(exchange.attempts == 1), cost_nanos };
    if let Some(permit) = &mut exchange.admission {
        permit.charge(used, exchange.started.unix_millis(), now);
    }
}
