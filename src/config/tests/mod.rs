//! What the configuration as a whole promises, tested through its entry points.

mod faults;
mod mangled;
mod meaning;
mod reference;
mod secrets;

use super::*;
use crate::{
    provider::{BaseUrl, Call, Provider},
    wire::{Endpoint, WireFormat},
};
use std::fs;

/// A provider that depends on no row of the real table.
#[derive(Debug)]
struct Double {
    name: &'static str,
    formats: &'static [WireFormat],
    default: Option<&'static str>,
    key_env: Option<&'static str>,
}

impl Provider for Double {
    fn name(&self) -> &'static str {
        self.name
    }
    fn formats(&self) -> &'static [WireFormat] {
        self.formats
    }
    fn default_base_url(&self) -> Option<&'static str> {
        self.default
    }
    fn key_env(&self) -> Option<&'static str> {
        self.key_env
    }
    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        let bad = || format!("{text:?} is not a URL");
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        let port = port.parse().map_err(|_| bad())?;
        Ok(BaseUrl { tls: scheme == "https", host: host.into(), port, prefix: prefix.into(), query: String::new() })
    }
    fn path(&self, _: &BaseUrl, call: &Call<'_>) -> Option<String> {
        let responses_too = self.name == "openai-compatible" && *call.endpoint == Endpoint::Responses;
        (self.formats.contains(&call.endpoint.format()) || responses_too).then(String::new)
    }
    fn models_path(&self, _: &BaseUrl) -> String {
        String::new()
    }
    fn credential(&self, key: &str) -> (http::HeaderName, String) {
        (http::header::AUTHORIZATION, key.to_owned())
    }
}

const DOUBLES: &[&'static dyn Provider] = &[
    &Double {
        name: "openai",
        formats: &[WireFormat::OpenaiResponses, WireFormat::OpenaiChat],
        default: Some("https://api.openai.com/v1"),
        key_env: Some("OPENAI_API_KEY"),
    },
    &Double {
        name: "anthropic",
        formats: &[WireFormat::Anthropic],
        default: Some("https://api.anthropic.com"),
        key_env: Some("ANTHROPIC_API_KEY"),
    },
    &Double {
        name: "gemini",
        formats: &[WireFormat::Gemini],
        default: Some("https://generativelanguage.googleapis.com"),
        key_env: Some("GEMINI_API_KEY"),
    },
    &Double {
        name: "azure-openai",
        formats: &[WireFormat::OpenaiChat],
        default: None,
        key_env: Some("AZURE_OPENAI_API_KEY"),
    },
    &Double { name: "vertex", formats: &[WireFormat::Gemini], default: None, key_env: None },
    &Double { name: "openai-compatible", formats: &[WireFormat::OpenaiChat], default: None, key_env: None },
    &Double {
        name: "groq",
        formats: &[WireFormat::OpenaiChat],
        default: Some("https://api.groq.com/openai/v1"),
        key_env: Some("GROQ_API_KEY"),
    },
];

fn find_double(name: &str) -> Option<&'static dyn Provider> {
    DOUBLES.iter().copied().find(|provider| provider.name() == name)
}

fn surroundings(environment: &dyn Fn(&str) -> Option<String>) -> Surroundings<'_> {
    Surroundings { environment, providers: DOUBLES, find: find_double }
}

/// The environment of the tests.
fn variable(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("sk-from-the-environment".into()),
        "PORT" => Some("7070".into()),
        "FLAG" => Some("true".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Loaded, Faults> {
    parse_with(text, &surroundings(&variable))
}

/// The faults of a file, one in a line.
fn faults(text: &str) -> String {
    match read(text) {
        Ok(_) => String::from("(no fault)"),
        Err(faults) => faults.to_string(),
    }
}

/// An open gateway with one account, and whatever else a test adds below.
fn with(more: &str) -> String {
    format!("auth: none\naccounts:\n  - {{name: a, provider: openai, credentials: {{api_key: k}}}}\n{more}")
}

/// One account with the keys that a test gives it, at 3:5 and below.
fn account(keys: &str) -> String {
    format!("auth: none\naccounts:\n  - {keys}")
}

fn shared(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    let text = fs::read_to_string(path).ok();
    if text.is_none() {
        println!("skipped: {name}: shared traffic not present");
    }
    text
}

/// The JSON of a service account, with a key that opens nothing.
fn robot() -> String {
    let (kind, body) = ("PRIVATE KEY", include_str!("../../../tests/support/rsa2048.txt"));
    let pem = format!("-----BEGIN {kind}-----\n{body}-----END {kind}-----\n").replace('\n', "\\n");
    format!(
        r#"{{"type": "service_account", "private_key_id": "k1", "private_key": "{pem}", "client_id": "1",
            "client_email": "robot@p.iam.gserviceaccount.com", "universe_domain": "googleapis.com"}}"#
    )
}

/// A directory with the files that the reference names, gone when dropped.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Files {
        let directory = std::env::temp_dir().join(format!("sub2api-config-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cert.pem"), "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
            .unwrap();
        fs::write(directory.join("key.pem"), "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n")
            .unwrap();
        fs::write(
            directory.join("prices.yaml"),
            "- { models: [m], source: contract, date: 2026-11-25, input: 1, output: 2 }\n",
        )
        .unwrap();
        fs::write(directory.join("admin.key"), "sk-admin-0123456789abcdef\n").unwrap();
        fs::write(directory.join("anthropic-key"), "sk-ant-from-systemd\r\n").unwrap();
        fs::write(directory.join("empty"), "\n").unwrap();
        fs::write(directory.join("robot.json"), robot()).unwrap();
        fs::write(directory.join("refresh-token"), "rt-from-a-file\n").unwrap();
        fs::write(directory.join("two-lines"), "sk-one\nsk-two\n").unwrap();
        Files(directory)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The text with its paths in `/etc/sub2api` moved here.
    fn read(&self, text: &str) -> Result<Loaded, Faults> {
        let directory = self.path().to_owned();
        let environment = move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.clone());
        parse_with(&text.replace("/etc/sub2api", self.path()), &surroundings(&environment))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
