//! What a Messages reply says.

use super::usage::UsageObject;
use crate::wire::{
    lenient::{self, Filled, Maybe, Word, facts},
    tap::Seen,
    telltale::{Key, key},
    upstream_error,
};

static ERROR: Key = key!("error");
static USAGE: Key = key!("usage");
static MODEL: Key = key!("model");
static TYPE: Key = key!("type");
static STOP: Key = key!("stop_reason");

facts! {
    /// One stream event.
    struct Event<'a> {
        b"type" => kind: Word<'a>,
        b"message" => message: Maybe<Message<'a>>,
        b"content_block" => content_block: Maybe<Block<'a>>,
        b"delta" => delta: Maybe<Delta<'a>>,
        b"usage" => usage: Maybe<UsageObject>,
    }
}

facts! {
    /// The message: a whole reply, or the start of a stream.
    struct Message<'a> {
        b"id" => id: Word<'a>,
        b"model" => model: Word<'a>,
        b"type" => kind: Word<'a>,
        b"stop_reason" => stop_reason: Word<'a>,
        b"content" => content: Filled,
        b"usage" => usage: Maybe<UsageObject>,
        b"error" => error: Filled,
        b"detail" => detail: Filled,
        b"message" => message: Filled,
    }
}

facts! {
    struct Block<'a> {
        b"type" => kind: Word<'a>,
        b"text" => text: Filled,
        b"thinking" => thinking: Filled,
    }
}

facts! {
    struct Delta<'a> {
        b"text" => text: Filled,
        b"partial_json" => partial_json: Filled,
        b"thinking" => thinking: Filled,
        b"signature" => signature: Filled,
        b"citation" => citation: Filled,
        b"content" => content: Filled,
        b"stop_reason" => stop_reason: Word<'a>,
    }
}

impl Message<'_> {
    fn identify(&self, seen: &mut Seen) {
        seen.id = seen.id.take().or_else(|| self.id.owned());
        seen.model = seen.model.take().or_else(|| self.model.owned());
        if let Some(usage) = &self.usage.0 {
            usage.apply(&mut seen.usage);
        }
        seen.content |= self.content.0;
        if let Some(reason) = self.stop_reason.as_str() {
            seen.finish_with(reason);
        }
    }

    fn is_error(&self) -> bool {
        let complains = self.error.0 || self.detail.0 || self.message.0;
        self.kind.as_str() == Some("error") || (complains && !self.content.0)
    }
}

impl Block<'_> {
    /// Text and thinking begin empty and fill later; any other block is content by itself.
    fn has_content(&self) -> bool {
        match self.kind.as_str() {
            Some("text" | "thinking") => self.text.0 || self.thinking.0,
            Some(_) => true,
            None => false,
        }
    }
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        [self.text, self.partial_json, self.thinking, self.signature, self.citation, self.content].iter().any(|p| p.0)
    }
}

/// Reads one stream event.
pub(super) fn event(name: &[u8], data: &[u8], seen: &mut Seen) {
    if upstream_error::is_event(name, data) {
        return seen.fail(|| upstream_error::read(data));
    }
    let Ok(Some(event)) = lenient::object::<Event<'_>>(data) else { return };
    let kind = event.kind.as_str().or_else(|| std::str::from_utf8(name).ok()).unwrap_or_default();
    match kind {
        "message_start" => {
            if let Some(message) = &event.message.0 {
                message.identify(seen);
            }
        }
        "content_block_start" => seen.content |= event.content_block.0.is_some_and(|block| block.has_content()),
        "content_block_delta" => seen.content |= event.delta.0.is_some_and(|delta| delta.has_content()),
        "message_delta" => {
            if let Some(usage) = &event.usage.0 {
                usage.apply(&mut seen.usage);
            }
            if let Some(reason) = event.delta.0.as_ref().and_then(|delta| delta.stop_reason.as_str()) {
                seen.finish_with(reason);
            }
        }
        "message_stop" => seen.end(),
        "error" => seen.fail(|| upstream_error::read(data)),
        "message" | "" => whole(data, seen),
        _ => {}
    }
}

/// Reads what came as one event although it is a whole reply (or an error without a type).
fn whole(data: &[u8], seen: &mut Seen) {
    let Ok(Some(message)) = lenient::object::<Message<'_>>(data) else { return };
    if message.is_error() {
        return seen.fail(|| upstream_error::read(data));
    }
    if message.kind.as_str() == Some("message") {
        message.identify(seen);
        seen.end();
    }
}

/// Whether an event only adds to an answer that has begun. Told by its name, or by the first type in its data.
pub(super) fn only_adds(name: &[u8], data: &[u8]) -> bool {
    let is_delta = match name {
        b"" => TYPE.first_text(data) == Some("content_block_delta"),
        name => name == b"content_block_delta",
    };
    is_delta && !ERROR.is_said(data)
}

/// Reads a whole reply.
pub(super) fn reply(body: &[u8], seen: &mut Seen) {
    let message = match lenient::object::<Message<'_>>(body) {
        Ok(Some(message)) => message,
        Ok(None) => return seen.fail(|| upstream_error::read(body)),
        Err(fault) => {
            seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
            return;
        }
    };
    if message.is_error() {
        return seen.fail(|| upstream_error::read(body));
    }
    message.identify(seen);
    seen.end();
}

