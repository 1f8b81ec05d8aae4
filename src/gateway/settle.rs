//! The end of attempts and of exchanges: tells the account how it went, the client what went wrong, and the log all of it.

use super::{
    book, claim, dispatch,
    downstream::{self, FIRST_TIMEOUT, IDLE_TIMEOUT, TOTAL_TIMEOUT, TOTAL_WRITE_TIMEOUT, UNDECIDED},
    egress, estimate,
    exchange::{Answer, Attempt, Exchange, Failure, Outcome},
    local,
    relay::{self, ANSWERED, FAILED_OVER, NOTHING_LEFT, SPENT},
    reply::Step,
    span,
    state::Shared,
    token,
};
use crate::{
    account::oauth::Trouble,
    clock::Moment,
    config::secret::Secret,
    error::{Reason, Rejection},
    ledger,
    provider::verdict::{FailureClass, Verdict},
    telemetry::{self, Access},
    wire::Endpoint,
};
use pingora::{Error, ErrorSource, ErrorType, RetryType, http::ResponseHeader};
use pingora_proxy::{FailToProxy, Session};

/// Connections kept from earlier that may turn out dead before a new one is opened.
const MOST_STALE: u32 = 3;

/// An answer's header has come: it may tell how much of the account's limits is left.
pub(super) fn header_came(shared: &Shared, exchange: &Exchange, header: &ResponseHeader) {
    if let Some(attempt) = exchange.attempt.as_ref().filter(|_| !header.status.is_informational()) {
        exchange.snapshot.pool.report_headers(&attempt.lease, &header.headers, shared.live.clock.now());
    }
}

/// The answer's first content has come: the account works.
pub(super) fn answered(shared: &Shared, exchange: &mut Exchange, now: Moment) {
    exchange.first_content.get_or_insert(now.since(exchange.started));
    let telling = exchange.is_telling();
    let Some(attempt) = &mut exchange.attempt else { return };
    let good = attempt.reply.as_ref().is_some_and(|r| (200..300).contains(&r.status) && r.seen().error.is_none());
    if good {
        let settings = &attempt.lease.candidate.account.settings;
        shared.live.metrics.attempt(&settings.name, settings.provider.name(), None);
    }
    if good && telling {
        let pool = &exchange.snapshot.pool;
        if let (Some(id), Some(plan)) = (kept_response(attempt), &exchange.plan) {
            pool.remember_response(&attempt.lease, claim::response(&plan.claim, id), now);
        }
        let change = pool.report_success(&attempt.lease, now);
        telemetry::account_changed(&attempt.lease.candidate.account.settings.name, change);
    }
}

/// The id of a response that its account keeps, and that a later request may continue there.
fn kept_response(attempt: &Attempt) -> Option<&str> {
    let is_own = attempt.translation.is_none() && matches!(attempt.endpoint, Endpoint::Responses);
    attempt.reply.as_ref().filter(|_| is_own)?.seen().id.as_deref()
}

/// Books a failed attempt with its account, and keeps why for the client.
pub(super) fn record(shared: &Shared, exchange: &mut Exchange, failure: Failure) {
    report(shared, exchange, &failure.verdict);
    book::close(shared, exchange, ledger::Outcome::Failed, failure.verdict.class.name());
    exchange.failures.push(failure);
}

/// Tells the account of a failure, once per attempt, unless the call says nothing about it.
fn report(shared: &Shared, exchange: &mut Exchange, verdict: &Verdict) {
    let now = shared.live.clock.now();
    let telling = exchange.is_telling();
    let Some(attempt) = &mut exchange.attempt else { return };
    if std::mem::replace(&mut attempt.reported, true) {
        return;
    }
    span::failed(&mut exchange.spans, verdict);
    if let Some(decision) = exchange.plan.as_mut().and_then(|plan| plan.decision.as_mut()) {
        decision.failed(verdict);
    }
    let settings = &attempt.lease.candidate.account.settings;
    let account = &settings.name;
    shared.live.metrics.attempt(account, settings.provider.name(), Some(verdict.class));
    if verdict.class.fails_over() {
        shared.live.metrics.failed(&exchange.id, account, verdict, now);
        telemetry::attempt_failed(&exchange.id, account, verdict);
    }
    if telling {
        let change = exchange.snapshot.pool.report_failure(&attempt.lease, verdict, now);
        telemetry::account_changed(account, change);
    }
}

