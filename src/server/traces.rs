//! Sends finished spans to an OpenTelemetry collector, in batches, and never in a request's way.
//!
//! A batch that the collector does not take is tried a few times, then dropped; what waits meanwhile is bounded by the queue.

use crate::{config::TraceSettings, live::Live, trace};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, header};
use pingora::{
    Error, ErrorType, Result, connectors::http::Connector, http::RequestHeader, server::ShutdownWatch,
    services::background::BackgroundService, upstreams::peer::HttpPeer,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// How often the queue is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// The same once the process is on its way out; shorter than the time that it stays after its last request.
const LAST: Duration = Duration::from_millis(100);
/// Requests in one export.
const BATCH: usize = 512;
/// The longest time for one export.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one export is tried.
const TRIES: u32 = 4;

/// The service that sends spans.
pub(super) struct Exporter {
    live: Arc<Live>,
    settings: TraceSettings,
}

impl Exporter {
    /// Sends the spans of this state there.
    pub(super) fn new(live: Arc<Live>, settings: TraceSettings) -> Exporter {
        Exporter { live, settings }
    }

    async fn flush(&self, connector: &Connector) {
        let Some(queue) = &self.live.traces else { return };
        loop {
            let batch = queue.take(BATCH);
            if batch.is_empty() {
                return;
            }
            let body = Bytes::from(trace::export(&self.settings.service, &batch));
            self.deliver(connector, &body, batch.len()).await;
        }
    }

    async fn deliver(&self, connector: &Connector, body: &Bytes, requests: usize) {
        for attempt in 0..TRIES {
            let sent = timeout(PATIENCE, self.send(connector, body.clone())).await;
            match sent {
                Ok(Ok(())) => return,
                Ok(Err(error)) if attempt + 1 == TRIES => {
                    log::warn!("traces: {requests} requests dropped: {}", error.etype().as_str());
                }
                Err(_) if attempt + 1 == TRIES => log::warn!("traces: {requests} requests dropped: no answer"),
                Ok(Err(_)) | Err(_) => sleep(EVERY * 2_u32.pow(attempt)).await,
            }
        }
    }

    async fn send(&self, connector: &Connector, body: Bytes) -> Result<()> {
        let url = &self.settings.endpoint;
        let address = tokio::net::lookup_host((url.host.as_str(), url.port)).await.ok().and_then(|mut all| all.next());
        let Some(address) = address else { return Error::e_explain(ErrorType::ConnectError, "no address") };
        let peer = HttpPeer::new(address, url.tls, url.host.clone());
        let (mut session, _reused) = connector.get_http_session(&peer).await?;
        let mut request = RequestHeader::build(Method::POST, url.prefix.as_bytes(), Some(8))?;
        request.insert_header(header::HOST, url.authority())?;
        request.insert_header(header::CONTENT_TYPE, "application/json")?;
        request.insert_header(header::CONTENT_LENGTH, body.len())?;
        for (name, value) in &self.settings.headers {
            request.insert_header(name.clone(), value.expose())?;
        }
        session.write_request_header(Box::new(request)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        match session.response_header().map_or(0, |header| header.status.as_u16()) {
            200..=299 => Ok(()),
            status => Error::e_explain(ErrorType::HTTPStatus(status), "the collector refuses"),
        }
    }
}

#[async_trait]
impl BackgroundService for Exporter {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let connector = Connector::new(None);
        while !*shutdown.borrow() {
            tokio::select! {
                _ = shutdown.changed() => {}
                () = sleep(EVERY) => {}
            }
            self.flush(&connector).await;
        }
        // The requests that are still in flight have spans as well.
        while self.live.counters.requests.load(Ordering::Relaxed) > 0 {
            sleep(LAST).await;
            self.flush(&connector).await;
        }
    }
}
