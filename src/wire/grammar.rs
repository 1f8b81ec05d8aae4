//! Checks that a reply's events form a legal sequence, and closes it properly when the upstream just stops.
//!
//! Never invents a finish: a sequence that stops early ends with an error. Invariant: whatever comes in, what goes out is
//! a prefix of `Start (BlockStart Delta* BlockStop)* Finish End` with `Usage` and `Lost` anywhere, or such a prefix with
//! its open block closed and one `Error` at the end.

use super::reply::{BlockStart, Delta, ErrorKind, Event, ReplyError, Sink};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    Between,
    In(Kind),
    Finished,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Thinking,
    Refusal,
    Call,
}

impl Kind {
    pub(crate) fn of(start: &BlockStart<'_>) -> Kind {
        match start {
            BlockStart::Text => Kind::Text,
            BlockStart::Thinking => Kind::Thinking,
            BlockStart::Refusal => Kind::Refusal,
            BlockStart::ToolCall { .. } => Kind::Call,
        }
    }

    fn takes(self, delta: &Delta<'_>) -> bool {
        match delta {
            Delta::Text(_) => self != Kind::Call,
            Delta::Arguments(_) => self == Kind::Call,
            Delta::Token(_) => self == Kind::Thinking,
            Delta::Citation(_) | Delta::Logprobs(_) => self == Kind::Text,
        }
    }
}

/// The place in a reply's sequence.
#[derive(Debug)]
pub(crate) struct Grammar {
    place: Place,
}

impl Grammar {
    pub(crate) fn new() -> Self {
        Grammar { place: Place::Before }
    }

    /// Lets a legal event through. An illegal one becomes an error, since to go on would be to guess.
    pub(crate) fn admit(&mut self, event: Event<'_>, sink: &mut dyn Sink) {
        if self.place == Place::Done {
            return;
        }
        match self.next(&event) {
            Some(place) => {
                if place == Place::Done && matches!(self.place, Place::In(_)) {
                    sink.event(Event::BlockStop);
                }
                self.place = place;
                sink.event(event);
            }
            None => {
                let message = "the provider's reply has its parts in an impossible order";
                self.admit(Event::Error(ReplyError::new(ErrorKind::Server, message)), sink);
            }
        }
    }

    /// Whether text is legal now.
    pub(crate) fn takes_text(&self) -> bool {
        matches!(self.place, Place::In(Kind::Text | Kind::Thinking | Kind::Refusal))
    }

    /// The upstream has nothing more: an unfinished sequence ends with an error.
    pub(crate) fn close(&mut self, sink: &mut dyn Sink) {
        if self.place != Place::Done {
            self.admit(Event::Error(ReplyError::cut()), sink);
        }
    }

    fn next(&self, event: &Event<'_>) -> Option<Place> {
        match (event, self.place) {
            (Event::Error(_), _) => Some(Place::Done),
            (Event::Usage(_) | Event::Lost(_), place) => Some(place),
            (Event::Start { .. }, Place::Before) => Some(Place::Between),
            (Event::BlockStart(start), Place::Between) => Some(Place::In(Kind::of(start))),
            (Event::Delta(delta), Place::In(kind)) if kind.takes(delta) => Some(Place::In(kind)),
            (Event::BlockStop, Place::In(_)) => Some(Place::Between),
            (Event::Finish(_), Place::Between) => Some(Place::Finished),
            (Event::End, Place::Finished) => Some(Place::Done),
            (
                Event::Start { .. }
                | Event::BlockStart(_)
                | Event::Delta(_)
                | Event::BlockStop
                | Event::Finish(_)
                | Event::End,
                Place::Before | Place::Between | Place::In(_) | Place::Finished | Place::Done,
            ) => None,
        }
    }
}

/// Opens and closes blocks for decoders of formats that only send content: a change of kind closes the open block.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    open: Option<Kind>,
}

impl Opener {
    pub(crate) fn open(&self) -> Option<Kind> {
        self.open
    }

    /// Whether a block of this kind is open.
    fn is_open(&self, start: &BlockStart<'_>) -> bool {
        self.open == Some(Kind::of(start))
    }

    /// Makes sure that a block without a name of its own is open.
    pub(crate) fn ensure(&mut self, start: BlockStart<'_>, sink: &mut dyn Sink) {
        if !self.is_open(&start) {
            self.start(start, sink);
        }
    }

    /// Opens a new block, closing the open one.
    pub(crate) fn start(&mut self, start: BlockStart<'_>, sink: &mut dyn Sink) {
        self.close(sink);
        self.open = Some(Kind::of(&start));
        sink.event(Event::BlockStart(start));
    }

    /// Closes the open block, if one is.
    pub(crate) fn close(&mut self, sink: &mut dyn Sink) {
        if self.open.take().is_some() {
            sink.event(Event::BlockStop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reply::{Finish, FinishReason};

    fn run(events: Vec<Event<'static>>) -> Vec<String> {
        let mut seen = Vec::new();
        let mut grammar = Grammar::new();
        let mut sink = |e: Event<'_>| seen.push(format!("{e:?}").split([' ', '(']).next().unwrap().to_owned());
        for event in events {
            grammar.admit(event, &mut sink);
        }
        grammar.close(&mut sink);
        seen
    }

    fn start() -> Event<'static> {
        Event::Start { id: "".into(), model: "".into(), created: None }
    }

    #[test]
    fn a_legal_reply_passes_and_ends_once() {
        let finish = Event::Finish(Finish { reason: FinishReason::Stop, detail: None });
        let seen = run(vec![
            start(),
            Event::BlockStart(BlockStart::Text),
            Event::text("a"),
            Event::BlockStop,
            finish,
            Event::End,
            Event::End,
        ]);
        assert_eq!(seen, ["Start", "BlockStart", "Delta", "BlockStop", "Finish", "End"]);
    }

    #[test]
    fn a_reply_that_stops_early_is_closed_with_an_error_and_never_with_a_finish() {
        let seen = run(vec![start(), Event::BlockStart(BlockStart::Text), Event::text("a")]);
        assert_eq!(seen, ["Start", "BlockStart", "Delta", "BlockStop", "Error"]);
        assert_eq!(run(vec![]), ["Error"]);
    }

    #[test]
    fn parts_in_an_impossible_order_become_an_error() {
        let call = BlockStart::ToolCall { id: "a".into(), name: "b".into(), custom: false };
        let seen = run(vec![start(), Event::BlockStart(call), Event::text("a"), Event::BlockStop]);
        assert_eq!(seen, ["Start", "BlockStart", "BlockStop", "Error"]);
        assert_eq!(run(vec![start(), start()]), ["Start", "Error"]);
    }
}
