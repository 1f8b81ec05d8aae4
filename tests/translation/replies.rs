//! What replies become, quirk by quirk of the translation reference.

use crate::options;
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    reply::ErrorKind,
    tap::Shape,
    translate::{Context, ReplyTranslator, translate_error, translate_request},
};

pub(crate) fn run(from: WireFormat, to: WireFormat, shapes: (Shape, Shape), context: Context, input: &str) -> String {
    let mut translator = ReplyTranslator::new(from, to, shapes, context).unwrap();
    let mut out = translator.feed(input.as_bytes()).to_vec();
    out.extend(translator.finish());
    String::from_utf8(out).unwrap()
}

pub(crate) fn streamed(from: WireFormat, to: WireFormat, input: &str) -> String {
    run(from, to, (Shape::Sse, Shape::Sse), Context::for_unknown_client(), input)
}

pub(crate) fn collected(from: WireFormat, to: WireFormat, input: &str) -> Value {
    let out = run(from, to, (Shape::Sse, Shape::Json), Context::for_unknown_client(), input);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

pub(crate) fn whole(from: WireFormat, to: WireFormat, input: &Value) -> Value {
    let out = run(from, to, (Shape::Json, Shape::Json), Context::for_unknown_client(), &input.to_string());
    serde_json::from_str(&out).unwrap()
}

pub(crate) fn chunks(deltas: &[Value]) -> String {
    let mut stream = String::new();
    for delta in deltas {
        stream += &format!("data: {}\n\n", json!({"id": "chatcmpl-1", "model": "m", "created": 5, "choices": [delta]}));
    }
    stream
}

pub(crate) fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    let function =
        if name.is_empty() { json!({"arguments": arguments}) } else { json!({"name": name, "arguments": arguments}) };
    json!({"index": 0, "delta": {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}})
}

pub(crate) fn end(reason: &str) -> Value {
    json!({"index": 0, "delta": {}, "finish_reason": reason})
}

#[test]
fn interleaved_parallel_calls_come_out_one_after_the_other() {
    let stream = chunks(&[
        call(0, "a", "f", ""),
        call(1, "b", "g", "{\"y\""),
        call(0, "", "", "{\"x\":1}"),
        call(1, "", "", ":2}"),
        end("tool_calls"),
    ]) + "data: [DONE]\n\n";
    let reply = collected(OpenaiChat, Anthropic, &stream);
    assert_eq!(
        reply["content"],
        json!([
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}}])
    );
    assert_eq!(reply["stop_reason"], "tool_use");
}

#[test]
fn parallel_calls_that_all_claim_index_0_stay_apart() {
    let stream = chunks(&[call(0, "a", "f", "{}"), call(0, "b", "f", "{\"x\":1}"), end("stop")]);
    let reply = collected(OpenaiChat, Anthropic, &stream);
    assert_eq!(reply["content"].as_array().unwrap().len(), 2);
    assert_eq!(reply["stop_reason"], "tool_use", "the calls decide, not the reason");
}

#[test]
fn a_call_without_arguments_is_an_empty_object() {
    let stream = chunks(&[call(0, "a", "f", ""), end("tool_calls")]);
    assert_eq!(
        collected(OpenaiChat, Gemini, &stream)["candidates"][0]["content"]["parts"][0]["functionCall"]["args"],
        json!({})
    );
    assert_eq!(collected(OpenaiChat, Anthropic, &stream)["content"][0]["input"], json!({}));
}

#[test]
fn a_stream_that_breaks_off_ends_with_the_format_s_error_and_nothing_else() {
    let cut = chunks(&[json!({"index": 0, "delta": {"content": "half"}})]);
    for (to, error) in [
        (Anthropic, "event: error\ndata: {\"type\":\"error\""),
        (OpenaiResponses, "event: response.failed"),
        (Gemini, "data: {\"error\":{\"code\":500"),
    ] {
        let out = streamed(OpenaiChat, to, &cut);
        assert!(out.contains("half") && out.contains(error), "{to:?}: {out}");
        for fake in ["message_stop", "end_turn", "response.completed", "finishReason"] {
            assert!(!out.contains(fake), "{to:?} pretends a clean end: {out}");
        }
    }
    let cut =
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"content\":[]}}\n\n";
    let out = streamed(Anthropic, OpenaiChat, cut);
    assert!(out.contains("\"error\"") && !out.contains("\"finish_reason\":\"stop\""), "{out}");
    let mut translator =
        ReplyTranslator::new(Anthropic, OpenaiChat, (Shape::Sse, Shape::Json), Context::default()).unwrap();
    translator.feed(cut.as_bytes());
    let body = translator.finish();
    assert!(translator.error().is_some() && translator.error_status() == Some(500), "{body:?}");
}

