//! The reply side of an exchange: joins what `reply` decides with the adapter, the account and the client's header.

use super::{
    admission, book, dispatch,
    downstream::{Deadlines, Link},
    exchange::{Answer, Attempt, Exchange, Failure},
    head,
    lane::{self, Translation},
    local, mask, names, rates,
    reply::{Failed, Holding, Reply, Step, join},
    settle,
    state::Shared,
};
use crate::{
    error::{Reason, Rejection},
    ledger::Outcome,
    provider::verdict::Verdict,
    wire::{WireFormat, tap::Shape},
};
use bytes::Bytes;
use http::{HeaderMap, header};
use pingora::{Error, ErrorType, Result, http::ResponseHeader, protocols::http::compression::ResponseCompressionCtx};
use pingora_proxy::Session;
use tokio::time::Instant;

/// An attempt failed before anything of it was shown.
pub(super) const FAILED_OVER: ErrorType = ErrorType::Custom("AttemptFailed");
/// An answer broke off inside an event that had to pass in pieces.
pub(super) const BROKEN: ErrorType = ErrorType::Custom("BrokenInsideEvent");
/// So many headers an answer has room for before it grows.
const ROOM: usize = 14;
/// Names what a translation could not carry.
const LOSS_HEADER: &str = "x-sub2api-loss";
/// An upstream's answer about the request, put into the caller's format; it is in the exchange.
pub(super) const ANSWERED: ErrorType = ErrorType::Custom("Answered");
/// A stream used more than its caller's budget has; the refusal is in the exchange.
pub(super) const SPENT: ErrorType = ErrorType::Custom("Spent");
/// No attempt is left; the refusal is in the exchange.
pub(super) const NOTHING_LEFT: ErrorType = ErrorType::Custom("NothingLeft");

/// Makes ready for one connection: the attempt already chosen, or the next one.
pub(super) async fn begin_attempt(shared: &Shared, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    match &mut exchange.attempt {
        Some(attempt) if attempt.again => attempt.again = false,
        Some(_) | None => {
            choose(shared, session, exchange).await?;
            if let Some(attempt) = &mut exchange.attempt {
                attempt.again = false;
            }
        }
    }
    if let Some(attempt) = &mut exchange.attempt {
        attempt.reply = None;
        attempt.translation.take_if(|translation| translation.is_only_reshaping());
    }
    // Pingora's decompressor keeps the state of the attempt before.
    session.upstream_compression = ResponseCompressionCtx::new(0, true, false);
    if let Some(link) = &exchange.link {
        link.begin_attempt(deadlines(exchange, Instant::now()));
    }
    Ok(())
}

/// Chooses the next attempt, waiting in line where it has to; a client that goes away meanwhile gives up its place.
async fn choose(shared: &Shared, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    if let Some(link) = &exchange.link {
        link.waiting();
    }
    let next = dispatch::next(shared, exchange);
    let chosen = tokio::select! {
        biased;
        chosen = next => chosen,
        left = session.as_downstream_mut().read_body_or_idle(true) => {
            let mut error = left.err().unwrap_or_else(|| Error::explain(ErrorType::ConnectionClosed, "the client left"));
            error.as_down();
            error.set_retry(false);
            return Err(error);
        }
    };
    chosen.or_else(|rejection| {
        exchange.rejection = Some(rejection);
        Error::e_explain(NOTHING_LEFT, "no account is left to try")
    })
}

