//! The calls that are not conversations: embeddings, completions, moderations, images, audio, rerank, models.
//!
//! Each reads its request strictly and makes a [`Ready`] reply; faults are applied to it as to any other.

pub(super) mod completions;
pub(super) mod embeddings;
pub(super) mod media;
pub(super) mod models;
pub(super) mod multipart;
pub(super) mod ranking;

use super::{answer::Tokens, damage::Body, write::Event};

/// A reply that is ready to be sent, or to be broken.
pub(super) struct Ready {
    pub(super) model: String,
    /// The text in which a fault may be asked for.
    pub(super) prompt: String,
    pub(super) usage: Tokens,
    /// Shown in the log.
    pub(super) text: String,
    pub(super) body: Body,
    /// The reply as a stream, where one was asked for.
    pub(super) events: Option<Vec<Event>>,
}

impl Ready {
    /// A JSON reply.
    pub(super) fn json(model: &str, prompt: String, input: u64, body: String) -> Self {
        let body = Body { content_type: "application/json", data: body.into_bytes(), chunked: false };
        let usage = Tokens { input, ..Tokens::default() };
        Ready { model: model.to_owned(), prompt, usage, text: String::new(), body, events: None }
    }
}
