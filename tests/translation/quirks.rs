//! What was seen on the wire, number by number of the translation reference, section 10. Those that this file leaves out
//! have their tests elsewhere: 1, 3 and 10 in `replies`, 16 and 19 with several choices and embeddings, 20 in `provider::hint`.

use crate::{
    GEMINI, GPT, SONNET, body, chat, losses,
    replies::{call, chunks, collected, end, run, streamed, whole},
};
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, ReplyTranslator, translate_error},
};

fn text(content: &str) -> Value {
    json!({"index": 0, "delta": {"content": content}})
}

fn anthropic(events: &[Value]) -> String {
    events.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap())).collect()
}

fn started(message: Value) -> Value {
    let mut start = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "usage": {"input_tokens": 3, "output_tokens": 1}});
    start.as_object_mut().unwrap().extend(message.as_object().unwrap().clone());
    json!({"type": "message_start", "message": start})
}

fn block(index: u64, block: Value, deltas: &[Value]) -> Vec<Value> {
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": block})];
    events.extend(deltas.iter().map(|d| json!({"type": "content_block_delta", "index": index, "delta": d})));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

fn stopped(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]
}

#[test]
fn no_2_comments_and_a_space_before_data_are_read_over() {
    let stream = chunks(&[text("hi"), end("stop")]).replace("data: ", " data: ");
    let stream = format!(": OPENROUTER PROCESSING\n\n{stream}: OPENROUTER PROCESSING\n\ndata: [DONE]\n\n");
    assert_eq!(collected(OpenaiChat, Anthropic, &stream)["content"][0]["text"], "hi");
}

#[test]
fn no_3_a_stream_without_usage_still_ends() {
    let stream = chunks(&[text("hi"), end("stop")]) + "data: [DONE]\n\n";
    let out = streamed(OpenaiChat, Anthropic, &stream);
    assert!(out.contains("\"input_tokens\":0") && out.ends_with("{\"type\":\"message_stop\"}\n\n"), "{out}");
}

#[test]
fn no_4_audio_deltas_are_a_loss_and_the_stream_needs_no_finish_reason() {
    let stream = chunks(&[
        json!({"index": 0, "delta": {"role": "assistant", "audio": {"id": "a", "data": "AAAA"}}}),
        text("hi"),
    ]) + "data: {\"id\":\"chatcmpl-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":1}}\n\ndata: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"audio\":{\"expires_at\":9}}}]}\n\ndata: [DONE]\n\n";
    let mut translator =
        ReplyTranslator::new(OpenaiChat, Anthropic, (Shape::Sse, Shape::Json), Context::for_unknown_client()).unwrap();
    let mut out = translator.feed(stream.as_bytes()).to_vec();
    out.extend(translator.finish());
    let reply: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((reply["stop_reason"].as_str(), reply["usage"]["output_tokens"].as_u64()), (Some("end_turn"), Some(1)));
    let lost = translator.losses().header().unwrap();
    assert!(lost.contains("audio=dropped") && lost.contains("finish_reason=approximated"), "{lost}");
}

