//! The way out through an account's proxy.
//!
//! Pingora asks for a connection, gets one that leads through the proxy to the provider, and goes on as if it were direct
//! (TLS with the provider included). Never connects past the proxy: where that fails, there is no connection. Two accounts
//! share a connection only where proxy, login and provider are the same.

use super::{
    handshake::{self, Refusal, Target},
    tasks::Tasks,
};
use crate::{
    config::{AccountSettings, Proxy, ProxyKind},
    provider::BaseUrl,
};
use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::{ConnectorOptions, L4Connect, TransportConnector},
    protocols::l4::{socket::SocketAddr as PeerAddress, stream::Stream},
    upstreams::peer::{HttpPeer, Peer},
};
use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::copy,
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// A proxy cannot be connected to.
const NO_PROXY: ErrorType = ErrorType::Custom("the proxy cannot be reached");
/// A proxy did not answer in time.
const SLOW_PROXY: ErrorType = ErrorType::Custom("the proxy did not answer in time");

/// What all ways out share.
pub(super) struct Egress {
    /// The root certificates, if they are not the system's.
    roots: Option<PathBuf>,
    /// Makes the TLS connections to `https` proxies; reads the certificates when the first one is needed.
    tls: OnceLock<TransportConnector>,
    /// The copying inside those.
    tasks: Tasks,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Egress")
    }
}

impl Egress {
    /// Trusts these root certificates in the place of the system's.
    pub(super) fn new(roots: Option<PathBuf>) -> Arc<Egress> {
        Arc::new(Egress { roots, tls: OnceLock::new(), tasks: Tasks::default() })
    }

    /// Options for connectors of our own: the certificates, and so many idle connections.
    pub(super) fn options(&self, idle: usize) -> ConnectorOptions {
        let mut options = ConnectorOptions::new(idle);
        options.ca_file = self.roots.as_ref().map(|path| path.to_string_lossy().into_owned());
        options
    }
}

/// Where an account's connections to a URL begin: at its proxy, else there.
pub(super) fn first_hop<'a>(settings: &'a AccountSettings, url: &'a BaseUrl) -> (&'a str, u16) {
    match &settings.proxy {
        Some(proxy) => (&proxy.host, proxy.port),
        None => (&url.host, url.port),
    }
}

/// Makes a peer of `proxy` at this address into one of the provider behind it.
pub(super) fn through(egress: &Arc<Egress>, proxy: &Arc<Proxy>, address: SocketAddr, route: Route) -> HttpPeer {
    let Route { target, tls, connect } = route;
    // Pingora compares a kept connection's other end with the peer's address. Inside TLS that end is in this process,
    // and the unspecified address matches every end.
    let shown = match proxy.kind {
        ProxyKind::Http | ProxyKind::Socks5 => address,
        ProxyKind::Https => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
    };
    let mut peer = HttpPeer::new(shown, tls, target.host.clone());
    peer.group_key = group(proxy, &target);
    let dialer = Dialer { egress: egress.clone(), proxy: proxy.clone(), address, target, connect };
    if let Some(options) = peer.get_mut_peer_options() {
        options.custom_l4 = Some(Arc::new(dialer));
    }
    peer
}

/// Where a connection through a proxy leads.
pub(super) struct Route {
    /// The provider.
    pub target: Target,
    /// Whether the provider is spoken to in TLS.
    pub tls: bool,
    /// For the whole way.
    pub connect: Duration,
}

/// Tells connections apart that must not be taken for each other; never 0, which stands for the direct ones.
fn group(proxy: &Proxy, target: &Target) -> u64 {
    let mut hasher = DefaultHasher::new();
    (proxy.kind, &proxy.host, proxy.port, target).hash(&mut hasher);
    if let Some(login) = &proxy.login {
        (login.user.expose(), login.password.expose()).hash(&mut hasher);
    }
    hasher.finish().max(1)
}

/// Makes one account's connections.
#[derive(Debug)]
struct Dialer {
    egress: Arc<Egress>,
    proxy: Arc<Proxy>,
    address: SocketAddr,
    target: Target,
    connect: Duration,
}

#[async_trait]
impl L4Connect for Dialer {
    async fn connect(&self, _: &PeerAddress) -> Result<Stream> {
        let mut made = match timeout(self.connect, self.dial()).await {
            Ok(made) => made,
            Err(_) => Error::e_explain(SLOW_PROXY, ""),
        };
        if let Err(error) = &mut made {
            error.as_up();
        }
        made
    }
}

impl Dialer {
    async fn dial(&self) -> Result<Stream> {
        match self.proxy.kind {
            ProxyKind::Http => {
                let mut stream = self.reach().await?;
                let login = self.proxy.login.as_ref();
                handshake::connect(&mut stream, &self.target, login).await.map_err(refused)?;
                Ok(stream.into())
            }
            ProxyKind::Socks5 => {
                let mut stream = self.reach().await?;
                let login = self.proxy.login.as_ref();
                handshake::socks5(&mut stream, &self.target, login).await.map_err(refused)?;
                Ok(stream.into())
            }
            ProxyKind::Https => self.dial_in_tls().await,
        }
    }

    async fn reach(&self) -> Result<TcpStream> {
        let unreached = |cause: io::Error| Error::because(NO_PROXY, "", cause);
        let stream = TcpStream::connect(self.address).await.map_err(unreached)?;
        stream.set_nodelay(true).map_err(unreached)?;
        Ok(stream)
    }

    /// Pingora takes only streams that have a socket, so that what is inside the proxy's TLS is copied to and from one.
    async fn dial_in_tls(&self) -> Result<Stream> {
        let mut peer = HttpPeer::new(self.address, true, self.proxy.host.clone());
        if let Some(options) = peer.get_mut_peer_options() {
            options.connection_timeout = Some(self.connect);
            options.total_connection_timeout = Some(self.connect);
        }
        let tls = self.egress.tls.get_or_init(|| TransportConnector::new(Some(self.egress.options(0))));
        let mut outer = tls.new_stream(&peer).await.map_err(|cause| Error::because(NO_PROXY, "in TLS", cause))?;
        handshake::connect(&mut outer, &self.target, self.proxy.login.as_ref()).await.map_err(refused)?;
        let (ours, pingoras) = UnixStream::pair().map_err(|cause| Error::because(NO_PROXY, "", cause))?;
        self.egress.tasks.begin(async move {
            let (mut from_proxy, mut to_proxy) = tokio::io::split(outer);
            let (mut from_us, mut to_us) = ours.into_split();
            // One side's end is the end of both: an HTTP client closes nothing by halves.
            tokio::select! {
                _ = copy(&mut from_proxy, &mut to_us) => {}
                _ = copy(&mut from_us, &mut to_proxy) => {}
            }
        });
        Ok(pingoras.into())
    }
}

fn refused(refusal: Refusal) -> Box<Error> {
    Error::explain(ErrorType::Custom(refusal.name()), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_told_apart_by_proxy_login_and_provider() {
        let target = |host: &str, port| Target { host: host.into(), port };
        let key = |proxy: &str, target: &Target| group(&Proxy::parse(proxy).unwrap(), target);
        let one = target("h", 443);
        let all = [
            key("http://p:1", &one),
            key("https://p:1", &one),
            key("socks5://p:1", &one),
            key("http://p:2", &one),
            key("http://q:1", &one),
            key("http://u@p:1", &one),
            key("http://u:v@p:1", &one),
            key("http://w:v@p:1", &one),
            key("http://p:1", &target("i", 443)),
            key("http://p:1", &target("h", 80)),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(key("http://u:v@p:1", &one), key("http://u:v@p:1", &one));
    }
}
