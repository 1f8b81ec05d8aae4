//! Small HTTP `CONNECT` and SOCKS 5 proxies that resolve every name to this machine.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a proxy does.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Hands every connection through.
    Open,
    /// Wants this user name and password.
    Login(&'static str, &'static str),
    /// Answers with these bytes and ends.
    Say(&'static [u8]),
    /// Ends at once.
    Close,
    /// Says nothing.
    Silent,
}

/// A connection that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Host and port, as the proxy was told them.
    pub(crate) target: String,
    pub(crate) login: Option<String>,
}

/// A running proxy; ends with the test.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Kind {
    is_socks: bool,
    tls: Option<TlsAcceptor>,
    manner: Manner,
}

impl Proxy {
    pub(crate) async fn http(manner: Manner) -> Proxy {
        Proxy::start(Kind { is_socks: false, tls: None, manner }).await
    }

    pub(crate) async fn https(manner: Manner, tls: TlsAcceptor) -> Proxy {
        Proxy::start(Kind { is_socks: false, tls: Some(tls), manner }).await
    }

    pub(crate) async fn socks5(manner: Manner) -> Proxy {
        Proxy::start(Kind { is_socks: true, tls: None, manner }).await
    }

    async fn start(kind: Kind) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let log = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kind, log) = (kind.clone(), log.clone());
                tokio::spawn(async move {
                    match kind.tls.clone() {
                        None => serve(stream, &kind, &log).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &kind, &log).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Proxy { address, asked, task }
    }

    /// Every connection asked for, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, kind: &Kind, log: &Mutex<Vec<Asked>>) -> Option<()> {
    match &kind.manner {
        Manner::Close => return None,
        Manner::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
        Manner::Say(bytes) => {
            stream.read_u8().await.ok()?;
            stream.write_all(bytes).await.ok()?;
            // Unread bytes would turn the end into a reset that overtakes the answer.
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await;
            return None;
        }
        Manner::Open | Manner::Login(..) => {}
    }
    let port = if kind.is_socks { socks(&mut stream, kind, log).await? } else { http(&mut stream, kind, log).await? };
    let mut upstream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let said: &[u8] =
        if kind.is_socks { b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00" } else { b"HTTP/1.1 200 Connected\r\n\r\n" };
    stream.write_all(said).await.ok()?;
    let _ = copy_bidirectional(&mut stream, &mut upstream).await;
    None
}

fn port(target: &str) -> Option<u16> {
    target.rsplit_once(':')?.1.parse().ok()
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, kind: &Kind, log: &Mutex<Vec<Asked>>) -> Option<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let shown = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: Basic "));
    let login = shown.and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
    let wanted = match kind.manner {
        Manner::Login(user, password) => Some(format!("{user}:{password}")),
        _ => None,
    };
    let port = port(&target)?;
    log.lock().unwrap().push(Asked { target, login: login.clone() });
    if wanted.is_some() && wanted != login {
        stream.write_all(b"HTTP/1.1 407 Login\r\nproxy-authenticate: Basic\r\n\r\n").await.ok()?;
        return None;
    }
    Some(port)
}

async fn socks<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, kind: &Kind, log: &Mutex<Vec<Asked>>) -> Option<u16> {
    let methods = text(stream, 1).await?;
    let mut login = None;
    if let Manner::Login(user, password) = kind.manner {
        if !methods.contains(&2) {
            stream.write_all(b"\x05\xff").await.ok()?;
            return None;
        }
        stream.write_all(b"\x05\x02").await.ok()?;
        let given_user = text(stream, 1).await?;
        let given_password = text(stream, 0).await?;
        let (given_user, given_password) =
            (String::from_utf8(given_user).ok()?, String::from_utf8(given_password).ok()?);
        let is_right = given_user == user && given_password == password;
        stream.write_all(if is_right { b"\x01\x00" } else { b"\x01\x01" }).await.ok()?;
        if !is_right {
            return None;
        }
        login = Some(format!("{given_user}:{given_password}"));
    } else {
        stream.write_all(b"\x05\x00").await.ok()?;
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.ok()?;
    let host = match head[3] {
        1 => {
            let mut ip = [0; 4];
            stream.read_exact(&mut ip).await.ok()?;
            std::net::Ipv4Addr::from(ip).to_string()
        }
        3 => String::from_utf8(text(stream, 0).await?).ok()?,
        _ => return None,
    };
    let port = stream.read_u16().await.ok()?;
    log.lock().unwrap().push(Asked { target: format!("{host}:{port}"), login });
    Some(port)
}

/// Skips so many bytes, then reads what a byte gives the length of.
async fn text<S: AsyncRead + Unpin>(stream: &mut S, skipped: usize) -> Option<Vec<u8>> {
    stream.read_exact(&mut vec![0; skipped]).await.ok()?;
    let mut text = vec![0; usize::from(stream.read_u8().await.ok()?)];
    stream.read_exact(&mut text).await.ok()?;
    Some(text)
}