/// An answer that goes to the client carries an error: the account is told of it, as of any other.
pub(super) fn said(shared: &Shared, exchange: &mut Exchange, verdict: &Verdict) {
    if verdict.class.fails_over() {
        exchange.outcome = Outcome::Broken;
    }
    report(shared, exchange, verdict);
}

/// An answer broke off after it had begun.
pub(super) fn broke_off(shared: &Shared, exchange: &mut Exchange, verdict: Verdict) {
    exchange.outcome = Outcome::Broken;
    report(shared, exchange, &verdict);
    book::close(shared, exchange, ledger::Outcome::Broken, verdict.class.name());
}

/// A connection could not be made: the host's next address, else the next account.
pub(super) fn connect_failed(shared: &Shared, exchange: &mut Exchange, mut error: Box<Error>) -> Box<Error> {
    if let Some(attempt) = &mut exchange.attempt {
        let settings = &attempt.lease.candidate.account.settings;
        let (host, port) = egress::first_hop(settings, &settings.base_url);
        let addresses = shared.resolver.failed(host, port);
        attempt.connects_failed += 1;
        attempt.again = attempt.connects_failed < addresses;
        if !attempt.again {
            let verdict = Verdict::fault(format!("connect: {}", error.etype().as_str()));
            record(shared, exchange, Failure { verdict, answer: None, silent: false });
        }
    }
    error.set_retry(true);
    error
}

/// Takes the token that an attempt needs, or books its failure: without one there is no attempt at this account.
pub(super) fn authorised(
    shared: &Shared,
    exchange: &mut Exchange,
    bearer: Result<Option<Secret>, Trouble>,
) -> pingora::Result<()> {
    match (bearer, &mut exchange.attempt) {
        (Ok(bearer), Some(attempt)) => {
            attempt.bearer = bearer;
            Ok(())
        }
        (Ok(_), None) => Ok(()),
        (Err(trouble), _) => {
            let class = if trouble.is_lasting { FailureClass::AuthDead } else { FailureClass::Fault };
            let (retry_after, reason) = (trouble.wait, trouble.reason);
            let verdict = Verdict { class, retry_after, model_only: false, is_certain: true, reason };
            record(shared, exchange, Failure { verdict, answer: None, silent: false });
            let mut error = Error::new_up(FAILED_OVER);
            error.set_retry(true);
            Err(error)
        }
    }
}

/// Whether the provider refused an access token, and the attempt can be made once more with another.
pub(super) fn is_renewable(shared: &Shared, exchange: &mut Exchange) -> bool {
    let Some(attempt) = &mut exchange.attempt else { return false };
    let is_refused = attempt.reply.as_ref().is_some_and(|reply| reply.status == 401);
    let (false, true, Some(bearer)) = (attempt.is_renewed, is_refused, &attempt.bearer) else { return false };
    if !token::refused(shared, &attempt.lease.candidate.account, bearer) {
        return false;
    }
    attempt.is_renewed = true;
    attempt.again = true;
    true
}

/// Whether a kept connection died before it carried anything back.
fn is_stale(exchange: &Exchange, error: &Error, client_reused: bool) -> bool {
    let unanswered = exchange.attempt.as_ref().is_some_and(|a| a.reply.is_none() && a.stale < MOST_STALE);
    client_reused && unanswered && matches!(error.retry, RetryType::ReusedOnly | RetryType::Decided(true))
}

