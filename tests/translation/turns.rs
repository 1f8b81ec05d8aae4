//! Conversations of many turns: what a provider wants back comes back, through every client format.

use crate::{options, replies::run};
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Options, translate_request},
};

const TURNS: usize = 6;

fn model(format: WireFormat) -> &'static str {
    match format {
        OpenaiChat | OpenaiResponses => "gpt-5.2",
        Anthropic => "claude-sonnet-4-5",
        Gemini => "gemini-3-pro",
    }
}

/// What the provider answers in turn `n`: reasoning with something opaque, and two calls.
fn answer(format: WireFormat, n: usize) -> Value {
    match format {
        Anthropic => {
            json!({"id": format!("msg_{n}"), "type": "message", "role": "assistant", "model": model(format), "stop_reason": "tool_use",
            "usage": {"input_tokens": 5, "output_tokens": 2}, "content": [
                {"type": "thinking", "thinking": format!("thought {n}"), "signature": format!("sig+/{n}==")},
                {"type": "text", "text": "calling"},
                {"type": "tool_use", "id": format!("toolu_{n}a"), "name": "f", "input": {"n": n}},
                {"type": "tool_use", "id": format!("toolu_{n}b"), "name": "g", "input": {}}]})
        }
        OpenaiResponses => {
            json!({"id": format!("resp_{n}"), "object": "response", "created_at": 1, "status": "completed", "model": model(format),
            "usage": {"input_tokens": 5, "output_tokens": 2}, "output": [
                {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": format!("thought {n}")}], "encrypted_content": format!("enc+/{n}==")},
                {"type": "function_call", "id": "fc1", "call_id": format!("call_{n}a"), "name": "f", "arguments": format!("{{\"n\":{n}}}")},
                {"type": "function_call", "id": "fc2", "call_id": format!("call_{n}b"), "name": "g", "arguments": "{}"}]})
        }
        Gemini => {
            json!({"responseId": format!("r{n}"), "modelVersion": model(format), "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2},
            "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
                {"functionCall": {"name": "f", "args": {"n": n}}, "thoughtSignature": format!("c2ln{n}+/a=")},
                {"functionCall": {"name": "g", "args": {}}}]}}]})
        }
        OpenaiChat => {
            json!({"id": format!("chatcmpl-{n}"), "model": model(format), "created": 1, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": null, "reasoning_details": [{"type": "reasoning.encrypted", "data": format!("opaque{n}")}],
            "tool_calls": [
                {"id": format!("call_{n}a"), "type": "function", "function": {"name": "f", "arguments": format!("{{\"n\":{n}}}")}},
                {"id": format!("call_{n}b"), "type": "function", "function": {"name": "g", "arguments": "{}"}}]}}]})
        }
    }
}

/// What the provider wants to see of turn `n` in the next request.
fn wanted(format: WireFormat, n: usize) -> String {
    match format {
        Anthropic => {
            json!({"type": "thinking", "thinking": format!("thought {n}"), "signature": format!("sig+/{n}==")})
                .to_string()
        }
        OpenaiResponses => format!("enc+/{n}=="),
        Gemini => format!("c2ln{n}+/a="),
        OpenaiChat => format!("opaque{n}"),
    }
}

/// A conversation as its client keeps it.
struct Transcript {
    format: WireFormat,
    list: Vec<Value>,
    /// The client drops what its API does not know.
    plain: bool,
}

impl Transcript {
    fn new(format: WireFormat, plain: bool) -> Self {
        let first = match format {
            Gemini => json!({"role": "user", "parts": [{"text": "go"}]}),
            OpenaiChat | OpenaiResponses | Anthropic => json!({"role": "user", "content": "go"}),
        };
        Transcript { format, list: vec![first], plain }
    }

