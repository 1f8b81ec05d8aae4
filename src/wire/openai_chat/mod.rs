//! OpenAI Chat Completions, and the calls around it that share its errors and model lists.

mod error;
pub(crate) mod failure;
mod models;
mod read;
mod reply_decode;
mod reply_encode;
mod reply_shape;
mod request_decode;
mod request_encode;
mod translation;
mod usage;

use super::{Format, WireFormat, tap};
use crate::error::Rejection;
pub(crate) use error::{body as error_body, names as error_names};
pub(crate) use models::{list as model_list, one as model_entry};
pub(crate) use read::last_usage;
pub(crate) use request_decode::word_choice;
pub(crate) use request_encode::{decode_text, keeps_strict, put_tier, put_user_id};
pub(crate) use usage::UsageObject;

/// The format's behaviour.
#[derive(Debug)]
pub struct OpenaiChat;

impl Format for OpenaiChat {
    fn id(&self) -> WireFormat {
        WireFormat::OpenaiChat
    }
    fn name(&self) -> &'static str {
        "openai_chat"
    }
    fn error_body(&self, rejection: &Rejection, _: &str) -> Vec<u8> {
        error_body(rejection)
    }
    fn stream_error(&self, rejection: &Rejection, _: &str, _: &tap::Seen, shape: tap::Shape) -> Vec<u8> {
        match shape {
            tap::Shape::Sse => {
                // SDKs raise at the error; `[DONE]` behind it ends the wait of clients that only know that.
                [b"data: ", error_body(rejection).as_slice(), b"\n\ndata: [DONE]\n\n"].concat()
            }
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
    fn read_clipped(&self, _: &[u8], head: &[u8], tail: &[u8], seen: &mut tap::Seen) {
        read::clipped(head, tail, seen);
    }
    fn model_list(&self, models: &[&str]) -> Vec<u8> {
        model_list(models)
    }
    fn model_entry(&self, model: &str) -> Vec<u8> {
        model_entry(model)
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
    fn an_error_has_all_four_fields_and_escapes_what_it_quotes() {
        let rejection = Rejection::new(Reason::UnknownModel, "no model \"x\u{2028}y\"").at("model");
        assert_eq!(
            text(OpenaiChat.error_body(&rejection, "r")),
            r#"{"error":{"message":"no model \"x\u2028y\"","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
        );
        let plain = text(OpenaiChat.error_body(&Rejection::new(Reason::UnknownKey, "m"), "r"));
        assert!(plain.contains(r#""param":null,"code":"invalid_api_key""#), "{plain}");
    }

    #[test]
    fn our_own_error_event_is_read_as_an_error_by_our_own_tap() {
        for format in crate::wire::FORMATS {
            let rejection = Rejection::new(Reason::UpstreamFailed, "it broke");
            let bytes = format.stream_error(&rejection, "r", &Seen::default(), Shape::Sse);
            let mut tap = tap::Tap::new(format.id(), Shape::Sse, 10_000);
            assert_eq!(tap.feed(bytes.clone().into()), bytes, "{}", format.name());
            let error = tap.seen.error.unwrap();
            assert!(error.message == "it broke" && tap.seen.terminal && !tap.seen.content, "{}", format.name());
            let mut whole = Seen::default();
            format.read_reply(&format.error_body(&rejection, "r"), &mut whole);
            assert_eq!(whole.error.unwrap().message, "it broke", "{}", format.name());
        }
    }

    #[test]
    fn our_own_pings_are_neither_content_nor_an_end() {
        for format in crate::wire::FORMATS {
            for shape in [Shape::Sse, Shape::JsonArray] {
                let mut tap = tap::Tap::new(format.id(), shape, 10_000);
                tap.feed(bytes::Bytes::from_static(format.ping(shape)));
                assert!(!tap.seen.content && !tap.seen.terminal && tap.at_boundary(), "{}", format.name());
            }
            assert!(format.ping(Shape::Json).is_empty() && format.ping(Shape::Opaque).is_empty());
        }
    }

    #[test]
    fn a_stream_error_is_followed_by_the_formats_own_end() {
        let rejection = Rejection::new(Reason::UpstreamSilent, "m");
        let bytes = text(OpenaiChat.stream_error(&rejection, "r", &Seen::default(), Shape::Sse));
        assert!(bytes.starts_with("data: {\"error\":") && bytes.ends_with("}\n\ndata: [DONE]\n\n"), "{bytes}");
        assert!(OpenaiChat.stream_error(&rejection, "r", &Seen::default(), Shape::Json).is_empty());
    }

    #[test]
    fn models_are_listed_by_id() {
        assert_eq!(
            text(OpenaiChat.model_list(&["a", "b\"c"])),
            r#"{"object":"list","data":[{"id":"a","object":"model","created":0,"owned_by":"sub2api"},{"id":"b\"c","object":"model","created":0,"owned_by":"sub2api"}]}"#
        );
        assert!(text(OpenaiChat.model_entry("a")).starts_with(r#"{"id":"a","object":"model""#));
    }
}
