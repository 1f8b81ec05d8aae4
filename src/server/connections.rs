//! Bounds the number of client connections: those beyond it are closed at once.

use async_trait::async_trait;
use pingora::{apps::ServerApp, protocols::Stream, server::ShutdownWatch};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// An application that serves at most so many connections at a time.
pub(super) struct Bounded<A> {
    inner: Arc<A>,
    places: Semaphore,
}

impl<A> Bounded<A> {
    /// Bounds this application.
    pub(super) fn new(inner: A, connections: usize) -> Bounded<A> {
        Bounded { inner: Arc::new(inner), places: Semaphore::new(connections.min(Semaphore::MAX_PERMITS)) }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Bounded<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Ok(_place) = self.places.try_acquire() else {
            log::warn!("a connection was closed: the gateway holds as many as it may");
            return None;
        };
        self.inner.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}
