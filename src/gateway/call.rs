//! Calls of the gateway's own: model lists, tokens. By an account's way out, with Pingora's connectors.
//!
//! Every answer is bounded in size; the caller bounds the time. No connection is kept: these calls are far between.

use super::{state::Shared, upstream};
use crate::{config::AccountSettings, provider::BaseUrl};
use bytes::Bytes;
use http::HeaderMap;
use pingora::{Error, ErrorType, Result, http::RequestHeader, protocols::http::client::HttpSession};

/// A whole answer.
pub(super) struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// A request, and the most bytes of its answer.
pub(super) struct Call {
    /// The header.
    pub header: RequestHeader,
    /// The body; none for a GET.
    pub body: Option<Bytes>,
    /// The most bytes of the answer.
    pub most_bytes: usize,
}

/// Calls a URL on behalf of an account.
pub(super) async fn call(shared: &Shared, settings: &AccountSettings, url: &BaseUrl, call: Call) -> Result<Reply> {
    let peer = upstream::peer_at(shared, settings, url).await?;
    let (mut session, _reused) = shared.connector().get_http_session(peer.as_ref()).await?;
    session.write_request_header(Box::new(call.header)).await?;
    if let Some(body) = call.body {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let header = session.response_header();
    let status = header.map_or(0, |header| header.status.as_u16());
    let headers = header.map(|header| header.headers.clone()).unwrap_or_default();
    let body = read(&mut session, call.most_bytes).await?;
    Ok(Reply { status, headers, body })
}

async fn read(session: &mut HttpSession, most_bytes: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = session.read_response_body().await? {
        if body.len() + chunk.len() > most_bytes {
            return Error::e_explain(ErrorType::InternalError, "the answer is too long");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
