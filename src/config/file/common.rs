//! Values that occur in several sections: names, patterns, limits, quotas, secrets.

use crate::config::{
    Limits, Quota, Window,
    reader::{Item, Section},
    secret::Secret,
};
use ipnet::IpNet;
use std::{collections::HashMap, fs::File, io::Read, net::IpAddr, path::Path};

/// The largest file that a secret is read from.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// The name of an account or user: it appears in logs and metrics, so it is short and one word.
pub(super) fn name<'r>(item: &Item<'r>) -> Option<&'r str> {
    let text = item.text()?;
    let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | '`');
    if text.chars().count() > 64 || text.contains(bad) {
        return item.refuse("must be one word of at most 64 characters, without spaces, quotes and backslashes");
    }
    Some(text)
}

/// A model's name, without a pattern.
pub(super) fn model<'r>(item: &Item<'r>) -> Option<&'r str> {
    let text = item.text()?;
    if text.contains('*') {
        return item.refuse("must be one model's name; a pattern with `*` is not possible here");
    }
    model_or_prefix(item)
}

/// A model's name, or the beginning of names (`gpt-*`).
pub(super) fn model_or_prefix<'r>(item: &Item<'r>) -> Option<&'r str> {
    let text = item.text()?;
    if text.len() > 256 || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return item.refuse("must be a model's name: at most 256 bytes, without spaces");
    }
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        return item.refuse("`*` may stand only at the end (`gpt-*`)");
    }
    Some(text)
}

/// `{rpm, tpm, concurrency}`.
pub(super) fn limits(item: &Item<'_>) -> Option<Limits> {
    let mut section = item.section()?;
    let limits = Limits {
        rpm: section.optional("rpm", |item| item.count(1..=u64::MAX)),
        tpm: section.optional("tpm", |item| item.count(1..=u64::MAX)),
        concurrency: section.optional("concurrency", |item| item.count(1..=u64::from(u32::MAX))),
    };
    section.done();
    Some(limits)
}

/// `{window, tokens, requests, cost_usd}`.
pub(super) fn quota(item: &Item<'_>) -> Option<Quota> {
    const WINDOWS: [(&str, Window); 5] = [
        ("5h", Window::FiveHours),
        ("day", Window::Day),
        ("week", Window::Week),
        ("month", Window::Month),
        ("total", Window::Total),
    ];
    let mut section = item.section()?;
    let window = section.required("window", |item| item.choice(&WINDOWS));
    let amounts = ["tokens", "requests", "cost_usd"].map(|key| section.find(key));
    section.done();
    if amounts.iter().all(Option::is_none) {
        return item.refuse("names no amount: give `tokens`, `requests` or `cost_usd`");
    }
    let [tokens, requests, cost_usd] = &amounts;
    let tokens = tokens.as_ref().map(|item| item.count(1..=u64::MAX));
    let requests = requests.as_ref().map(|item| item.count(1..=u64::MAX));
    let cost_nanos = cost_usd.as_ref().map(Item::dollars);
    Some(Quota {
        window: window?,
        tokens: tokens.flatten(),
        requests: requests.flatten(),
        cost_nanos: cost_nanos.flatten(),
    })
}

/// Networks: `10.0.0.0/8`, `2001:db8::/32`, or one address.
pub(super) fn networks(item: &Item<'_>) -> Option<Vec<IpNet>> {
    let items = item.items()?;
    if items.is_empty() {
        return item.refuse("names no address; leave it out where every address is meant");
    }
    Some(items.iter().filter_map(network).collect())
}

fn network(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text()?;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        return item.refuse(format!(
            "must be an address or a network such as 10.0.0.0/8 or 2001:db8::/32, not {}",
            item.shown()
        ));
    };
    let trimmed = network.trunc();
    if trimmed != network {
        return item.refuse(format!("has bits behind the network's end; {trimmed} is meant, or another length"));
    }
    Some(network)
}

