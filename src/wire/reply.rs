//! A reply as a sequence of events, whole or streamed alike.
//!
//! Holds no index: blocks never overlap, each encoder numbers its own. Usage is a snapshot, never an increment.

use super::{Usage, replay::ReplayToken};
use std::{borrow::Cow, time::Duration};

/// One step of a reply: `Start (BlockStart Delta* BlockStop)* Finish End`, `Usage` anywhere in between; `Error` ends it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    Start {
        id: Cow<'a, str>,
        model: Cow<'a, str>,
        created: Option<u64>,
    },
    BlockStart(BlockStart<'a>),
    Delta(Delta<'a>),
    BlockStop,
    Usage(Usage),
    Finish(Finish<'a>),
    End,
    Error(ReplyError),
    /// Something that only the upstream's format can say was left out.
    Lost(Cow<'static, str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockStart<'a> {
    Text,
    Thinking,
    Refusal,
    ToolCall { id: Cow<'a, str>, name: Cow<'a, str>, custom: bool },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delta<'a> {
    /// Text of a text, thinking or refusal block.
    Text(Cow<'a, str>),
    /// A fragment of a tool call's arguments.
    Arguments(Cow<'a, str>),
    /// The token of a thinking block.
    Token(ReplayToken<'a>),
    /// A source of the text so far.
    Citation(Citation<'a>),
    /// The log probabilities of the text that comes next: elements of a list in OpenAI's shape.
    Logprobs(Cow<'a, str>),
}

impl BlockStart<'_> {
    pub(crate) fn into_owned(self) -> BlockStart<'static> {
        match self {
            BlockStart::Text => BlockStart::Text,
            BlockStart::Thinking => BlockStart::Thinking,
            BlockStart::Refusal => BlockStart::Refusal,
            BlockStart::ToolCall { id, name, custom } => {
                let (id, name) = (Cow::Owned(id.into_owned()), Cow::Owned(name.into_owned()));
                BlockStart::ToolCall { id, name, custom }
            }
        }
    }
}

/// A web source of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Citation<'a> {
    pub(crate) url: Cow<'a, str>,
    pub(crate) title: Cow<'a, str>,
    /// Where in the reply's text it belongs, in the measure of the format that it comes from or goes to (`span`).
    pub(crate) span: Option<(u64, u64)>,
    /// The words of the reply that it stands for, where told (Gemini's `segment.text`).
    pub(crate) claim: Cow<'a, str>,
    /// What is quoted from the source, where told (Anthropic's `cited_text`).
    pub(crate) quoted: Cow<'a, str>,
    /// What Anthropic wants back with it (`encrypted_index`).
    pub(crate) sealed: Cow<'a, str>,
}

impl Citation<'_> {
    /// How many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        self.url.len() + self.title.len() + self.claim.len() + self.quoted.len() + self.sealed.len()
    }
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finish<'a> {
    pub(crate) reason: FinishReason,
    /// Which stop sequence it was, or what the provider says of a refusal.
    pub(crate) detail: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    Stop,
    StopSequence,
    Length,
    ContextFull,
    ToolCalls,
    Refusal,
    /// The model wrote a call that the provider could not read.
    BrokenCall,
    /// The provider wants to be asked to go on.
    Pause,
    /// The provider gave up without an error of its own.
    Failed,
    /// A word that we do not know.
    Unknown,
}

/// What kind of failure an upstream reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is at fault (400).
    InvalidRequest,
    /// The conversation does not fit the model's context (400).
    ContextTooLong,
    /// The key is missing or wrong (401).
    Authentication,
    /// Money or quota is used up (402 at Anthropic, 429 at OpenAI).
    Quota,
    /// Not allowed (403).
    Permission,
    /// No such model or path (404).
    NotFound,
    /// The body is too large (413).
    TooLarge,
    /// Too many requests or tokens (429).
    RateLimit,
    /// The provider failed (500).
    Server,
    /// The provider is overloaded or away (503, Anthropic's 529).
    Overloaded,
    /// The provider took too long (504).
    Timeout,
}

/// An error that an upstream reported, or its reply that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyError {
    /// What kind it is.
    pub kind: ErrorKind,
    /// The upstream's own code, where it has one beyond its type.
    pub code: Option<String>,
    /// The upstream's text.
    pub message: String,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

impl ReplyError {
    /// An error without a code.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ReplyError { kind, code: None, message: message.into(), retry_after: None }
    }

    /// The upstream's reply is not what its format asks for.
    pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> Self {
        ReplyError::new(ErrorKind::Server, format!("the provider's reply cannot be read: {error}"))
    }

    /// The upstream's stream stopped before its end.
    pub(crate) fn cut() -> Self {
        ReplyError::new(ErrorKind::Server, "the provider's reply broke off before its end")
    }
}

/// A delta of text, by what is known of how it is written in JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// It may hold anything.
    Any(&'a str),
    /// Nothing in it has to be escaped.
    Plain(&'a str),
    /// Nothing in it has to be escaped, and all of it is ASCII.
    Ascii(&'a [u8]),
}

impl<'a> Piece<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Piece::Any(text) | Piece::Plain(text) => text.len(),
            Piece::Ascii(text) => text.len(),
        }
    }

    /// What it says.
    pub(crate) fn said(self) -> &'a str {
        match self {
            Piece::Any(text) | Piece::Plain(text) => text,
            Piece::Ascii(text) => std::str::from_utf8(text).unwrap_or_default(),
        }
    }
}

/// Where a decoder puts its events.
pub(crate) trait Sink {
    fn event(&mut self, event: Event<'_>);
    /// A delta of text, of which a stream consists for the most part: there may be a shorter way for it.
    fn add_text(&mut self, text: Piece<'_>) {
        self.event(Event::Delta(Delta::Text(Cow::Borrowed(text.said()))));
    }
}

impl<F: FnMut(Event<'_>)> Sink for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// Reads one format's replies. A decoder says only what it was told: it never makes up a finish.
pub(crate) trait ReplyDecoder: Send + Sync {
    /// One event of a stream: `name` from its `event:` line, `data` its data.
    fn event(&mut self, name: &[u8], data: &[u8], sink: &mut dyn Sink);
    /// An event without a name that tells nothing but more text, in the very words of an earlier one. Whether it is one, and
    /// has no line end in it; else it is not taken.
    fn more(&mut self, _data: &[u8], _sink: &mut dyn Sink) -> bool {
        false
    }
    /// A whole reply.
    fn whole(&mut self, body: &[u8], sink: &mut dyn Sink);
    /// The upstream closed the stream: gives out what was held back, and `Finish` and `End` if the format's end was told.
    fn finish(&mut self, sink: &mut dyn Sink);
}

/// Writes one format's replies; fed with legal sequences only.
pub(crate) trait ReplyEncoder: Send + Sync {
    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>);
    /// A delta of text, of which a stream consists for the most part: there may be a shorter way for it.
    fn add_text(&mut self, text: Piece<'_>, out: &mut Vec<u8>) {
        self.event(Event::Delta(Delta::Text(Cow::Borrowed(text.said()))), out);
    }
}

#[cfg(test)]
impl<'a> Event<'a> {
    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Event<'a> {
        Event::Delta(Delta::Text(text.into()))
    }
}
