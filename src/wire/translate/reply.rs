//! Translates one reply, event by event.

use super::{
    Context,
    choices::Choices,
    guard::{Guard, Outlet},
    translation,
};
use crate::wire::{
    WireFormat,
    frames::{ArrayReader, EventTooLarge, SseReader},
    loss::Losses,
    reply::{Event, ReplyDecoder, ReplyError, Sink},
    tap::Shape,
    usage::Usage,
};
use std::sync::Arc;

/// Translates one reply, streamed or whole on either side.
pub struct ReplyTranslator {
    input: Input,
    decoder: Box<dyn ReplyDecoder>,
    guard: Guard,
    /// Several answers, which are translated each for itself.
    choices: Option<Box<Choices>>,
}

impl std::fmt::Debug for ReplyTranslator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyTranslator").field("losses", &self.guard.exit.losses).finish_non_exhaustive()
    }
}

/// How the upstream answers, and what of it is not yet whole.
pub(super) enum Input {
    Whole(Vec<u8>),
    Sse(SseReader),
    Array(ArrayReader),
}

impl Input {
    pub(super) fn of(shape: Shape) -> Input {
        match shape {
            Shape::Json | Shape::Opaque => Input::Whole(Vec::new()),
            Shape::Sse => Input::Sse(SseReader::default()),
            Shape::JsonArray => Input::Array(ArrayReader::default()),
        }
    }
}

/// The most bytes of output memory that are kept from one piece of a stream to the next.
const MAX_IDLE_BYTES: usize = 64 << 10;

/// The most bytes of a whole reply.
pub(super) const MAX_WHOLE_BYTES: usize = 128 << 20;

impl ReplyTranslator {
    /// A translator for the reply of one request. `shape_in` is how the upstream answers, `shape_out` what the client
    /// waits for; `Opaque` is not translated and counts as `Json`.
    pub fn new(from: WireFormat, to: WireFormat, shapes: (Shape, Shape), context: Context) -> Option<Self> {
        let (source, target) = (translation(from)?, translation(to)?);
        let choices =
            if context.choices > 1 { Some(Box::new(Choices::new(from, to, shapes, &context)?)) } else { None };
        let context = Arc::new(context);
        let input = Input::of(shapes.0);
        let outlet = match shapes.1 {
            Shape::Json | Shape::Opaque => Outlet::Whole(Box::default()),
            Shape::Sse => Outlet::Stream(target.stream_encoder(&context, false)),
            Shape::JsonArray => Outlet::Stream(target.stream_encoder(&context, true)),
        };
        let guard = Guard::new((from, target), outlet, &context);
        Some(ReplyTranslator { input, decoder: source.reply_decoder(&context), guard, choices })
    }

    /// Takes the next bytes of the upstream and returns what the client is to get for them. The same memory is written
    /// anew by the next call.
    pub fn feed(&mut self, bytes: &[u8]) -> &[u8] {
        if let Some(choices) = &mut self.choices {
            return choices.feed(bytes);
        }
        let (decoder, guard) = (&mut self.decoder, &mut self.guard);
        guard.exit.out.clear();
        guard.exit.out.shrink_to(MAX_IDLE_BYTES);
        if guard.exit.ended {
            return &[];
        }
        let mut each = |name: &[u8], data: &[u8]| decoder.event(name, data, guard);
        let result = match &mut self.input {
            Input::Whole(body) => {
                body.extend_from_slice(bytes);
                if body.len() > MAX_WHOLE_BYTES { Err(EventTooLarge) } else { Ok(()) }
            }
            Input::Sse(reader) => reader.feed(bytes, &mut each),
            Input::Array(reader) => reader.feed(bytes, &mut each),
        };
        if let Err(EventTooLarge) = result {
            self.guard.too_large();
        }
        &self.guard.exit.out
    }

    /// The same for one event of a stream that tells nothing but more text, in the very words of an earlier one; `None` for
    /// any other bytes, which are not taken.
    pub fn more(&mut self, event: &[u8]) -> Option<&[u8]> {
        let Input::Sse(reader) = &self.input else { return None };
        if self.choices.is_some() || self.guard.exit.ended || !reader.is_between() {
            return None;
        }
        let data = event.strip_prefix(b"data: ")?.strip_suffix(b"\n\n")?;
        self.guard.exit.out.clear();
        self.decoder.more(data, &mut self.guard).then_some(&self.guard.exit.out)
    }

    /// The upstream ended: returns the rest. A reply without its end gets the client format's error.
    pub fn finish(&mut self) -> Vec<u8> {
        if let Some(choices) = &mut self.choices {
            return choices.finish();
        }
        let (decoder, guard) = (&mut self.decoder, &mut self.guard);
        guard.exit.out.clear();
        let mut each = |name: &[u8], data: &[u8]| decoder.event(name, data, guard);
        match &mut self.input {
            Input::Whole(body) => {
                let body = std::mem::take(body);
                if !guard.exit.document(&body) {
                    decoder.whole(&body, guard);
                }
            }
            Input::Sse(reader) => {
                reader.finish(&mut each);
                decoder.finish(guard);
            }
            Input::Array(reader) => {
                if !reader.is_open() {
                    decoder.finish(guard);
                }
            }
        }
        if !self.guard.exit.ended {
            self.guard.close();
        }
        std::mem::take(&mut self.guard.exit.out)
    }

