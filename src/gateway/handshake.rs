//! What is said to a proxy before it hands the connection through: HTTP `CONNECT` and SOCKS 5.
//!
//! Works on any stream of bytes and never reads past the proxy's own words, since what follows them belongs to the
//! provider (an HTTP/2 server may speak first). Every answer is bounded in size; the caller bounds the time. Names go to
//! the proxy as names: nothing is looked up here.

use crate::config::Login;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{io, net::IpAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest answer to a `CONNECT`, in bytes.
const MOST_HEAD: usize = 16 << 10;

/// Why a proxy does not hand the connection through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It ended or broke off.
    BrokeOff,
    /// What it says is not the protocol.
    NotUnderstood,
    /// It wants a login, or another one.
    Login,
    /// It will not connect to the provider.
    Forbidden,
    /// It cannot connect to the provider.
    Unreachable,
}

impl Refusal {
    /// The words in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Refusal::BrokeOff => "the proxy broke off",
            Refusal::NotUnderstood => "the proxy does not speak its protocol",
            Refusal::Login => "the proxy refuses the login",
            Refusal::Forbidden => "the proxy forbids the provider",
            Refusal::Unreachable => "the proxy cannot reach the provider",
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Refusal {
        Refusal::BrokeOff
    }
}

/// Where a connection is to lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Host name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Asks an HTTP proxy for a connection (RFC 9110, section 9.3.6).
pub(super) async fn connect<S>(stream: &mut S, target: &Target, login: Option<&Login>) -> Result<(), Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let authority = format!("{host}:{}", target.port);
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(Login { user, password }) = login {
        let shown = STANDARD.encode(format!("{}:{}", user.expose(), password.expose()));
        request.push_str(&format!("Proxy-Authorization: Basic {shown}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let head = read_head(stream).await?;
    match status(&head).ok_or(Refusal::NotUnderstood)? {
        200..300 => Ok(()),
        407 => Err(Refusal::Login),
        500.. => Err(Refusal::Unreachable),
        _ => Err(Refusal::Forbidden),
    }
}

/// The head of an answer, a byte at a time: what follows it is not ours.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, Refusal> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MOST_HEAD {
            return Err(Refusal::NotUnderstood);
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
    digits.parse().ok().filter(|status| *status >= 200)
}

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;

/// Asks a SOCKS 5 proxy for a connection (RFC 1928), with a password where there is one (RFC 1929).
pub(super) async fn socks5<S>(stream: &mut S, target: &Target, login: Option<&Login>) -> Result<(), Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let methods: &[u8] = if login.is_some() { &[VERSION, 2, NO_LOGIN, PASSWORD] } else { &[VERSION, 1, NO_LOGIN] };
    stream.write_all(methods).await?;
    stream.flush().await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match (chosen, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, PASSWORD], Some(login)) => log_in(stream, login).await?,
        ([VERSION, _], _) => return Err(Refusal::Login),
        _ => return Err(Refusal::NotUnderstood),
    }
    let mut request = vec![VERSION, 1, 0];
    address(&mut request, &target.host);
    request.extend_from_slice(&target.port.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    answer(stream).await
}

/// RFC 1929; the configuration bounds both texts to 255 bytes.
async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, login: &Login) -> Result<(), Refusal> {
    let mut request = vec![1];
    for text in [&login.user, &login.password] {
        let bytes = text.expose().as_bytes();
        request.push(u8::try_from(bytes.len()).map_err(|_| Refusal::Login)?);
        request.extend_from_slice(bytes);
    }
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    if answer == [1, 0] { Ok(()) } else { Err(Refusal::Login) }
}

/// An address as SOCKS 5 writes it. Host names are shorter than 256 bytes, by DNS.
fn address(request: &mut Vec<u8>, host: &str) {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            request.extend_from_slice(&[3, u8::try_from(host.len()).unwrap_or(0)]);
            request.extend_from_slice(host.as_bytes());
        }
    }
}

