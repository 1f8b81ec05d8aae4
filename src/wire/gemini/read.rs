//! What a generateContent reply says, and the replies of Google's smaller calls: embeddings, token counts.

use super::usage::UsageMetadata;
use crate::wire::{
    cursor::Cursor,
    elements::{self, Elements},
    in_place::InPlace,
    lenient::{self, Count, Filled, Many, Maybe, Word, facts},
    tap::Seen,
    telltale::{Key, Keys, key, keys},
    upstream_error,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::fmt;

static USAGE: Key = key!("usageMetadata");
static FINISH: Key = key!("finishReason");
static TELLTALES: Keys = keys!("usageMetadata", "finishReason", "error", "blockReason");
static MODEL: Key = key!("modelVersion");

facts! {
    /// One chunk of a stream, or a whole reply.
    struct Chunk<'a> {
        b"responseId" => response_id: Word<'a>,
        b"modelVersion" => model_version: Word<'a>,
        b"candidates" => candidates: Many<Candidate<'a>>,
        b"promptFeedback" => prompt_feedback: Maybe<Feedback<'a>>,
        b"usageMetadata" => usage_metadata: Maybe<UsageMetadata>,
        b"error" => error: Filled,
        b"detail" => detail: Filled,
        b"message" => message: Filled,
    }
}

facts! {
    struct Candidate<'a> {
        b"index" => index: Count,
        b"finishReason" => finish_reason: Word<'a>,
        b"content" => content: Maybe<Content>,
    }
}

facts! {
    struct Content {
        b"parts" => parts: Many<Part>,
    }
}

facts! {
    struct Feedback<'a> {
        b"blockReason" => block_reason: Word<'a>,
    }
}

/// Whether a part holds anything. Its kinds keep growing, so every field counts but the mark of a thought.
#[derive(Debug, Default)]
struct Part(bool);

impl<'json> InPlace<'json> for Part {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        json.members(|json, name| {
            let mut value = Filled::default();
            value.take(json)?;
            self.0 |= value.0 && name.as_bytes() != b"thought";
            Some(())
        })
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Part;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Part, A::Error> {
                let mut filled = false;
                while let Some((name, value)) = object.next_entry::<Word<'de>, Filled>()? {
                    filled |= value.0 && name.as_str() != Some("thought");
                }
                Ok(Part(filled))
            }
        }
        input.deserialize_map(Reader)
    }
}

impl Candidate<'_> {
    fn has_content(&self) -> bool {
        self.content.0.as_ref().is_some_and(|content| content.parts.0.iter().any(|part| part.0))
    }
}

impl Chunk<'_> {
    fn identify(&self, seen: &mut Seen) {
        seen.id = seen.id.take().or_else(|| self.response_id.owned());
        seen.model = seen.model.take().or_else(|| self.model_version.owned());
        if let Some(usage) = &self.usage_metadata.0 {
            seen.usage.update(&usage.counts());
        }
    }

    fn read_candidates(&self, seen: &mut Seen) {
        for candidate in &self.candidates.0 {
            let index = candidate.index.0.unwrap_or(0);
            seen.content |= candidate.has_content();
            match candidate.finish_reason.as_str().filter(|reason| *reason != "FINISH_REASON_UNSPECIFIED") {
                Some(reason) => {
                    seen.alternatives.finish(index);
                    seen.finish_with(reason);
                }
                None => seen.alternatives.begin(index),
            }
        }
        if !self.candidates.0.is_empty() {
            seen.terminal = seen.alternatives.are_finished();
        }
        let block = self.prompt_feedback.0.as_ref().and_then(|feedback| feedback.block_reason.as_str());
        if let Some(reason) = block.filter(|_| self.candidates.0.is_empty()) {
            seen.finish_with(reason);
            seen.end();
        }
    }
}

/// Reads one stream event: the data of a server-sent one, or an element of the array.
pub(super) fn event(data: &[u8], seen: &mut Seen) {
    let Ok(chunk) = lenient::object::<Chunk<'_>>(data) else { return };
    // A failed stream can end in the array form of an error, whatever form was asked for.
    let Some(chunk) = chunk else { return each_element(data, seen) };
    chunk.identify(seen);
    if chunk.error.0 {
        return seen.fail(|| upstream_error::read(data));
    }
    chunk.read_candidates(seen);
}

/// Whether a chunk has nothing but content.
pub(super) fn only_adds(data: &[u8]) -> bool {
    TELLTALES.said(data).next().is_none()
}

fn each_element(array: &[u8], seen: &mut Seen) {
    let (mut elements, mut rest) = (Elements::default(), array);
    while let Some(end) = elements.next(rest) {
        if let Some(data) = rest.get(..end).and_then(elements::read) {
            event(data, seen);
        }
        rest = rest.get(end..).unwrap_or_default();
    }
}

/// Reads a whole reply.
pub(super) fn reply(body: &[u8], seen: &mut Seen) {
    let chunk = match lenient::object::<Chunk<'_>>(body) {
        Ok(Some(chunk)) => chunk,
        // The array form as one document: an error reply of the streaming call, or a stream that came whole.
        Ok(None) if body.trim_ascii_start().starts_with(b"[") => {
            each_element(body, seen);
            return seen.end();
        }
        Ok(None) => return seen.fail(|| upstream_error::read(body)),
        Err(fault) => {
            seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
            return;
        }
    };
    chunk.identify(seen);
    chunk.read_candidates(seen);
    if !seen.content && (chunk.error.0 || chunk.detail.0 || chunk.message.0) {
        return seen.fail(|| upstream_error::read(body));
    }
    seen.end();
}

