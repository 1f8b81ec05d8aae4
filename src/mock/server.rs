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

    /// How many requests the token endpoint has had.
    pub fn token_requests(&self) -> u64 {
        self.engine.issuer.requests()
    }

    /// Makes every access token bad that was given out so far.
    pub fn revoke_tokens(&self) {
        self.engine.issuer.revoke();
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
pub(super) fn background(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
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
