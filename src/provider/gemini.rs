//! Google's Gemini API.
//!
//! The model and the method are in the path; the version is the client's where it named one. The base URL is without a
//! version, as in Google's own SDKs; other SDKs write it with `/v1beta`, which is understood.

use super::{BaseUrl, Call, Provider, base_url};
use crate::wire::{Endpoint, WireFormat};
use http::HeaderName;

const DEFAULT_VERSION: &str = "v1beta";

/// Query parameters of all Google APIs that stay behind: the answer's layout was decided with the endpoint, and would
/// change under its reader; the credentials are the account's.
pub(super) const KEPT_BACK: [&str; 5] = ["alt", "callback", "key", "access_token", "oauth_token"];

/// Gemini.
#[derive(Debug)]
pub(super) struct Gemini;

impl Provider for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["google"]
    }

    fn formats(&self) -> &'static [WireFormat] {
        &[WireFormat::Gemini]
    }

    fn default_base_url(&self) -> Option<&'static str> {
        Some("https://generativelanguage.googleapis.com")
    }

    fn key_env(&self) -> Option<&'static str> {
        Some("GEMINI_API_KEY")
    }

    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        let mut url = base_url::without_query(base_url::parse(text)?)?;
        if let Some(call) = start_of_call(&url.prefix) {
            url.prefix.truncate(call);
        }
        if let Some(rest) = url.prefix.strip_suffix("/openai")
            && base_url::is_version(base_url::last_segment(rest))
        {
            return Err("is Gemini's OpenAI-compatible address: give it to `provider: openai-compatible`".into());
        }
        while base_url::is_version(base_url::last_segment(&url.prefix)) {
            let kept = url.prefix.len() - base_url::last_segment(&url.prefix).len() - 1;
            url.prefix.truncate(kept);
        }
        Ok(url)
    }

    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String> {
        let (method, is_sse) = method(call.endpoint)?;
        let version = call.version.filter(|v| base_url::is_version(v)).unwrap_or(DEFAULT_VERSION);
        let path = format!("{}/{version}/{}:{method}", base.prefix, resource(call.model)?);
        Some(base_url::with_query(path, if is_sse { "alt=sse" } else { "" }, call.query, &KEPT_BACK))
    }

    fn models_path(&self, base: &BaseUrl) -> String {
        format!("{}/{DEFAULT_VERSION}/models", base.prefix)
    }

    fn credential(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-goog-api-key"), key.to_owned())
    }
}

/// What a call does with its model, and whether its answer is a stream of events; `None` for the calls of other formats.
pub(super) fn method(endpoint: &Endpoint) -> Option<(&'static str, bool)> {
    match endpoint {
        Endpoint::GenerateContent => Some(("generateContent", false)),
        Endpoint::StreamGenerateContent { sse } => Some(("streamGenerateContent", *sse)),
        Endpoint::GeminiCountTokens => Some(("countTokens", false)),
        Endpoint::EmbedContent => Some(("embedContent", false)),
        Endpoint::BatchEmbedContents => Some(("batchEmbedContents", false)),
        Endpoint::ChatCompletions
        | Endpoint::Responses
        | Endpoint::ResponsesInputTokens
        | Endpoint::ResponsesCompact
        | Endpoint::Messages
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Completions
        | Endpoint::Moderations
        | Endpoint::Rerank
        | Endpoint::Images(_)
        | Endpoint::Audio(_) => None,
    }
}

/// The resource name of a model: `models/x`, or `tunedModels/x` for one's own.
fn resource(model: &str) -> Option<String> {
    let (collection, id) = match model.split_once('/') {
        Some((collection @ ("models" | "tunedModels"), id)) => (collection, id),
        Some(_) | None => ("models", model),
    };
    Some(format!("{collection}/{}", base_url::encode_segment(id)?))
}

