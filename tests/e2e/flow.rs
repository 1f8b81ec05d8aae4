//! Clients that read slowly, stop reading, or leave: what the gateway holds for them, and what it does upstream.

use crate::{
    client::Connection,
    client_h2::H2,
    formats::{
        FORMATS,
        Format::{self, Anthropic},
        Mode::{self, Stream, Whole},
    },
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, stream_head},
};
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use sub2api::{
    clock::Clock,
    mock::{Entry, Mock, MockHandle, Options, Outcome},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One event with this many bytes of text.
fn large_event(bytes: usize) -> String {
    crate::anthropic::delta(&"x".repeat(bytes))
}

/// An HTTP/2 upstream that sends events for as long as they are taken.
async fn flood_over_h2(event: Bytes, taken: Arc<AtomicU64>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = ::h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = server.accept().await {
            let (event, taken) = (event.clone(), taken.clone());
            tokio::spawn(async move {
                let header = http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
                let mut send = respond.send_response(header, false).unwrap();
                loop {
                    let mut rest = event.clone();
                    while !rest.is_empty() {
                        send.reserve_capacity(rest.len());
                        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
                        let Some(Ok(room)) = room else { return };
                        let piece = rest.split_to(room.min(rest.len()));
                        taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
                        if send.send_data(piece, false).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (url, task)
}

/// A client that takes about fifty kilobytes a second, for so long.
async fn read_slowly(address: std::net::SocketAddr, over_h2: bool, model: &str, time: Duration) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let ask = Anthropic.ask(Stream, model, "hi");
    if over_h2 {
        // By hand, since a library would read ahead: preface, settings, the header block without compression, the body.
        stream.write_all(&h2_request(&ask.path, &ask.body)).await.unwrap();
    } else {
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\nanthropic-version: 2023-06-01\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            ask.path,
            ask.body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&ask.body).await.unwrap();
    }
    let started = Instant::now();
    let mut piece = vec![0; 5 << 10];
    while started.elapsed() < time {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "the stream ended");
        tokio::time::sleep(millis(100)).await;
    }
    stream
}

/// A request in HTTP/2 frames. The client's windows are huge, so that only its slow reading holds the gateway back.
fn h2_request(path: &str, body: &[u8]) -> Vec<u8> {
    fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
    }
    fn field(block: &mut Vec<u8>, name: &str, value: &str) {
        // A literal that is not indexed, with both lengths below 127.
        block.extend_from_slice(&[0, u8::try_from(name.len()).unwrap()]);
        block.extend_from_slice(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    const WINDOW: u32 = 0x7fff_ffff;
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = [&[0, 4][..], &WINDOW.to_be_bytes()].concat();
    frame(&mut out, 4, 0, 0, &settings);
    frame(&mut out, 8, 0, 0, &(WINDOW - 65_535).to_be_bytes());
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("authorization", "Bearer sk-test"),
        ("anthropic-version", "2023-06-01"),
        ("content-type", "application/json"),
    ] {
        field(&mut block, name, value);
    }
    frame(&mut out, 1, 4, 1, &block);
    frame(&mut out, 0, 1, 1, body);
    out
}

/// What may be on its way in one stream. Most of it is the kernel's, which lets the buffers of its sockets grow to megabytes
/// on both sides of the gateway.
const MOST_HELD: u64 = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_makes_the_upstream_wait_and_not_the_memory_grow() {
    let mut running = JoinSet::new();
    for (upstream_h2, client_h2, event) in [
        (false, false, 60 << 10),
        (false, false, 2 << 20),
        (false, true, 60 << 10),
        (false, true, 2 << 20),
        (true, false, 60 << 10),
        (true, true, 60 << 10),
        // Small frames cost more than their bytes, and must make the upstream wait as well.
        (true, false, 20),
        (true, true, 20),
    ] {
        running.spawn(async move {
            let name = format!("upstream h2 {upstream_h2}, client h2 {client_h2}, events of {event} bytes");
            let taken = Arc::new(AtomicU64::new(0));
            let event = large_event(event);
            let flood = format!("{:x}\r\n{event}\r\n", event.len());
            let acts =
                vec![stream_head(), chunk(crate::anthropic::preamble("m")), Act::Flood(flood.into(), taken.clone())];
            let over_h1 = Upstream::always(acts).await;
            let (url, task) = flood_over_h2(event.into(), taken.clone()).await;
            let (url, more) = if upstream_h2 { (url, "http2: always") } else { (over_h1.url(), "") };
            let gateway = Gateway::start(&[account("only", "anthropic", &url, more)], "").await;
            let address = gateway.address;
            let client =
                tokio::spawn(async move { read_slowly(address, client_h2, "m", Duration::from_secs(15)).await });
            // What grows, grows without end: at some time nothing may be taken any more but for what the client reads,
            // which is 75 kB in this while.
            let (started, mut before) = (Instant::now(), 0);
            loop {
                tokio::time::sleep(millis(1500)).await;
                let now = taken.load(Ordering::Relaxed);
                assert!(now < MOST_HELD, "{name}: {now} bytes were taken from the upstream");
                assert!(!client.is_finished(), "{name}: the stream broke");
                if now > 100 << 10 && now - before < 512 << 10 {
                    break;
                }
                assert!(
                    started.elapsed() < Duration::from_secs(12),
                    "{name}: it never waits: {before} bytes, then {now}"
                );
                before = now;
            }
            client.abort();
            task.abort();
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_many_small_frames_is_taken() {
    let upstream = Upstream::always(crate::failover::good(Anthropic)).await;
    let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await;
    let ask = Anthropic.ask(Whole, "m", &"word ".repeat(40_000)).in_chunks(60);
    for _ in 0..3 {
        let reply = crate::client::h2(gateway.address, &ask).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert!(upstream.seen().iter().all(|seen| seen.body == ask.body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_given_up_in_time() {
    let mut running = JoinSet::new();
    for (client_h2, more) in [(false, "bounds: { client_write: 700ms }\n"), (true, "timeouts: { total: 1500ms }\n")] {
        running.spawn(async move {
            let taken = Arc::new(AtomicU64::new(0));
            let event = large_event(60 << 10);
            let flood = format!("{:x}\r\n{event}\r\n", event.len());
            let acts = vec![stream_head(), chunk(crate::anthropic::preamble("m")), Act::Flood(flood.into(), taken)];
            let upstream = Upstream::always(acts).await;
            let gateway = Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], more).await;
            let stuck = read_slowly(gateway.address, client_h2, "m", millis(100)).await;
            let since = Instant::now();
            while upstream.seen()[0].ended.is_none() && since.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(millis(20)).await;
            }
            assert!(since.elapsed() < Duration::from_secs(5), "h2 {client_h2}: {:?}", since.elapsed());
            assert_eq!(gateway.left_over().await, [""; 0], "h2 {client_h2}");
            drop(stuck);
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

/// A request whose client leaves.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    format: Format,
    mode: Mode,
    /// How far the answer has come: `stallhead` nothing, `prestall` all before the content, `stall` half of it.
    fault: &'static str,
    client_h2: bool,
    upstream_h2: bool,
}

impl Leaving {
    fn all() -> Vec<Leaving> {
        let mut all = Vec::new();
        for format in FORMATS {
            for mode in [Whole, Stream] {
                for fault in ["stallhead", "prestall", "stall"] {
                    for (client_h2, upstream_h2) in [(false, false), (true, false), (false, true), (true, true)] {
                        all.push(Leaving { format, mode, fault, client_h2, upstream_h2 });
                    }
                }
            }
        }
        all
    }

    fn name(&self) -> String {
        let version = |h2: bool| if h2 { "h2" } else { "h1" };
        let (client, upstream) = (version(self.client_h2), version(self.upstream_h2));
        format!("{:?}-{:?}-{}-{client}-{upstream}", self.format, self.mode, self.fault).to_lowercase()
    }

    fn account(&self, mock: &MockHandle) -> String {
        let upstream = format!("{}-fault-{}", self.format.vendor(), self.fault);
        let http2 = if self.upstream_h2 { "always" } else { "never" };
        let more = format!("models: [{{ name: {}, upstream: {upstream} }}], http2: {http2}", self.name());
        account(&self.name(), self.format.provider(), &self.format.base(&mock.base_url()), &more)
    }

    fn entry(&self, mock: &MockHandle) -> Option<Entry> {
        let key = format!("sk-upstream-{}", self.name());
        mock.log().into_iter().find(|entry| entry.key() == Some(&key))
    }

    /// Sends the request, waits until it is where it should be, leaves, and gives back how long the upstream went on.
    async fn run(self, address: std::net::SocketAddr, mock: Arc<MockHandle>) -> Result<Duration, String> {
        let ask =
            self.format.ask(self.mode, &self.name(), "SAY: enough words for more than a handful of events, all in all");
        let (mut over_h1, mut over_h2) = (None, None);
        if self.client_h2 {
            let connection = H2::open(address).await.unwrap();
            let sent = connection.send(&ask).await.unwrap();
            // The connection stays; only the stream is cancelled.
            over_h2 = Some((tokio::spawn(sent.arrives()), connection));
        } else {
            let mut connection = Connection::open(address).await.unwrap();
            connection.send(&ask).await.unwrap();
            over_h1 = Some(connection);
        }
        let asked = Instant::now();
        while self.entry(&mock).is_none() {
            if asked.elapsed() > Duration::from_secs(20) {
                return Err(format!("{self:?}: never asked"));
            }
            tokio::time::sleep(millis(20)).await;
        }
        tokio::time::sleep(millis(400)).await;
        if let Some(ended) = self.entry(&mock).filter(|entry| entry.outcome != Outcome::Pending) {
            return Err(format!("{self:?}: over before the client left: {:?}", ended.outcome));
        }
        let left = Clock::System.now();
        drop(over_h1.take());
        if let Some((sent, connection)) = over_h2.take() {
            sent.abort();
            // What has arrived is dropped with it, which cancels the rest.
            drop(sent.await);
            tokio::time::sleep(millis(700)).await;
            drop(connection);
        } else {
            tokio::time::sleep(millis(700)).await;
        }
        match self.entry(&mock).map(|entry| (entry.outcome, entry.ended)) {
            Some((Outcome::ClientGone, Some(ended))) => Ok(ended.since(left)),
            other => Err(format!("{self:?}: {other:?}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_at_any_moment_cancels_the_upstream_within_half_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mock = Arc::new(Mock::start(listener, Options::default()).unwrap());
    let accounts: Vec<String> = Leaving::all().iter().map(|leaving| leaving.account(&mock)).collect();
    let gateway = Gateway::start(&accounts, "").await;
    let mut running = JoinSet::new();
    for leaving in Leaving::all() {
        running.spawn(leaving.run(gateway.address, mock.clone()));
    }
    let outcomes = running.join_all().await;
    let wrong: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Ok(time) if *time <= millis(500) => None,
            Ok(time) => Some(format!("only after {time:?}")),
            Err(wrong) => Some(wrong.clone()),
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
    assert_eq!(gateway.left_over().await, [""; 0]);
}
