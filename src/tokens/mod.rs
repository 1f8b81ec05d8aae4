//! Estimates how many tokens a request or a text is, where no provider is asked.
//!
//! A real tokenizer reads the text. Only OpenAI publishes its vocabulary; what another vendor's tokenizer makes of the same
//! text is a factor that recorded traffic gave (`family`). Never exact, never an error, never waits: a body that cannot be
//! read is weighed as text. Invariant: the time is bounded whatever the length, see `vocabulary`.

mod family;
mod image;
mod media;
mod vocabulary;
mod weigh;

use crate::wire::{Endpoint, WireFormat, counting, embeddings, translate};
use family::Family;
use std::borrow::Cow;

/// Shorter texts are counted in less than some milliseconds.
const QUICK_BYTES: usize = 16 * 1024;

/// Whether an estimate of a body of this length takes so little time that other work can wait for it: not the first one of
/// a process, which has to read the vocabulary.
pub fn is_quick(bytes: usize) -> bool {
    bytes <= QUICK_BYTES && vocabulary::is_there()
}

/// The input tokens of a request that asks a model for its next turn: its text, tools, schemas and media.
///
/// `body` is the client's, in its own `format`; `model` decides whose tokenizer is imitated.
pub fn estimate_request(format: WireFormat, body: &[u8], model: &str) -> u64 {
    match translate::read_request(format, body) {
        Ok(request) => weigh::request(&request, &Family::of(model)),
        Err(_) => estimate_text(model, &text_of(body)),
    }
}

/// The input tokens of any call with a JSON body: a request for the next turn, a count of one, or texts to embed.
/// Other bodies (forms with files) are 0.
pub fn estimate_call(endpoint: &Endpoint, body: &[u8], model: &str) -> u64 {
    if endpoint.generates() || endpoint.is_counting() {
        return estimate_request(endpoint.format(), counting::request_in(endpoint, body), model);
    }
    if let Some(texts) = embeddings::texts_in(endpoint, body) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        return Family::of(model).scaled(vocabulary::count(&texts));
    }
    if body.trim_ascii_start().first() != Some(&b'{') {
        return 0;
    }
    estimate_text(model, &text_of(body))
}

/// The tokens of a text, such as what a model wrote.
pub fn estimate_text(model: &str, text: &str) -> u64 {
    Family::of(model).scaled(vocabulary::count(&[text]))
}

fn text_of(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_openai_model_is_counted_exactly() {
        assert_eq!(estimate_text("gpt-5", "The quick brown fox jumps over the lazy dog."), 10);
        assert_eq!(estimate_text("gpt-5", ""), 0);
    }

    #[test]
    fn every_format_says_about_the_same_of_the_same_request() {
        let question = "What is the capital of France, and how many people live there?";
        let bodies = [
            (WireFormat::OpenaiChat, format!(r#"{{"messages":[{{"role":"user","content":"{question}"}}]}}"#)),
            (WireFormat::OpenaiResponses, format!(r#"{{"input":"{question}"}}"#)),
            (WireFormat::Anthropic, format!(r#"{{"messages":[{{"role":"user","content":"{question}"}}]}}"#)),
            (WireFormat::Gemini, format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{question}"}}]}}]}}"#)),
        ];
        let counts: Vec<u64> = bodies.iter().map(|(f, b)| estimate_request(*f, b.as_bytes(), "gpt-5")).collect();
        assert!(counts.iter().all(|count| (15..25).contains(count) && *count == counts[0]), "{counts:?}");
    }

    #[test]
    fn what_cannot_be_read_is_weighed_as_text() {
        assert!(estimate_request(WireFormat::Anthropic, b"not json at all", "m") >= 3);
        assert!(estimate_call(&Endpoint::Embeddings, br#"{"input":"hello there"}"#, "m") >= 2);
        assert_eq!(estimate_call(&Endpoint::Audio("speech"), b"--form\r\n\xff\xd8", "m"), 0);
    }

    #[test]
    fn geminis_wrapped_count_is_the_request_in_it() {
        let bare = br#"{"contents":[{"parts":[{"text":"one two three four five"}]}]}"#;
        let wrapped = [br#"{"generateContentRequest":"#.as_slice(), bare, b"}"].concat();
        let count = |body: &[u8]| estimate_call(&Endpoint::GeminiCountTokens, body, "gemini-2.5-flash");
        assert_eq!(count(&wrapped), count(bare));
    }
}
