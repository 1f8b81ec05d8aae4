//! The calls that a client can make, whatever path it used for them.

use super::{WireFormat, tap::Shape};

/// One call of one wire format. The client's path is parsed into it, a provider's path is made from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/responses/input_tokens`
    ResponsesInputTokens,
    /// `POST /v1/responses/compact`
    ResponsesCompact,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1beta/models/{model}:generateContent`
    GenerateContent,
    /// `POST /v1beta/models/{model}:streamGenerateContent`, `sse` when asked with `alt=sse`, else a JSON array.
    StreamGenerateContent {
        /// Whether `alt=sse` was asked for.
        sse: bool,
    },
    /// `POST /v1beta/models/{model}:countTokens`
    GeminiCountTokens,
    /// `POST /v1beta/models/{model}:embedContent`
    EmbedContent,
    /// `POST /v1beta/models/{model}:batchEmbedContents`
    BatchEmbedContents,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/moderations`
    Moderations,
    /// `POST /v1/rerank`
    Rerank,
    /// `POST /v1/images/{action}`: generations, edits, variations.
    Images(&'static str),
    /// `POST /v1/audio/{action}`: speech, transcriptions, translations.
    Audio(&'static str),
}

impl Endpoint {
    /// The wire format of this call's requests, replies and errors.
    pub fn format(&self) -> WireFormat {
        match self {
            Endpoint::Responses | Endpoint::ResponsesInputTokens | Endpoint::ResponsesCompact => {
                WireFormat::OpenaiResponses
            }
            Endpoint::Messages | Endpoint::CountTokens => WireFormat::Anthropic,
            Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent { .. }
            | Endpoint::GeminiCountTokens
            | Endpoint::EmbedContent
            | Endpoint::BatchEmbedContents => WireFormat::Gemini,
            Endpoint::ChatCompletions
            | Endpoint::Embeddings
            | Endpoint::Completions
            | Endpoint::Moderations
            | Endpoint::Rerank
            | Endpoint::Images(_)
            | Endpoint::Audio(_) => WireFormat::OpenaiChat,
        }
    }

    /// The call that does the same in another wire format; `None` where the formats have no such pair.
    /// Only calls that generate have one so far.
    pub fn in_format(&self, format: WireFormat, stream: bool) -> Option<Endpoint> {
        if format == self.format() {
            return Some(self.clone());
        }
        if !self.generates() {
            return None;
        }
        Some(match format {
            WireFormat::OpenaiChat => Endpoint::ChatCompletions,
            WireFormat::OpenaiResponses => Endpoint::Responses,
            WireFormat::Anthropic => Endpoint::Messages,
            WireFormat::Gemini if stream => Endpoint::StreamGenerateContent { sse: true },
            WireFormat::Gemini => Endpoint::GenerateContent,
        })
    }

    /// Whether the call asks a model for its next turn, which every wire format can say.
    pub fn generates(&self) -> bool {
        matches!(
            self,
            Endpoint::ChatCompletions
                | Endpoint::Responses
                | Endpoint::Messages
                | Endpoint::GenerateContent
                | Endpoint::StreamGenerateContent { .. }
        )
    }

    /// The layout of the reply that the client waits for, of a call that generates.
    pub fn shape_asked(&self, stream: bool) -> Shape {
        match self {
            Endpoint::StreamGenerateContent { sse: false } => Shape::JsonArray,
            _ if stream => Shape::Sse,
            _ => Shape::Json,
        }
    }

    /// The name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Endpoint::ChatCompletions => "chat_completions",
            Endpoint::Responses => "responses",
            Endpoint::ResponsesInputTokens => "responses_input_tokens",
            Endpoint::ResponsesCompact => "responses_compact",
            Endpoint::Messages => "messages",
            Endpoint::CountTokens => "count_tokens",
            Endpoint::GenerateContent => "generate_content",
            Endpoint::StreamGenerateContent { .. } => "stream_generate_content",
            Endpoint::GeminiCountTokens => "gemini_count_tokens",
            Endpoint::EmbedContent => "embed_content",
            Endpoint::BatchEmbedContents => "batch_embed_contents",
            Endpoint::Embeddings => "embeddings",
            Endpoint::Completions => "completions",
            Endpoint::Moderations => "moderations",
            Endpoint::Rerank => "rerank",
            Endpoint::Images(_) => "images",
            Endpoint::Audio(_) => "audio",
        }
    }

    /// The model that the provider takes where the request names none, by OpenAI's API reference.
    pub fn default_model(&self) -> Option<&'static str> {
        match self {
            Endpoint::Moderations => Some("omni-moderation-latest"),
            Endpoint::Images(_) => Some("dall-e-2"),
            Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::ResponsesInputTokens
            | Endpoint::ResponsesCompact
            | Endpoint::Messages
            | Endpoint::CountTokens
            | Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent { .. }
            | Endpoint::GeminiCountTokens
            | Endpoint::EmbedContent
            | Endpoint::BatchEmbedContents
            | Endpoint::Embeddings
            | Endpoint::Completions
            | Endpoint::Rerank
            | Endpoint::Audio(_) => None,
        }
    }

    /// Whether the call only counts tokens: free of charge, and its failures say nothing about an account.
    pub fn is_counting(&self) -> bool {
        matches!(self, Endpoint::CountTokens | Endpoint::GeminiCountTokens | Endpoint::ResponsesInputTokens)
    }
}
