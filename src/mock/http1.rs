//! HTTP/1.x by hand, so that every byte, pause and end of a connection is under control.
//!
//! Reads strictly (RFC 9112) and bounded; carries out the steps of a reply one write each. While it waits or a write is
//! stuck it listens for the client, so a client that goes away is noticed at once.

use super::{
    engine::{self, Engine},
    log::{Outcome, Ticket},
    reply::{Framing, Head, Reply, Step, reason},
    request::{Protocol, Request},
};
use bytes::{Buf, Bytes, BytesMut};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

const MAX_HEAD: usize = 256 * 1024;
const MAX_HEADERS: usize = 256;
/// How much of the next request is taken in while a reply is on its way.
const MAX_AHEAD: usize = 64 * 1024;
/// Data above this size is not copied behind its chunk head.
const LARGE: usize = 16 * 1024;
/// How long a closed connection is still read, so that unread bytes do not turn its end into a reset.
const LINGER: Duration = Duration::from_secs(2);

/// A connection.
struct Wire {
    stream: TcpStream,
    inbox: BytesMut,
    outbox: BytesMut,
    engine: Arc<Engine>,
    connection: u64,
}

/// Why a connection ends.
enum End {
    /// The client is gone, or there is nothing more to say.
    Silent,
    /// What came is no request: answered with this status, then closed.
    Refused(u16, &'static str),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Silent
    }
}

/// How a request's body is framed.
#[derive(Clone, Copy)]
enum BodyLength {
    Known(usize),
    Chunked,
}

/// What a reply has to know of its request.
struct Answering {
    head_only: bool,
    old: bool,
    keep: bool,
}

/// How far a reply has come.
struct UnderWay {
    begun: Instant,
    framing: Option<Framing>,
    /// Events that are in the outbox or sent, and not yet counted.
    events: u32,
}

