//! The calls that only count tokens, which are requests for the next turn in another wrapping.
//!
//! What such a call does not take is left out: how a request would be answered does not change how long it is.

use super::{
    Endpoint,
    compose::{Obj, obj},
    fields::{Members, Num},
    loss::Refusal,
    reply::ReplyError,
    translate::{Document, Options, Translated, translate_request},
};

/// What Anthropic's call takes beside the model, by its schema (`CountMessageTokensParams`).
const ANTHROPIC: [&str; 9] = [
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "context_management",
    "mcp_servers",
];
/// What OpenAI's call takes beside the model, by its schema (`TokenCountsBody`).
const RESPONSES: [&str; 7] =
    ["input", "instructions", "tools", "tool_choice", "text", "reasoning", "parallel_tool_calls"];

/// The request whose tokens are to be counted: Gemini may wrap it.
pub fn request_in<'a>(endpoint: &Endpoint, body: &'a [u8]) -> &'a [u8] {
    if *endpoint != Endpoint::GeminiCountTokens {
        return body;
    }
    let members = serde_json::from_slice::<Members<'a>>(body).unwrap_or_default();
    let wrapped = members.find("generateContentRequest").or_else(|| members.find("generate_content_request"));
    wrapped.map_or(body, |request| request.get().as_bytes())
}

/// What Vertex AI's call takes, by its reference (`CountTokensRequest`).
const VERTEX: [&str; 6] =
    ["contents", "systemInstruction", "system_instruction", "tools", "generationConfig", "generation_config"];

/// Gemini's question as Vertex AI takes it, which knows no wrapping; `None` where it is not wrapped.
pub fn unwrapped(body: &[u8]) -> Option<Vec<u8>> {
    let request = request_in(&Endpoint::GeminiCountTokens, body);
    if request.len() == body.len() {
        return None;
    }
    let members = serde_json::from_slice::<Members<'_>>(request).ok()?;
    let mut out = Vec::with_capacity(request.len());
    obj(&mut out, |o| {
        let known = members.0.iter().filter(|(key, _)| VERTEX.contains(&&**key));
        known.for_each(|(key, value)| o.any_raw(key, value.get()));
    });
    Some(out)
}

/// The same question in the form of another format's counting call.
pub(crate) fn translate(
    asked: &Endpoint,
    there: &Endpoint,
    body: &[u8],
    options: &Options<'_>,
) -> Result<Translated, Refusal> {
    let options = Options { stream: Some(false), ..options.clone() };
    let request = request_in(asked, body);
    let mut translated = translate_request(asked.format(), there.format(), request, &options)?;
    translated.body = wrapped(there, &translated.context.model, &translated.body);
    translated.context.document = Some(Document::Count);
    Ok(translated)
}

/// A request for the next turn as a counting call of its own format.
fn wrapped(there: &Endpoint, model: &str, request: &[u8]) -> Vec<u8> {
    let members = serde_json::from_slice::<Members<'_>>(request).unwrap_or_default();
    let mut out = Vec::with_capacity(request.len() + 64);
    let only = |o: &mut Obj<'_>, known: &[&str]| {
        o.str("model", model);
        members
            .0
            .iter()
            .filter(|(key, _)| known.contains(&&**key))
            .for_each(|(key, value)| o.any_raw(key, value.get()));
    };
    obj(&mut out, |o| match there {
        Endpoint::CountTokens => only(o, &ANTHROPIC),
        Endpoint::ResponsesInputTokens => only(o, &RESPONSES),
        _ => o.obj("generateContentRequest", |o| {
            o.str("model", &format!("models/{model}"));
            members.0.iter().for_each(|(key, value)| o.any_raw(key, value.get()));
        }),
    });
    out
}

/// What the upstream counted.
pub(crate) fn read(body: &[u8]) -> Result<u64, ReplyError> {
    let members = serde_json::from_slice::<Members<'_>>(body).map_err(|fault| ReplyError::unreadable(&fault))?;
    let told = members.find("input_tokens").or_else(|| members.find("totalTokens"));
    let count = told.and_then(|raw| serde_json::from_str::<Num>(raw.get()).ok()).and_then(|count| count.as_count());
    count.ok_or_else(|| ReplyError::unreadable(&"it tells no count"))
}

/// The answer to a counting call.
pub fn reply(endpoint: &Endpoint, tokens: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    obj(&mut out, |o| match endpoint {
        Endpoint::GeminiCountTokens => {
            o.int("totalTokens", tokens);
            o.arr("promptTokensDetails", |l| {
                l.obj(|o| {
                    o.word("modality", "TEXT");
                    o.int("tokenCount", tokens);
                });
            });
        }
        Endpoint::ResponsesInputTokens => {
            o.word("object", "response.input_tokens");
            o.int("input_tokens", tokens);
        }
        _ => o.int("input_tokens", tokens),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gemini_wraps_and_only_sometimes() {
        let wrapped = br#"{"generateContentRequest": {"contents": []}}"#;
        assert_eq!(request_in(&Endpoint::GeminiCountTokens, wrapped), br#"{"contents": []}"#);
        assert_eq!(request_in(&Endpoint::GeminiCountTokens, br#"{"contents":[]}"#), br#"{"contents":[]}"#);
        assert_eq!(request_in(&Endpoint::CountTokens, wrapped), wrapped);
        assert_eq!(request_in(&Endpoint::GeminiCountTokens, b"nonsense"), b"nonsense");
    }

    #[test]
    fn vertex_gets_the_request_without_wrapping_and_without_the_model() {
        let wrapped = br#"{"generateContentRequest":{"model":"models/m","contents":[],"toolConfig":{},"tools":[]}}"#;
        assert_eq!(unwrapped(wrapped).unwrap(), br#"{"contents":[],"tools":[]}"#);
        assert_eq!(unwrapped(br#"{"contents":[]}"#), None);
    }

    #[test]
    fn a_count_is_asked_in_each_formats_own_way() {
        let body = br#"{"model":"m","system":"Be brief.","messages":[{"role":"user","content":"hi"}]}"#;
        let options = Options { model: "there", ..Options::default() };
        let ask = |there: &Endpoint| {
            String::from_utf8(translate(&Endpoint::CountTokens, there, body, &options).unwrap().body).unwrap()
        };
        let gemini = ask(&Endpoint::GeminiCountTokens);
        assert!(gemini.starts_with(r#"{"generateContentRequest":{"model":"models/there","systemInstr"#), "{gemini}");
        let openai = ask(&Endpoint::ResponsesInputTokens);
        assert!(openai.starts_with(r#"{"model":"there","#) && openai.contains(r#""instructions":"Be brief.""#));
        assert!(!openai.contains("store") && !openai.contains("include"), "{openai}");
        let google = br#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
        let asked = translate(&Endpoint::GeminiCountTokens, &Endpoint::CountTokens, google, &options).unwrap();
        let anthropic = String::from_utf8(asked.body).unwrap();
        assert_eq!(anthropic, r#"{"model":"there","messages":[{"role":"user","content":"hi"}]}"#);
    }

    #[test]
    fn counts_are_read_and_written_in_every_format() {
        for endpoint in [Endpoint::CountTokens, Endpoint::GeminiCountTokens, Endpoint::ResponsesInputTokens] {
            assert_eq!(read(&reply(&endpoint, 1234)), Ok(1234));
        }
        assert!(read(b"{}").is_err());
        assert!(read(b"<html>").is_err());
    }
}