#[test]
fn errors_inside_a_stream_keep_their_kind() {
    let stream =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let out = streamed(Anthropic, Gemini, stream);
    assert!(out.contains("\"code\":503") && out.contains("UNAVAILABLE") && out.contains("busy"), "{out}");
    let out = streamed(Anthropic, OpenaiChat, stream);
    assert!(out.contains("\"code\":\"overloaded\""), "{out}");
    let quota = "data: {\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"insufficient_quota\",\"message\":\"no\"}}}\n\n";
    assert!(streamed(OpenaiResponses, Anthropic, quota).contains("billing_error"));
}

#[test]
fn azure_s_empty_first_chunk_and_openrouter_s_comments_say_nothing() {
    let stream = "data: {\"id\":\"\",\"object\":\"\",\"model\":\"\",\"choices\":[],\"prompt_filter_results\":[]}\n\n: OPENROUTER PROCESSING\n\n".to_owned()
        + &chunks(&[json!({"index": 0, "delta": {"role": "assistant", "content": "hi"}}), end("stop")])
        + "data: {\"id\":\"\",\"choices\":[{\"index\":0,\"content_filter_results\":{}}]}\r\n\r\n";
    let reply = collected(OpenaiChat, Anthropic, &stream);
    assert_eq!((reply["id"].as_str(), reply["content"][0]["text"].as_str()), (Some("msg_1"), Some("hi")));
}

#[test]
fn usage_on_the_finish_chunk_and_groq_s_own_place_are_counted() {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}});
    let text = json!({"index": 0, "delta": {"content": "x"}});
    for last in [
        json!({"id": "1", "choices": [end("stop")], "usage": usage}),
        json!({"id": "1", "choices": [end("stop")], "x_groq": {"usage": usage}}),
    ] {
        let stream = chunks(std::slice::from_ref(&text)) + &format!("data: {last}\n\n");
        let reply = collected(OpenaiChat, Anthropic, &stream);
        assert_eq!(
            (&reply["usage"]["input_tokens"], &reply["usage"]["cache_read_input_tokens"]),
            (&json!(7), &json!(3))
        );
        let gemini = &collected(OpenaiChat, Gemini, &stream)["usageMetadata"];
        assert_eq!((&gemini["candidatesTokenCount"], &gemini["thoughtsTokenCount"]), (&json!(3), &json!(1)));
    }
}

#[test]
fn every_way_of_writing_reasoning_is_read() {
    for delta in [
        json!({"reasoning_content": "hm"}),
        json!({"reasoning": "hm"}),
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
    ] {
        let stream = chunks(&[
            json!({"index": 0, "delta": delta}),
            json!({"index": 0, "delta": {"content": "yes"}}),
            end("stop"),
        ]);
        let reply = collected(OpenaiChat, Anthropic, &stream);
        assert_eq!(
            (reply["content"][0]["thinking"].as_str(), reply["content"][1]["text"].as_str()),
            (Some("hm"), Some("yes")),
            "{delta}"
        );
    }
}

#[test]
fn foreign_finish_reasons_never_get_through() {
    for reason in ["eos", "", "weird"] {
        let stream = chunks(&[json!({"index": 0, "delta": {"content": "x"}}), end(reason)]) + "data: [DONE]\n\n";
        assert_eq!(collected(OpenaiChat, Anthropic, &stream)["stop_reason"], "end_turn", "{reason:?}");
        assert_eq!(collected(OpenaiChat, Gemini, &stream)["candidates"][0]["finishReason"], "STOP", "{reason:?}");
    }
    let gemini = json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "NEW_ONE"}]});
    assert_eq!(whole(Gemini, OpenaiChat, &gemini)["choices"][0]["finish_reason"], "stop");
}

