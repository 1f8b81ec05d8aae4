//! Google's Vertex AI: Gemini, and Anthropic's models, under Google's paths and Google's tokens.
//!
//! The base URL names project and location, which both stand in every path. Anthropic's requests go without their model,
//! which the path names, and with the version of the API in the body.

use super::{BaseUrl, Call, Provider, base_url, gemini};
use crate::wire::{Endpoint, WireFormat, counting, envelope};
use bytes::Bytes;
use http::HeaderName;

/// The version of Anthropic's API on Vertex, by Anthropic's documentation.
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic_version", "vertex-2023-10-16");

/// Gemini on Vertex AI.
#[derive(Debug)]
pub(super) struct Vertex;

/// Anthropic's models on Vertex AI.
#[derive(Debug)]
pub(super) struct VertexAnthropic;

impl Provider for Vertex {
    fn name(&self) -> &'static str {
        "vertex"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["vertex-gemini", "google-vertex"]
    }

    fn formats(&self) -> &'static [WireFormat] {
        &[WireFormat::Gemini]
    }

    fn default_base_url(&self) -> Option<&'static str> {
        None
    }

    fn key_env(&self) -> Option<&'static str> {
        None
    }

    fn needs_credentials(&self) -> bool {
        true
    }

    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        read(text)
    }

    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String> {
        let (method, is_sse) = gemini::method(call.endpoint)?;
        if matches!(call.endpoint, Endpoint::EmbedContent | Endpoint::BatchEmbedContents) {
            return None;
        }
        let name = call.model.strip_prefix("models/").unwrap_or(call.model);
        let resource = match name.strip_prefix("endpoints/") {
            Some(id) => format!("endpoints/{}", base_url::encode_segment(id)?),
            None => format!("publishers/google/models/{}", base_url::encode_segment(name)?),
        };
        let path = format!("{}/{resource}:{method}", base.prefix);
        Some(base_url::with_query(path, if is_sse { "alt=sse" } else { "" }, call.query, &gemini::KEPT_BACK))
    }

    /// Counting tokens knows no wrapped request here.
    fn body(&self, endpoint: &Endpoint, body: Bytes) -> Bytes {
        match endpoint {
            Endpoint::GeminiCountTokens => counting::unwrapped(&body).map_or(body, Bytes::from),
            _ => body,
        }
    }

    fn models_path(&self, base: &BaseUrl) -> String {
        models(base, "google")
    }

    fn credential(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-goog-api-key"), key.to_owned())
    }
}

impl Provider for VertexAnthropic {
    fn name(&self) -> &'static str {
        "vertex-anthropic"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["anthropic-vertex"]
    }

    fn formats(&self) -> &'static [WireFormat] {
        &[WireFormat::Anthropic]
    }

    fn default_base_url(&self) -> Option<&'static str> {
        None
    }

    fn key_env(&self) -> Option<&'static str> {
        None
    }

    fn needs_credentials(&self) -> bool {
        true
    }

    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        read(text)
    }

    /// Google refuses query parameters that it does not know, and Anthropic's `beta=true` is one.
    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String> {
        super::anthropic::call_path(call.endpoint)?;
        let (model, method) = match call.endpoint {
            Endpoint::CountTokens => ("count-tokens".to_owned(), "rawPredict"),
            _ if call.stream => (base_url::encode_segment(call.model)?, "streamRawPredict"),
            _ => (base_url::encode_segment(call.model)?, "rawPredict"),
        };
        Some(format!("{}/publishers/anthropic/models/{model}:{method}", base.prefix))
    }

    /// Counting has its model in the body like everywhere; the other calls have the version in its place.
    fn body(&self, endpoint: &Endpoint, body: Bytes) -> Bytes {
        let keeps_model = matches!(endpoint, Endpoint::CountTokens);
        envelope::put_beside_model(endpoint, &body, ANTHROPIC_VERSION, keeps_model)
    }

    fn models_path(&self, base: &BaseUrl) -> String {
        models(base, "anthropic")
    }

    fn credential(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-goog-api-key"), key.to_owned())
    }
}

/// Reads a URL with `/projects/…/locations/…` in its path; what follows is cut off, a missing version put in.
fn read(text: &str) -> Result<BaseUrl, String> {
    let mut url = base_url::without_query(base_url::parse(text)?)?;
    let segments: Vec<&str> = url.prefix.split('/').skip(1).collect();
    let at = segments.windows(4).position(|window| matches!(window, ["projects", _, "locations", _]));
    let Some(at) = at else {
        return Err("names no project and location: write https://LOCATION-aiplatform.googleapis.com/v1/projects/\
                    PROJECT/locations/LOCATION, or https://aiplatform.googleapis.com/v1/projects/PROJECT/locations/global"
            .into());
    };
    let (before, rest) = segments.split_at(at);
    let version = if before.last().is_some_and(|last| base_url::is_version(last)) { None } else { Some("v1") };
    let kept: Vec<&str> = before.iter().copied().chain(version).chain(rest.iter().copied().take(4)).collect();
    url.prefix = format!("/{}", kept.join("/"));
    Ok(url)
}

