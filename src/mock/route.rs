//! From method and path to the call that is meant.
//!
//! Knows every path under which the real providers (OpenAI, Azure, Anthropic, Google, Vertex, and the OpenAI-compatible)
//! answer, and nothing else: a path that a gateway made up is a 404, as it would be there.

use super::{
    refusal::{Checked, Dialect, Refusal},
    request::Request,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Chat,
    Responses,
    InputTokens,
    Compact,
    Messages,
    CountTokens,
    /// `sse` is false for the JSON-array form of a stream.
    Generate {
        stream: bool,
        sse: bool,
    },
    GeminiCount,
    Embed {
        batch: bool,
    },
    Embeddings,
    Completions,
    Moderations,
    /// `edit` is multipart.
    Images {
        edit: bool,
    },
    Speech,
    Transcription,
    Rerank,
    /// The list of models, or one of them.
    Models(Option<String>),
}

/// A call together with what the path says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) call: Call,
    pub(super) dialect: Dialect,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
    pub(super) azure: bool,
    pub(super) vertex: bool,
}

impl Route {
    fn new(call: Call, dialect: Dialect) -> Self {
        Route { call, dialect, model: None, azure: false, vertex: false }
    }

    /// The kind of call in the log.
    pub(super) fn kind(&self) -> &'static str {
        match (&self.call, self.dialect) {
            (Call::Chat, _) => "openai-chat",
            (Call::Embeddings, _) => "openai-emb",
            (_, Dialect::Responses) => "openai-responses",
            (_, Dialect::Anthropic) => "anthropic",
            (_, Dialect::Gemini) => "gemini",
            (_, Dialect::Chat) => "openai",
        }
    }
}

/// The call that this request makes.
///
/// # Errors
/// 404 for an unknown path, 405 for a known one with another method.
pub(super) fn find(request: &Request) -> Checked<Route> {
    let unknown = || {
        let message = format!("Invalid URL ({} {})", request.method, request.path);
        Refusal::new(404, message).kind("invalid_request_error")
    };
    let route = route(request).ok_or_else(unknown)?;
    let fits = match route.call {
        Call::Models(_) => request.method == "GET" || request.method == "HEAD",
        _ => request.method == "POST",
    };
    if fits {
        return Ok(route);
    }
    Err(Refusal::new(405, format!("Not allowed to {} on {}.", request.method, request.path))
        .kind("invalid_request_error"))
}

fn route(request: &Request) -> Option<Route> {
    let path = request.path.as_str();
    if let Some(rest) = path.strip_prefix("/openai/deployments/") {
        let (deployment, rest) = rest.split_once('/')?;
        request.parameter("api-version")?;
        let model = Some(deployment.to_owned());
        return Some(Route { model, azure: true, ..openai(rest)? });
    }
    if let Some(rest) = path.strip_prefix("/openai/v1/") {
        return Some(Route { azure: true, ..openai(rest).or_else(|| models(rest, Dialect::Chat))? });
    }
    if let Some(rest) = path.strip_prefix("/models/") {
        request.parameter("api-version")?;
        return Some(Route { azure: true, ..openai(rest)? });
    }
    if let Some(rest) = path.strip_prefix("/v1beta/openai/") {
        return openai(rest).or_else(|| models(rest, Dialect::Chat));
    }
    let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
    if let Some((_, rest)) = rest.split_once("/publishers/anthropic/") {
        return raw_predict(rest);
    }
    if let Some((_, rest)) = rest.split_once("/publishers/google/") {
        return Some(Route { vertex: true, ..gemini(rest, request)? });
    }
    match version {
        "v1" => match rest {
            "messages" => Some(Route::new(Call::Messages, Dialect::Anthropic)),
            "messages/count_tokens" => Some(Route::new(Call::CountTokens, Dialect::Anthropic)),
            _ => openai(rest).or_else(|| gemini(rest, request)).or_else(|| models(rest, asking(request))),
        },
        "v1beta" | "v1alpha" => gemini(rest, request).or_else(|| models(rest, Dialect::Gemini)),
        _ => None,
    }
}

