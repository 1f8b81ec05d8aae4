//! Reads along while a reply passes by: usage, finish reason, error, first content, end.
//!
//! Read-only: the bytes go on as they came, in the order they came. Of a stream, whole events go on together and the
//! start of an unfinished one waits, so that nothing is ever put (or cut) inside an event. Memory is bounded: one event,
//! or the start and the end of a reply that is too long to keep.

mod clip;
mod repeat;
mod seen;
#[cfg(test)]
mod tests;
mod whole;

use super::{WireFormat, elements, elements::Elements, sse, sse::Boundaries};
use bytes::{Bytes, BytesMut};
use clip::Clip;
use repeat::Repeat;
pub use seen::{Alternatives, Seen, Shape, UpstreamError, Volume};
use whole::Whole;

/// The tap of one reply.
#[derive(Debug)]
pub struct Tap {
    /// What was seen so far.
    pub seen: Seen,
    format: WireFormat,
    body: Body,
    max_event_bytes: usize,
    /// What has come as long as it says nothing of how the body is laid out: space, mostly.
    head: BytesMut,
    /// Whether the layout is known.
    begun: bool,
    passed: bool,
}

/// So much at most is waited for before the layout is taken for the promised one.
const MOST_HEAD: usize = 1024;

/// How the body is read.
#[derive(Debug)]
enum Body {
    /// Not at all.
    Opaque,
    /// As one document, at its end.
    Whole(Whole),
    /// Event by event.
    Events(Events),
}

/// The state between two pieces of a stream.
#[derive(Debug)]
struct Events {
    framing: Framing,
    /// The start of the open event, held back.
    held: BytesMut,
    /// What is kept of an open event that was too long to hold back and passes in pieces.
    long: Option<Clip>,
    /// Whether the stream ended inside an event.
    cut: bool,
    scratch: Vec<u8>,
    repeat: Repeat,
}

#[derive(Debug)]
enum Framing {
    Sse(Boundaries),
    Array(Elements),
}

impl Tap {
    /// A tap for a reply of this format and shape. At most `max_event_bytes` are held back to complete an event.
    ///
    /// The shape is what the headers promise. A body whose first bytes say otherwise is read as what it is;
    /// [`Tap::shape`] tells.
    pub fn new(format: WireFormat, shape: Shape, max_event_bytes: usize) -> Self {
        let body = match shape {
            Shape::Opaque => Body::Opaque,
            Shape::Json => Body::Whole(Whole::default()),
            Shape::Sse => Body::Events(Events::new(Framing::Sse(Boundaries::default()))),
            Shape::JsonArray => Body::Events(Events::new(Framing::Array(Elements::default()))),
        };
        let (seen, head) = (Seen::default(), BytesMut::new());
        Tap { seen, format, body, max_event_bytes, head, begun: false, passed: false }
    }

    /// How the body is being read: the shape that the tap was made for, unless the body began otherwise.
    pub fn shape(&self) -> Shape {
        match &self.body {
            Body::Opaque => Shape::Opaque,
            Body::Whole(_) => Shape::Json,
            Body::Events(Events { framing: Framing::Sse(_), .. }) => Shape::Sse,
            Body::Events(Events { framing: Framing::Array(_), .. }) => Shape::JsonArray,
        }
    }

