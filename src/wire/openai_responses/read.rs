//! What a Responses reply says.

use super::server_tools::Item;
use crate::wire::{
    lenient::{self, Count, Filled, Many, Maybe, Word, facts},
    openai_chat::{UsageObject, last_usage},
    tap::Seen,
    telltale::{Key, key},
    upstream_error,
};

static TYPE: Key = key!("type");
static MODEL: Key = key!("model");
static ERROR: Key = key!("error");
static REASON: Key = key!("reason");

facts! {
    /// One stream event.
    struct Event<'a> {
        b"type" => kind: Word<'a>,
        b"response" => response: Maybe<Response<'a>>,
        b"item" => item: Maybe<Item<'a>>,
        b"part" => part: Maybe<Part>,
        b"delta" => delta: Filled,
    }
}

facts! {
    /// The response object: a whole reply, or what the first and last events of a stream carry.
    struct Response<'a> {
        b"id" => id: Word<'a>,
        b"model" => model: Word<'a>,
        b"status" => status: Word<'a>,
        b"type" => kind: Word<'a>,
        b"created_at" => created_at: Count,
        b"incomplete_details" => incomplete_details: Maybe<Incomplete<'a>>,
        b"usage" => usage: Maybe<UsageObject>,
        b"output" => output: Many<Item<'a>>,
        b"error" => error: Filled,
        b"detail" => detail: Filled,
        b"message" => message: Filled,
        b"object" => object: Filled,
    }
}

facts! {
    struct Incomplete<'a> {
        b"reason" => reason: Word<'a>,
    }
}

facts! {
    struct Part {
        b"text" => text: Filled,
        b"refusal" => refusal: Filled,
        b"annotations" => annotations: Filled,
    }
}

impl Response<'_> {
    fn identify(&self, seen: &mut Seen) {
        seen.id = seen.id.take().or_else(|| self.id.owned());
        seen.model = seen.model.take().or_else(|| self.model.owned());
        seen.created = seen.created.or(self.created_at.0);
        if let Some(usage) = &self.usage.0 {
            seen.usage.update(&usage.counts());
        }
        let is_told = self.usage.0.as_ref().is_some_and(|usage| usage.counts().server_tools.is_some());
        let calls = self.output.0.iter().filter(|item| item.is_billed()).count() as u64;
        if !is_told && calls > 0 {
            seen.usage.server_tools = Some(calls);
        }
    }

    fn has_output(&self) -> bool {
        !self.output.0.is_empty()
    }

    /// The status, or what made it incomplete.
    fn finish(&self) -> Option<&str> {
        let reason = self.incomplete_details.0.as_ref().and_then(|details| details.reason.as_str());
        reason.filter(|_| self.status.as_str() == Some("incomplete")).or(self.status.as_str())
    }

    fn is_error(&self) -> bool {
        let marked = self.kind.as_str() == Some("error");
        let failed = self.status.as_str() == Some("failed");
        let answers = self.has_output() || self.object.0;
        marked || failed || (self.error.0 && !self.has_output()) || (!answers && (self.detail.0 || self.message.0))
    }
}

impl Item<'_> {
    /// A message or a reasoning item begins empty and fills later; any other item is a call, which is content by itself.
    fn has_content(&self) -> bool {
        match self.kind.as_str() {
            Some("message" | "reasoning") => self.content.0 || self.summary.0,
            Some(_) => true,
            None => false,
        }
    }
}

impl Part {
    fn has_content(&self) -> bool {
        self.text.0 || self.refusal.0 || self.annotations.0
    }
}

