//! What the mock received, and how each exchange ended.
//!
//! A ring bounded by entries and by bytes; the oldest goes first. The rows of `GET /_log` are made on demand. Keys and
//! bodies are in it: this is the log of a test double, never of the gateway.

use super::{json, request::Request, seal};
use crate::clock::Moment;
use std::{
    collections::VecDeque,
    fs::File,
    io::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is still going on.
    Pending,
    /// Everything that was meant to be sent was sent.
    Completed,
    /// The mock broke it off itself, as a fault or a script told it to.
    Broken,
    /// The client went away before the end.
    ClientGone,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Pending => "pending",
            Outcome::Completed => "completed",
            Outcome::Broken => "broken",
            Outcome::ClientGone => "client_gone",
        }
    }
}

/// The tokens of an answer. `output` includes `reasoning`; `input` includes both cache counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cached: u64,
    /// Input tokens written to a cache.
    pub cache_write: u64,
    /// All output tokens.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counts up from 0; `since` of `GET /_log` compares with it.
    pub number: u64,
    /// What was received.
    pub request: Arc<Request>,
    /// When its body had been read.
    pub at: Moment,
    /// Which API was asked: `openai-chat`, `openai-responses`, `anthropic`, `gemini`, `openai-emb`, `openai`.
    pub kind: Option<&'static str>,
    /// Every credential in the request, by the place where it was.
    pub credentials: Vec<(&'static str, String)>,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The status that was answered; 0 if none was.
    pub status: u16,
    /// The fault that struck.
    pub fault: Option<&'static str>,
    /// What the answer used.
    pub usage: Option<Usage>,
    /// Why the request was refused.
    pub reject: Option<String>,
    /// What was odd about it.
    pub warnings: Vec<String>,
    /// The last user text, cut to 500 characters.
    pub last_user: String,
    /// The answer's text, cut to 300 characters.
    pub answer: String,
    /// The tools called.
    pub calls: Vec<String>,
    /// Stream events that went out so far.
    pub events_sent: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended: for a client that went away, when that was noticed.
    pub ended: Option<Moment>,
}

impl Entry {
    /// The key that was accepted or refused, where exactly one was sent.
    pub fn key(&self) -> Option<&str> {
        match self.credentials.as_slice() {
            [(_, key)] => Some(key),
            _ => None,
        }
    }

    /// The row of `GET /_log` without its body, closing brace included.
    fn row(&self, body: Option<&str>) -> String {
        let millis = self.ended.map(|ended| ended.since(self.at).as_millis() as u64);
        json::object(|o| {
            o.number("n", self.number)
                .number("connection", self.request.connection)
                .text("protocol", self.request.protocol.name());
            let at = self.at.unix_millis();
            o.raw("t", &format!("{}.{:03}", at / 1000, at % 1000));
            o.text("method", &self.request.method).text("path", &self.request.path);
            o.object("query", |q| self.request.query.iter().for_each(|(name, value)| _ = q.text(name, value)));
            o.object("headers", |h| self.joined_headers().iter().for_each(|(name, value)| _ = h.text(name, value)));
            o.list("header_order", |l| self.request.headers.iter().for_each(|(name, _)| _ = l.text(name)));
            if let Some(body) = body {
                o.raw("body", body);
            }
            o.number("body_bytes", self.request.body.len() as u64).text_or_null("kind", self.kind);
            o.object("auth", |a| self.credentials.iter().for_each(|(place, key)| _ = a.text(place, key)));
            o.list("warnings", |l| self.warnings.iter().for_each(|warning| _ = l.text(warning)));
            o.text_or_null("model", self.model.as_deref()).number("status", self.status.into());
            o.text_or_null("fault", self.fault).flag("stream", self.stream);
            match &self.usage {
                Some(usage) => o.raw("usage", &usage_row(usage)),
                None => o.null("usage"),
            };
            if let Some(reject) = &self.reject {
                o.text("reject", reject);
            }
            o.text("last_user", &self.last_user).text("answer", &self.answer);
            o.list("calls", |l| self.calls.iter().for_each(|name| _ = l.text(name)));
            o.number("events_sent", self.events_sent).flag("client_disconnected", self.outcome == Outcome::ClientGone);
            o.text("outcome", self.outcome.name()).flag("done", self.outcome != Outcome::Pending);
            if let Some(millis) = millis {
                o.number("ms", millis);
            }
        })
    }

