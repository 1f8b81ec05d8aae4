//! Anthropic Messages.

mod error;
mod failure;
mod fragment;
mod models;
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
pub struct Anthropic;

impl Format for Anthropic {
    fn id(&self) -> WireFormat {
        WireFormat::Anthropic
    }
    fn name(&self) -> &'static str {
        "anthropic"
    }
    fn error_body(&self, rejection: &Rejection, request_id: &str) -> Vec<u8> {
        error::body(rejection, request_id)
    }
    fn stream_error(&self, rejection: &Rejection, request_id: &str, _: &tap::Seen, shape: tap::Shape) -> Vec<u8> {
        match shape {
            tap::Shape::Sse => {
                [b"event: error\ndata: ", error::body(rejection, request_id).as_slice(), b"\n\n"].concat()
            }
            tap::Shape::Json | tap::Shape::JsonArray | tap::Shape::Opaque => Vec::new(),
        }
    }
    fn ping(&self, shape: tap::Shape) -> &'static [u8] {
        match shape {
            tap::Shape::Sse => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
            tap::Shape::Json | tap::Shape::JsonArray | tap::Shape::Opaque => b"",
        }
    }
    fn only_adds(&self, name: &[u8], data: &[u8]) -> bool {
        read::only_adds(name, data)
    }
    fn read_event(&self, name: &[u8], data: &[u8], seen: &mut tap::Seen) {
        read::event(name, data, seen);
    }
    fn read_reply(&self, body: &[u8], seen: &mut tap::Seen) {
        read::reply(body, seen);
    }
    fn read_clipped(&self, _: &[u8], head: &[u8], tail: &[u8], seen: &mut tap::Seen) {
        read::clipped(head, tail, seen);
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

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn errors_have_the_formats_shape_in_bodies_and_streams() {
        let rejection = Rejection::new(Reason::BudgetSpent, "spent \"all\"");
        let body =
            r#"{"type":"error","error":{"type":"billing_error","message":"spent \"all\""},"request_id":"req_1"}"#;
        assert_eq!(text(Anthropic.error_body(&rejection, "req_1")), body);
        let event = text(Anthropic.stream_error(&rejection, "req_1", &Seen::default(), Shape::Sse));
        assert_eq!(event, format!("event: error\ndata: {body}\n\n"));
    }

    #[test]
    fn models_are_listed_on_one_page() {
        let entry = r#"{"type":"model","id":"a","display_name":"a","created_at":"1970-01-01T00:00:00Z"}"#;
        assert_eq!(text(Anthropic.model_entry("a")), entry);
        assert_eq!(
            text(Anthropic.model_list(&["a"])),
            format!(r#"{{"data":[{entry}],"has_more":false,"first_id":"a","last_id":"a"}}"#)
        );
        assert_eq!(text(Anthropic.model_list(&[])), r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#);
    }
}
