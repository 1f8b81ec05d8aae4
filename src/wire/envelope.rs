//! Finds what routing needs in a request body, and splices another model name into it.
//!
//! The body is scanned once and never re-serialised: all bytes outside the model's span go on as they came. Invariant:
//! every span lies in the body, in ascending order, and covers a JSON string, the inside of one, or a form field.

mod beside;
mod document;
mod form;

pub use beside::put_beside_model;

use super::{Endpoint, conversation::Conversation, json};
use bytes::Bytes;
use std::ops::Range;

/// What routing needs to know of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The model asked for, decoded; `None` where the body names none (Gemini has it in the path, some calls have a
    /// default). Google's `models/` in front of a name is left out.
    pub model: Option<String>,
    /// Where the model's name stands in the body: the JSON string with its quotes, the inside of one behind Google's
    /// `models/`, or the bare form field. Several in a batch.
    pub model_spans: Vec<Range<usize>>,
    /// Whether the call asks for a stream.
    pub stream: bool,
    /// The most output tokens that the request allows, if it says so; the largest where it says so twice.
    pub max_output_tokens: Option<u64>,
    /// The conversation that a call for a model's next turn belongs to.
    pub conversation: Conversation,
}

/// Why a body cannot be read. `Display` says what and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// What is wrong, with its position.
    pub message: String,
    /// The field at fault, if one is.
    pub param: Option<String>,
}

impl Malformed {
    fn new(message: impl Into<String>) -> Self {
        Malformed { message: message.into(), param: None }
    }

    fn at(param: &str, message: impl Into<String>) -> Self {
        Malformed { message: message.into(), param: Some(param.to_owned()) }
    }
}

/// Scans the body of a call. `content_type` is the request's header value, if any.
///
/// Fails on a body that is not one valid JSON document (or form, for the calls that take one), on a field that is read
/// here and stands there twice, and on a missing model where the call has no default for it. Everything else is for the
/// provider to judge: the body reaches it as it came.
pub fn scan(endpoint: &Endpoint, content_type: Option<&str>, body: &[u8]) -> Result<Envelope, Malformed> {
    let content_type = content_type.unwrap_or_default().trim();
    let mut envelope = match (form::is_form(content_type), takes_form(endpoint)) {
        (true, true) => form::scan(content_type, body)?,
        (true, false) => return Err(Malformed::new("this call takes a JSON body, not a form")),
        (false, _) => document::scan(endpoint, body)?,
    };
    envelope.stream |= matches!(endpoint, Endpoint::StreamGenerateContent { .. });
    Ok(envelope)
}

fn takes_form(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Images(_) | Endpoint::Audio(_))
}

/// Whether a JSON body of this call has to name its model.
fn needs_model(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::ChatCompletions
        | Endpoint::Responses
        | Endpoint::ResponsesInputTokens
        | Endpoint::ResponsesCompact
        | Endpoint::Messages
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Completions
        | Endpoint::Rerank
        | Endpoint::Audio(_) => true,
        // The provider has a default for these.
        Endpoint::Moderations | Endpoint::Images(_) => false,
        Endpoint::GenerateContent
        | Endpoint::StreamGenerateContent { .. }
        | Endpoint::GeminiCountTokens
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents => false,
    }
}

/// The body with `model` in place of what stands at the envelope's model spans; the very same bytes where it already does.
pub fn splice(body: &Bytes, envelope: &Envelope, model: &str) -> Bytes {
    if envelope.model_spans.iter().all(|span| body.get(span.clone()).is_some_and(|old| says_plainly(old, model))) {
        return body.clone();
    }
    let quoted = json::to_vec(model);
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let mut out = Vec::new();
    let mut done = 0;
    for span in &envelope.model_spans {
        let Some(old) = body.get(span.clone()) else { continue };
        let new = match Place::of(body, span) {
            Place::Text => quoted.as_slice(),
            Place::InsideText => inner,
            Place::Form => model.as_bytes(),
        };
        if old == new || says(old, model) {
            continue;
        }
        if out.is_empty() {
            out.reserve(body.len() + (new.len() + 16) * envelope.model_spans.len());
        }
        out.extend_from_slice(body.get(done..span.start).unwrap_or_default());
        out.extend_from_slice(new);
        done = span.end;
    }
    if done == 0 {
        return body.clone();
    }
    out.extend_from_slice(body.get(done..).unwrap_or_default());
    out.into()
}