    fn request(&self) -> Value {
        match self.format {
            OpenaiChat => json!({"messages": self.list, "tools": [
                {"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]}),
            OpenaiResponses => {
                json!({"input": self.list, "store": false, "reasoning": {"effort": "medium", "summary": "auto"}, "tools": [
                {"type": "function", "name": "f"}, {"type": "function", "name": "g"}]})
            }
            Anthropic => {
                json!({"max_tokens": 20000, "thinking": {"type": "enabled", "budget_tokens": 2000}, "messages": self.list, "tools": [
                {"name": "f", "input_schema": {"type": "object"}}, {"name": "g", "input_schema": {"type": "object"}}]})
            }
            Gemini => {
                json!({"contents": self.list, "generationConfig": {"thinkingConfig": {"includeThoughts": true}}, "tools": [
                {"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]})
            }
        }
    }

    /// Takes the answer over as the client's SDK does, and answers its calls.
    fn go_on(&mut self, reply: &Value) {
        match self.format {
            OpenaiChat => {
                let mut message = reply["choices"][0]["message"].clone();
                if self.plain {
                    message = json!({"role": "assistant", "content": message["content"], "tool_calls": message["tool_calls"]});
                }
                let calls = message["tool_calls"].as_array().unwrap().clone();
                self.list.push(message);
                self.list.extend(
                    calls.iter().map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "done"})),
                );
            }
            OpenaiResponses => {
                let items = reply["output"].as_array().unwrap().clone();
                self.list.extend(items.clone());
                let calls = items.iter().filter(|item| item["type"] == "function_call");
                self.list.extend(
                    calls.map(
                        |call| json!({"type": "function_call_output", "call_id": call["call_id"], "output": "done"}),
                    ),
                );
            }
            Anthropic => {
                let blocks = reply["content"].as_array().unwrap().clone();
                let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
                let results: Vec<Value> = calls
                    .map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "done"}))
                    .collect();
                self.list.push(json!({"role": "assistant", "content": blocks}));
                self.list.push(json!({"role": "user", "content": results}));
            }
            Gemini => {
                let mut parts = reply["candidates"][0]["content"]["parts"].as_array().unwrap().clone();
                // Google's own command line keeps no thoughts, only the signatures of other parts.
                parts.retain(|part| part["thought"] != true);
                let calls = parts.iter().filter_map(|part| part.get("functionCall"));
                let results: Vec<Value> = calls
                    .map(|call| json!({"functionResponse": {"name": call["name"], "response": {"result": "done"}}}))
                    .collect();
                self.list.push(json!({"role": "model", "parts": parts}));
                self.list.push(json!({"role": "user", "parts": results}));
            }
        }
    }
}

fn converse(client: WireFormat, provider: WireFormat, plain: bool) {
    let mut transcript = Transcript::new(client, plain);
    for turn in 0..TURNS {
        let request = transcript.request().to_string();
        let translated = translate_request(client, provider, request.as_bytes(), &options(model(provider)));
        let translated = translated.unwrap_or_else(|e| panic!("{client:?} -> {provider:?}, turn {turn}: {e}"));
        let sent: Value = serde_json::from_slice(&translated.body).unwrap();
        for earlier in 0..turn {
            let wanted = wanted(provider, earlier);
            assert!(
                sent.to_string().contains(&wanted),
                "{client:?} -> {provider:?}, turn {turn}: {wanted} is gone from {sent}"
            );
        }
        let answer = answer(provider, turn).to_string();
        let out = run(provider, client, (Shape::Json, Shape::Json), translated.context, &answer);
        transcript.go_on(&serde_json::from_str(&out).unwrap());
    }
}

#[test]
fn what_a_provider_wants_back_comes_back_through_every_client_format() {
    let all = [OpenaiChat, OpenaiResponses, Anthropic, Gemini];
    for client in all {
        for provider in all.into_iter().filter(|provider| *provider != client) {
            converse(client, provider, false);
        }
    }
}

#[test]
fn chat_clients_that_drop_unknown_fields_bring_it_back_in_the_call_ids() {
    for provider in [OpenaiResponses, Anthropic, Gemini] {
        converse(OpenaiChat, provider, true);
    }
}

#[test]
fn another_model_is_not_given_what_the_first_one_signed() {
    let mut transcript = Transcript::new(OpenaiResponses, false);
    let request = transcript.request().to_string();
    let first =
        translate_request(OpenaiResponses, Anthropic, request.as_bytes(), &options("claude-sonnet-4-5")).unwrap();
    let out =
        run(Anthropic, OpenaiResponses, (Shape::Json, Shape::Json), first.context, &answer(Anthropic, 0).to_string());
    transcript.go_on(&serde_json::from_str(&out).unwrap());
    let request = transcript.request().to_string();
    let other = translate_request(OpenaiResponses, Anthropic, request.as_bytes(), &options("claude-sonnet-4")).unwrap();
    let body = String::from_utf8(other.body).unwrap();
    assert!(!body.contains("sig+/0==") && !body.contains("s2a1"), "{body}");
    assert!(!body.contains("\"thinking\""), "a turn that lost its thinking goes on without: {body}");
    assert!(other.losses.header().unwrap().contains("reasoning=dropped"));
    let same = Options { model: "claude-sonnet-4-5", ..Options::default() };
    let same = translate_request(OpenaiResponses, Anthropic, request.as_bytes(), &same).unwrap();
    assert!(String::from_utf8(same.body).unwrap().contains("sig+/0=="));
}

#[test]
fn calls_that_gemini_3_did_not_sign_say_so() {
    let request = json!({"max_tokens": 9, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x"}]}]});
    let out = translate_request(Anthropic, Gemini, request.to_string().as_bytes(), &options("gemini-3-pro")).unwrap();
    assert!(String::from_utf8(out.body).unwrap().contains("skip_thought_signature_validator"));
    let out = translate_request(Anthropic, Gemini, request.to_string().as_bytes(), &options("gemini-2.5-pro")).unwrap();
    assert!(!String::from_utf8(out.body).unwrap().contains("skip_thought_signature_validator"));
}

/// What Google's OpenAI-compatible endpoint puts beside a call, and wants back there.
const EXTRA: &str = r#"{"google":{"thought_signature":"c2ln+/a="}}"#;

#[test]
fn what_googles_chat_endpoint_puts_beside_a_call_comes_back_beside_it() {
    let extra: Value = serde_json::from_str(EXTRA).unwrap();
    let answer = json!({"id": "chatcmpl-1", "model": "gemini-3-pro", "created": 1, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "calling", "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra},
            {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}}]});
    for client in [OpenaiResponses, Anthropic, Gemini] {
        let mut transcript = Transcript::new(client, false);
        let options = Options { compatible: true, ..options("gemini-3-pro") };
        let translate =
            |request: Value| translate_request(client, OpenaiChat, request.to_string().as_bytes(), &options).unwrap();
        let context = translate(transcript.request()).context;
        let out = run(OpenaiChat, client, (Shape::Json, Shape::Json), context, &answer.to_string());
        transcript.go_on(&serde_json::from_str(&out).unwrap());
        let sent: Value = serde_json::from_slice(&translate(transcript.request()).body).unwrap();
        let message = sent["messages"].as_array().unwrap().iter().find(|m| m["tool_calls"].is_array()).unwrap();
        let calls = &message["tool_calls"];
        assert_eq!((&calls[0]["extra_content"], calls[1].get("extra_content")), (&extra, None), "{client:?}: {sent}");
    }
}

#[test]
fn a_chat_client_of_googles_chat_endpoint_is_given_it_where_it_was_in_another_layout_too() {
    let function = json!({"name": "f", "arguments": "{}"});
    let extra: Value = serde_json::from_str(EXTRA).unwrap();
    let call = json!({"index": 0, "id": "call_a", "type": "function", "function": function, "extra_content": extra});
    let chunk = json!({"index": 0, "delta": {"tool_calls": [call]}});
    let stream = crate::replies::chunks(&[chunk, crate::replies::end("tool_calls")]) + "data: [DONE]\n\n";
    let whole = crate::replies::collected(OpenaiChat, OpenaiChat, &stream);
    let message = &whole["choices"][0]["message"];
    assert_eq!(
        message["tool_calls"][0],
        json!({"id": "call_a", "type": "function", "function": function, "extra_content": extra})
    );
    assert_eq!(message.get("reasoning_details"), None);
    let again = crate::replies::streamed(OpenaiChat, OpenaiChat, &stream);
    assert!(again.contains(&format!("\"extra_content\":{EXTRA}")), "{again}");
    assert!(!again.contains("reasoning_details"), "{again}");
}
