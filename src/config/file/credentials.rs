//! `credentials` of an account: a key, or what is traded for tokens.

use super::common::{read_secret_file, secret, secret_place};
use crate::{
    config::{
        ClientAuth, Encoding, Grant, GrantKind, RefreshToken, ServiceAccount,
        reader::{Item, Section},
        secret::Secret,
    },
    provider::{BaseUrl, Provider},
};
use std::sync::Arc;

/// What Google's model API asks for.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// How an account shows who it is: one of the two, or nothing.
#[derive(Default)]
pub(super) struct Credentials {
    /// A lasting key.
    pub(super) api_key: Option<Secret>,
    /// What is traded for tokens.
    pub(super) grant: Option<Arc<Grant>>,
}

/// Reads the section. Where the provider needs it and it is absent, that is a fault.
pub(super) fn credentials(section: &mut Section<'_>, provider: Option<&dyn Provider>) -> Credentials {
    // A server without a conventional variable for its key is one's own, and asks for a key only when told to.
    let needed = provider.is_some_and(|provider| provider.needs_credentials());
    let Some(item) = section.find("credentials") else {
        if needed {
            section.missing::<()>("credentials");
        }
        return Credentials::default();
    };
    let Some(mut section) = item.section() else { return Credentials::default() };
    let oauth = section.find("oauth");
    let google = section.find("google_service_account");
    let is_key_due = needed && oauth.is_none() && google.is_none();
    let api_key = if is_key_due { section.required("api_key", secret) } else { section.optional("api_key", secret) };
    let several = [section.has_value("api_key"), oauth.is_some(), google.is_some()];
    section.done();
    if several.into_iter().filter(|is_there| *is_there).count() > 1 {
        item.fault("holds more than one of `api_key`, `oauth` and `google_service_account`; one of them is meant");
    }
    let grant = oauth.and_then(|item| refresh_token(&item)).or_else(|| google.and_then(|item| service_account(&item)));
    Credentials { api_key, grant: grant.map(Arc::new) }
}

/// `oauth`.
fn refresh_token(item: &Item<'_>) -> Option<Grant> {
    let mut section = item.section()?;
    let token_url = section.required("token_url", token_url);
    let client_id = section.required("client_id", Item::text);
    let client_secret = section.optional("client_secret", secret);
    let token = section.required("refresh_token", secret);
    let scope = section.optional("scope", scope);
    let auth = [("body", ClientAuth::Body), ("basic", ClientAuth::Basic)];
    let client_auth = section.optional("client_auth", |item| item.choice(&auth)).unwrap_or_default();
    let words = [("form", Encoding::Form), ("json", Encoding::Json)];
    let encoding = section.optional("encoding", |item| item.choice(&words)).unwrap_or_default();
    let item = section.done();
    if client_auth == ClientAuth::Basic && client_secret.is_none() {
        item.fault("`client_auth: basic` needs a `client_secret`");
    }
    let client_id = client_id?.to_owned();
    let kind = RefreshToken { client_id, client_secret, client_auth, encoding, token: token? };
    Some(Grant::new(token_url?, scope, GrantKind::RefreshToken(kind)))
}

/// `google_service_account`: where the JSON file is, or the JSON itself, as a text or as a mapping.
fn service_account(item: &Item<'_>) -> Option<Grant> {
    let mut own_scope = None;
    let text = if !item.is_map() {
        item.text()?.to_owned()
    } else if item.pairs()?.iter().any(|(key, _)| *key == "private_key") {
        inline(item)?
    } else {
        let mut section = item.section()?;
        own_scope = section.optional("scope", scope);
        let place = secret_place(&mut section);
        let item = section.done();
        let Some(place) = place else {
            return item.refuse("must be `{file: path}`, `{credential: name}`, or the account's JSON itself");
        };
        read_secret_file(&item, place)?
    };
    let account = match ServiceAccount::parse(&text) {
        Ok(account) => account,
        Err(fault) => return item.refuse(format!("{fault} (nothing of it is shown)")),
    };
    let Ok(token_url) = BaseUrl::parse(&account.token_uri) else {
        return item.refuse("has a `token_uri` that is no URL");
    };
    let scope = Some(own_scope.unwrap_or_else(|| GOOGLE_SCOPE.to_owned()));
    Some(Grant::new(token_url, scope, GrantKind::ServiceAccount(account)))
}

/// The account's JSON as it stands in the YAML. It is Google's: fields that nobody reads here are no faults.
fn inline(item: &Item<'_>) -> Option<String> {
    let mut object = serde_json::Map::new();
    for (key, item) in item.pairs()? {
        object.insert(key.to_owned(), item.text()?.into());
    }
    Some(serde_json::Value::Object(object).to_string())
}

fn token_url(item: &Item<'_>) -> Option<BaseUrl> {
    match BaseUrl::parse(item.text()?) {
        Ok(url) => {
            if !url.tls && !url.is_local() {
                item.warn("tokens travel unencrypted: this is http:// to another machine");
            }
            Some(url)
        }
        Err(fault) => item.refuse(fault),
    }
}

/// Scopes (RFC 6749, section 3.3): words with single spaces between them.
fn scope(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if !text.split(' ').all(is_word) {
        return item.refuse("must be scopes with single spaces between them");
    }
    Some(text.to_owned())
}
