//! Gathers what a trace tells of a request, where traces are switched on; costs nothing where they are not.

use super::{exchange::Exchange, state::Shared};
use crate::{
    metrics,
    provider::verdict::Verdict,
    telemetry::Access,
    trace::{AttemptTrace, Context, RequestTrace},
};

/// What is known so far of a request's spans.
pub(super) struct Spans {
    context: Context,
    attempts: Vec<AttemptTrace>,
    /// Why the attempt under way failed.
    failed: Option<(&'static str, String)>,
}

/// Begins a request's spans, below the caller's where it sent a `traceparent`.
pub(super) fn begin(shared: &Shared, exchange: &mut Exchange, traceparent: Option<&str>) {
    if shared.live.traces.is_some() {
        let context = Context::new(traceparent, || shared.live.draw());
        exchange.spans = Some(Box::new(Spans { context, attempts: Vec::new(), failed: None }));
    }
}

/// The attempt under way failed.
pub(super) fn failed(spans: &mut Option<Box<Spans>>, verdict: &Verdict) {
    if let Some(spans) = spans {
        spans.failed = Some((verdict.class.name(), verdict.reason.clone()));
    }
}

/// The attempt under way is over, whatever came of it.
pub(super) fn attempt_over(shared: &Shared, exchange: &mut Exchange) {
    let (Some(spans), Some(attempt)) = (&mut exchange.spans, &exchange.attempt) else { return };
    let now = shared.live.clock.now();
    let candidate = &attempt.lease.candidate;
    let seen = attempt.reply.as_ref().map(|reply| reply.seen());
    spans.attempts.push(AttemptTrace {
        span: shared.live.draw().max(1),
        account: candidate.account.settings.name.clone(),
        provider: candidate.account.settings.provider.name(),
        model: candidate.upstream_model.to_string(),
        status: attempt.reply.as_ref().map_or(0, |reply| reply.status),
        failed: spans.failed.take(),
        usage: seen.map(|seen| seen.usage).unwrap_or_default(),
        finish: seen.and_then(|seen| seen.finish.as_deref().map(str::to_owned)),
        time: (attempt.lease.begun, now),
    });
}

/// Hands a finished request to the exporter.
pub(super) fn end(shared: &Shared, exchange: &mut Exchange, call: &'static str) {
    attempt_over(shared, exchange);
    let (Some(spans), Some(queue)) = (exchange.spans.take(), &shared.live.traces) else { return };
    let now = shared.live.clock.now();
    queue.push(RequestTrace {
        context: spans.context,
        request_id: exchange.id.to_string(),
        call,
        operation: metrics::operation(call),
        user: exchange.caller.as_ref().map_or_else(|| "-".to_owned(), |caller| caller.user.name.clone()),
        model: exchange.model().chars().take(Access::MOST_SHOWN).collect(),
        status: exchange.status,
        outcome: exchange.outcome.name(),
        time: (exchange.started, now),
        attempts: spans.attempts,
    });
}
