//! What a client is told of its usage is what the gateway writes down: both are read by the same rules.

use crate::replies::{call, chunks, end};
use serde_json::{Value, json};
use sub2api::wire::{
    Usage,
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::{Shape, Tap},
    translate::{Context, ReplyTranslator},
};

/// The counts of a reply as the tap reads them; the translator's are the same, towards every format.
fn counts(from: WireFormat, shape: Shape, reply: &str) -> Usage {
    let mut tap = Tap::new(from, shape, 1 << 20);
    tap.feed(reply.to_owned().into());
    tap.finish();
    for to in [OpenaiChat, OpenaiResponses, Anthropic, Gemini].into_iter().filter(|to| *to != from) {
        let mut translator =
            ReplyTranslator::new(from, to, (shape, Shape::Json), Context::for_unknown_client()).unwrap();
        translator.feed(reply.as_bytes());
        let out = translator.finish();
        assert!(translator.error().is_none(), "{to:?}: {}", String::from_utf8_lossy(&out));
        let (told, kept) = (*translator.usage(), tap.seen.usage);
        assert_eq!(
            (told.total_input(), told.cache_read, told.cache_write, told.cache_write_1h),
            (kept.total_input(), kept.cache_read, kept.cache_write, kept.cache_write_1h),
            "{from:?} {to:?}"
        );
        assert_eq!((told.output, told.reasoning), (kept.output, kept.reasoning), "{from:?} {to:?}");
    }
    tap.seen.usage
}

fn chat(usage: &Value) -> Usage {
    let reply = json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "hi"}}], "usage": usage});
    counts(OpenaiChat, Shape::Json, &reply.to_string())
}

#[test]
fn moonshot_tells_its_usage_inside_the_last_choice() {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 79, "total_tokens": 89, "cached_tokens": 4});
    let last = json!({"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage});
    let stream = chunks(&[json!({"index": 0, "delta": {"content": "hi"}}), last]) + "data: [DONE]\n\n";
    let seen = counts(OpenaiChat, Shape::Sse, &stream);
    assert_eq!((seen.input, seen.cache_read, seen.output), (Some(6), Some(4), Some(79)));
    let null = json!({"index": 0, "delta": {"content": "hi"}, "usage": null});
    let stream = chunks(&[null, call(0, "a", "f", "{}"), end("tool_calls")]) + "data: [DONE]\n\n";
    assert!(counts(OpenaiChat, Shape::Sse, &stream).is_empty());
}

#[test]
fn every_vendors_names_of_cached_tokens_reach_the_client() {
    for name in ["cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"] {
        let seen = chat(&json!({"prompt_tokens": 10, "completion_tokens": 2, name: 7}));
        assert_eq!((seen.input, seen.cache_read), (Some(3), Some(7)), "{name}");
    }
}

#[test]
fn reasoning_beside_the_completion_is_output() {
    let xai = json!({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 42,
        "completion_tokens_details": {"reasoning_tokens": 30}});
    let google = json!({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 42});
    assert_eq!((chat(&xai).output, chat(&google).output), (Some(32), Some(32)));
}

#[test]
fn counts_in_an_odd_spelling_spoil_no_answer() {
    let odd = json!({"prompt_tokens": 10.0, "completion_tokens": 2, "prompt_tokens_details": [], "total_tokens": "12"});
    assert_eq!((chat(&odd).input, chat(&odd).output), (Some(10), Some(2)));
    let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "x"}],
        "usage": {"input_tokens": 3.0, "output_tokens": 1, "cache_creation": null, "server_tool_use": "none"}});
    assert_eq!(counts(Anthropic, Shape::Json, &message.to_string()).input, Some(3));
    let response = json!({"id": "r", "object": "response", "status": "completed", "model": "m", "output": [],
        "usage": {"input_tokens": 3.0, "output_tokens": 1, "input_tokens_details": null, "output_tokens_details": 0}});
    assert_eq!(counts(OpenaiResponses, Shape::Json, &response.to_string()).input, Some(3));
    let gemini = json!({"responseId": "r", "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3.0, "candidatesTokenCount": 1, "thoughtsTokenCount": null}});
    assert_eq!(counts(Gemini, Shape::Json, &gemini.to_string()).input, Some(3));
}

#[test]
fn cache_writes_that_a_later_count_tells_without_their_lifetime_are_counted_once() {
    let begun = json!({"input_tokens": 3, "output_tokens": 1, "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60}});
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": [], "stop_reason": null, "usage": begun}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 5, "cache_creation_input_tokens": 100}}),
        json!({"type": "message_stop"}),
    ];
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let seen = counts(Anthropic, Shape::Sse, &stream);
    assert_eq!((seen.cache_write, seen.cache_write_1h, seen.total_input()), (Some(40), Some(60), 103));
}
