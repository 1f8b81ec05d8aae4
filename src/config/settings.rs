//! What an operator sets up: listeners, accounts, models and users, as they are meant.
//!
//! Valid by construction: names are unique, patterns are split, secrets are resolved.

use super::{
    grant::Grant,
    proxy::Proxy,
    secret::Secret,
    tuning::{Timeouts, Translation},
};
pub use crate::limit::terms::{Limits, Quota, Window};
use crate::{
    provider::{BaseUrl, Provider},
    wire::WireFormat,
};
use ipnet::IpNet;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

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

/// Where spans are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// The collector's OTLP/HTTP address for traces.
    pub endpoint: BaseUrl,
    /// The service's name in it. Default `sub2api`.
    pub service: String,
    /// Most finished requests that wait to be sent. Default 2 048.
    pub queue: usize,
    /// Extra headers for every export.
    pub headers: Vec<(http::HeaderName, Secret)>,
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
    /// Its key; `None` for servers that want none, and where tokens take its place.
    pub api_key: Option<Secret>,
    /// What it trades for access tokens, where it has no lasting key.
    pub grant: Option<Arc<Grant>>,
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
    /// The proxy through which all its calls leave; never gone round.
    pub proxy: Option<Arc<Proxy>>,
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
    /// Addresses that its keys may be used from; empty means all.
    pub addresses: Vec<IpNet>,
    /// Budgets.
    pub budgets: Vec<Quota>,
    /// What to do about fields that a translation cannot carry.
    pub translation: Translation,
    /// Whether the user is switched off.
    pub disabled: bool,
    /// When the user's keys end, as milliseconds since 1970.
    pub expires_unix_millis: Option<u64>,
}

/// One key of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySettings {
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Models that this key may use of its user's; empty means all of them.
    pub models: Vec<String>,
    /// Limits of this key alone.
    pub limits: Limits,
    /// Addresses that this key may be used from; empty means all of its user's.
    pub addresses: Vec<IpNet>,
    /// Budgets of this key alone.
    pub budgets: Vec<Quota>,
    /// Whether this key is switched off.
    pub disabled: bool,
    /// When this key ends, as milliseconds since 1970.
    pub expires_unix_millis: Option<u64>,
}