/// Reads one stream event.
pub(super) fn event(name: &[u8], data: &[u8], seen: &mut Seen) {
    if data.trim_ascii() == b"[DONE]" {
        return; // Some servers append it; the end is told by the event before.
    }
    if upstream_error::is_event(name, data) {
        return seen.fail(|| upstream_error::read(data));
    }
    let Ok(Some(event)) = lenient::object::<Event<'_>>(data) else { return };
    let kind = event.kind.as_str().or_else(|| std::str::from_utf8(name).ok()).unwrap_or_default();
    if let Some(response) = &event.response.0 {
        response.identify(seen);
    }
    match kind {
        "error" => seen.fail(|| upstream_error::read(data)),
        "response.failed" | "response.cancelled" => {
            seen.fail(|| upstream_error::read(data));
            seen.finish = event.response.0.as_ref().and_then(|r| r.finish()).map(str::to_owned);
        }
        "response.completed" | "response.incomplete" => {
            let finish = event.response.0.as_ref().and_then(|r| r.finish());
            seen.finish_with(finish.or(kind.strip_prefix("response.")).unwrap_or(kind));
            seen.end();
        }
        "response.output_item.added" => seen.content |= event.item.0.is_some_and(|item| item.has_content()),
        "response.output_item.done" => {
            seen.content = true;
            // The stream's end tells all of them again, unless it comes from a server that leaves them out.
            if event.item.0.is_some_and(|item| item.is_billed()) {
                seen.usage.server_tools = Some(seen.usage.server_tools.unwrap_or(0).saturating_add(1));
            }
        }
        "response.content_part.added" | "response.reasoning_summary_part.added" | "response.reasoning_part.added" => {
            seen.content |= event.part.0.is_some_and(|part| part.has_content());
        }
        "" => untyped(data, seen),
        kind => seen.content |= carries_content(kind, event.delta.0),
    }
}

/// Reads an event without a type: an error, or a whole reply although a stream was asked for.
fn untyped(data: &[u8], seen: &mut Seen) {
    let Ok(Some(response)) = lenient::object::<Response<'_>>(data) else { return };
    if response.object.0 || response.error.0 || response.detail.0 {
        reply(data, seen);
    }
}

/// Whether an event of this type carries a part of the answer. Unknown types do not.
fn carries_content(kind: &str, delta: bool) -> bool {
    if kind.ends_with(".delta") {
        return delta;
    }
    let is_response = kind.starts_with("response.");
    is_response && (kind.ends_with(".done") || kind.ends_with(".partial_image") || kind.ends_with("annotation.added"))
}

/// Whether an event only adds to an answer that has begun. Told by its name, or by the first type in its data.
pub(super) fn only_adds(name: &[u8], data: &[u8]) -> bool {
    if name.is_empty() {
        let kind = TYPE.first_text(data).unwrap_or_default();
        return kind.starts_with("response.") && kind.ends_with(".delta");
    }
    name.ends_with(b".delta")
}

/// Reads a whole reply.
pub(super) fn reply(body: &[u8], seen: &mut Seen) {
    let response = match lenient::object::<Response<'_>>(body) {
        Ok(Some(response)) => response,
        Ok(None) => return seen.fail(|| upstream_error::read(body)),
        Err(fault) => {
            seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
            return;
        }
    };
    response.identify(seen);
    seen.finish = response.finish().map(str::to_owned);
    if response.is_error() {
        return seen.fail(|| upstream_error::read(body));
    }
    seen.end();
}

