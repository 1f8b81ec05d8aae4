//! Reads one attempt's answer and decides what may reach the client.
//!
//! Nothing is shown before the first content, so whatever fails until then can be tried elsewhere. Whole events pass as
//! they come and as they are. Invariant: an answer that broke off never ends cleanly.

use super::exchange::Answer;
use crate::{
    clock::Moment,
    provider::verdict::{Verdict, judge},
    wire::{
        WireFormat,
        tap::{Seen, Shape, Tap},
    },
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use pingora::http::ResponseHeader;

/// Most bytes of an error reply that are read to understand it.
const ERROR_BYTES: usize = 64 * 1024;

/// What a call expects, and how much of it may be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// The answer's wire format.
    pub format: WireFormat,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The shape of that stream: `Sse`, or `JsonArray` for Gemini without `alt=sse`.
    pub stream_shape: Shape,
    /// Whether the answer may be something else than JSON (audio, text).
    pub may_be_opaque: bool,
    /// A longer event passes in pieces.
    pub event_bytes: usize,
    /// A longer whole reply goes out before its end.
    pub whole_hold_bytes: usize,
    /// A longer preamble goes out unjudged.
    pub hold_bytes: usize,
}

/// What follows from a piece of an answer.
#[derive(Debug)]
pub(super) enum Step {
    /// Go on; what is passed on stays held until the commit, if that has not been yet.
    Go,
    /// This attempt failed, and nothing of it has been shown.
    FailOver(Failed),
    /// The answer broke off after it had begun: end it with the format's error.
    Broken(Verdict),
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failed {
    /// The judgement.
    pub verdict: Verdict,
    /// The upstream's own words, where the client may be given them.
    pub answer: Option<Answer>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

enum Kind {
    /// An error reply, gathered until it can be judged.
    Error { body: BytesMut },
    /// A stream of events.
    Events,
    /// One JSON document; its pieces are kept until the end, as far as they may be held.
    Whole { parts: Vec<Bytes>, bytes: usize },
    /// Bytes that nobody reads.
    Opaque,
}

/// One attempt's answer.
pub(super) struct Reply {
    expected: Expected,
    /// The upstream's status.
    pub status: u16,
    /// The upstream's header as it came.
    header: ResponseHeader,
    kind: Kind,
    shape: Shape,
    tap: Tap,
    /// Whether it may go out.
    pub committed: bool,
    /// Whether content has begun to arrive.
    pub answering: bool,
    held: usize,
}

impl Reply {
    /// The answer whose header has come.
    pub(super) fn new(expected: Expected, header: ResponseHeader) -> Reply {
        let shape = shape_of(&expected, &header.headers);
        let kind = match shape {
            _ if !header.status.is_success() => Kind::Error { body: BytesMut::new() },
            Shape::Sse | Shape::JsonArray => Kind::Events,
            Shape::Json => Kind::Whole { parts: Vec::new(), bytes: 0 },
            Shape::Opaque => Kind::Opaque,
        };
        Reply {
            expected,
            status: header.status.as_u16(),
            header,
            kind,
            shape,
            tap: Tap::new(expected.format, shape, expected.event_bytes),
            committed: false,
            answering: false,
            held: 0,
        }
    }

    /// How the body is laid out.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the answer is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Events)
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> &Seen {
        &self.tap.seen
    }

    /// Whether what has gone on stops between two events.
    pub(super) fn at_boundary(&self) -> bool {
        self.tap.at_boundary()
    }

    /// Takes the next piece and leaves in `body` what may go on.
    pub(super) fn take(&mut self, body: &mut Option<Bytes>, end: bool, now: Moment) -> Step {
        let chunk = body.take().unwrap_or_default();
        self.answering |= !chunk.is_empty() && !self.is_stream();
        self.sniff(&chunk);
        let step = match &mut self.kind {
            Kind::Error { body: gathered } => {
                gathered.extend_from_slice(&chunk);
                if !end && gathered.len() < ERROR_BYTES {
                    return Step::Go;
                }
                self.judge_error(body, now)
            }
            Kind::Events => self.events(chunk, body, end, now),
            Kind::Whole { .. } => self.whole(chunk, body, end, now),
            Kind::Opaque => self.opaque(chunk, body, end),
        };
        self.answering |= self.committed;
        step
    }

    /// A stream that is labelled as JSON is still a stream: its first bytes tell.
    fn sniff(&mut self, chunk: &Bytes) {
        let fresh = matches!(&self.kind, Kind::Whole { bytes: 0, .. });
        if !fresh || !self.expected.stream || self.expected.stream_shape != Shape::Sse {
            return;
        }
        let text = chunk.strip_prefix(b"\xef\xbb\xbf").unwrap_or(chunk).trim_ascii_start();
        if [&b"data:"[..], b"event:", b"id:", b"retry:", b":"].iter().any(|field| text.starts_with(field)) {
            self.kind = Kind::Events;
            self.shape = Shape::Sse;
            self.tap = Tap::new(self.expected.format, Shape::Sse, self.expected.event_bytes);
        }
    }

    fn judge_error(&mut self, body: &mut Option<Bytes>, now: Moment) -> Step {
        let Kind::Error { body: gathered } = &mut self.kind else { return Step::Go };
        let gathered = std::mem::take(gathered).freeze();
        self.expected.format.behaviour().read_reply(&gathered, &mut self.tap.seen);
        let verdict = judge(self.status, &self.header.headers, self.tap.seen.error.as_ref(), now);
        if verdict.class.fails_over() {
            return Step::FailOver(Failed { answer: self.answer(&verdict, gathered), verdict });
        }
        // The request's own fault: the answer goes to the caller as it is.
        self.kind = Kind::Opaque;
        self.committed = true;
        *body = Some(gathered);
        Step::Go
    }

    /// The upstream's own words, where they are about the request and not about the account.
    fn answer(&self, verdict: &Verdict, body: Bytes) -> Option<Answer> {
        let content_type = self.header.headers.get(header::CONTENT_TYPE).cloned();
        verdict.class.is_about_the_request().then_some(Answer { status: self.status, content_type, body })
    }

    fn events(&mut self, chunk: Bytes, body: &mut Option<Bytes>, end: bool, now: Moment) -> Step {
        let passed = self.tap.feed(chunk);
        self.held += passed.len();
        let seen = &self.tap.seen;
        if !self.committed {
            if let Some(error) = seen.error.as_ref().filter(|_| !seen.content) {
                let verdict = judge(error.status.unwrap_or(500), &self.header.headers, Some(error), now);
                if verdict.class.fails_over() {
                    return Step::FailOver(Failed { verdict, answer: None });
                }
                self.committed = true;
            }
            self.committed |= seen.content || self.held > self.expected.hold_bytes;
        }
        if !end {
            *body = Some(passed);
            return Step::Go;
        }
        self.end_of_events(passed, body)
    }

    fn end_of_events(&mut self, passed: Bytes, body: &mut Option<Bytes>) -> Step {
        let boundary = self.tap.at_boundary();
        let tail = self.tap.finish();
        let seen = &self.tap.seen;
        let whole = seen.terminal || seen.error.is_some();
        if whole || (!self.committed && seen.content) {
            self.committed = true;
        }
        if whole {
            *body = Some(join(passed, tail));
            return Step::Go;
        }
        let verdict = Verdict::fault("the stream ended without its end");
        if !self.committed {
            return Step::FailOver(Failed { verdict, answer: None });
        }
        // An event that was cut is not shown; one that had to pass in pieces cannot be taken back.
        let _ = boundary;
        *body = Some(passed);
        Step::Broken(verdict)
    }

    fn whole(&mut self, chunk: Bytes, body: &mut Option<Bytes>, end: bool, _now: Moment) -> Step {
        let chunk = self.tap.feed(chunk);
        let Kind::Whole { parts, bytes } = &mut self.kind else { return Step::Go };
        *bytes += chunk.len();
        if *bytes <= self.expected.whole_hold_bytes {
            parts.push(chunk.clone());
        } else {
            parts.clear();
            self.committed = true;
        }
        *body = Some(chunk);
        if !end {
            return Step::Go;
        }
        let (parts, bytes) = (std::mem::take(parts), *bytes);
        self.tap.finish();
        if self.committed {
            return Step::Go;
        }
        self.end_of_whole(&parts, bytes, _now)
    }

    fn end_of_whole(&mut self, parts: &[Bytes], bytes: usize, now: Moment) -> Step {
        let document = match parts {
            [one] => one.clone(),
            parts => parts.iter().fold(BytesMut::with_capacity(bytes), |mut all, part| {
                all.extend_from_slice(part);
                all
            }).freeze(),
        };
        if serde_json::from_slice::<serde::de::IgnoredAny>(&document).is_err() {
            let what = if document.trim_ascii().is_empty() { "an empty reply" } else { "a reply that is not JSON" };
            return Step::FailOver(Failed { verdict: Verdict::fault(what), answer: None });
        }
        if let Some(error) = self.tap.seen.error.as_ref().filter(|_| !self.tap.seen.content) {
            let verdict = judge(error.status.unwrap_or(500), &self.header.headers, Some(error), now);
            if verdict.class.fails_over() {
                return Step::FailOver(Failed { verdict, answer: None });
            }
        }
        self.committed = true;
        Step::Go
    }

    fn opaque(&mut self, chunk: Bytes, body: &mut Option<Bytes>, end: bool) -> Step {
        self.held += chunk.len();
        self.committed |= self.held > 0 || self.status == 204;
        if end && !self.committed {
            let verdict = Verdict::fault("an empty reply");
            return Step::FailOver(Failed { verdict, answer: None });
        }
        *body = Some(chunk);
        Step::Go
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}

fn shape_of(expected: &Expected, headers: &HeaderMap) -> Shape {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
        // Compressed in a way that nobody here can undo.
        return Shape::Opaque;
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "text/event-stream" => Shape::Sse,
        "application/json" if expected.stream && expected.stream_shape == Shape::JsonArray => Shape::JsonArray,
        "application/json" | "" => Shape::Json,
        _ if kind.ends_with("+json") => Shape::Json,
        // Calls that answer in JSON answer in nothing else: what is not labelled so must prove it.
        _ if !expected.may_be_opaque => Shape::Json,
        _ => Shape::Opaque,
    }
}
