//! HTTP/2 with prior knowledge, on the `h2` crate.
//!
//! The same steps as on HTTP/1.1, given the meaning that they have here: a reset is RST_STREAM, a closed connection is the
//! end of the TCP connection with all its streams, a torn chunk is data without an end.

use super::{
    engine::{self, Engine},
    log::{Outcome, Ticket},
    reply::{Framing, Head, Reply, Step},
    request::{Protocol, Request},
};
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderName, HeaderValue, Response};
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

const WINDOW: u32 = 4 << 20;
const MAX_STREAMS: u32 = 1000;
/// How long streams get to notice that their connection is gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// The client is gone, or the stream is.
struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Gone
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, engine: Arc<Engine>, number: u64) {
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_send_buffer_size(1 << 20)
        .handshake::<_, Bytes>(stream)
        .await;
    let Ok(mut connection) = handshake else { return };
    let hang_up = Arc::new(Notify::new());
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let exchange = Stream { engine: Arc::clone(&engine), hang_up: Arc::clone(&hang_up), number };
                    streams.spawn(exchange.serve(request, respond));
                }
                Some(Err(_)) | None => break,
            },
            () = hang_up.notified() => break,
            Some(_) = streams.join_next() => {}
        }
    }
    // With the connection gone, every stream sees its end and notes it.
    drop(connection);
    let _ = timeout(FAREWELL, async { while streams.join_next().await.is_some() {} }).await;
}

/// One stream of a connection.
struct Stream {
    engine: Arc<Engine>,
    hang_up: Arc<Notify>,
    number: u64,
}

/// The two states of a reply: before and after its head.
enum Side {
    Respond(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

impl Side {
    /// Resolves when the client gives the stream up.
    async fn given_up(&mut self) {
        match self {
            Side::Respond(respond) => _ = poll_fn(|cx| respond.poll_reset(cx)).await,
            Side::Body(body) => _ = poll_fn(|cx| body.poll_reset(cx)).await,
        }
    }

    fn reset(&mut self) {
        match self {
            Side::Respond(respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Side::Body(body) => body.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    /// Sends all of the data as the client's window allows.
    async fn send(&mut self, mut data: Bytes) -> Result<(), Gone> {
        let Side::Body(body) = self else { return Ok(()) };
        while !data.is_empty() {
            body.reserve_capacity(data.len());
            let granted = poll_fn(|cx| body.poll_capacity(cx)).await.ok_or(Gone)??;
            let part = data.split_to(granted.min(data.len()));
            body.send_data(part, false)?;
        }
        Ok(())
    }

    async fn wait(&mut self, due: Instant) -> Result<(), Gone> {
        tokio::select! {
            () = self.given_up() => Err(Gone),
            () = sleep_until(due) => Ok(()),
        }
    }
}

impl Stream {
    async fn serve(self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, mut incoming) = request.into_parts();
        let mut request = read_head(&head, self.number);
        let mut side = Side::Respond(respond);
        match read_body(&mut incoming, self.engine.options.max_body_bytes).await {
            Ok(Some(body)) => request.body = body,
            Ok(None) => {
                self.engine.unread(request, "the body is too large");
                let _ = self
                    .play(&mut side, &Reply::json(413, r#"{"error":{"message":"mock: the body is too large"}}"#), None)
                    .await;
                return;
            }
            Err(Gone) => return self.engine.unread(request, "the stream ended inside the request"),
        }
        let head_only = request.method == "HEAD";
        let exchange = self.engine.exchange(request);
        let mut reply = exchange.reply;
        if head_only {
            reply.steps.retain(|step| !matches!(step, Step::Data(..) | Step::Burst(_)));
        }
        let played = self.play(&mut side, &reply, exchange.ticket.as_ref()).await;
        let outcome = if played.is_ok() { engine::outcome(&reply) } else { Outcome::ClientGone };
        self.engine.ended(exchange.ticket.as_ref(), outcome);
        match reply.steps.last() {
            Some(Step::Reset) if played.is_ok() => side.reset(),
            Some(Step::Close) => self.hang_up.notify_one(),
            _ => {}
        }
    }

    async fn play(&self, side: &mut Side, reply: &Reply, ticket: Option<&Ticket>) -> Result<(), Gone> {
        let begun = Instant::from_std(self.engine.clock.now().mono);
        let count = |events: u32| ticket.into_iter().for_each(|ticket| ticket.sent(events));
        for step in &reply.steps {
            match step {
                Step::Head(head) => {
                    let Side::Respond(respond) = side else { continue };
                    *side = Side::Body(respond.send_response(response(head), false)?);
                }
                Step::Data(data, events) => {
                    side.send(data.clone()).await?;
                    count(*events);
                }
                Step::Burst(list) => {
                    for data in list {
                        side.send(data.clone()).await?;
                        count(1);
                    }
                }
                Step::Torn(data) => side.send(data.clone()).await?,
                Step::Pause(wait) => side.wait(Instant::from_std(self.engine.clock.now().mono) + *wait).await?,
                Step::Until(due) => side.wait(begun + *due).await?,
                Step::Reset | Step::Close => return Ok(()),
            }
        }
        if let Side::Body(body) = side {
            body.send_data(Bytes::new(), true)?;
        }
        Ok(())
    }
}

/// The head of a reply; a header that HTTP/2 cannot carry is left out.
fn response(head: &Head) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(head.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in &head.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    if let Framing::Length(length) = head.framing {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    response
}

fn read_head(head: &http::request::Parts, connection: u64) -> Request {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let (path, query) = Request::target(target);
    let host = head.uri.authority().map(|authority| ("host".to_owned(), authority.to_string()));
    let owned = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let host = host.filter(|_| !head.headers.contains_key(http::header::HOST));
    Request {
        connection,
        protocol: Protocol::Http2,
        method: head.method.as_str().to_owned(),
        path,
        query,
        headers: host.into_iter().chain(head.headers.iter().map(owned)).collect(),
        body: Bytes::new(),
    }
}

/// The whole body, or none if it is too large.
async fn read_body(incoming: &mut RecvStream, limit: usize) -> Result<Option<Bytes>, Gone> {
    let mut body = BytesMut::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        let _ = incoming.flow_control().release_capacity(data.len());
        if body.len() + data.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&data);
    }
    Ok(Some(body.freeze()))
}
