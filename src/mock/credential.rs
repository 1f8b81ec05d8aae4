//! Reads the credential of a request as its provider would, and refuses a second one.
//!
//! A gateway swaps its caller's key for the account's. If both arrive, or the key comes in another provider's header, the
//! caller's key has leaked; real providers ignore that, so only a mock can catch it.

use super::{
    Options,
    refusal::{Checked, Dialect, Refusal, ensure},
    request::Request,
    route::Route,
};

/// Where a key was found; the names are those of the log.
const PLACES: [&str; 5] = ["bearer", "x-api-key", "x-goog-api-key", "api-key", "query"];

/// Every credential in the request, by place.
pub(super) fn found(request: &Request) -> Vec<(&'static str, String)> {
    let bearer = request.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let values = [
        bearer,
        request.header("x-api-key"),
        request.header("x-goog-api-key"),
        request.header("api-key"),
        request.parameter("key"),
    ];
    let pairs = PLACES.into_iter().zip(values);
    pairs.filter_map(|(place, value)| Some((place, value.filter(|v| !v.is_empty())?.to_owned()))).collect()
}

/// The key that this provider goes by.
///
/// # Errors
/// The provider's own answer to a missing or wrong key; 400 for a second or a foreign credential.
pub(super) fn key(route: &Route, found: &[(&'static str, String)], options: &Options) -> Checked<String> {
    let accepted = accepted(route);
    if let Some((place, _)) = found.iter().find(|(place, _)| !accepted.contains(place)) {
        let message =
            format!("mock: credential in '{place}', which this provider does not read: a caller's key leaked");
        return Err(Refusal::bad(message).kind("invalid_request_error"));
    }
    let places: Vec<&str> = found.iter().map(|(place, _)| *place).collect();
    ensure!(places.len() < 2, Refusal::bad(format!("mock: more than one credential: {}", places.join(", "))));
    let Some((_, key)) = found.first() else { return Err(missing(route)) };
    let known = options.keys.is_empty() || options.keys.iter().any(|known| known == key);
    ensure!(known && !key.starts_with("bad"), wrong(route, key));
    Ok(key.clone())
}

/// The places that a provider reads, in its order.
fn accepted(route: &Route) -> &'static [&'static str] {
    match route.dialect {
        Dialect::Anthropic if route.vertex => &["bearer"],
        Dialect::Anthropic => &["x-api-key", "bearer"],
        Dialect::Gemini if route.vertex => &["bearer"],
        Dialect::Gemini => &["x-goog-api-key", "query", "bearer"],
        Dialect::Chat | Dialect::Responses if route.azure => &["api-key", "bearer"],
        Dialect::Chat | Dialect::Responses => &["bearer"],
    }
}

fn missing(route: &Route) -> Refusal {
    match route.dialect {
        Dialect::Anthropic => Refusal::new(401, "x-api-key header is required"),
        Dialect::Gemini => Refusal::new(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or \
             other form of API consumer identity to call this API.",
        ),
        Dialect::Chat | Dialect::Responses if route.azure => azure_denied(),
        Dialect::Chat | Dialect::Responses => Refusal::new(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
             auth (i.e. Authorization: Bearer YOUR_KEY).",
        ),
    }
}

pub(super) fn wrong(route: &Route, key: &str) -> Refusal {
    match route.dialect {
        Dialect::Anthropic | Dialect::Gemini if route.vertex => {
            Refusal::new(401, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
        }
        Dialect::Anthropic => Refusal::new(401, "invalid x-api-key"),
        Dialect::Gemini => Refusal::bad("API key not valid. Please pass a valid API key.").code("API_KEY_INVALID"),
        Dialect::Chat | Dialect::Responses if route.azure => azure_denied(),
        Dialect::Chat | Dialect::Responses => {
            let head: String = key.chars().take(6).collect();
            Refusal::new(
                401,
                format!(
                    "Incorrect API key provided: {head}***. You can find your API key at \
                     https://platform.openai.com/account/api-keys."
                ),
            )
            .code("invalid_api_key")
        }
    }
}

fn azure_denied() -> Refusal {
    Refusal::new(
        401,
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an \
         active subscription and use a correct regional API endpoint for your resource.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{request::Protocol, route};
    use bytes::Bytes;

    fn ask(path: &str, headers: &[(&str, &str)]) -> Checked<String> {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let (path, query) = Request::target(path);
        let protocol = Protocol::Http11;
        let request =
            Request { connection: 0, protocol, method: "POST".into(), path, query, headers, body: Bytes::new() };
        let route = route::find(&request).unwrap();
        key(&route, &found(&request), &Options::default())
    }

    #[test]
    fn each_provider_reads_its_own_header_and_answers_a_bad_key_in_its_own_way() {
        assert_eq!(ask("/v1/messages", &[("x-api-key", "a")]).unwrap(), "a");
        assert_eq!(ask("/v1/messages", &[("Authorization", "Bearer a")]).unwrap(), "a");
        assert_eq!(ask("/v1/chat/completions", &[("authorization", "bearer b")]).unwrap(), "b");
        assert_eq!(ask("/v1beta/models/m:generateContent?key=c", &[]).unwrap(), "c");
        assert_eq!(ask("/openai/deployments/d/chat/completions?api-version=1", &[("api-key", "d")]).unwrap(), "d");
        assert_eq!(ask("/v1beta/models/m:generateContent", &[("x-goog-api-key", "bad")]).unwrap_err().status, 400);
        assert_eq!(ask("/v1/chat/completions", &[("authorization", "Bearer bad")]).unwrap_err().status, 401);
    }

    #[test]
    fn a_leaked_key_is_refused_by_name() {
        let two = ask("/v1/messages", &[("x-api-key", "a"), ("authorization", "Bearer b")]).unwrap_err();
        assert!(two.status == 400 && two.message.contains("bearer"), "{two:?}");
        for (path, header) in [("/v1/chat/completions", "x-api-key"), ("/v1/messages", "x-goog-api-key")] {
            let leak = ask(path, &[("authorization", "Bearer a"), (header, "caller")]).unwrap_err();
            assert!(leak.status == 400 && leak.message.contains(header), "{leak:?}");
            assert!(!leak.message.contains("caller "), "{leak:?}");
        }
    }
}