#[test]
fn refusals_stay_refusals() {
    let chat = json!({"id": "1", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": null, "refusal": "no"}}]});
    let anthropic = whole(OpenaiChat, Anthropic, &chat);
    assert_eq!(
        (anthropic["stop_reason"].as_str(), anthropic["content"][0]["text"].as_str()),
        (Some("refusal"), Some("no"))
    );
    assert_eq!(whole(OpenaiChat, OpenaiResponses, &chat)["output"][0]["content"][0]["type"], "refusal");
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}});
    assert_eq!(whole(Gemini, OpenaiChat, &blocked)["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(whole(Gemini, Anthropic, &blocked)["content"], json!([]));
    assert_eq!(whole(Gemini, OpenaiResponses, &blocked)["incomplete_details"]["reason"], "content_filter");
    let anthropic = json!({"id": "m", "type": "message", "content": [], "stop_reason": "refusal", "usage": {}});
    assert_eq!(whole(Anthropic, OpenaiChat, &anthropic)["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(whole(Anthropic, Gemini, &anthropic)["candidates"][0]["finishReason"], "SAFETY");
}

#[test]
fn responses_repetitions_are_not_said_twice_and_unstreamed_items_are_said() {
    let stream = [
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "m", "created_at": 9}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "i"}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "delta": "hi"}),
        json!({"type": "response.output_text.done", "output_index": 0, "text": "hi"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": [
            {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"}]}}),
    ]
    .map(|event| format!("data: {event}\n\n"))
    .concat()
        + "data: [DONE]\n\n";
    let reply = collected(OpenaiResponses, OpenaiChat, &stream);
    let message = &reply["choices"][0]["message"];
    assert_eq!((message["content"].as_str(), message["tool_calls"][0]["id"].as_str()), (Some("hi"), Some("c")));
    assert_eq!((reply["id"].as_str(), reply["created"].as_u64()), (Some("chatcmpl-1"), Some(9)));
}

#[test]
fn a_gemini_array_stream_goes_both_ways() {
    let array = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\r\n,\r\n{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"b\"}]},\"finishReason\":\"STOP\"}]}\r\n]";
    let out = run(Gemini, OpenaiChat, (Shape::JsonArray, Shape::Json), Context::default(), array);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["choices"][0]["message"]["content"], "ab");
    let stream = chunks(&[json!({"index": 0, "delta": {"content": "x"}}), end("length")]);
    let out = run(OpenaiChat, Gemini, (Shape::Sse, Shape::JsonArray), Context::default(), &stream);
    let list: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(list.last().unwrap()["candidates"][0]["finishReason"], "MAX_TOKENS");
    let out = run(
        OpenaiChat,
        Gemini,
        (Shape::Sse, Shape::JsonArray),
        Context::default(),
        "data: {\"error\":{\"message\":\"no\"}}\n\n",
    );
    let list: Vec<Value> = serde_json::from_str(&out).expect("a failed array is still an array");
    assert_eq!(list[0]["error"]["message"], "no");
}

#[test]
fn line_separators_never_come_out_raw() {
    let stream = chunks(&[
        json!({"index": 0, "delta": {"content": "a\u{2028}b\u{85}c"}}),
        call(0, "i", "f", "{\"x\":\"\u{2029}\"}"),
        end("stop"),
    ]);
    for to in [Anthropic, Gemini, OpenaiResponses] {
        for out in [streamed(OpenaiChat, to, &stream), collected(OpenaiChat, to, &stream).to_string()] {
            let lines = streamed(OpenaiChat, to, &stream);
            assert!(!lines.contains(['\u{2028}', '\u{2029}', '\u{85}']), "{to:?}: {out}");
        }
    }
}

#[test]
fn a_stand_in_tool_s_input_is_the_answer() {
    let request = json!({"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}});
    let translated =
        translate_request(OpenaiChat, Anthropic, request.to_string().as_bytes(), &options("claude-3-5-haiku-20241022"))
            .unwrap();
    let reply = json!({"id": "msg_1", "type": "message", "model": "m", "stop_reason": "tool_use", "usage": {},
        "content": [{"type": "tool_use", "id": "t", "name": "structured_answer", "input": {"a": 1}}]});
    let out = run(Anthropic, OpenaiChat, (Shape::Json, Shape::Json), translated.context, &reply.to_string());
    let choice = &serde_json::from_str::<Value>(&out).unwrap()["choices"][0];
    assert_eq!(
        (choice["message"]["content"].as_str(), choice["finish_reason"].as_str()),
        (Some("{\"a\":1}"), Some("stop"))
    );
}

#[test]
fn free_text_and_nested_calls_come_back_as_the_client_knows_them() {
    let request = json!({"input": "hi", "tools": [{"type": "custom", "name": "apply_patch"},
        {"type": "namespace", "name": "fs", "tools": [{"type": "function", "name": "read"}]}]});
    let context =
        translate_request(OpenaiResponses, Anthropic, request.to_string().as_bytes(), &options("claude-opus-5-5"))
            .unwrap()
            .context;
    let reply = json!({"id": "msg_1", "type": "message", "model": "m", "stop_reason": "tool_use", "usage": {}, "content": [
        {"type": "tool_use", "id": "t", "name": "apply_patch", "input": {"input": "*** Begin\n"}},
        {"type": "tool_use", "id": "u", "name": "fs__read", "input": {"p": 1}}]});
    let out = run(Anthropic, OpenaiResponses, (Shape::Json, Shape::Json), context, &reply.to_string());
    let output = &serde_json::from_str::<Value>(&out).unwrap()["output"];
    assert_eq!(
        (output[0]["type"].as_str(), output[0]["input"].as_str()),
        (Some("custom_tool_call"), Some("*** Begin\n"))
    );
    assert_eq!((output[1]["namespace"].as_str(), output[1]["name"].as_str()), (Some("fs"), Some("read")));
}

#[test]
fn citations_go_where_both_can() {
    let chat = json!({"id": "1", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "see", "annotations": [
        {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 3}}]}}]});
    assert_eq!(whole(OpenaiChat, Anthropic, &chat)["content"][0]["citations"][0]["url"], "https://a.example");
    assert_eq!(whole(OpenaiChat, OpenaiResponses, &chat)["output"][0]["content"][0]["annotations"][0]["end_index"], 3);
    assert_eq!(
        whole(OpenaiChat, Gemini, &chat)["candidates"][0]["groundingMetadata"]["groundingChunks"][0]["web"]["title"],
        "A"
    );
}