fn count(ticket: Option<&Ticket>, under_way: &mut UnderWay) {
    let events = std::mem::take(&mut under_way.events);
    if let Some(ticket) = ticket {
        ticket.sent(events);
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, engine: Arc<Engine>, connection: u64) {
    let mut wire = Wire { stream, inbox: BytesMut::new(), outbox: BytesMut::new(), engine, connection };
    loop {
        match wire.one().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(End::Silent) => return,
            Err(End::Refused(status, why)) => {
                let reply = Reply::json(
                    status,
                    format!(r#"{{"error":{{"message":"mock: {why}","type":"invalid_request_error"}}}}"#),
                );
                wire.engine.unread(engine::blank(connection, Protocol::Http11), why);
                let answering = Answering { head_only: false, old: false, keep: false };
                let _ = wire.play(&reply, &answering, None).await;
                return wire.hang_up().await;
            }
        }
    }
}

impl Wire {
    /// Serves one request; false at the end of the connection.
    async fn one(&mut self) -> Result<bool, End> {
        let Some((mut request, length)) = self.head().await? else { return Ok(false) };
        request.body = match self.body(&request, length).await {
            Ok(body) => body,
            Err(end) => {
                if matches!(end, End::Silent) {
                    self.engine.unread(request, "the connection ended inside the request");
                }
                return Err(end);
            }
        };
        let old = request.protocol == Protocol::Http10;
        let keep = !old && !request.wants_close();
        let answering = Answering { head_only: request.method == "HEAD", old, keep };
        let engine = Arc::clone(&self.engine);
        let exchange = engine.exchange(request);
        let played = self.play(&exchange.reply, &answering, exchange.ticket.as_ref()).await;
        let outcome = if played.is_ok() { engine::outcome(&exchange.reply) } else { Outcome::ClientGone };
        engine.ended(exchange.ticket.as_ref(), outcome);
        match exchange.reply.steps.last() {
            Some(Step::Reset) if played.is_ok() => {
                // The socket is dropped by the caller; without linger that is a reset.
                let _ = self.stream.set_zero_linger();
                Ok(false)
            }
            Some(Step::Close) => {
                self.hang_up().await;
                Ok(false)
            }
            _ if played? && answering.keep => Ok(true),
            _ => {
                self.hang_up().await;
                Ok(false)
            }
        }
    }

    /// Reads more; false at the end of the stream.
    async fn more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.inbox).await? > 0)
    }

    /// The head of the next request, or none at the end of the connection.
    async fn head(&mut self) -> Result<Option<(Request, BodyLength)>, End> {
        loop {
            if let Some(found) = self.parsed()? {
                return Ok(Some(found));
            }
            if self.inbox.len() > MAX_HEAD {
                return Err(End::Refused(431, "the head is too large"));
            }
            if !self.more().await? {
                return if self.inbox.is_empty() { Ok(None) } else { Err(End::Silent) };
            }
        }
    }

    fn parsed(&mut self) -> Result<Option<(Request, BodyLength)>, End> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let size = match parsed.parse(&self.inbox) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(End::Refused(400, "the head is not HTTP/1.x")),
        };
        let (path, query) = Request::target(parsed.path.unwrap_or("/"));
        let owned = |header: &httparse::Header| {
            (header.name.to_owned(), String::from_utf8_lossy(header.value).trim().to_owned())
        };
        let request = Request {
            connection: self.connection,
            protocol: if parsed.version == Some(0) { Protocol::Http10 } else { Protocol::Http11 },
            method: parsed.method.unwrap_or("GET").to_owned(),
            path,
            query,
            headers: parsed.headers.iter().map(owned).collect(),
            body: Bytes::new(),
        };
        self.inbox.advance(size);
        let length = length(&request).map_err(|why| End::Refused(400, why))?;
        Ok(Some((request, length)))
    }

    async fn body(&mut self, request: &Request, length: BodyLength) -> Result<Bytes, End> {
        let limit = self.engine.options.max_body_bytes;
        if matches!(length, BodyLength::Known(size) if size > limit) {
            return Err(End::Refused(413, "the body is too large"));
        }
        let waits = request.header("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"));
        if waits && !matches!(length, BodyLength::Known(0)) && self.inbox.is_empty() {
            self.outbox.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.flush().await?;
        }
        match length {
            BodyLength::Known(size) => self.exactly(size).await,
            BodyLength::Chunked => self.chunked(limit).await,
        }
    }

    async fn exactly(&mut self, size: usize) -> Result<Bytes, End> {
        while self.inbox.len() < size {
            self.inbox.reserve((size - self.inbox.len()).min(1 << 20));
            if !self.more().await? {
                return Err(End::Silent);
            }
        }
        Ok(self.inbox.split_to(size).freeze())
    }

    async fn chunked(&mut self, limit: usize) -> Result<Bytes, End> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(digits).ok().filter(|text| !text.is_empty() && !text.starts_with('+'));
            let size = size.and_then(|text| usize::from_str_radix(text, 16).ok());
            let size = size.ok_or(End::Refused(400, "a chunk size is not a hexadecimal number"))?;
            if size == 0 {
                break;
            }
            if size.saturating_add(body.len()) > limit {
                return Err(End::Refused(413, "the body is too large"));
            }
            body.extend_from_slice(&self.exactly(size).await?);
            if self.exactly(2).await?.as_ref() != b"\r\n" {
                return Err(End::Refused(400, "a chunk is longer than its size"));
            }
        }
        // Trailers say nothing here.
        while !self.line().await?.is_empty() {}
        Ok(body.freeze())
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<Bytes, End> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.inbox) {
                let mut line = self.inbox.split_to(end + 1).freeze();
                line.truncate(end);
                let line = line.strip_suffix(b"\r").map_or(line.clone(), |bare| line.slice_ref(bare));
                return Ok(line);
            }
            if self.inbox.len() > 8192 {
                return Err(End::Refused(400, "a chunk head is too long"));
            }
            if !self.more().await? {
                return Err(End::Silent);
            }
        }
    }

    /// Carries out a reply; false if the connection cannot be used again.
    async fn play(&mut self, reply: &Reply, answering: &Answering, ticket: Option<&Ticket>) -> io::Result<bool> {
        let begun = Instant::from_std(self.engine.clock.now().mono);
        let mut under_way = UnderWay { begun, framing: None, events: 0 };
        let last = reply.steps.len().saturating_sub(1);
        for (n, step) in reply.steps.iter().enumerate() {
            if matches!(step, Step::Reset | Step::Close) {
                self.flush().await?;
                return Ok(false);
            }
            self.step(step, &mut under_way, answering).await?;
            // A head leaves with what follows it, the last data with the end of the body.
            if n < last && !matches!(step, Step::Head(_)) {
                self.flush().await?;
                count(ticket, &mut under_way);
            }
        }
        if under_way.framing == Some(Framing::Chunked) && !answering.head_only {
            self.outbox.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush().await?;
        count(ticket, &mut under_way);
        Ok(under_way.framing.is_some_and(|framing| framing != Framing::UntilClose))
    }

    async fn step(&mut self, step: &Step, under_way: &mut UnderWay, answering: &Answering) -> io::Result<()> {
        match step {
            Step::Head(head) => under_way.framing = Some(self.write_head(head, answering)),
            Step::Data(data, ended) => {
                self.frame(data, under_way.framing, answering).await?;
                under_way.events += ended;
            }
            Step::Burst(list) => {
                for data in list {
                    self.frame(data, under_way.framing, answering).await?;
                    under_way.events += 1;
                }
            }
            Step::Torn(data) => self.tear(data, under_way.framing),
            Step::Pause(wait) => {
                self.flush().await?;
                self.wait(Instant::from_std(self.engine.clock.now().mono) + *wait).await?;
            }
            Step::Until(due) => {
                self.flush().await?;
                self.wait(under_way.begun + *due).await?;
            }
            Step::Reset | Step::Close => {}
        }
        Ok(())
    }

    /// Puts status line and headers into the outbox; they leave with what follows.
    fn write_head(&mut self, head: &Head, answering: &Answering) -> Framing {
        let framing = match head.framing {
            // An HTTP/1.0 client cannot read chunks.
            Framing::Chunked if answering.old => Framing::UntilClose,
            framing => framing,
        };
        let version = if framing == Framing::UntilClose { "1.0" } else { "1.1" };
        let mut text = String::with_capacity(512);
        for part in ["HTTP/", version, " ", &head.status.to_string(), " ", reason(head.status), "\r\n"] {
            text.push_str(part);
        }
        for (name, value) in &head.headers {
            for part in [name, ": ", value, "\r\n"] {
                text.push_str(part);
            }
        }
        match framing {
            Framing::Length(length) => text.push_str(&format!("content-length: {length}\r\n")),
            Framing::Chunked => text.push_str("transfer-encoding: chunked\r\n"),
            Framing::UntilClose => {}
        }
        if !answering.keep && framing != Framing::UntilClose {
            text.push_str("connection: close\r\n");
        }
        text.push_str("\r\n");
        self.outbox.extend_from_slice(text.as_bytes());
        framing
    }

    async fn frame(&mut self, data: &Bytes, framing: Option<Framing>, answering: &Answering) -> io::Result<()> {
        if answering.head_only || data.is_empty() {
            return Ok(());
        }
        let chunked = framing == Some(Framing::Chunked);
        if chunked {
            self.outbox.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        if data.len() > LARGE {
            self.flush().await?;
            self.send(data).await?;
        } else {
            self.outbox.extend_from_slice(data);
        }
        if chunked {
            self.outbox.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// A chunk that promises twice what follows.
    fn tear(&mut self, data: &Bytes, framing: Option<Framing>) {
        if framing == Some(Framing::Chunked) {
            self.outbox.extend_from_slice(format!("{:x}\r\n", data.len() * 2 + 2).as_bytes());
        }
        self.outbox.extend_from_slice(data);
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let out = self.outbox.split().freeze();
        self.send(&out).await
    }

    /// Writes everything; an error if the client goes away meanwhile.
    async fn send(&mut self, mut data: &[u8]) -> io::Result<()> {
        let (mut reader, mut writer) = self.stream.split();
        while !data.is_empty() {
            tokio::select! {
                biased;
                written = writer.write(data) => data = data.get(written?..).unwrap_or_default(),
                read = reader.read_buf(&mut self.inbox), if self.inbox.len() < MAX_AHEAD => still_there(read)?,
            }
        }
        Ok(())
    }

    /// Waits; an error if the client goes away meanwhile.
    async fn wait(&mut self, due: Instant) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.inbox), if self.inbox.len() < MAX_AHEAD => still_there(read)?,
                () = sleep_until(due) => return Ok(()),
            }
        }
    }

    /// Ends the connection properly: what was sent arrives, and what still comes is thrown away.
    async fn hang_up(&mut self) {
        let _ = timeout(LINGER, async {
            if self.stream.shutdown().await.is_ok() {
                while matches!(self.more().await, Ok(true)) {
                    self.inbox.clear();
                }
            }
        })
        .await;
    }
}

/// The end of the client's stream while it should be reading means that it is gone.
fn still_there(read: io::Result<usize>) -> io::Result<()> {
    if read? == 0 { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}

/// How the body of this request ends.
fn length(request: &Request) -> Result<BodyLength, &'static str> {
    match (request.header("transfer-encoding"), request.header("content-length")) {
        (Some(_), Some(_)) => Err("both content-length and transfer-encoding are present"),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(BodyLength::Chunked),
        (Some(_), None) => Err("the transfer-encoding is not chunked"),
        (None, None) => Ok(BodyLength::Known(0)),
        (None, Some(length)) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            length.map(BodyLength::Known).ok_or("the content-length is not a number")
        }
    }
}
