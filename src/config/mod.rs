//! The configuration as it is meant: valid by construction, secrets resolved, defaults filled in.
//!
//! From text to meaning in four steps: `tree` reads YAML and keeps every line number, `interpolate` puts in the
//! environment, `reader` asks for keys and collects every fault, and `file` is the schema. What comes out is a whole
//! [`Config`] or all [`Faults`] at once, never a part.

mod environment;
mod fault;
mod file;
mod grant;
mod headers;
mod interpolate;
mod proxy;
mod reader;
mod scalar;
pub mod secret;
mod service_account;
mod settings;
#[cfg(test)]
mod tests;
mod tree;
mod tuning;

use crate::{
    ledger::{LedgerSettings, PriceTable},
    provider::{self, PROVIDERS},
};
use fault::FaultList;
pub use fault::{Fault, Faults};
pub use grant::{ClientAuth, Encoding, Grant, GrantKind, RefreshToken};
pub use headers::HeaderRules;
pub use proxy::{Login, Proxy, ProxyKind};
use reader::{Reader, Surroundings};
pub use service_account::ServiceAccount;
pub use settings::{
    AccountSettings, Admin, Http2, KeySettings, Limits, ModelAlias, ModelRule, Quota, Target, Tls, TraceSettings,
    UserSettings, Window,
};
use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
pub use tuning::{
    Affinity, Bounds, BudgetSettings, ClientAddress, Cooldown, Explain, Failover, ForwardedHeader, LogSettings,
    MetricBounds, Queue, ServerSettings, Streams, Timeouts, Translation,
};

/// The largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses of the client listener.
    pub listen: Vec<SocketAddr>,
    /// Certificate and key when the client listener speaks TLS.
    pub tls: Option<Tls>,
    /// The admin listener, if any.
    pub admin: Option<Admin>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// The upstream accounts, in the file's order.
    pub accounts: Vec<Arc<AccountSettings>>,
    /// Model names of our own, with their targets.
    pub models: Vec<Arc<ModelAlias>>,
    /// `true` for `auth: none`.
    pub open: bool,
    /// The users with their keys.
    pub users: Vec<Arc<UserSettings>>,
    /// Time limits, for accounts that set none of their own.
    pub timeouts: Timeouts,
    /// How often and how long a request tries.
    pub failover: Failover,
    /// Cooldowns.
    pub cooldown: Cooldown,
    /// Streams.
    pub streams: Streams,
    /// Bounds.
    pub bounds: Bounds,
    /// How budgets are kept.
    pub budgets: BudgetSettings,
    /// Whose word about the caller's address is taken.
    pub client_address: ClientAddress,
    /// Waiting for a free account.
    pub queue: Queue,
    /// Keeping conversations on their accounts.
    pub affinity: Affinity,
    /// Header allow-lists.
    pub headers: HeaderRules,
    /// What to do about fields that a translation cannot carry.
    pub translation: Translation,
    /// What models cost.
    pub prices: Arc<PriceTable>,
    /// The ledger.
    pub ledger: LedgerSettings,
    /// Process-wide settings.
    pub server: ServerSettings,
    /// The log.
    pub log: LogSettings,
    /// The metrics' labels.
    pub metrics: MetricBounds,
    /// What is kept to explain past choices.
    pub explain: Explain,
    /// Where spans are sent; nowhere by default.
    pub traces: Option<TraceSettings>,
}

