//! Reads `base_url` texts.
//!
//! Parses once, strictly; what a provider's own SDK would take is then brought into one form. An error is a sentence
//! for a configuration fault and never repeats the text, which may hold a password.

use super::BaseUrl;
use std::net::Ipv6Addr;

/// Reads an `http` or `https` URL. The prefix has no slash at its end; the query is kept as it stands.
pub(super) fn parse(text: &str) -> Result<BaseUrl, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".into());
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("holds a space or a character outside ASCII (write a host name in its xn-- form)".into());
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("has no scheme: begin with https:// or http://".into());
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err("has an unknown scheme: only https:// and http:// are understood".into()),
    };
    if rest.contains('#') {
        return Err("has a fragment: leave out everything from `#` on".into());
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = parse_authority(authority, tls)?;
    Ok(BaseUrl { tls, host, port, prefix: parse_path(path)?, query: query.to_owned() })
}

/// Refuses a query, for the providers whose calls have no fixed one.
pub(super) fn without_query(url: BaseUrl) -> Result<BaseUrl, String> {
    if url.query.is_empty() {
        return Ok(url);
    }
    Err("has a query: leave out everything from `?` on (only azure-openai takes one, `api-version=…`)".into())
}

fn parse_authority(authority: &str, tls: bool) -> Result<(String, u16), String> {
    if authority.contains('@') {
        return Err("holds a user name or password: keys belong under `credentials`".into());
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return Err("has an IPv6 address without its closing bracket".into());
            };
            let address: Ipv6Addr = address.parse().map_err(|_| "has brackets that hold no IPv6 address".to_owned())?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err("has something other than a port after the IPv6 address".into()),
            };
            (address.to_string(), port)
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            if port.is_some_and(|port| port.contains(':')) {
                return Err("has an IPv6 address without brackets: write [::1]".into());
            }
            (parse_host(host)?, port)
        }
    };
    let default = if tls { 443 } else { 80 };
    let port = port.map_or(Ok(default), |port| match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("has a port that is no number from 1 to 65535".to_owned()),
    })?;
    Ok((host, port))
}

fn parse_host(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("has no host name".into());
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        return Err("has a host name with a character that cannot be in one".into());
    }
    Ok(host.to_ascii_lowercase())
}

/// Slashes at the end and doubled ones mean nothing; dot segments could leave the prefix and are refused.
fn parse_path(path: &str) -> Result<String, String> {
    let mut prefix = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if matches!(segment, "." | "..") {
            return Err("has `.` or `..` in its path".into());
        }
        if segment.bytes().any(|b| matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')) {
            return Err("has a character in its path that must be percent-encoded".into());
        }
        prefix.push('/');
        prefix.push_str(segment);
    }
    Ok(prefix)
}

/// The calls that a pasted full endpoint may end in.
const OPENAI_CALLS: &[&str] = &[
    "/chat/completions",
    "/completions",
    "/responses/input_tokens",
    "/responses/compact",
    "/responses",
    "/embeddings",
    "/moderations",
    "/rerank",
    "/images/generations",
    "/images/edits",
    "/images/variations",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
];

/// Brings the path of an OpenAI-like `base_url` into the form that calls are appended to: a pasted endpoint is cut off,
/// a doubled version collapses, and an empty path becomes `default_prefix`.
pub(super) fn openai_prefix(prefix: &mut String, default_prefix: &str) {
    strip_call(prefix, OPENAI_CALLS);
    // A path that just ends in `/models` is some gateways' real prefix; after a version it is the pasted listing call.
    if prefix.strip_suffix("/models").is_some_and(|rest| is_version(last_segment(rest))) {
        strip_call(prefix, &["/models"]);
    }
    collapse_doubled_version(prefix);
    if prefix.is_empty() {
        prefix.push_str(default_prefix);
    }
}

/// Cuts one of `calls` off the end of `prefix`.
pub(super) fn strip_call(prefix: &mut String, calls: &[&str]) {
    if let Some(call) = calls.iter().find(|call| prefix.ends_with(**call)) {
        prefix.truncate(prefix.len() - call.len());
    }
}

