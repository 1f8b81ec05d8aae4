//! Starts a mock on a listener, and the handle by which tests watch and direct it.

use super::{
    Options,
    engine::Engine,
    http1, http2,
    log::{Entry, Log},
    script::{Matching, Play},
};
use std::{
    fs::OpenOptions,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection may take to show which protocol it speaks, once it has begun.
const SNIFF: Duration = Duration::from_secs(5);

/// A mock that is to be started.
#[derive(Debug)]
pub struct Mock;

impl Mock {
    /// Serves on this listener, in the runtime of the caller, until the handle is dropped.
    ///
    /// # Errors
    /// The listener has no address, or the log file cannot be opened.
    pub fn start(listener: TcpListener, options: Options) -> io::Result<MockHandle> {
        let address = listener.local_addr()?;
        let file = match &options.log_file {
            Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        let log = Log::new(options.max_log_entries, options.max_log_bytes, file);
        let engine = Arc::new(Engine::new(options, log));
        let task = background(accept(listener, Arc::clone(&engine)));
        Ok(MockHandle { address, engine, task })
    }
}

/// A running mock. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct MockHandle {
    address: SocketAddr,
    engine: Arc<Engine>,
    task: JoinHandle<()>,
}

impl Drop for MockHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MockHandle {
    /// Waits for its end, which comes only if it fails.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn wait(mut self) -> io::Result<()> {
        (&mut self.task).await.map_err(io::Error::other)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://<address>`
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Copies of all log entries, oldest first. Requests for bench models are not in it.
    pub fn log(&self) -> Vec<Entry> {
        self.engine.log.entries()
    }

    /// How many requests were logged since the start or the last reset.
    pub fn requests(&self) -> u64 {
        self.engine.log.count()
    }

    /// Forgets the log, what fault counts have struck, stored conversations and scripts.
    pub fn reset(&self) {
        self.engine.reset();
    }

    /// Says what to do with the next requests that match, one play each.
    ///
    /// # Errors
    /// The name of a fault that there is not.
    pub fn script(&self, matching: Matching, plays: impl IntoIterator<Item = Play>) -> Result<(), String> {
        self.engine.scripts.add(matching, plays.into_iter().collect())
    }

    /// How many plays still wait for their request.
    pub fn plays_waiting(&self) -> usize {
        self.engine.scripts.waiting()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.engine.open_connections.load(Ordering::SeqCst)
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.engine.connections.load(Ordering::SeqCst)
    }
}

#[allow(clippy::disallowed_methods, reason = "the handle keeps the task and ends it")]
fn background(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

async fn accept(listener: TcpListener, engine: Arc<Engine>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let number = engine.connections.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(connection(stream, Arc::clone(&engine), number));
                }
                // Out of file descriptors, most likely: let some connections end.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Engine>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(stream: TcpStream, engine: Arc<Engine>, number: u64) {
    engine.open_connections.fetch_add(1, Ordering::SeqCst);
    let _open = Open(Arc::clone(&engine));
    // Every write leaves at once: the faults are about what is in one packet.
    let _ = stream.set_nodelay(true);
    match is_http2(&stream).await {
        Some(true) => http2::serve(stream, engine, number).await,
        Some(false) => http1::serve(stream, engine, number).await,
        None => {}
    }
}

/// Whether the client begins as HTTP/2 does; none if it says nothing and leaves.
async fn is_http2(stream: &TcpStream) -> Option<bool> {
    let mut start = [0; PREFACE.len()];
    stream.readable().await.ok()?;
    let decide = async {
        loop {
            let size = stream.peek(&mut start).await.ok().filter(|size| *size > 0)?;
            let seen = start.get(..size)?;
            if size == PREFACE.len() || !PREFACE.starts_with(seen) {
                return Some(seen == PREFACE);
            }
            // The bytes that were peeked at stay readable, so there is no event to wait for.
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SNIFF, decide).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{Outcome, Reply, Step};
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn mock() -> MockHandle {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Mock::start(listener, Options::default()).unwrap()
    }

    fn post(path: &str, body: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nhost: m\r\nauthorization: Bearer sk\r\ncontent-type: application/json\r\n\
             anthropic-version: 2023-06-01\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn chat(model: &str, text: &str, stream: bool) -> String {
        let body =
            format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        post("/v1/chat/completions", &body)
    }

    /// Everything that comes until the connection ends, or its error.
    async fn all(mock: &MockHandle, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(mock.address()).await?;
        stream.write_all(request.replace("host: m", "host: m\r\nconnection: close").as_bytes()).await?;
        let mut out = Vec::new();
        stream.read_to_end(&mut out).await?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    async fn settled(mock: &MockHandle) -> Entry {
        loop {
            if let Some(entry) = mock.log().pop().filter(|entry| entry.outcome != Outcome::Pending) {
                return entry;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_and_logged() {
        let mock = mock().await;
        let reply = all(&mock, &chat("gpt-4.1", "hello", false)).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.contains("ECHO: hello"), "{reply}");
        let entry = settled(&mock).await;
        assert_eq!((entry.status, entry.kind, entry.key()), (200, Some("openai-chat"), Some("sk")));
        let rows = all(&mock, "GET /_log?contains=hello HTTP/1.1\r\nhost: m\r\n\r\n").await.unwrap();
        let row: Value = serde_json::from_str(rows.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(row["body"]["model"], "gpt-4.1");
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_chunked_bodies_are_read() {
        let mock = mock().await;
        let mut stream = TcpStream::connect(mock.address()).await.unwrap();
        let body = r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}]}"#;
        let (first, second) = body.split_at(20);
        let chunked = "POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\nauthorization: Bearer sk\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n";
        stream.write_all(chunked.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let size = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..size], b"HTTP/1.1 100 Continue\r\n\r\n");
        let rest =
            format!("{:x};x=y\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nx-trailer: 1\r\n\r\n", first.len(), second.len());
        stream.write_all(rest.as_bytes()).await.unwrap();
        let size = stream.read(&mut buffer).await.unwrap();
        assert!(String::from_utf8_lossy(&buffer[..size]).contains("ECHO: hi"));
        stream.write_all(chat("gpt-4.1", "again", false).as_bytes()).await.unwrap();
        let size = stream.read(&mut buffer).await.unwrap();
        assert!(String::from_utf8_lossy(&buffer[..size]).contains("ECHO: again"));
        assert_eq!(mock.connections(), 1);
        assert_eq!(mock.log().first().unwrap().body, body.as_bytes());
    }

    #[tokio::test]
    async fn broken_connections_break_as_their_fault_says() {
        let mock = mock().await;
        assert_eq!(all(&mock, &chat("gpt-fault-close", "x", true)).await.unwrap(), "");
        let reset = all(&mock, &chat("gpt-fault-resethead", "x", true)).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(settled(&mock).await.outcome, Outcome::Broken);
        let mid = all(&mock, &chat("gpt-fault-reset", "x", true)).await.unwrap_err();
        assert_eq!(mid.kind(), io::ErrorKind::ConnectionReset);
        let torn = all(&mock, &chat("gpt-fault-truncated", "x", true)).await.unwrap();
        assert!(torn.contains("200 OK") && !torn.ends_with("0\r\n\r\n"), "{torn}");
        let preamble = all(&mock, &chat("gpt-fault-preclose", "x", true)).await.unwrap();
        assert!(preamble.contains("\"role\":\"assistant\"") && !preamble.contains("ECHO"), "{preamble}");
        let old = all(&mock, &chat("gpt-fault-http10", "x", true)).await.unwrap();
        assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("data: [DONE]\n\n"), "{old}");
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_at_once() {
        let mock = mock().await;
        let mut stream = TcpStream::connect(mock.address()).await.unwrap();
        stream.write_all(chat("gpt-4.1", "SLOW_STREAM", true).as_bytes()).await.unwrap();
        let mut buffer = [0; 256];
        let _ = stream.read(&mut buffer).await.unwrap();
        let left = crate::clock::Clock::System.now();
        drop(stream);
        let entry = settled(&mock).await;
        assert_eq!(entry.outcome, Outcome::ClientGone);
        assert!(entry.events_sent < 20, "{}", entry.events_sent);
        assert!(entry.ended.unwrap().since(left) < Duration::from_millis(250));
    }

    #[tokio::test]
    async fn scripts_come_before_everything() {
        let mock = mock().await;
        let teapot = Reply::json(418, "{}").then(Step::Close);
        mock.script(Matching::any().model("gpt-4.1"), [Play::Reply(teapot), Play::Fault("503"), Play::Answer]).unwrap();
        assert!(all(&mock, &chat("gpt-5", "x", false)).await.unwrap().contains(" 200 "));
        for status in [" 418 ", " 503 ", " 200 ", " 200 "] {
            let reply = all(&mock, &chat("gpt-4.1", "x", false)).await.unwrap();
            assert!(reply.contains(status), "{status}: {reply}");
        }
        assert_eq!(mock.plays_waiting(), 0);
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_logged() {
        let mock = mock().await;
        for (bytes, status) in [
            ("NONSENSE\r\n\r\n", " 400 "),
            ("POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", " 400 "),
            ("POST / HTTP/1.1\r\nhost: m\r\ncontent-length: +1\r\n\r\nx", " 400 "),
            ("POST / HTTP/1.1\r\nhost: m\r\ntransfer-encoding: chunked\r\n\r\nz\r\n", " 400 "),
            ("POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 99999999999\r\n\r\n", " 413 "),
        ] {
            let mut stream = TcpStream::connect(mock.address()).await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut out = String::new();
            stream.read_to_string(&mut out).await.unwrap();
            assert!(out.contains(status), "{bytes:?}: {out}");
        }
        assert!(mock.log().iter().all(|entry| entry.reject.is_some()));
        assert_eq!(mock.log().len(), 5);
    }

    #[tokio::test]
    async fn http2_is_served_on_the_same_port_with_its_own_resets() {
        let mock = mock().await;
        let stream = TcpStream::connect(mock.address()).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = background(async move { _ = connection.await });
        let ask = |model: &str| {
            let body =
                format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi é"}}]}}"#);
            let request = http::Request::post("http://m/v1/chat/completions").header("authorization", "Bearer sk");
            (request.header("content-type", "application/json").body(()).unwrap(), body)
        };
        for (model, whole) in [("gpt-4.1", true), ("gpt-fault-prereset", false), ("gpt-4.1", true)] {
            let (request, body) = ask(model);
            let (response, mut send) = client.send_request(request, false).unwrap();
            send.send_data(body.into(), true).unwrap();
            let mut incoming = response.await.unwrap().into_body();
            let mut text = Vec::new();
            let mut error = None;
            while let Some(data) = incoming.data().await {
                match data {
                    Ok(data) => {
                        incoming.flow_control().release_capacity(data.len()).unwrap();
                        text.extend_from_slice(&data);
                    }
                    Err(e) => error = Some(e),
                }
                if error.is_some() {
                    break;
                }
            }
            assert_eq!(error.is_none(), whole, "{model}: {error:?}");
            assert_eq!(String::from_utf8_lossy(&text).contains("[DONE]"), whole);
        }
        assert_eq!(mock.log().iter().filter(|entry| entry.protocol == crate::mock::Protocol::Http2).count(), 3);
        driver.abort();
    }
}