/// The waits of the attempt that begins at this moment.
pub(super) fn deadlines(exchange: &Exchange, begins: Instant) -> Deadlines {
    let config = &exchange.snapshot.config;
    let timeouts = exchange.attempt.as_ref().map_or(config.timeouts, |a| a.lease.candidate.account.settings.timeouts);
    let streamed = exchange.request.as_ref().is_some_and(|request| request.stream);
    let total = Instant::from_std(exchange.started.mono) + timeouts.total;
    Deadlines {
        begins,
        first: begins + if streamed { timeouts.first_byte } else { timeouts.whole },
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
    let shown = visible(header, exchange);
    let asked = asked_shape(exchange);
    let Some(attempt) = &mut exchange.attempt else { return Ok(()) };
    let streams = &exchange.snapshot.config.streams;
    let holding = Holding {
        event_bytes: streams.event_bytes,
        // A translated reply is made when all of it has come, so that there is nothing to show before.
        whole_bytes: if attempt.translation.is_some() { usize::MAX } else { streams.whole_hold_bytes },
        preamble_bytes: streams.hold_bytes,
        until_end: false,
    };
    let mut reply = Reply::new(&attempt.endpoint, std::mem::replace(header, shown), holding);
    let is_asked_for = exchange.request.as_ref().is_some_and(|request| request.stream) && !reply.is_error();
    if let Some(shape) = asked {
        reply.ask_for(shape);
    }
    let made = attempt.translation.as_ref().map(|translation| translation.shape).or(reply.wanted_shape());
    if reply.is_stream() || is_asked_for || made.is_some() {
        // Its length may change: an error event may have to be added. Some servers label a stream as something else.
        header.remove_header(&header::CONTENT_LENGTH);
        reply.length_is_told = false;
    }
    if let (Some(link), true) = (&exchange.link, reply.length_is_told) {
        link.keep_tail();
    }
    if let Some(shape) = made {
        header.insert_header(header::CONTENT_TYPE, lane::content_type(shape))?;
    }
    if let Some(losses) = attempt.translation.as_ref().and_then(|translation| translation.losses.header()) {
        header.insert_header(LOSS_HEADER, losses)?;
    }
    exchange.upstream_status = Some(reply.status).filter(|_| reply.is_error());
    if let Some(status) = exchange.upstream_status {
        header.insert_header(local::UPSTREAM_STATUS, status)?;
    }
    attempt.reply = Some(Box::new(reply));
    Ok(())
}

/// The layout that the client waits for; `None` for calls whose answers are not read.
fn asked_shape(exchange: &Exchange) -> Option<Shape> {
    let endpoint = exchange.endpoint().filter(|endpoint| endpoint.generates())?;
    exchange.request.as_ref().map(|request| endpoint.shape_asked(request.stream))
}

/// The header without what describes the upstream, its account or the connection to it.
fn visible(header: &ResponseHeader, exchange: &Exchange) -> ResponseHeader {
    let rules = &exchange.snapshot.config.headers.response;
    let mut shown = HeaderMap::with_capacity(ROOM);
    for (name, value) in &header.headers {
        let framing = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING].contains(name);
        if framing || rules.allows(name) {
            shown.append(name.clone(), value.clone());
        }
    }
    shown.insert(names::REQUEST_ID.clone(), head::value(&exchange.id));
    rates::insert(&mut shown, &exchange.rates, exchange.format, exchange.started);
    head::answer(header.status, shown)
}

/// Takes a piece of an answer's body, and leaves in its place what may go on.
pub(super) fn body(shared: &Shared, body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    let Some(attempt) = exchange.attempt.as_mut() else { return Ok(()) };
    if !end && !exchange.estimate.is_watched && goes_on(attempt, body) {
        return Ok(());
    }
    let Some(reply) = attempt.reply.as_mut() else { return Ok(()) };
    let before = (reply.committed, reply.answering);
    let ended_at = end.then(|| shared.live.clock.now());
    exchange.marks.answered = ended_at.or(exchange.marks.answered);
    let now = || ended_at.unwrap_or_else(|| shared.live.clock.now());
    let step = reply.take(body, end, &shared.live.clock);
    let said = reply.said.take();
    let (is_first, status) = (reply.committed && !before.0, reply.status);
    if let (Step::Go, (true, true), None) = (&step, before, &said)
        && !(end || exchange.estimate.is_watched || reply.is_closed())
        && reply.told_boundary == Some(attempt.translation.is_some() || reply.at_boundary())
    {
        // The midst of an answer, where nothing has to be decided or told: most pieces are this.
        translate(attempt, body, false);
        return Ok(());
    }
    let wanted = reply.wanted_shape().filter(|_| end || reply.is_laid_out());
    if let (Some(shape), None, Some(request)) = (wanted, &attempt.translation, &exchange.request) {
        let seconds = now().unix_millis() / 1000;
        let reshaping = Translation::reshaping(exchange.format, shape, &request.body, (&exchange.id, seconds));
        attempt.translation = Some(Box::new(reshaping));
    }
    if is_first && reply.is_error() {
        exchange.answer = reword(attempt, body, status, &exchange.id);
        if exchange.answer.is_some() {
            return give_anew(shared, exchange, said, |_| Outcome::Failed);
        }
    }
    translate(attempt, body, end && matches!(step, Step::Go));
    if is_first && let Some(answer) = complete(attempt, body, &exchange.id) {
        exchange.upstream_status = attempt.reply.as_ref().and_then(|r| r.seen().error.as_ref()).and_then(|e| e.status);
        exchange.answer = Some(answer);
        settle::answered(shared, exchange, now());
        return give_anew(shared, exchange, said, book::ended);
    }
    if let Some(link) = &exchange.link {
        tell(link, attempt, before, exchange.format);
    }
    if is_first {
        settle::answered(shared, exchange, now());
    }
    let class = note(shared, exchange, said);
    go_on(shared, body, exchange, (step, end, class))
}

