//! What stands beside an answer in another type than it should have costs nobody the answer.

use crate::replies::whole;
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, ReplyTranslator},
};

/// An answer of each format, with what can stand beside its text.
fn answers() -> [(WireFormat, Value); 4] {
    let url = json!({"url": "https://w.example", "title": "W", "start_index": 0, "end_index": 2});
    [
        (
            OpenaiChat,
            json!({"id": "c", "model": "m", "created": 5, "x_groq": {"id": "g"}, "choices": [{"index": 0,
                "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "hi",
                "annotations": [{"type": "url_citation", "url_citation": url}],
                "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}}),
        ),
        (
            OpenaiResponses,
            json!({"id": "r", "object": "response", "model": "m", "created_at": 5, "status": "completed",
                "incomplete_details": null, "output": [
                {"type": "message", "id": "msg_1", "role": "assistant", "phase": null, "content": [
                    {"type": "output_text", "text": "hi", "annotations": [url]}]},
                {"type": "function_call", "id": "fc_1", "call_id": "call_1", "namespace": null, "name": "f", "arguments": "{}"}],
                "usage": {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 0}}}),
        ),
        (
            Anthropic,
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
                "stop_sequence": null, "stop_details": null, "content": [
                {"type": "text", "text": "hi", "citations": [{"type": "web_search_result_location", "url": "https://w.example",
                    "title": "W", "cited_text": "hi", "encrypted_index": "E"}]},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": {"type": "direct", "tool_id": "t"}}],
                "usage": {"input_tokens": 1, "output_tokens": 2, "cache_creation": {"ephemeral_5m_input_tokens": 0}}}),
        ),
        (
            Gemini,
            json!({"responseId": "r", "modelVersion": "m", "candidates": [{"index": 0, "finishReason": "STOP",
                "finishMessage": "done", "content": {"role": "model", "parts": [{"text": "hi"},
                    {"functionCall": {"id": "call_1", "name": "f", "args": {}}}]},
                "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://w.example", "title": "W"}}],
                    "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 2, "text": "hi"}, "groundingChunkIndices": [0]}]}}],
                "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2}}),
        ),
    ]
}

/// The members that an answer consists of.
const ANSWER: [&str; 25] = [
    "choices",
    "message",
    "content",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "output",
    "type",
    "status",
    "annotations",
    "citations",
    "input",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "finishReason",
    "finish_reason",
    "stop_reason",
    "role",
    "groundingMetadata",
    "groundingChunks",
    "groundingSupports",
];

/// The answer with one member after the other beside its text given in another type.
fn spoilt(answer: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for path in paths(answer, "") {
        if ANSWER.contains(&path.rsplit('/').next().unwrap()) {
            continue;
        }
        for odd in [json!("5"), json!(5.5), json!({}), json!([]), json!(true), Value::Null] {
            let mut spoilt = answer.clone();
            *spoilt.pointer_mut(&path).unwrap() = odd.clone();
            found.push((format!("{path} = {odd}"), spoilt));
        }
    }
    found
}

/// The pointers to all members of objects.
fn paths(value: &Value, at: &str) -> Vec<String> {
    let inner: Vec<(String, &Value, bool)> = match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value, true)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, item)| (n.to_string(), item, false)).collect(),
        _ => Vec::new(),
    };
    inner
        .into_iter()
        .flat_map(|(key, value, is_member)| {
            let path = format!("{at}/{key}");
            let deeper = paths(value, &path);
            is_member.then_some(path).into_iter().chain(deeper)
        })
        .collect()
}

#[test]
fn an_odd_member_beside_an_answer_does_not_cost_it() {
    let mut tried = 0;
    for (from, answer) in answers() {
        for (what, spoilt) in spoilt(&answer) {
            let to = if from == Anthropic { OpenaiChat } else { Anthropic };
            let out = whole(from, to, &spoilt);
            let (text, call) = match to {
                Anthropic => (&out["content"][0]["text"], &out["content"][1]["name"]),
                _ => {
                    let message = &out["choices"][0]["message"];
                    (&message["content"], &message["tool_calls"][0]["function"]["name"])
                }
            };
            assert_eq!((text, call), (&json!("hi"), &json!("f")), "{from:?} {what}: {out}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn an_answer_that_cannot_be_read_is_not_shown_as_an_error_message() {
    for (from, field, answer) in [
        (OpenaiChat, "content", json!({"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]})),
        (
            OpenaiResponses,
            "text",
            json!({"output": [{"type": "message", "content": [{"text": 5}]}], "status": "completed"}),
        ),
        (Gemini, "text", json!({"candidates": [{"content": {"parts": [{"text": 5}]}, "finishReason": "STOP"}]})),
        (
            Anthropic,
            "text",
            json!({"type": "message", "content": [{"type": "text", "text": 5}], "stop_reason": "end_turn"}),
        ),
    ] {
        let to = if from == Anthropic { OpenaiChat } else { Anthropic };
        let mut translator =
            ReplyTranslator::new(from, to, (Shape::Json, Shape::Json), Context::for_unknown_client()).unwrap();
        translator.feed(answer.to_string().as_bytes());
        let out = String::from_utf8(translator.finish()).unwrap();
        let message = &translator.error().unwrap().message;
        assert!(message.starts_with("the provider's reply cannot be read: "), "{from:?} {field}: {message}");
        assert!(!out.contains("finish_reason\\\""), "{out}");
    }
}
