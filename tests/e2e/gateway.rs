//! A real gateway in this process, on a port of its own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use sub2api::{
    config::{Config, Quota, Window},
    live::Live,
    server::{self, Options, Running},
};

/// A running gateway; ends with the test.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) running: Option<Running>,
    data: PathBuf,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        if !self.data.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}

/// A port that nobody listens on. Below those that systems hand out by themselves, so that no connection and no other
/// listener gets it between this look and its use; other runs of these tests begin elsewhere.
pub(crate) fn free_port() -> u16 {
    const LOWEST: u32 = 10_240;
    const MANY: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + (std::process::id().wrapping_mul(709) + step) % MANY;
        let port = u16::try_from(port).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A directory for one gateway's state.
pub(crate) fn data_dir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let serial = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("sub2api-e2e-{}-{serial}", std::process::id()))
}

/// An account in YAML.
pub(crate) fn account(name: &str, provider: &str, url: &str, more: &str) -> String {
    let key = format!("sk-upstream-{name}");
    format!(
        "  - {{ name: {name}, provider: {provider}, base_url: \"{url}\", credentials: {{ api_key: {key} }}{}{more} }}\n",
        if more.is_empty() { "" } else { ", " }
    )
}

impl Gateway {
    /// Starts a gateway with these accounts; `more` is YAML at the top level.
    pub(crate) async fn start(accounts: &[String], more: &str) -> Gateway {
        Gateway::start_with_server(accounts, &format!("server: {{ threads: 2 }}\n{more}")).await
    }

    /// The same, where `more` says the `server` section too.
    pub(crate) async fn start_with_server(accounts: &[String], more: &str) -> Gateway {
        Gateway::start_in(data_dir(), accounts, more).await
    }

    /// The same, with its state in this directory.
    pub(crate) async fn start_in(data: PathBuf, accounts: &[String], more: &str) -> Gateway {
        let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        let users = if more.contains("users:") || more.contains("auth:") {
            String::new()
        } else {
            format!("users: [ {{ name: tester, keys: [\"{}\"] }} ]\n", test_key())
        };
        let text = format!(
            "listen: [\"{address}\"]\ndata_dir: {}\n{users}accounts:\n{}{more}",
            data.display(),
            accounts.concat()
        );
        let loaded = Config::parse(&text, &|_| None).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        let running = server::start(loaded.config, Options::default()).unwrap();
        let running = tokio::task::spawn_blocking(move || {
            assert!(running.wait_ready(), "the gateway did not start");
            running
        });
        Gateway { address, running: Some(running.await.unwrap()), data }
    }

    /// Ends the gateway, and leaves its state where it is.
    pub(crate) fn stop(mut self) -> PathBuf {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        std::mem::take(&mut self.data)
    }

    /// What the process knows.
    pub(crate) fn live(&self) -> &Arc<Live> {
        self.running.as_ref().unwrap().live()
    }

    /// All that has not been given back, a moment after the last client got its answer.
    pub(crate) async fn left_over(&self) -> Vec<String> {
        let patience = tokio::time::Instant::now() + Duration::from_secs(2);
        loop {
            let left = self.held();
            if left.is_empty() || tokio::time::Instant::now() > patience {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn held(&self) -> Vec<String> {
        let (live, snapshot) = (self.live(), self.live().snapshot());
        let counters = [
            ("requests", &live.counters.requests),
            ("body bytes", &live.counters.body_bytes),
            ("places in the queue", &live.counters.waiting),
        ];
        let counts = counters.map(|(name, counter)| (name.to_owned(), counter.load(Ordering::SeqCst)));
        let leases = snapshot
            .pool
            .accounts()
            .iter()
            .map(|account| (format!("leases of {}", account.settings.name), account.live.in_flight() as usize));
        let waiting = ("places in the line".to_owned(), snapshot.pool.waiting());
        let total = Quota { window: Window::Total, tokens: None, requests: None, cost_nanos: None };
        let owners = live.limiter.owners();
        let places = owners.iter().map(|owner| ("places of a caller".to_owned(), owner.in_flight.count() as usize));
        let set_aside = owners.iter().map(|owner| {
            let reserved = owner.budgets.standing(&[total], live.clock.now())[0].reserved;
            ("tokens and requests set aside".to_owned(), (reserved.tokens + reserved.requests) as usize)
        });
        let all = counts.into_iter().chain(leases).chain([waiting]).chain(places).chain(set_aside);
        all.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name} were kept")).collect()
    }
}

/// The hash of `sk-test`.
pub(crate) fn test_key() -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(b"sk-test");
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