/// Notes what an answer says of its account. Gives the class of the failure, empty for none.
fn note(shared: &Shared, exchange: &mut Exchange, said: Option<Verdict>) -> &'static str {
    let Some(verdict) = said else { return "" };
    settle::said(shared, exchange, &verdict);
    verdict.class.name()
}

/// Ends the attempt, whose answer stands ready in the caller's format. How it ended may depend on what it said.
fn give_anew(
    shared: &Shared,
    exchange: &mut Exchange,
    said: Option<Verdict>,
    outcome: impl FnOnce(&Exchange) -> Outcome,
) -> Result<()> {
    let class = note(shared, exchange, said);
    let outcome = outcome(exchange);
    book::close(shared, exchange, outcome, class);
    Error::e_explain(ANSWERED, "the answer is given in the caller's format")
}

/// Lets a piece go its way, or ends the attempt.
fn go_on(
    shared: &Shared,
    body: &mut Option<Bytes>,
    exchange: &mut Exchange,
    (step, end, class): (Step, bool, &'static str),
) -> Result<()> {
    match step {
        Step::Go if admission::is_overrun(shared, exchange, end || is_closed(exchange)) => {
            Error::e_explain(SPENT, "the stream used more than its budget has")
        }
        Step::Go => {
            if end || is_closed(exchange) {
                // From here on the adapter holds the last bytes until the row is in the ledger.
                book::close(shared, exchange, book::ended(exchange), class);
                hand_over(exchange);
            }
            Ok(())
        }
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

/// Passes on a piece amid an answer that brings nothing but more of it, so that nothing has to be decided or told: most
/// pieces are this. Whether it is one; else nothing has happened.
fn goes_on(attempt: &mut Attempt, body: &mut Option<Bytes>) -> bool {
    let (Some(reply), Some(piece)) = (&mut attempt.reply, body.as_ref()) else { return false };
    let Some(translation) = &mut attempt.translation else { return reply.goes_on(piece) };
    let Some(said) = reply.is_amid().then(|| translation.more(piece)).flatten() else { return false };
    reply.count(piece);
    *body = Some(said).filter(|said| !said.is_empty());
    true
}

/// Whether the answer's last bytes are among those that came.
fn is_closed(exchange: &Exchange) -> bool {
    let reply = exchange.attempt.as_ref().and_then(|attempt| attempt.reply.as_ref());
    exchange.row.is_some() && reply.is_some_and(|reply| reply.committed && reply.is_closed())
}

/// Lets the adapter wait for the commit of what has been handed to the ledger, before it writes what comes with it.
fn hand_over(exchange: &mut Exchange) {
    if let (Some(link), Some(ack)) = (&exchange.link, exchange.ack.take()) {
        link.hold_until(ack);
    }
}

/// Leaves of an upstream's error reply what the caller may see, or takes all of it where another answer has to be given.
fn reword(attempt: &Attempt, body: &mut Option<Bytes>, status: u16, request_id: &str) -> Option<Answer> {
    let answer = Answer { status, content_type: None, body: body.take().unwrap_or_default() };
    let is_kept = attempt.is_in_client_format(&answer);
    let answer = attempt.in_client_format(answer, request_id);
    if !is_kept {
        return Some(answer);
    }
    *body = Some(answer.body);
    None
}

/// In the translate lane: puts the client's bytes in place of the upstream's.
fn translate(attempt: &mut Attempt, body: &mut Option<Bytes>, end: bool) {
    let (Some(reply), Some(translation)) = (&attempt.reply, &mut attempt.translation) else { return };
    if reply.is_error() {
        return;
    }
    let mut out = body.take().map(|bytes| translation.feed(&bytes, reply.shape())).unwrap_or_default();
    if end {
        out = join(out, translation.finish(reply.shape()));
    }
    *body = Some(out).filter(|out| !out.is_empty() || end);
}

/// The whole answer, where it cannot go out under the header that is held for it: an upstream's error in place of an
/// answer of which nothing has been shown, or another length than the header tells.
fn complete(attempt: &Attempt, body: &mut Option<Bytes>, request_id: &str) -> Option<Answer> {
    let (reply, translation) = (attempt.reply.as_ref()?, attempt.translation.as_ref()?);
    if let Some((status, error)) = translation.error(request_id)
        && (translation.shape == Shape::Json || !reply.seen().content)
    {
        let settings = &attempt.lease.candidate.account.settings;
        return Some(lane::json(status, mask::hide(error.into(), settings, attempt.bearer.as_ref())));
    }
    reply.length_is_told.then(|| lane::json(reply.status, body.take().unwrap_or_default()))
}

/// Tells the adapter how far the answer has come.
fn tell(link: &Link, attempt: &mut Attempt, (was_committed, was_answering): (bool, bool), client: WireFormat) {
    let Some(reply) = &mut attempt.reply else { return };
    if reply.answering && !was_answering {
        link.answering();
    }
    if reply.committed && !was_committed {
        if let Some(losses) = attempt.translation.as_ref().and_then(|t| t.all_losses().header()) {
            link.amend(LOSS_HEADER, losses);
        }
        link.commit();
    }
    if !reply.committed {
        return;
    }
    let (shape, boundary) = match &attempt.translation {
        Some(translation) => (translation.shape, true),
        None => (reply.shape(), reply.at_boundary()),
    };
    if matches!(shape, Shape::Sse | Shape::JsonArray) && !reply.is_error() {
        let ping = client.behaviour().ping(shape);
        link.pingable(Some(ping).filter(|ping| !ping.is_empty()), boundary);
    }
    reply.told_boundary = Some(boundary);
}

/// Books an attempt of which nothing has been shown.
pub(super) fn fail_over(shared: &Shared, exchange: &mut Exchange, failed: Failed) {
    if settle::is_renewable(shared, exchange) {
        return;
    }
    let answer = match (&exchange.attempt, failed.answer) {
        (Some(attempt), Some(answer)) => Some(attempt.in_client_format(answer, &exchange.id)),
        (_, answer) => answer,
    };
    settle::record(shared, exchange, Failure { verdict: failed.verdict, answer, silent: false });
}

const BROKE_OFF: &str = "the provider's answer broke off before its end";

/// Ends an answer that broke off with the format's own error event.
fn broken(shared: &Shared, body: &mut Option<Bytes>, exchange: &mut Exchange, verdict: Verdict) -> Result<()> {
    settle::broke_off(shared, exchange, verdict);
    hand_over(exchange);
    match farewell(exchange) {
        Some(last) => {
            *body = Some(join(body.take().unwrap_or_default(), last));
            Ok(())
        }
        None => Error::e_explain(BROKEN, "the answer broke off inside an event"),
    }
}

/// The bytes that end a stream: its own end where the upstream's has come, else the format's error; `None` where nothing
/// can be added to it.
pub(super) fn farewell(exchange: &mut Exchange) -> Option<Bytes> {
    let attempt = exchange.attempt.as_mut()?;
    let reply = attempt.reply.as_ref()?;
    let broke_off = || Rejection::new(Reason::UpstreamFailed, BROKE_OFF);
    let rejection = exchange.cut.clone().unwrap_or_else(broke_off);
    let ended = reply.is_stream() && reply.seen().terminal;
    if let Some(translation) = &mut attempt.translation {
        let bytes = if ended { translation.finish(reply.shape()) } else { translation.fail(&rejection.message) };
        let streamed = matches!(translation.shape, Shape::Sse | Shape::JsonArray);
        return Some(bytes).filter(|_| streamed);
    }
    if ended {
        return Some(Bytes::new());
    }
    if !reply.is_stream() || !reply.at_boundary() || reply.length_is_told {
        return None;
    }
    let bytes = exchange.format.behaviour().stream_error(&rejection, &exchange.id, reply.seen(), reply.shape());
    (!bytes.is_empty()).then(|| bytes.into())
}
