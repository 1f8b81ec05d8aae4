//! What a Chat Completions reply says, and the replies of OpenAI's smaller calls: completions, embeddings, images,
//! audio, moderations, rerank.

use super::usage::UsageObject;
use crate::wire::{
    Usage,
    lenient::{self, Count, Filled, Many, Maybe, Word, facts},
    tap::Seen,
    telltale::{Key, Keys, key, keys},
    upstream_error,
};

static USAGE: Key = key!("usage");
static FINISH: Key = key!("finish_reason");
static MODEL: Key = key!("model");
static TYPE: Key = key!("type");
static TELLTALES: Keys = keys!("choices", "finish_reason", "usage", "error");
/// The place of `choices` among them.
const CHOICES: usize = 0;

facts! {
    /// One chunk of a stream, or a whole reply: the facts in both stand at the same places.
    struct Chunk<'a> {
        b"id" => id: Word<'a>,
        b"model" => model: Word<'a>,
        b"created" => created: Count,
        b"type" => kind: Word<'a>,
        b"object" => object: Word<'a>,
        b"choices" => choices: Many<Choice<'a>>,
        b"usage" => usage: Maybe<UsageObject>,
        b"x_groq" => x_groq: Maybe<Box<Groq>>,
        b"meta" => meta: Maybe<Box<Meta>>,
        b"error" => error: Filled,
        b"detail" => detail: Filled,
        b"errors" => errors: Filled,
        b"message" => message: Filled,
        b"delta" => delta: Filled,
        b"data" => data: Filled,
        b"results" => results: Filled,
        b"text" => text: Filled,
    }
}

facts! {
    struct Choice<'a> {
        b"index" => index: Count,
        b"finish_reason" => finish_reason: Word<'a>,
        b"delta" => delta: Maybe<Delta>,
        b"message" => message: Maybe<Delta>,
        b"text" => text: Filled,
        /// Moonshot's last chunk.
        b"usage" => usage: Maybe<Box<UsageObject>>,
    }
}

facts! {
    /// The parts of a delta (or message) that an answer can consist of. Fields beside them (`role`, `channel`, `token_id`,
    /// content filter results) say something about the answer, but are not part of it.
    struct Delta {
        b"content" => content: Filled,
        b"refusal" => refusal: Filled,
        b"tool_calls" => tool_calls: Filled,
        b"function_call" => function_call: Filled,
        b"audio" => audio: Filled,
        b"annotations" => annotations: Filled,
        b"images" => images: Filled,
        b"reasoning" => reasoning: Filled,
        b"reasoning_content" => reasoning_content: Filled,
        b"reasoning_text" => reasoning_text: Filled,
        b"reasoning_details" => reasoning_details: Filled,
        b"thinking" => thinking: Filled,
        b"thinking_blocks" => thinking_blocks: Filled,
        b"executed_tools" => executed_tools: Filled,
    }
}

facts! {
    /// Groq's own corner.
    struct Groq {
        b"usage" => usage: Maybe<UsageObject>,
    }
}

facts! {
    /// Cohere's own corner, in rerank replies.
    struct Meta {
        b"tokens" => tokens: Maybe<UsageObject>,
        b"billed_units" => billed_units: Maybe<UsageObject>,
    }
}

impl Delta {
    fn has_content(&self) -> bool {
        [
            self.content,
            self.refusal,
            self.tool_calls,
            self.function_call,
            self.audio,
            self.annotations,
            self.images,
            self.reasoning,
            self.reasoning_content,
            self.reasoning_text,
            self.reasoning_details,
            self.thinking,
            self.thinking_blocks,
            self.executed_tools,
        ]
        .iter()
        .any(|part| part.0)
    }
}

impl Choice<'_> {
    fn has_content(&self) -> bool {
        let part = |part: &Maybe<Delta>| part.0.as_ref().is_some_and(Delta::has_content);
        self.text.0 || part(&self.delta) || part(&self.message)
    }
}

