//! The downstream adapter: holds an answer back until it can no longer be thrown away, and watches the clock.
//!
//! Pingora hands the request body over once per attempt and writes an answer as soon as it has one. For the time of an
//! exchange the client's session is therefore wrapped: the wrapper offers the stored body to every attempt, keeps header
//! and preamble until the reply side says `commit`, sends keep-alives, and ends waits by their deadlines. It never
//! decides anything about an answer; `relay` does. Invariant: what the client has seen belongs to one attempt.
//!
//! The `Session` trait is not part of Pingora's stable interface: Pingora is pinned, and this file holds all that would change.

use super::{
    alarm::Alarm,
    book,
    corked::{Corked, flushes_before_last},
    gather::{Gathered, join, task_bytes},
};
use crate::ledger::Ack;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest,
        http::{
            HttpTask, ServerSession,
            custom::{CustomMessageWrite, server::Session as CustomSession},
        },
        l4::socket::SocketAddr,
    },
};
use pingora_proxy::Session;
use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;

/// No content came in time.
pub(super) const FIRST_TIMEOUT: ErrorType = ErrorType::Custom("FirstContentTimeout");
/// The answer stopped for too long.
pub(super) const IDLE_TIMEOUT: ErrorType = ErrorType::Custom("IdleTimeout");
/// The request took too long altogether.
pub(super) const TOTAL_TIMEOUT: ErrorType = ErrorType::Custom("TotalTimeout");
/// The same, while a slow client kept a write waiting: nothing may be appended.
pub(super) const TOTAL_WRITE_TIMEOUT: ErrorType = ErrorType::Custom("TotalTimeoutWriting");
/// The answer ended before anyone judged it (a header without a body, or trailers).
pub(super) const UNDECIDED: ErrorType = ErrorType::Custom("Undecided");

/// The waits of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// When it begins.
    pub begins: Instant,
    /// No content by then: the attempt failed.
    pub first: Instant,
    /// Longest silence once content has come.
    pub idle: Duration,
    /// The whole request ends by then.
    pub total: Instant,
    /// Silence after which a keep-alive is sent; zero for none.
    pub ping_every: Duration,
    /// Most bytes held back before the answer goes out unjudged.
    pub hold_bytes: usize,
}

/// What the reply side tells the adapter. Filters of a batch run before the batch is written, so a word said there is
/// heard in time.
#[derive(Debug)]
struct Word {
    said: Said,
    amendment: Option<(&'static str, String)>,
    /// Comes when the row of the answer is in the ledger; its last bytes are among those that are written next.
    ack: Option<Ack>,
}

/// What of it is read for every piece of an answer.
#[derive(Clone, Copy, Debug)]
struct Said {
    attempt: u32,
    commit: bool,
    answering: bool,
    ping: Option<&'static [u8]>,
    boundary: bool,
    /// Whether the client could take the answer for whole before its end is known here.
    keeps_tail: bool,
    /// Whether the last bytes are among those that are written next.
    is_last: bool,
    deadlines: Deadlines,
}

impl Word {
    fn new(attempt: u32, deadlines: Deadlines) -> Word {
        let (commit, answering, ping, boundary) = (false, false, None, true);
        let (keeps_tail, is_last) = (false, false);
        let said = Said { attempt, commit, answering, ping, boundary, keeps_tail, is_last, deadlines };
        Word { said, amendment: None, ack: None }
    }
}

/// The line between the filters, which are synchronous, and the adapter, which writes.
pub(super) struct Link {
    word: Mutex<Word>,
    back: Mutex<Option<Back>>,
}

/// What the adapter hands back when it goes.
struct Back {
    session: Box<ServerSession>,
    /// Pieces of the answer that waited to go out together.
    rest: Vec<HttpTask>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// A new attempt begins: whatever is held of the one before is thrown away.
    pub(super) fn begin_attempt(&self, deadlines: Deadlines) {
        let mut word = lock(&self.word);
        let attempt = word.said.attempt.wrapping_add(1);
        *word = Word::new(attempt, deadlines);
    }

