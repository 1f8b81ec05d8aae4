//! The configuration as it is meant: valid by construction, secrets resolved, defaults filled in.
//!
//! `file` has the YAML's shape; `Config::load` turns one into the other and reports every fault at once.

pub mod secret;

use crate::{
    provider::{BaseUrl, Provider},
    wire::WireFormat,
};
use secret::Secret;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

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
    /// Waiting for a free account.
    pub queue: Queue,
    /// Header allow-lists.
    pub headers: HeaderRules,
    /// Process-wide settings.
    pub server: ServerSettings,
    /// The log.
    pub log: LogSettings,
}

/// TLS of the client listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// Its key.
    pub key: Secret,
}

/// An upstream account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Unique name; never shown to callers.
    pub name: String,
    /// Whose account it is.
    pub provider: &'static dyn Provider,
    /// Where its calls go.
    pub base_url: BaseUrl,
    /// Its key; `None` for servers that want none.
    pub api_key: Option<Secret>,
    /// Lower is tried first.
    pub priority: u32,
    /// Share among accounts of the same priority, at least 1.
    pub weight: u32,
    /// Models served; empty means all.
    pub models: Vec<ModelRule>,
    /// Wire formats spoken, the preferred one first.
    pub formats: Vec<WireFormat>,
    /// Limits.
    pub limits: Limits,
    /// Quotas.
    pub quotas: Vec<Quota>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Extra request headers.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// Which HTTP versions to speak.
    pub http2: Http2,
}

/// Which HTTP version an upstream is spoken to with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/2 always, without TLS by prior knowledge.
    Always,
    /// HTTP/1.1 always.
    Never,
}

/// Which models an account serves, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRule {
    /// One model by name.
    Exact(String),
    /// All models whose name begins so (`gpt-*`).
    Prefix(String),
    /// A name of our own for one of the upstream's models.
    Alias {
        /// What clients ask for.
        name: String,
        /// What the upstream calls it.
        upstream: String,
    },
}

impl ModelRule {
    /// The upstream's name for `model`, if this rule covers it.
    pub fn upstream_name<'a>(&'a self, model: &'a str) -> Option<&'a str> {
        match self {
            ModelRule::Exact(name) => (name == model).then_some(model),
            ModelRule::Prefix(prefix) => model.starts_with(prefix.as_str()).then_some(model),
            ModelRule::Alias { name, upstream } => (name == model).then_some(upstream.as_str()),
        }
    }
}

/// Limits of an account or a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub rpm: Option<u64>,
    /// Tokens per minute.
    pub tpm: Option<u64>,
    /// Requests at the same time.
    pub concurrency: Option<u32>,
}

/// The window of a quota or budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Five hours, from the first use.
    FiveHours,
    /// A calendar day.
    Day,
    /// A calendar week.
    Week,
    /// A calendar month.
    Month,
    /// For ever.
    Total,
}

/// A quota of an account, or a budget of a user: at least one of the three amounts is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Its window.
    pub window: Window,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Requests.
    pub requests: Option<u64>,
    /// Money, in nano-dollars.
    pub cost_nanos: Option<u64>,
}

/// A model name of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelAlias {
    /// What clients ask for.
    pub name: String,
    /// What is tried, in order.
    pub targets: Vec<Target>,
}

/// One target of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Only this account, if named.
    pub account: Option<String>,
    /// The model.
    pub model: String,
}

/// A user.
#[derive(Clone, Debug)]
pub struct UserSettings {
    /// Unique name.
    pub name: String,
    /// SHA-256 of each key.
    pub keys: Vec<KeySettings>,
    /// Models allowed (exact or `prefix*`); empty means all.
    pub models: Vec<String>,
    /// Limits.
    pub limits: Limits,
    /// Budgets.
    pub budgets: Vec<Quota>,
    /// Whether the user is switched off.
    pub disabled: bool,
    /// When the user's keys end, as milliseconds since 1970.
    pub expires_unix_millis: Option<u64>,
}