impl Chunk<'_> {
    fn identify(&self, seen: &mut Seen) {
        // Azure's first chunk has all of these empty.
        seen.id = seen.id.take().or_else(|| self.id.owned());
        seen.model = seen.model.take().or_else(|| self.model.owned());
        seen.created = seen.created.or(self.created.0.filter(|created| *created != 0));
    }

    fn count(&self, seen: &mut Seen) {
        let groq = self.x_groq.0.as_ref().and_then(|groq| groq.usage.0.as_ref());
        let meta = self.meta.0.as_ref().and_then(|meta| meta.tokens.0.as_ref().or(meta.billed_units.0.as_ref()));
        let chosen = self.choices.0.iter().find_map(|choice| choice.usage.0.as_deref());
        for usage in [meta, groq, chosen, self.usage.0.as_ref()].into_iter().flatten() {
            seen.usage.update(&usage.counts());
        }
    }

    fn read_choices(&self, seen: &mut Seen) {
        for choice in &self.choices.0 {
            let index = choice.index.0.unwrap_or(0);
            seen.content |= choice.has_content();
            // A vendor that sends "" on every chunk has not finished.
            match choice.finish_reason.as_str() {
                Some(reason) => {
                    seen.alternatives.finish(index);
                    seen.finish_with(reason);
                }
                None => seen.alternatives.begin(index),
            }
        }
    }

    /// vLLM and Mistral write the error's fields side by side, marked like this.
    fn is_marked_as_error(&self) -> bool {
        self.kind.as_str() == Some("error") || self.object.as_str() == Some("error")
    }

    fn is_error(&self) -> bool {
        let answers = self.choices.0.iter().any(Choice::has_content) || self.data.0 || self.results.0 || self.text.0;
        let complains = self.detail.0 || self.errors.0 || self.message.0;
        self.is_marked_as_error() || (!answers && (self.error.0 || (complains && self.choices.0.is_empty())))
    }
}

/// Reads one stream event.
pub(super) fn event(name: &[u8], data: &[u8], seen: &mut Seen) {
    if data.trim_ascii() == b"[DONE]" {
        return seen.end();
    }
    if upstream_error::is_event(name, data) {
        return seen.fail(|| upstream_error::read(data));
    }
    let Ok(Some(chunk)) = lenient::object::<Chunk<'_>>(data) else { return };
    chunk.identify(seen);
    chunk.count(seen);
    if chunk.error.0 || chunk.is_marked_as_error() {
        return seen.fail(|| upstream_error::read(data));
    }
    chunk.read_choices(seen);
    if !chunk.choices.0.is_empty() {
        // Many servers leave out `[DONE]`. A choice that begins only now takes the end back.
        seen.terminal = seen.alternatives.are_finished();
    }
    if let Some(kind) = chunk.kind.as_str() {
        typed_event(kind, &chunk, seen);
    }
}

/// Reads an event of the calls that name theirs: streamed images, speech and transcriptions.
fn typed_event(kind: &str, chunk: &Chunk<'_>, seen: &mut Seen) {
    if kind.ends_with(".delta") {
        seen.content |= chunk.delta.0 || kind.starts_with("speech.");
    } else if kind.ends_with(".partial_image") || kind.ends_with(".segment") {
        seen.content = true;
    } else if kind.ends_with(".done") || kind.ends_with(".completed") {
        seen.end();
    }
}

/// Whether a chunk that comes after the first content has no more to say than further content. One without choices can be
/// anything: usage, an error in some vendor's shape, an event of a call that names its events.
pub(super) fn only_adds(name: &[u8], data: &[u8]) -> bool {
    let mut has_choices = false;
    for key in TELLTALES.said(data) {
        match key {
            CHOICES => has_choices = true,
            _ => return false,
        }
    }
    has_choices && !upstream_error::is_event(name, data)
}

/// Reads a whole reply.
pub(super) fn reply(body: &[u8], seen: &mut Seen) {
    let chunk = match lenient::object::<Chunk<'_>>(body) {
        Ok(Some(chunk)) => chunk,
        // Some calls answer with a list (Hugging Face's embeddings and rerank), some servers list their errors.
        Ok(None) => {
            serde_json::from_slice::<Many<Chunk<'_>>>(body).unwrap_or_default().0.into_iter().next().unwrap_or_default()
        }
        Err(fault) => {
            seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
            return;
        }
    };
    chunk.identify(seen);
    chunk.count(seen);
    chunk.read_choices(seen);
    if chunk.is_error() {
        seen.content = false;
        return seen.fail(|| upstream_error::read(body));
    }
    seen.end();
}