/// Where a publisher's models are listed: beside the projects, and only in the beta version.
fn models(base: &BaseUrl, publisher: &str) -> String {
    let before = base.prefix.split_once("/projects/").map_or("", |(before, _)| before);
    let before = before.rsplit_once('/').map_or("", |(before, _)| before);
    format!("{before}/v1beta1/publishers/{publisher}/models")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://europe-west1-aiplatform.googleapis.com/v1/projects/my-project/locations/europe-west1";
    const PATH: &str = "/v1/projects/my-project/locations/europe-west1";

    fn path(provider: &dyn Provider, endpoint: Endpoint, model: &str, stream: bool) -> Option<String> {
        let base = provider.base_url(BASE).unwrap();
        provider.path(
            &base,
            &Call { endpoint: &endpoint, model, stream, version: Some("v1beta"), query: Some("beta=true") },
        )
    }

    #[test]
    fn the_base_url_names_project_and_location_however_it_was_copied() {
        for (text, prefix) in [
            (BASE, PATH),
            ("https://h/projects/p/locations/global", "/v1/projects/p/locations/global"),
            ("https://h/v1beta1/projects/p/locations/l/", "/v1beta1/projects/p/locations/l"),
            (
                "https://h/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
                "/v1/projects/p/locations/l",
            ),
            ("https://h/gateway/v1/projects/p/locations/l", "/gateway/v1/projects/p/locations/l"),
        ] {
            assert_eq!(Vertex.base_url(text).unwrap().prefix, prefix, "{text}");
            assert_eq!(VertexAnthropic.base_url(text).unwrap().prefix, prefix, "{text}");
        }
        for text in
            ["https://aiplatform.googleapis.com", "https://h/v1/projects/p", "https://h/v1/locations/l/projects/p"]
        {
            assert!(Vertex.base_url(text).unwrap_err().contains("names no project and location"), "{text}");
        }
    }

    #[test]
    fn gemini_calls_name_their_model_under_googles_publisher() {
        let at = |endpoint, model| path(&Vertex, endpoint, model, false);
        let models = format!("{PATH}/publishers/google/models");
        assert_eq!(
            at(Endpoint::GenerateContent, "gemini-x").unwrap(),
            format!("{models}/gemini-x:generateContent?beta=true")
        );
        assert_eq!(
            at(Endpoint::StreamGenerateContent { sse: true }, "models/gemini-x").unwrap(),
            format!("{models}/gemini-x:streamGenerateContent?alt=sse&beta=true")
        );
        assert_eq!(at(Endpoint::GeminiCountTokens, "g").unwrap(), format!("{models}/g:countTokens?beta=true"));
        assert_eq!(
            at(Endpoint::GenerateContent, "endpoints/123").unwrap(),
            format!("{PATH}/endpoints/123:generateContent?beta=true")
        );
        assert_eq!(at(Endpoint::EmbedContent, "g"), None);
        assert_eq!(at(Endpoint::Messages, "g"), None);
    }

    #[test]
    fn messages_go_to_raw_predict_without_the_clients_query() {
        let models = format!("{PATH}/publishers/anthropic/models");
        let at = |endpoint, stream| path(&VertexAnthropic, endpoint, "claude@1", stream);
        assert_eq!(at(Endpoint::Messages, false).unwrap(), format!("{models}/claude@1:rawPredict"));
        assert_eq!(at(Endpoint::Messages, true).unwrap(), format!("{models}/claude@1:streamRawPredict"));
        assert_eq!(at(Endpoint::CountTokens, false).unwrap(), format!("{models}/count-tokens:rawPredict"));
        assert_eq!(at(Endpoint::GenerateContent, false), None);
    }

    #[test]
    fn the_version_stands_in_the_models_place_and_beside_it_where_tokens_are_counted() {
        let body = Bytes::from_static(br#"{ "max_tokens": 5,"model" : "claude", "messages":[1.50] }"#);
        assert_eq!(
            VertexAnthropic.body(&Endpoint::Messages, body.clone()),
            r#"{ "max_tokens": 5,"anthropic_version":"vertex-2023-10-16", "messages":[1.50] }"#
        );
        assert_eq!(
            VertexAnthropic.body(&Endpoint::CountTokens, body),
            r#"{ "max_tokens": 5,"anthropic_version":"vertex-2023-10-16","model" : "claude", "messages":[1.50] }"#
        );
    }

    #[test]
    fn a_wrapped_count_is_unwrapped() {
        let body = Bytes::from_static(br#"{"generateContentRequest":{"model":"models/m","contents":[]}}"#);
        assert_eq!(Vertex.body(&Endpoint::GeminiCountTokens, body.clone()), r#"{"contents":[]}"#);
        assert_eq!(Vertex.body(&Endpoint::GenerateContent, body.clone()), body);
    }

    #[test]
    fn models_are_listed_beside_the_projects() {
        let list = |text: &str| Vertex.models_path(&Vertex.base_url(text).unwrap());
        assert_eq!(list(BASE), "/v1beta1/publishers/google/models");
        assert_eq!(list("https://h/gw/v1/projects/p/locations/l"), "/gw/v1beta1/publishers/google/models");
    }
}
