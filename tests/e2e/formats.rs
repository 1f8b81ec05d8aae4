//! The four wire formats from a client's side: how to ask in each, and how each says that something went wrong.

use crate::client::{Ask, Reply};
use serde_json::{Value, json};
use sub2api::error::Reason;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Chat,
    Responses,
    Anthropic,
    Gemini,
}

/// How the answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Whole,
    /// Server-sent events.
    Stream,
    /// Gemini's stream without `alt=sse`.
    Array,
}

use Format::{Anthropic, Chat, Gemini, Responses};
use Mode::{Array, Stream, Whole};

pub(crate) const FORMATS: [Format; 4] = [Chat, Responses, Anthropic, Gemini];

/// Every way to ask for an answer.
pub(crate) const WAYS: [(Format, Mode); 9] = [
    (Chat, Whole),
    (Chat, Stream),
    (Responses, Whole),
    (Responses, Stream),
    (Anthropic, Whole),
    (Anthropic, Stream),
    (Gemini, Whole),
    (Gemini, Stream),
    (Gemini, Array),
];

impl Format {
    pub(crate) fn provider(self) -> &'static str {
        match self {
            Chat | Responses => "openai",
            Anthropic => "anthropic",
            Gemini => "gemini",
        }
    }

    /// The beginning of this vendor's model names.
    pub(crate) fn vendor(self) -> &'static str {
        match self {
            Chat | Responses => "gpt-4.1",
            Anthropic => "claude-sonnet-4-5",
            Gemini => "gemini-2.5-flash",
        }
    }

    /// The base URL of a provider at this address, as its SDK takes it.
    pub(crate) fn base(self, url: &str) -> String {
        match self {
            Chat | Responses => format!("{url}/v1"),
            Anthropic | Gemini => url.to_owned(),
        }
    }

    pub(crate) fn path(self, mode: Mode, model: &str) -> String {
        match (self, mode) {
            (Chat, _) => "/v1/chat/completions".to_owned(),
            (Responses, _) => "/v1/responses".to_owned(),
            (Anthropic, _) => "/v1/messages".to_owned(),
            (Gemini, Whole) => format!("/v1beta/models/{model}:generateContent"),
            (Gemini, Stream) => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
            (Gemini, Array) => format!("/v1beta/models/{model}:streamGenerateContent"),
        }
    }

    /// A request with this prompt, as this vendor's clients write it.
    pub(crate) fn ask(self, mode: Mode, model: &str, prompt: &str) -> Ask {
        let stream = mode != Whole;
        let body = match self {
            Chat => json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": prompt }] }),
            Responses => json!({ "model": model, "stream": stream, "store": false, "input": prompt }),
            Anthropic => json!({ "model": model, "stream": stream, "max_tokens": 1024,
                "messages": [{ "role": "user", "content": prompt }] }),
            Gemini => json!({ "contents": [{ "role": "user", "parts": [{ "text": prompt }] }] }),
        };
        let ask = Ask::post(&self.path(mode, model), body.to_string());
        if self == Anthropic { ask.header("anthropic-version", "2023-06-01") } else { ask }
    }

    /// What the error of this format calls the reason.
    pub(crate) fn calls(self, reason: Reason) -> &'static str {
        match (self, reason) {
            (Chat | Responses, Reason::LimitReached) => "rate_limit_exceeded",
            (Chat | Responses, Reason::Unavailable) => "service_unavailable",
            (Chat | Responses, Reason::UpstreamFailed) => "upstream_failed",
            (Chat | Responses, Reason::UpstreamSilent) => "upstream_timeout",
            (Anthropic, Reason::LimitReached) => "rate_limit_error",
            (Anthropic, Reason::Unavailable) => "overloaded_error",
            (Anthropic, Reason::UpstreamFailed) => "api_error",
            (Anthropic, Reason::UpstreamSilent) => "timeout_error",
            (Gemini, Reason::LimitReached) => "RESOURCE_EXHAUSTED",
            (Gemini, Reason::Unavailable) => "UNAVAILABLE",
            (Gemini, Reason::UpstreamFailed) => "INTERNAL",
            (Gemini, Reason::UpstreamSilent) => "DEADLINE_EXCEEDED",
            (_, other) => panic!("no test expects {other:?}"),
        }
    }

    /// The name in an error of this format; none where the value has not this format's shape.
    pub(crate) fn error_name(self, error: &Value) -> Option<String> {
        let inner = error.get("error")?.as_object()?;
        inner.get("message")?.as_str().filter(|message| !message.is_empty())?;
        let name = match self {
            Chat | Responses => {
                inner.get("type")?.as_str()?;
                inner.get("param")?;
                inner.get("code")?
            }
            Anthropic => {
                error.get("request_id")?.as_str()?;
                (error.get("type")? == "error").then_some(())?;
                inner.get("type")?
            }
            Gemini => {
                inner.get("code")?.as_u64()?;
                inner.get("status")?
            }
        };
        Some(name.as_str()?.to_owned())
    }

    /// Whether this is a refusal by the gateway for this reason, in this format; else what is wrong with it.
    pub(crate) fn check_refusal(self, reply: &Reply, reason: Reason) -> Result<(), String> {
        let error: Value = serde_json::from_slice(&reply.body).map_err(|e| format!("{e}: {}", reply.text()))?;
        let name = self.error_name(&error);
        let is_json = reply.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        let is_right = reply.status == reason.status()
            && name.as_deref() == Some(self.calls(reason))
            && (self != Gemini || error["error"]["code"] == reply.status)
            && reply.header("x-request-id").is_some();
        let wanted = format!("{} {}", reason.status(), self.calls(reason));
        if is_right && is_json && reply.complete {
            return Ok(());
        }
        Err(format!("not {wanted}, but {} {}", reply.status, reply.text()))
    }

    /// The events of a stream as they came, each with its separator; what is left over is an event that never ended.
    pub(crate) fn events(self, mode: Mode, body: &str) -> (Vec<&str>, String) {
        let mut events = Vec::new();
        let mut from = 0;
        if mode == Array {
            let mut depth = 0;
            let (mut quoted, mut escaped) = (false, false);
            for (at, byte) in body.bytes().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    b'{' if !quoted => depth += 1,
                    b'}' if !quoted => {
                        depth -= 1;
                        if depth == 0 {
                            events.push(&body[from..=at]);
                            from = at + 1;
                        }
                    }
                    _ => {}
                }
            }
        } else {
            while let Some((at, separator)) = border(&body[from..]) {
                events.push(&body[from..from + at + separator]);
                from += at + separator;
            }
        }
        (events, body[from..].to_owned())
    }

    /// Whether these events are this format's way to say that an answer broke off, and nothing else.
    pub(crate) fn is_farewell(self, mode: Mode, tail: &str) -> bool {
        let data = |event: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix("data: "))?;
            serde_json::from_str::<Value>(line).ok()
        };
        let (events, rest) = self.events(mode, tail);
        let reason = Reason::UpstreamFailed;
        match (self, mode) {
            (Gemini, Array) => {
                let [event] = events[..] else { return false };
                let error = event.strip_prefix(",\r\n").and_then(|text| serde_json::from_str::<Value>(text).ok());
                rest == "]" && error.is_some_and(|error| self.is_ours(&error, reason))
            }
            (Chat, _) => {
                let [event, "data: [DONE]\n\n"] = events[..] else { return false };
                rest.is_empty() && data(event).is_some_and(|error| self.is_ours(&error, reason))
            }
            (Responses, _) => {
                let [event, failed] = events[..] else { return false };
                let (Some(error), Some(response)) = (data(event), data(failed)) else { return false };
                let in_order = error["sequence_number"].as_u64().map(|n| n + 1) == response["sequence_number"].as_u64();
                let is_error = event.starts_with("event: error\n") && error["code"] == self.calls(reason);
                let is_failed = failed.starts_with("event: response.failed\n")
                    && response["response"]["status"] == "failed"
                    && response["response"]["error"]["message"].is_string();
                rest.is_empty() && is_error && is_failed && in_order
            }
            (Anthropic, _) => {
                let [event] = events[..] else { return false };
                let is_error = data(event).is_some_and(|error| self.is_ours(&error, reason));
                rest.is_empty() && event.starts_with("event: error\n") && is_error
            }
            (Gemini, _) => {
                let [event] = events[..] else { return false };
                let is_error = data(event).is_some_and(|error| self.is_ours(&error, reason));
                rest.is_empty() && event.ends_with("\r\n\r\n") && is_error
            }
        }
    }

    fn is_ours(self, error: &Value, reason: Reason) -> bool {
        self.error_name(error).as_deref() == Some(self.calls(reason))
    }
}

