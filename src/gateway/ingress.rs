//! The way in: bounds, the caller's key, the body.
//!
//! Nothing of a body is read before the key is known to be good. The key itself never leaves this file.

use super::{bounds::BodyPermit, exchange::Exchange, names, state::Shared};
use crate::{
    config::Bounds,
    error::{Reason, Rejection},
    user::Caller,
    wire::WireFormat,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::time::Duration;
use tokio::time::{error::Elapsed, timeout};

/// Refuses requests whose head is too large or contradicts itself.
pub(super) fn check_head(headers: &HeaderMap, bounds: &Bounds) -> Result<(), Rejection> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > bounds.header_bytes || headers.len() > bounds.header_count {
        let message = format!(
            "the request's headers are too large: {} headers of {bytes} bytes, allowed are {} of {} bytes",
            headers.len(),
            bounds.header_count,
            bounds.header_bytes
        );
        return Err(Rejection::new(Reason::HeadersTooLarge, message));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        let message = "the request has both Content-Length and Transfer-Encoding: send one of them";
        return Err(Rejection::new(Reason::Malformed, message));
    }
    Ok(())
}

/// Who is calling. `Ok(None)` where no users are kept.
pub(super) fn authenticate(exchange: &Exchange, session: &Session) -> Result<Option<Caller>, Rejection> {
    let snapshot = &exchange.snapshot;
    if snapshot.config.open {
        return Ok(None);
    }
    let head = session.req_header();
    let key = caller_key(&head.headers, head.uri.query(), exchange.format);
    let Some(key) = key else {
        let message = "no key was sent: use the header `Authorization: Bearer`, `x-api-key` or `x-goog-api-key`";
        return Err(Rejection::new(Reason::MissingKey, message));
    };
    let caller = snapshot.keys.lookup(key, exchange.started)?;
    caller.may_come_from(exchange.client)?;
    Ok(Some(caller))
}

/// The caller's key, from whichever place it was sent in.
fn caller_key<'h>(headers: &'h HeaderMap, query: Option<&'h str>, format: WireFormat) -> Option<&'h str> {
    let text =
        |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim).filter(|v| !v.is_empty());
    let bearer = || {
        let (scheme, key) = text(&header::AUTHORIZATION)?.split_once(' ')?;
        Some(key.trim()).filter(|key| scheme.eq_ignore_ascii_case("bearer") && !key.is_empty())
    };
    let in_query = || {
        let pairs = query.filter(|_| format == WireFormat::Gemini)?.split('&');
        pairs.filter_map(|pair| pair.strip_prefix("key=")).find(|key| !key.is_empty())
    };
    let named = || text(&names::X_API_KEY).or_else(|| text(&names::X_GOOG_API_KEY)).or_else(|| text(&names::API_KEY));
    bearer().or_else(named).or_else(in_query)
}

/// The query without the caller's key.
pub(super) fn forwarded_query(query: Option<&str>) -> Option<String> {
    let is_kept = |pair: &&str| !pair.is_empty() && !crate::provider::is_named(pair, "key");
    let kept: Vec<&str> = query?.split('&').filter(is_kept).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Reads the whole body, within the bounds.
pub(super) async fn read_body(
    shared: &Shared,
    bounds: &Bounds,
    session: &mut Session,
) -> Result<(Bytes, BodyPermit), Rejection> {
    let head = session.req_header();
    let told = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let expects = head.headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut permit = BodyPermit::new(&shared.live.counters);
    admit(&mut permit, told.unwrap_or(0), bounds)?;
    if expects && session.as_downstream_mut().write_continue_response().await.is_err() {
        return Err(Rejection::new(Reason::Malformed, "the connection broke before the body came"));
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let chunk = match read_piece(bounds.client_read, session.as_downstream_mut()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(_)) => {
                return Err(Rejection::new(Reason::Malformed, "the request's body is incomplete or badly framed"));
            }
            Err(_) => {
                let message = format!("the request's body stopped for {:?}", bounds.client_read);
                return Err(Rejection::new(Reason::ClientTooSlow, message));
            }
        };
        admit(&mut permit, first.len() + all.len() + chunk.len(), bounds)?;
        // A body in one piece is kept as it is.
        if first.is_empty() && all.is_empty() {
            first = chunk;
            continue;
        }
        if all.is_empty() {
            all.reserve(told.unwrap_or(0).max(first.len() + chunk.len()));
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&chunk);
    }
    let body = if all.is_empty() { first } else { all.freeze() };
    Ok((body, permit))
}

/// The next piece of the body, `Ok(Ok(None))` at its end.
async fn read_piece(wait: Duration, client: &mut ServerSession) -> Result<pingora::Result<Option<Bytes>>, Elapsed> {
    if client.is_body_done() && !client.is_http2() {
        return Ok(Ok(None));
    }
    timeout(wait, client.read_request_body()).await
}

fn admit(permit: &mut BodyPermit, total: usize, bounds: &Bounds) -> Result<(), Rejection> {
    if total > bounds.body_bytes {
        let message = format!("the request's body is larger than {} bytes", bounds.body_bytes);
        return Err(Rejection::new(Reason::TooLarge, message));
    }
    if !permit.grow_to(total, bounds.bodies_in_flight_bytes) {
        let message = "the gateway holds as many request bytes as it may: try again";
        let wait = Some(Duration::from_secs(1));
        return Err(Rejection::new(Reason::Unavailable, message).after(wait));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_key_is_found_in_every_place_that_clients_use() {
        for (name, value) in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer  k "),
            ("x-api-key", "k"),
            ("x-goog-api-key", "k"),
            ("api-key", "k"),
        ] {
            assert_eq!(caller_key(&headers(&[(name, value)]), None, WireFormat::OpenaiChat), Some("k"), "{name}");
        }
        let none = HeaderMap::new();
        assert_eq!(caller_key(&none, Some("alt=sse&key=k"), WireFormat::Gemini), Some("k"));
        assert_eq!(caller_key(&none, Some("key=k"), WireFormat::OpenaiChat), None);
        assert_eq!(caller_key(&headers(&[("authorization", "Basic k")]), None, WireFormat::Gemini), None);
    }

    #[test]
    fn the_key_in_the_query_goes_no_further() {
        assert_eq!(forwarded_query(Some("alt=sse&key=secret&x=1")).as_deref(), Some("alt=sse&x=1"));
        assert_eq!(forwarded_query(Some("key=secret")), None);
        assert_eq!(forwarded_query(Some("k%65y=secret&KEY=secret")), None);
    }

    #[test]
    fn a_request_with_two_framings_is_refused() {
        let both = headers(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        let bounds = Bounds::default();
        assert_eq!(check_head(&both, &bounds).unwrap_err().reason, Reason::Malformed);
    }
}
