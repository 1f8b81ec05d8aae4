//! Collects a reply's events into the whole reply that they amount to.
//!
//! Bounded by the limit on a reply that the translator keeps.

use super::{
    Usage, logprobs,
    replay::ReplayToken,
    reply::{BlockStart, Citation, Delta, Event, FinishReason, ReplyError},
};
use std::borrow::Cow;

/// One finished or growing block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// The log probabilities are elements of a list in OpenAI's shape.
    Text {
        text: String,
        citations: Vec<Citation<'static>>,
        logprobs: String,
    },
    Thinking {
        text: String,
        token: Option<ReplayToken<'static>>,
    },
    Refusal(String),
    Call {
        id: String,
        name: String,
        arguments: String,
        custom: bool,
    },
}

impl Part {
    pub(crate) fn empty_text() -> Part {
        Part::Text { text: String::new(), citations: Vec::new(), logprobs: String::new() }
    }
}

/// A reply so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collected {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created: Option<u64>,
    pub(crate) parts: Vec<Part>,
    pub(crate) usage: Usage,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) detail: Option<String>,
    pub(crate) error: Option<ReplyError>,
}

impl Collected {
    /// Takes one event in.
    pub(crate) fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start { id, model, created } => {
                self.id = id.into_owned();
                self.model = model.into_owned();
                self.created = created;
            }
            Event::BlockStart(start) => self.parts.push(match start {
                BlockStart::Text => Part::empty_text(),
                BlockStart::Thinking => Part::Thinking { text: String::new(), token: None },
                BlockStart::Refusal => Part::Refusal(String::new()),
                BlockStart::ToolCall { id, name, custom } => {
                    let (id, name) = (id.into_owned(), name.into_owned());
                    Part::Call { id, name, arguments: String::new(), custom }
                }
            }),
            Event::Delta(delta) => self.grow(delta),
            Event::Usage(usage) => self.usage.update(&usage),
            Event::Finish(finish) => {
                self.finish = Some(finish.reason);
                self.detail = finish.detail.map(Cow::into_owned);
            }
            Event::Error(error) => self.error = Some(error),
            Event::BlockStop | Event::End | Event::Lost(_) => {}
        }
    }

    fn grow(&mut self, delta: Delta<'_>) {
        match (self.parts.last_mut(), delta) {
            (Some(Part::Text { text, .. } | Part::Thinking { text, .. } | Part::Refusal(text)), Delta::Text(more)) => {
                text.push_str(&more);
            }
            (Some(Part::Call { arguments, .. }), Delta::Arguments(more)) => {
                arguments.push_str(&more);
            }
            (Some(Part::Thinking { token, .. }), Delta::Token(found)) => {
                *token = Some(found.into_owned());
            }
            (Some(Part::Text { citations, .. }), Delta::Citation(citation)) => {
                citations.push(citation.into_owned());
            }
            (Some(Part::Text { logprobs, .. }), Delta::Logprobs(more)) => logprobs::join(logprobs, &more),
            _ => {}
        }
    }

    /// The log probabilities of all its texts.
    pub(crate) fn logprobs(&self) -> String {
        let mut all = String::new();
        for part in &self.parts {
            match part {
                Part::Text { logprobs, .. } => logprobs::join(&mut all, logprobs),
                Part::Thinking { .. } | Part::Refusal(_) | Part::Call { .. } => {}
            }
        }
        all
    }

    /// Whether any block is a tool call.
    pub(crate) fn has_calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Call { .. }))
    }

    /// Whether the model refused.
    pub(crate) fn has_refusal(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Refusal(_)))
    }
}

impl Citation<'_> {
    pub(crate) fn into_owned(self) -> Citation<'static> {
        Citation {
            claim: Cow::Owned(self.claim.into_owned()),
            url: Cow::Owned(self.url.into_owned()),
            title: Cow::Owned(self.title.into_owned()),
            span: self.span,
            quoted: Cow::Owned(self.quoted.into_owned()),
            sealed: Cow::Owned(self.sealed.into_owned()),
        }
    }
}
