//! A client's connection on which writes that belong together leave together.
//!
//! Pingora flushes the head of a stream, each chunk of it, and the chunk that ends it, one by one: a packet and a system
//! call each. The adapter knows what follows at once, and says how many of the next flushes may be passed over; until then
//! what is written waits here. Bounded by [`MOST`]; nothing waits longer than until the connection is read from next.

use super::gather::task_bytes;
use async_trait::async_trait;
use http::header;
use pingora::{
    http::ResponseHeader,
    protocols::{
        ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
        TimingDigest, UniqueID, UniqueIDType,
        http::{HttpTask, ServerSession},
        raw_connect::ProxyDigest,
        tls::{SslDigest, TlsRef},
    },
};
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much may wait, in bytes: as much as a TLS record holds. More is written through.
const MOST: usize = 16 << 10;

/// A connection whose flushes can be passed over.
#[derive(Debug)]
pub struct Corked {
    stream: Stream,
    held: Vec<u8>,
    /// How much of it is written already.
    sent: usize,
    passes: AtomicU8,
}

impl Corked {
    /// The same connection.
    pub fn over(stream: Stream) -> Stream {
        Box::new(Corked { stream, held: Vec::new(), sent: 0, passes: AtomicU8::new(0) })
    }

    /// Passes over so many of the next flushes of this session's connection; none over HTTP/2, which has frames.
    pub(super) fn pass(session: &ServerSession, flushes: u8) {
        let stream = session.as_http1().map(|session| (**session.stream()).as_any());
        if let Some(corked) = stream.and_then(|stream| stream.downcast_ref::<Corked>()) {
            corked.passes.store(flushes, Ordering::Relaxed);
        }
    }

    fn is_passing(&self) -> bool {
        self.passes.load(Ordering::Relaxed) > 0
    }

    /// Whether so many more bytes are to wait.
    fn holds(&self, more: usize) -> bool {
        (self.is_passing() || !self.held.is_empty()) && self.held.len() + more <= MOST
    }

