//! The way in, step by step, and the answers that the gateway gives by itself: refusals, model lists, health.

use super::{
    admission,
    bounds::RequestPermit,
    claim, dispatch, downstream, estimate,
    exchange::{Answer, Exchange, Outcome, Request},
    head, ingress, internal, names, origin, rates, relay,
    route::{self, Target},
    settle, span,
    state::Shared,
    usage,
};
use crate::{
    config::Translation,
    error::{Reason, Rejection},
    limit::limiter::Rates,
    wire::{Endpoint, WireFormat, envelope},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::{ErrorType, OrErr, Result, http::ResponseHeader};
use pingora_proxy::Session;
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::Instant;

/// Tells which status an upstream's error had, where the caller gets another one.
pub(super) const UPSTREAM_STATUS: &str = "x-sub2api-upstream-status";
/// Longest time spent on reading a refused request's rest, so that the client sees the refusal.
const DRAIN: Duration = Duration::from_secs(3);

/// Takes a request up to its first lease. `Ok(true)` where the gateway answered by itself.
pub(super) async fn enter(shared: &Shared, session: &mut Session, exchange: &mut Exchange) -> Result<bool, Rejection> {
    let (permit, requests) = RequestPermit::take(&shared.live.counters);
    exchange.permit = Some(permit);
    adopt_id(session, exchange);
    span::begin(shared, exchange, session.get_header(&names::TRACEPARENT).and_then(|value| value.to_str().ok()));
    let config = exchange.snapshot.clone();
    let bounds = &config.config.bounds;
    session.as_downstream_mut().set_read_timeout(Some(bounds.client_read));
    session.as_downstream_mut().set_write_timeout(Some(bounds.client_write));
    session.as_downstream_mut().set_total_drain_timeout(Some(DRAIN));
    // Pingora takes a client's wish to keep its connection as one to keep it for ever.
    if session.as_downstream().get_keepalive() == Some(0) {
        session.set_keepalive(Some(bounds.client_idle.as_secs().max(1)));
    }
    let head = session.req_header();
    let peer = session.client_addr().and_then(|address| Some(address.as_inet()?.ip()));
    exchange.client = peer.map(|peer| origin::address(peer, &head.headers, &config.config.client_address));
    exchange.client_shown = exchange.client.map(origin::shown).unwrap_or_default();
    match route::route(&head.method, head.uri.path(), head.uri.query(), &head.headers) {
        Ok(route) => {
            exchange.format = route.format;
            exchange.route = Some(route);
        }
        Err((format, rejection)) => {
            exchange.format = format;
            return Err(rejection);
        }
    }
    ingress::check_head(&session.req_header().headers, bounds)?;
    if let Some(answer) = health(shared, exchange) {
        give(session, exchange, &answer).await.map_err(|_| settle::gone())?;
        return Ok(true);
    }
    if requests > bounds.requests {
        let message = "the gateway serves as many requests as it may: try again";
        return Err(Rejection::new(Reason::Unavailable, message).after(Some(Duration::from_secs(1))));
    }
    if shared.live.ledger.as_ref().is_some_and(|ledger| ledger.is_full()) {
        let message = "the gateway cannot write down what requests use, and takes none until it can: try again";
        return Err(Rejection::new(Reason::Unavailable, message).after(Some(Duration::from_secs(1))));
    }
    match ingress::authenticate(exchange, session) {
        Ok(caller) => exchange.caller = caller,
        Err(rejection) => return Err(admission::stranger(shared, session, exchange, rejection)),
    }
    if exchange.route.as_ref().is_some_and(|route| route.target == Target::Usage) {
        let answer = usage::answer(shared, exchange);
        give(session, exchange, &answer).await.map_err(|_| settle::gone())?;
        return Ok(true);
    }
    let Some(endpoint) = exchange.endpoint().cloned() else {
        let answer = models(shared, exchange).await?;
        give(session, exchange, &answer).await.map_err(|_| settle::gone())?;
        return Ok(true);
    };
    exchange.strict = is_strict(session, exchange);
    admission::admit(shared, exchange, &endpoint)?;
    take_request(shared, session, exchange, &endpoint).await?;
    dispatch::plan(shared, exchange, &endpoint)?;
    admission::reserve(shared, exchange, &endpoint)?;
    if let Err(rejection) = lease_or_leave(shared, session, exchange).await {
        let Some(answer) = estimate::answer(exchange).filter(|_| exchange.outcome != Outcome::ClientGone) else {
            return Err(rejection);
        };
        give_estimate(session, exchange, &answer).await.map_err(|_| settle::gone())?;
        return Ok(true);
    }
    let body = exchange.attempt.as_ref().map(|attempt| attempt.body.clone()).unwrap_or_default();
    exchange.link = Some(downstream::install(session, body, relay::deadlines(exchange, Instant::now())));
    exchange.marks.ready = Some(shared.live.clock.now());
    Ok(false)
}

/// Whether the configuration, the user or the request itself forbids any loss in translation.
fn is_strict(session: &Session, exchange: &Exchange) -> bool {
    let user = exchange.caller.as_ref().map(|caller| caller.user.translation);
    let asked = session.get_header(&names::TRANSLATION).is_some_and(|value| value.as_bytes() == b"strict");
    asked || [Some(exchange.snapshot.config.translation), user].contains(&Some(Translation::Strict))
}

/// Waits for the first lease; a client that goes away meanwhile gives up its place.
async fn lease_or_leave(shared: &Shared, session: &mut Session, exchange: &mut Exchange) -> Result<(), Rejection> {
    let next = dispatch::next(shared, exchange);
    tokio::select! {
        biased;
        leased = next => leased,
        _ = session.as_downstream_mut().read_body_or_idle(true) => {
            exchange.outcome = Outcome::ClientGone;
            Err(settle::gone())
        }
    }
}

/// The client's own id for the request, if it is a decent one.
fn adopt_id(session: &Session, exchange: &mut Exchange) {
    let told = session.get_header(&names::REQUEST_ID).and_then(|value| value.to_str().ok());
    let decent = |id: &&str| {
        (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    if let Some(id) = told.filter(decent) {
        exchange.id = id.into();
    }
}

/// Reads the body and what routing needs of it.
async fn take_request(
    shared: &Shared,
    session: &mut Session,
    exchange: &mut Exchange,
    endpoint: &Endpoint,
) -> Result<(), Rejection> {
    let bounds = exchange.snapshot.config.bounds;
    let (body, permit) = ingress::read_body(shared, &bounds, session).await?;
    exchange.marks.received = Some(shared.live.clock.now());
    let head = session.req_header();
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut envelope = envelope::scan(endpoint, content_type, &body).map_err(|fault| Rejection {
        param: fault.param.clone(),
        ..Rejection::new(Reason::Malformed, fault.message)
    })?;
    let in_path = exchange.route.as_ref().and_then(|route| route.model.clone());
    let named = in_path.or_else(|| envelope.model.take());
    let is_named = named.is_some();
    let model = match (named, endpoint) {
        (Some(model), _) => model,
        // A stored prompt brings its own model.
        (None, Endpoint::Responses) => String::new(),
        (None, _) => endpoint
            .default_model()
            .map(str::to_owned)
            .ok_or_else(|| Rejection::new(Reason::Malformed, "the request names no `model`").at("model"))?,
    };
    let stream = envelope.stream || matches!(endpoint, Endpoint::StreamGenerateContent { .. });
    let query = ingress::forwarded_query(head.uri.query());
    let session = claim::session(&head.headers);
    exchange.request = Some(Request { body, envelope, model, is_named, stream, session, query, _permit: permit });
    Ok(())
}

fn health(shared: &Shared, exchange: &Exchange) -> Option<Answer> {
    let draining = shared.live.counters.draining.load(Ordering::Relaxed);
    let (status, body) = match exchange.route.as_ref()?.target {
        Target::Live => (200, "alive\n"),
        Target::Ready if shared.live.is_ready() => (200, "ready\n"),
        Target::Ready if draining => (503, "draining\n"),
        Target::Ready => (503, "no account can serve\n"),
        Target::Call(_) | Target::Models | Target::Model(_) | Target::Usage => return None,
    };
    let content_type = Some(HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(Answer { status, content_type, body: Bytes::from_static(body.as_bytes()) })
}

async fn models(shared: &Shared, exchange: &Exchange) -> Result<Answer, Rejection> {
    let mut names = shared.catalog.models(shared, &exchange.snapshot).await;
    names.retain(|name| exchange.caller.as_ref().is_none_or(|caller| caller.may_use(name).is_ok()));
    let format = exchange.format.behaviour();
    let body = match exchange.route.as_ref().map(|route| &route.target) {
        Some(Target::Model(wanted)) => {
            let wanted = wanted.strip_prefix("models/").unwrap_or(wanted);
            // A model behind a pattern may be served though no list names it.
            let known = names.iter().any(|name| name == wanted) || estimate::is_served(exchange, wanted);
            let allowed = exchange.caller.as_ref().is_none_or(|caller| caller.may_use(wanted).is_ok());
            if !known || !allowed {
                let message = format!("there is no model `{}`", wanted.chars().take(100).collect::<String>());
                return Err(Rejection::new(Reason::UnknownModel, message).at("model"));
            }
            format.model_entry(wanted)
        }
        Some(Target::Models) => format.model_list(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        Some(Target::Call(_) | Target::Usage | Target::Live | Target::Ready) | None => {
            return Err(internal("not a model path"));
        }
    };
    let content_type = Some(HeaderValue::from_static("application/json"));
    Ok(Answer { status: 200, content_type, body: body.into() })
}

/// Writes a refusal in the caller's wire format.
pub(super) async fn refuse(session: &mut Session, exchange: &mut Exchange, rejection: &Rejection) -> Result<()> {
    if exchange.outcome == Outcome::ClientGone {
        exchange.status = 499;
        return Ok(());
    }
    exchange.refuse(rejection);
    if let Some(permit) = exchange.admission.as_ref().filter(|_| exchange.rates == Rates::default()) {
        exchange.rates = permit.rates(exchange.started);
    }
    let format = exchange.format.behaviour();
    let body: Bytes = format.error_body(rejection, &exchange.id).into();
    let mut header = head(exchange, exchange.status, Some(HeaderValue::from_static("application/json")), body.len())?;
    if let Some(wait) = rejection.retry_after {
        header.insert_header(header::RETRY_AFTER, wait.as_millis().div_ceil(1000).max(1).to_string())?;
    }
    if let Some(method) = route::allowed_method(session.req_header().uri.path()).filter(|_| exchange.status == 405) {
        header.insert_header(header::ALLOW, method.as_str())?;
    }
    if exchange.status == 401 && exchange.format != WireFormat::Gemini {
        header.insert_header(header::WWW_AUTHENTICATE, "Bearer")?;
    }
    write(session, header, body).await
}

/// Writes an answer as it is.
pub(super) async fn give(session: &mut Session, exchange: &mut Exchange, answer: &Answer) -> Result<()> {
    exchange.status = answer.status;
    let header = head(exchange, answer.status, answer.content_type.clone(), answer.body.len())?;
    write(session, header, answer.body.clone()).await
}

/// Writes a count that is our own estimate.
pub(super) async fn give_estimate(session: &mut Session, exchange: &mut Exchange, answer: &Answer) -> Result<()> {
    exchange.status = answer.status;
    let mut header = head(exchange, answer.status, answer.content_type.clone(), answer.body.len())?;
    header.insert_header(estimate::HEADER, "tokens")?;
    write(session, header, answer.body.clone()).await
}

fn head(
    exchange: &Exchange,
    status: u16,
    content_type: Option<HeaderValue>,
    length: usize,
) -> Result<Box<ResponseHeader>> {
    let mut headers = HeaderMap::with_capacity(8);
    if let Some(kind) = content_type {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(names::REQUEST_ID.clone(), head::value(&exchange.id));
    if let Some(status) = exchange.upstream_status {
        headers.insert(UPSTREAM_STATUS, status.into());
    }
    rates::insert(&mut headers, &exchange.rates, exchange.format, exchange.started);
    let status = StatusCode::from_u16(status).or_err(ErrorType::InternalError, "a status of an answer of our own")?;
    Ok(Box::new(head::answer(status, headers)))
}

async fn write(session: &mut Session, header: Box<ResponseHeader>, body: Bytes) -> Result<()> {
    let only_head = session.req_header().method == Method::HEAD;
    let downstream = session.as_downstream_mut();
    downstream.write_response_header(header).await?;
    downstream.write_response_body(if only_head { Bytes::new() } else { body }, true).await
}