/// Reads an event or reply of which only the ends were kept.
pub(super) fn clipped(name: &[u8], head: &[u8], tail: &[u8], seen: &mut Seen) {
    seen.model = seen.model.take().or_else(|| MODEL.first_text(head).map(str::to_owned));
    // A whole reply's first type belongs to some part of it, so only a stream event is named by it.
    let is_event = !name.is_empty() || head.starts_with(b"{\"type\":\"response.");
    let named = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
    let kind = named.or_else(|| TYPE.first_text(head)).filter(|_| is_event);
    match kind {
        Some("response.created" | "response.in_progress" | "response.queued") => return,
        Some("response.failed" | "error") => {
            let error = ERROR.last_object(head).or_else(|| ERROR.last_object(tail));
            return seen.fail(|| upstream_error::read(error.unwrap_or(b"")));
        }
        Some("response.incomplete") => seen.finish_with(REASON.last_text(head).unwrap_or("incomplete")),
        Some("response.completed") => seen.finish_with("completed"),
        Some(_) | None => {}
    }
    seen.content = true;
    if let Some(usage) = last_usage(tail) {
        seen.usage.update(&usage);
    }
    if matches!(kind, Some("response.completed" | "response.incomplete")) {
        seen.end();
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
        let mut tap = Tap::new(crate::wire::WireFormat::OpenaiResponses, Shape::Sse, 10_000);
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
        damaged::each_reply(|json| in_place::agree::<Response<'_>>(json));
    }

    fn whole(body: &str) -> Seen {
        let mut seen = Seen::default();
        reply(body.as_bytes(), &mut seen);
        seen
    }

    const FIRST: &str = r#"{"type":"response.output_text.delta","delta":"x"}"#;

    #[test]
    fn searches_that_the_provider_ran_are_counted_once() {
        let search = r#"{"type":"web_search_call","action":{"type":"search","query":"q"},"status":"completed"}"#;
        let open = r#"{"type":"web_search_call","action":{"type":"open_page","url":"u"},"status":"completed"}"#;
        let old = r#"{"type":"web_search_call","status":"completed"}"#;
        let file = r#"{"type":"file_search_call","queries":["q"]}"#;
        let call = r#"{"type":"function_call","name":"f","arguments":"{}"}"#;
        let items = [search, open, old, file, call].join(",");
        let reply =
            |usage: &str| format!(r#"{{"object":"response","status":"completed","output":[{items}],"usage":{usage}}}"#);
        assert_eq!(whole(&reply(r#"{"input_tokens":1}"#)).usage.server_tools, Some(3));
        assert_eq!(whole(&reply(r#"{"input_tokens":1,"num_server_side_tools_used":7}"#)).usage.server_tools, Some(7));
        let none =
            r#"{"object":"response","status":"completed","output":[{"type":"message","content":[]}],"usage":{}}"#;
        assert_eq!(whole(none).usage.server_tools, None);
        let done = |item: &str| format!(r#"{{"type":"response.output_item.done","item":{item}}}"#);
        let (one, two) = (done(search), done(open));
        let end = format!(r#"{{"type":"response.completed","response":{}}}"#, reply("{}"));
        let bare = r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#;
        assert_eq!(stream(&[&one, &two, &one, &end]).last().unwrap().usage.server_tools, Some(3));
        assert_eq!(stream(&[&one, &two, &one, bare]).last().unwrap().usage.server_tools, Some(2));
    }

    #[test]
    fn the_preamble_is_no_content() {
        for event in [
            r#"{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","instructions":"say \"error\""}}"#,
            r#"{"type":"response.in_progress","response":{}}"#,
            r#"{"type":"response.queued","response":{}}"#,
            r#"{"type":"response.output_item.added","item":{"type":"reasoning","summary":[],"encrypted_content":"gA"}}"#,
            r#"{"type":"response.output_item.added","item":{"type":"message","content":[]}}"#,
            r#"{"type":"response.content_part.added","part":{"type":"output_text","text":"","annotations":[]}}"#,
            r#"{"type":"response.reasoning_summary_part.added","part":{"type":"summary_text","text":""}}"#,
            r#"{"type":"response.output_text.delta","delta":""}"#,
            r#"{"type":"keepalive"}"#,
            "{}",
            r#"{"type":"codex.rate_limits","x":{"a.delta":1}}"#,
        ] {
            let seen = &stream(&[event])[0];
            assert!(!seen.content && !seen.terminal && seen.error.is_none(), "{event}");
        }
    }

    #[test]
    fn deltas_calls_and_finished_items_are_content() {
        for event in [
            FIRST,
            r#"{"type":"response.refusal.delta","delta":"no"}"#,
            r#"{"type":"response.reasoning_summary_text.delta","delta":"hm"}"#,
            r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#,
            r#"{"type":"response.output_item.done","item":{}}"#,
            r#"{"type":"response.image_generation_call.partial_image","partial_image_b64":"QUJD"}"#,
        ] {
            assert!(stream(&[event])[0].content, "{event}");
        }
    }

    #[test]
    fn the_end_brings_usage_and_the_reason() {
        let created = r#"{"type":"response.created","response":{"id":"r","model":"m","created_at":17}}"#;
        let end = r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":3}}}"#;
        let last = stream(&[created, FIRST, end]).pop().unwrap();
        assert!(last.terminal && last.content);
        assert_eq!(
            (last.finish.as_deref(), last.id.as_deref(), last.created),
            (Some("max_output_tokens"), Some("r"), Some(17))
        );
        assert_eq!((last.usage.input, last.usage.cache_read, last.usage.output), (Some(5), Some(4), Some(3)));
    }

    #[test]
    fn an_early_failure_is_no_content_flat_or_nested() {
        for error in [
            r#"{"type":"error","sequence_number":2,"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"pay"}}"#,
            r#"{"type":"error","code":"insufficient_quota","message":"pay","param":null,"sequence_number":2}"#,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"insufficient_quota","message":"pay"}}}"#,
        ] {
            let seen = stream(&[
                error,
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"later"}}}"#,
            ]);
            let first = seen[1].error.as_ref().unwrap();
            assert_eq!(
                (first.code.as_str(), first.message.as_str(), first.status),
                ("insufficient_quota", "pay", Some(429)),
                "{error}"
            );
            assert!(!seen[1].content && seen[0].terminal);
        }
    }

    #[test]
    fn names_are_read_from_either_place() {
        let mut seen = Seen::default();
        event(b"response.output_text.delta", br#"{"delta":"x"}"#, &mut seen);
        assert!(seen.content);
        event(b"response.completed", br#"{"response":{"usage":{"input_tokens":1}}}"#, &mut seen);
        assert_eq!((seen.terminal, seen.finish.as_deref(), seen.usage.input), (true, Some("completed"), Some(1)));
    }

    #[test]
    fn what_comes_without_a_type_is_read_as_a_whole_reply() {
        let error = stream(&[r#"{"error":{"message":"m","code":"server_error"}}"#]).pop().unwrap();
        assert!(error.error.is_some() && !error.content);
        let done = stream(&[r#"{"object":"response","status":"completed","output":[{}],"usage":{"input_tokens":2}}"#])
            .pop()
            .unwrap();
        assert!(done.content && done.terminal && done.usage.input == Some(2));
    }

    #[test]
    fn whole_replies_are_answers_or_errors() {
        let done = whole(
            r#"{"id":"r","object":"response","model":"m","status":"completed","error":null,"output":[{}],"usage":{"input_tokens":2,"output_tokens":1}}"#,
        );
        assert!(done.content && done.terminal && done.error.is_none());
        assert_eq!(done.finish.as_deref(), Some("completed"));
        assert!(whole(r#"{"object":"response.input_tokens","input_tokens":18}"#).usage.is_empty());
        for body in [
            r#"{"id":"r","object":"response","status":"failed","error":{"code":"server_error","message":"m"},"output":[]}"#,
            r#"{"code":"invalid-argument","error":"Incorrect API key"}"#,
            r#"{"detail":"nope"}"#,
        ] {
            let seen = whole(body);
            assert!(seen.error.is_some() && !seen.content, "{body}");
        }
    }

    #[test]
    fn a_long_first_event_is_not_content() {
        let mut seen = Seen::default();
        clipped(b"response.created", br#"{"type":"response.created","response":{"model":"m""#, b"\"}}", &mut seen);
        assert!(!seen.content);
        clipped(b"", br#"{"type":"response.in_progress","response":{"model":"m""#, b"\"}}", &mut seen);
        assert!(!seen.content);
        clipped(b"", br#"{"type":"response.output_text.delta","delta":"xxxx"#, b"\"}}", &mut seen);
        assert!(seen.content && !seen.terminal);
    }
}