/// One key of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Whether this key is switched off.
    pub disabled: bool,
    /// When this key ends, as milliseconds since 1970.
    pub expires_unix_millis: Option<u64>,
}

/// Time limits of an upstream call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, TLS included. Default 10 s.
    pub connect: Duration,
    /// From the start of an attempt to the first content of the answer. Default 120 s for whole replies and streams alike.
    pub first_byte: Duration,
    /// The same for an answer that is not streamed, where it is all the thinking. Default 10 min; `first_byte` where only that is set.
    pub whole: Duration,
    /// Between two pieces of the answer. Default 120 s.
    pub idle: Duration,
    /// For the whole request, all attempts together. Default 30 min.
    pub total: Duration,
}

/// How often and how long a request tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Attempts at most, the first included. Default 6.
    pub attempts: u32,
    /// No new attempt begins after this time. Default 120 s.
    pub within: Duration,
}

/// How long failing accounts are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// First pause after a rate limit without a told time, or after an overload. Default 1 s, doubling.
    pub base: Duration,
    /// Longest such pause. Default 60 s.
    pub max: Duration,
    /// Longest pause that a provider's own word can ask for. Default 1 h.
    pub told_max: Duration,
    /// Pause after "credit or quota used up" without a told time. Default 1 h.
    pub money: Duration,
}

/// Streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// A keep-alive is sent after this silence. Default 15 s; zero switches it off.
    pub ping: Duration,
    /// The most bytes held back before the first content. Default 256 KiB.
    pub hold_bytes: usize,
    /// The most bytes of a whole reply that are held until its end, so that a broken one can still fail over. Default 1 MiB.
    pub whole_hold_bytes: usize,
    /// A longer event passes in pieces. Default 256 KiB.
    pub event_bytes: usize,
}

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest request body. Default 64 MiB.
    pub body_bytes: usize,
    /// All request bodies in flight together. Default 512 MiB.
    pub bodies_in_flight_bytes: usize,
    /// Largest header section of a request. Default 64 KiB.
    pub header_bytes: usize,
    /// Most headers of a request. Default 100.
    pub header_count: usize,
    /// Client connections. Default 10 000.
    pub connections: usize,
    /// Requests at the same time. Default 5 000.
    pub requests: usize,
    /// Concurrent HTTP/2 streams on one client connection. Default 100.
    pub streams_per_connection: u32,
    /// Time that a client may take between two pieces of its request. Default 60 s.
    pub client_read: Duration,
    /// Time that a client may take to accept a piece of the answer. Default 60 s.
    pub client_write: Duration,
}

/// Waiting for a free account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests that may wait. Default 1 000.
    pub length: usize,
    /// How long one waits at most. Default 30 s.
    pub timeout: Duration,
    /// A cooldown that ends within this time is waited for instead of refusing. Default 5 s.
    pub cooldown: Duration,
}

/// Header allow-lists: names in lower case, a `*` at the end matches any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRules {
    /// Request headers that reach a provider.
    pub request: Vec<String>,
    /// Reply headers that reach a client.
    pub response: Vec<String>,
}

/// Process-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Worker threads. Default: the number of cores.
    pub threads: usize,
    /// Idle upstream connections kept. Default 256.
    pub upstream_keepalive: usize,
    /// The socket over which listeners are handed to a new process. Default `{data_dir}/upgrade.sock`.
    pub upgrade_socket: PathBuf,
    /// Longest wait for streams in flight at shutdown or upgrade. Default 30 min.
    pub drain: Duration,
    /// PEM file with additional root certificates for upstreams.
    pub ca_file: Option<PathBuf>,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Whether lines are JSON.
    pub json: bool,
    /// Least level shown.
    pub level: log::LevelFilter,
}

impl Config {
    /// Whether an account serves this model, and under which name.
    pub fn upstream_name<'a>(account: &'a AccountSettings, model: &'a str) -> Option<&'a str> {
        if account.models.is_empty() {
            return Some(model);
        }
        account.models.iter().find_map(|rule| rule.upstream_name(model))
    }
}
