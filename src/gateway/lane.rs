//! The translate lane of one attempt: the account speaks another wire format than the caller.
//!
//! The reply is judged in the upstream's own format first (`reply`); what may go on is translated here, whole events only.
//! Invariant: what the client gets is in its own format from the first byte to the last, errors and ends included.

use super::exchange::Answer;
use crate::wire::{
    WireFormat,
    loss::Losses,
    reply::{ErrorKind, ReplyError},
    tap::Shape,
    translate::{Context, Options, ReplyTranslator, context_of, render_error, translate_error},
};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// An upstream's error reply in this format; a body that is no JSON is taken as its message.
pub(super) fn in_format(client: WireFormat, answer: &Answer, request_id: &str) -> Answer {
    let error = translate_error(client, answer.status, &answer.body, request_id);
    json(error.status, error.body.into())
}

/// A JSON answer.
pub(super) fn json(status: u16, body: Bytes) -> Answer {
    Answer { status, content_type: Some(HeaderValue::from_static("application/json")), body }
}

/// The content type of an answer in this layout.
pub(super) fn content_type(shape: Shape) -> HeaderValue {
    HeaderValue::from_static(match shape {
        Shape::Sse => "text/event-stream",
        Shape::Json | Shape::JsonArray | Shape::Opaque => "application/json",
    })
}

/// So much memory is taken at once for what goes to the client.
const ROOM_BYTES: usize = 4096;

/// The translation of one attempt.
pub(super) struct Translation {
    /// The upstream's format.
    pub upstream: WireFormat,
    /// The caller's format.
    client: WireFormat,
    /// The layout that the caller waits for.
    pub shape: Shape,
    /// What of the request did not get through as it was.
    pub losses: Losses,
    context: Option<Context>,
    translator: Option<ReplyTranslator>,
    /// Where what goes to the client is put, so that a short piece needs no memory of its own.
    room: BytesMut,
}

impl Translation {
    /// A translation whose request has been made.
    pub(super) fn new(
        formats: (WireFormat, WireFormat),
        shape: Shape,
        losses: Losses,
        context: Context,
    ) -> Translation {
        let (upstream, client) = formats;
        Translation { upstream, client, shape, losses, context: Some(context), translator: None, room: BytesMut::new() }
    }

    /// For an answer in the caller's own format, but in another layout than was asked for: a stream for a whole reply, or
    /// the other way round. `naming` is the request's id and the time, for what the upstream does not name.
    pub(super) fn reshaping(format: WireFormat, shape: Shape, request: &[u8], naming: (&str, u64)) -> Translation {
        let options = Options { request_id: naming.0, now: naming.1, ..Options::default() };
        let context = context_of(format, request, &options);
        Translation::new((format, format), shape, Losses::default(), context)
    }

    /// Whether only the layout changes.
    pub(super) fn is_only_reshaping(&self) -> bool {
        self.upstream == self.client
    }

    /// The status and the body of the error with which the answer ended, where that was one.
    pub(super) fn error(&self, request_id: &str) -> Option<(u16, Vec<u8>)> {
        let error = self.translator.as_ref()?.error()?;
        Some(render_error(self.client, error, request_id))
    }

    /// The client's bytes for the upstream's. `shape` is how the upstream answers, known with its first bytes.
    pub(super) fn feed(&mut self, bytes: &Bytes, shape: Shape) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        let mut room = std::mem::take(&mut self.room);
        if room.capacity() == 0 {
            room = BytesMut::with_capacity(ROOM_BYTES);
        }
        if let Some(translator) = self.translator(shape) {
            room.extend_from_slice(translator.feed(bytes));
        }
        let said = room.split().freeze();
        self.room = room;
        said
    }

    /// The same for a piece that is one event and tells nothing but more text; `None` for any other, which is not taken.
    pub(super) fn more(&mut self, event: &[u8]) -> Option<Bytes> {
        let said = self.translator.as_mut()?.more(event)?;
        if self.room.capacity() == 0 {
            self.room = BytesMut::with_capacity(ROOM_BYTES);
        }
        self.room.extend_from_slice(said);
        Some(self.room.split().freeze())
    }

    /// The upstream ended: the rest of the client's bytes.
    pub(super) fn finish(&mut self, shape: Shape) -> Bytes {
        self.translator(shape).map(|translator| translator.finish().into()).unwrap_or_default()
    }

    /// The upstream broke off: the client format's own error.
    pub(super) fn fail(&mut self, message: &str) -> Bytes {
        let error = ReplyError::new(ErrorKind::Server, message);
        self.translator.as_mut().map(|translator| translator.fail(error).into()).unwrap_or_default()
    }

    /// An upstream's error reply in the client's format.
    pub(super) fn answer(&self, answer: &Answer, request_id: &str) -> Answer {
        in_format(self.client, answer, request_id)
    }

    /// The formats that a reply goes from and to, and what of it did not get through.
    pub(super) fn reply_losses(&self) -> Option<((WireFormat, WireFormat), &Losses)> {
        Some(((self.upstream, self.client), self.translator.as_ref()?.losses()))
    }

    /// All that was lost so far, in the request and in the reply.
    pub(super) fn all_losses(&self) -> Losses {
        let mut all = self.losses.clone();
        if let Some(translator) = &self.translator {
            all.extend(translator.losses());
        }
        all
    }

    fn translator(&mut self, shape: Shape) -> Option<&mut ReplyTranslator> {
        if let Some(context) = self.context.take() {
            self.translator = ReplyTranslator::new(self.upstream, self.client, (shape, self.shape), context);
        }
        self.translator.as_mut()
    }
}