/// OpenAI's calls, by what follows the version.
fn openai(rest: &str) -> Option<Route> {
    let call = match rest {
        "chat/completions" => Call::Chat,
        "responses" => return Some(Route::new(Call::Responses, Dialect::Responses)),
        "responses/input_tokens" => return Some(Route::new(Call::InputTokens, Dialect::Responses)),
        "responses/compact" => return Some(Route::new(Call::Compact, Dialect::Responses)),
        "embeddings" => Call::Embeddings,
        "completions" => Call::Completions,
        "moderations" => Call::Moderations,
        "images/generations" => Call::Images { edit: false },
        "images/edits" | "images/variations" => Call::Images { edit: true },
        "audio/speech" => Call::Speech,
        "audio/transcriptions" | "audio/translations" => Call::Transcription,
        "rerank" => Call::Rerank,
        _ => return None,
    };
    Some(Route::new(call, Dialect::Chat))
}

/// `models/{model}:{action}`.
fn gemini(rest: &str, request: &Request) -> Option<Route> {
    let (model, action) = rest.strip_prefix("models/")?.rsplit_once(':')?;
    let call = match action {
        "generateContent" => Call::Generate { stream: false, sse: false },
        "streamGenerateContent" => Call::Generate { stream: true, sse: request.parameter("alt") == Some("sse") },
        "countTokens" => Call::GeminiCount,
        "embedContent" => Call::Embed { batch: false },
        "batchEmbedContents" => Call::Embed { batch: true },
        _ => return None,
    };
    Some(Route { model: Some(model.to_owned()), ..Route::new(call, Dialect::Gemini) })
}

/// Anthropic's calls on Vertex.
fn raw_predict(rest: &str) -> Option<Route> {
    let (model, action) = rest.strip_prefix("models/")?.rsplit_once(':')?;
    let route = |call| Route { vertex: true, ..Route::new(call, Dialect::Anthropic) };
    match (model, action) {
        ("count-tokens", "rawPredict") => Some(route(Call::CountTokens)),
        (_, "rawPredict" | "streamRawPredict") => {
            Some(Route { model: Some(model.to_owned()), ..route(Call::Messages) })
        }
        _ => None,
    }
}

fn models(rest: &str, dialect: Dialect) -> Option<Route> {
    let id = match rest.strip_prefix("models")? {
        "" | "/" => None,
        id => Some(id.strip_prefix('/')?.to_owned()),
    };
    Some(Route::new(Call::Models(id), dialect))
}

/// Whose list of models is meant where several providers share the path.
fn asking(request: &Request) -> Dialect {
    if request.header("anthropic-version").is_some() {
        Dialect::Anthropic
    } else if request.header("x-goog-api-key").is_some() {
        Dialect::Gemini
    } else {
        Dialect::Chat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::request::Protocol;
    use bytes::Bytes;

    fn call(method: &str, target: &str, headers: &[(&str, &str)]) -> Checked<Route> {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let (path, query) = Request::target(target);
        let protocol = Protocol::Http11;
        find(&Request { connection: 0, protocol, method: method.into(), path, query, headers, body: Bytes::new() })
    }

    #[test]
    fn every_provider_path_is_known_and_no_other() {
        assert_eq!(call("POST", "/v1/chat/completions", &[]).unwrap().call, Call::Chat);
        assert_eq!(call("POST", "/v1beta/openai/chat/completions", &[]).unwrap().call, Call::Chat);
        let azure = call("POST", "/openai/deployments/gpt/chat/completions?api-version=2024-10-21", &[]).unwrap();
        assert!(azure.azure && azure.model.as_deref() == Some("gpt"), "{azure:?}");
        let stream = call("POST", "/v1/models/g:streamGenerateContent?alt=sse", &[]).unwrap();
        assert_eq!(stream.call, Call::Generate { stream: true, sse: true });
        let vertex = "/v1beta1/projects/p/locations/l/publishers/google/models/g:generateContent";
        assert!(call("POST", vertex, &[]).unwrap().vertex);
        assert_eq!(call("GET", "/v1/models", &[("anthropic-version", "x")]).unwrap().dialect, Dialect::Anthropic);
        assert_eq!(call("GET", "/v1beta/models/g", &[]).unwrap().call, Call::Models(Some("g".into())));
        for lost in ["/v1/v1/chat/completions", "/chat/completions", "/openai/deployments/g/chat/completions", "/v1/x"]
        {
            assert_eq!(call("POST", lost, &[]).unwrap_err().status, 404, "{lost}");
        }
        assert_eq!(call("GET", "/v1/chat/completions", &[]).unwrap_err().status, 405);
    }
}