#[test]
fn no_5_a_message_that_starts_whole_is_whole() {
    let start = started(
        json!({"content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}], "stop_reason": "tool_use"}),
    );
    let stream = anthropic(&[start, json!({"type": "message_stop"})]);
    let message = &collected(Anthropic, OpenaiChat, &stream)["choices"][0];
    assert_eq!(message["message"]["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
    assert_eq!(message["finish_reason"], "tool_calls");
}

#[test]
fn no_6_empty_first_fragments_and_calls_without_any_give_an_object() {
    let tool = json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}});
    let empty = json!({"type": "input_json_delta", "partial_json": ""});
    let filled = json!({"type": "input_json_delta", "partial_json": "{\"a\":1}"});
    for (deltas, want) in [(vec![], "{}"), (vec![empty.clone()], "{}"), (vec![empty, filled], "{\"a\":1}")] {
        let mut events = vec![started(json!({}))];
        events.extend(block(0, tool.clone(), &deltas));
        events.extend(stopped("tool_use"));
        let reply = collected(Anthropic, OpenaiChat, &anthropic(&events));
        assert_eq!(reply["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], want);
    }
}

#[test]
fn no_7_texts_that_citations_cut_apart_are_joined_without_anything_between() {
    let citation = json!({"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "q", "encrypted_index": "E"});
    let mut events = vec![started(json!({}))];
    events.extend(block(0, json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "It is "})]));
    let cited =
        [json!({"type": "citations_delta", "citation": citation}), json!({"type": "text_delta", "text": "wärm"})];
    events.extend(block(1, json!({"type": "text", "text": "", "citations": []}), &cited));
    events.extend(block(2, json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "."})]));
    events.extend(stopped("end_turn"));
    let message = &collected(Anthropic, OpenaiChat, &anthropic(&events))["choices"][0]["message"];
    assert_eq!(message["content"], "It is wärm.");
    let annotation = &message["annotations"][0]["url_citation"];
    assert_eq!((annotation["start_index"].as_u64(), annotation["end_index"].as_u64()), (Some(6), Some(10)));
    let gemini = collected(Anthropic, Gemini, &anthropic(&events));
    let grounding = &gemini["candidates"][0]["groundingMetadata"];
    assert_eq!(grounding["groundingChunks"][0]["web"]["uri"], "https://a.example");
}

#[test]
fn no_8_a_refusal_in_the_midst_keeps_the_words_before_it() {
    let mut events = vec![started(json!({}))];
    events.extend(block(0, json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "First"})]));
    events.extend(stopped("refusal"));
    let choice = &collected(Anthropic, OpenaiChat, &anthropic(&events))["choices"][0];
    assert_eq!(
        (choice["message"]["content"].as_str(), choice["finish_reason"].as_str()),
        (Some("First"), Some("content_filter"))
    );
    for reason in ["end_turn", "refusal"] {
        let empty = json!({"id": "m", "type": "message", "content": [], "stop_reason": reason, "usage": {}});
        let message = whole(Anthropic, OpenaiChat, &empty)["choices"][0]["message"].clone();
        assert!(message.as_object().unwrap().contains_key("content"), "content is null, not missing: {message}");
    }
}

