//! The HTTP/2 side of the client: one connection, streams that a test can read slowly, or leave.

use crate::client::{Ask, Reply};
use ::h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest, handshake},
};
use bytes::Bytes;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};

/// A connection by prior knowledge; ends when it is dropped.
pub(crate) struct H2 {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request that was sent. Dropping it cancels it.
pub(crate) struct Sent {
    response: ResponseFuture,
    upload: SendStream<Bytes>,
    rest: Bytes,
}

/// A reply whose header has come. Dropping it cancels the rest.
pub(crate) struct Arriving {
    pub(crate) reply: Reply,
    body: RecvStream,
    started: Instant,
}

impl H2 {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<H2> {
        H2::over(TcpStream::connect(address).await?).await
    }

    /// Speaks HTTP/2 over a connection that has been made.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<H2> {
        let (sender, connection) = handshake(stream).await.map_err(io::Error::other)?;
        Ok(H2 { sender, driver: tokio::spawn(async move { drop(connection.await) }) })
    }

    /// Sends one request and reads its reply.
    pub(crate) async fn ask(&self, ask: &Ask) -> io::Result<Reply> {
        Ok(self.send(ask).await?.arrives().await?.finish().await)
    }

    /// Sends the header, and the body if it is small.
    pub(crate) async fn send(&self, ask: &Ask) -> io::Result<Sent> {
        let mut sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        let mut request = http::Request::builder().method(ask.method).uri(format!("http://gateway.test{}", ask.path));
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if ask.chunked.is_none() && ask.method == "POST" {
            request = request.header("content-length", ask.body.len());
        }
        let request = request.body(()).map_err(io::Error::other)?;
        let (response, mut upload) = sender.send_request(request, ask.body.is_empty()).map_err(io::Error::other)?;
        let mut rest = ask.body.clone();
        if let Some(size) = ask.chunked.filter(|size| *size < 256) {
            // Tiny frames, all at once.
            while !rest.is_empty() {
                let piece = rest.split_to(size.min(rest.len()));
                upload.send_data(piece, rest.is_empty()).map_err(io::Error::other)?;
            }
        } else if !rest.is_empty() && rest.len() < 16_384 {
            // A gateway that has answered already may have closed the stream: its answer is what counts.
            let _ = upload.send_data(std::mem::take(&mut rest), true);
        }
        Ok(Sent { response, upload, rest })
    }
}

impl Sent {
    /// Sends what is left of the body, and waits for the reply's header.
    pub(crate) async fn arrives(self) -> io::Result<Arriving> {
        let Sent { response, mut upload, mut rest } = self;
        let started = Instant::now();
        let sending = async move {
            while !rest.is_empty() {
                upload.reserve_capacity(rest.len().min(65536));
                match std::future::poll_fn(|cx| upload.poll_capacity(cx)).await {
                    Some(Ok(room)) => {
                        let piece = rest.split_to(room.min(rest.len()));
                        if upload.send_data(piece, rest.is_empty()).is_err() {
                            return;
                        }
                    }
                    Some(Err(_)) | None => return,
                }
            }
        };
        let (response, ()) = tokio::join!(response, sending);
        let response = response.map_err(io::Error::other)?;
        let mut reply = Reply { status: response.status().as_u16(), ..Reply::default() };
        for (name, value) in response.headers() {
            reply.headers.push((name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        Ok(Arriving { reply, body: response.into_body(), started })
    }
}

impl Arriving {
    /// Reads the next piece. `None` at the end, which is the reply's own if `reply.complete` is set then.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        match self.body.data().await {
            Some(Ok(piece)) => {
                if self.reply.body.is_empty() {
                    self.reply.first_byte = self.started.elapsed();
                }
                let _ = self.body.flow_control().release_capacity(piece.len());
                Some(piece)
            }
            Some(Err(_)) => None,
            None => {
                self.reply.complete = true;
                None
            }
        }
    }

    /// Reads the rest.
    pub(crate) async fn finish(mut self) -> Reply {
        while let Some(piece) = self.piece().await {
            self.reply.body.extend_from_slice(&piece);
        }
        self.reply
    }
}

/// Sends one request on a connection of its own and reads the reply.
pub(crate) async fn exchange(address: SocketAddr, ask: &Ask) -> io::Result<Reply> {
    H2::open(address).await?.ask(ask).await
}
