//! Gemini generateContent.

mod error;
mod failure;
mod fragment;
mod models;
mod partial_args;
mod read;
mod reply_decode;
mod reply_encode;
mod request_decode;
mod request_encode;
mod translation;
mod usage;

use super::{Format, WireFormat, tap};
use crate::error::Rejection;

/// The format's behaviour.
#[derive(Debug)]
pub struct Gemini;

impl Format for Gemini {
    fn id(&self) -> WireFormat {
        WireFormat::Gemini
    }
    fn name(&self) -> &'static str {
        "gemini"
    }
    fn error_body(&self, rejection: &Rejection, _: &str) -> Vec<u8> {
        error::body(rejection)
    }
    fn stream_error(&self, rejection: &Rejection, _: &str, seen: &tap::Seen, shape: tap::Shape) -> Vec<u8> {
        let body = error::body(rejection);
        match shape {
            tap::Shape::Sse => [b"data: ", body.as_slice(), b"\r\n\r\n"].concat(),
            // The tap keeps a separator with the element behind it, so whole elements are all that went out.
            tap::Shape::JsonArray if seen.events == 0 => [b"[", body.as_slice(), b"]"].concat(),
            tap::Shape::JsonArray => [b",\r\n", body.as_slice(), b"]"].concat(),
            tap::Shape::Json | tap::Shape::Opaque => Vec::new(),
        }
    }
    fn ping(&self, shape: tap::Shape) -> &'static [u8] {
        match shape {
            // Google's SDKs parse every line as an event's data, so a comment or a blank line breaks them.
            tap::Shape::Sse => b"data: {}\r\n\r\n",
            tap::Shape::JsonArray => b"\n",
            tap::Shape::Json | tap::Shape::Opaque => b"",
        }
    }
    fn only_adds(&self, _: &[u8], data: &[u8]) -> bool {
        read::only_adds(data)
    }
    fn read_event(&self, _: &[u8], data: &[u8], seen: &mut tap::Seen) {
        read::event(data, seen);
    }
    fn read_reply(&self, body: &[u8], seen: &mut tap::Seen) {
        read::reply(body, seen);
    }
    fn read_clipped(&self, _: &[u8], _: &[u8], tail: &[u8], seen: &mut tap::Seen) {
        read::clipped(tail, seen);
    }
    fn model_list(&self, models: &[&str]) -> Vec<u8> {
        models::list(models)
    }
    fn model_entry(&self, model: &str) -> Vec<u8> {
        models::one(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Reason,
        wire::tap::{Seen, Shape},
    };
    use std::time::Duration;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_bad_key_is_401_with_googles_reason() {
        assert_eq!(
            text(Gemini.error_body(&Rejection::new(Reason::UnknownKey, "bad"), "r")),
            r#"{"error":{"code":401,"message":"bad","status":"UNAUTHENTICATED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#
        );
    }

    #[test]
    fn a_wait_and_a_field_are_told_in_details() {
        let wait = Some(Duration::from_millis(1_500));
        let body = text(Gemini.error_body(&Rejection::new(Reason::LimitReached, "slow").after(wait), "r"));
        assert!(body.contains(r#""status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"}]"#), "{body}");
        let body = text(Gemini.error_body(&Rejection::new(Reason::Malformed, "bad").at("contents"), "r"));
        assert!(body.contains(r#""fieldViolations":[{"field":"contents","description":"bad"}]"#), "{body}");
    }

    #[test]
    fn a_failed_stream_is_closed_in_its_own_form() {
        let rejection = Rejection::new(Reason::UpstreamFailed, "m");
        let error = text(Gemini.error_body(&rejection, "r"));
        let end = |seen: &Seen, shape| text(Gemini.stream_error(&rejection, "r", seen, shape));
        let begun = Seen { events: 1, ..Seen::default() };
        assert_eq!(end(&begun, Shape::Sse), format!("data: {error}\r\n\r\n"));
        assert_eq!(end(&begun, Shape::JsonArray), format!(",\r\n{error}]"));
        assert_eq!(end(&Seen::default(), Shape::JsonArray), format!("[{error}]"));
    }

    #[test]
    fn models_have_googles_names_once() {
        let entry = r#"{"name":"models/gemini-x","displayName":"gemini-x","supportedGenerationMethods":["generateContent","streamGenerateContent","countTokens"]}"#;
        assert_eq!(text(Gemini.model_entry("models/gemini-x")), entry);
        assert_eq!(text(Gemini.model_list(&["gemini-x"])), format!(r#"{{"models":[{entry}]}}"#));
    }
}