/// A chat request's body with its output limit under the newer name, where it has only the older one; else the same bytes.
pub fn rename_limit(body: Bytes) -> Bytes {
    let Some(span) = document::older_limit(&body) else { return body };
    let mut out = Vec::with_capacity(body.len() + 16);
    out.extend_from_slice(body.get(..span.start).unwrap_or_default());
    out.extend_from_slice(b"\"max_completion_tokens\"");
    out.extend_from_slice(body.get(span.end..).unwrap_or_default());
    out.into()
}

/// What a span covers.
enum Place {
    /// A JSON string with its quotes.
    Text,
    /// The inside of a JSON string, behind a prefix.
    InsideText,
    /// The value of a form field, which stands on a line of its own.
    Form,
}

impl Place {
    fn of(body: &[u8], span: &Range<usize>) -> Place {
        let before = span.start.checked_sub(1).and_then(|at| body.get(at));
        // Of a bare `models/` nothing is inside, and what follows is the closing quote.
        match (body.get(span.clone()).and_then(|text| text.first()), before) {
            (Some(b'"'), _) => Place::Text,
            (_, Some(b'\n')) => Place::Form,
            _ => Place::InsideText,
        }
    }
}

/// Whether a JSON string is the model between quotes. Most are, and need no other.
fn says_plainly(old: &[u8], model: &str) -> bool {
    let inside = old.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inside == Some(model.as_bytes()) && !model.contains('\\')
}

