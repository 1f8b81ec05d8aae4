//! From a path to the call that it means.
//!
//! Clients differ in what they append to a base URL, so every path answers with and without its version segment and
//! under each provider's prefix.

use super::names;
use crate::{
    error::{Reason, Rejection},
    wire::{Endpoint, WireFormat},
};
use http::{HeaderMap, Method};

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A call that an account serves.
    Call(Endpoint),
    /// The list of models.
    Models,
    /// One model's entry.
    Model(String),
    /// The caller's own usage, limits and what is left.
    Usage,
    /// Whether the process lives.
    Live,
    /// Whether it can serve.
    Ready,
}

impl Target {
    /// The method that this target answers to.
    fn method(&self) -> Method {
        match self {
            Target::Call(_) => Method::POST,
            Target::Models | Target::Model(_) | Target::Usage | Target::Live | Target::Ready => Method::GET,
        }
    }
}

/// A path, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// What it asks for.
    pub target: Target,
    /// The wire format in which the caller is answered, errors included.
    pub format: WireFormat,
    /// The model, where the path names it.
    pub model: Option<String>,
    /// The version segment of a Gemini path.
    pub version: Option<&'static str>,
}

impl Route {
    /// Whether its requests are worth a line in the log: health checks are not.
    pub(super) fn is_logged(&self) -> bool {
        !matches!(self.target, Target::Live | Target::Ready)
    }
}

/// The method that a known path answers to.
pub(super) fn allowed_method(path: &str) -> Option<Method> {
    find(strip_prefixes(path).0, false).map(|(target, _)| target.method())
}

/// Segments that may stand before a call's own path, in any number up to four.
const PREFIXES: [(&str, Option<WireFormat>); 6] = [
    ("openai", Some(WireFormat::OpenaiChat)),
    ("anthropic", Some(WireFormat::Anthropic)),
    ("gemini", Some(WireFormat::Gemini)),
    ("v1", None),
    ("v1beta", Some(WireFormat::Gemini)),
    ("v1alpha", Some(WireFormat::Gemini)),
];

/// The route of a request, or a refusal together with the format to write it in.
pub(super) fn route(
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Route, (WireFormat, Rejection)> {
    let (rest, prefix, version) = strip_prefixes(path);
    let guess = asking_client(prefix, headers);
    let sse = query.is_some_and(|q| q.split('&').any(|pair| pair == "alt=sse"));
    let (target, model) = match find(rest, sse) {
        Some(found) => found,
        None => return Err((guess, unknown_path(path))),
    };
    let format = match &target {
        Target::Call(endpoint) => endpoint.format(),
        Target::Models | Target::Model(_) | Target::Usage | Target::Live | Target::Ready => guess,
    };
    let wanted = target.method();
    if *method != wanted && !(wanted == Method::GET && *method == Method::HEAD) {
        let message = format!("{method} is not possible here: send {wanted} {path}");
        return Err((format, Rejection::new(Reason::MethodNotAllowed, message)));
    }
    Ok(Route { target, format, model, version })
}

/// The path below all prefixes, the format that a prefix stands for, and the version segment.
fn strip_prefixes(path: &str) -> (&str, Option<WireFormat>, Option<&'static str>) {
    let mut rest = path.trim_matches('/');
    let (mut prefix, mut version) = (None, None);
    for _ in 0..4 {
        let head = rest.split('/').next().unwrap_or_default();
        let Some((name, format)) = PREFIXES.iter().find(|(name, _)| *name == head) else { break };
        rest = rest.get(head.len()..).unwrap_or_default().trim_start_matches('/');
        if name.starts_with("v1") {
            version = Some(*name);
        }
        prefix = prefix.or(*format);
    }
    (rest, prefix, version)
}

/// Whose client is asking, where the path alone does not say it.
fn asking_client(prefix: Option<WireFormat>, headers: &HeaderMap) -> WireFormat {
    if let Some(format) = prefix {
        format
    } else if headers.contains_key(&names::ANTHROPIC_VERSION) {
        WireFormat::Anthropic
    } else if headers.contains_key(&names::X_GOOG_API_KEY) || headers.contains_key(&names::X_GOOG_API_CLIENT) {
        WireFormat::Gemini
    } else {
        WireFormat::OpenaiChat
    }
}

fn find(rest: &str, sse: bool) -> Option<(Target, Option<String>)> {
    let call = |endpoint| Some((Target::Call(endpoint), None));
    match rest {
        "chat/completions" => call(Endpoint::ChatCompletions),
        "responses" => call(Endpoint::Responses),
        "responses/input_tokens" => call(Endpoint::ResponsesInputTokens),
        "responses/compact" => call(Endpoint::ResponsesCompact),
        "messages" => call(Endpoint::Messages),
        "messages/count_tokens" => call(Endpoint::CountTokens),
        "embeddings" => call(Endpoint::Embeddings),
        "completions" => call(Endpoint::Completions),
        "moderations" => call(Endpoint::Moderations),
        "rerank" => call(Endpoint::Rerank),
        "images/generations" => call(Endpoint::Images("generations")),
        "images/edits" => call(Endpoint::Images("edits")),
        "images/variations" => call(Endpoint::Images("variations")),
        "audio/speech" => call(Endpoint::Audio("speech")),
        "audio/transcriptions" => call(Endpoint::Audio("transcriptions")),
        "audio/translations" => call(Endpoint::Audio("translations")),
        "models" => Some((Target::Models, None)),
        "usage" => Some((Target::Usage, None)),
        "livez" => Some((Target::Live, None)),
        "readyz" => Some((Target::Ready, None)),
        _ => model_path(rest, sse),
    }
}

/// `models/{id}`, `models/{id}:{action}` and `tunedModels/{id}:{action}`.
fn model_path(rest: &str, sse: bool) -> Option<(Target, Option<String>)> {
    let tuned = rest.starts_with("tunedModels/");
    let id = if tuned { rest } else { rest.strip_prefix("models/")? };
    let id = percent_decode(id)?;
    let Some((model, action)) = id.rsplit_once(':') else {
        return (!tuned).then_some((Target::Model(id), None));
    };
    let endpoint = match action {
        "generateContent" => Endpoint::GenerateContent,
        "streamGenerateContent" => Endpoint::StreamGenerateContent { sse },
        "countTokens" => Endpoint::GeminiCountTokens,
        "embedContent" => Endpoint::EmbedContent,
        "batchEmbedContents" => Endpoint::BatchEmbedContents,
        // A colon inside a model's name (`llama3:8b`), not an action.
        _ => return (!tuned).then_some((Target::Model(id), None)),
    };
    let model = model.strip_prefix("models/").unwrap_or(model).to_owned();
    (!model.is_empty()).then_some((Target::Call(endpoint), Some(model)))
}

/// Decodes `%XX`; `None` for a broken escape, a control character or bytes that are not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok().filter(|decoded| !decoded.chars().any(char::is_control))
}