/// Reads a chunk or reply of which only the ends were kept.
pub(super) fn clipped(head: &[u8], tail: &[u8], seen: &mut Seen) {
    seen.content = true;
    seen.model = seen.model.take().or_else(|| MODEL.first_text(head).map(str::to_owned));
    if let Some(usage) = last_usage(tail) {
        seen.usage.update(&usage);
    }
    if let Some(reason) = FINISH.last_text(tail).filter(|reason| !reason.is_empty()) {
        seen.alternatives.finish(0);
        seen.finish_with(reason);
        seen.terminal = seen.alternatives.are_finished();
    }
    let kind = if head.starts_with(b"{\"type\"") { TYPE.first_text(head) } else { None };
    if kind.is_some_and(|kind| kind.ends_with(".done") || kind.ends_with(".completed")) {
        seen.end();
    }
}

/// The last usage object in the end of a text.
pub(crate) fn last_usage(tail: &[u8]) -> Option<Usage> {
    serde_json::from_slice::<UsageObject>(USAGE.last_object(tail)?).ok().map(|usage| usage.counts())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tap::{Shape, Tap};
    use crate::wire::{damaged, in_place};
    use bytes::Bytes;

    /// What was seen after each event.
    fn stream(events: &[&str]) -> Vec<Seen> {
        let mut tap = Tap::new(crate::wire::WireFormat::OpenaiChat, Shape::Sse, 10_000);
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

    #[test]
    fn the_preamble_is_no_content() {
        for event in [
            r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}],"id":"","model":"","created":0}"#,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null,"tool_calls":[]},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"content_filter_results":{"hate":{"filtered":false}},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","channel":"analysis","token_id":7},"finish_reason":""}]}"#,
            r#"{"something":"new"}"#,
            "not json",
        ] {
            let seen = &stream(&[event])[0];
            assert!(!seen.content && !seen.terminal && seen.error.is_none() && seen.model.is_none(), "{event}");
        }
    }

    #[test]
    fn every_kind_of_delta_is_content() {
        for delta in [
            r#""content":"x""#,
            r#""content":[{"type":"thinking"}]"#,
            r#""refusal":"no""#,
            r#""reasoning_content":"hm""#,
            r#""reasoning":"hm""#,
            r#""tool_calls":[{"index":0,"function":{"name":"f"}}]"#,
            r#""audio":{"id":"a"}"#,
        ] {
            let event = format!(r#"{{"choices":[{{"index":0,"delta":{{{delta}}}}}]}}"#);
            assert!(stream(&[&event])[0].content, "{delta}");
        }
        assert!(
            stream(&[r#"{"object":"text_completion","choices":[{"text":"x","index":0,"finish_reason":null}]}"#])[0]
                .content
        );
    }

    #[test]
    fn a_finish_reason_ends_the_stream_and_usage_may_follow_or_ride_along() {
        let content = r#"{"model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        let later = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3}}"#;
        let seen = stream(&[content, finish, later, "[DONE]"]);
        assert!(!seen[0].terminal && seen[1].terminal && seen[3].terminal);
        assert_eq!(seen[1].finish.as_deref(), Some("length"));
        assert_eq!((seen[1].usage.output, seen[2].usage.output), (Some(2), Some(3)));
        assert_eq!(seen[3].events, 4);
    }

    #[test]
    fn the_stream_ends_when_every_choice_has_finished() {
        let event = |index: u8, finish: &str| {
            format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":{finish}}}]}}"#)
        };
        let events = [event(0, "null"), event(0, "\"stop\""), event(1, "null"), event(1, "\"stop\"")];
        let ends: Vec<bool> = stream(&events.each_ref().map(String::as_str)).iter().map(|s| s.terminal).collect();
        assert_eq!(ends, [false, true, false, true]);
    }

    #[test]
    fn the_empty_answer_is_an_answer() {
        assert!(stream(&["[DONE]"])[0].content);
        assert!(stream(&[r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#])[0].content);
    }

    #[test]
    fn an_error_event_is_no_content_and_its_end_does_not_make_it_one() {
        let seen = stream(&[r#"{"error":{"message":"busy","type":"server_error","code":null}}"#, "[DONE]"]);
        assert!(!seen[1].content && seen[1].terminal);
        assert_eq!(seen[1].error.as_ref().unwrap().status, Some(500));
        let router = stream(&[
            r#"{"error":{"code":400,"message":"Token limit"},"choices":[{"index":0,"delta":{"content":""}}],"usage":{"prompt_tokens":4}}"#,
        ]);
        assert_eq!((router[0].error.as_ref().unwrap().status, router[0].usage.input), (Some(400), Some(4)));
    }

    #[test]
    fn errors_in_other_shapes_are_seen_after_content_too() {
        let content = r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        for error in [
            r#"{"object":"error","message":"out of memory","type":"InternalServerError","code":500}"#,
            r#"{"type":"error","message":"out of memory","status_code":500}"#,
            r#"{"error":{"message":"out of memory","code":500}}"#,
        ] {
            let last = stream(&[content, error]).pop().unwrap();
            let error = last.error.unwrap();
            assert_eq!((error.message.as_str(), error.status, last.terminal), ("out of memory", Some(500), true));
        }
        let mut seen = Seen::default();
        event(b"error", b"something broke", &mut seen);
        assert_eq!(seen.error.unwrap().message, "something broke");
    }

    #[test]
    fn talk_of_errors_and_usage_in_the_text_is_only_text() {
        let first = r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        let talk = r#"{"choices":[{"index":0,"delta":{"content":"\"error\": {\"message\": 1}, \"usage\": {\"prompt_tokens\": 9}, \"finish_reason\": \"stop\""}}]}"#;
        let arguments = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":{"error":{"message":"deep"},"usage":{"prompt_tokens":9}}}}]}}]}"#;
        for seen in stream(&[first, talk, arguments]) {
            assert!(seen.error.is_none() && seen.usage.is_empty() && !seen.terminal);
        }
    }

    #[test]
    fn groqs_usage_is_found_in_its_corner() {
        let seen = stream(&[
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"usage":{"prompt_tokens":5,"completion_tokens":6}}}"#,
        ]);
        assert_eq!((seen[0].usage.input, seen[0].usage.output), (Some(5), Some(6)));
    }

    #[test]
    fn images_speech_and_transcripts_stream_under_their_own_names() {
        let text = stream(&[
            r#"{"type":"transcript.text.delta","delta":"hi"}"#,
            r#"{"type":"transcript.text.delta","delta":"ho"}"#,
            r#"{"type":"transcript.text.done","text":"hiho","usage":{"type":"tokens","input_tokens":14,"output_tokens":2,"total_tokens":16}}"#,
        ]);
        assert!(text[0].content && !text[1].terminal && text[2].terminal);
        assert_eq!((text[2].usage.input, text[2].usage.output), (Some(14), Some(2)));
        let image = stream(&[
            r#"{"type":"image_generation.partial_image","b64_json":"QUJD"}"#,
            r#"{"type":"image_generation.completed","b64_json":"QUJD","usage":{"input_tokens":1,"output_tokens":2}}"#,
        ]);
        assert!(image[0].content && !image[0].terminal && image[1].terminal);
    }

    #[test]
    fn whole_replies_of_the_smaller_calls_are_answers() {
        for body in [
            r#"{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            r#"{"text":"hello"}"#,
            r#"{"text":""}"#,
            r#"{"id":"modr-1","results":[{"flagged":false}]}"#,
            r#"[[0.1,0.2]]"#,
        ] {
            let seen = whole(body);
            assert!(seen.content && seen.terminal && seen.error.is_none(), "{body}");
        }
        assert_eq!(
            whole(r#"{"results":[{"index":0}],"meta":{"billed_units":{"search_units":1,"input_tokens":30}}}"#)
                .usage
                .input,
            Some(30)
        );
        assert_eq!(whole(r#"{"results":[{"index":0}],"usage":{"total_tokens":15}}"#).usage.input, Some(15));
    }

    #[test]
    fn an_error_with_status_200_is_an_error() {
        for body in [
            r#"{"error":{"message":"filtered","type":null,"code":"content_filter","status":400}}"#,
            r#"{"detail":"nope"}"#,
            r#"{"object":"error","message":"bad","type":"x"}"#,
            r#"[{"error":{"message":"x"}}]"#,
            "<html>busy</html>",
            "",
        ] {
            let seen = whole(body);
            assert!(seen.error.is_some_and(|e| !e.message.is_empty()) && !seen.content, "{body}");
        }
    }
}