/// The next blank line, and how many bytes it is long together with the line end before it.
fn border(text: &str) -> Option<(usize, usize)> {
    ["\r\n\r\n", "\n\n", "\r\r"].iter().filter_map(|line| Some((text.find(line)?, line.len()))).min()
}

/// The text of an answer, whole or streamed, whatever its format.
pub(crate) fn said(format: Format, mode: Mode, body: &str) -> String {
    let text = |value: &Value| -> String {
        let places: &[&str] = match (format, mode) {
            (Chat, Whole) => &["/choices/0/message/content"],
            (Chat, _) => &["/choices/0/delta/content"],
            (Responses, Whole) => &["/output/0/content/0/text"],
            (Responses, _) if value["type"] == "response.output_text.delta" => &["/delta"],
            (Responses, _) => &[],
            (Anthropic, Whole) => &["/content/0/text"],
            (Anthropic, _) => &["/delta/text"],
            (Gemini, _) => &["/candidates/0/content/parts/0/text"],
        };
        places.iter().filter_map(|at| value.pointer(at)?.as_str()).collect()
    };
    match mode {
        Whole => serde_json::from_str(body).map_or_else(|_| String::new(), |value| text(&value)),
        Array => {
            let list: Vec<Value> = serde_json::from_str(body).unwrap_or_default();
            list.iter().map(text).collect()
        }
        Stream => {
            let lines = body.lines().filter_map(|line| line.strip_prefix("data: "));
            lines.filter_map(|data| Some(text(&serde_json::from_str(data).ok()?))).collect()
        }
    }
}