    /// No attempt is under way while the request waits for an account: only its total time still counts.
    pub(super) fn waiting(&self) {
        let mut word = lock(&self.word);
        word.said.answering = false;
        word.said.ping = None;
        word.said.deadlines.first = word.said.deadlines.total;
    }

    /// The answer may go out.
    pub(super) fn commit(&self) {
        lock(&self.word).said.commit = true;
    }

    /// Sets a header of the held answer.
    pub(super) fn amend(&self, name: &'static str, value: String) {
        lock(&self.word).amendment = Some((name, value));
    }

    /// What is written next holds the answer's last bytes: they wait until its row is in the ledger.
    pub(super) fn hold_until(&self, ack: Ack) {
        let mut word = lock(&self.word);
        word.ack = Some(ack);
        word.said.is_last = true;
    }

    /// The client knows the answer's length: its last bytes are held back until the upstream has said that it ended.
    pub(super) fn keep_tail(&self) {
        lock(&self.word).said.keeps_tail = true;
    }

    /// The answer has begun to arrive: from now on silence is measured, not the wait for it.
    pub(super) fn answering(&self) {
        lock(&self.word).said.answering = true;
    }

    /// Which keep-alive this answer takes, if any, and whether one may stand at the present place.
    pub(super) fn pingable(&self, ping: Option<&'static [u8]>, boundary: bool) {
        let mut word = lock(&self.word);
        word.said.ping = ping;
        word.said.boundary = boundary;
    }
}

/// Puts the adapter between Pingora and the client. `body` is offered to every attempt.
pub(super) fn install(session: &mut Session, body: Bytes, deadlines: Deadlines) -> Arc<Link> {
    let link = Arc::new(Link { word: Mutex::new(Word::new(0, deadlines)), back: Mutex::new(None) });
    let slot = session.as_downstream_mut();
    slot.set_proxy_tasks_enabled(true);
    let inner = mem::replace(slot, ServerSession::new_custom(Box::new(())));
    *slot = ServerSession::new_custom(Box::new(Adapter {
        inner: Some(Box::new(inner)),
        link: link.clone(),
        body,
        attempt: 0,
        total: deadlines.total,
        held: Vec::new(),
        held_bytes: 0,
        tail: None,
        gathered: Gathered::default(),
        committed: false,
        ended: false,
        last: deadlines.begins,
        pinged: deadlines.begins,
        alarm: Alarm::default(),
    }));
    link
}

/// Gives the client's session back to Pingora, and returns what has not been written of the answer. Harmless when Pingora
/// already has it.
pub(super) fn uninstall(session: &mut Session, link: &Link) -> Vec<HttpTask> {
    if !session.as_downstream().is_custom() {
        return Vec::new();
    }
    drop(mem::replace(session.as_downstream_mut(), ServerSession::new_custom(Box::new(()))));
    let Some(Back { session: inner, rest }) = lock(&link.back).take() else { return Vec::new() };
    *session.as_downstream_mut() = *inner;
    rest
}

/// The answer's header, if the client has been sent one. A `100 Continue` is none.
pub(super) fn answered(session: &Session) -> Option<&ResponseHeader> {
    final_header(session.response_written())
}

fn final_header(written: Option<&ResponseHeader>) -> Option<&ResponseHeader> {
    written.filter(|header| !header.status.is_informational())
}

struct Adapter {
    /// Always there until the adapter is dropped, which hands it back through the link.
    inner: Option<Box<ServerSession>>,
    link: Arc<Link>,
    body: Bytes,
    attempt: u32,
    /// The end of the whole request's time.
    total: Instant,
    held: Vec<HttpTask>,
    held_bytes: usize,
    /// The last piece that came, while it may be the answer's last.
    tail: Option<HttpTask>,
    /// What waits a moment for what comes right behind it.
    gathered: Gathered,
    committed: bool,
    ended: bool,
    /// When the upstream last sent something.
    last: Instant,
    /// When the last keep-alive went out; it does not count as life of the upstream.
    pinged: Instant,
    alarm: Alarm,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let rest = self.gathered.take();
        *lock(&self.link.back) = self.inner.take().map(|session| Back { session, rest });
    }
}

