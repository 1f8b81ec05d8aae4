//! What holds for a client's connection before there is a request on it: how many there may be, how long they may say
//! nothing or not enough, and which protocol they speak.
//!
//! Pingora waits without a limit for the 24 bytes that HTTP/2 without TLS begins with, which a whole HTTP/1.0 request may
//! be shorter than, and for as long as a request's head dribbles in, and keeps idle HTTP/1.1 connections for ever. Here every wait
//! has an end.

use crate::{
    config::Bounds,
    gateway::{Corked, Heads},
};
use async_trait::async_trait;
use pingora::{
    apps::{HttpServerApp, ServerApp},
    protocols::{ALPN, Stream, http::ServerSession},
    server::ShutdownWatch,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// What HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An application that serves at most so many connections at a time.
pub(super) struct Bounded<A> {
    inner: Arc<A>,
    places: Semaphore,
    first_bytes: Duration,
    /// For all of a request's head.
    head: Duration,
    /// The time between two requests.
    idle: Duration,
}

impl<A> Bounded<A> {
    /// Bounds this application.
    pub(super) fn new(inner: A, bounds: &Bounds) -> Bounded<A> {
        let places = Semaphore::new(bounds.connections.min(Semaphore::MAX_PERMITS));
        let (first_bytes, head, idle) = (bounds.client_read, bounds.client_head, bounds.client_idle);
        Bounded { inner: Arc::new(inner), places, first_bytes, head, idle }
    }
}

/// Whether a connection speaks HTTP/2: as agreed with TLS, or by its first bytes.
async fn is_http2(stream: &mut Stream) -> io::Result<bool> {
    if stream.get_ssl_digest().is_some() {
        return Ok(matches!(stream.selected_alpn_proto(), Some(ALPN::H2)));
    }
    // No HTTP/1.1 request begins with these three, and none is shorter.
    let mut start = [0; 3];
    if !stream.try_peek(&mut start).await? || !PREFACE.starts_with(&start) {
        return Ok(false);
    }
    let mut all = [0; PREFACE.len()];
    Ok(stream.try_peek(&mut all).await? && all == *PREFACE)
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Bounded<A> {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Ok(_place) = self.places.try_acquire() else {
            log::warn!("a connection was closed: the gateway holds as many as it may");
            return None;
        };
        let is_encrypted = stream.get_ssl_digest().is_some();
        if timeout(self.first_bytes, is_http2(&mut stream)).await.ok()?.ok()? {
            return self.inner.process_new(stream, shutdown).await;
        }
        let mut session = ServerSession::new_http1(Corked::over(stream));
        session.set_keepalive((!*shutdown.borrow()).then_some(self.idle.as_secs().max(1)));
        // Behind TLS the first bytes of the request are still to come.
        let wait = if is_encrypted { self.idle + self.head } else { self.head };
        let mut heads = Heads::default();
        let mut kept = heads.within(wait, self.inner.process_new_http(session, shutdown)).await?;
        while let Some((stream, settings)) = kept.map(|kept| kept.consume()) {
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            // When the head begins is not known here, only that it does before the idle time is over.
            kept = heads.within(self.idle + self.head, self.inner.process_new_http(session, shutdown)).await?;
        }
        None
    }

    async fn cleanup(&self) {
        self.inner.http_cleanup().await;
    }
}