    /// The upstream broke off: returns the client format's error for it, unless the reply had already ended.
    pub fn fail(&mut self, error: ReplyError) -> Vec<u8> {
        if let Some(choices) = &mut self.choices {
            return choices.fail(error);
        }
        self.guard.exit.out.clear();
        self.guard.event(Event::Error(error));
        std::mem::take(&mut self.guard.exit.out)
    }

    /// What of the reply did not get through.
    pub fn losses(&self) -> &Losses {
        self.choices.as_ref().map_or(&self.guard.exit.losses, |choices| choices.losses())
    }

    /// The counts that the upstream reported so far.
    pub fn usage(&self) -> &Usage {
        self.choices.as_ref().and_then(|choices| choices.usage()).unwrap_or(&self.guard.exit.usage)
    }

    /// The error with which the reply ended.
    pub fn error(&self) -> Option<&ReplyError> {
        self.choices.as_ref().map_or(self.guard.exit.error.as_ref(), |choices| choices.error())
    }

    /// The HTTP status for a whole reply that ended with an error.
    pub fn error_status(&self) -> Option<u16> {
        let error = self.error()?;
        Some(self.guard.exit.target.error_reply(error, &self.guard.exit.context.request_id).0)
    }

    /// Whether the reply has come to its end, so that nothing more will come out.
    pub fn is_ended(&self) -> bool {
        self.choices.as_ref().map_or(self.guard.exit.ended, |choices| choices.ended)
    }

    /// How it is fed.
    pub(super) fn input_shape(&self) -> Shape {
        match self.input {
            Input::Whole(_) => Shape::Json,
            Input::Sse(_) => Shape::Sse,
            Input::Array(_) => Shape::JsonArray,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FORMATS, tap::Tap};
    use bytes::Bytes;
    use proptest::prelude::*;

    /// A chunk of a chat stream: mostly more text, at times anything else.
    fn chunk(kind: usize, text: &str, pad: usize) -> String {
        let (text, pad) = (serde_json::to_string(text).unwrap(), "x".repeat(pad));
        let delta = |delta: &str, rest: &str| {
            format!("{{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]{rest}}}")
        };
        let padding = format!(",\"obfuscation\":\"{pad}\"");
        match kind {
            0 => delta(&format!("\"content\":{text}"), ""),
            1 => delta(&format!("\"reasoning_content\":{text}"), ""),
            2 => delta(
                "\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]",
                "",
            ),
            3 => delta(&format!("\"content\":{text}"), ",\"object\":\"error\",\"message\":\"m\""),
            4 => delta("", ",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}"),
            5 => "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}".to_owned(),
            6 => "{\"error\":{\"message\":\"busy\"}}".to_owned(),
            7 => "[DONE]".to_owned(),
            8 => delta(&format!("\"content\":{text}"), ",\n\"late\":1"),
            _ => delta(&format!("\"content\":{text}"), &padding),
        }
    }

    fn parts(to: WireFormat) -> (Tap, ReplyTranslator) {
        let context = Context { model: "m".to_owned(), stream_usage: true, ..Context::default() };
        let shapes = (Shape::Sse, Shape::Sse);
        let translator = ReplyTranslator::new(WireFormat::OpenaiChat, to, shapes, context).unwrap();
        (Tap::new(WireFormat::OpenaiChat, Shape::Sse, 1 << 20), translator)
    }

    proptest! {
        #[test]
        fn what_is_taken_the_short_way_says_the_same_and_is_only_more_of_the_answer(
            to in 0usize..4,
            chunks in prop::collection::vec((0usize..60, "[ab \u{e9}\n\"\\\\\u{2028}\u{1}]{0,12}", 0usize..9, any::<bool>()), 0..24),
        ) {
            let ((mut tap, mut translator), (mut full_tap, mut full)) = (parts(FORMATS[to].id()), parts(FORMATS[to].id()));
            let mut piece = String::new();
            for (kind, text, pad, ends) in chunks {
                piece += &format!("data: {}\n\n", chunk(kind, &text, pad));
                if !ends {
                    continue;
                }
                let wanted = full.feed(&full_tap.feed(Bytes::from(piece.clone()))).to_vec();
                let short = if tap.is_amid() { translator.more(piece.as_bytes()).map(<[u8]>::to_vec) } else { None };
                if short.is_some() {
                    tap.count(piece.as_ref());
                }
                let said = short.unwrap_or_else(|| translator.feed(&tap.feed(Bytes::from(piece.clone()))).to_vec());
                prop_assert_eq!(String::from_utf8(said).unwrap(), String::from_utf8(wanted).unwrap());
                prop_assert_eq!(&tap.seen, &full_tap.seen);
                piece.clear();
            }
            prop_assert_eq!(translator.finish(), full.finish());
            prop_assert_eq!(translator.losses(), full.losses());
        }
    }

    #[test]
    fn most_of_a_stream_is_taken_the_short_way() {
        let (mut tap, mut translator) = parts(WireFormat::Anthropic);
        let mut short = 0;
        for n in 0..50 {
            let piece = format!("data: {}\n\n", chunk(9, "a word", n % 5));
            if tap.is_amid() && translator.more(piece.as_bytes()).is_some() {
                short += 1;
                tap.count(piece.as_ref());
            } else {
                translator.feed(&tap.feed(Bytes::from(piece)));
            }
        }
        assert_eq!((short, tap.seen.events), (48, 50));
        assert!(translator.more(b"data: {}").is_none());
    }
}
