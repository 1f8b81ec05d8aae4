//! One request as it arrived, whatever transport brought it.
//!
//! Keeps the header names as they were sent and in their order, since the log shows them. [`Request::flaw`] says what a
//! proxy should not have let through.

use bytes::Bytes;

/// Which protocol carried a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2, prior knowledge
    Http2,
}

impl Protocol {
    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// A request, read to its end.
#[derive(Clone, Debug)]
pub struct Request {
    /// The connection it came on; requests with the same number shared one.
    pub connection: u64,
    /// The protocol of that connection.
    pub protocol: Protocol,
    /// The HTTP method.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The query, percent-decoded.
    pub query: Vec<(String, String)>,
    /// The headers as they were sent, in their order.
    pub headers: Vec<(String, String)>,
    /// The body as it was sent.
    pub body: Bytes,
}

impl Request {
    /// Splits a request target into path and query.
    pub(super) fn target(target: &str) -> (String, Vec<(String, String)>) {
        let origin = target.find("://").and_then(|at| target.get(at + 3..)).and_then(|rest| rest.split_once('/'));
        let target = origin.map_or(target, |(authority, _)| {
            let at = target.find(authority).map_or(0, |at| at + authority.len());
            target.get(at..).unwrap_or(target)
        });
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        (decoded(path, false), query.map(|(name, value)| (decoded(name, true), decoded(value, true))).collect())
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The query parameter of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The words of all `Connection` headers.
    fn connection_options(&self) -> impl Iterator<Item = &str> {
        let values = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
        values.flat_map(|(_, value)| value.split(',')).map(str::trim)
    }

    /// Whether the client wants the connection closed after the reply.
    pub(super) fn wants_close(&self) -> bool {
        self.connection_options().any(|option| option.eq_ignore_ascii_case("close"))
    }

    fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    /// A header that concerns one connection only, or an ambiguity that a proxy must settle: what it should have removed.
    pub(super) fn flaw(&self) -> Option<String> {
        for name in ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "trailer"] {
            if self.header(name).is_some() {
                return Some(format!("hop-by-hop header '{name}' must not be forwarded"));
            }
        }
        for token in self.connection_options() {
            if !["", "keep-alive", "close", "upgrade"].iter().any(|known| token.eq_ignore_ascii_case(known)) {
                return Some(format!("the 'connection' header names '{token}', which must not be forwarded"));
            }
        }
        if self.header("te").is_some_and(|te| !te.eq_ignore_ascii_case("trailers")) {
            return Some("hop-by-hop header 'te' must not be forwarded".into());
        }
        if self.header("transfer-encoding").is_some() && self.header("content-length").is_some() {
            return Some("both 'content-length' and 'transfer-encoding' are present".into());
        }
        for name in ["host", "content-length", "content-type", "transfer-encoding"] {
            if self.count(name) > 1 {
                return Some(format!("header '{name}' occurs more than once"));
            }
        }
        (self.protocol == Protocol::Http11 && self.header("host").is_none()).then(|| "no 'host' header".to_owned())
    }
}

/// Percent-decoding; what is not a valid escape stays as it is. `plus` reads `+` as a space.
pub(super) fn decoded(text: &str, plus: bool) -> String {
    if !text.bytes().any(|b| b == b'%' || plus && b == b'+') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(if plus && byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let protocol = Protocol::Http11;
        let (path, query) = Request::target("/v1/x");
        Request { connection: 0, protocol, method: "POST".into(), path, query, headers, body: Bytes::new() }
    }

    #[test]
    fn a_target_is_split_and_decoded() {
        let (path, query) = Request::target("/v1beta/models/a%2Fb:c?alt=sse&key=a+b%21&flag");
        assert_eq!(path, "/v1beta/models/a/b:c");
        let pairs: Vec<_> = query.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("alt", "sse"), ("key", "a b!"), ("flag", "")]);
        assert_eq!(Request::target("http://host:1/v1/x?y=1").0, "/v1/x");
        assert_eq!(Request::target("/100%").0, "/100%");
    }

    #[test]
    fn what_a_proxy_must_strip_is_named() {
        for (name, value) in [
            ("Keep-Alive", "5"),
            ("Proxy-Authorization", "x"),
            ("TE", "gzip"),
            ("Connection", "keep-alive, x-secret"),
            ("Host", "again"),
        ] {
            let flaw = with(&[("Host", "a"), (name, value)]).flaw().unwrap_or_default();
            let named = if name == "Connection" { "x-secret".to_owned() } else { name.to_lowercase() };
            assert!(flaw.contains(&named), "{name}: {flaw}");
        }
        assert_eq!(with(&[("Host", "a"), ("Connection", "keep-alive"), ("TE", "trailers")]).flaw(), None);
    }
}
