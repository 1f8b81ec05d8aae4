//! What holds for any reply through any ordered pair: a whole one and its stream come to the same, there and back nothing
//! changes, counts that are told again are not added, and the short way through an event leads where the long one does.

use super::properties::ALL;
use proptest::prelude::*;
use serde_json::{Value, json};
use sub2api::wire::{
    Usage,
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, ReplyTranslator},
};

/// A reply: thoughts, text in pieces, and calls with their arguments.
#[derive(Clone, Debug)]
struct Said {
    thoughts: Vec<String>,
    text: Vec<String>,
    calls: Vec<(String, Value)>,
    usage: (u32, u32, u32),
}

fn said() -> impl Strategy<Value = Said> {
    let piece = || "[ a-z\\n\"\\\\é\u{2028}{}:,—漢]{1,8}";
    let call = ("[a-z_]{1,8}", piece(), any::<String>()).prop_map(|(name, key, value)| (name, json!({key: value})));
    (
        prop::collection::vec(piece(), 0..3),
        prop::collection::vec(piece(), 0..5),
        prop::collection::vec(call, 0..3),
        (0..5000_u32, 0..5000_u32, 0..5000_u32),
    )
        .prop_map(|(thoughts, text, calls, usage)| Said { thoughts, text, calls, usage })
}

/// The reply as a chat provider streams it.
fn chat_stream(said: &Said) -> Vec<u8> {
    let mut events = Vec::new();
    let mut delta = |delta: Value, finish: Value| {
        events.push(
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]}),
        );
    };
    said.thoughts.iter().for_each(|text| delta(json!({"reasoning_content": text}), Value::Null));
    said.text.iter().for_each(|text| delta(json!({"content": text}), Value::Null));
    for (index, (name, arguments)) in said.calls.iter().enumerate() {
        let id = format!("call_{index}");
        delta(
            json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]}),
            Value::Null,
        );
        delta(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments.to_string()}}]}), Value::Null);
    }
    delta(json!({}), json!(if said.calls.is_empty() { "stop" } else { "tool_calls" }));
    let (fresh, cached, output) = said.usage;
    events.push(json!({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": fresh + cached, "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached}}}));
    let lines: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    format!("{lines}data: [DONE]\n\n").into_bytes()
}

fn through(from: WireFormat, to: WireFormat, shapes: (Shape, Shape), reply: &[u8]) -> (Vec<u8>, Usage) {
    let mut translator = ReplyTranslator::new(from, to, shapes, Context::for_unknown_client()).unwrap();
    let mut out = translator.feed(reply).to_vec();
    out.extend(translator.finish());
    assert!(translator.is_ended() && translator.error().is_none(), "{:?}", translator.error());
    (out, *translator.usage())
}

/// The reply in a format, streamed or whole; a chat one that has been elsewhere in between.
fn in_format(said: &Said, format: WireFormat, shape: Shape) -> Vec<u8> {
    let stream = chat_stream(said);
    match format {
        OpenaiChat => {
            let there = through(OpenaiChat, Anthropic, (Shape::Sse, Shape::Sse), &stream).0;
            through(Anthropic, OpenaiChat, (Shape::Sse, shape), &there).0
        }
        OpenaiResponses | Anthropic | Gemini => through(OpenaiChat, format, (Shape::Sse, shape), &stream).0,
    }
}

/// What a whole chat reply says: thoughts, text, calls, and why it ended.
fn heard(whole: &[u8]) -> Value {
    let reply: Value = serde_json::from_slice(whole).unwrap();
    let message = &reply["choices"][0]["message"];
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    let calls: Vec<Value> = calls
        .iter()
        .map(|call| {
            let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            json!([call["function"]["name"], arguments])
        })
        .collect();
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    json!([text("reasoning_content"), text("content"), calls, reply["choices"][0]["finish_reason"]])
}

