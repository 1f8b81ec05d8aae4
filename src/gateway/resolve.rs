//! Addresses of upstream hosts.
//!
//! Names are looked up without blocking and kept for a while. The first address is used until a connection to it fails;
//! then the next one's turn comes. A look-up that fails falls back on what was known before.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

const KEPT_FOR: Duration = Duration::from_secs(30);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Names come from the configuration only; this bounds what many reloads can leave behind.
const MOST_NAMES: usize = 4096;

/// The names looked up so far.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: Mutex<HashMap<(String, u16), Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    until: Instant,
    addresses: Vec<SocketAddr>,
}

impl Resolver {
    /// The address of this host whose turn it is.
    pub(super) async fn address(&self, host: &str, port: u16) -> Result<SocketAddr, std::io::Error> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port));
        }
        let key = (host.to_owned(), port);
        if let Some(address) = self.known(&key) {
            return Ok(address);
        }
        let found = match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(found)) => Ok(found.collect::<Vec<_>>()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "name look-up timed out")),
        };
        let addresses = match (found, self.lock().get(&key).cloned()) {
            (Ok(found), _) if !found.is_empty() => found,
            (_, Some(stale)) => stale.addresses,
            (Err(error), None) => return Err(error),
            (Ok(_), None) => Vec::new(),
        };
        let first = addresses.first().copied();
        let mut names = self.lock();
        if names.len() >= MOST_NAMES {
            names.clear();
        }
        names.insert(key, Known { until: Instant::now() + KEPT_FOR, addresses });
        first.ok_or_else(|| std::io::Error::other("the name has no address"))
    }

    /// The address whose turn it is of a name that was looked up lately.
    fn known(&self, key: &(String, u16)) -> Option<SocketAddr> {
        let names = self.lock();
        let Known { until, addresses } = names.get(key)?;
        addresses.first().copied().filter(|_| Instant::now() < *until)
    }

    /// A connection to the address in turn failed: the next one's turn comes. Returns how many the host has.
    pub(super) fn failed(&self, host: &str, port: u16) -> usize {
        let mut names = self.lock();
        let Some(known) = names.get_mut(&(host.to_owned(), port)) else { return 1 };
        if known.addresses.len() > 1 {
            known.addresses.rotate_left(1);
        }
        known.addresses.len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