/// An attempt ended in an error: decides whether another one follows.
pub(super) fn attempt_failed(
    shared: &Shared,
    session: &Session,
    exchange: &mut Exchange,
    mut error: Box<Error>,
    client_reused: bool,
) -> Box<Error> {
    let shown = downstream::answered(session).is_some();
    let again = goes_on(shared, exchange, &error, (shown, client_reused));
    error.set_retry(again);
    error
}

/// Settles what an error means, and says whether the request goes on with another attempt. `shown`: whether anything of an
/// answer was.
fn goes_on(shared: &Shared, exchange: &mut Exchange, error: &Error, (shown, client_reused): (bool, bool)) -> bool {
    let kind = error.etype();
    if *kind == FAILED_OVER {
        return !shown;
    }
    if *kind == ANSWERED || *kind == SPENT {
        if *kind == SPENT {
            exchange.outcome = Outcome::Broken;
        }
        return false;
    }
    if is_stale(exchange, error, client_reused) && !shown {
        if let Some(attempt) = &mut exchange.attempt {
            attempt.again = true;
            attempt.stale += 1;
        }
        return true;
    }
    if *kind == UNDECIDED {
        return decide_at_end(shared, exchange);
    }
    let ours = [FIRST_TIMEOUT, IDLE_TIMEOUT, TOTAL_TIMEOUT, TOTAL_WRITE_TIMEOUT].contains(kind);
    if !ours && *error.esource() == ErrorSource::Downstream {
        return false;
    }
    if shown {
        broken_in_sight(shared, exchange, kind);
        return false;
    }
    let (verdict, silent) = (Verdict::fault(kind.as_str()), ours && *kind != TOTAL_WRITE_TIMEOUT);
    record(shared, exchange, Failure { verdict, answer: None, silent });
    *kind != TOTAL_TIMEOUT
}

/// An answer that the client has seen the start of ended in an error.
fn broken_in_sight(shared: &Shared, exchange: &mut Exchange, kind: &ErrorType) {
    let ended = exchange.attempt.as_ref().and_then(|a| a.reply.as_ref()).is_some_and(|r| r.seen().terminal);
    if *kind == TOTAL_TIMEOUT || *kind == TOTAL_WRITE_TIMEOUT {
        // Our own patience ended; the account did nothing wrong.
        exchange.outcome = Outcome::Broken;
    } else if !ended {
        broke_off(shared, exchange, Verdict::fault(kind.as_str()));
    }
}

/// The answer ended with its header: judges it without a body. Returns whether to try elsewhere.
fn decide_at_end(shared: &Shared, exchange: &mut Exchange) -> bool {
    let Some(reply) = exchange.attempt.as_mut().and_then(|attempt| attempt.reply.as_mut()) else { return false };
    let mut body = None;
    match reply.take(&mut body, true, &shared.live.clock) {
        Step::FailOver(failed) => {
            relay::fail_over(shared, exchange, failed);
            true
        }
        Step::Go => {
            let answer = Answer { status: reply.status, content_type: None, body: body.unwrap_or_default() };
            let verdict = reply.said.take();
            exchange.answer = exchange.attempt.as_ref().map(|attempt| attempt.in_client_format(answer, &exchange.id));
            let class = verdict.as_ref().map_or("", |verdict| verdict.class.name());
            if let Some(verdict) = verdict {
                said(shared, exchange, &verdict);
            }
            book::close(shared, exchange, book::ended(exchange), class);
            false
        }
        Step::Broken(verdict) => {
            broke_off(shared, exchange, verdict);
            false
        }
    }
}

