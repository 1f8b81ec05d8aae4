//! OpenAI Responses.

mod error;
mod fragment;
mod read;
mod reply_decode;
mod reply_encode;
mod reply_parts;
mod reply_shape;
mod request_decode;
mod request_encode;
mod server_tools;
mod translation;

use super::{Format, WireFormat, openai_chat, tap};
use crate::error::Rejection;

/// The format's behaviour.
#[derive(Debug)]
pub struct OpenaiResponses;

impl Format for OpenaiResponses {
    fn id(&self) -> WireFormat {
        WireFormat::OpenaiResponses
    }
    fn name(&self) -> &'static str {
        "openai_responses"
    }
    fn error_body(&self, rejection: &Rejection, _: &str) -> Vec<u8> {
        openai_chat::error_body(rejection)
    }
    fn stream_error(&self, rejection: &Rejection, request_id: &str, seen: &tap::Seen, shape: tap::Shape) -> Vec<u8> {
        match shape {
            tap::Shape::Sse => error::stream(rejection, request_id, seen),
            tap::Shape::Json | tap::Shape::JsonArray | tap::Shape::Opaque => Vec::new(),
        }
    }
    fn ping(&self, shape: tap::Shape) -> &'static [u8] {
        match shape {
            tap::Shape::Sse => b": keep-alive\n\n",
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
    fn read_clipped(&self, name: &[u8], head: &[u8], tail: &[u8], seen: &mut tap::Seen) {
        read::clipped(name, head, tail, seen);
    }
    fn model_list(&self, models: &[&str]) -> Vec<u8> {
        openai_chat::model_list(models)
    }
    fn model_entry(&self, model: &str) -> Vec<u8> {
        openai_chat::model_entry(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Reason,
        wire::tap::{Seen, Shape},
    };

    #[test]
    fn a_failed_stream_goes_on_counting_and_names_the_response_that_began() {
        let seen =
            Seen { events: 3, id: Some("resp_1".into()), model: Some("m".into()), created: Some(7), ..Seen::default() };
        let bytes =
            OpenaiResponses.stream_error(&Rejection::new(Reason::LimitReached, "slow down"), "r", &seen, Shape::Sse);
        let text = String::from_utf8(bytes).unwrap();
        let (error, failed) = text.split_once("\n\n").unwrap();
        assert_eq!(
            error,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"slow down\",\"param\":null,\"sequence_number\":3}"
        );
        assert!(
            failed.starts_with("event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":4,"),
            "{failed}"
        );
        assert!(failed.contains(r#""id":"resp_1","object":"response","created_at":7,"status":"failed""#), "{failed}");
        assert!(failed.ends_with("}\n\n"));
    }
}