/// Whether a JSON string says the model in another spelling (`"gpt\u002d4"`).
fn says(old: &[u8], model: &str) -> bool {
    old.contains(&b'\\') && serde_json::from_slice::<String>(old).is_ok_and(|text| text == model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHAT: Endpoint = Endpoint::ChatCompletions;

    fn chat(body: &str) -> Result<Envelope, Malformed> {
        scan(&CHAT, Some("application/json"), body.as_bytes())
    }

    fn spliced(endpoint: &Endpoint, body: &str, model: &str) -> String {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let envelope = scan(endpoint, None, &bytes).unwrap();
        String::from_utf8(splice(&bytes, &envelope, model).to_vec()).unwrap()
    }

    #[test]
    fn model_stream_and_limit_are_found_wherever_they_stand() {
        let envelope = chat(r#" {"messages":[{"model":"no","stream":true}], "stream" : true,"max_tokens":5,"max_completion_tokens": 7.0,"model":"gpt-4o"} "#).unwrap();
        assert_eq!(envelope.model.as_deref(), Some("gpt-4o"));
        assert!(envelope.stream);
        assert_eq!(envelope.max_output_tokens, Some(7));
    }

    #[test]
    fn only_the_model_changes_when_it_is_spliced() {
        let body = "{ \"b\":1e5,\t\"model\" :\"gpt-4o\" ,\"a\":\"\\u00e9 é\" }\n";
        assert_eq!(spliced(&CHAT, body, "x\"y\u{2028}"), body.replace("\"gpt-4o\"", r#""x\"y\u2028""#));
    }

    #[test]
    fn only_the_limits_name_changes_and_only_where_the_newer_is_missing() {
        let renamed =
            |text: &str| String::from_utf8(rename_limit(Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap();
        assert_eq!(
            renamed("{ \"a\":{\"max_tokens\":1}, \"max_tokens\" : 5 ,\"b\":1.50}"),
            "{ \"a\":{\"max_tokens\":1}, \"max_completion_tokens\" : 5 ,\"b\":1.50}"
        );
        for text in [r#"{"max_tokens":5,"max_completion_tokens":6}"#, r#"{"a":1}"#, r#"{"max_tokens":null}"#] {
            assert_eq!(renamed(text), text);
        }
    }

    #[test]
    fn a_body_that_needs_no_change_is_the_very_same_one() {
        for text in [r#"{"model":"gpt-4o"}"#, r#"{"model":"gpt\u002d4o"}"#] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            let out = splice(&body, &scan(&CHAT, None, &body).unwrap(), "gpt-4o");
            assert_eq!(out.as_ptr(), body.as_ptr(), "{text}");
        }
    }

    #[test]
    fn escaped_keys_and_values_are_decoded() {
        let envelope = chat(r#"{"mod\u0065l":"gpt\u002d4\/x"}"#).unwrap();
        assert_eq!(envelope.model.as_deref(), Some("gpt-4/x"));
        assert!(chat(r#"{"model":"a","mod\u0065l":"b"}"#).unwrap_err().message.contains("`model` stands"));
    }

    #[test]
    fn a_field_that_is_read_must_not_stand_there_twice() {
        for (name, value) in [("model", "\"m\""), ("stream", "true"), ("max_tokens", "1")] {
            let fault = chat(&format!(r#"{{"model":"m","{name}":{value},"{name}":{value}}}"#)).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(name));
        }
        assert!(chat(r#"{"model":"m","requests":1,"requests":2,"x":1,"x":2}"#).is_ok());
    }

    #[test]
    fn malformed_json_is_refused_with_its_place() {
        let fault = chat("{\n \"model\": \"m\",\n \"a\": tru }").unwrap_err();
        assert!(fault.message.contains("line 3 column") && fault.message.contains("(byte 2"), "{fault}");
        for body in [
            "{",
            "{\"model\":\"m\"",
            "{\"model\":\"m\"} x",
            "{\"model\":\"m\",}",
            "{\"model\":\"a\nb\"}",
            "{'model':1}",
            "nul",
            "{\"model\":\"\\ud800\"}",
        ] {
            assert!(chat(body).is_err(), "{body}");
        }
        assert!(chat("").unwrap_err().message.contains("empty"));
        assert!(chat("\u{feff}{}").unwrap_err().message.contains("byte order mark"));
        for body in ["[\"m\"]", "\"m\"", "1", "null"] {
            assert!(chat(body).unwrap_err().message.contains("must be a JSON object"), "{body}");
        }
        let fault = scan(&CHAT, None, b"{\"model\":\"m\",\n\"a\":\"\xff\"}").unwrap_err();
        assert!(fault.message.contains("line 2 column 6 (byte 19)"), "{fault}");
    }

    #[test]
    fn a_missing_or_wrong_model_names_the_field() {
        for body in ["{}", r#"{"model":null}"#, r#"{"model":7}"#, r#"{"model":""}"#, r#"{"model":["m"]}"#] {
            assert_eq!(chat(body).unwrap_err().param.as_deref(), Some("model"), "{body}");
        }
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(2_000));
        assert_eq!(chat(&long).unwrap_err().param.as_deref(), Some("model"));
    }

    #[test]
    fn calls_with_a_default_model_need_none() {
        for endpoint in [Endpoint::Moderations, Endpoint::Images("generations")] {
            assert_eq!(scan(&endpoint, None, br#"{"input":"x"}"#).unwrap().model, None);
        }
        assert_eq!(scan(&Endpoint::Responses, None, br#"{"prompt":{"id":"p"}}"#).unwrap().model, None);
        assert!(scan(&Endpoint::Responses, None, br#"{"input":"x"}"#).is_err());
        assert!(scan(&Endpoint::Moderations, None, br#"{"model":3}"#).is_err());
    }

    #[test]
    fn depth_and_huge_numbers_cost_nothing() {
        let deep = format!(
            r#"{{"x":{}{},"n":1e999999,"i":{},"model":"m"}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000),
            "9".repeat(5_000)
        );
        assert_eq!(chat(&deep).unwrap().model.as_deref(), Some("m"));
        let open = format!(r#"{{"model":"m","x":{}"#, "{\"a\":[".repeat(100_000));
        assert!(chat(&open).is_err());
        let limit = format!(r#"{{"model":"m","max_tokens":{}}}"#, "9".repeat(30));
        assert_eq!(chat(&limit).unwrap().max_output_tokens, Some(u64::MAX));
        assert_eq!(chat(r#"{"model":"m","max_tokens":-1}"#).unwrap().max_output_tokens, None);
    }

    #[test]
    fn google_bodies_keep_their_prefix_and_need_no_model() {
        let generate = Endpoint::StreamGenerateContent { sse: true };
        let envelope = scan(&generate, None, br#"{"contents":[],"generationConfig":{"maxOutputTokens":9}}"#).unwrap();
        assert_eq!((envelope.model, envelope.stream, envelope.max_output_tokens), (None, true, Some(9)));
        let snake = scan(&generate, None, br#"{"generation_config":{"max_output_tokens":8}}"#).unwrap();
        assert_eq!(snake.max_output_tokens, Some(8));
        assert_eq!(
            spliced(&Endpoint::EmbedContent, r#"{"model":"models/a","content":{}}"#, "b"),
            r#"{"model":"models/b","content":{}}"#
        );
        assert_eq!(spliced(&Endpoint::GenerateContent, r#"{"model":"a"}"#, "b"), r#"{"model":"b"}"#);
        let batch = r#"{"requests":[{"model":"models/a","content":{"model":"no"}},{"content":{}},{"model":"a"}]}"#;
        let changed = r#"{"requests":[{"model":"models/b","content":{"model":"no"}},{"content":{}},{"model":"b"}]}"#;
        assert_eq!(spliced(&Endpoint::BatchEmbedContents, batch, "b"), changed);
        let bare = r#"{"model":"models/","content":{}}"#;
        assert_eq!(spliced(&Endpoint::EmbedContent, bare, "b"), bare.replace("models/", "models/b"));
        let counted = r#"{"generateContentRequest":{"model":"models/a","contents":[]}}"#;
        assert_eq!(spliced(&Endpoint::GeminiCountTokens, counted, "b"), counted.replace("models/a", "models/b"));
        let two = br#"{"requests":[{"model":"models/a"},{"model":"models/b"}]}"#;
        assert_eq!(scan(&Endpoint::BatchEmbedContents, None, two).unwrap_err().param.as_deref(), Some("model"));
    }

    #[test]
    fn a_form_is_not_taken_for_json() {
        let fault = scan(&CHAT, Some("multipart/form-data; boundary=x"), b"--x--").unwrap_err();
        assert!(fault.message.contains("takes a JSON body"));
        assert!(scan(&CHAT, Some("application/x-www-form-urlencoded"), br#"{"model":"m"}"#).is_ok());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), form in any::<bool>()) {
            let content_type = if form { "multipart/form-data; boundary=x" } else { "application/json" };
            for endpoint in [CHAT, Endpoint::Audio("transcriptions"), Endpoint::BatchEmbedContents] {
                let _ = scan(&endpoint, Some(content_type), &bytes);
            }
        }

        #[test]
        fn splicing_changes_nothing_outside_the_span(before in "[ \\t\\n]{0,3}", model in "\\PC{1,12}", other in "\\PC{1,12}", text in "\\PC{0,30}") {
            prop_assume!(!model.trim().is_empty());
            let head = format!("{before}{{\"messages\":{},{before}\"model\":{before}", serde_json::to_string(&text).unwrap());
            let tail = format!("{before},\"n\":1.50}}");
            let body = Bytes::from(format!("{head}{}{tail}", serde_json::to_string(&model).unwrap()));
            let envelope = scan(&CHAT, None, &body).unwrap();
            prop_assert_eq!(envelope.model.as_deref(), Some(model.as_str()));
            let out = splice(&body, &envelope, &other);
            prop_assert!(out.starts_with(head.as_bytes()) && out.ends_with(tail.as_bytes()));
            let named = scan(&CHAT, None, &out).unwrap_or_default().model;
            prop_assert!(named.as_deref() == Some(other.as_str()) || other.trim().is_empty());
        }
    }
}
