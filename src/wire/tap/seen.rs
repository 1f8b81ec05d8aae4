//! What a tap finds out about a reply.

use crate::wire::{Endpoint, Usage};
use std::time::Duration;

/// How a reply's body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON document.
    Json,
    /// Server-sent events.
    Sse,
    /// Gemini's stream without `alt=sse`: one JSON array, an element per chunk.
    JsonArray,
    /// Anything else (audio, images, text): not read at all.
    Opaque,
}

impl Shape {
    /// The shape of a reply with this status and `content-type`. Errors are read whatever they are labelled as.
    pub fn of(endpoint: &Endpoint, status: u16, content_type: Option<&str>) -> Shape {
        let kind = content_type.and_then(|t| t.split(';').next()).unwrap_or_default().trim();
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        if is("text/event-stream") {
            return Shape::Sse;
        }
        if !(200..300).contains(&status) {
            return Shape::Json;
        }
        let is_json = is("application/json") || kind.is_empty() || is("text/json");
        match endpoint {
            Endpoint::StreamGenerateContent { sse: false } if is_json => Shape::JsonArray,
            Endpoint::Audio("speech") if kind.is_empty() => Shape::Opaque,
            Endpoint::Audio(_) | Endpoint::Images(_) if !is_json => Shape::Opaque,
            // HTML or text where only JSON or events make sense: read, so that it is seen to be no answer.
            _ => Shape::Json,
        }
    }
}

/// An error that an upstream reported in a body or a stream event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The HTTP status it names, or that its type stands for.
    pub status: Option<u16>,
    /// Its typed code (`rate_limit_exceeded`, `overloaded_error`, `RESOURCE_EXHAUSTED`, …).
    pub code: String,
    /// A second name where the format has one: OpenAI's coarser `type`, Google's `ErrorInfo` reason or exceeded quota.
    pub kind: String,
    /// Its text; never empty.
    pub message: String,
    /// How long it asks to wait (Google's `RetryInfo`, or "try again in 2.3s").
    pub retry_after: Option<Duration>,
}

/// All that was seen of one reply so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The counts that the provider reported.
    pub usage: Usage,
    /// The finish reason, in the format's own word.
    pub finish: Option<String>,
    /// The model that the provider says it served.
    pub model: Option<String>,
    /// The reply's own id.
    pub id: Option<String>,
    /// When the provider says the reply was created, in seconds since 1970.
    pub created: Option<u64>,
    /// The error that the reply carries; the first one if there are several.
    pub error: Option<UpstreamError>,
    /// Whether content has come: anything after which the answer can no longer be thrown away. An end without any
    /// content counts as content too (the empty answer is an answer), an error does not.
    pub content: bool,
    /// Whether the format's end has come (an error event is one), so that a closing connection is a clean end.
    pub terminal: bool,
    /// Whether the format's last event has come, after which nothing is told any more. Formats whose end is only that of
    /// the connection never have it.
    pub closed: bool,
    /// How much content has passed.
    pub volume: Volume,
    /// How many events have passed.
    pub events: u64,
    /// The choices or candidates of a stream.
    pub alternatives: Alternatives,
}

impl Seen {
    /// Notes an error, which also ends the reply.
    pub(crate) fn fail(&mut self, error: impl FnOnce() -> UpstreamError) {
        self.error.get_or_insert_with(error);
        self.terminal = true;
        self.closed = true;
    }

    /// Notes a proper end. The end of an answer is content, be the answer empty; what ends after an error is no answer.
    pub(crate) fn end(&mut self) {
        self.terminal = true;
        self.closed = true;
        self.content |= self.error.is_none();
    }

    /// Notes why the answer ended.
    pub(crate) fn finish_with(&mut self, reason: &str) {
        self.content = true;
        if self.finish.as_deref() != Some(reason) {
            self.finish = Some(reason.to_owned());
        }
    }
}

/// How much content has passed, as far as it can be told without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    events: u64,
    bytes: u64,
    /// The shortest event: what each has around its content, about.
    least: u64,
}

impl Volume {
    /// An event has passed, in an answer whose content has begun. The line ends around it do not count: where a piece of the
    /// stream ends between CR and LF, the LF stands before the next event.
    pub(crate) fn add(&mut self, event: &[u8]) {
        let length = event.trim_ascii().len() as u64;
        self.least = if self.events == 0 { length } else { self.least.min(length) };
        self.events += 1;
        self.bytes = self.bytes.saturating_add(length);
    }

    /// An estimate of the tokens in it: at least one an event, one for four bytes beyond the frames.
    pub fn tokens(&self) -> u64 {
        let frames = self.events.saturating_mul(self.least.saturating_sub(4));
        (self.bytes.saturating_sub(frames) / 4).max(self.events)
    }
}

/// Which alternatives (choices, candidates) of a stream have begun and which have finished. Those beyond the 127th are
/// treated as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alternatives {
    begun: u128,
    finished: u128,
}

impl Alternatives {
    /// One of them has said something.
    pub fn begin(&mut self, index: u64) {
        self.begun |= bit(index);
    }

    /// One of them has named its finish reason.
    pub fn finish(&mut self, index: u64) {
        self.begun |= bit(index);
        self.finished |= bit(index);
    }

    /// Whether at least one began and all that began have finished.
    pub fn are_finished(&self) -> bool {
        self.begun != 0 && self.begun == self.finished
    }
}

fn bit(index: u64) -> u128 {
    1 << index.min(127)
}
