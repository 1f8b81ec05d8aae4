//! Which headers cross the gateway: allow-lists, one for each direction.
//!
//! A credential, a cookie or a hop-by-hop header is on no list: a caller's key reaches no provider, and a provider's
//! cookie no caller.

use http::{HeaderMap, HeaderName};

/// Request headers that reach a provider unless the configuration says otherwise: those that change what the answer is
/// (versions, betas), and those by which a client says what it is. Left out on purpose: `openai-organization` and
/// `openai-project`, which name the caller's own account and not the one that serves.
pub(crate) const DEFAULT_REQUEST: [&str; 26] = [
    "accept",
    "accept-language",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "content-type",
    "conversation_id",
    "http-referer",
    "idempotency-key",
    "openai-beta",
    "originator",
    "session-id",
    "session_id",
    "thread-id",
    "user-agent",
    "version",
    "x-app",
    "x-claude-code-*",
    "x-client-request-id",
    "x-codex-*",
    "x-goog-api-client",
    "x-goog-request-params",
    "x-server-timeout",
    "x-session-*",
    "x-stainless-*",
    "x-title",
];

/// Reply headers that reach a client unless the configuration says otherwise. Left out on purpose: the provider's rate
/// limits and organisation, which describe an account that callers share and must not learn about.
pub(crate) const DEFAULT_RESPONSE: [&str; 15] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "openai-model",
    "openai-processing-ms",
    "openai-version",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "vary",
    "x-models-etag",
    "x-reasoning-included",
    "x-should-retry",
];

/// Headers that never cross: credentials, cookies, what belongs to one connection, and what the gateway sets itself.
const NEVER: [&str; 21] = [
    "accept-encoding",
    "api-key",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
    "x-api-key",
    "x-goog-api-key",
    "x-request-id",
];

/// Header allow-lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRules {
    /// Request headers that reach a provider.
    pub request: AllowList,
    /// Reply headers that reach a client.
    pub response: AllowList,
}

/// The headers that may cross in one direction, in lower case: by name, or by the beginning of their names.
///
/// Made for a look-up per header of every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    /// A map without values: it finds a name fastest.
    names: HeaderMap<()>,
    beginnings: Vec<String>,
}

impl AllowList {
    /// Whether a header may cross. One that never crosses may not, though a beginning covers it.
    pub fn allows(&self, name: &HeaderName) -> bool {
        self.names.contains_key(name)
            || (self.beginnings.iter().any(|beginning| name.as_str().starts_with(beginning.as_str()))
                && !HeaderRules::is_forbidden(name.as_str()))
    }
}

impl<T: AsRef<str>> FromIterator<T> for AllowList {
    /// A list of names in lower case; a `*` at the end matches any rest. What can be no header's name matches none.
    fn from_iter<I: IntoIterator<Item = T>>(patterns: I) -> AllowList {
        let mut list = AllowList::default();
        for pattern in patterns {
            match pattern.as_ref().strip_suffix('*') {
                Some(beginning) => list.beginnings.push(beginning.to_owned()),
                None if HeaderRules::is_forbidden(pattern.as_ref()) => {}
                None => list.names.extend(HeaderName::try_from(pattern.as_ref()).ok().map(|name| (name, ()))),
            }
        }
        list.beginnings.sort_unstable();
        list.beginnings.dedup();
        list
    }
}

impl HeaderRules {
    /// Whether a header (in lower case) may never cross the gateway, whatever a list says.
    pub fn is_forbidden(name: &str) -> bool {
        NEVER.binary_search(&name).is_ok()
    }
}

impl Default for HeaderRules {
    fn default() -> Self {
        HeaderRules { request: DEFAULT_REQUEST.iter().collect(), response: DEFAULT_RESPONSE.iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str) -> HeaderName {
        HeaderName::from_static(name)
    }

    #[test]
    fn no_default_list_lets_a_credential_cross() {
        for pattern in DEFAULT_REQUEST.iter().chain(&DEFAULT_RESPONSE) {
            let beginning =
                pattern.strip_suffix('*').filter(|beginning| NEVER.iter().any(|name| name.starts_with(beginning)));
            assert_eq!(beginning, None);
            assert!(!HeaderRules::is_forbidden(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_list_names_headers_and_beginnings() {
        let list: AllowList = ["user-agent", "anthropic-*", "accept"].into_iter().collect();
        assert!(
            ["accept", "user-agent", "anthropic-beta", "anthropic-"]
                .map(|name| list.allows(&named(name)))
                .iter()
                .all(|is| *is)
        );
        assert!(
            !["accept-language", "x-anthropic", "accep", "anthropic"]
                .map(|name| list.allows(&named(name)))
                .contains(&true)
        );
    }

    #[test]
    fn no_pattern_lets_a_credential_cross() {
        let list: AllowList = ["*", "authorization", "x-*"].into_iter().collect();
        assert!(list.allows(&named("x-mine")) && list.allows(&named("anything")));
        assert!(!NEVER.iter().any(|name| list.allows(&named(name))));
    }

    #[test]
    fn the_list_that_is_searched_is_sorted() {
        assert!(NEVER.is_sorted());
        assert!(HeaderRules::is_forbidden("authorization") && HeaderRules::is_forbidden("x-api-key"));
        assert!(!HeaderRules::is_forbidden("user-agent"));
    }
}