#[test]
fn errors_are_answered_in_the_client_s_shape_with_its_status() {
    let overloaded = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for (to, status) in [(OpenaiChat, 503), (OpenaiResponses, 503), (Gemini, 503), (Anthropic, 529)] {
        let error = translate_error(to, 529, overloaded, "req_1");
        assert_eq!((error.status, error.kind), (status, ErrorKind::Overloaded), "{to:?}");
        assert!(String::from_utf8(error.body).unwrap().contains("Overloaded"));
    }
    let key = br#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
    assert_eq!(translate_error(Anthropic, 400, key, "").status, 401);
    let wait =
        br#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34.4s"}]}}"#;
    let error = translate_error(OpenaiChat, 429, wait, "");
    assert_eq!((error.status, error.retry_after.map(|w| w.as_millis())), (429, Some(34_400)));
    let quota = br#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    assert_eq!(translate_error(Anthropic, 429, quota, "").status, 402);
}

#[test]
fn anthropic_clients_that_did_not_ask_see_no_thinking() {
    let request = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    let context =
        translate_request(Anthropic, OpenaiChat, request.to_string().as_bytes(), &options("m")).unwrap().context;
    let stream = chunks(&[
        json!({"index": 0, "delta": {"reasoning_content": "hm"}}),
        json!({"index": 0, "delta": {"content": "yes"}}),
        end("stop"),
    ]);
    let out = run(OpenaiChat, Anthropic, (Shape::Sse, Shape::Json), context, &stream);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["content"].as_array().unwrap().len(), 1);
}