/// Pingora gives up: writes what the client is still owed.
pub(super) async fn fail(
    shared: &Shared,
    session: &mut Session,
    error: &Error,
    exchange: &mut Exchange,
) -> FailToProxy {
    if is_client_gone(error) {
        book::close(shared, exchange, ledger::Outcome::ClientGone, "");
    } else {
        // Our own patience has ended, or the attempt's end was booked before.
        book::close(shared, exchange, ledger::Outcome::Broken, "");
    }
    // Whatever the client is told now is the last it gets.
    book::committed(exchange).await;
    if let Some(link) = exchange.link.clone() {
        let rest = downstream::uninstall(session, &link);
        if !rest.is_empty() && *error.esource() != ErrorSource::Downstream {
            // A client that cannot be written to is noticed below.
            let _ = session.as_downstream_mut().response_duplex_vec(rest).await;
        }
    }
    if downstream::answered(session).is_some() {
        end_shown(session, error, exchange).await;
    } else if is_client_gone(error) {
        exchange.outcome = Outcome::ClientGone;
        exchange.status = 499;
    } else {
        give_last_word(session, error, exchange).await;
    }
    FailToProxy { error_code: exchange.status, can_reuse_downstream: false }
}

/// Tells a client that was shown nothing yet what has become of its request.
async fn give_last_word(session: &mut Session, error: &Error, exchange: &mut Exchange) {
    // Pingora ends the connection of an exchange that failed: the client is told, so that it sends nothing more on it.
    session.set_keepalive(None);
    if *error.etype() == ErrorType::InvalidHTTPHeader && *error.esource() == ErrorSource::Downstream {
        let message = "the request's headers contradict each other, or its `Connection` header names what it must not";
        exchange.rejection = Some(Rejection::new(Reason::Malformed, message));
    }
    let is_ours = exchange.rejection.as_ref().is_some_and(|r| r.reason == Reason::Malformed);
    let estimate = if is_ours || estimate::is_answered(exchange) { None } else { estimate::answer(exchange) };
    let answered = match (estimate, last_word(exchange)) {
        (Some(estimate), _) => local::give_estimate(session, exchange, &estimate).await,
        (None, Ok(answer)) => local::give(session, exchange, &answer).await,
        (None, Err(rejection)) => local::refuse(session, exchange, &rejection).await,
    };
    if answered.is_err() {
        exchange.outcome = Outcome::ClientGone;
    }
}

/// What the client is told when all attempts have failed: an upstream's words about the request, else our own.
fn last_word(exchange: &mut Exchange) -> Result<Answer, Rejection> {
    if let Some(answer) = exchange.answer.take() {
        return Ok(answer);
    }
    let about_request = exchange.failures.iter().all(|f| f.answer.is_some());
    if let Some(answer) = exchange.failures.pop_if(|f| about_request && f.answer.is_some()).and_then(|f| f.answer) {
        return Ok(answer);
    }
    Err(exchange.rejection.take().unwrap_or_else(|| dispatch::nothing_left(exchange, None)))
}

/// Ends an answer that has begun: its own end where that has come, the format's error where one can be added, else by
/// breaking the connection, so that nobody takes it for whole.
async fn end_shown(session: &mut Session, error: &Error, exchange: &mut Exchange) {
    let status = downstream::answered(session).map_or(0, |header| header.status.as_u16());
    exchange.status = status;
    if is_client_gone(error) {
        let reply = exchange.attempt.as_ref().and_then(|a| a.reply.as_ref());
        if !reply.is_some_and(|r| r.is_stream() && r.seen().terminal) {
            exchange.outcome = Outcome::ClientGone;
        }
        return;
    }
    let downstream = session.as_downstream_mut();
    match relay::farewell(exchange).filter(|_| *error.etype() != TOTAL_WRITE_TIMEOUT) {
        Some(last) => {
            if downstream.write_response_body(last, true).await.is_err() {
                exchange.outcome = Outcome::ClientGone;
            }
        }
        None => {
            exchange.outcome = Outcome::Broken;
            downstream.shutdown().await;
        }
    }
}

