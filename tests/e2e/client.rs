//! A small HTTP client that shows what is on the wire: HTTP/1.1 by hand, HTTP/2 by prior knowledge.

use crate::client_h2;
pub(crate) use crate::client_h2::H2;
use bytes::Bytes;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// No test waits longer than this for one reply.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A request to send.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Send the body in chunks of this size, without a content-length.
    pub(crate) chunked: Option<usize>,
}

impl Ask {
    pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Ask {
        let headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("authorization".to_owned(), "Bearer sk-test".to_owned()),
        ];
        Ask { method: "POST", path: path.to_owned(), headers, body: body.into(), chunked: None }
    }

    pub(crate) fn get(path: &str) -> Ask {
        Ask { method: "GET", body: Bytes::new(), ..Ask::post(path, "") }
    }

    /// Adds a header, in place of one with the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Ask {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn in_chunks(mut self, size: usize) -> Ask {
        self.chunked = Some(size);
        self
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: gateway.test\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match self.chunked {
            Some(_) => head += "transfer-encoding: chunked\r\n",
            None if self.method == "POST" => head += &format!("content-length: {}\r\n", self.body.len()),
            None => {}
        }
        head + "\r\n"
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the message ended by its own framing; false where the connection broke first.
    pub(crate) complete: bool,
    /// Time from sending to the first byte of the body.
    pub(crate) first_byte: Duration,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// A connection kept open between requests.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::new() })
    }

    pub(crate) async fn send(&mut self, ask: &Ask) -> io::Result<()> {
        let mut message = ask.head().into_bytes();
        match ask.chunked {
            Some(size) => {
                for chunk in ask.body.chunks(size) {
                    message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    message.extend_from_slice(chunk);
                    message.extend_from_slice(b"\r\n");
                }
                message.extend_from_slice(b"0\r\n\r\n");
            }
            None => message.extend_from_slice(&ask.body),
        }
        self.raw(&message).await
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn fill(&mut self) -> io::Result<bool> {
        let mut piece = vec![0; 65536];
        let read = self.stream.read(&mut piece).await?;
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }

    /// Reads until `count` bytes of the stream have come, whatever they are.
    pub(crate) async fn read_some(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count && self.fill().await? {}
        Ok(self.buffer.clone())
    }

    /// Reads one reply; one whose connection breaks is returned as far as it came.
    pub(crate) async fn receive(&mut self) -> io::Result<Reply> {
        let started = tokio::time::Instant::now();
        let mut reply = Reply::default();
        let body_at = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().await? {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no reply"));
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..body_at]).into_owned();
        let mut lines = head.split("\r\n");
        reply.status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            reply.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        self.buffer.drain(..body_at);
        if reply.status == 100 {
            return Box::pin(self.receive()).await;
        }
        let chunked = reply.header("transfer-encoding").is_some_and(|v| v.contains("chunked"));
        let length = reply.header("content-length").and_then(|v| v.parse::<usize>().ok());
        reply.complete = match (chunked, length) {
            (true, _) => self.chunks(&mut reply, started).await,
            (false, Some(length)) => {
                while self.buffer.len() < length && self.fill().await.unwrap_or(false) {}
                let whole = self.buffer.len() >= length;
                reply.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
                reply.first_byte = started.elapsed();
                whole
            }
            (false, None) => {
                while self.fill().await.unwrap_or(false) {}
                reply.body = std::mem::take(&mut self.buffer);
                true
            }
        };
        Ok(reply)
    }

    async fn chunks(&mut self, reply: &mut Reply, started: tokio::time::Instant) -> bool {
        loop {
            let Some(line) = find(&self.buffer, b"\r\n") else {
                if self.fill().await.unwrap_or(false) {
                    continue;
                }
                return false;
            };
            let Ok(size) = usize::from_str_radix(String::from_utf8_lossy(&self.buffer[..line]).trim(), 16) else {
                return false;
            };
            while self.buffer.len() < line + 2 + size + 2 {
                if !self.fill().await.unwrap_or(false) {
                    // What came of a cut chunk was seen by the client, too.
                    reply.body.extend_from_slice(self.buffer.get(line + 2..).unwrap_or_default());
                    return false;
                }
            }
            if reply.body.is_empty() {
                reply.first_byte = started.elapsed();
            }
            reply.body.extend_from_slice(&self.buffer[line + 2..line + 2 + size]);
            self.buffer.drain(..line + 2 + size + 2);
            if size == 0 {
                return true;
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Sends one request over HTTP/1.1 on a connection of its own.
pub(crate) async fn h1(address: SocketAddr, ask: &Ask) -> io::Result<Reply> {
    let exchange = async {
        let mut connection = Connection::open(address).await?;
        // A refusal may come, and the connection end, before all of a large body is sent.
        let sent = connection.send(ask).await;
        match connection.receive().await {
            Ok(reply) => Ok(reply),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    };
    timeout(PATIENCE, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends one request over HTTP/2 by prior knowledge on a connection of its own.
pub(crate) async fn h2(address: SocketAddr, ask: &Ask) -> io::Result<Reply> {
    timeout(PATIENCE, client_h2::exchange(address, ask)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
