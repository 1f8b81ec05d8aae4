//! What a running process knows: configuration, accounts and keys in one snapshot, swapped whole at a reload.
//!
//! Gateway and admin listener share it; a request keeps the snapshot it began with.

use crate::{
    account::{Pool, decision::Decisions},
    clock::{Clock, Moment},
    config::{Config, Faults},
    ledger::Ledger,
    limit::{flood::Floods, limiter::Limiter, opening::Opening},
    metrics::Metrics,
    trace,
    user::KeyRing,
};
use arc_swap::ArcSwap;
use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// One configuration with its accounts and keys.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// Its accounts.
    pub pool: Pool,
    /// Its keys.
    pub keys: KeyRing,
    /// When it was put in force.
    pub loaded: Moment,
}

/// Counters of the process. The guards that keep them right are in `gateway::bounds`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests at the same time.
    pub requests: AtomicUsize,
    /// Bytes of request bodies held.
    pub body_bytes: AtomicUsize,
    /// Requests waiting for an account.
    pub waiting: AtomicUsize,
    /// Whether the process is on its way out.
    pub draining: AtomicBool,
}

/// What came of a reload.
#[derive(Debug)]
pub enum Reload {
    /// The file is in force.
    Done {
        /// Its accounts.
        accounts: usize,
        /// Keys whose change takes effect at the next start.
        restart_needed: Vec<&'static str>,
    },
    /// The file is faulty.
    Refused(Faults),
    /// There is no file.
    NoFile,
}

/// The state of a process.
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Where usage is written down, if it is.
    pub ledger: Option<Arc<Ledger>>,
    /// What goes on right now.
    pub counters: Arc<Counters>,
    /// What has happened so far.
    pub metrics: Metrics,
    /// Why the last requests went where they went.
    pub decisions: Decisions,
    /// Spans that wait for the exporter, where traces are switched on.
    pub traces: Option<trace::Queue>,
    /// The file that a reload reads.
    file: OnceLock<PathBuf>,
    /// Told when the process is to end after its last request.
    end: Notify,
    /// What users and keys have used; outlives every configuration.
    pub limiter: Arc<Limiter>,
    /// Requests without a good key, by address.
    pub floods: Floods,
    random: AtomicU64,
}

impl Live {
    /// The state of a process that has just started.
    pub fn new(config: Config, ledger: Option<Arc<Ledger>>, clock: Clock) -> Arc<Live> {
        let mut seed = [0; 8];
        // Without randomness ids would repeat after a restart and draws would be the same; both still work.
        let _ = getrandom::fill(&mut seed);
        let random = AtomicU64::new(u64::from_le_bytes(seed));
        let metrics = Metrics::new(config.metrics);
        let traces = config.traces.as_ref().map(|settings| trace::Queue::new(settings.queue));
        let now = clock.now();
        let owners = config.users.iter().map(|user| 1 + user.keys.len()).sum();
        let opening = opening(&config, ledger.as_deref(), now);
        let limiter = Arc::new(Limiter::new(config.bounds.rate_owners.max(owners), now));
        Arc::new(Live {
            floods: Floods::new(config.bounds.flood_addresses, now),
            snapshot: ArcSwap::from_pointee(snapshot(config, None, (&limiter, &opening), now)),
            limiter,
            clock,
            ledger,
            counters: Arc::default(),
            metrics,
            decisions: Decisions::default(),
            traces,
            file: OnceLock::new(),
            end: Notify::new(),
            random,
        })
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts another configuration in force; what is known of accounts with the same name is kept.
    pub fn reload(&self, config: Config) {
        let now = self.clock.now();
        // Users who are new to this process may have been known to an earlier one.
        let opening = opening(&config, self.ledger.as_deref(), now);
        let next = snapshot(config, Some(&self.snapshot.load().pool), (&self.limiter, &opening), now);
        self.snapshot.store(Arc::new(next));
    }

    /// Remembers the file that [`Live::reload_file`] reads.
    pub fn keep_file(&self, file: PathBuf) {
        let _ = self.file.set(file);
    }

    /// Whether there is such a file.
    pub fn keeps_file(&self) -> bool {
        self.file.get().is_some()
    }

    /// Reads the configuration file again: validated first, swapped whole, the last good one kept. Writes the outcome to
    /// the log.
    pub fn reload_file(&self) -> Reload {
        let Some(file) = self.file.get() else { return Reload::NoFile };
        let loaded = match Config::load(file) {
            Ok(loaded) => loaded,
            Err(faults) => {
                log::error!("reload refused, the last good configuration stays in force:\n{faults}");
                return Reload::Refused(faults);
            }
        };
        let restart_needed = loaded.config.restart_needed(&self.snapshot().config);
        for key in &restart_needed {
            log::warn!("reload: a change of `{key}` takes effect at the next start");
        }
        let accounts = loaded.config.accounts.len();
        self.reload(loaded.config);
        log::info!("reloaded {}: {accounts} accounts", file.display());
        Reload::Done { accounts, restart_needed }
    }

    /// Asks the process to end after its last request.
    pub fn drain(&self) {
        self.counters.draining.store(true, Ordering::Relaxed);
        self.end.notify_one();
    }

    /// Waits until the process was asked to end.
    pub async fn drained(&self) {
        self.end.notified().await;
    }

    /// Whether a new request would find an account.
    pub fn is_ready(&self) -> bool {
        !self.counters.draining.load(Ordering::Relaxed) && self.snapshot.load().pool.can_serve(self.clock.now())
    }

    /// The next of a sequence of well-mixed numbers (SplitMix64). Not for secrets.
    pub fn draw(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What has been spent so far, by the ledger. One that cannot be read is no reason to serve nobody, but to be told.
fn opening(config: &Config, ledger: Option<&Ledger>, now: Moment) -> Opening {
    let Some(ledger) = ledger.filter(|_| config.has_budgets()) else { return Opening::default() };
    let read = ledger.reader().and_then(|reader| Opening::read(&reader, &config.budgets.zone, now));
    read.unwrap_or_else(|error| {
        log::error!("the budgets begin at nothing, since the ledger cannot be read: {error}");
        Opening::default()
    })
}

fn snapshot(
    config: Config,
    previous: Option<&Pool>,
    (limiter, opening): (&Limiter, &Opening),
    loaded: Moment,
) -> Snapshot {
    let pool = Pool::new(&config, previous, loaded);
    restore_quotas(&pool, previous, opening);
    let keys = KeyRing::new(&config, limiter, opening);
    Snapshot { config, pool, keys, loaded }
}

/// Books with the accounts that are new to this process what an earlier one had used of their quotas.
fn restore_quotas(pool: &Pool, previous: Option<&Pool>, opening: &Opening) {
    let known: Vec<_> = previous.into_iter().flat_map(Pool::accounts).map(|account| &account.live).collect();
    for account in pool.accounts().iter().filter(|account| !account.settings.quotas.is_empty()) {
        if known.iter().any(|live| Arc::ptr_eq(live, &account.live)) {
            continue;
        }
        for (window, at, used) in opening.account(&account.settings.name) {
            account.live.restore(*window, *used, *at);
        }
    }
}
