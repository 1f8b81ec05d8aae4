//! Anthropic Messages in the translate lane.

use super::{Anthropic, failure, reply_decode, reply_encode, request_decode, request_encode};
use crate::wire::{
    WireFormat,
    collect::Collected,
    loss::Refusal,
    reply::{ReplyDecoder, ReplyEncoder, ReplyError},
    request::Request,
    translate::{Context, Job, Options, Translate},
};
use std::sync::Arc;

impl Translate for Anthropic {
    fn id(&self) -> WireFormat {
        WireFormat::Anthropic
    }
    fn decode_request<'a>(&self, body: &'a [u8], job: &mut Job) -> Result<Request<'a>, Refusal> {
        request_decode::decode(body, job)
    }
    fn encode_request(&self, request: Request<'_>, options: &Options<'_>, job: &mut Job) -> Result<Vec<u8>, Refusal> {
        request_encode::encode(request, options, job)
    }
    fn knows_free_text(&self, _context: &Context) -> bool {
        false
    }
    fn reply_decoder(&self, context: &Arc<Context>) -> Box<dyn ReplyDecoder> {
        Box::new(reply_decode::Decoder::new(context))
    }
    fn stream_encoder(&self, context: &Arc<Context>, _array: bool) -> Box<dyn ReplyEncoder> {
        Box::new(reply_encode::Encoder::new(context))
    }
    fn whole_reply(&self, reply: &Collected, context: &Context) -> Vec<u8> {
        reply_encode::whole(reply, context)
    }
    fn error_reply(&self, error: &ReplyError, request_id: &str) -> (u16, Vec<u8>) {
        (failure::status(error.kind), failure::body(error, request_id))
    }
}
