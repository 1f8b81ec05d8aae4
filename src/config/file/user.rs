//! One entry of `users`, with its keys.

use super::{
    common::{limits, model_or_prefix, name, networks, quota},
    tuning::translation,
};
use crate::config::{
    KeySettings, UserSettings,
    reader::{Item, Section},
};
use std::collections::HashMap;

/// A user as it was read.
pub(super) struct ReadUser<'r> {
    /// The name with its place.
    pub(super) name: Option<(Item<'r>, &'r str)>,
    /// The models allowed, with their places.
    pub(super) models: Vec<(Item<'r>, &'r str)>,
    /// The user, where it has a name.
    pub(super) settings: Option<UserSettings>,
}

/// Where each key's hash was seen first.
pub(super) type SeenKeys = HashMap<[u8; 32], usize>;

/// Reads a user.
pub(super) fn user<'r>(item: &Item<'r>, seen: &mut SeenKeys) -> Option<ReadUser<'r>> {
    let mut section = item.section()?;
    let name = section.required("name", |item| Some((item.clone(), name(item)?)));
    let has_keys = section.find("keys").is_some_and(|keys| !keys.items().is_some_and(|items| items.is_empty()));
    let (keys, key_models) = keys(&mut section, seen);
    let models = section.find("models").map(|item| model_list(&item)).unwrap_or_default();
    let limits = section.optional("limits", limits).unwrap_or_default();
    let budgets = section.list("budgets", quota);
    let translation = section.optional("translation", translation).unwrap_or_default();
    let disabled = section.optional("disabled", Item::boolean).unwrap_or(false);
    let expires_unix_millis = section.optional("expires", Item::expiry);
    let addresses = section.optional("addresses", networks).unwrap_or_default();
    let item = section.done();
    if !has_keys {
        item.warn("has no key, so nobody can come in as this user; `sub2api key new` makes one");
    }
    let settings = name.as_ref().map(|(_, name)| UserSettings {
        name: (*name).to_owned(),
        keys,
        models: models.iter().map(|(_, pattern)| (*pattern).to_owned()).collect(),
        limits,
        addresses,
        budgets,
        translation,
        disabled,
        expires_unix_millis,
    });
    let models = [models, key_models].concat();
    Some(ReadUser { name, models, settings })
}

fn model_list<'r>(item: &Item<'r>) -> Vec<(Item<'r>, &'r str)> {
    let items = item.items();
    if items.as_ref().is_some_and(Vec::is_empty) {
        item.fault("allows no model; leave `models` out to allow every model, or write `disabled: true`");
    }
    let pattern = |item: Item<'r>| model_or_prefix(&item).map(|pattern| (item, pattern));
    items.unwrap_or_default().into_iter().filter_map(pattern).collect()
}

/// The keys, and all models that they name.
fn keys<'r>(section: &mut Section<'r>, seen: &mut SeenKeys) -> (Vec<KeySettings>, Vec<(Item<'r>, &'r str)>) {
    let (keys, models): (Vec<_>, Vec<_>) = section.list("keys", |item| key(item, seen)).into_iter().unzip();
    (keys, models.concat())
}

/// A key with the models that it names: its hash, or a mapping with the hash and more.
fn key<'r>(item: &Item<'r>, seen: &mut SeenKeys) -> Option<(KeySettings, Vec<(Item<'r>, &'r str)>)> {
    if !item.is_map() {
        let sha256 = hash(item, seen)?;
        return Some((KeySettings { sha256, ..KeySettings::default() }, Vec::new()));
    }
    let mut section = item.section()?;
    let sha256 = section.required("sha256", |item| hash(item, seen));
    let models = section.find("models").map(|item| model_list(&item)).unwrap_or_default();
    let settings = KeySettings {
        sha256: sha256.unwrap_or_default(),
        models: models.iter().map(|(_, pattern)| (*pattern).to_owned()).collect(),
        limits: section.optional("limits", limits).unwrap_or_default(),
        addresses: section.optional("addresses", networks).unwrap_or_default(),
        budgets: section.list("budgets", quota),
        disabled: section.optional("disabled", Item::boolean).unwrap_or(false),
        expires_unix_millis: section.optional("expires", Item::expiry),
    };
    section.done();
    sha256.map(|_| (settings, models))
}

/// The hash of a key, used once in the file. The text is never shown: it may be the key itself.
fn hash(item: &Item<'_>, seen: &mut SeenKeys) -> Option<[u8; 32]> {
    let text = item.text()?;
    let Some(sha256) = parse_hash(text) else {
        return item.refuse(
            "must be the hash of a key, `sha256:` and 64 hex digits, never the key itself: \
             `sub2api key new` makes a key and prints its hash",
        );
    };
    if let Some(line) = seen.get(&sha256) {
        return item.refuse(format!("this key is given to a user already, in line {line}"));
    }
    seen.insert(sha256, item.line());
    Some(sha256)
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}
