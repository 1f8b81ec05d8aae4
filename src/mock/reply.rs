//! A reply as a list of steps that both transports carry out.
//!
//! What makes a fault is *when* which bytes go out and how the connection ends, so a reply is a small program and not a
//! body. It knows no socket: `http1` and `http2` give each step its meaning on their wire.

use bytes::Bytes;
use std::time::Duration;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`, in bytes.
    Length(u64),
    /// Chunked (HTTP/1.1) or DATA frames (HTTP/2).
    Chunked,
    /// An HTTP/1.0 status line and the end of the connection (HTTP/1.1); DATA frames (HTTP/2).
    UntilClose,
}

/// Status and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case. The length headers are made from `framing`.
    pub headers: Vec<(&'static str, String)>,
    /// How the body ends.
    pub framing: Framing,
}

/// One step of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Status and headers. They leave together with the next data, or before the next wait.
    Head(Head),
    /// Body bytes in a write of their own (one chunk, one DATA frame), and how many stream events end with them.
    Data(Bytes, u32),
    /// Several events in one write, a chunk each.
    Burst(Vec<Bytes>),
    /// A chunk that promises more bytes than follow (HTTP/1.1); plain data on HTTP/2.
    Torn(Bytes),
    /// Silence for so long.
    Pause(Duration),
    /// Silence until so long after the reply began; keeps a paced stream from drifting.
    Until(Duration),
    /// A TCP reset (HTTP/1.1) or RST_STREAM (HTTP/2).
    Reset,
    /// The end of the connection, whatever the framing promised. On HTTP/2 this ends every stream of the connection.
    Close,
}

/// Everything that is sent for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// In order. A reply that has a head and neither `Reset` nor `Close` is ended properly.
    pub steps: Vec<Step>,
}

impl Reply {
    /// A reply with a whole body.
    pub fn whole(status: u16, headers: Vec<(&'static str, String)>, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let head = Head { status, headers, framing: Framing::Length(body.len() as u64) };
        Reply { steps: vec![Step::Head(head), Step::Data(body, 0)] }
    }

    /// A whole JSON reply with no other header.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Reply::whole(status, vec![("content-type", "application/json".to_owned())], body)
    }

    /// A streamed reply: one write for each piece.
    pub fn stream(status: u16, headers: Vec<(&'static str, String)>, pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut steps = vec![Step::Head(Head { status, headers, framing: Framing::Chunked })];
        steps.extend(pieces.into_iter().map(|piece| Step::Data(piece, 1)));
        Reply { steps }
    }

    /// A reply made of steps alone, for faults before the head.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Reply { steps: steps.into_iter().collect() }
    }

    /// Adds a step at the end.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Puts a silence before everything else.
    pub fn delayed(mut self, wait: Duration) -> Self {
        self.steps.insert(0, Step::Pause(wait));
        self
    }

    /// The status, if a head is sent at all.
    pub fn status(&self) -> Option<u16> {
        self.steps.iter().find_map(|step| match step {
            Step::Head(head) => Some(head.status),
            Step::Data(..)
            | Step::Burst(_)
            | Step::Torn(_)
            | Step::Pause(_)
            | Step::Until(_)
            | Step::Reset
            | Step::Close => None,
        })
    }
}

/// The reason phrase of a status line.
pub(super) fn reason(status: u16) -> &'static str {
    if status == 529 {
        return "Site Overloaded";
    }
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Unknown")
}
