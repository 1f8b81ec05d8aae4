//! The providers: which wire formats they speak, where their calls go, and how a key is shown to them.
//!
//! A provider is one row in [`PROVIDERS`]; one that needs code of its own has a file. Nothing here waits.

mod anthropic;
mod azure;
mod base_url;
mod compatible;
mod gemini;
pub mod headroom;
pub(crate) mod hint;
mod openai;
mod signs;
pub mod verdict;
mod vertex;

use crate::wire::{Endpoint, WireFormat};
use bytes::Bytes;

/// A provider that accounts can belong to.
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// The name in configuration (`provider: anthropic`).
    fn name(&self) -> &'static str;

    /// Other names that configuration may use for it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// The wire formats that its accounts speak unless they say otherwise, the preferred one first.
    fn formats(&self) -> &'static [WireFormat];

    /// Where its calls go when an account names no `base_url`.
    fn default_base_url(&self) -> Option<&'static str>;

    /// The environment variable that holds its key by convention.
    fn key_env(&self) -> Option<&'static str>;

    /// Whether it serves nobody without credentials.
    fn needs_credentials(&self) -> bool {
        self.key_env().is_some()
    }

    /// Reads a `base_url` as this provider's own SDK takes it; a missing or doubled version segment is understood.
    /// The error says what is wrong, for a configuration fault.
    fn base_url(&self, text: &str) -> Result<BaseUrl, String>;

    /// The path and query of a call, `None` where the provider has no such call.
    /// `model` is the upstream's name for it; `query` is the caller's own, without its key.
    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String>;

    /// The body of a call as this provider takes it; `body` is the call's in the provider's wire format.
    fn body(&self, _endpoint: &Endpoint, body: Bytes) -> Bytes {
        body
    }

    /// The path of the call that lists the models.
    fn models_path(&self, base: &BaseUrl) -> String;

    /// The header that shows the key (name, value).
    fn credential(&self, key: &str) -> (http::HeaderName, String);

    /// Whether it imitates another vendor's format, so that the older and simpler names of fields are safer.
    fn imitates(&self) -> bool {
        false
    }

    /// Headers that must be there, set only where the client sent none (`anthropic-version` for a model listing).
    fn default_headers(&self) -> &'static [(http::HeaderName, &'static str)] {
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
    /// Whether the answer is to be streamed, for the providers that say so in the path.
    pub stream: bool,
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
    /// Reads an `http` or `https` URL that is no provider's. The error says what is wrong, without repeating the text.
    pub fn parse(text: &str) -> Result<BaseUrl, String> {
        base_url::parse(text)
    }

    /// Path and query of the URL itself.
    pub fn target(&self) -> String {
        let path = if self.prefix.is_empty() { "/" } else { &self.prefix };
        base_url::with_query(path.to_owned(), &self.query, None, &[])
    }

    /// Whether it leads no further than this machine.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    /// The `Host` header's value.
    pub fn authority(&self) -> String {
        let mut authority = String::with_capacity(self.host.len() + "[]:65535".len());
        match self.host.contains(':') {
            true => authority.extend(["[", &self.host, "]"]),
            false => authority.push_str(&self.host),
        }
        if !matches!((self.tls, self.port), (true, 443) | (false, 80)) {
            authority.extend([":", itoa::Buffer::new().format(self.port)]);
        }
        authority
    }
}

/// Reads an `http` or `https` URL without a query, such as a collector's. The error is a sentence for a configuration fault.
pub fn plain_url(text: &str) -> Result<BaseUrl, String> {
    base_url::without_query(base_url::parse(text)?)
}

/// Every provider, in the order of the table in `docs/accounts.md`.
pub static PROVIDERS: &[&dyn Provider] = &[
    &anthropic::Anthropic,
    &openai::Openai,
    &gemini::Gemini,
    &azure::Azure,
    &vertex::Vertex,
    &vertex::VertexAnthropic,
    &compatible::OPENAI_COMPATIBLE,
    &compatible::DEEPSEEK,
    &compatible::GROQ,
    &compatible::MISTRAL,
    &compatible::XAI,
    &compatible::OPENROUTER,
    &compatible::TOGETHER,
    &compatible::FIREWORKS,
    &compatible::CEREBRAS,
    &compatible::PERPLEXITY,
    &compatible::MOONSHOT,
    &compatible::ZAI,
    &compatible::OLLAMA,
    &compatible::VLLM,
    &compatible::LLAMA_CPP,
    &compatible::LMSTUDIO,
];