/// Where a pasted full endpoint (`…/v1beta/models/x:generateContent`) begins in a path.
fn start_of_call(path: &str) -> Option<usize> {
    let mut version_at = None;
    let mut at = 0_usize;
    for segment in path.split('/') {
        if let (Some(start), "models" | "tunedModels") = (version_at, segment) {
            return Some(start);
        }
        // One byte back: the slash before the version goes too.
        version_at = base_url::is_version(segment).then(|| at.saturating_sub(1));
        at += segment.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, endpoint: Endpoint, model: &str, version: Option<&str>, query: Option<&str>) -> Option<String> {
        let base = Gemini.base_url(base).unwrap();
        Gemini.path(&base, &Call { endpoint: &endpoint, model, stream: false, version, query })
    }

    const HOST: &str = "https://generativelanguage.googleapis.com";

    #[test]
    fn the_base_url_is_without_its_version_however_it_was_written() {
        for (text, prefix) in [
            ("https://h", ""),
            ("https://h/v1beta", ""),
            ("https://h/v1/", ""),
            ("https://h/v1beta/v1beta", ""),
            ("https://h/v1alpha", ""),
            ("https://h/v1beta/models", ""),
            ("https://h/v1beta/models/gemini-2.5-pro:streamGenerateContent", ""),
            ("https://h/gateway/v1/tunedModels/mine:generateContent", "/gateway"),
            ("https://h/v1/account/google-ai-studio", "/v1/account/google-ai-studio"),
        ] {
            assert_eq!(Gemini.base_url(text).unwrap().prefix, prefix, "{text}");
        }
    }

    #[test]
    fn the_openai_compatible_address_is_sent_to_its_own_provider() {
        let fault = Gemini.base_url("https://h/v1beta/openai/").unwrap_err();
        assert!(fault.contains("openai-compatible"), "{fault}");
    }

    #[test]
    fn model_method_and_the_clients_version_make_the_path() {
        let at = |endpoint, version| path(HOST, endpoint, "gemini-2.5-flash", version, None).unwrap();
        assert_eq!(at(Endpoint::GenerateContent, None), "/v1beta/models/gemini-2.5-flash:generateContent");
        assert_eq!(at(Endpoint::GenerateContent, Some("v1")), "/v1/models/gemini-2.5-flash:generateContent");
        assert_eq!(at(Endpoint::GenerateContent, Some("../x")), "/v1beta/models/gemini-2.5-flash:generateContent");
        assert_eq!(at(Endpoint::GeminiCountTokens, None), "/v1beta/models/gemini-2.5-flash:countTokens");
        assert_eq!(at(Endpoint::EmbedContent, None), "/v1beta/models/gemini-2.5-flash:embedContent");
        assert_eq!(at(Endpoint::BatchEmbedContents, None), "/v1beta/models/gemini-2.5-flash:batchEmbedContents");
        assert_eq!(path(HOST, Endpoint::ChatCompletions, "gemini-2.5-flash", None, None), None);
    }

    #[test]
    fn resource_names_are_kept_and_odd_names_encoded() {
        let at = |model| path(HOST, Endpoint::GenerateContent, model, None, None);
        assert_eq!(at("models/gemini-x").unwrap(), "/v1beta/models/gemini-x:generateContent");
        assert_eq!(at("tunedModels/mine").unwrap(), "/v1beta/tunedModels/mine:generateContent");
        assert_eq!(at("a/b?c").unwrap(), "/v1beta/models/a%2Fb%3Fc:generateContent");
        assert_eq!(at("models/../x").unwrap(), "/v1beta/models/..%2Fx:generateContent");
        assert_eq!(at(""), None);
        assert_eq!(at("models/"), None);
    }

    #[test]
    fn the_stream_layout_is_the_endpoints_and_other_parameters_go_along() {
        let at = |sse, query| path(HOST, Endpoint::StreamGenerateContent { sse }, "m", None, query).unwrap();
        let stream = "/v1beta/models/m:streamGenerateContent";
        assert_eq!(at(true, Some("alt=sse&$fields=x")), format!("{stream}?alt=sse&$fields=x"));
        assert_eq!(at(true, None), format!("{stream}?alt=sse"));
        assert_eq!(at(false, None), stream);
        assert_eq!(at(false, Some("alt=sse")), stream);
    }
}