    /// Takes the next bytes and returns those that may go on: all up to the end of the last whole event (for `Json` and
    /// `Opaque`, all of them), but for a start that says nothing. No copy is made unless an event straddles two chunks.
    ///
    /// An event longer than `max_event_bytes` passes in pieces; until it ends, [`Tap::at_boundary`] is false.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        if chunk.is_empty() {
            return chunk;
        }
        let Some(chunk) = self.begin(chunk) else { return Bytes::new() };
        let out = match &mut self.body {
            Body::Opaque => chunk,
            Body::Whole(whole) => {
                whole.keep(&chunk);
                chunk
            }
            Body::Events(events) => {
                events.feed(chunk, &mut Reading { format: self.format, seen: &mut self.seen }, self.max_event_bytes)
            }
        };
        self.passed |= !out.is_empty();
        out
    }

    /// Takes a piece that is nothing but whole events which tell no more than the one before them, but for the answer's text.
    /// Whether it is one, and may go on; else it is not taken.
    pub fn goes_on(&mut self, piece: &[u8]) -> bool {
        match &mut self.body {
            Body::Opaque | Body::Whole(_) => false,
            Body::Events(events) => events.is_amid(&self.seen) && events.goes_on(piece, &mut self.seen),
        }
    }

    /// Whether a stream stands between two events of its answer, behind the first content and before the end.
    pub fn is_amid(&self) -> bool {
        match &self.body {
            Body::Opaque | Body::Whole(_) => false,
            Body::Events(events) => events.is_amid(&self.seen),
        }
    }

    /// Takes an event that was read elsewhere: amid a stream, and nothing but more of the answer.
    pub fn count(&mut self, event: &[u8]) {
        self.seen.events += 1;
        self.seen.volume.add(event);
    }

    /// The upstream ended cleanly: reads what is still open, and returns the bytes that were held back.
    ///
    /// Those bytes are the start of an event that never ended, or a last event without its blank line: pass them on if
    /// [`Seen::terminal`] is now true, else drop them, so that an error event can be put where the stream stands.
    pub fn finish(&mut self) -> Bytes {
        self.begun = true;
        let head = self.head.split().freeze();
        let head = self.feed(head);
        let mut reading = Reading { format: self.format, seen: &mut self.seen };
        let out = match &mut self.body {
            Body::Opaque => Bytes::new(),
            Body::Whole(whole) => {
                whole.read(&mut reading);
                Bytes::new()
            }
            Body::Events(events) => events.finish(&mut reading),
        };
        self.passed |= !out.is_empty();
        if head.is_empty() { out } else { [head, out].concat().into() }
    }

    /// Whether the reply has ended by its format's own mark, so that nothing that follows tells anything.
    pub fn is_closed(&self) -> bool {
        match &self.body {
            Body::Opaque | Body::Whole(_) => false,
            Body::Events(events) => self.seen.closed || (events.is_over() && self.seen.terminal),
        }
    }

    /// Whether what went on so far stops between two events, so that something may be put there.
    pub fn at_boundary(&self) -> bool {
        match &self.body {
            Body::Opaque | Body::Whole(_) => !self.passed,
            Body::Events(events) => events.at_boundary(),
        }
    }

    /// Whether the layout is known for sure.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Gives out what the reply begins with, as soon as that tells how it is laid out.
    fn begin(&mut self, chunk: Bytes) -> Option<Bytes> {
        if self.begun || matches!(self.body, Body::Opaque) {
            self.begun = true;
            return Some(chunk);
        }
        let first = match self.head.is_empty() {
            true => chunk,
            false => [&self.head[..], &chunk].concat().into(),
        };
        let most = MOST_HEAD.min(self.max_event_bytes);
        let head = first.get(..most).unwrap_or(&first);
        self.head.clear();
        if !sse::may_look_like_events(head) {
            self.correct_shape(head);
        } else if first.len() < most {
            self.head.extend_from_slice(&first);
            return None;
        }
        self.begun = true;
        Some(first)
    }

    /// Reads from a reply's first bytes how it is laid out, where the label said otherwise.
    fn correct_shape(&mut self, first: &[u8]) {
        let framing = match (first.trim_ascii_start().first(), self.shape()) {
            (_, Shape::Json | Shape::JsonArray) if sse::looks_like_events(first) => Framing::Sse(Boundaries::default()),
            // Google's two ways without events have one label.
            (Some(b'['), Shape::Json | Shape::Sse) if self.format == WireFormat::Gemini => {
                Framing::Array(Elements::default())
            }
            // No event and no array begins like this: one document.
            (Some(b'{'), Shape::Sse | Shape::JsonArray) => {
                self.body = Body::Whole(Whole::default());
                return;
            }
            _ => return,
        };
        self.body = Body::Events(Events::new(framing));
    }
}

/// Where what is read goes.
struct Reading<'a> {
    format: WireFormat,
    seen: &'a mut Seen,
}

impl Events {
    fn new(framing: Framing) -> Self {
        let (held, scratch, repeat) = (BytesMut::new(), Vec::new(), Repeat::default());
        Events { framing, held, long: None, cut: false, scratch, repeat }
    }

    fn feed(&mut self, mut chunk: Bytes, reading: &mut Reading<'_>, max_event_bytes: usize) -> Bytes {
        let mut whole = 0;
        let mut ended = false;
        // How much of the chunk has been copied behind the held start, to read the event that straddles.
        let mut joined = 0;
        let mut over = self.is_over();
        while let Some(length) = self.next_end(chunk.get(whole..).unwrap_or_default()) {
            if self.closes_too_early(reading.seen) {
                break;
            }
            let piece = chunk.get(whole..whole + length).unwrap_or_default();
            if over {
                // Whatever follows a closed array comes in pieces that mean nothing.
            } else if let Some(mut long) = self.long.take() {
                long.keep(piece);
                self.read_long(&long, reading);
            } else if !ended && !self.held.is_empty() {
                self.held.extend_from_slice(piece);
                joined = length;
                let held = std::mem::take(&mut self.held);
                self.read(&held, reading);
                self.held = held;
            } else {
                self.read(piece, reading);
            }
            whole += length;
            ended = true;
            over = self.is_over();
        }
        if self.long.is_none() && self.held_after(ended) + chunk.len() - whole > max_event_bytes {
            self.begin_long(&chunk, whole, ended);
            return self.join(chunk, joined);
        }
        if let Some(long) = &mut self.long {
            long.keep(&chunk);
            return chunk;
        }
        let open = chunk.split_off(whole);
        let out = if ended { self.join(chunk, joined) } else { Bytes::new() };
        self.held.extend_from_slice(&open);
        out
    }

