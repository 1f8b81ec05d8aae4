//! What all requests of the gateway share.

use super::{catalog::Catalog, egress::Egress, resolve::Resolver, token::TokenStore};
use crate::live::Live;
use pingora::connectors::http::Connector;
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
};

/// The process' state, and what only the gateway keeps.
pub struct Shared {
    /// Configuration, accounts, counters.
    pub live: Arc<Live>,
    /// Addresses of upstream hosts.
    pub(super) resolver: Resolver,
    /// Model lists of upstreams.
    pub(super) catalog: Catalog,
    /// Ways out through proxies.
    pub(super) egress: Arc<Egress>,
    /// Access tokens of accounts that have no lasting key.
    pub(super) tokens: TokenStore,
    /// For what outlives a request.
    pub(super) me: Weak<Shared>,
    connector: OnceLock<Connector>,
}

impl Shared {
    /// Nothing known yet but the process' state, and the file with the root certificates if they are not the system's.
    pub fn new(live: Arc<Live>, roots: Option<PathBuf>) -> Arc<Shared> {
        let egress = Egress::new(roots);
        Arc::new_cyclic(|me| Shared {
            live,
            resolver: Resolver::default(),
            catalog: Catalog::default(),
            egress,
            tokens: TokenStore::default(),
            me: me.clone(),
            connector: OnceLock::new(),
        })
    }

    /// The connector of the gateway's own calls; the first one reads the certificates.
    pub(super) fn connector(&self) -> &Connector {
        self.connector.get_or_init(|| Connector::new(Some(self.egress.options(0))))
    }
}