    /// Lower-case names, each once, values joined as a proxy would.
    fn joined_headers(&self) -> Vec<(String, String)> {
        let mut joined: Vec<(String, String)> = Vec::with_capacity(self.request.headers.len());
        for (name, value) in &self.request.headers {
            let name = name.to_ascii_lowercase();
            match joined.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => *all = format!("{all}, {value}"),
                None => joined.push((name, value.clone())),
            }
        }
        joined
    }

    /// The body as JSON on one line: itself where it is JSON, else its first 2,000 characters as a string, with its hash.
    fn body_text(&self) -> String {
        let text = std::str::from_utf8(&self.request.body).unwrap_or_default();
        match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(_) if !text.contains(['\n', '\r']) => text.to_owned(),
            Ok(raw) => {
                serde_json::from_str::<serde_json::Value>(raw.get()).map_or("null".into(), |value| value.to_string())
            }
            Err(_) if self.request.body.is_empty() => "null".to_owned(),
            Err(_) => {
                let shown: String = String::from_utf8_lossy(&self.request.body).chars().take(2000).collect();
                json::string(&format!("{shown} (sha256 {})", seal::sha256(&self.request.body, 64)))
            }
        }
    }
}

fn usage_row(usage: &Usage) -> String {
    json::object(|o| {
        o.number("input", usage.input).number("cached", usage.cached).number("cache_write", usage.cache_write);
        o.number("output", usage.output).number("reasoning", usage.reasoning);
    })
}

/// An entry that is still being written.
#[derive(Debug)]
struct Record {
    entry: Mutex<Entry>,
    sent: AtomicU64,
    weight: usize,
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Entry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Entry {
        let mut entry = self.lock().clone();
        entry.events_sent = self.sent.load(Ordering::Relaxed);
        entry
    }
}

/// The hold that an exchange has on its entry.
#[derive(Clone, Debug)]
pub(super) struct Ticket(Arc<Record>);

impl Ticket {
    /// Changes the entry.
    pub(super) fn note(&self, change: impl FnOnce(&mut Entry)) {
        change(&mut self.0.lock());
    }

