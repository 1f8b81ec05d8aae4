//! The answers that the gateway gives by itself: refusals, model lists, health.

use super::{
    estimate,
    exchange::{Answer, Exchange, Outcome},
    head, internal, names, rates,
    route::{self, Target},
    settle,
    state::Shared,
};
use crate::{
    error::{Reason, Rejection},
    limit::limiter::Rates,
    wire::WireFormat,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::{ErrorType, OrErr, Result, http::ResponseHeader};
use pingora_proxy::Session;
use std::sync::atomic::Ordering;

/// Tells which status an upstream's error had, where the caller gets another one.
pub(super) const UPSTREAM_STATUS: &str = "x-sub2api-upstream-status";
/// Where somebody asks how the gateway is.
pub(super) fn health(shared: &Shared, exchange: &Exchange) -> Option<Answer> {
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

/// The models that the caller may ask for, or the one it asks about.
pub(super) async fn models(shared: &Shared, exchange: &Exchange) -> Result<Answer, Rejection> {
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

/// Writes an answer in place of a provider's. Gives that this is done.
pub(super) async fn answer(session: &mut Session, exchange: &mut Exchange, answer: &Answer) -> Result<bool, Rejection> {
    give(session, exchange, answer).await.map(|()| true).map_err(|_| settle::gone())
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
