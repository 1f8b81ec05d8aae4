//! OpenAI Chat Completions, and the calls around it that share its errors and model lists.

mod error;
mod models;
mod read;
mod usage;

use super::{Format, WireFormat, tap};
use crate::error::Rejection;
pub(crate) use error::{body as error_body, names as error_names};
pub(crate) use models::{list as model_list, one as model_entry};
pub(crate) use read::last_usage;
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
