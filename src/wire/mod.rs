//! The wire formats that clients and providers speak, as pure functions over bytes.
//!
//! Nothing here waits, reads a clock or knows a socket. A new format is one folder and one row in [`FORMATS`].

mod answer;
pub mod anthropic;
mod collect;
mod compose;
pub mod conversation;
pub mod counting;
mod cursor;
#[cfg(test)]
#[path = "../../tests/support/damaged.rs"]
mod damaged;
pub mod elements;
pub mod embeddings;
pub mod endpoint;
pub mod envelope;
mod errors;
mod fields;
mod frames;
pub mod gemini;
mod grammar;
mod in_place;
pub mod json;
mod lenient;
mod logprobs;
pub mod loss;
mod models;
mod naming;
pub mod openai_chat;
pub mod openai_responses;
mod replay;
pub mod reply;
pub(crate) mod request;
mod rules;
mod schema;
mod skim;
mod span;
pub mod sse;
mod stencil;
mod swar;
pub mod tap;
mod telltale;
mod text;
pub mod translate;
mod unescape;
pub mod upstream_error;
pub mod usage;

use crate::error::Rejection;
pub use endpoint::Endpoint;
pub use usage::Usage;

/// A wire format: the shape of requests, replies, streams and errors of one provider API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WireFormat {
    /// OpenAI Chat Completions; also the shape of OpenAI's other calls (embeddings, images, audio, …).
    OpenaiChat,
    /// OpenAI Responses.
    OpenaiResponses,
    /// Anthropic Messages.
    Anthropic,
    /// Gemini generateContent.
    Gemini,
}

impl WireFormat {
    /// This format's behaviour.
    pub fn behaviour(self) -> &'static dyn Format {
        match self {
            WireFormat::OpenaiChat => &openai_chat::OpenaiChat,
            WireFormat::OpenaiResponses => &openai_responses::OpenaiResponses,
            WireFormat::Anthropic => &anthropic::Anthropic,
            WireFormat::Gemini => &gemini::Gemini,
        }
    }

    /// The name in configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        self.behaviour().name()
    }

    /// The format with this name.
    pub fn parse(name: &str) -> Option<WireFormat> {
        FORMATS.iter().map(|f| f.id()).find(|f| f.name() == name)
    }
}

/// Every wire format, in the order of preference when an account names none.
pub static FORMATS: [&dyn Format; 4] =
    [&openai_responses::OpenaiResponses, &openai_chat::OpenaiChat, &anthropic::Anthropic, &gemini::Gemini];

/// What a wire format can do.
pub trait Format: Send + Sync {
    /// Which format this is.
    fn id(&self) -> WireFormat;

    /// Its name in configuration, logs and metrics, such as `openai_chat`.
    fn name(&self) -> &'static str;

    /// The HTTP status under which this format's clients know the rejection.
    fn error_status(&self, rejection: &Rejection) -> u16 {
        rejection.status()
    }

    /// The JSON body of an error reply.
    fn error_body(&self, rejection: &Rejection, request_id: &str) -> Vec<u8>;

    /// The bytes that end a stream which has already begun with an error: the format's error event, then its own end.
    /// `seen` tells what went out so far (Responses needs a sequence number, the Gemini array its bracket).
    fn stream_error(&self, rejection: &Rejection, request_id: &str, seen: &tap::Seen, shape: tap::Shape) -> Vec<u8>;

    /// A keep-alive for a silent stream that this format's clients ignore.
    fn ping(&self, shape: tap::Shape) -> &'static [u8];

    /// Whether an event of an answer that has begun, and not ended, tells nothing but more of the answer.
    fn only_adds(&self, name: &[u8], data: &[u8]) -> bool;

    /// Reads one stream event (`name` from its `event:` line, `data` its joined data lines) into `seen`.
    fn read_event(&self, name: &[u8], data: &[u8], seen: &mut tap::Seen);

    /// Reads a whole reply (any status) into `seen`.
    fn read_reply(&self, body: &[u8], seen: &mut tap::Seen);

    /// Reads what can be read of a stream event or whole reply that was too long to keep: `head` are the first bytes of
    /// its data, `tail` its last ones.
    fn read_clipped(&self, name: &[u8], head: &[u8], tail: &[u8], seen: &mut tap::Seen);

    /// A model list in this format's shape.
    fn model_list(&self, models: &[&str]) -> Vec<u8>;

    /// One model's entry in this format's shape.
    fn model_entry(&self, model: &str) -> Vec<u8>;
}
