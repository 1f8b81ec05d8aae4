//! Hides in a provider's error text what is the account's own affair: its key, its organisation, a private address.
//!
//! Providers repeat such things in answers that are otherwise meant for the caller. Invariant: what is hidden is replaced
//! byte by byte, so that an answer keeps its length; where there is nothing to hide, the very same bytes go on.

use crate::config::{AccountSettings, secret::Secret};
use bytes::Bytes;
use memchr::memmem;
use std::ops::Range;

/// Beginnings of identifiers by which OpenAI, those like it and Google name keys and whom they belong to.
const MARKS: [&str; 6] = ["org-", "proj_", "projects/", "sk-", "sk_", "gsk_"];
/// Anything shorter behind such a beginning is a word, not an identifier.
const SHORTEST: usize = 8;

/// The error text as a caller may see it.
pub(super) fn hide(text: Bytes, account: &AccountSettings, bearer: Option<&Secret>) -> Bytes {
    let mut places: Vec<Range<usize>> = MARKS.iter().flat_map(|mark| identifiers(&text, mark)).collect();
    let key = account.api_key.as_ref().or(bearer).map(Secret::expose).unwrap_or_default();
    let email = account.grant.as_ref().and_then(|grant| grant.email()).unwrap_or_default();
    let host = if is_private(account) { account.base_url.host.as_str() } else { "" };
    for secret in [key, host, email].into_iter().filter(|secret| secret.len() >= 4) {
        places.extend(memmem::find_iter(&text, secret).map(|at| at..at + secret.len()));
    }
    if places.is_empty() {
        return text;
    }
    let mut hidden = text.to_vec();
    for place in places {
        if let Some(secret) = hidden.get_mut(place) {
            secret.fill(b'*');
        }
    }
    hidden.into()
}

/// Whether the account's address is its operator's, not one that the whole world knows.
fn is_private(account: &AccountSettings) -> bool {
    let public = account.provider.default_base_url().and_then(|text| account.provider.base_url(text).ok());
    public.is_none_or(|public| public.host != account.base_url.host)
}

/// The identifiers that begin with `mark`, without it.
fn identifiers(text: &[u8], mark: &'static str) -> Vec<Range<usize>> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
    let mut found = Vec::new();
    for at in memmem::find_iter(text, mark) {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        let start = at + mark.len();
        let length = text.get(start..).unwrap_or_default().iter().take_while(|byte| is_part(byte)).count();
        if length >= SHORTEST && !before.is_some_and(is_part) {
            found.push(start..start + length);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn hidden(text: &'static str, provider: &str, url: &str) -> String {
        let yaml = format!(
            "auth: none\naccounts: [ {{ name: a, provider: {provider}, base_url: \"{url}\", credentials: {{ api_key: the-key-1 }} }} ]"
        );
        let config = Config::parse(&yaml, &|_| None).unwrap().config;
        String::from_utf8(hide(Bytes::from_static(text.as_bytes()), &config.accounts[0], None).to_vec()).unwrap()
    }

    #[test]
    fn keys_organisations_and_private_hosts_are_hidden_and_the_length_stays() {
        for (text, expected) in [
            ("Limit in organization org-AbCdEfGh12345 on tokens", "Limit in organization org-************* on tokens"),
            ("Project `proj_AbCdEfGh12` has no access", "Project `proj_**********` has no access"),
            ("denied on projects/my-project-12/locations/x", "denied on projects/*************/locations/x"),
            ("bad key: sk-proj-abc***xyz.", "bad key: sk-**************."),
            ("the-key-1 is wrong", "********* is wrong"),
            ("no route to llm.internal:8000", "no route to ************:8000"),
        ] {
            assert_eq!(hidden(text, "openai", "https://llm.internal:8000"), expected);
        }
    }

    #[test]
    fn what_is_no_secret_is_left_alone() {
        for text in [
            "max_tokens: must be positive",
            "see https://api.openai.com/docs",
            "cyborg-assistants are not supported",
            "the risk-assessment-model does not exist",
            "org-chart",
        ] {
            assert_eq!(hidden(text, "openai", "https://api.openai.com/v1"), text);
        }
    }
}
