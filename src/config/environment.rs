//! The configuration without a file: accounts from the keys in the environment.
//!
//! Listens on loopback only and asks callers for no key. Reads no base URLs from the environment: a member's machine
//! has those variables pointed at this very gateway.

use super::{
    AccountSettings, Config, Fault, Faults, Http2, Limits, Loaded, ModelRule, ServerSettings, Timeouts,
    file::{default_data_dir, listen::DEFAULT_LISTEN},
    reader::Surroundings,
    secret::Secret,
};
use crate::provider::Provider;
use std::sync::Arc;

/// A second name under which a provider's SDK takes its key, when the first is not set.
const OTHER_NAMES: [(&str, &str); 1] = [("GEMINI_API_KEY", "GOOGLE_API_KEY")];

/// Which models belong to a provider, needed only where several have a key. One that is not named here serves
/// anything, after those that are.
const MODELS: [(&str, &[&str]); 6] = [
    (
        "openai",
        &[
            "gpt-",
            "chatgpt-",
            "codex-",
            "o1",
            "o3",
            "o4",
            "text-embedding-3",
            "text-embedding-ada",
            "text-moderation-",
            "omni-moderation-",
            "whisper-",
            "tts-",
            "dall-e-",
        ],
    ),
    ("anthropic", &["claude-"]),
    ("gemini", &["gemini-", "gemma-", "imagen-", "embedding-", "text-embedding-0"]),
    ("deepseek", &["deepseek-"]),
    ("mistral", &["mistral-", "ministral-", "magistral-", "codestral-", "devstral-", "pixtral-"]),
    ("xai", &["grok-"]),
];

/// Builds the configuration, or says which variables would do.
pub(super) fn config(surroundings: &Surroundings<'_>) -> Result<Loaded, Faults> {
    let key_of = |provider: &dyn Provider| key(surroundings, provider);
    let found = surroundings.providers.iter().filter_map(|provider| Some((*provider, key_of(*provider)?)));
    let found = found.collect::<Vec<_>>();
    let several = found.iter().filter(|(provider, _)| provider.default_base_url().is_some()).count() > 1;
    let mut accounts = Vec::new();
    let mut warnings = Vec::new();
    for (provider, key) in found {
        match account(provider, key, several) {
            Ok(account) => accounts.push(Arc::new(account)),
            Err(message) => warnings.push(Fault::general(message)),
        }
    }
    if accounts.is_empty() {
        return Err(no_account(surroundings, warnings));
    }
    let data_dir = default_data_dir(surroundings.environment);
    let server = ServerSettings { upgrade_socket: data_dir.join("upgrade.sock"), ..ServerSettings::default() };
    let config = Config {
        listen: vec![DEFAULT_LISTEN],
        tls: None,
        admin: None,
        data_dir,
        accounts,
        models: Vec::new(),
        open: true,
        users: Vec::new(),
        timeouts: Timeouts::default(),
        failover: Default::default(),
        cooldown: Default::default(),
        streams: Default::default(),
        bounds: Default::default(),
        budgets: Default::default(),
        client_address: Default::default(),
        queue: Default::default(),
        affinity: Default::default(),
        headers: Default::default(),
        server,
        translation: Default::default(),
        prices: super::file::built_in_prices(),
        ledger: Default::default(),
        log: Default::default(),
        metrics: Default::default(),
        explain: Default::default(),
        traces: None,
    };
    Ok(Loaded { config, warnings })
}

fn key(surroundings: &Surroundings<'_>, provider: &dyn Provider) -> Option<String> {
    let set =
        |name: &str| (surroundings.environment)(name).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    let name = provider.key_env()?;
    let other = OTHER_NAMES.iter().find(|(first, _)| *first == name).map(|(_, second)| *second);
    set(name).or_else(|| set(other?))
}

fn account(provider: &'static dyn Provider, key: String, several: bool) -> Result<AccountSettings, String> {
    let name = provider.name();
    let variable = provider.key_env().unwrap_or("its key");
    let Some(default) = provider.default_base_url() else {
        return Err(format!("{variable} is set, but {name} has no address of its own: it needs a configuration file"));
    };
    if http::HeaderValue::from_str(&key).is_err() {
        return Err(format!("{variable} holds a line break or a control character and is not used"));
    }
    let known = MODELS.iter().filter(|_| several).find(|(provider, _)| *provider == name);
    let prefixes = known.map_or(&[][..], |(_, prefixes)| prefixes);
    Ok(AccountSettings {
        name: name.to_owned(),
        provider,
        base_url: provider.base_url(default).map_err(|message| format!("{name}: {message}"))?,
        api_key: Some(Secret::new(key)),
        grant: None,
        priority: if several && prefixes.is_empty() { 2 } else { 1 },
        weight: 1,
        models: prefixes.iter().map(|prefix| ModelRule::Prefix((*prefix).to_owned())).collect(),
        formats: provider.formats().to_vec(),
        limits: Limits::default(),
        quotas: Vec::new(),
        timeouts: Timeouts::default(),
        headers: Vec::new(),
        http2: Http2::default(),
        proxy: None,
    })
}

fn no_account(surroundings: &Surroundings<'_>, mut faults: Vec<Fault>) -> Faults {
    let with_address = surroundings.providers.iter().filter(|provider| provider.default_base_url().is_some());
    let mut names = Vec::new();
    for name in with_address.filter_map(|provider| provider.key_env()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    faults.push(Fault::general(format!(
        "no provider key is set: give a configuration file with -c, or set one of {}",
        names.join(", ")
    )));
    Faults { source: "environment".to_owned(), faults }
}
