//! Replies that keep their format and change their layout only.

use crate::replies::run;
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Options, context_of},
};

fn reshaped(format: WireFormat, request: &Value, shapes: (Shape, Shape), input: &str) -> String {
    let options = Options { request_id: "req_1", now: 7, ..Options::default() };
    run(format, format, shapes, context_of(format, request.to_string().as_bytes(), &options), input)
}

/// Whole to stream and back to whole.
fn there_and_back(format: WireFormat, request: &Value, reply: &Value) -> Value {
    let stream = reshaped(format, request, (Shape::Json, Shape::Sse), &reply.to_string());
    let back = reshaped(format, request, (Shape::Sse, Shape::Json), &stream);
    serde_json::from_str(&back).unwrap_or_else(|e| panic!("{e}: {back}"))
}

#[test]
fn what_a_provider_signed_stays_as_it_is_in_its_own_format() {
    let anthropic = json!({"id": "msg_1", "type": "message", "model": "m", "role": "assistant", "stop_reason": "tool_use", "content": [
        {"type": "thinking", "thinking": "", "signature": "Eq+/=="}, {"type": "redacted_thinking", "data": "Er+/=="},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}], "usage": {"input_tokens": 1, "output_tokens": 2}});
    assert_eq!(there_and_back(Anthropic, &json!({"messages": []}), &anthropic)["content"], anthropic["content"]);
    let responses = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAA+/=="},
        {"type": "function_call", "call_id": "c", "name": "read", "namespace": "fs", "arguments": "{}"}]});
    let request = json!({"input": "x", "tools": [{"type": "namespace", "name": "fs", "tools": [{"type": "function", "name": "read"}]}]});
    let back = there_and_back(OpenaiResponses, &request, &responses);
    assert_eq!(back["output"][0]["encrypted_content"], "gAA+/==");
    assert_eq!((&back["output"][1]["name"], &back["output"][1]["namespace"]), (&json!("read"), &json!("fs")));
    let gemini = json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
        {"text": "x"}, {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln+/8="}]}}], "responseId": "r", "modelVersion": "m"});
    let back = there_and_back(Gemini, &json!({"contents": []}), &gemini);
    assert_eq!(back["candidates"][0]["content"]["parts"][1]["thoughtSignature"], "c2ln+/8=");
    let chat = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {
        "role": "assistant", "content": "x", "reasoning_details": [{"type": "reasoning.encrypted", "data": "opaque", "index": 0}]}}]});
    let back = there_and_back(OpenaiChat, &json!({"messages": []}), &chat);
    assert_eq!(back["choices"][0]["message"]["reasoning_details"], chat["choices"][0]["message"]["reasoning_details"]);
}

#[test]
fn a_request_that_cannot_be_read_is_no_hindrance() {
    let chat = json!({"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "x"}}]});
    let out = reshaped(OpenaiChat, &json!([1]), (Shape::Json, Shape::Sse), &chat.to_string());
    assert!(out.contains("\"content\":\"x\"") && out.ends_with("data: [DONE]\n\n"), "{out}");
}
