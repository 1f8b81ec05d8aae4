//! OpenAI models on Azure.
//!
//! Two forms: the deployment form of the AzureOpenAI SDKs (`{endpoint}/openai/deployments/{model}/…?api-version=…`),
//! and the newer one whose base URL ends in `/openai/v1` and which has neither deployment nor version in its paths.

use super::{BaseUrl, Call, Provider, base_url, openai};
use crate::wire::{Endpoint, WireFormat};
use http::HeaderName;

/// The latest stable version of the data-plane inference API.
const DEFAULT_VERSION: &str = "api-version=2024-10-21";
/// The stable version knows no Responses; this is the last dated one that does.
const RESPONSES_VERSION: &str = "api-version=2025-04-01-preview";

/// Azure OpenAI.
#[derive(Debug)]
pub(super) struct Azure;

impl Provider for Azure {
    fn name(&self) -> &'static str {
        "azure-openai"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["azure"]
    }

    fn formats(&self) -> &'static [WireFormat] {
        &[WireFormat::OpenaiResponses, WireFormat::OpenaiChat]
    }

    fn default_base_url(&self) -> Option<&'static str> {
        None
    }

    fn key_env(&self) -> Option<&'static str> {
        Some("AZURE_OPENAI_API_KEY")
    }

    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        let mut url = base_url::parse(text)?;
        url.query = version_of(&url.query)?;
        base_url::openai_prefix(&mut url.prefix, "");
        if let Some(rest) = url.prefix.strip_suffix("/openai/deployments").or(url.prefix.strip_suffix("/openai")) {
            url.prefix.truncate(rest.len());
        }
        Ok(url)
    }

    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String> {
        let suffix = match call.endpoint {
            Endpoint::Moderations | Endpoint::Rerank => return None,
            endpoint => openai::call_path(endpoint)?,
        };
        let (path, version) = match Form::of(base) {
            Form::V1 => (format!("{}{suffix}", base.prefix), ""),
            Form::Deployment => match call.endpoint.format() {
                WireFormat::OpenaiResponses => (format!("{}{suffix}", base.prefix), RESPONSES_VERSION),
                WireFormat::OpenaiChat | WireFormat::Anthropic | WireFormat::Gemini => {
                    (format!("{}{suffix}", base.prefix), DEFAULT_VERSION)
                }
            },
            Form::Resource => match call.endpoint.format() {
                WireFormat::OpenaiResponses => (format!("{}/openai{suffix}", base.prefix), RESPONSES_VERSION),
                WireFormat::OpenaiChat | WireFormat::Anthropic | WireFormat::Gemini => {
                    let deployment = base_url::encode_segment(call.model)?;
                    (format!("{}/openai/deployments/{deployment}{suffix}", base.prefix), DEFAULT_VERSION)
                }
            },
        };
        let version = if base.query.is_empty() { version } else { &base.query };
        Some(base_url::with_query(path, version, call.query, &["api-version"]))
    }

    fn models_path(&self, base: &BaseUrl) -> String {
        let (path, version) = match Form::of(base) {
            Form::V1 => (format!("{}/models", base.prefix), ""),
            Form::Resource => (format!("{}/openai/models", base.prefix), DEFAULT_VERSION),
            Form::Deployment => {
                let resource = base.prefix.split_once("/deployments/").map_or("", |(resource, _)| resource);
                (format!("{resource}/models"), DEFAULT_VERSION)
            }
        };
        base_url::with_query(path, if base.query.is_empty() { version } else { &base.query }, None, &[])
    }

    fn credential(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("api-key"), key.to_owned())
    }
}

/// How a base URL was given.
enum Form {
    /// The resource's endpoint: the deployment's name is the model's.
    Resource,
    /// One deployment: it serves whatever model is asked for.
    Deployment,
    /// The form without versions.
    V1,
}

impl Form {
    fn of(base: &BaseUrl) -> Form {
        if base.prefix.ends_with("/openai/v1") {
            Form::V1
        } else if base.prefix.contains("/openai/deployments/") {
            Form::Deployment
        } else {
            Form::Resource
        }
    }
}

/// The `api-version=…` of a query; nothing else may stand there.
fn version_of(query: &str) -> Result<String, String> {
    let mut version = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("api-version", value)) if !value.is_empty() => version = format!("api-version={value}"),
            _ => return Err("has a query with something other than `api-version=…`".into()),
        }
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, endpoint: Endpoint, model: &str) -> Option<String> {
        let base = Azure.base_url(base).unwrap();
        Azure.path(
            &base,
            &Call { endpoint: &endpoint, model, stream: false, version: None, query: Some("api-version=1999&x=1") },
        )
    }

    #[test]
    fn the_endpoint_form_puts_the_deployment_into_the_path() {
        for base in ["https://r.openai.azure.com", "https://r.openai.azure.com/openai/"] {
            assert_eq!(
                path(base, Endpoint::ChatCompletions, "gpt 4o").unwrap(),
                "/openai/deployments/gpt%204o/chat/completions?api-version=2024-10-21&x=1",
            );
            assert_eq!(
                path(base, Endpoint::Responses, "gpt-4o").unwrap(),
                "/openai/responses?api-version=2025-04-01-preview&x=1"
            );
        }
    }

    #[test]
    fn a_version_in_the_base_url_holds_for_every_call() {
        let base = "https://r.openai.azure.com/openai?api-version=2025-03-01-preview";
        for (endpoint, expected) in [
            (Endpoint::Embeddings, "/openai/deployments/e/embeddings?api-version=2025-03-01-preview&x=1"),
            (Endpoint::Responses, "/openai/responses?api-version=2025-03-01-preview&x=1"),
        ] {
            assert_eq!(path(base, endpoint, "e").unwrap(), expected);
        }
        let base = Azure.base_url(base).unwrap();
        assert_eq!(Azure.models_path(&base), "/openai/models?api-version=2025-03-01-preview");
    }

    #[test]
    fn the_portals_target_uri_is_understood_as_its_one_deployment() {
        let base = "https://r.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-02-01";
        assert_eq!(
            path(base, Endpoint::Embeddings, "other").unwrap(),
            "/openai/deployments/mine/embeddings?api-version=2024-02-01&x=1"
        );
        let base = Azure.base_url(base).unwrap();
        assert_eq!(Azure.models_path(&base), "/openai/models?api-version=2024-02-01");
    }

    #[test]
    fn the_v1_form_has_no_deployment_and_needs_no_version() {
        for base in ["https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com/openai/v1/responses"] {
            assert_eq!(path(base, Endpoint::ChatCompletions, "m").unwrap(), "/openai/v1/chat/completions?x=1");
            assert_eq!(path(base, Endpoint::Responses, "m").unwrap(), "/openai/v1/responses?x=1");
        }
    }

    #[test]
    fn calls_that_azure_has_not_are_not_offered() {
        for endpoint in [Endpoint::Moderations, Endpoint::Rerank, Endpoint::Messages, Endpoint::GenerateContent] {
            assert_eq!(path("https://r.openai.azure.com", endpoint, "m"), None);
        }
        assert_eq!(path("https://r.openai.azure.com", Endpoint::ChatCompletions, ".."), None);
    }

    #[test]
    fn a_foreign_query_parameter_is_refused() {
        assert!(Azure.base_url("https://r.openai.azure.com?key=abc").is_err());
        assert!(Azure.base_url("https://r.openai.azure.com?api-version=").is_err());
    }
}