const PATHS: [&str; 15] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/rerank",
    "/v1/models",
    "/v1/usage",
    "/v1beta/models",
    "/v1beta/models/{model}:generateContent",
];

fn unknown_path(path: &str) -> Rejection {
    let shown: String = path.chars().take(100).collect();
    let nearest = PATHS
        .iter()
        .map(|known| (strsim::jaro_winkler(known, &shown), known))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map(|(_, known)| format!(", did you mean {known}?")).unwrap_or_default();
    Rejection::new(Reason::UnknownPath, format!("there is no path {shown}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> Route {
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        route(&Method::POST, path, query, &HeaderMap::new()).unwrap()
    }

    #[test]
    fn every_prefix_and_none_leads_to_the_same_call() {
        for path in ["/v1/messages", "/messages", "/anthropic/v1/messages", "/anthropic/messages", "//v1//messages/"] {
            assert_eq!(post(path).target, Target::Call(Endpoint::Messages), "{path}");
        }
        for path in ["/v1/v1/chat/completions", "/openai/v1/chat/completions", "/chat/completions"] {
            assert_eq!(post(path).target, Target::Call(Endpoint::ChatCompletions), "{path}");
        }
    }

    #[test]
    fn gemini_paths_name_model_action_and_version() {
        let route = post("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
        assert_eq!(route.target, Target::Call(Endpoint::StreamGenerateContent { sse: true }));
        assert_eq!(route.model.as_deref(), Some("gemini-2.5-flash"));
        assert_eq!(route.version, Some("v1beta"));
        let route = post("/v1/models/meta%2Fllama:generateContent");
        assert_eq!((route.model.as_deref(), route.version), (Some("meta/llama"), Some("v1")));
        assert_eq!(
            post("/gemini/models/x:streamGenerateContent").target,
            Target::Call(Endpoint::StreamGenerateContent { sse: false })
        );
    }

    #[test]
    fn a_model_entry_may_hold_slashes_and_colons() {
        let get = |path| route(&Method::GET, path, None, &HeaderMap::new()).unwrap();
        assert_eq!(get("/v1/models/openai/gpt-4o").target, Target::Model("openai/gpt-4o".into()));
        assert_eq!(get("/v1/models/llama3:8b").target, Target::Model("llama3:8b".into()));
    }

    #[test]
    fn errors_take_the_format_of_the_client_that_asks() {
        let mut headers = HeaderMap::new();
        assert_eq!(route(&Method::POST, "/nope", None, &headers).unwrap_err().0, WireFormat::OpenaiChat);
        assert_eq!(route(&Method::POST, "/v1beta/nope", None, &headers).unwrap_err().0, WireFormat::Gemini);
        headers.insert("anthropic-version", http::HeaderValue::from_static("2023-06-01"));
        assert_eq!(route(&Method::POST, "/nope", None, &headers).unwrap_err().0, WireFormat::Anthropic);
    }

    #[test]
    fn a_wrong_method_and_a_wrong_path_say_what_to_do() {
        let (format, refused) = route(&Method::GET, "/v1/messages", None, &HeaderMap::new()).unwrap_err();
        assert_eq!((format, refused.reason), (WireFormat::Anthropic, Reason::MethodNotAllowed));
        let (_, refused) = route(&Method::POST, "/v1/mesages", None, &HeaderMap::new()).unwrap_err();
        assert!(refused.message.contains("did you mean /v1/messages?"), "{}", refused.message);
    }

    #[test]
    fn broken_escapes_are_no_model() {
        for path in ["/v1/models/%zz:generateContent", "/v1/models/%ff:generateContent", "/v1/models/%00"] {
            assert!(route(&Method::POST, path, None, &HeaderMap::new()).is_err(), "{path}");
        }
    }
}
