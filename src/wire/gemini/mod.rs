//! Gemini generateContent.

mod error;
mod models;
mod read;
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