#[test]
fn no_9_errors_of_responses_are_read_nested_flat_and_with_codes_outside_the_enum() {
    for event in [
        json!({"type": "error", "sequence_number": 1, "error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "pay"}}),
        json!({"type": "error", "code": "insufficient_quota", "message": "pay", "param": null, "sequence_number": 1}),
        json!({"type": "response.failed", "response": {"id": "r", "status": "failed", "error": {"code": "insufficient_quota", "message": "pay"}}}),
    ] {
        let out = streamed(OpenaiResponses, Anthropic, &format!("data: {event}\n\n"));
        assert!(out.contains("billing_error") && out.contains("pay"), "{event}: {out}");
    }
}

#[test]
fn no_11_gemini_streams_are_read_however_they_are_cut() {
    let chunk = |candidate: Value| format!("data: {}\r\n\r\n", json!({"candidates": [candidate], "responseId": "r"}));
    let stream = chunk(
        json!({"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "finishReason": "FINISH_REASON_UNSPECIFIED"}),
    ) + &chunk(json!({"content": {"parts": [{"text": "c"}]}}))
        + &chunk(json!({"content": {"parts": [{"text": ""}]}, "finishReason": "SOMETHING_NEW"}));
    let choice = &collected(Gemini, OpenaiChat, &stream)["choices"][0];
    assert_eq!((choice["message"]["content"].as_str(), choice["finish_reason"].as_str()), (Some("abc"), Some("stop")));
    let cut = chunk(json!({"content": {"parts": [{"text": "a"}]}, "finishReason": "FINISH_REASON_UNSPECIFIED"}));
    let out = streamed(Gemini, OpenaiChat, &cut);
    assert!(out.contains("\"error\"") && !out.contains("\"finish_reason\":\"stop\""), "no reason is no end: {out}");
    let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"MODEL_ARMOR\",\"blockReasonMessage\":\"no\"}}\r\n\r\n";
    let anthropic = collected(Gemini, Anthropic, blocked);
    assert_eq!(
        (anthropic["stop_reason"].as_str(), anthropic["stop_details"]["explanation"].as_str()),
        (Some("refusal"), Some("no"))
    );
}

#[test]
fn no_12_two_calls_of_one_name_without_ids_find_their_results_again() {
    let calls =
        json!([{"functionCall": {"name": "f", "args": {"n": 1}}}, {"functionCall": {"name": "f", "args": {"n": 2}}}]);
    let reply = json!({"responseId": "r", "candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": calls}}]});
    let message = whole(Gemini, OpenaiChat, &reply)["choices"][0]["message"].clone();
    let ids: Vec<&str> = message["tool_calls"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_ne!(ids[0], ids[1]);
    // The client answers the second call first.
    let request = chat(json!({"messages": [{"role": "user", "content": "go"}, message,
        {"role": "tool", "tool_call_id": ids[1], "content": "two"}, {"role": "tool", "tool_call_id": ids[0], "content": "one"}]}));
    let parts = body(OpenaiChat, Gemini, GEMINI, &request)["contents"][2]["parts"].clone();
    let results: Vec<&str> = parts
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["functionResponse"]["response"]["result"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["one", "two"], "Gemini tells them apart by their order alone");
    assert_eq!(parts[0]["functionResponse"].get("id"), None, "an invented id is not sent");
}

#[test]
fn no_13_arguments_that_a_limit_cut_off_are_told_and_listed() {
    let stream = chunks(&[call(0, "a", "f", "{\"x\": \"half"), end("length")]) + "data: [DONE]\n\n";
    for to in [Anthropic, Gemini] {
        let mut translator =
            ReplyTranslator::new(OpenaiChat, to, (Shape::Sse, Shape::Json), Context::for_unknown_client()).unwrap();
        let mut out = translator.feed(stream.as_bytes()).to_vec();
        out.extend(translator.finish());
        assert!(String::from_utf8(out).unwrap().contains(r#"{"arguments":"{\"x\": \"half"}"#), "{to:?}");
        assert_eq!(translator.losses().header().as_deref(), Some("tool_call.arguments=approximated"), "{to:?}");
    }
    let request = chat(json!({"messages": [{"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "?"}]}));
    assert_eq!(
        body(OpenaiChat, Anthropic, SONNET, &request)["messages"][1]["content"][0]["input"],
        json!({"arguments": "{\"x"})
    );
    assert_eq!(losses(OpenaiChat, Anthropic, SONNET, &request), "tool_call.arguments=approximated");
}

#[test]
fn no_14_servers_that_imitate_chat_completions_are_read_as_they_write() {
    let chunk = |delta: Value, finish: Option<&str>| {
        let mut choice = json!({"index": 0, "delta": delta, "message": {"role": "assistant", "content": "all so far"}});
        if let Some(finish) = finish {
            choice["finish_reason"] = json!(finish);
        }
        // Perplexity's object, Copilot's missing one and missing time, Groq's tier.
        format!(
            "data: {}\n\n",
            json!({"id": "x", "object": "chat.completion", "service_tier": "on_demand", "choices": [choice]})
        )
    };
    let stream =
        chunk(json!({"content": "a"}), None) + &chunk(json!({"content": "b"}), None) + &chunk(json!({}), Some("stop"));
    let reply = collected(OpenaiChat, OpenaiResponses, &stream);
    assert_eq!(
        (reply["output"][0]["content"][0]["text"].as_str(), reply["status"].as_str()),
        (Some("ab"), Some("completed"))
    );
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "any"});
    assert_eq!(body(OpenaiChat, Anthropic, SONNET, &chat(tools))["tool_choice"]["type"], "any");
    let every = chunks(&[
        json!({"index": 0, "delta": {"content": "a"}, "finish_reason": ""}),
        json!({"index": 0, "delta": {"content": "b"}, "finish_reason": ""}),
    ]);
    let out = streamed(OpenaiChat, Anthropic, &every);
    assert!(
        out.contains("event: error") && !out.contains("message_stop"),
        "a stream that never said why is cut: {out}"
    );
}

#[test]
fn no_15_what_a_provider_says_of_a_file_reaches_the_client() {
    let image = br#"{"error":{"message":"Failed to download image","type":"invalid_request_error","param":"url","code":"invalid_image_url"}}"#;
    let file = br#"{"error":{"message":"Unsupported file","type":"invalid_request_error","param":"input","code":"unsupported_file"}}"#;
    for (error, words, code) in [
        (&image[..], "Failed to download image", "invalid_image_url"),
        (&file[..], "Unsupported file", "unsupported_file"),
    ] {
        for to in [Anthropic, Gemini, OpenaiChat, OpenaiResponses] {
            let error = translate_error(to, 400, error, "req_1");
            let body = String::from_utf8(error.body).unwrap();
            assert!(error.status == 400 && body.contains(words), "{to:?}: {body}");
            assert!(!matches!(to, OpenaiChat | OpenaiResponses) || body.contains(code), "{to:?}: {body}");
        }
    }
}

#[test]
fn no_17_the_blocks_of_a_system_prompt_keep_their_order() {
    let request = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
        {"type": "text", "text": "You are a tool.", "cache_control": {"type": "ephemeral"}}]});
    let want = "x-anthropic-billing-header: cc_version=2.1\n\nYou are a tool.";
    assert_eq!(body(Anthropic, OpenaiResponses, GPT, &request)["instructions"], want);
    assert_eq!(body(Anthropic, OpenaiChat, GPT, &request)["messages"][0]["content"], want);
    assert_eq!(body(Anthropic, Gemini, GEMINI, &request)["systemInstruction"]["parts"][0]["text"], want);
    assert_eq!(losses(Anthropic, OpenaiChat, GPT, &request), "cache_control=dropped");
}

#[test]
fn no_18_one_error_has_the_status_of_the_client_s_format() {
    let responses = br#"{"error":{"message":"no such model","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#;
    let google = br#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
    for to in [Anthropic, Gemini, OpenaiChat] {
        assert_eq!(translate_error(to, 400, responses, "").status, 404, "{to:?}");
    }
    for to in [Anthropic, OpenaiChat, OpenaiResponses] {
        assert_eq!(translate_error(to, 400, google, "").status, 401, "{to:?}");
    }
    assert_eq!(
        translate_error(Gemini, 401, br#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#, "")
            .status,
        401
    );
}

#[test]
fn a_pause_of_anthropic_s_is_told_as_a_limit_and_listed() {
    let reply = json!({"id": "m", "type": "message", "content": [{"type": "text", "text": "searching"}], "stop_reason": "pause_turn", "usage": {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 2}}});
    for (to, place, want) in [
        (OpenaiChat, "/choices/0/finish_reason", "length"),
        (OpenaiResponses, "/incomplete_details/reason", "max_output_tokens"),
        (Gemini, "/candidates/0/finishReason", "MAX_TOKENS"),
    ] {
        let mut translator =
            ReplyTranslator::new(Anthropic, to, (Shape::Json, Shape::Json), Context::for_unknown_client()).unwrap();
        let mut out = translator.feed(reply.to_string().as_bytes()).to_vec();
        out.extend(translator.finish());
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value.pointer(place), Some(&json!(want)), "{to:?}");
        let lost = translator.losses().header().unwrap();
        assert!(
            lost.contains("finish_reason=approximated") && lost.contains("usage.server_tool_use=dropped"),
            "{lost}"
        );
    }
}

#[test]
fn calls_decide_whatever_geminis_reason_says() {
    for reason in ["STOP", "MAX_TOKENS", "SAFETY", "OTHER", "UNEXPECTED_TOOL_CALL"] {
        let reply = json!({"candidates": [{"finishReason": reason, "content": {"parts": [{"functionCall": {"name": "f", "args": {}}}]}}]});
        assert_eq!(whole(Gemini, OpenaiChat, &reply)["choices"][0]["finish_reason"], "tool_calls", "{reason}");
        assert_eq!(whole(Gemini, Anthropic, &reply)["stop_reason"], "tool_use", "{reason}");
    }
    let broken = json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "content": {}}]});
    let out = run(Gemini, OpenaiChat, (Shape::Json, Shape::Json), Context::default(), &broken.to_string());
    assert!(out.contains("\"finish_reason\":\"stop\""), "{out}");
}
