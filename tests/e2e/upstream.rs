//! An upstream of which a test decides every byte and every pause.

use bytes::Bytes;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

/// One thing that the upstream does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Bytes),
    Sleep(Duration),
    /// Breaks the connection with a reset.
    Reset,
    /// Ends the connection.
    Close,
    /// Sends this over and over until the connection breaks, and counts the bytes that were taken.
    Flood(Bytes, Arc<AtomicU64>),
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) connection: usize,
    /// When it had arrived.
    pub(crate) began: Option<Instant>,
    /// When all was done that the script says, or the client of the upstream had left.
    pub(crate) ended: Option<Instant>,
    /// When the client of the upstream, the gateway, was found to have left during the answer.
    pub(crate) left_after: Option<Duration>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

type Script = dyn Fn(usize, &Seen) -> Vec<Act> + Send + Sync;

/// A running upstream; ends with the test.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Starts an upstream that answers its n-th request by this script.
    pub(crate) async fn start(script: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script: Arc<Script> = Arc::new(script);
        let (log, run) = (seen.clone(), script);
        let task = tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, connection, log.clone(), run.clone()));
            }
        });
        Upstream { address, seen, task }
    }

    /// The same answer to every request.
    pub(crate) async fn always(acts: Vec<Act>) -> Upstream {
        Upstream::start(move |_, _| acts.clone()).await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The most requests that were being answered at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        let seen = self.seen();
        let inside = |at: Instant| {
            seen.iter().filter(|s| s.began.is_some_and(|b| b <= at) && s.ended.is_none_or(|e| e > at)).count()
        };
        seen.iter().filter_map(|s| s.began).map(inside).max().unwrap_or(0)
    }

    /// What came since the last time; not for tests that look at `left_after`.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(mut stream: TcpStream, connection: usize, log: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    let mut buffer = Vec::new();
    while let Some(mut seen) = read_request(&mut stream, &mut buffer).await {
        seen.connection = connection;
        let at = {
            let mut all = log.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let started = Instant::now();
        log.lock().unwrap()[at].began = Some(started);
        for act in script(at, &seen) {
            let alive = match act {
                Act::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
                Act::Sleep(time) => !left_within(&mut stream, time).await,
                Act::Flood(bytes, taken) => {
                    flood(&mut stream, &bytes, &taken).await;
                    false
                }
                Act::Reset => {
                    let _ = stream.set_zero_linger();
                    note(&log, at, |seen| seen.ended = Some(Instant::now()));
                    return;
                }
                Act::Close => {
                    note(&log, at, |seen| seen.ended = Some(Instant::now()));
                    return;
                }
            };
            if !alive {
                note(&log, at, |seen| {
                    seen.left_after = Some(started.elapsed());
                    seen.ended = Some(Instant::now());
                });
                return;
            }
        }
        note(&log, at, |seen| seen.ended = Some(Instant::now()));
    }
}

/// Notes something of a request, unless a test has taken it away.
fn note(log: &Mutex<Vec<Seen>>, at: usize, what: impl FnOnce(&mut Seen)) {
    if let Some(seen) = log.lock().unwrap().get_mut(at) {
        what(seen);
    }
}

async fn flood(stream: &mut TcpStream, bytes: &[u8], taken: &AtomicU64) {
    loop {
        let mut rest = bytes;
        while !rest.is_empty() {
            match stream.write(rest).await {
                Ok(sent) if sent > 0 => {
                    taken.fetch_add(sent as u64, Ordering::Relaxed);
                    rest = &rest[sent..];
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Whether the other side leaves within this time.
async fn left_within(stream: &mut TcpStream, time: Duration) -> bool {
    let mut byte = [0; 1];
    match tokio::time::timeout(time, stream.read(&mut byte)).await {
        Ok(Ok(0) | Err(_)) => true,
        Ok(Ok(_)) | Err(_) => false,
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        fill(stream, buffer).await?;
    };
    let head: Vec<u8> = buffer.drain(..head_end).collect();
    let mut seen = Seen { head: String::from_utf8_lossy(&head).into_owned(), ..Seen::default() };
    if seen.header("transfer-encoding").is_some() {
        loop {
            let line = loop {
                match buffer.windows(2).position(|window| window == b"\r\n") {
                    Some(line) => break line,
                    None => fill(stream, buffer).await?,
                }
            };
            let size = usize::from_str_radix(std::str::from_utf8(&buffer[..line]).ok()?, 16).ok()?;
            while buffer.len() < line + size + 4 {
                fill(stream, buffer).await?;
            }
            seen.body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
            buffer.drain(..line + size + 4);
            if size == 0 {
                return Some(seen);
            }
        }
    }
    let length: usize = seen.header("content-length").map_or(Some(0), |value| value.parse().ok())?;
    while buffer.len() < length {
        fill(stream, buffer).await?;
    }
    seen.body = buffer.drain(..length).collect();
    Some(seen)
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut piece = vec![0; 65536];
    let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
    buffer.extend_from_slice(&piece[..read]);
    Some(())
}

/// A whole reply with a content-length.
pub(crate) fn whole(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Vec<Act> {
    with_headers(status, &[("content-type", content_type)], body)
}

/// A whole reply with these headers and a content-length.
pub(crate) fn with_headers(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Act> {
    let body = body.as_ref();
    let mut message = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        message += &format!("{name}: {value}\r\n");
    }
    let mut bytes = (message + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    vec![Act::Send(bytes.into())]
}

/// The head of a chunked stream of events.
pub(crate) fn stream_head() -> Act {
    Act::Send(Bytes::from_static(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    ))
}

/// One chunk.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Act {
    let bytes = bytes.as_ref();
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    Act::Send(framed.into())
}

/// The end of a chunked message.
pub(crate) fn end() -> Act {
    Act::Send(Bytes::from_static(b"0\r\n\r\n"))
}

/// A whole stream, an event per chunk.
pub(crate) fn stream(events: &[impl AsRef<[u8]>]) -> Vec<Act> {
    let mut acts = vec![stream_head()];
    acts.extend(events.iter().map(chunk));
    acts.push(end());
    acts
}
