//! The admin listener: accounts, metrics, reload and drain, for the operator alone.
//!
//! Every path but the health checks and the page's frame asks for the admin key. Answers are JSON; an error says what to do. Nothing here is on
//! the way of a client's request. Never shows a key, neither a provider's nor a member's.

mod accounts;
mod answer;
mod explain;
mod page;
mod present;
mod process;
mod route;
mod usage;
mod users;

use crate::live::Live;
use answer::Answer;
use async_trait::async_trait;
use http::{HeaderMap, Response, header};
use pingora::{apps::http_app::ServeHttp, protocols::http::ServerSession};
use route::Ask;
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
        let ask = Ask::new(self.live.clone(), &head.method, &head.uri);
        let is_admin = self.is_admin(&head.headers);
        // Some answers read the disk; the listener's one thread is not held up by them.
        let answer = tokio::task::spawn_blocking(move || route::answer(&ask, is_admin)).await;
        answer.unwrap_or_else(|_| Answer::fault(500, "the answer could not be made; the log says why")).into_response()
    }
}
