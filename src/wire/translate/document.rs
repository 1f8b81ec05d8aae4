//! Replies that are one document and no turn of a conversation: counts and embeddings.

use super::Context;
use crate::wire::{
    WireFormat, counting,
    embeddings::{self, Wanted},
    endpoint::Endpoint,
    loss::Losses,
    reply::ReplyError,
    usage::Usage,
};

/// What the reply is.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    /// A count of input tokens.
    Count,
    /// Vectors.
    Embeddings(Wanted),
}

impl Document {
    /// The client's reply for the upstream's.
    pub(super) fn translate(
        &self,
        to: WireFormat,
        body: &[u8],
        (context, losses): (&Context, &mut Losses),
    ) -> Result<(Vec<u8>, Usage), ReplyError> {
        match self {
            Document::Count => {
                let endpoint = match to {
                    WireFormat::Gemini => Endpoint::GeminiCountTokens,
                    WireFormat::OpenaiChat | WireFormat::OpenaiResponses => Endpoint::ResponsesInputTokens,
                    WireFormat::Anthropic => Endpoint::CountTokens,
                };
                Ok((counting::reply(&endpoint, counting::read(body)?), Usage::default()))
            }
            Document::Embeddings(wanted) => embeddings::reply(to, body, (wanted, &context.model), losses),
        }
    }
}