#[test]
fn searches_of_a_responses_provider_are_counted_for_a_client_that_has_a_field() {
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed",
        "action": {"type": "search", "query": "q"}});
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "found"}]});
    let response = json!({"id": "resp_1", "model": "m", "status": "completed", "output": [search, search, message],
        "usage": {"input_tokens": 3, "output_tokens": 2}});
    let whole_reply = whole(OpenaiResponses, Anthropic, &response);
    assert_eq!(whole_reply["usage"]["server_tool_use"]["web_search_requests"], 2, "{whole_reply}");
    let done = |at: u64, item: &Value| json!({"type": "response.output_item.done", "output_index": at, "item": item});
    let end = json!({"type": "response.completed", "response": response});
    let events = [done(0, &search), done(1, &search), done(2, &message), end];
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let reply = collected(OpenaiResponses, Anthropic, &stream);
    assert_eq!(reply["usage"]["server_tool_use"]["web_search_requests"], 2, "{reply}");
}

#[test]
fn what_of_a_reply_no_other_format_can_say_is_a_loss() {
    let lost = |from, to, reply: &Value| {
        let shapes = (Shape::Json, Shape::Json);
        let mut translator = ReplyTranslator::new(from, to, shapes, Context::for_unknown_client()).unwrap();
        translator.feed(reply.to_string().as_bytes());
        translator.finish();
        translator.losses().header().unwrap_or_default()
    };
    let chat = |message: Value, beside: Value| {
        let mut reply =
            json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]});
        reply.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        reply
    };
    let sources = json!({"citations": ["https://a.example"], "search_results": [{"url": "https://a.example"}]});
    assert_eq!(
        lost(OpenaiChat, Anthropic, &chat(json!({"content": "hi"}), sources)),
        "citations=dropped, search_results=dropped"
    );
    let nothing = json!({"content": "hi", "images": [], "executed_tools": null, "audio": {"id": "", "data": ""}});
    assert_eq!(lost(OpenaiChat, Gemini, &chat(nothing, json!({"citations": []}))), "");
    for (field, value) in [
        ("executed_tools", json!([{"type": "search"}])),
        ("extra_content", json!({"google": {"thought_signature": "c2ln"}})),
        ("audio", json!({"id": "a", "data": "", "transcript": "hi"})),
    ] {
        let reply = chat(json!({"content": "hi", field: value}), json!({}));
        assert_eq!(lost(OpenaiChat, OpenaiResponses, &reply), format!("{field}=dropped"));
    }
    let message = json!({"id": "msg_1", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "container": {"id": "c"}});
    assert_eq!(lost(Anthropic, OpenaiChat, &message), "container=dropped");
    let item = json!({"type": "message", "phase": "commentary", "content": [{"type": "output_text", "text": "hi"}]});
    let response = json!({"id": "r", "model": "m", "status": "completed", "output": [item]});
    assert_eq!(lost(OpenaiResponses, OpenaiChat, &response), "output.phase=dropped");
    let grounding = json!({"webSearchQueries": ["q"], "groundingChunks": [{"retrievedContext": {"text": "t"}}]});
    let google = json!({"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP", "groundingMetadata": grounding}]});
    let want = "groundingMetadata.webSearchQueries=dropped, groundingChunks.retrievedContext=dropped";
    assert_eq!(lost(Gemini, OpenaiChat, &google), want);
}

#[test]
fn a_streams_sources_are_a_loss_though_each_chunk_repeats_them() {
    let chunk = json!({"id": "c", "model": "m", "citations": ["https://a.example"],
        "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]});
    let mut translator =
        ReplyTranslator::new(OpenaiChat, Anthropic, (Shape::Sse, Shape::Sse), Context::for_unknown_client()).unwrap();
    translator.feed(chunks(&[json!({"index": 0, "delta": {"role": "assistant"}})]).as_bytes());
    let out = translator.feed(format!("data: {chunk}\n\n").as_bytes()).to_vec();
    assert!(String::from_utf8(out).unwrap().contains("hi"));
    assert_eq!(translator.losses().header().as_deref(), Some("citations=dropped"));
}