/// What a deadline means when it passes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    First,
    Idle,
    Total,
    Ping(&'static [u8]),
}

impl Adapter {
    #[expect(clippy::expect_used, reason = "set at construction and taken only by drop")]
    fn inner(&self) -> &ServerSession {
        self.inner.as_deref().expect("the adapter holds the session")
    }

    #[expect(clippy::expect_used, reason = "set at construction and taken only by drop")]
    fn inner_mut(&mut self) -> &mut ServerSession {
        self.inner.as_deref_mut().expect("the adapter holds the session")
    }

    /// Hears what has been said, and forgets what an attempt before the present one left behind.
    fn hear(&mut self) -> Said {
        let said = lock(&self.link.word).said;
        if said.attempt != self.attempt {
            self.attempt = said.attempt;
            self.total = said.deadlines.total;
            self.held.clear();
            self.held_bytes = 0;
            self.tail = None;
            self.ended = false;
            self.last = said.deadlines.begins;
        }
        said
    }

    /// The next moment at which something must happen.
    fn next_due(&self, word: &Said) -> (Instant, Due) {
        let d = &word.deadlines;
        let mut next = (d.total, Due::Total);
        let wait = if word.answering { (self.last + d.idle, Due::Idle) } else { (d.first, Due::First) };
        if wait.0 < next.0 {
            next = wait;
        }
        let ping = word.ping.filter(|_| self.committed && word.boundary && !self.ended && !d.ping_every.is_zero());
        if let Some(ping) = ping
            && self.pinged.max(self.last) + d.ping_every < next.0
        {
            next = (self.pinged.max(self.last) + d.ping_every, Due::Ping(ping));
        }
        next
    }

    /// Takes a batch while the answer is undecided; gives it back, with all that was held, once it may go out.
    fn hold(&mut self, mut tasks: Vec<HttpTask>, said: &Said) -> Result<Option<Vec<HttpTask>>> {
        if let Some(failed) = tasks.iter().position(|t| matches!(t, HttpTask::Failed(_))) {
            self.held.clear();
            if let HttpTask::Failed(error) = tasks.swap_remove(failed) {
                return Err(error);
            }
        }
        tasks.retain(|t| !matches!(t, HttpTask::Header(h, _) if h.status.is_informational()));
        let ended = tasks.iter().any(HttpTask::is_end);
        self.held_bytes += tasks.iter().map(task_bytes).sum::<usize>();
        if !said.commit && ended {
            self.held.clear();
            return Error::e_explain(UNDECIDED, "the answer ended before it was judged");
        }
        if !said.commit && self.held_bytes < said.deadlines.hold_bytes {
            self.held = join(mem::take(&mut self.held), tasks);
            return Ok(None);
        }
        self.committed = true;
        let mut all = join(mem::take(&mut self.held), tasks);
        let amendment = lock(&self.link.word).amendment.take();
        if let (Some((name, value)), Some(HttpTask::Header(header, _))) = (amendment, all.first_mut()) {
            header.insert_header(name, value)?;
        }
        Ok(Some(all))
    }

    /// Exchanges the last piece for the one held back before, unless the answer has ended: what follows a told length would
    /// come too late to be held.
    fn keep_tail(&mut self, mut tasks: Vec<HttpTask>, keeps: bool) -> Vec<HttpTask> {
        if let Some(tail) = self.tail.take() {
            let at = tasks.iter().position(|task| !matches!(task, HttpTask::Header(..))).unwrap_or(tasks.len());
            tasks.insert(at, tail);
        }
        if keeps && !tasks.iter().any(HttpTask::is_end) {
            self.tail = tasks.pop_if(|task| matches!(task, HttpTask::Body(Some(_), false)));
        }
        tasks
    }

