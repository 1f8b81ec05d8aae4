//! The admin listener: whether the process lives, and whether it can serve. Everything else asks for the admin key.

use crate::live::Live;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Response, header};
use pingora::{apps::http_app::ServeHttp, protocols::http::ServerSession};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The application of the admin listener.
pub struct Admin {
    live: Arc<Live>,
}

impl Admin {
    /// Over this state.
    pub fn new(live: Arc<Live>) -> Admin {
        Admin { live }
    }

    fn answer(&self, path: &str, headers: &HeaderMap) -> (u16, &'static str) {
        match path {
            "/livez" => (200, "alive\n"),
            "/readyz" if self.live.is_ready() => (200, "ready\n"),
            "/readyz" => (503, "not ready\n"),
            _ if !self.is_admin(headers) => (401, "the admin key is missing or wrong: send `Authorization: Bearer`\n"),
            _ => (404, "there is no such path here\n"),
        }
    }

    /// Compares hashes in constant time, so that neither content nor length of the key shows in the time taken.
    fn is_admin(&self, headers: &HeaderMap) -> bool {
        let snapshot = self.live.snapshot();
        let Some(admin) = &snapshot.config.admin else { return false };
        let told = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let hash = |text: &str| Sha256::digest(text.as_bytes());
        told.is_some_and(|told| hash(told).as_slice().ct_eq(hash(admin.key.expose()).as_slice()).into())
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let (status, text) = self.answer(head.uri.path(), &head.headers);
        let body = Bytes::from_static(text.as_bytes()).to_vec();
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let length = http::HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
