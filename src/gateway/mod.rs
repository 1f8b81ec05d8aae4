//! The data plane: one request's way through Pingora's hooks.
//!
//! Every hook is a few lines that call the file which knows: `ingress` (the way in), `dispatch` (which account),
//! `upstream` (the way out), `relay` (the answer), `downstream` (holding and timers), `settle` (the end).

mod admission;
mod alarm;
mod arrival;
mod book;
mod bounds;
mod call;
mod catalog;
mod claim;
mod corked;
mod dispatch;
mod downstream;
mod egress;
mod entrance;
mod estimate;
mod exchange;
mod gather;
mod handshake;
mod head;
mod ingress;
mod lane;
mod local;
mod mask;
mod names;
mod origin;
mod rates;
mod relay;
mod reply;
mod resolve;
mod route;
mod settle;
mod span;
mod state;
mod tasks;
mod token;
mod upstream;
mod usage;

pub use arrival::Heads;
pub use corked::Corked;
pub use exchange::Exchange;
pub use state::Shared;

use crate::error::{Reason, Rejection};
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    upstreams::peer::HttpPeer,
};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::{sync::Arc, time::Duration};

/// The gateway as Pingora sees it.
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// A gateway over this state.
    pub fn new(shared: Arc<Shared>) -> Gateway {
        Gateway { shared }
    }
}

fn lost() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the exchange has no attempt")
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// In a box, because Pingora's futures hold it several times over.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        arrival::told();
        Box::new(Exchange::new(&self.shared))
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Box<Exchange>) -> Result<bool> {
        match entrance::enter(&self.shared, session, exchange).await {
            Ok(answered) => Ok(answered),
            Err(rejection) => {
                local::refuse(session, exchange, &rejection).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Box<Exchange>) -> Result<Box<HttpPeer>> {
        relay::begin_attempt(&self.shared, session, exchange).await?;
        let attempt = exchange.attempt.as_ref().ok_or_else(lost)?;
        let account = attempt.lease.candidate.account.clone();
        if account.settings.grant.is_some() {
            let bearer = token::bearer(&self.shared, &account).await;
            settle::authorised(&self.shared, exchange, bearer)?;
        }
        match upstream::peer(&self.shared, &account.settings).await {
            Ok(peer) => Ok(peer),
            Err(error) => Err(settle::connect_failed(&self.shared, exchange, error)),
        }
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        header: &mut RequestHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        let attempt = exchange.attempt.as_ref().ok_or_else(lost)?;
        upstream::rewrite(exchange, attempt, header)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        let attempt = exchange.attempt.as_ref().ok_or_else(lost)?;
        *body = end.then(|| attempt.body.clone());
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        header: &mut ResponseHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        settle::header_came(&self.shared, exchange, header);
        relay::header(header, exchange)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<Option<Duration>> {
        relay::body(&self.shared, body, end, exchange).map(|()| None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        exchange: &mut Box<Exchange>,
    ) -> Result<Option<Bytes>> {
        // An upstream that ends with trailers never says `end` with its body.
        trailers.clear();
        let mut last = None;
        relay::body(&self.shared, &mut last, true, exchange)?;
        Ok(last.filter(|bytes| !bytes.is_empty()))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Box<Exchange>,
        error: Box<Error>,
    ) -> Box<Error> {
        settle::connect_failed(&self.shared, exchange, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Box<Exchange>,
        client_reused: bool,
    ) -> Box<Error> {
        settle::attempt_failed(&self.shared, session, exchange, error, client_reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Box<Exchange>) -> FailToProxy {
        settle::fail(&self.shared, session, error, exchange).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Box<Exchange>) {
        settle::finish(&self.shared, session, error, exchange);
    }

    // One line per request is written by `settle`; Pingora's own would repeat it, with upstream addresses.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Box<Exchange>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Box<Exchange>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// A fault of the gateway's own making.
fn internal(message: &str) -> Rejection {
    Rejection::new(Reason::Internal, message)
}
