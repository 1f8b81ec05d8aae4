//! An HTTP/2 upstream (prior knowledge) that keeps what it gets and answers as told.

use crate::upstream::Seen;
use bytes::Bytes;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// What the upstream answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// The body's pieces; an empty list ends the answer with its header.
    pub(crate) pieces: Vec<Bytes>,
    /// Break the stream after the pieces instead of ending it.
    pub(crate) reset: bool,
    /// A pause before the end.
    pub(crate) pause: Duration,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &'static str, pieces: &[impl AsRef<[u8]>]) -> Answer {
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_ref())).collect();
        Answer { status, content_type, pieces, reset: false, pause: Duration::ZERO }
    }

    pub(crate) fn then_reset(mut self) -> Answer {
        self.reset = true;
        self
    }
}

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
    pub(crate) async fn always(answer: Answer) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = seen.clone();
        let task = tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                tokio::spawn(serve(stream, connection, log.clone(), answer.clone()));
            }
        });
        Upstream { address, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(stream: tokio::net::TcpStream, connection: usize, log: Arc<Mutex<Vec<Seen>>>, answer: Answer) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    let Ok(mut server) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = server.accept().await {
        tokio::spawn(exchange(request, respond, connection, log.clone(), answer.clone()));
    }
}

async fn exchange(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    connection: usize,
    log: Arc<Mutex<Vec<Seen>>>,
    answer: Answer,
) {
    let mut head = format!("{} {} HTTP/2\r\n", request.method(), request.uri().path_and_query().unwrap());
    head += &format!("host: {}\r\n", request.uri().authority().map_or("", |authority| authority.as_str()));
    for (name, value) in request.headers() {
        head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let mut body = request.into_body();
    let mut seen = Seen { head, connection, ..Seen::default() };
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        seen.body.extend_from_slice(&piece);
    }
    log.lock().unwrap().push(seen);
    let header = http::Response::builder().status(answer.status).header("content-type", answer.content_type);
    let ends = answer.pieces.is_empty() && !answer.reset;
    let Ok(mut send) = respond.send_response(header.body(()).unwrap(), ends) else { return };
    if ends {
        return;
    }
    for piece in &answer.pieces {
        if send.send_data(piece.clone(), false).is_err() {
            return;
        }
    }
    tokio::time::sleep(answer.pause + Duration::from_millis(20)).await;
    if answer.reset {
        send.send_reset(h2::Reason::INTERNAL_ERROR);
    } else {
        let _ = send.send_data(Bytes::new(), true);
    }
}