    /// Waits for the commit of the answer's row, where its last bytes are to be written. In a box: few rows are waited for.
    async fn await_commit(&mut self) {
        let ack = {
            let mut word = lock(&self.link.word);
            word.said.is_last = false;
            word.ack.take()
        };
        if let Some(ack) = ack {
            Box::pin(book::wait(ack)).await;
        }
    }

    /// Writes to the client, within the total time.
    #[expect(clippy::expect_used, reason = "set at construction and taken only by drop")]
    async fn write(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let client = self.inner.as_deref_mut().expect("the adapter holds the session");
        Corked::pass(client, flushes_before_last(&tasks));
        let written = {
            let mut written = pin!(async {
                if client.has_pending_downstream_proxy_tasks() {
                    Box::pin(client.write_downstream_proxy_tasks()).await?;
                }
                client.response_duplex_vec(tasks).await
            });
            poll_fn(|context| match written.as_mut().poll(context) {
                Poll::Ready(written) => Poll::Ready(written),
                Poll::Pending => self
                    .alarm
                    .poll_due(self.total, context)
                    .map(|()| Error::e_explain(TOTAL_WRITE_TIMEOUT, "the client did not take the answer in time")),
            })
            .await
        };
        Corked::pass(self.inner(), 0);
        written
    }

    /// Takes a batch of an answer that may go out, and gives back what is to be written now.
    fn gather(&mut self, tasks: Vec<HttpTask>, goes_now: bool) -> Option<Vec<HttpTask>> {
        // Only what goes through the task queue can be written where the adapter's wait may be dropped half way.
        let may_wait =
            !goes_now && self.inner().supports_proxy_task_api() && !self.inner().has_pending_downstream_proxy_tasks();
        self.gathered.add(tasks, may_wait)
    }

    /// Writes what waits, once nothing came right behind it. May be dropped half way.
    async fn write_gathered(&mut self) -> Result<()> {
        self.gathered.settled().await;
        let total = self.total;
        let bytes = self.gathered.take_joined();
        let inner = self.inner_mut();
        if !bytes.is_empty() {
            inner.send_downstream_proxy_task(HttpTask::Body(Some(bytes), false));
        }
        match tokio::time::timeout_at(total, inner.write_downstream_proxy_tasks()).await {
            Ok(written) => written.map(|_| ()),
            Err(_) => Error::e_explain(TOTAL_WRITE_TIMEOUT, "the client did not take the answer in time"),
        }
    }

    /// Sends a keep-alive. On HTTP/1.1 it goes through the task queue, since this future may be dropped half way.
    async fn ping(&mut self, ping: &'static [u8]) -> Result<()> {
        self.pinged = Instant::now();
        let task = HttpTask::Body(Some(Bytes::from_static(ping)), false);
        let inner = self.inner_mut();
        if inner.supports_proxy_task_api() {
            if !inner.has_pending_downstream_proxy_tasks() {
                inner.send_downstream_proxy_task(task);
            }
            inner.write_downstream_proxy_tasks().await?;
        } else {
            inner.response_duplex_vec(vec![task]).await?;
        }
        Ok(())
    }

    /// Waits for a word of the client; `None` where the time came first, or might have. May be dropped half way: the timer
    /// stays.
    #[expect(clippy::expect_used, reason = "set at construction and taken only by drop")]
    async fn read_until(&mut self, due: Instant) -> Option<Result<Option<Bytes>>> {
        let client = self.inner.as_deref_mut().expect("the adapter holds the session");
        let mut read = pin!(client.read_body_or_idle(true));
        poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => self.alarm.poll(due, context).map(|()| None),
        })
        .await
    }
}

