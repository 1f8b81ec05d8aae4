//! The way out: which peer an attempt connects to, and which headers the provider gets.
//!
//! Of the caller's headers only allowed ones stay; nothing of the caller's credentials, connection or addresses is carried
//! over, and nothing about the client is invented.

use super::{
    egress,
    exchange::{Attempt, Exchange},
    handshake::Target,
    head, names,
    state::Shared,
};
use crate::{
    config::{AccountSettings, Http2, secret::Secret},
    provider::BaseUrl,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pingora::{
    Error, ErrorType, Result,
    http::RequestHeader,
    protocols::ALPN,
    upstreams::peer::{HttpPeer, Peer},
};
use std::time::Duration;

/// So many headers a request to a provider has room for before it grows.
const ROOM: usize = 12;
/// How long an idle upstream connection is kept.
const KEPT_IDLE: Duration = Duration::from_secs(60);
/// How far an HTTP/2 upstream may send ahead of a slow client, in bytes. All of it can lie in memory, for every stream;
/// it still allows 10 MB/s at a distance of 100 ms.
const SENT_AHEAD: u32 = 1 << 20;
/// The same for a connection, which here never has more than one stream. Not what bounds the memory: the HTTP/2 library
/// breaks a connection whose small frames cost more than half of it, so it has to allow `SENT_AHEAD` in frames of one byte.
const SENT_AHEAD_ON_CONNECTION: u32 = 1 << 30;

/// The peer of an account.
pub(super) async fn peer(shared: &Shared, settings: &AccountSettings) -> Result<Box<HttpPeer>> {
    let base = &settings.base_url;
    let mut peer = peer_at(shared, settings, base).await?;
    if let Some(options) = peer.get_mut_peer_options() {
        options.alpn = match settings.http2 {
            Http2::Auto if base.tls => ALPN::H2H1,
            Http2::Auto | Http2::Never => ALPN::H1,
            Http2::Always => ALPN::H2,
        };
    }
    Ok(peer)
}

/// The peer of a URL that an account calls, by the account's way out and its time limits; HTTP/1.1 unless changed.
pub(super) async fn peer_at(shared: &Shared, settings: &AccountSettings, base: &BaseUrl) -> Result<Box<HttpPeer>> {
    let (host, port) = egress::first_hop(settings, base);
    let address = shared.resolver.address(host, port).await.map_err(|cause| {
        let mut error = Error::because(ErrorType::ConnectError, "name look-up", cause);
        error.as_up();
        error
    })?;
    let connect = settings.timeouts.connect;
    let mut peer = match &settings.proxy {
        Some(proxy) => {
            let target = Target { host: base.host.clone(), port: base.port };
            Box::new(egress::through(&shared.egress, proxy, address, egress::Route { target, tls: base.tls, connect }))
        }
        None => Box::new(HttpPeer::new(address, base.tls, base.host.clone())),
    };
    if let Some(options) = peer.get_mut_peer_options() {
        options.connection_timeout = Some(connect);
        options.total_connection_timeout = Some(connect);
        options.idle_timeout = Some(KEPT_IDLE);
        options.write_timeout = Some(settings.timeouts.idle);
        // Silence is measured by the adapter, which can tell the wait for content from a pause within it.
        options.read_timeout = None;
        options.h2_stream_window_size = Some(SENT_AHEAD);
        options.h2_connection_window_size = Some(SENT_AHEAD_ON_CONNECTION);
    }
    Ok(peer)
}

/// Turns the copy of the client's header that Pingora offers into the provider's request.
pub(super) fn rewrite(exchange: &Exchange, attempt: &Attempt, header: &mut RequestHeader) -> Result<()> {
    let account = &attempt.lease.candidate.account;
    let settings = &account.settings;
    let rules = &exchange.snapshot.config.headers;
    let crosses = |name: &HeaderName| {
        let own = attempt.translation.is_none() || !belongs_to_a_format(name.as_str());
        own && rules.request.allows(name)
    };
    let mut sent = HeaderMap::with_capacity(ROOM);
    sent.insert(header::HOST, head::value(&settings.base_url.authority()));
    for (name, value) in header.headers.iter().filter(|(name, _)| crosses(name)) {
        sent.append(name.clone(), value.clone());
    }
    if attempt.translation.is_some() {
        sent.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if !attempt.body.is_empty() {
        sent.insert(header::CONTENT_LENGTH, attempt.body.len().into());
    }
    sent.insert(names::REQUEST_ID.clone(), head::value(&exchange.id));
    authorise(settings, attempt.bearer.as_ref(), &mut sent)?;
    *header = head::request(Method::POST, &attempt.path, header.version, sent)?;
    Ok(())
}

/// Whether a header speaks to one provider's API, and so means nothing (or something else) to another's.
fn belongs_to_a_format(name: &str) -> bool {
    const FAMILIES: [&str; 5] = ["anthropic-", "openai-", "x-goog-", "x-stainless-", "x-codex-"];
    name == "accept" || name == "content-type" || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Shows the account's key or token, and adds the headers that provider and account ask for.
pub(super) fn authorise(settings: &AccountSettings, bearer: Option<&Secret>, request: &mut HeaderMap) -> Result<()> {
    for (name, value) in settings.provider.default_headers() {
        if !request.contains_key(name) {
            request.insert(name.clone(), HeaderValue::from_static(value));
        }
    }
    if let Some(key) = &settings.api_key {
        let (name, value) = settings.provider.credential(key.expose());
        request.insert(name, secret(value)?);
    }
    if let Some(token) = bearer {
        request.insert(header::AUTHORIZATION, secret(["Bearer ", token.expose()].concat())?);
    }
    for (name, value) in &settings.headers {
        // A list: the account's words stand beside the client's.
        let clients = request.get(name).filter(|_| name == "anthropic-beta").and_then(|v| v.to_str().ok());
        let value = match clients {
            Some(clients) => secret(joined(clients, value.expose()))?,
            None => secret(value.expose().to_owned())?,
        };
        request.insert(name.clone(), value);
    }
    Ok(())
}

/// Two lists of words as one, without repeating any.
fn joined(first: &str, second: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in first.split(',').chain(second.split(',')).map(str::trim) {
        if !word.is_empty() && !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(",")
}

/// A header value that is never shown, neither by `Debug` nor in an HTTP/2 compression table.
fn secret(text: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| {
        Error::explain(ErrorType::InternalError, "a credential holds characters that no header may have")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_joined_without_repetition() {
        assert_eq!(joined("a, b", "b,c,"), "a,b,c");
        assert_eq!(joined("", "c"), "c");
    }
}