/// Reads a chunk or reply of which only the ends were kept: an image, mostly.
pub(super) fn clipped(tail: &[u8], seen: &mut Seen) {
    seen.content = true;
    seen.model = seen.model.take().or_else(|| MODEL.last_text(tail).map(str::to_owned));
    if let Some(usage) = USAGE.last_object(tail).and_then(|json| serde_json::from_slice::<UsageMetadata>(json).ok()) {
        seen.usage.update(&usage.counts());
    }
    if let Some(reason) = FINISH.last_text(tail) {
        seen.alternatives.finish(0);
        seen.finish_with(reason);
        seen.terminal = seen.alternatives.are_finished();
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
        let mut tap = Tap::new(crate::wire::WireFormat::Gemini, Shape::Sse, 10_000);
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
        damaged::each_reply(|json| in_place::agree::<Chunk<'_>>(json));
    }

    fn whole(body: &str) -> Seen {
        let mut seen = Seen::default();
        reply(body.as_bytes(), &mut seen);
        seen
    }

    const TEXT: &str = r#"{"candidates":[{"content":{"parts":[{"text":"x"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":3},"modelVersion":"m","responseId":"i"}"#;

    #[test]
    fn the_preamble_and_our_own_pings_are_no_content() {
        for event in [
            "{}",
            r#"{"usageMetadata":{"promptTokenCount":3}}"#,
            r#"{"candidates":[{"content":{"role":"model"}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"","thought":true}]}}]}"#,
            r#"{"candidates":[{"content":{},"finishReason":"FINISH_REASON_UNSPECIFIED"}]}"#,
        ] {
            let seen = &stream(&[event])[0];
            assert!(!seen.content && !seen.terminal, "{event}");
        }
    }

    #[test]
    fn every_kind_of_part_is_content() {
        for part in [
            r#""text":"x""#,
            r#""functionCall":{"name":"f"}"#,
            r#""text":"","thoughtSignature":"Eq""#,
            r#""inlineData":{"data":"QQ"}"#,
        ] {
            let event = format!(r#"{{"candidates":[{{"content":{{"parts":[{{{part}}}]}}}}]}}"#);
            assert!(stream(&[&event])[0].content, "{part}");
        }
    }

    #[test]
    fn the_finish_reason_ends_the_stream_and_the_last_usage_wins() {
        let middle = r#"{"candidates":[{"content":{"parts":[{"text":"y"}]}}]}"#;
        let end = r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"thoughtsTokenCount":5}}"#;
        let seen = stream(&[TEXT, middle, end]);
        assert!(!seen[1].terminal && seen[2].terminal);
        assert_eq!(
            (seen[2].finish.as_deref(), seen[2].model.as_deref(), seen[2].id.as_deref()),
            (Some("STOP"), Some("m"), Some("i"))
        );
        assert_eq!((seen[2].usage.input, seen[2].usage.output), (Some(3), Some(7)));
    }

    #[test]
    fn the_stream_ends_when_every_candidate_has_finished() {
        let event = |index: u8, finish: &str| {
            format!(r#"{{"candidates":[{{"index":{index},"content":{{"parts":[{{"text":"x"}}]}}{finish}}}]}}"#)
        };
        let end = r#","finishReason":"STOP""#;
        let events = [event(0, ""), event(1, ""), event(0, end), event(1, ""), event(1, end)];
        assert!(stream(&events.each_ref().map(String::as_str)).last().unwrap().terminal);
    }

    #[test]
    fn a_blocked_prompt_is_an_answer() {
        let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}"#;
        for seen in [stream(&[blocked]).pop().unwrap(), whole(blocked)] {
            assert!(seen.content && seen.terminal && seen.error.is_none());
            assert_eq!(seen.finish.as_deref(), Some("SAFETY"));
        }
    }

    #[test]
    fn errors_are_seen_as_an_event_as_bare_json_and_as_a_list() {
        let error = r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#;
        for text in
            [format!("data: {error}\r\n\r\n"), error.to_owned(), format!("data: [{error}]\n\n"), format!("[{error}]")]
        {
            let mut tap = Tap::new(crate::wire::WireFormat::Gemini, Shape::Sse, 10_000);
            tap.feed(Bytes::from(format!("data: {TEXT}\r\n\r\n")));
            tap.feed(Bytes::from(text.clone()));
            tap.finish();
            assert_eq!(tap.seen.error.as_ref().and_then(|e| e.status), Some(503), "{text}");
        }
        for body in [error.to_owned(), format!("[{error}]")] {
            let seen = whole(&body);
            assert!(seen.error.is_some_and(|e| e.code == "UNAVAILABLE") && !seen.content);
        }
    }

    #[test]
    fn words_in_the_text_and_in_arguments_are_not_taken_for_facts() {
        let talk = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"error":{"code":500},"finishReason":"STOP","usageMetadata":{"promptTokenCount":99}}}}]}}]}"#;
        let seen = stream(&[TEXT, talk]).pop().unwrap();
        assert!(seen.error.is_none() && !seen.terminal && seen.usage.input == Some(3));
    }

    #[test]
    fn whole_replies_of_the_smaller_calls_are_answers() {
        for body in [
            r#"{"totalTokens":7}"#,
            r#"{"embedding":{"values":[0.1]}}"#,
            r#"{"embeddings":[],"usageMetadata":{"promptTokenCount":4}}"#,
        ] {
            let seen = whole(body);
            assert!(seen.content && seen.terminal && seen.error.is_none(), "{body}");
        }
        let array = whole(&format!("[{TEXT},\n{{\"candidates\":[{{\"finishReason\":\"STOP\"}}]}}]"));
        assert!(array.content && array.terminal && array.usage.input == Some(3));
    }
}
