//! An upstream that looks hard at what it is sent, and answers by a script.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A request that was found legal.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The pieces of an answer; none ends the connection.
pub(super) struct Told {
    pub(super) pieces: Vec<Vec<u8>>,
    /// Whether the connection ends behind them.
    pub(super) close: bool,
}

type Script = dyn Fn(&Asked) -> Told + Send + Sync;

/// A running upstream; ends with the test.
pub(super) struct Witness {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    script: Box<Script>,
    complaints: Mutex<Vec<String>>,
    asked: AtomicUsize,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Witness {
    pub(super) async fn start(script: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Witness {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { script: Box::new(script), complaints: Mutex::default(), asked: AtomicUsize::new(0) });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Witness { address, shared, task }
    }

    /// What was wrong with requests.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.shared.complaints.lock().unwrap().clone()
    }

    /// How many requests came.
    pub(super) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    loop {
        let asked = match read(&mut stream, &mut buffer).await {
            Ok(Some(asked)) => asked,
            Ok(None) => return,
            Err(complaint) => {
                shared.complaints.lock().unwrap().push(complaint);
                return;
            }
        };
        shared.asked.fetch_add(1, Ordering::Relaxed);
        let told = (shared.script)(&asked);
        for piece in told.pieces {
            if stream.write_all(&piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if told.close {
            return;
        }
    }
}

/// `Ok(None)` where the connection ended, be it inside a request.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Asked>, String> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if !fill(stream, buffer).await {
            return Ok(None);
        }
    };
    let head: Vec<u8> = buffer.drain(..end).collect();
    let (mut asked, length) = judge(&head).map_err(|why| format!("{why}: {}", head.escape_ascii()))?;
    while buffer.len() < length {
        if !fill(stream, buffer).await {
            return Ok(None);
        }
    }
    asked.body = buffer.drain(..length).collect();
    Ok(Some(asked))
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut piece = vec![0; 16384];
    let read = stream.read(&mut piece).await.unwrap_or(0);
    buffer.extend_from_slice(&piece[..read]);
    read > 0
}

fn judge(head: &[u8]) -> Result<(Asked, usize), &'static str> {
    // Header values may hold any bytes above ASCII (RFC 9110, obs-text): one character each.
    let head: String = head.iter().copied().map(char::from).collect();
    let mut lines = head.trim_end_matches("\r\n\r\n").split("\r\n");
    let first = lines.next().unwrap_or_default();
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err("a request line that is none");
    };
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b)) {
            return Err("a header name that is none");
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let all =
        |name: &str| headers.iter().filter(|(known, _)| known == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    let path = target.split('?').next().unwrap_or_default();
    if !matches!(method, "POST" | "GET") || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("an odd method or target");
    }
    if !["/v1/", "/v1beta/", "/v1alpha/", "/openai/"].iter().any(|start| path.starts_with(start)) {
        return Err("a path outside of the account's");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) || path.to_ascii_lowercase().contains("%2e%2e") {
        return Err("a path that climbs");
    }
    if head.contains('\0') || head.replace("\r\n", "").contains(['\r', '\n']) {
        return Err("a stray control character");
    }
    if !all("transfer-encoding").is_empty() || all("content-length").len() > 1 || all("host").len() != 1 {
        return Err("an ambiguous framing or host");
    }
    let keys: Vec<_> =
        ["authorization", "x-api-key", "x-goog-api-key", "api-key"].iter().flat_map(|n| all(n)).collect();
    if keys.len() != 1 || !keys.iter().all(|key| key.trim_start_matches("Bearer ").starts_with("sk-upstream-")) {
        return Err("not exactly the account's key");
    }
    let length = all("content-length").first().map_or(Ok(0), |v| v.parse()).map_err(|_| "a length that is none")?;
    Ok((Asked { target: target.to_owned(), headers, body: Vec::new() }, length))
}