    fn is_amid(&self, seen: &Seen) -> bool {
        let is_between = match &self.framing {
            Framing::Sse(boundaries) => boundaries.is_between(),
            Framing::Array(_) => false,
        };
        is_between && self.held.is_empty() && self.long.is_none() && seen.content && !seen.terminal
    }

    fn goes_on(&mut self, piece: &[u8], seen: &mut Seen) -> bool {
        let (mut rest, mut events, mut volume) = (piece, seen.events, seen.volume);
        while !rest.is_empty() {
            let Some(length) = self.repeat.next(rest) else { return false };
            let (event, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            events += 1;
            volume.add(event);
            rest = behind;
        }
        (seen.events, seen.volume) = (events, volume);
        true
    }

    fn next_end(&mut self, piece: &[u8]) -> Option<usize> {
        match &mut self.framing {
            Framing::Sse(boundaries) => boundaries.next(piece),
            Framing::Array(elements) => elements.next(piece),
        }
    }

    /// Whether the array was closed before the answer came to its end. Its bracket is held back: behind it no error could
    /// be told, and what stands before it would be taken for the whole answer.
    fn closes_too_early(&self, seen: &Seen) -> bool {
        self.is_over() && !seen.terminal
    }

    /// Whether nothing can follow.
    fn is_over(&self) -> bool {
        match &self.framing {
            Framing::Sse(_) => false,
            Framing::Array(elements) => elements.is_closed(),
        }
    }

    /// How many held bytes belong to the event that is open now.
    fn held_after(&self, ended: bool) -> usize {
        if ended { 0 } else { self.held.len() }
    }

    fn begin_long(&mut self, chunk: &[u8], from: usize, ended: bool) {
        let mut long = Clip::default();
        if !ended {
            long.keep(&self.held);
        }
        long.keep(chunk.get(from..).unwrap_or_default());
        self.long = Some(long);
    }

    /// The held bytes and the chunk as one. `joined` bytes of the chunk are among the held ones already.
    fn join(&mut self, mut chunk: Bytes, joined: usize) -> Bytes {
        if self.held.is_empty() {
            return chunk;
        }
        self.held.extend_from_slice(&chunk.split_off(joined.min(chunk.len())));
        self.held.split().freeze()
    }

    fn read(&mut self, event: &[u8], reading: &mut Reading<'_>) {
        let is_answering = reading.seen.content && !reading.seen.terminal;
        if is_answering && self.repeat.is_like(event) {
            reading.seen.events += 1;
            return reading.seen.volume.add(event);
        }
        let said = match self.framing {
            Framing::Sse(_) => sse::read(event, &mut self.scratch),
            Framing::Array(_) => elements::read(event).map(|data| sse::Event { name: b"", data }),
        };
        let Some(said) = said else { return self.count_unread(reading.seen) };
        let format = reading.format.behaviour();
        if is_answering && format.only_adds(said.name, said.data) {
            self.repeat.keep(event);
        } else {
            format.read_event(said.name, said.data, reading.seen);
        }
        reading.seen.events += 1;
        if reading.seen.content && !reading.seen.terminal {
            reading.seen.volume.add(event);
        }
    }

    fn read_long(&mut self, long: &Clip, reading: &mut Reading<'_>) {
        if let Some(event) = long.whole() {
            return self.read(event, reading);
        }
        let head = match self.framing {
            Framing::Sse(_) => sse::read(long.head(), &mut self.scratch),
            Framing::Array(_) => elements::read(long.head()).map(|data| sse::Event { name: b"", data }),
        };
        let Some(head) = head else { return self.count_unread(reading.seen) };
        reading.format.behaviour().read_clipped(head.name, head.data, long.tail(), reading.seen);
        reading.seen.events += 1;
    }

    /// Counts what cannot be read where that is an element of an array: it opened the array, and another may follow it.
    fn count_unread(&self, seen: &mut Seen) {
        if matches!(self.framing, Framing::Array(_)) && !self.is_over() {
            seen.events += 1;
        }
    }

    fn finish(&mut self, reading: &mut Reading<'_>) -> Bytes {
        if let Some(long) = self.long.take() {
            // Of a clipped event, all that tells a last one without its blank line from a cut one is its last byte.
            if matches!(long.tail().trim_ascii_end().last(), Some(b'}' | b']')) {
                self.read_long(&long, reading);
            }
            self.cut = true;
        }
        let held = self.held.split().freeze();
        // An event without its end does not count: it may still be dropped.
        let events = reading.seen.events;
        self.read(&held, reading);
        reading.seen.events = events;
        self.cut |= !held.is_empty();
        held
    }

    fn at_boundary(&self) -> bool {
        // A closing bracket that is held back has closed nothing yet.
        (!self.is_over() || !self.held.is_empty()) && self.long.is_none() && !self.cut
    }
}
