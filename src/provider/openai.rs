//! OpenAI itself, and the paths that all OpenAI-like servers share.
//!
//! Paths follow the OpenAI API reference; the base URL ends in `/v1` as in OpenAI's own SDKs.

use super::{BaseUrl, Call, Provider, base_url};
use crate::wire::{Endpoint, WireFormat};
use http::{HeaderName, header};
use std::borrow::Cow;

/// OpenAI.
#[derive(Debug)]
pub(super) struct Openai;

impl Provider for Openai {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn formats(&self) -> &'static [WireFormat] {
        &[WireFormat::OpenaiResponses, WireFormat::OpenaiChat]
    }

    fn default_base_url(&self) -> Option<&'static str> {
        Some("https://api.openai.com/v1")
    }

    fn key_env(&self) -> Option<&'static str> {
        Some("OPENAI_API_KEY")
    }

    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        let mut url = base_url::without_query(base_url::parse(text)?)?;
        base_url::openai_prefix(&mut url.prefix, "/v1");
        Ok(url)
    }

    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String> {
        if matches!(call.endpoint, Endpoint::Rerank) {
            return None;
        }
        append(base, call)
    }

    fn models_path(&self, base: &BaseUrl) -> String {
        format!("{}/models", base.prefix)
    }

    fn credential(&self, key: &str) -> (HeaderName, String) {
        bearer(key)
    }
}

/// The key as a bearer token (RFC 6750).
pub(super) fn bearer(key: &str) -> (HeaderName, String) {
    (header::AUTHORIZATION, ["Bearer ", key].concat())
}

/// The call's path under a base URL. Azure's `api-version`, which some clients always send, stays behind.
pub(super) fn append(base: &BaseUrl, call: &Call<'_>) -> Option<String> {
    let path = [base.prefix.as_str(), &call_path(call.endpoint)?].concat();
    Some(base_url::with_query(path, &base.query, call.query, &["api-version"]))
}

/// What an OpenAI call appends to the base URL, `None` for the calls of other formats.
pub(super) fn call_path(endpoint: &Endpoint) -> Option<Cow<'static, str>> {
    let path = match endpoint {
        Endpoint::ChatCompletions => "/chat/completions",
        Endpoint::Responses => "/responses",
        Endpoint::ResponsesInputTokens => "/responses/input_tokens",
        Endpoint::ResponsesCompact => "/responses/compact",
        Endpoint::Embeddings => "/embeddings",
        Endpoint::Completions => "/completions",
        Endpoint::Moderations => "/moderations",
        Endpoint::Rerank => "/rerank",
        Endpoint::Images(action) => return Some(format!("/images/{action}").into()),
        Endpoint::Audio(action) => return Some(format!("/audio/{action}").into()),
        Endpoint::Messages
        | Endpoint::CountTokens
        | Endpoint::GenerateContent
        | Endpoint::StreamGenerateContent { .. }
        | Endpoint::GeminiCountTokens
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents => return None,
    };
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, endpoint: Endpoint, query: Option<&str>) -> Option<String> {
        let base = Openai.base_url(base).unwrap();
        Openai.path(&base, &Call { endpoint: &endpoint, model: "m", stream: false, version: None, query })
    }

    #[test]
    fn calls_go_where_the_sdk_would_send_them() {
        let at = |endpoint| path("https://api.openai.com/v1", endpoint, None);
        for (endpoint, expected) in [
            (Endpoint::ChatCompletions, "/v1/chat/completions"),
            (Endpoint::Responses, "/v1/responses"),
            (Endpoint::ResponsesInputTokens, "/v1/responses/input_tokens"),
            (Endpoint::ResponsesCompact, "/v1/responses/compact"),
            (Endpoint::Embeddings, "/v1/embeddings"),
            (Endpoint::Completions, "/v1/completions"),
            (Endpoint::Moderations, "/v1/moderations"),
            (Endpoint::Images("edits"), "/v1/images/edits"),
            (Endpoint::Audio("transcriptions"), "/v1/audio/transcriptions"),
        ] {
            assert_eq!(at(endpoint).as_deref(), Some(expected));
        }
        for absent in [Endpoint::Rerank, Endpoint::Messages, Endpoint::CountTokens, Endpoint::GenerateContent] {
            assert_eq!(at(absent.clone()), None, "{}", absent.name());
        }
    }

    #[test]
    fn the_callers_query_goes_along_but_for_azures_version() {
        let query = Some("api-version=2024-10-21&trace=1");
        assert_eq!(path("http://h", Endpoint::Responses, query).as_deref(), Some("/v1/responses?trace=1"));
    }

    #[test]
    fn a_query_in_the_base_url_is_refused() {
        let fault = Openai.base_url("https://h/v1?key=abc").unwrap_err();
        assert!(fault.contains("query") && !fault.contains("abc"), "{fault}");
    }
}