/// The value with call arguments that are texts as the objects that they say: they may be spelled in two ways.
fn parsed(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(key, value)| match value.as_str().filter(|_| key == "arguments") {
                    Some(text) => (key, serde_json::from_str(text).unwrap()),
                    None => (key, parsed(value)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(parsed).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// The stream with a member in every event that the short way leaves to the long one, and that nobody reads.
fn made_long(stream: &[u8]) -> Vec<u8> {
    String::from_utf8(stream.to_vec()).unwrap().replace("data: {", "data: {\"zz\":1e0,").into_bytes()
}

fn pairs() -> impl Iterator<Item = (WireFormat, WireFormat)> {
    ALL.into_iter().flat_map(|from| ALL.into_iter().filter(move |to| *to != from).map(move |to| (from, to)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_whole_reply_and_its_stream_come_to_the_same(said in said()) {
        for (from, to) in pairs() {
            let whole = in_format(&said, from, Shape::Json);
            let stream = in_format(&said, from, Shape::Sse);
            let of_whole = through(from, to, (Shape::Json, Shape::Json), &whole);
            let of_stream = through(from, to, (Shape::Sse, Shape::Json), &stream);
            let read = |reply: &[u8]| parsed(serde_json::from_slice(reply).unwrap());
            prop_assert_eq!(read(&of_whole.0), read(&of_stream.0), "{:?} to {:?}", from, to);
            prop_assert_eq!(of_whole.1, of_stream.1);
        }
    }

    #[test]
    fn there_and_back_nothing_changes(said in said()) {
        let thoughts = said.thoughts.concat();
        let calls: Vec<Value> = said.calls.iter().map(|(name, arguments)| json!([name, arguments])).collect();
        let finish = if said.calls.is_empty() { "stop" } else { "tool_calls" };
        let wanted = json!([thoughts, said.text.concat(), calls, finish]);
        for format in [OpenaiResponses, Anthropic, Gemini] {
            for shape in [Shape::Sse, Shape::Json] {
                let there = in_format(&said, format, shape);
                let (back, usage) = through(format, OpenaiChat, (shape, Shape::Json), &there);
                prop_assert_eq!(heard(&back), wanted.clone(), "{:?}", format);
                let (fresh, cached, output) = said.usage;
                prop_assert_eq!(usage.total_input(), u64::from(fresh + cached));
                prop_assert_eq!(usage.output, Some(u64::from(output)));
            }
        }
    }

    #[test]
    fn counts_that_are_told_again_are_not_added(said in said(), times in 2..5_usize) {
        for (from, to) in pairs() {
            let stream = String::from_utf8(in_format(&said, from, Shape::Sse)).unwrap();
            let blank = if from == Gemini { "\r\n\r\n" } else { "\n\n" };
            // Responses tells its counts once, with its end.
            let counts = |event: &str| match from {
                OpenaiChat => event.contains("\"usage\":{"),
                Anthropic => event.contains("message_delta"),
                Gemini => event.contains("\"usageMetadata\":{") && !event.contains("\"text\":\"") && !event.contains("functionCall"),
                OpenaiResponses => false,
            };
            let again: String = stream
                .split_inclusive(blank)
                .map(|event| event.repeat(if counts(event) { times } else { 1 }))
                .collect();
            let shapes = (Shape::Sse, Shape::Sse);
            prop_assert_eq!(through(from, to, shapes, again.as_bytes()).1, through(from, to, shapes, stream.as_bytes()).1);
        }
    }

    #[test]
    fn a_snapshot_of_counts_can_be_taken_twice(a in any::<[Option<u32>; 4]>(), b in any::<[Option<u32>; 4]>()) {
        let usage = |[input, cache_read, output, reasoning]: [Option<u32>; 4]| Usage {
            input: input.map(u64::from),
            cache_read: cache_read.map(u64::from),
            output: output.map(u64::from),
            reasoning: reasoning.map(u64::from),
            ..Usage::default()
        };
        let mut once = usage(a);
        once.update(&usage(b));
        let mut twice = once;
        twice.update(&usage(b));
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_short_way_through_an_event_leads_where_the_long_one_does(said in said()) {
        for (from, to) in pairs() {
            let stream = in_format(&said, from, Shape::Sse);
            let short = through(from, to, (Shape::Sse, Shape::Sse), &stream);
            let long = through(from, to, (Shape::Sse, Shape::Sse), &made_long(&stream));
            prop_assert_eq!(short.0.escape_ascii().to_string(), long.0.escape_ascii().to_string(), "{:?} to {:?}", from, to);
            prop_assert_eq!(short.1, long.1);
        }
    }
}