/// A secret: a text, `{file: path}` or `{credential: name}` (systemd).
pub(super) fn secret(item: &Item<'_>) -> Option<Secret> {
    if !item.is_map() {
        return usable(item, item.text()?);
    }
    let mut section = item.section()?;
    let place = secret_place(&mut section);
    section.done();
    let Some(place) = place else {
        return item.refuse("must be a text, `{file: path}` or `{credential: name}`");
    };
    let text = read_secret_file(item, place)?;
    usable(item, text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text))
}

/// Where a secret is kept.
pub(super) enum SecretPlace<'r> {
    /// `file`.
    File(Item<'r>),
    /// `credential`.
    Credential(Item<'r>),
    /// Both were named.
    Both,
}

/// Reads `file` and `credential` of a section; nothing where neither is there.
pub(super) fn secret_place<'r>(section: &mut Section<'r>) -> Option<SecretPlace<'r>> {
    match (section.find("file"), section.find("credential")) {
        (Some(_), Some(_)) => Some(SecretPlace::Both),
        (Some(file), None) => Some(SecretPlace::File(file)),
        (None, Some(credential)) => Some(SecretPlace::Credential(credential)),
        (None, None) => None,
    }
}

/// The text of a secret's file; `item` is the secret as a whole.
pub(super) fn read_secret_file(item: &Item<'_>, place: SecretPlace<'_>) -> Option<String> {
    match place {
        SecretPlace::File(file) => text_file(&file, &file.path()?, MAX_SECRET_BYTES),
        SecretPlace::Credential(credential) => from_systemd(&credential),
        SecretPlace::Both => item.refuse("names both `file` and `credential`; one of them is meant"),
    }
}

fn from_systemd(item: &Item<'_>) -> Option<String> {
    let name = item.text()?;
    if name.contains('/') || matches!(name, "." | "..") {
        return item.refuse("must be the name of a credential, not a path");
    }
    let Some(directory) = (item.reader.surroundings.environment)("CREDENTIALS_DIRECTORY") else {
        return item.refuse(
            "systemd handed no credentials to this process (CREDENTIALS_DIRECTORY is not set); \
             the unit needs LoadCredential= or SetCredential=",
        );
    };
    text_file(item, &Path::new(&directory).join(name), MAX_SECRET_BYTES)
}

/// A secret that can travel in a header.
fn usable(item: &Item<'_>, text: &str) -> Option<Secret> {
    if text.is_empty() {
        return item.refuse("must not be empty");
    }
    if text.trim() != text || http::HeaderValue::from_str(text).is_err() {
        return item.refuse("holds a line break, a control character, or a space at an end (the value is not shown)");
    }
    Some(Secret::new(text))
}

/// The text of a small file that the configuration names.
pub(super) fn text_file(item: &Item<'_>, path: &Path, most: u64) -> Option<String> {
    let shown = if item.may_be_shown() { format!("{}: ", path.display()) } else { String::new() };
    let mut bytes = Vec::new();
    if let Err(error) = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)) {
        return item.refuse(format!("{shown}the file cannot be read: {error}"));
    }
    if bytes.len() as u64 > most {
        return item.refuse(format!("{shown}the file is larger than {} KiB", most >> 10));
    }
    String::from_utf8(bytes).or_else(|_| item.refuse(format!("{shown}the file is not UTF-8 text")).ok_or(())).ok()
}

/// Names that must differ from each other.
#[derive(Default)]
pub(super) struct Unique<'r> {
    lines: HashMap<&'r str, usize>,
}

impl<'r> Unique<'r> {
    /// Notes a fault where the name was used before.
    pub(super) fn check(&mut self, item: &Item<'r>, name: &'r str) {
        if let Some(line) = self.lines.get(name) {
            item.fault(format!("the name {} is taken already, in line {line}", item.shown()));
        } else {
            self.lines.insert(name, item.line());
        }
    }
}