    /// Writes what waits.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        // Idle connections keep no memory for it.
        (self.held, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

/// How many flushes of Pingora's come before the last one, when it writes these: it flushes a head that tells no length, a
/// piece of the body, and the end.
pub(super) fn flushes_before_last(tasks: &[HttpTask]) -> u8 {
    let tells_no_length = |header: &ResponseHeader| !header.headers.contains_key(header::CONTENT_LENGTH);
    let has_head = tasks.iter().any(|task| matches!(task, HttpTask::Header(header, _) if tells_no_length(header)));
    let has_body = tasks.iter().any(|task| task_bytes(task) > 0);
    let flushes = [has_head, has_body, tasks.iter().any(HttpTask::is_end)];
    flushes.iter().map(|flush| u8::from(*flush)).sum::<u8>().saturating_sub(1)
}

impl AsyncRead for Corked {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty()
            && !self.is_passing()
            && let Poll::Ready(sent) = self.poll_send(context)
        {
            sent?;
            // Whoever waits for the client to say something may wait for long.
            if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context) {
                flushed?;
            }
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.holds(bytes.len()) {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if self.holds(length) {
            pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let passes = self.passes.get_mut();
        if *passes > 0 {
            *passes -= 1;
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Corked {
    async fn shutdown(&mut self) {
        // Who goes away gets nothing any more.
        let _ = poll_fn(|context| self.poll_send(context)).await;
        self.stream.shutdown().await;
    }
}

#[async_trait]
impl Peek for Corked {
    async fn try_peek(&mut self, into: &mut [u8]) -> io::Result<bool> {
        self.stream.try_peek(into).await
    }
}

impl UniqueID for Corked {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Corked {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Corked {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Corked {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Corked {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Remembers each write, and takes so much of one at most.
    #[derive(Debug)]
    struct Wire {
        writes: Arc<Mutex<Vec<String>>>,
        most: usize,
    }

    impl AsyncRead for Wire {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            into.put_slice(b"?");
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = &bytes[..bytes.len().min(self.most)];
            self.writes.lock().unwrap().push(String::from_utf8(taken.to_vec()).unwrap());
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[async_trait]
    impl Shutdown for Wire {
        async fn shutdown(&mut self) {
            self.writes.lock().unwrap().push("end".to_owned());
        }
    }

    impl Peek for Wire {}
    impl Ssl for Wire {}

    impl UniqueID for Wire {
        fn id(&self) -> UniqueIDType {
            7
        }
    }

    impl GetTimingDigest for Wire {
        fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
            Vec::new()
        }
    }

    impl GetProxyDigest for Wire {
        fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
            None
        }
    }

    impl GetSocketDigest for Wire {
        fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
            None
        }
    }

    fn corked(passes: u8, most: usize) -> (Corked, Arc<Mutex<Vec<String>>>) {
        let writes = Arc::default();
        let stream: Stream = Box::new(Wire { writes: Arc::clone(&writes), most });
        (Corked { stream, held: Vec::new(), sent: 0, passes: AtomicU8::new(passes) }, writes)
    }

    async fn put(corked: &mut Corked, text: &str) {
        corked.write_all(text.as_bytes()).await.unwrap();
        corked.flush().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_flushed_and_passed_over_leaves_with_what_follows() {
        let (mut corked, writes) = corked(2, MOST);
        for text in ["head ", "piece ", "end", "next"] {
            put(&mut corked, text).await;
        }
        assert_eq!(*writes.lock().unwrap(), ["head piece end", "next"]);
        assert_eq!((corked.id(), corked.held.capacity()), (7, 0), "an idle connection keeps no memory for it");
    }

    #[tokio::test]
    async fn without_a_word_everything_leaves_at_once() {
        let (mut corked, writes) = corked(0, MOST);
        for text in ["a", "b"] {
            put(&mut corked, text).await;
        }
        assert_eq!(*writes.lock().unwrap(), ["a", "b"]);
    }

    #[tokio::test]
    async fn more_than_may_wait_is_written_through_behind_what_waited() {
        let (mut corked, writes) = corked(1, MOST);
        put(&mut corked, "head").await;
        let large = "x".repeat(MOST);
        let pieces = [IoSlice::new(b"4000"), IoSlice::new(large.as_bytes())];
        let written = poll_fn(|context| Pin::new(&mut corked).poll_write_vectored(context, &pieces)).await.unwrap();
        assert_eq!((written, writes.lock().unwrap().concat()), (4, "head4000".to_owned()), "one piece at a time");
        put(&mut corked, &large).await;
        assert!(writes.lock().unwrap().concat() == format!("head4000{large}"));
    }

    #[tokio::test]
    async fn a_connection_that_takes_little_at_a_time_gets_everything_in_order() {
        let (mut corked, writes) = corked(1, 3);
        put(&mut corked, "0123456789").await;
        put(&mut corked, "abcdefg").await;
        assert_eq!(*writes.lock().unwrap(), ["012", "345", "678", "9ab", "cde", "fg"]);
    }

    #[tokio::test]
    async fn what_still_waits_leaves_before_the_client_is_listened_to_or_left() {
        for is_read in [true, false] {
            let (mut corked, writes) = corked(1, MOST);
            put(&mut corked, "head").await;
            corked.write_all(b" more").await.unwrap();
            assert!(writes.lock().unwrap().is_empty());
            match is_read {
                true => _ = corked.read_u8().await.unwrap(),
                false => Shutdown::shutdown(&mut corked).await,
            }
            assert_eq!(writes.lock().unwrap().first().map(String::as_str), Some("head more"));
        }
    }

    #[test]
    fn only_the_last_flush_of_an_answer_s_pieces_counts() {
        let head = |length: Option<usize>| {
            let mut header = ResponseHeader::build(200, None).unwrap();
            length.into_iter().for_each(|length| header.insert_header(header::CONTENT_LENGTH, length).unwrap());
            HttpTask::Header(Box::new(header), false)
        };
        let body = |end| HttpTask::Body(Some(Bytes::from_static(b"data")), end);
        for (tasks, flushes) in [
            (vec![head(None)], 0),
            (vec![head(None), body(false)], 1),
            (vec![head(None), body(true)], 2),
            (vec![head(Some(4)), body(true)], 1),
            (vec![body(false)], 0),
            (vec![body(false), body(true)], 1),
            (vec![body(false), HttpTask::Done], 1),
            (vec![HttpTask::Body(None, true)], 0),
            (Vec::new(), 0),
        ] {
            assert_eq!(flushes_before_last(&tasks), flushes, "{tasks:?}");
        }
    }
}
