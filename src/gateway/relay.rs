//! The reply side of an exchange: joins what `reply` decides with the adapter, the account and the client's header.

use super::{
    dispatch,
    downstream::Deadlines,
    exchange::{Exchange, Failure},
    reply::{Failed, Holding, Reply, Step},
    settle,
    state::Shared,
    upstream,
};
use crate::{
    config::HeaderRules,
    error::{Reason, Rejection},
    provider::verdict::Verdict,
};
use bytes::Bytes;
use http::header;
use pingora::{Error, ErrorType, Result, http::ResponseHeader, protocols::http::compression::ResponseCompressionCtx};
use pingora_proxy::Session;
use tokio::time::Instant;

/// An attempt failed before anything of it was shown.
pub(super) const FAILED_OVER: ErrorType = ErrorType::Custom("AttemptFailed");
/// An answer broke off inside an event that had to pass in pieces.
pub(super) const BROKEN: ErrorType = ErrorType::Custom("BrokenInsideEvent");
/// No attempt is left; the refusal is in the exchange.
pub(super) const NOTHING_LEFT: ErrorType = ErrorType::Custom("NothingLeft");

/// Makes ready for one connection: the attempt already chosen, or the next one.
pub(super) async fn begin_attempt(shared: &Shared, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    match &mut exchange.attempt {
        Some(attempt) if attempt.again => attempt.again = false,
        Some(_) | None => {
            if let Err(rejection) = dispatch::next(shared, exchange).await {
                exchange.rejection = Some(rejection);
                return Error::e_explain(NOTHING_LEFT, "no account is left to try");
            }
            if let Some(attempt) = &mut exchange.attempt {
                attempt.again = false;
            }
        }
    }
    if let Some(attempt) = &mut exchange.attempt {
        attempt.reply = None;
    }
    // Pingora's decompressor keeps the state of the attempt before.
    session.upstream_compression = ResponseCompressionCtx::new(0, true, false);
    if let Some(link) = &exchange.link {
        link.begin_attempt(deadlines(exchange));
    }
    Ok(())
}

/// The waits of the attempt that begins now.
pub(super) fn deadlines(exchange: &Exchange) -> Deadlines {
    let config = &exchange.snapshot.config;
    let timeouts = exchange.attempt.as_ref().map_or(config.timeouts, |a| a.lease.candidate.account.settings.timeouts);
    let streamed = exchange.request.as_ref().is_some_and(|request| request.stream);
    let total = Instant::from_std(exchange.started.mono) + timeouts.total;
    Deadlines {
        first: Instant::now() + if streamed { timeouts.first_byte } else { timeouts.whole },
        idle: timeouts.idle,
        total,
        ping_every: config.streams.ping,
        hold_bytes: config.streams.hold_bytes.saturating_add(config.streams.whole_hold_bytes),
    }
}

/// Takes an answer's header, and leaves in its place what the client may see of it.
pub(super) fn header(header: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    if header.status.is_informational() {
        return Ok(());
    }
    let shown = visible(header, exchange)?;
    let Some(endpoint) = exchange.endpoint() else { return Ok(()) };
    let streams = &exchange.snapshot.config.streams;
    let holding = Holding {
        event_bytes: streams.event_bytes,
        whole_bytes: streams.whole_hold_bytes,
        preamble_bytes: streams.hold_bytes,
    };
    let reply = Reply::new(endpoint, std::mem::replace(header, shown), holding);
    if reply.is_stream() {
        // Its length may change: an error event may have to be added.
        header.remove_header(&header::CONTENT_LENGTH);
    }
    if let Some(attempt) = &mut exchange.attempt {
        attempt.reply = Some(reply);
    }
    Ok(())
}

/// The header without what describes the upstream, its account or the connection to it.
fn visible(header: &ResponseHeader, exchange: &Exchange) -> Result<ResponseHeader> {
    let rules = &exchange.snapshot.config.headers.response;
    let mut shown = ResponseHeader::build(header.status, Some(12))?;
    for (name, value) in &header.headers {
        let framing = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING].contains(name);
        if framing || (!HeaderRules::is_forbidden(name.as_str()) && upstream::matches(rules, name.as_str())) {
            shown.append_header(name.clone(), value.clone())?;
        }
    }
    shown.insert_header("x-request-id", exchange.id.as_str())?;
    Ok(shown)
}

/// Takes a piece of an answer's body, and leaves in its place what may go on.
pub(super) fn body(shared: &Shared, body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    let Some(reply) = exchange.attempt.as_mut().and_then(|attempt| attempt.reply.as_mut()) else { return Ok(()) };
    let (was_committed, was_answering) = (reply.committed, reply.answering);
    let step = reply.take(body, end, shared.live.clock.now());
    let (committed, answering, said) = (reply.committed, reply.answering, reply.said.take());
    if let Some(link) = &exchange.link {
        if answering && !was_answering {
            link.answering();
        }
        if committed && !was_committed {
            link.commit();
        }
        if committed && reply.is_stream() {
            let ping = exchange.format.behaviour().ping(reply.shape());
            link.pingable(Some(ping).filter(|ping| !ping.is_empty()), reply.at_boundary());
        }
    }
    if committed && !was_committed {
        settle::answered(shared, exchange);
    }
    if let Some(verdict) = said {
        settle::said(shared, exchange, &verdict);
    }
    match step {
        Step::Go => Ok(()),
        Step::FailOver(failed) => {
            fail_over(shared, exchange, failed);
            let mut error = Error::explain(FAILED_OVER, "the attempt failed before its first content");
            error.as_up();
            error.set_retry(true);
            Err(error)
        }
        Step::Broken(verdict) => broken(shared, body, exchange, verdict),
    }
}

/// Books an attempt of which nothing has been shown.
pub(super) fn fail_over(shared: &Shared, exchange: &mut Exchange, failed: Failed) {
    let failure = Failure { verdict: failed.verdict, answer: failed.answer, silent: false };
    settle::record(shared, exchange, failure);
}

/// Ends an answer that broke off with the format's own error event.
fn broken(shared: &Shared, body: &mut Option<Bytes>, exchange: &mut Exchange, verdict: Verdict) -> Result<()> {
    settle::broke_off(shared, exchange, verdict);
    match farewell(exchange) {
        Some(last) => {
            let mut bytes = body.take().unwrap_or_default().to_vec();
            bytes.extend_from_slice(&last);
            *body = Some(bytes.into());
            Ok(())
        }
        None => Error::e_explain(BROKEN, "the answer broke off inside an event"),
    }
}

/// The bytes that end a broken stream, `None` where nothing can be added to it.
pub(super) fn farewell(exchange: &Exchange) -> Option<Bytes> {
    let reply = exchange.attempt.as_ref()?.reply.as_ref()?;
    if !reply.is_stream() || !reply.at_boundary() {
        return None;
    }
    let rejection = Rejection::new(Reason::UpstreamFailed, "the provider's answer broke off before its end");
    let bytes = exchange.format.behaviour().stream_error(&rejection, &exchange.id, reply.seen(), reply.shape());
    (!bytes.is_empty()).then(|| bytes.into())
}
