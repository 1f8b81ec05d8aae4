//! One entry of `accounts`.

use super::{
    common::{limits, model, model_or_prefix, name, quota, secret},
    credentials::{Credentials, credentials},
    tuning,
};
use crate::{
    config::{
        AccountSettings, HeaderRules, Http2, ModelRule, Proxy, Timeouts,
        reader::{Item, Section},
        secret::Secret,
    },
    provider::{BaseUrl, Call, Provider},
    wire::{Endpoint, FORMATS, WireFormat},
};
use http::HeaderName;
use std::{collections::HashSet, sync::Arc};

/// An account as it was read, for the checks across sections also where something in it is at fault.
pub(super) struct ReadAccount<'r> {
    /// Its name with its place.
    pub(super) name: Option<(Item<'r>, &'r str)>,
    /// Its models; `None` where they are at fault.
    pub(super) rules: Option<Vec<ModelRule>>,
    /// Where its calls go, with the place that says so.
    pub(super) base_url: Option<(Item<'r>, BaseUrl)>,
    /// The account, where nothing in it is at fault.
    pub(super) settings: Option<AccountSettings>,
}

impl ReadAccount<'_> {
    /// Whether the account serves a model; one whose models are at fault is given the benefit of the doubt.
    pub(super) fn may_serve(&self, model: &str) -> bool {
        let Some(rules) = &self.rules else { return true };
        rules.is_empty() || rules.iter().any(|rule| rule.upstream_name(model).is_some())
    }
}

/// Reads an account; `defaults` are the global timeouts.
pub(super) fn account<'r>(item: &Item<'r>, defaults: Timeouts) -> Option<ReadAccount<'r>> {
    let mut section = item.section()?;
    let name = section.required("name", |item| Some((item.clone(), name(item)?)));
    let provider = section.required("provider", provider);
    let base_url = base_url(&mut section, provider);
    let Credentials { api_key, grant } = credentials(&mut section, provider);
    let priority = section.optional("priority", |item| item.count(0..=u64::from(u32::MAX))).unwrap_or(1);
    let weight = section.optional("weight", |item| item.count(1..=1_000_000)).unwrap_or(1);
    let rules = section.find("models").map_or(Some(Vec::new()), |item| model_rules(&item));
    let formats = formats(&mut section, provider, base_url.as_ref().map(|(_, url)| url));
    let limits = section.optional("limits", limits).unwrap_or_default();
    let quotas = section.list("quotas", quota);
    let timeouts = section.optional("timeouts", |item| tuning::timeouts(item, defaults)).unwrap_or(defaults);
    let headers = section.optional("headers", extra_headers).unwrap_or_default();
    let http2 = section.optional("http2", http2).unwrap_or_default();
    let proxy = section.optional("proxy", proxy);
    let item = section.done();
    warn_of_clear_text(&item, base_url.as_ref(), api_key.is_some() || grant.is_some());
    let settings = match (&name, provider, &base_url, &rules) {
        (Some((_, name)), Some(provider), Some((_, base_url)), Some(rules)) => Some(AccountSettings {
            name: (*name).to_owned(),
            provider,
            base_url: base_url.clone(),
            api_key,
            grant,
            priority,
            weight,
            models: rules.clone(),
            formats,
            limits,
            quotas,
            timeouts,
            headers,
            http2,
            proxy,
        }),
        _ => None,
    };
    Some(ReadAccount { name, rules, base_url, settings })
}

fn provider(item: &Item<'_>) -> Option<&'static dyn Provider> {
    let name = item.text()?;
    let surroundings = item.reader.surroundings;
    (surroundings.find)(name).or_else(|| {
        let names = surroundings.providers.iter().map(|provider| provider.name()).collect::<Vec<_>>();
        let near = item.suggestion(names.iter().copied());
        let list = if near.is_empty() { format!("; known: {}", names.join(", ")) } else { near };
        item.refuse(format!("unknown provider {}{list}", item.shown()))
    })
}

fn base_url<'r>(section: &mut Section<'r>, provider: Option<&dyn Provider>) -> Option<(Item<'r>, BaseUrl)> {
    let written = section.find("base_url");
    let provider = provider?;
    let (item, text) = match (written, provider.default_base_url()) {
        (Some(item), _) => {
            let text = item.text()?;
            (item, text)
        }
        (None, Some(default)) => (section.item(), default),
        (None, None) => {
            let message = format!("`base_url` is missing: {} has no address of its own", provider.name());
            return section.item().refuse(message);
        }
    };
    let base_url = read_base_url(&item, provider, text)?;
    Some((item, base_url))
}

fn read_base_url(item: &Item<'_>, provider: &dyn Provider, text: &str) -> Option<BaseUrl> {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split(['/', '?', '#']).next();
    if authority.is_some_and(|authority| authority.contains('@')) {
        return item
            .refuse("holds a user name or password (the value is not shown); the key belongs into `credentials`");
    }
    // The provider's message may repeat the text, which may have come from the wrong variable: a key, perhaps.
    provider
        .base_url(text)
        .map_err(|message| {
            let hidden = !item.may_be_shown() && message.contains(text);
            item.fault(if hidden {
                "is not a URL that this provider takes (the value is not shown)".into()
            } else {
                message
            });
        })
        .ok()
}