/// A configuration that was read without a fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but probably not meant, in the file's order.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Reads a file. Variables come from the process' environment.
    pub fn load(path: &Path) -> Result<Loaded, Faults> {
        let source = path.display().to_string();
        let text = read_text(path).map_err(|message| Faults { source: source.clone(), faults: vec![message] })?;
        Config::parse(&text, &|name| std::env::var(name).ok()).map_err(|faults| faults.of(source))
    }

    /// Reads a file of prices, as `prices.file` names one, and tells how many rows it has.
    pub fn load_prices(path: &Path) -> Result<usize, Faults> {
        let of = |faults| Faults { source: path.display().to_string(), faults };
        let text = read_text(path).map_err(|fault| of(vec![fault]))?;
        let environment = |name: &str| std::env::var(name).ok();
        let surroundings = Surroundings { environment: &environment, providers: PROVIDERS, find: provider::find };
        file::price_table(&text, &surroundings).map(|rules| rules.len()).map_err(of)
    }

    /// Reads a configuration from its text; `environment` looks up `${NAME}`.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Faults> {
        let surroundings = Surroundings { environment, providers: PROVIDERS, find: provider::find };
        parse_with(text, &surroundings)
    }

    /// A configuration without a file: one account for each provider whose key is in the environment, listening on
    /// loopback, open to whoever can connect to it. The fault names the variables that would do.
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Faults> {
        environment::config(&Surroundings { environment, providers: PROVIDERS, find: provider::find })
    }

    /// Where state is kept where no file says so.
    pub fn default_data_dir(environment: &dyn Fn(&str) -> Option<String>) -> PathBuf {
        file::default_data_dir(environment)
    }

    /// Whether anybody's use is counted in windows longer than a minute.
    pub fn has_budgets(&self) -> bool {
        let users =
            self.users.iter().any(|user| !user.budgets.is_empty() || user.keys.iter().any(|k| !k.budgets.is_empty()));
        users || self.accounts.iter().any(|account| !account.quotas.is_empty())
    }

    /// The keys that differ from those in force and that a reload cannot change.
    pub fn restart_needed(&self, in_force: &Config) -> Vec<&'static str> {
        let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.listen);
        [
            ("listen", self.listen != in_force.listen),
            ("tls", self.tls != in_force.tls),
            ("admin.listen", admin(self) != admin(in_force)),
            ("data_dir", self.data_dir != in_force.data_dir),
            ("ledger", self.ledger != in_force.ledger),
            ("server", self.server != in_force.server),
            ("log", self.log != in_force.log),
            ("metrics", self.metrics != in_force.metrics),
            ("traces", self.traces != in_force.traces),
            ("bounds.connections", self.bounds.connections != in_force.bounds.connections),
            ("bounds.rate_owners", self.bounds.rate_owners != in_force.bounds.rate_owners),
            ("bounds.account_models", self.bounds.account_models != in_force.bounds.account_models),
            ("bounds.account_events", self.bounds.account_events != in_force.bounds.account_events),
            ("bounds.flood_addresses", self.bounds.flood_addresses != in_force.bounds.flood_addresses),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }

    /// Whether an account serves this model, and under which name.
    pub fn upstream_name<'a>(account: &'a AccountSettings, model: &'a str) -> Option<&'a str> {
        if account.models.is_empty() {
            return Some(model);
        }
        account.models.iter().find_map(|rule| rule.upstream_name(model))
    }
}

/// Reads a configuration with other surroundings than the process has.
fn parse_with(text: &str, surroundings: &Surroundings<'_>) -> Result<Loaded, Faults> {
    const EMPTY_FILE: &str = "the file is empty; conf/sub2api.yaml shows what it can hold";
    let mut faults = FaultList::default();
    let tree = tree::parse(text, &mut faults).filter(|tree| !tree.is_null());
    let Some(mut tree) = tree else {
        if faults.is_empty() {
            faults.push(Fault { line: 1, column: 1, ..Fault::general(EMPTY_FILE) });
        }
        return Err(Faults { source: String::new(), faults: faults.into_sorted() });
    };
    interpolate::interpolate(&mut tree, surroundings.environment, &mut faults);
    let reader = Reader::new(surroundings, faults);
    let config = file::config(&reader, &tree);
    let (faults, warnings) = reader.into_parts();
    match config {
        Some(config) if faults.is_empty() => Ok(Loaded { config, warnings }),
        Some(_) | None => Err(Faults { source: String::new(), faults }),
    }
}

/// The text of a file, or the fault that keeps it from being read.
fn read_text(path: &Path) -> Result<String, Fault> {
    let unreadable = |error: std::io::Error| Fault::general(format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Fault::general(format!("larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last =
            String::from_utf8_lossy(valid.rsplit(|byte| *byte == b'\n').next().unwrap_or_default()).chars().count();
        Fault { path: String::new(), line, column: last + 1, message: "not UTF-8 from here on".to_owned() }
    })
}
