//! The providers: which wire formats they speak, where their calls go, and how a key is shown to them.
//!
//! A provider is one row in [`PROVIDERS`]; one that needs code of its own has a file. Nothing here waits.

pub mod verdict;

use crate::wire::{Endpoint, WireFormat};

/// A provider that accounts can belong to.
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// The name in configuration (`provider: anthropic`).
    fn name(&self) -> &'static str;

    /// The wire formats that it speaks, the preferred one first.
    fn formats(&self) -> &'static [WireFormat];

    /// Where its calls go when an account names no `base_url`.
    fn default_base_url(&self) -> Option<&'static str>;

    /// The environment variable that holds its key by convention.
    fn key_env(&self) -> Option<&'static str>;

    /// Reads a `base_url` as this provider's own SDK takes it; a missing or doubled version segment is understood.
    /// The error says what is wrong, for a configuration fault.
    fn base_url(&self, text: &str) -> Result<BaseUrl, String>;

    /// The path and query of a call, `None` where the provider has no such call.
    /// `model` is the upstream's name for it; `query` is the caller's own, without its key.
    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String>;

    /// The path of the call that lists the models.
    fn models_path(&self, base: &BaseUrl) -> String;

    /// The header that shows the key (name, value).
    fn credential(&self, key: &str) -> (http::HeaderName, String);

    /// Headers that must be there, set only where the client sent none (`anthropic-version` for a model listing).
    fn default_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// A call on its way to a provider.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which call.
    pub endpoint: &'a Endpoint,
    /// The upstream's name for the model.
    pub model: &'a str,
    /// The version segment of the client's Gemini path (`v1`, `v1beta`), if it had one.
    pub version: Option<&'a str>,
    /// The caller's query string without its key, if it had one.
    pub query: Option<&'a str>,
}

/// Where a provider's calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The path that all calls begin with, without a slash at its end (`/v1`, or empty).
    pub prefix: String,
    /// A fixed query string (Azure's `api-version=…`), or empty.
    pub query: String,
}

impl BaseUrl {
    /// The `Host` header's value.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Every provider.
pub static PROVIDERS: &[&dyn Provider] = &[];

/// The provider with this name.
pub fn find(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|p| p.name() == name)
}