#[async_trait]
impl CustomSession for Adapter {
    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let said = self.hear();
        let was_committed = self.committed;
        let shown = if was_committed { Some(tasks) } else { self.hold(tasks, &said)? };
        let shown = shown.map(|tasks| self.keep_tail(tasks, said.keeps_tail)).filter(|tasks| !tasks.is_empty());
        self.ended |= shown.iter().flatten().any(HttpTask::is_end);
        // The last bytes wait for their row in the ledger, and for nothing else.
        let written = match shown.and_then(|tasks| self.gather(tasks, !was_committed || said.is_last)) {
            Some(tasks) => {
                if said.is_last {
                    self.await_commit().await;
                }
                self.write(tasks).await
            }
            None => Ok(false),
        };
        self.last = Instant::now();
        written
    }

    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        loop {
            if !self.gathered.is_empty() || self.inner().has_pending_downstream_proxy_tasks() {
                // In a box, as all that is rare here: what is made for every piece stays small.
                Box::pin(self.write_gathered()).await?;
            }
            let said = self.hear();
            let (due, what) = self.next_due(&said);
            if let Some(read) = self.read_until(due).await {
                return read;
            }
            if Instant::now() >= due {
                match what {
                    Due::First => return Error::e_explain(FIRST_TIMEOUT, "no content in time"),
                    Due::Idle => return Error::e_explain(IDLE_TIMEOUT, "the answer stopped"),
                    Due::Total => return Error::e_explain(TOTAL_TIMEOUT, "the request took too long"),
                    Due::Ping(ping) => Box::pin(self.ping(ping)).await?,
                }
            }
        }
    }

    // The stored body stands in for the client's, as often as it is asked for.
    fn is_body_done(&mut self) -> bool {
        true
    }
    fn is_body_empty(&mut self) -> bool {
        self.body.is_empty()
    }
    fn get_retry_buffer(&self) -> Option<Bytes> {
        Some(self.body.clone())
    }
    fn retry_buffer_truncated(&self) -> bool {
        false
    }
    fn enable_retry_buffering(&mut self) {}
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }
    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    // All the rest is the client's session.
    fn req_header(&self) -> &RequestHeader {
        self.inner().req_header()
    }
    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner_mut().req_header_mut()
    }
    async fn write_response_header(&mut self, header: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.inner_mut().write_response_header(header).await
    }
    async fn write_response_header_ref(&mut self, header: &ResponseHeader, _end: bool) -> Result<()> {
        self.inner_mut().write_response_header_ref(header).await
    }
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner_mut().write_response_body(data, end).await
    }
    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner_mut().write_response_trailers(trailers).await
    }
    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_read_timeout(timeout);
    }
    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner().get_read_timeout()
    }
    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_write_timeout(timeout);
    }
    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner().get_write_timeout()
    }
    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_total_drain_timeout(timeout);
    }
    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner().get_total_drain_timeout()
    }
    fn request_summary(&self) -> String {
        self.inner().request_summary()
    }
    /// What is on the wire, so that Pingora knows whether an attempt can still be repeated. Never the held header.
    fn response_written(&self) -> Option<&ResponseHeader> {
        final_header(self.inner().response_written())
    }
    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.inner_mut().shutdown().await;
    }
    async fn finish(&mut self) -> Result<()> {
        self.await_commit().await;
        if !self.committed {
            return Ok(());
        }
        if !self.gathered.is_empty() {
            let rest = self.gathered.take();
            Box::pin(self.write(rest)).await?;
        }
        self.inner_mut().finish_body().await
    }
    fn body_bytes_sent(&self) -> usize {
        self.inner().body_bytes_sent()
    }
    fn body_bytes_read(&self) -> usize {
        self.inner().body_bytes_read()
    }
    fn digest(&self) -> Option<&Digest> {
        self.inner().digest()
    }
    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner_mut().digest_mut()
    }
    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner().client_addr()
    }
    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner().server_addr()
    }
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner().to_h1_raw()
    }
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn futures_core::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }
    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn futures_core::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
