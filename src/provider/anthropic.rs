//! Anthropic, and servers that speak its Messages API.
//!
//! The base URL is without `/v1`, as in Anthropic's own SDKs; other SDKs write it with `/v1`, which is understood.

use super::{BaseUrl, Call, Provider, base_url};
use crate::wire::{Endpoint, WireFormat};
use http::HeaderName;

/// Anthropic.
#[derive(Debug)]
pub(super) struct Anthropic;

impl Provider for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn formats(&self) -> &'static [WireFormat] {
        &[WireFormat::Anthropic]
    }

    fn default_base_url(&self) -> Option<&'static str> {
        Some("https://api.anthropic.com")
    }

    fn key_env(&self) -> Option<&'static str> {
        Some("ANTHROPIC_API_KEY")
    }

    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        let mut url = base_url::without_query(base_url::parse(text)?)?;
        base_url::strip_call(&mut url.prefix, &["/messages/count_tokens", "/messages", "/v1/models"]);
        while url.prefix.ends_with("/v1") {
            base_url::strip_call(&mut url.prefix, &["/v1"]);
        }
        Ok(url)
    }

    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String> {
        let path = format!("{}/v1{}", base.prefix, call_path(call.endpoint)?);
        Some(base_url::with_query(path, &base.query, call.query, &[]))
    }

    fn models_path(&self, base: &BaseUrl) -> String {
        format!("{}/v1/models", base.prefix)
    }

    fn credential(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-api-key"), key.to_owned())
    }

    fn default_headers(&self) -> &'static [(HeaderName, &'static str)] {
        static VERSION: [(HeaderName, &str); 1] = [(HeaderName::from_static("anthropic-version"), "2023-06-01")];
        &VERSION
    }
}

/// What a Messages call appends to `/v1`, `None` for the calls of other formats.
pub(super) fn call_path(endpoint: &Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint::Messages => Some("/messages"),
        Endpoint::CountTokens => Some("/messages/count_tokens"),
        Endpoint::ChatCompletions
        | Endpoint::Responses
        | Endpoint::ResponsesInputTokens
        | Endpoint::ResponsesCompact
        | Endpoint::GenerateContent
        | Endpoint::StreamGenerateContent { .. }
        | Endpoint::GeminiCountTokens
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents
        | Endpoint::Embeddings
        | Endpoint::Completions
        | Endpoint::Moderations
        | Endpoint::Rerank
        | Endpoint::Images(_)
        | Endpoint::Audio(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_is_without_its_version_however_it_was_written() {
        for (text, prefix) in [
            ("https://api.anthropic.com", ""),
            ("https://api.anthropic.com/", ""),
            ("https://api.anthropic.com/v1", ""),
            ("https://api.anthropic.com/v1/v1/", ""),
            ("https://api.anthropic.com/v1/messages", ""),
            ("https://api.anthropic.com/v1/messages/count_tokens", ""),
            ("https://api.anthropic.com/v1/models", ""),
            ("https://api.deepseek.com/anthropic", "/anthropic"),
            ("https://api.z.ai/api/anthropic/v1", "/api/anthropic"),
        ] {
            assert_eq!(Anthropic.base_url(text).unwrap().prefix, prefix, "{text}");
        }
    }

    #[test]
    fn the_version_comes_with_the_call_and_the_query_goes_along() {
        let base = Anthropic.base_url("https://h/anthropic").unwrap();
        let path = |endpoint: &Endpoint, query| {
            Anthropic.path(&base, &Call { endpoint, model: "claude", stream: false, version: None, query })
        };
        assert_eq!(path(&Endpoint::Messages, Some("beta=true")).unwrap(), "/anthropic/v1/messages?beta=true");
        assert_eq!(path(&Endpoint::CountTokens, None).unwrap(), "/anthropic/v1/messages/count_tokens");
        assert_eq!(path(&Endpoint::ChatCompletions, None), None);
        assert_eq!(Anthropic.models_path(&base), "/anthropic/v1/models");
    }
}
