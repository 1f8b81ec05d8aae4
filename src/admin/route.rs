//! The table of the admin listener's paths, from which everything else derives.
//!
//! Invariant: a path that is not marked open is answered only to who showed the admin key, unknown paths included, so that
//! nobody else learns which there are.

use super::{accounts, answer::Answer, explain, page, process, usage, users};
use crate::live::Live;
use http::{Method, Uri};
use std::sync::Arc;

/// What is asked for.
pub(super) struct Ask {
    /// The state of the process.
    pub(super) live: Arc<Live>,
    method: Method,
    path: String,
    query: String,
}

/// One path.
pub(super) struct Route {
    /// Its method.
    pub(super) method: Method,
    /// Its path; `{…}` stands for one segment.
    pub(super) path: &'static str,
    /// Whether it is answered without the key.
    is_open: bool,
    answer: fn(&Ask) -> Answer,
}

const fn get(path: &'static str, answer: fn(&Ask) -> Answer) -> Route {
    Route { method: Method::GET, path, is_open: false, answer }
}

const fn post(path: &'static str, answer: fn(&Ask) -> Answer) -> Route {
    Route { method: Method::POST, path, is_open: false, answer }
}

const fn open(path: &'static str, answer: fn(&Ask) -> Answer) -> Route {
    Route { method: Method::GET, path, is_open: true, answer }
}

/// Every path.
pub(super) static ROUTES: &[Route] = &[
    open("/", page::index),
    open("/page.js", page::script),
    open("/page.css", page::style),
    open("/livez", process::live),
    open("/readyz", process::ready),
    get("/metrics", process::metrics),
    get("/api/v1/status", process::status),
    get("/api/v1/accounts", accounts::list),
    get("/api/v1/accounts/{name}", accounts::one),
    get("/api/v1/failures", process::failures),
    post("/api/v1/accounts/{name}/{operation}", accounts::operate),
    get("/api/v1/explain", explain::explain),
    get("/api/v1/usage", usage::sums),
    get("/api/v1/usage/attempts", usage::attempts),
    get("/api/v1/limits", users::limits),
    get("/api/v1/keys", users::keys),
    get("/openapi.json", page::openapi),
    post("/api/v1/reload", process::reload),
    post("/api/v1/drain", process::drain),
];

impl Ask {
    /// A request to the admin listener.
    pub(super) fn new(live: Arc<Live>, method: &Method, uri: &Uri) -> Ask {
        let query = uri.query().unwrap_or_default().to_owned();
        Ask { live, method: method.clone(), path: uri.path().to_owned(), query }
    }

    /// A parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decoded(&value.replace('+', " ")))
    }

    /// The segment of the path that stands at the pattern's `{…}` number `at`, from 0, decoded.
    pub(super) fn segment(&self, pattern: &str, at: usize) -> String {
        let pairs = pattern.split('/').zip(self.path.split('/'));
        let mut open = pairs.filter(|(pattern, _)| pattern.starts_with('{'));
        open.nth(at).map(|(_, segment)| decoded(segment)).unwrap_or_default()
    }
}

/// `%41` as `A`; what is not UTF-8 after that is left out.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut left, mut right) = (pattern.split('/'), path.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if pattern == segment => {}
            (Some(pattern), Some(segment)) if pattern.starts_with('{') && !segment.is_empty() => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

/// The answer to a request.
pub(super) fn answer(ask: &Ask, is_admin: bool) -> Answer {
    let here: Vec<&Route> = ROUTES.iter().filter(|route| matches(route.path, &ask.path)).collect();
    let is_open = here.iter().any(|route| route.is_open);
    if !is_open && !is_admin {
        return Answer::fault(401, "the admin key is missing or wrong: send `Authorization: Bearer KEY`");
    }
    match here.iter().find(|route| route.method == ask.method || (ask.method == Method::HEAD && route.is_open)) {
        Some(route) => (route.answer)(ask),
        None if here.is_empty() => Answer::fault(404, "there is no such path here; /openapi.json lists them"),
        None => {
            let methods: Vec<&str> = here.iter().map(|route| route.method.as_str()).collect();
            Answer::fault(405, &format!("this path takes {}", methods.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_segments_only() {
        assert!(matches("/api/v1/accounts/{name}", "/api/v1/accounts/a%2Fb"));
        assert!(!matches("/api/v1/accounts/{name}", "/api/v1/accounts/"));
        assert!(!matches("/api/v1/accounts/{name}", "/api/v1/accounts/a/b"));
    }

    #[test]
    fn escapes_are_decoded_and_broken_ones_left_as_they_are() {
        assert_eq!(decoded("a%2Fb%20c%zz%4"), "a/b c%zz%4");
        assert_eq!(decoded("%ff"), "\u{fffd}");
    }

    #[test]
    fn the_document_names_every_path_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let named: std::collections::BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |m| (m.to_uppercase(), path.clone()))
            })
            .collect();
        let served = ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
        assert_eq!(named, served);
        for route in ROUTES {
            let operation = &paths[route.path][route.method.as_str().to_lowercase()];
            assert_eq!(operation.get("security").is_some(), route.is_open, "{}", route.path);
        }
    }
}
