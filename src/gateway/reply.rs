//! One attempt's answer, and what may be shown of it.
//!
//! Nothing is shown before the first content, so whatever fails until then can be tried elsewhere. Whole events pass as
//! they come and as they are. Invariant: an answer that broke off never ends cleanly.

use super::exchange::Answer;
use crate::{
    clock::Clock,
    provider::verdict::{Verdict, judge},
    wire::{
        Endpoint, WireFormat,
        tap::{Seen, Shape, Tap},
    },
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use pingora::http::ResponseHeader;

/// Most bytes of an error reply that are read to understand it.
const ERROR_BYTES: usize = 64 * 1024;

/// How much of an answer may be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// A longer event passes in pieces.
    pub event_bytes: usize,
    /// A longer whole reply goes out before its end.
    pub whole_bytes: usize,
    /// A longer preamble goes out unjudged.
    pub preamble_bytes: usize,
    /// Nothing goes out before the answer's end: the client waits for it whole.
    pub until_end: bool,
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

impl Failed {
    fn fault(reason: &'static str) -> Step {
        Step::FailOver(Failed { verdict: Verdict::fault(reason), answer: None })
    }
}

/// One attempt's answer.
pub(super) struct Reply {
    format: WireFormat,
    /// The upstream's status.
    pub status: u16,
    /// The upstream's header as it came.
    header: ResponseHeader,
    holding: Holding,
    /// The layout that the client waits for; `None` where any will do.
    asked: Option<Shape>,
    /// What came of an error reply that is not judged yet.
    error: Option<BytesMut>,
    tap: Tap,
    /// Whether it may go out.
    pub committed: bool,
    /// Whether content has begun to arrive.
    pub answering: bool,
    /// Whether the client knows its length, so that nothing can be added to it.
    pub length_is_told: bool,
    bytes: usize,
    /// What the adapter was last told of whether the answer stops between two events.
    pub told_boundary: Option<bool>,
    /// Set when the stream has ended: whether what went on stopped between two events.
    ended_at_boundary: Option<bool>,
    /// What an answer that goes to the client says of the account: the request is at fault, or an error came in its midst.
    pub said: Option<Verdict>,
    is_judged: bool,
}

impl Reply {
    /// The answer to a call, whose header has come.
    pub(super) fn new(endpoint: &Endpoint, header: ResponseHeader, holding: Holding) -> Reply {
        let format = endpoint.format();
        let status = header.status.as_u16();
        let shape = shape(endpoint, status, &header.headers);
        Reply {
            format,
            status,
            holding,
            asked: None,
            error: (!header.status.is_success()).then(BytesMut::new),
            tap: Tap::new(format, shape, holding.event_bytes),
            length_is_told: header.headers.contains_key(header::CONTENT_LENGTH),
            header,
            committed: false,
            answering: false,
            bytes: 0,
            told_boundary: None,
            ended_at_boundary: None,
            said: None,
            is_judged: false,
        }
    }

    /// How the body is laid out.
    pub(super) fn shape(&self) -> Shape {
        self.tap.shape()
    }

    /// Says which layout the client waits for.
    pub(super) fn ask_for(&mut self, shape: Shape) {
        self.asked = Some(shape).filter(|_| self.error.is_none() && self.tap.shape() != Shape::Opaque);
    }

    /// The layout that the client waits for, where the answer has another one.
    pub(super) fn wanted_shape(&self) -> Option<Shape> {
        self.asked.filter(|asked| *asked != self.tap.shape())
    }

    /// Whether its first bytes have told how it is laid out.
    pub(super) fn is_laid_out(&self) -> bool {
        self.tap.has_begun()
    }

    /// Whether the upstream answered with an error status.
    pub(super) fn is_error(&self) -> bool {
        self.error.is_some()
    }

    /// Whether the answer is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        self.error.is_none() && matches!(self.tap.shape(), Shape::Sse | Shape::JsonArray)
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> &Seen {
        &self.tap.seen
    }

    /// Bytes of the body so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An estimate of the output so far.
    pub(super) fn output_tokens(&self) -> u64 {
        match self.is_stream() {
            true => self.tap.seen.volume.tokens(),
            // A whole reply's frame is some two hundred bytes.
            false => (self.bytes.saturating_sub(200) / 4) as u64,
        }
    }

    /// Whether its last bytes are among those that came: nothing more of it can tell what it used.
    pub(super) fn is_closed(&self) -> bool {
        self.is_stream() && self.tap.is_closed()
    }

    /// Whether what has gone on stops between two events.
    pub(super) fn at_boundary(&self) -> bool {
        self.ended_at_boundary.unwrap_or_else(|| self.tap.at_boundary())
    }

    /// Whether it is amid what goes to the client, where a piece that brings nothing but more of the answer changes nothing.
    pub(super) fn is_amid(&self) -> bool {
        self.is_open() && self.tap.is_amid()
    }

    /// Whether it goes to the client piece by piece, and the adapter knows that it may put something between them.
    fn is_open(&self) -> bool {
        self.committed && self.answering && self.told_boundary == Some(true)
    }

    /// Takes a piece amid the answer that brings nothing but more of it, and goes on as it is. Whether it is one; else it is
    /// not taken.
    pub(super) fn goes_on(&mut self, piece: &[u8]) -> bool {
        let goes_on = self.is_open() && self.tap.goes_on(piece);
        self.bytes += if goes_on { piece.len() } else { 0 };
        goes_on
    }

    /// Takes an event that was read elsewhere, and was such a piece.
    pub(super) fn count(&mut self, event: &[u8]) {
        self.bytes += event.len();
        self.tap.count(event);
    }

    /// Takes the next piece and leaves in `body` what may go on. The clock is read only where something is judged.
    pub(super) fn take(&mut self, body: &mut Option<Bytes>, end: bool, clock: &Clock) -> Step {
        let chunk = body.take().unwrap_or_default();
        self.bytes += chunk.len();
        if self.error.is_some() {
            return self.error(&chunk, body, end, clock);
        }
        let something = !chunk.is_empty();
        let was_known = self.tap.has_begun();
        let passed = self.tap.feed(chunk);
        if self.tap.has_begun() && !was_known {
            self.begin();
        }
        let step = match self.tap.shape() {
            Shape::Sse | Shape::JsonArray => self.events(passed, body, end, clock),
            Shape::Json => {
                self.answering |= something;
                self.whole(passed, body, end, clock)
            }
            Shape::Opaque => self.opaque(passed, body, end),
        };
        self.answering |= self.committed;
        self.judge_what_is_shown(clock);
        step
    }

    /// The layout is known for sure; an answer in another one than was asked for is held until it is made anew.
    fn begin(&mut self) {
        if let Some(asked) = self.wanted_shape() {
            self.holding.whole_bytes = usize::MAX;
            self.holding.until_end = asked == Shape::Json;
        }
    }

    /// Judges the error that stands in an answer which goes to the client nevertheless.
    fn judge_what_is_shown(&mut self, clock: &Clock) {
        let error = self.tap.seen.error.as_ref().filter(|_| self.committed && !self.is_judged);
        if let Some(error) = error {
            self.said = Some(judge(self.status, &self.header.headers, Some(error), clock.now()));
            self.is_judged = true;
        }
    }

    /// Gathers an error reply until it can be judged.
    fn error(&mut self, chunk: &Bytes, body: &mut Option<Bytes>, end: bool, clock: &Clock) -> Step {
        let Some(gathered) = &mut self.error else { return Step::Go };
        gathered.extend_from_slice(chunk);
        if self.committed {
            *body = Some(gathered.split().freeze());
            return Step::Go;
        }
        if !end && gathered.len() < ERROR_BYTES {
            return Step::Go;
        }
        let gathered = gathered.split().freeze();
        self.format.behaviour().read_reply(&gathered, &mut self.tap.seen);
        let verdict = judge(self.status, &self.header.headers, self.tap.seen.error.as_ref(), clock.now());
        if verdict.class.fails_over() {
            let content_type = self.header.headers.get(header::CONTENT_TYPE).cloned();
            let answer = Answer { status: self.status, content_type, body: gathered };
            let answer = verdict.class.is_about_the_request().then_some(answer);
            return Step::FailOver(Failed { verdict, answer });
        }
        // The request's own fault: the answer goes to the caller as it is.
        self.said = Some(verdict);
        self.committed = true;
        *body = Some(gathered);
        Step::Go
    }

    /// The upstream reported an error before any content: whether to try elsewhere.
    fn judge_before_content(&self, clock: &Clock) -> Option<Step> {
        let error = self.tap.seen.error.as_ref().filter(|_| self.holding.until_end || !self.tap.seen.content)?;
        let verdict = judge(self.status, &self.header.headers, Some(error), clock.now());
        verdict.class.fails_over().then_some(Step::FailOver(Failed { verdict, answer: None }))
    }

    fn events(&mut self, passed: Bytes, body: &mut Option<Bytes>, end: bool, clock: &Clock) -> Step {
        if !self.committed {
            if let Some(step) = self.judge_before_content(clock) {
                return step;
            }
            let seen = &self.tap.seen;
            let begins = seen.content || seen.error.is_some() || self.bytes > self.holding.preamble_bytes;
            self.committed = begins && !self.holding.until_end;
            self.answering |= begins;
        }
        if !end {
            *body = Some(passed);
            return Step::Go;
        }
        self.ended_at_boundary = Some(self.tap.at_boundary());
        let tail = self.tap.finish();
        if !self.committed
            && let Some(step) = self.judge_before_content(clock)
        {
            return step;
        }
        if self.tap.seen.terminal {
            self.committed = true;
            *body = Some(join(passed, tail));
            return Step::Go;
        }
        const CUT: &str = "the stream ended without its end";
        if !self.committed {
            return Failed::fault(CUT);
        }
        // The start of an event that never ended is not shown.
        *body = Some(passed);
        Step::Broken(Verdict::fault(CUT))
    }

    fn whole(&mut self, passed: Bytes, body: &mut Option<Bytes>, end: bool, clock: &Clock) -> Step {
        *body = Some(passed);
        if !end {
            self.committed |= self.bytes > self.holding.whole_bytes;
            return Step::Go;
        }
        // What the tap still waited with: a body so short that it said nothing of its layout.
        let tail = self.tap.finish();
        *body = body.take().map(|passed| join(passed, tail));
        if self.committed {
            return if self.tap.seen.terminal {
                Step::Go
            } else {
                Step::Broken(Verdict::fault("the reply ended before its end"))
            };
        }
        if let Some(step) = self.judge_before_content(clock) {
            return step;
        }
        if self.bytes == 0 {
            return Failed::fault("an empty reply");
        }
        if !self.tap.seen.terminal {
            return Failed::fault("a reply that is not whole or not JSON");
        }
        self.committed = true;
        Step::Go
    }

    fn opaque(&mut self, passed: Bytes, body: &mut Option<Bytes>, end: bool) -> Step {
        self.committed |= self.bytes > 0 || self.status == 204;
        if end && !self.committed {
            return Failed::fault("an empty reply");
        }
        *body = Some(passed);
        Step::Go
    }
}

pub(super) fn join(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}

fn shape(endpoint: &Endpoint, status: u16, headers: &HeaderMap) -> Shape {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
        // Compressed in a way that nobody here can undo.
        return Shape::Opaque;
    }
    Shape::of(endpoint, status, headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()))
}