    /// Counts events that went out.
    pub(super) fn sent(&self, events: u32) {
        if events > 0 {
            self.0.sent.fetch_add(events.into(), Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    next: u64,
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    ring: Mutex<Ring>,
    max_entries: usize,
    max_bytes: usize,
    file: Option<Mutex<File>>,
}

impl Log {
    /// A log of so many entries and bytes of bodies and headers; finished rows are also appended to the file.
    pub(super) fn new(max_entries: usize, max_bytes: usize, file: Option<File>) -> Self {
        Log { ring: Mutex::default(), max_entries, max_bytes, file: file.map(Mutex::new) }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the entry in and numbers it.
    pub(super) fn open(&self, mut entry: Entry) -> (Ticket, u64) {
        let headers: usize = entry.request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let weight = 512 + entry.request.body.len() + headers;
        let mut ring = self.ring();
        let number = ring.next;
        ring.next += 1;
        entry.number = number;
        let record = Arc::new(Record { entry: Mutex::new(entry), sent: AtomicU64::new(0), weight });
        ring.bytes += weight;
        ring.records.push_back(Arc::clone(&record));
        while ring.records.len() > self.max_entries || ring.bytes > self.max_bytes && ring.records.len() > 1 {
            let Some(oldest) = ring.records.pop_front() else { break };
            ring.bytes -= oldest.weight;
        }
        (Ticket(record), number)
    }

    /// Ends an exchange.
    pub(super) fn close(&self, ticket: &Ticket, outcome: Outcome, now: Moment) {
        ticket.note(|entry| {
            entry.outcome = outcome;
            entry.ended = Some(now);
        });
        if let Some(file) = &self.file {
            let entry = ticket.0.snapshot();
            let row = format!("{}\n", entry.row(Some(&entry.body_text())));
            // A full disk must not stop the mock; the rows stay in memory.
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(row.as_bytes());
        }
    }

    /// Copies of all entries, oldest first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let records: Vec<Arc<Record>> = self.ring().records.iter().cloned().collect();
        records.iter().map(|record| record.snapshot()).collect()
    }

    /// The rows from this number on that contain the text, one a line.
    pub(super) fn rows(&self, since: u64, contains: &str) -> String {
        let mut out = String::new();
        for entry in self.entries().into_iter().filter(|entry| entry.number >= since) {
            let in_body = memchr::memmem::find(&entry.request.body, contains.as_bytes()).is_some();
            if in_body || entry.row(None).contains(contains) {
                out.push_str(&entry.row(Some(&entry.body_text())));
                out.push('\n');
            }
        }
        out
    }

    /// How many requests there have been since the start or the last reset.
    pub(super) fn count(&self) -> u64 {
        self.ring().next
    }

    /// Forgets everything and counts from 0 again.
    pub(super) fn reset(&self) {
        *self.ring() = Ring::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, mock::Protocol};
    use bytes::Bytes;
    use serde_json::Value;

    fn entry(body: &str) -> Entry {
        Entry {
            number: 0,
            request: Arc::new(Request {
                connection: 1,
                protocol: Protocol::Http11,
                method: "POST".into(),
                path: "/v1/x".into(),
                query: Vec::new(),
                headers: vec![("X-A".into(), "1".into()), ("x-a".into(), "2".into())],
                body: Bytes::copy_from_slice(body.as_bytes()),
            }),
            at: Clock::System.now(),
            kind: Some("anthropic"),
            credentials: vec![("x-api-key", "k".into())],
            model: None,
            stream: false,
            status: 200,
            fault: None,
            usage: Some(Usage { input: 3, ..Usage::default() }),
            reject: None,
            warnings: Vec::new(),
            last_user: String::new(),
            answer: String::new(),
            calls: Vec::new(),
            events_sent: 0,
            outcome: Outcome::Pending,
            ended: None,
        }
    }

    #[test]
    fn a_row_is_one_line_of_json_with_the_body_in_it() {
        let log = Log::new(10, 1 << 20, None);
        let (ticket, _) = log.open(entry("{\n \"needle\": \"é\"}"));
        ticket.sent(2);
        log.close(&ticket, Outcome::ClientGone, Clock::System.now());
        log.open(entry("not json"));
        let rows = log.rows(0, "needle");
        assert_eq!(rows.lines().count(), 1);
        let row: Value = serde_json::from_str(&rows).unwrap();
        assert_eq!(row["body"]["needle"], "é");
        assert_eq!(row["headers"]["x-a"], "1, 2");
        assert_eq!((&row["events_sent"], &row["client_disconnected"]), (&2.into(), &true.into()));
        let plain: Value = serde_json::from_str(log.rows(1, "").trim()).unwrap();
        assert!(plain["body"].as_str().unwrap().starts_with("not json"), "{plain}");
    }

    #[test]
    fn the_ring_is_bounded_by_entries_and_by_bytes() {
        let log = Log::new(3, 1 << 20, None);
        (0..5).for_each(|_| _ = log.open(entry("{}")));
        assert_eq!(log.entries().iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3, 4]);
        let small = Log::new(100, 4000, None);
        (0..50).for_each(|_| _ = small.open(entry("{}")));
        assert!(small.entries().len() < 10 && small.count() == 50);
    }
}