/// Reads an event or reply of which only the ends were kept. Only content is ever that long.
pub(super) fn clipped(head: &[u8], tail: &[u8], seen: &mut Seen) {
    seen.content = true;
    seen.model = seen.model.take().or_else(|| MODEL.first_text(head).map(str::to_owned));
    if let Some(usage) = USAGE.last_object(tail).and_then(|json| serde_json::from_slice::<UsageObject>(json).ok()) {
        usage.apply(&mut seen.usage);
    }
    if let Some(reason) = STOP.last_text(head).or_else(|| STOP.last_text(tail)) {
        seen.finish_with(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tap::{Shape, Tap};
    use crate::wire::{damaged, in_place};
    use bytes::Bytes;

    /// What was seen after each event.
    fn stream(events: &[&str]) -> Vec<Seen> {
        let mut tap = Tap::new(crate::wire::WireFormat::Anthropic, Shape::Sse, 10_000);
        events
            .iter()
            .map(|event| {
                tap.feed(Bytes::from(format!("data: {event}\n\n")));
                tap.seen.clone()
            })
            .collect()
    }

    #[test]
    fn recorded_and_damaged_replies_are_read_as_serde_reads_them() {
        damaged::each_reply(|json| in_place::agree::<Message<'_>>(json));
    }

    fn whole(body: &str) -> Seen {
        let mut seen = Seen::default();
        reply(body.as_bytes(), &mut seen);
        seen
    }

    const START: &str = r#"{"type":"message_start","message":{"id":"i","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":25,"output_tokens":1}}}"#;
    const TEXT: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#;

    #[test]
    fn the_preamble_is_no_content() {
        let seen = stream(&[
            START,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#,
            r#"{"type":"something_new","text":"x"}"#,
        ]);
        assert!(seen.iter().all(|s| !s.content && !s.terminal && s.error.is_none()));
        assert_eq!((seen[0].usage.input, seen[0].model.as_deref(), seen[5].events), (Some(25), Some("m"), 6));
    }

    #[test]
    fn deltas_and_calls_are_content() {
        for event in [
            TEXT,
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"x"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"Eq"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"citations_delta","citation":{"a":1}}}"#,
            r#"{"type":"message_start","message":{"content":[{"type":"tool_use"}],"stop_reason":"tool_use"}}"#,
        ] {
            assert!(stream(&[event])[0].content, "{event}");
        }
    }

    #[test]
    fn the_end_brings_the_reason_and_replaces_the_usage() {
        let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":25,"output_tokens":15}}"#;
        let seen = stream(&[START, TEXT, delta, r#"{"type":"message_stop"}"#]);
        assert!(!seen[2].terminal && seen[3].terminal);
        assert_eq!(
            (seen[3].finish.as_deref(), seen[3].usage.input, seen[3].usage.output),
            (Some("end_turn"), Some(25), Some(15))
        );
    }

    #[test]
    fn the_empty_answer_is_an_answer() {
        assert!(stream(&[START, r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#])[1].content);
        assert!(stream(&[START, r#"{"type":"message_stop"}"#])[1].content);
    }

    #[test]
    fn an_error_is_seen_early_and_late() {
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let early = stream(&[START, error]).pop().unwrap();
        assert!(!early.content && early.terminal);
        assert_eq!(early.error.unwrap().status, Some(529));
        assert!(stream(&[START, TEXT, error]).pop().unwrap().error.is_some());
        let mut misnamed = Seen { content: true, ..Seen::default() };
        event(b"content_block_delta", error.as_bytes(), &mut misnamed);
        assert!(misnamed.error.is_some());
    }

    #[test]
    fn names_are_read_from_either_place() {
        let mut seen = Seen::default();
        event(b"content_block_delta", br#"{"delta":{"text":"x"}}"#, &mut seen);
        event(b"message_stop", b"{}", &mut seen);
        assert!(seen.content && seen.terminal);
    }

    #[test]
    fn whole_replies_are_answers_or_errors() {
        let done = whole(
            r#"{"id":"i","type":"message","model":"m","content":[],"stop_reason":"refusal","usage":{"input_tokens":2,"output_tokens":1}}"#,
        );
        assert!(done.content && done.terminal);
        assert_eq!((done.finish.as_deref(), done.usage.output), (Some("refusal"), Some(1)));
        let counted = whole(r#"{"input_tokens":1581}"#);
        assert!(counted.usage.is_empty() && counted.content);
        for body in [
            r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#,
            r#"{"message":"forbidden"}"#,
            "upstream reset",
        ] {
            let seen = whole(body);
            assert!(seen.error.is_some() && !seen.content, "{body}");
        }
    }

    #[test]
    fn a_whole_reply_in_place_of_a_stream_is_read() {
        let seen = stream(&[
            r#"{"type":"message","model":"m","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":{"input_tokens":2}}"#,
        ]);
        assert!(seen[0].content && seen[0].terminal && seen[0].usage.input == Some(2));
    }
}
