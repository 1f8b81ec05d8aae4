//! Anthropic.

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
    fn error_body(&self, _: &Rejection, _: &str) -> Vec<u8> {
        unimplemented!()
    }
    fn stream_error(&self, _: &Rejection, _: &str, _: &tap::Seen, _: tap::Shape) -> Vec<u8> {
        unimplemented!()
    }
    fn ping(&self, _: tap::Shape) -> &'static [u8] {
        unimplemented!()
    }
    fn read_event(&self, _: &[u8], _: &[u8], _: &mut tap::Seen) {
        unimplemented!()
    }
    fn read_reply(&self, _: &[u8], _: &mut tap::Seen) {
        unimplemented!()
    }
    fn model_list(&self, _: &[&str]) -> Vec<u8> {
        unimplemented!()
    }
    fn model_entry(&self, _: &str) -> Vec<u8> {
        unimplemented!()
    }
}