/// Whether a `name=value` of a query has this name, in whatever spelling.
pub(crate) fn is_named(pair: &str, name: &str) -> bool {
    base_url::is_named(pair, name)
}

/// The provider with this name or alias.
pub fn find(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|p| p.name() == name || p.aliases().contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_name_and_alias_finds_exactly_one_provider() {
        let mut seen = HashSet::new();
        for provider in PROVIDERS {
            for name in provider.aliases().iter().chain([&provider.name()]) {
                assert!(seen.insert(*name), "{name} is taken twice");
                assert_eq!(find(name).map(|p| p.name()), Some(provider.name()), "{name}");
            }
        }
        assert!(find("llama.cpp").is_some() && find("llama-cpp").is_some());
        assert!(find("OpenAI").is_none() && find("").is_none());
    }

    #[test]
    fn the_operators_table_says_what_the_rows_say() {
        let page = include_str!("../../docs/accounts.md");
        let shown = |format: &WireFormat| match format {
            WireFormat::OpenaiChat => "Chat Completions",
            WireFormat::OpenaiResponses => "Responses",
            WireFormat::Anthropic => "Messages",
            WireFormat::Gemini => "Gemini",
        };
        for provider in PROVIDERS {
            let beginning = format!("| `{}`", provider.name());
            let row = page.lines().find(|line| line.starts_with(&beginning)).unwrap_or_else(|| panic!("{beginning}"));
            for said in provider.aliases().iter().copied().chain(provider.default_base_url()).chain(provider.key_env())
            {
                assert!(row.contains(&format!("`{said}`")), "{row}: {said}");
            }
            let formats = provider.formats().iter().map(shown).collect::<Vec<_>>().join(", ");
            assert!(row.contains(&format!("| {formats} |")), "{row}: {formats}");
        }
    }

    #[test]
    fn every_default_base_url_is_one_that_the_provider_reads_and_keeps() {
        for provider in PROVIDERS {
            let Some(text) = provider.default_base_url() else { continue };
            let base = provider.base_url(text).unwrap_or_else(|fault| panic!("{}: {fault}", provider.name()));
            let scheme = if base.tls { "https" } else { "http" };
            let again = format!("{scheme}://{}{}", base.authority(), base.prefix);
            assert_eq!(again, text, "{}", provider.name());
            assert!(provider.models_path(&base).starts_with('/'));
        }
    }

    #[test]
    fn every_provider_offers_a_call_of_each_format_that_it_speaks() {
        let sample = "https://h.example/v1/projects/p/locations/l";
        for provider in PROVIDERS {
            let base = provider.base_url(provider.default_base_url().unwrap_or(sample)).unwrap();
            for format in provider.formats() {
                let endpoint = match format {
                    WireFormat::OpenaiChat => Endpoint::ChatCompletions,
                    WireFormat::OpenaiResponses => Endpoint::Responses,
                    WireFormat::Anthropic => Endpoint::Messages,
                    WireFormat::Gemini => Endpoint::GenerateContent,
                };
                let call = Call { endpoint: &endpoint, model: "m", stream: false, version: None, query: None };
                assert!(provider.path(&base, &call).is_some(), "{} {}", provider.name(), endpoint.name());
            }
        }
    }

    #[test]
    fn a_key_stands_in_exactly_the_header_of_its_provider() {
        for (provider, header, value) in [
            ("openai", "authorization", "Bearer k"),
            ("anthropic", "x-api-key", "k"),
            ("gemini", "x-goog-api-key", "k"),
            ("azure-openai", "api-key", "k"),
            ("groq", "authorization", "Bearer k"),
        ] {
            let (name, shown) = find(provider).unwrap().credential("k");
            assert_eq!((name.as_str(), shown.as_str()), (header, value), "{provider}");
        }
    }

    #[test]
    fn the_authority_leaves_out_only_the_default_port() {
        let authority = |text: &str| base_url::parse(text).unwrap().authority();
        assert_eq!(authority("https://h:443"), "h");
        assert_eq!(authority("https://h:80"), "h:80");
        assert_eq!(authority("http://[::1]:80"), "[::1]");
        assert_eq!(authority("http://[::1]:8080"), "[::1]:8080");
    }
}