/// The models served. Whole names come before beginnings, so that the most particular rule is found first.
fn model_rules(item: &Item<'_>) -> Option<Vec<ModelRule>> {
    let items = item.items()?;
    if items.is_empty() {
        return item.refuse("names no model; leave `models` out to serve every model");
    }
    let mut names = HashSet::new();
    let mut rules = Vec::with_capacity(items.len());
    for item in &items {
        let rule = model_rule(item);
        if rule.as_ref().is_some_and(|rule| !names.insert(written_name(rule))) {
            item.fault("this model stands in the list already");
        }
        rules.push(rule);
    }
    let mut rules = rules.into_iter().collect::<Option<Vec<_>>>()?;
    rules.sort_by_key(|rule| matches!(rule, ModelRule::Prefix(_)));
    Some(rules)
}

fn model_rule(item: &Item<'_>) -> Option<ModelRule> {
    if !item.is_map() {
        let text = model_or_prefix(item)?;
        return Some(match text.strip_suffix('*') {
            Some(prefix) => ModelRule::Prefix(prefix.to_owned()),
            None => ModelRule::Exact(text.to_owned()),
        });
    }
    let mut section = item.section()?;
    let name = section.required("name", model);
    let upstream = section.required("upstream", model);
    section.done();
    Some(ModelRule::Alias { name: name?.to_owned(), upstream: upstream?.to_owned() })
}

/// The rule's name as it was written, to find doubles.
fn written_name(rule: &ModelRule) -> String {
    match rule {
        ModelRule::Exact(name) | ModelRule::Alias { name, .. } => name.clone(),
        ModelRule::Prefix(prefix) => format!("{prefix}*"),
    }
}

/// The formats spoken: the provider's, or those that the file names, in its order. The file may name more than the
/// provider's own where the provider has a call for it: servers gain formats faster than tables do.
fn formats(section: &mut Section<'_>, provider: Option<&dyn Provider>, base: Option<&BaseUrl>) -> Vec<WireFormat> {
    let Some(item) = section.find("formats") else {
        return provider.map_or_else(Vec::new, |provider| provider.formats().to_vec());
    };
    let items = item.items();
    if items.as_ref().is_some_and(Vec::is_empty) {
        item.fault("names no format; leave `formats` out for all that the provider speaks");
    }
    let words = FORMATS.map(|format| (format.name(), format.id()));
    let is_possible = |format: WireFormat| match (provider, base) {
        (Some(provider), Some(base)) => has_call(provider, base, format),
        (None, _) | (_, None) => true,
    };
    let possible = words.iter().filter(|(_, id)| is_possible(*id)).map(|(name, _)| *name).collect::<Vec<_>>();
    let mut formats = Vec::new();
    for item in items.unwrap_or_default() {
        let Some(format) = item.choice(&words) else { continue };
        if !is_possible(format) {
            item.fault(format!("this provider can speak only {}", possible.join(", ")));
        } else if formats.contains(&format) {
            item.fault("stands in the list already");
        } else {
            formats.push(format);
        }
    }
    formats
}

/// Whether a provider has the main call of a format.
fn has_call(provider: &dyn Provider, base: &BaseUrl, format: WireFormat) -> bool {
    let endpoint = match format {
        WireFormat::OpenaiChat => Endpoint::ChatCompletions,
        WireFormat::OpenaiResponses => Endpoint::Responses,
        WireFormat::Anthropic => Endpoint::Messages,
        WireFormat::Gemini => Endpoint::GenerateContent,
    };
    let call = Call { endpoint: &endpoint, model: "any", stream: false, version: None, query: None };
    provider.formats().contains(&format) || provider.path(base, &call).is_some()
}

fn http2(item: &Item<'_>) -> Option<Http2> {
    item.choice(&[("auto", Http2::Auto), ("always", Http2::Always), ("never", Http2::Never)])
}

/// Extra headers for every call. Their values are secrets, since they often are.
pub(super) fn extra_headers(item: &Item<'_>) -> Option<Vec<(HeaderName, Secret)>> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (key, item) in item.pairs()? {
        let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else {
            item.fault("is not a header's name");
            continue;
        };
        let is_credential =
            matches!(name.as_str(), "authorization" | "api-key" | "x-api-key" | "x-goog-api-key" | "cookie");
        if HeaderRules::is_forbidden(name.as_str()) && !is_credential {
            item.fault("belongs to one connection or is set by the gateway itself");
        } else if headers.iter().any(|(other, _)| *other == name) {
            item.fault("this header is written twice");
        } else if let Some(value) = secret(&item) {
            headers.push((name, value));
        }
    }
    Some(headers)
}

fn warn_of_clear_text(item: &Item<'_>, base_url: Option<&(Item<'_>, BaseUrl)>, is_secret: bool) {
    let Some((_, url)) = base_url else { return };
    if is_secret && !url.tls && !url.is_local() {
        item.warn("the key and all requests travel unencrypted: `base_url` is http:// to another machine");
    }
}

/// The proxy: a secret, since it may hold a password.
fn proxy(item: &Item<'_>) -> Option<Arc<Proxy>> {
    let text = secret(item)?;
    match Proxy::parse(text.expose()) {
        Ok(proxy) => Some(Arc::new(proxy)),
        Err(fault) => item.refuse(format!("{fault} (the value is not shown)")),
    }
}