fn collapse_doubled_version(prefix: &mut String) {
    loop {
        let last = last_segment(prefix);
        let rest = prefix.len().saturating_sub(last.len() + 1);
        let doubled = is_version(last) && prefix.get(..rest).is_some_and(|rest| last_segment(rest) == last);
        if !doubled {
            return;
        }
        prefix.truncate(rest);
    }
}

/// What stands after the last slash.
pub(super) fn last_segment(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(_, last)| last)
}

/// Whether a path segment is an API version: `v1`, `v4`, `v1beta`, `v1beta1`, `v1alpha`.
pub(super) fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let stage = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    segment.as_bytes().get(1).is_some_and(u8::is_ascii_digit) && matches!(stage, "" | "alpha" | "beta")
}

/// Percent-encodes a model name for use as one path segment. `None` for a name that cannot be one.
pub(super) fn encode_segment(name: &str) -> Option<String> {
    if matches!(name, "" | "." | "..") {
        return None;
    }
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.extend(char::from_digit(u32::from(nibble), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
    Some(out)
}

/// Whether a `name=value` of a query has this name, in whatever spelling: `%6Bey`, `KEY` and Google's `$key` are `key`.
pub(super) fn is_named(pair: &str, name: &str) -> bool {
    let mut rest = pair.split('=').next().unwrap_or_default().bytes();
    let mut wanted = name.bytes();
    let mut is_first = true;
    loop {
        let byte = match rest.next() {
            Some(b'%') => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                let Some((high, low)) = digit().zip(digit()) else { return false };
                Some((high * 16 + low) as u8)
            }
            Some(b'+') => Some(b' '),
            other => other,
        };
        if std::mem::take(&mut is_first) && byte == Some(b'$') {
            continue;
        }
        match (byte, wanted.next()) {
            (Some(byte), Some(wanted)) if byte.eq_ignore_ascii_case(&wanted) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// A path with its query: the provider's fixed one first, then the caller's, without parameters named in `dropped`.
pub(super) fn with_query(path: String, fixed: &str, caller: Option<&str>, dropped: &[&str]) -> String {
    if fixed.is_empty() && caller.is_none() {
        return path;
    }
    let caller = caller.unwrap_or("").split('&').filter(|pair| !dropped.iter().any(|name| is_named(pair, name)));
    let mut out = path;
    let mut mark = '?';
    for pair in fixed.split('&').chain(caller).filter(|pair| !pair.is_empty()) {
        out.push(mark);
        out.push_str(pair);
        mark = '&';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_known_in_every_spelling_and_no_other_is_taken_for_it() {
        for pair in ["key=x", "key", "KEY=x", "k%65y=x", "%6B%65%79", "$key=x", "%24key=x"] {
            assert!(is_named(pair, "key"), "{pair}");
        }
        for pair in ["", "=", "ke", "keys=x", "k%6=x", "k%zzy", "x=key", "$$key", "key%00", "key%zz", "%6b%65%79%"] {
            assert!(!is_named(pair, "key"), "{pair}");
        }
    }

    fn parsed(text: &str) -> (bool, String, u16, String, String) {
        let url = parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        (url.tls, url.host, url.port, url.prefix, url.query)
    }

    fn openai(text: &str) -> String {
        let mut url = parse(text).unwrap();
        openai_prefix(&mut url.prefix, "/v1");
        url.prefix
    }

    #[test]
    fn scheme_host_port_path_and_query_are_told_apart() {
        let own = |host: &str, prefix: &str, query: &str| (host.to_owned(), prefix.to_owned(), query.to_owned());
        for (text, tls, port, (host, prefix, query)) in [
            ("https://api.openai.com/v1", true, 443, own("api.openai.com", "/v1", "")),
            ("http://127.0.0.1:9100", false, 9100, own("127.0.0.1", "", "")),
            ("HTTPS://API.Example.com:8443//a///b/", true, 8443, own("api.example.com", "/a/b", "")),
            ("http://[::1]:8080/v1/", false, 8080, own("::1", "/v1", "")),
            ("https://[2001:db8::7]", true, 443, own("2001:db8::7", "", "")),
            ("https://r.example.com?api-version=1", true, 443, own("r.example.com", "", "api-version=1")),
            (" http://host_name.internal/x%20y ", false, 80, own("host_name.internal", "/x%20y", "")),
        ] {
            assert_eq!(parsed(text), (tls, host, port, prefix, query), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_a_base_url_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("   ", "empty"),
            ("api.openai.com/v1", "no scheme"),
            ("localhost:11434", "no scheme"),
            ("ftp://host/", "unknown scheme"),
            ("https://", "no host"),
            ("https:///v1", "no host"),
            ("https://user:secret@host/v1", "user name or password"),
            ("https://host/v1#part", "fragment"),
            ("https://host:0/", "port"),
            ("https://host:65536/", "port"),
            ("https://host:/", "port"),
            ("https://::1/", "without brackets"),
            ("https://[::1", "closing bracket"),
            ("https://[nonsense]/", "no IPv6 address"),
            ("https://[::1]x/", "after the IPv6 address"),
            ("https://ho st/", "space"),
            ("https://bücher.example/", "xn--"),
            ("https://host/a/../b", "`..`"),
            ("https://host/{model}", "percent-encoded"),
            ("https://ho%73t/", "host name"),
        ] {
            let fault = parse(text).expect_err(text);
            assert!(fault.contains(reason), "{text}: {fault}");
            assert!(!fault.contains("secret"), "{fault}");
        }
    }

    #[test]
    fn a_missing_or_doubled_version_is_understood() {
        for (text, prefix) in [
            ("https://h", "/v1"),
            ("https://h/", "/v1"),
            ("https://h/v1", "/v1"),
            ("https://h/v1/v1/", "/v1"),
            ("https://h/v1/v1/v1", "/v1"),
            ("https://h/openai/v1", "/openai/v1"),
            ("https://h/api/v1/", "/api/v1"),
            ("https://h/v1beta/openai", "/v1beta/openai"),
            ("https://h/api/paas/v4", "/api/paas/v4"),
            ("https://h/some/gateway", "/some/gateway"),
        ] {
            assert_eq!(openai(text), prefix, "{text}");
        }
    }

    #[test]
    fn a_pasted_endpoint_is_understood_as_its_base() {
        for call in OPENAI_CALLS.iter().chain(&["/models"]) {
            assert_eq!(openai(&format!("https://h/v1{call}")), "/v1", "{call}");
            assert_eq!(openai(&format!("https://h/proxy/v1{call}/")), "/proxy/v1", "{call}");
        }
        assert_eq!(openai("https://h/chat/completions"), "/v1");
        assert_eq!(openai("https://h/models"), "/models", "a gateway's own prefix");
    }

    #[test]
    fn versions_are_recognised_and_nothing_else() {
        assert!(["v1", "v4", "v12", "v1beta", "v1alpha", "v1beta1"].iter().all(|v| is_version(v)));
        assert!(["", "v", "1", "vv1", "v1x", "version1", "beta", "v1betax"].iter().all(|v| !is_version(v)));
    }

    #[test]
    fn a_model_name_cannot_leave_its_path_segment() {
        assert_eq!(encode_segment("gemini-2.5-flash").as_deref(), Some("gemini-2.5-flash"));
        assert_eq!(encode_segment("a/../b?c#d e%").as_deref(), Some("a%2F..%2Fb%3Fc%23d%20e%25"));
        assert_eq!(encode_segment("模").as_deref(), Some("%E6%A8%A1"));
        assert!(["", ".", ".."].iter().all(|name| encode_segment(name).is_none()));
    }

    #[test]
    fn queries_are_joined_and_named_parameters_dropped() {
        let join = |fixed, caller| with_query("/p".into(), fixed, caller, &["api-version"]);
        assert_eq!(join("", None), "/p");
        assert_eq!(join("", Some("beta=true")), "/p?beta=true");
        assert_eq!(join("api-version=2", Some("API-Version=1&x=y&&")), "/p?api-version=2&x=y");
    }
}
