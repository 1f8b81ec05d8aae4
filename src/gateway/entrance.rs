//! The way in: what becomes of a request until an account is leased for it, step by step.

use super::{
    admission,
    bounds::RequestPermit,
    claim, dispatch, downstream, estimate,
    exchange::{Exchange, Outcome, Request},
    ingress, local, names, origin, relay,
    route::{self, Target},
    settle, span,
    state::Shared,
    usage,
};
use crate::{
    config::Translation,
    error::{Reason, Rejection},
    wire::{Endpoint, envelope},
};
use http::header;
use pingora::Result;
use pingora_proxy::Session;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time spent on reading a refused request's rest, so that the client sees the refusal.
const DRAIN: Duration = Duration::from_secs(3);
/// When to come back to a gateway that takes no more for the moment.
const SOON: Duration = Duration::from_secs(1);

/// Takes a request up to its first lease. `Ok(true)` where the gateway answered by itself.
pub(super) async fn enter(shared: &Shared, session: &mut Session, exchange: &mut Exchange) -> Result<bool, Rejection> {
    let (permit, requests) = RequestPermit::take(&shared.live.counters);
    exchange.permit = Some(permit);
    introduce(shared, session, exchange);
    bound(session, exchange);
    find_route(session, exchange)?;
    ingress::check_head(&session.req_header().headers, &exchange.snapshot.config.bounds)?;
    if let Some(answer) = local::health(shared, exchange) {
        return local::answer(session, exchange, &answer).await;
    }
    check_room(shared, exchange, requests)?;
    match ingress::authenticate(exchange, session) {
        Ok(caller) => exchange.caller = caller,
        Err(rejection) => return Err(admission::stranger(shared, session, exchange, rejection)),
    }
    let Some(endpoint) = exchange.endpoint().cloned() else {
        let answer = match exchange.route.as_ref().map(|route| &route.target) {
            Some(Target::Usage) => usage::answer(shared, exchange),
            _ => local::models(shared, exchange).await?,
        };
        return local::answer(session, exchange, &answer).await;
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
        local::give_estimate(session, exchange, &answer).await.map_err(|_| settle::gone())?;
        return Ok(true);
    }
    let body = exchange.attempt.as_ref().map(|attempt| attempt.body.clone()).unwrap_or_default();
    exchange.link = Some(downstream::install(session, body, relay::deadlines(exchange, Instant::now())));
    exchange.marks.ready = Some(shared.live.clock.now());
    Ok(false)
}

/// Who asks, from where, under which id and in which trace.
fn introduce(shared: &Shared, session: &Session, exchange: &mut Exchange) {
    adopt_id(session, exchange);
    span::begin(shared, exchange, session.get_header(&names::TRACEPARENT).and_then(|value| value.to_str().ok()));
    let peer = session.client_addr().and_then(|address| Some(address.as_inet()?.ip()));
    let trusted = &exchange.snapshot.config.client_address;
    exchange.client = peer.map(|peer| origin::address(peer, &session.req_header().headers, trusted));
    exchange.client_shown = exchange.client.map(origin::shown).unwrap_or_default();
}

/// How long the client may take for what it reads and writes, and keep its connection.
fn bound(session: &mut Session, exchange: &Exchange) {
    let bounds = &exchange.snapshot.config.bounds;
    session.as_downstream_mut().set_read_timeout(Some(bounds.client_read));
    session.as_downstream_mut().set_write_timeout(Some(bounds.client_write));
    session.as_downstream_mut().set_total_drain_timeout(Some(DRAIN));
    // Pingora takes a client's wish to keep its connection as one to keep it for ever.
    if session.as_downstream().get_keepalive() == Some(0) {
        session.set_keepalive(Some(bounds.client_idle.as_secs().max(1)));
    }
}

/// What is asked for, and in which format refusals are to be.
fn find_route(session: &Session, exchange: &mut Exchange) -> Result<(), Rejection> {
    let head = session.req_header();
    match route::route(&head.method, head.uri.path(), head.uri.query(), &head.headers) {
        Ok(route) => {
            exchange.format = route.format;
            exchange.route = Some(route);
            Ok(())
        }
        Err((format, rejection)) => {
            exchange.format = format;
            Err(rejection)
        }
    }
}

/// Whether the gateway can take one more, where so many are being served.
fn check_room(shared: &Shared, exchange: &Exchange, requests: usize) -> Result<(), Rejection> {
    let message = if requests > exchange.snapshot.config.bounds.requests {
        "the gateway serves as many requests as it may: try again"
    } else if shared.live.ledger.as_ref().is_some_and(|ledger| ledger.is_full()) {
        "the gateway cannot write down what requests use, and takes none until it can: try again"
    } else {
        return Ok(());
    };
    Err(Rejection::new(Reason::Unavailable, message).after(Some(SOON)))
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
