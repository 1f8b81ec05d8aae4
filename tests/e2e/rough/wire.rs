//! A client that sends any bytes, and reads what comes back with a strict eye.

use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Whoever says nothing for so long hangs.
pub(super) const HANGS: Duration = Duration::from_secs(20);

/// A reply of HTTP/1.1.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// False where the connection broke before the message's end.
    pub(super) whole: bool,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn ends_connection(&self) -> bool {
        !self.whole || self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What came.
#[derive(Debug)]
pub(super) enum Got {
    Reply(Reply),
    /// The connection ended without a word.
    Closed,
    /// Nothing came in time.
    Silent,
    /// Something that is no HTTP reply.
    Illegal(String),
}

/// A connection.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects from one of many loopback addresses, so that thousands of connections a minute find a free port.
    pub(super) async fn open(address: SocketAddr, from: u8) -> io::Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, from.max(1)], 0)))?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, buffer: Vec::new() })
    }

    /// Sends bytes, in pieces of the given sizes; what the other side no longer takes is not sent.
    pub(super) async fn send(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut from = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let cut = cut.clamp(from, bytes.len());
            if timeout(HANGS, self.stream.write_all(&bytes[from..cut])).await.is_err() {
                return;
            }
            if cut < bytes.len() {
                tokio::task::yield_now().await;
            }
            from = cut;
        }
    }

    /// Says that no more will be sent.
    pub(super) async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    async fn fill(&mut self) -> bool {
        let mut piece = [0; 16384];
        let read = self.stream.read(&mut piece).await.unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..read]);
        read > 0
    }

    /// Reads the next final reply.
    pub(super) async fn receive(&mut self, head_only: bool, patience: Duration) -> Got {
        timeout(patience, self.reply(head_only)).await.unwrap_or(Got::Silent)
    }

    async fn reply(&mut self, head_only: bool) -> Got {
        loop {
            let end = loop {
                if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                if !self.fill().await {
                    let rest = std::mem::take(&mut self.buffer);
                    return if rest.is_empty() { Got::Closed } else { Got::Illegal(rest.escape_ascii().to_string()) };
                }
            };
            let head: Vec<u8> = self.buffer.drain(..end).collect();
            let Some(mut reply) = parse(&head) else { return Got::Illegal(head.escape_ascii().to_string()) };
            if reply.status < 200 {
                continue;
            }
            reply.whole = head_only || self.body(&mut reply).await;
            return Got::Reply(reply);
        }
    }

    async fn body(&mut self, reply: &mut Reply) -> bool {
        if reply.header("transfer-encoding").is_some_and(|value| value == "chunked") {
            return self.chunks(reply).await;
        }
        let Some(length) = reply.header("content-length").and_then(|value| value.parse::<usize>().ok()) else {
            while self.fill().await {}
            reply.body = std::mem::take(&mut self.buffer);
            return true;
        };
        while self.buffer.len() < length && self.fill().await {}
        let whole = self.buffer.len() >= length;
        reply.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        whole
    }

    async fn chunks(&mut self, reply: &mut Reply) -> bool {
        loop {
            let line = loop {
                match self.buffer.windows(2).position(|two| two == b"\r\n") {
                    Some(line) => break line,
                    None if self.fill().await => {}
                    None => return false,
                }
            };
            let size = std::str::from_utf8(&self.buffer[..line]).ok();
            let Some(size) = size.and_then(|text| usize::from_str_radix(text, 16).ok()) else { return false };
            let end = line + 2 + size + 2;
            while self.buffer.len() < end {
                if !self.fill().await {
                    return false;
                }
            }
            if &self.buffer[end - 2..end] != b"\r\n" {
                return false;
            }
            reply.body.extend_from_slice(&self.buffer[line + 2..end - 2]);
            self.buffer.drain(..end);
            if size == 0 {
                return true;
            }
        }
    }

    /// Reads until the other side ends the connection; false if it does not.
    pub(super) async fn ends(&mut self) -> bool {
        let reading = async {
            while self.fill().await {
                self.buffer.clear();
            }
        };
        timeout(HANGS, reading).await.is_ok()
    }

    /// Reads until the other side ends the connection, and returns all of it; `None` if it does not end.
    pub(super) async fn rest(&mut self) -> Option<Vec<u8>> {
        let reading = async { while self.fill().await {} };
        timeout(HANGS, reading).await.ok()?;
        Some(std::mem::take(&mut self.buffer))
    }

    /// What has come within this time.
    pub(super) async fn soon(&mut self, wait: Duration) -> &[u8] {
        let _ = timeout(wait, self.fill()).await;
        &self.buffer
    }
}

fn parse(head: &[u8]) -> Option<Reply> {
    // Header values may hold any bytes above ASCII (RFC 9110, obs-text): one character each.
    let head: String = head.iter().copied().map(char::from).collect();
    let mut lines = head.strip_suffix("\r\n\r\n")?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut reply = Reply { status, ..Reply::default() };
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let named =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b));
        if !named || value.contains(['\r', '\n', '\0']) {
            return None;
        }
        reply.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(reply)
}
