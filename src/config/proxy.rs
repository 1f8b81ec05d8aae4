//! The proxy through which an account's calls leave.
//!
//! Parsed once, strictly. The text may hold a password: it is kept as a secret, and no message repeats any of it.

use super::secret::Secret;
use std::net::Ipv6Addr;

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// `CONNECT` (RFC 9110, section 9.3.6), unencrypted as far as the proxy.
    Http,
    /// `CONNECT` inside TLS.
    Https,
    /// SOCKS 5 (RFC 1928); names are resolved by the proxy.
    Socks5,
}

/// User name and password for a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: Secret,
    /// The password; may be empty.
    pub password: Secret,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// How it is spoken to.
    pub kind: ProxyKind,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its login, if it wants one.
    pub login: Option<Login>,
}

impl Proxy {
    /// Reads `scheme://[user[:password]@]host:port`. The error says what is wrong, without repeating the text.
    pub fn parse(text: &str) -> Result<Proxy, &'static str> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("holds a space or a character outside ASCII (percent-encode it in a user name or password)");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("has no scheme: begin with http://, https:// or socks5://");
        };
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => ProxyKind::Http,
            "https" => ProxyKind::Https,
            // `socks5h` is the word of those who tell it apart from resolving names on this side, which never happens here.
            "socks5" | "socks5h" => ProxyKind::Socks5,
            _ => return Err("has an unknown scheme: only http://, https:// and socks5:// are understood"),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err("has a path: a proxy is only scheme, login, host and port");
        }
        let (login, authority) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (host, port) = host_and_port(authority)?;
        let login = login.map(|text| parse_login(text, kind)).transpose()?;
        Ok(Proxy { kind, host, port, login })
    }
}

fn host_and_port(authority: &str) -> Result<(String, u16), &'static str> {
    let Some((host, port)) = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        return Err("has no port: write it behind the host, as in socks5://host:1080");
    };
    let port = port.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or("has a port that is no number from 1 to 65535")?;
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "has brackets that hold no IPv6 address")?;
        return Ok((address.to_string(), port));
    }
    if host.is_empty() {
        return Err("has no host name");
    }
    let is_known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !host.bytes().all(is_known) {
        return Err("has a host name with a character that cannot be in one");
    }
    Ok((host.to_ascii_lowercase(), port))
}

fn parse_login(text: &str, kind: ProxyKind) -> Result<Login, &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (user, password) = (decoded(user)?, decoded(password)?);
    if user.is_empty() {
        return Err("has an empty user name");
    }
    match kind {
        // RFC 1929 has one byte for each length.
        ProxyKind::Socks5 if user.len() > 255 || password.len() > 255 => {
            return Err("has a user name or password of more than 255 bytes, which SOCKS 5 cannot carry");
        }
        // RFC 7617: a colon would end the name early.
        ProxyKind::Http | ProxyKind::Https if user.contains(':') => return Err("has a colon in its user name"),
        ProxyKind::Http | ProxyKind::Https | ProxyKind::Socks5 => {}
    }
    Ok(Login { user: Secret::new(user), password: Secret::new(password) })
}

/// Percent-decoding, strictly.
fn decoded(text: &str) -> Result<String, &'static str> {
    const BAD: &str = "has a `%` in its user name or password that begins no escape (write %25)";
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        out.push(match byte {
            b'%' => digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()).ok_or(BAD)?,
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| "has a user name or password that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_login_host_and_port_are_told_apart() {
        for (text, kind, host, port, login) in [
            ("http://proxy.example:3128", ProxyKind::Http, "proxy.example", 3128, None),
            ("HTTPS://Proxy.Example:443/", ProxyKind::Https, "proxy.example", 443, None),
            ("socks5://10.0.0.1:1080", ProxyKind::Socks5, "10.0.0.1", 1080, None),
            ("socks5h://u:p@[::1]:1080", ProxyKind::Socks5, "::1", 1080, Some(("u", "p"))),
            ("http://team%40x:p%3A%25@h:1", ProxyKind::Http, "h", 1, Some(("team@x", "p:%"))),
            ("http://token@h:1", ProxyKind::Http, "h", 1, Some(("token", ""))),
            ("http://u:p@ss@h:1", ProxyKind::Http, "h", 1, Some(("u", "p@ss"))),
        ] {
            let proxy = Proxy::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
            assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (kind, host, port), "{text}");
            let found = proxy.login.as_ref().map(|login| (login.user.expose(), login.password.expose()));
            assert_eq!(found, login, "{text}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_in_words_that_repeat_nothing() {
        let long = format!("socks5://{}:hush@h:1", "hush".repeat(64));
        for (text, expected) in [
            ("hush.example:3128", "no scheme"),
            ("ftp://hush:1", "unknown scheme"),
            ("socks4://hush:1", "unknown scheme"),
            ("http://hush.example", "no port"),
            ("http://[::1]", "no port"),
            ("http://hush:0", "port that is no number"),
            ("http://hush:hush", "port that is no number"),
            ("http://:1", "no host name"),
            ("http://[hush]:1", "no IPv6 address"),
            ("http://hu$sh:1", "cannot be in one"),
            ("http://::1:8080", "cannot be in one"),
            ("http://hush:1/path", "has a path"),
            ("http://hush:1?x=hush", "has a path"),
            ("http://:hush@h:1", "empty user name"),
            ("http://hush%3Ax:y@h:1", "colon in its user name"),
            ("http://u:hush%zz@h:1", "begins no escape"),
            ("http://u:hush%4@h:1", "begins no escape"),
            ("http://u:hush%ff@h:1", "not UTF-8"),
            ("http://u:hush hush@h:1", "holds a space"),
            (&long, "more than 255 bytes"),
        ] {
            let fault = Proxy::parse(text).unwrap_err();
            assert!(fault.contains(expected) && !fault.contains("hush"), "{text}: {fault}");
        }
    }

    #[test]
    fn a_proxy_prints_no_login() {
        let proxy = Proxy::parse("http://hush:hush@h:1").unwrap();
        assert!(!format!("{proxy:?}").contains("hush"));
    }
}