async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), Refusal> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [VERSION, code, _, kind] = head else { return Err(Refusal::NotUnderstood) };
    match code {
        0 => {}
        2 => return Err(Refusal::Forbidden),
        _ => return Err(Refusal::Unreachable),
    }
    // The address that the proxy uses, of no interest, and its port.
    let length = match kind {
        1 => 4,
        3 => usize::from(stream.read_u8().await?),
        4 => 16,
        _ => return Err(Refusal::NotUnderstood),
    };
    stream.read_exact(&mut vec![0; length + 2]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;
    use tokio::io::{DuplexStream, duplex};

    fn target(host: &str) -> Target {
        Target { host: host.into(), port: 443 }
    }

    fn login() -> Login {
        Login { user: Secret::new("u"), password: Secret::new("p") }
    }

    /// A stream on which the proxy has said all this already; what is left of it and what was sent come after.
    async fn with(said: &[u8]) -> (DuplexStream, DuplexStream) {
        let (ours, mut proxys) = duplex(1 << 16);
        proxys.write_all(said).await.unwrap();
        (ours, proxys)
    }

    async fn sent(ours: DuplexStream, mut proxys: DuplexStream) -> Vec<u8> {
        drop(ours);
        let mut all = Vec::new();
        proxys.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn connect_names_the_provider_and_leaves_what_follows_the_answer() {
        let (mut ours, proxys) = with(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\nPRI").await;
        connect(&mut ours, &target("api.example"), Some(&login())).await.unwrap();
        let mut rest = [0; 3];
        ours.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"PRI");
        let asked = String::from_utf8(sent(ours, proxys).await).unwrap();
        let expected =
            "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n";
        assert_eq!(asked, expected);
    }

    #[tokio::test]
    async fn an_ipv6_provider_stands_in_brackets() {
        let (mut ours, proxys) = with(b"HTTP/1.0 200 OK\r\n\r\n").await;
        connect(&mut ours, &target("::1"), None).await.unwrap();
        assert!(sent(ours, proxys).await.starts_with(b"CONNECT [::1]:443 HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn every_refusal_of_an_http_proxy_has_its_name() {
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &[b'x'; MOST_HEAD]].concat();
        for (said, expected) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], Refusal::Login),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", Refusal::Forbidden),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Refusal::Unreachable),
            (b"HTTP/1.1 100 Continue\r\n\r\n", Refusal::NotUnderstood),
            (b"SSH-2.0-OpenSSH\r\n\r\n", Refusal::NotUnderstood),
            (&endless, Refusal::NotUnderstood),
        ] {
            let (mut ours, _proxys) = with(said).await;
            assert_eq!(connect(&mut ours, &target("h"), None).await, Err(expected), "{expected:?}");
        }
        let (mut ours, proxys) = with(b"HTTP/1.1 2").await;
        drop(proxys);
        assert_eq!(connect(&mut ours, &target("h"), None).await, Err(Refusal::BrokeOff));
    }

    #[tokio::test]
    async fn socks_gives_names_to_the_proxy_and_leaves_what_follows() {
        let (mut ours, proxys) = with(b"\x05\x02\x01\x00\x05\x00\x00\x03\x04host\x00\x50PRI").await;
        socks5(&mut ours, &target("api.example"), Some(&login())).await.unwrap();
        let mut rest = [0; 3];
        ours.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"PRI");
        let expected = b"\x05\x02\x00\x02\x01\x01u\x01p\x05\x01\x00\x03\x0bapi.example\x01\xbb";
        assert_eq!(sent(ours, proxys).await, expected);
    }

    #[tokio::test]
    async fn socks_writes_addresses_as_addresses() {
        for (host, expected) in [
            ("10.0.0.1", &b"\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x01\xbb"[..]),
            ("::1", b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb"),
        ] {
            let (mut ours, proxys) = with(b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50").await;
            socks5(&mut ours, &target(host), None).await.unwrap();
            assert_eq!(sent(ours, proxys).await, expected, "{host}");
        }
    }

    #[tokio::test]
    async fn every_refusal_of_a_socks_proxy_has_its_name() {
        for (said, with_login, expected) in [
            (&b"\x05\xff"[..], false, Refusal::Login),
            (b"\x05\x02", false, Refusal::Login),
            (b"\x05\x02\x01\x01", true, Refusal::Login),
            (b"\x04\x00", false, Refusal::NotUnderstood),
            (b"HT", false, Refusal::NotUnderstood),
            (b"\x05\x00\x05\x02\x00\x01", false, Refusal::Forbidden),
            (b"\x05\x00\x05\x05\x00\x01", false, Refusal::Unreachable),
            (b"\x05\x00\x05\x00\x00\x09", false, Refusal::NotUnderstood),
        ] {
            let (mut ours, _proxys) = with(said).await;
            let login = login();
            let found = socks5(&mut ours, &target("h"), with_login.then_some(&login)).await;
            assert_eq!(found, Err(expected), "{said:?}");
        }
    }
}
