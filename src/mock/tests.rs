//! The mock on a socket: what arrives, what leaves, and how connections end.

use super::{Entry, Matching, Mock, MockHandle, Options, Outcome, Play, Protocol, Reply, Step, server::background};
use bytes::Bytes;
use serde_json::Value;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

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
    let body = format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#);
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
    assert_eq!(mock.log().first().unwrap().request.body, body.as_bytes());
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

/// An HTTP/2 client on a connection of its own.
struct Http2 {
    client: h2::client::SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<()>,
}

impl Http2 {
    async fn connect(mock: &MockHandle) -> Self {
        let stream = TcpStream::connect(mock.address()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        Http2 { client, driver: background(async move { _ = connection.await }) }
    }

    async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<http::Response<h2::RecvStream>, h2::Error> {
        let request = http::Request::post(format!("http://m{path}")).header("authorization", "Bearer sk");
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let (response, mut send) = self.client.send_request(request, false).unwrap();
        let mut body = body.into();
        while !body.is_empty() {
            send.reserve_capacity(body.len());
            let granted = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap()?;
            send.send_data(body.split_to(granted.min(body.len())), false)?;
        }
        send.send_data(Bytes::new(), true)?;
        response.await
    }
}

/// All data of a reply, and the error that cut it off.
async fn drained(response: http::Response<h2::RecvStream>) -> (Vec<u8>, Option<h2::Error>) {
    let mut incoming = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = incoming.data().await {
        match data {
            Ok(data) => {
                incoming.flow_control().release_capacity(data.len()).unwrap();
                text.extend_from_slice(&data);
            }
            Err(error) => return (text, Some(error)),
        }
    }
    (text, None)
}

fn chat_body(model: &str, text: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

#[tokio::test]
async fn http2_is_served_on_the_same_port_with_its_own_resets() {
    let mock = mock().await;
    let mut http2 = Http2::connect(&mock).await;
    for (model, whole) in [("gpt-4.1", true), ("gpt-fault-prereset", false), ("gpt-4.1", true)] {
        let response = http2.post("/v1/chat/completions", chat_body(model, "hi é")).await.unwrap();
        let (text, error) = drained(response).await;
        assert_eq!(error.is_none(), whole, "{model}: {error:?}");
        assert_eq!(String::from_utf8_lossy(&text).contains("[DONE]"), whole);
    }
    let reset = http2.post("/v1/chat/completions", chat_body("gpt-fault-resethead", "x")).await.unwrap_err();
    assert!(reset.is_reset(), "{reset:?}");
    assert!(http2.post("/v1/chat/completions", chat_body("gpt-fault-close", "x")).await.is_err());
    assert!(mock.log().iter().all(|entry| entry.request.protocol == Protocol::Http2));
    assert_eq!((mock.log().len(), mock.connections()), (5, 1));
    http2.driver.abort();
}

#[tokio::test]
async fn an_http2_client_that_cancels_a_stream_is_noticed_at_once() {
    let mock = mock().await;
    let mut http2 = Http2::connect(&mock).await;
    let response = http2.post("/v1/chat/completions", chat_body("gpt-4.1", "SLOW_STREAM")).await.unwrap();
    let left = crate::clock::Clock::System.now();
    drop(response);
    let entry = settled(&mock).await;
    assert_eq!(entry.outcome, Outcome::ClientGone);
    assert!(entry.ended.unwrap().since(left) < Duration::from_millis(250));
    assert_eq!(mock.open_connections(), 1);
    http2.driver.abort();
}

#[tokio::test]
async fn large_bodies_arrive_whole_on_both_protocols() {
    let mock = mock().await;
    let text = "0123456789abcdef".repeat(1 << 17);
    let body = chat_body("gpt-4.1", &text);
    let whole = all(&mock, &post("/v1/chat/completions", &body)).await.unwrap();
    assert!(whole.starts_with("HTTP/1.1 200"), "{} bytes sent", body.len());
    let mut http2 = Http2::connect(&mock).await;
    let (reply, error) = drained(http2.post("/v1/chat/completions", body.clone()).await.unwrap()).await;
    assert!(error.is_none() && reply.len() > text.len());
    assert!(mock.log().iter().all(|entry| entry.request.body == body.as_bytes()));
    http2.driver.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_waited_for_and_its_end_is_seen() {
    let mock = mock().await;
    let mut stream = TcpStream::connect(mock.address()).await.unwrap();
    stream.write_all(chat("gpt-fault-huge-16", "x", true).as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let _ = stream.read(&mut buffer).await.unwrap();
    assert_eq!(mock.log().pop().unwrap().outcome, Outcome::Pending);
    drop(stream);
    assert_eq!(settled(&mock).await.outcome, Outcome::ClientGone);
}

#[tokio::test]
async fn dropping_the_handle_ends_every_connection() {
    let mock = mock().await;
    let mut stream = TcpStream::connect(mock.address()).await.unwrap();
    stream.write_all(chat("gpt-fault-stallhead", "x", true).as_bytes()).await.unwrap();
    while mock.requests() == 0 {
        tokio::task::yield_now().await;
    }
    drop(mock);
    let mut out = Vec::new();
    let _ = stream.read_to_end(&mut out).await;
    assert!(out.is_empty());
}

#[tokio::test]
async fn a_foreign_credential_and_a_hop_by_hop_header_are_refused() {
    let mock = mock().await;
    let good = chat("gpt-4.1", "x", false);
    for extra in ["x-api-key: caller", "proxy-authorization: x", "connection: x-internal"] {
        let reply = all(&mock, &good.replace("host: m", &format!("host: m\r\n{extra}"))).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 400") && reply.contains("mock: "), "{extra}: {reply}");
    }
}
