//! Anthropic Messages.

mod error;
mod models;
mod read;
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