/// Whether the client, and not a deadline of ours, ended the exchange.
fn is_client_gone(error: &Error) -> bool {
    // A header that Pingora refuses to send on is the client's fault, but the client is still there.
    let refused = ErrorType::InvalidHTTPHeader;
    let ours =
        [FIRST_TIMEOUT, IDLE_TIMEOUT, TOTAL_TIMEOUT, TOTAL_WRITE_TIMEOUT, UNDECIDED, NOTHING_LEFT, ANSWERED, refused];
    *error.esource() == ErrorSource::Downstream && !ours.contains(error.etype())
}

/// The last hook: gives the session back, writes the log line, lets go of everything.
pub(super) fn finish(shared: &Shared, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
    if let Some(link) = exchange.link.take() {
        downstream::uninstall(session, &link);
    }
    if exchange.route.as_ref().is_some_and(|route| !route.is_logged()) {
        return;
    }
    if exchange.status == 0 {
        exchange.status = downstream::answered(session).map_or(499, |header| header.status.as_u16());
    }
    if error.is_some_and(is_client_gone) && exchange.outcome == Outcome::Served {
        let ended = exchange.attempt.as_ref().and_then(|a| a.reply.as_ref()).is_some_and(|r| r.seen().terminal);
        exchange.outcome = if ended { Outcome::Served } else { Outcome::ClientGone };
    }
    book::close(shared, exchange, book::ended(exchange), "");
    log(shared, session, exchange);
    let call = exchange.endpoint().map_or("-", |endpoint| endpoint.name());
    span::end(shared, exchange, call);
    let translation = exchange.attempt.as_ref().and_then(|attempt| attempt.translation.as_ref());
    if let Some((formats, losses)) = translation.and_then(|translation| translation.reply_losses()) {
        telemetry::lost(&exchange.id, formats, losses);
        shared.live.metrics.losses(formats, losses);
    }
    exchange.attempt = None;
    exchange.admission = None;
    if let Some(decision) = exchange.plan.as_mut().and_then(|plan| plan.decision.take()) {
        shared.live.decisions.keep(decision, &exchange.snapshot.config.explain);
    }
}

fn log(shared: &Shared, session: &Session, exchange: &Exchange) {
    let attempt = exchange.attempt.as_ref();
    let reply = attempt.and_then(|attempt| attempt.reply.as_ref());
    let seen = reply.map(|reply| reply.seen());
    let usage = seen.map(|seen| seen.usage).unwrap_or_default();
    let now = shared.live.clock.now();
    let access = Access {
        request: &exchange.id,
        user: exchange.caller.as_ref().map_or("-", |caller| caller.user.name.as_str()),
        key: exchange.caller.as_ref().map_or("-", |caller| &caller.key_id),
        client: &exchange.client_shown,
        call: exchange.endpoint().map_or("-", |endpoint| endpoint.name()),
        format: exchange.format.name(),
        upstream_format: attempt.map_or("-", |attempt| attempt.endpoint.format().name()),
        model: exchange.model(),
        served_model: attempt.map_or("-", |attempt| &attempt.lease.candidate.upstream_model),
        account: exchange.last_account.as_ref().map_or("-", |account| account.settings.name.as_str()),
        stream: exchange.request.as_ref().is_some_and(|request| request.stream),
        status: exchange.status,
        outcome: exchange.outcome.name(),
        failure: exchange.failures.last().map_or("-", |failure| failure.verdict.class.name()),
        attempts: exchange.attempts,
        finish: seen.and_then(|seen| seen.finish.as_deref()).unwrap_or("-"),
        usage,
        bytes_in: exchange.request.as_ref().map_or(0, |request| request.body.len()),
        bytes_out: session.body_bytes_sent(),
        first_content: exchange.first_content,
        total: now.since(exchange.started),
    };
    telemetry::access(&access);
    let provider = exchange.last_account.as_ref().map_or("-", |account| account.settings.provider.name());
    shared.live.metrics.request(&access, provider, exchange.marks.overhead(now));
}

/// A refusal for a client that left while it waited.
pub(super) fn gone() -> Rejection {
    Rejection::new(Reason::ClientTooSlow, "the client went away")
}
