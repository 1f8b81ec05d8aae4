//! What all requests of the gateway share.

use super::{catalog::Catalog, egress::Egress, resolve::Resolver};
use crate::live::Live;
use std::sync::Arc;

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
}

impl Shared {
    /// Nothing known yet but the process' state.
    pub fn new(live: Arc<Live>) -> Arc<Shared> {
        let egress = Egress::new(live.snapshot().config.server.ca_file.clone());
        Arc::new(Shared { live, resolver: Resolver::default(), catalog: Catalog::default(), egress })
    }
}
