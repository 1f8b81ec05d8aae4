//! Answers in another layout than was asked for: a whole one for a stream and a stream for a whole one, in the client's
//! own format. The client gets what it asked for; what has the right layout passes as it came.

use crate::{
    client::{self, Ask, Reply},
    formats::{FORMATS, Format, Mode, said},
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, end, stream, stream_head, whole},
};
use Format::{Anthropic, Chat, Gemini, Responses};
use Mode::{Array, Stream, Whole};
use serde_json::{Value, json};
use std::time::Duration;

const WORDS: &str = "Hello there";

/// The same answer whole: some words, then a call.
fn document(format: Format) -> Value {
    match format {
        Chat => {
            json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "served", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": WORDS, "refusal": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":[1,2.50]}"}}]},
            "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 2}}})
        }
        Responses => {
            json!({"id": "resp_1", "object": "response", "created_at": 5, "status": "completed", "model": "served", "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA+/=="},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": WORDS, "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed", "name": "look", "arguments": "{\"at\":[1,2.50]}"}],
            "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 13}})
        }
        Anthropic => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "served", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "Eq+/=="}, {"type": "redacted_thinking", "data": "Er+/=="},
            {"type": "text", "text": WORDS},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, 2.5]}}],
            "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 7, "cache_read_input_tokens": 2, "output_tokens": 4}}),
        Gemini => {
            json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [{"text": WORDS},
            {"functionCall": {"id": "c1", "name": "look", "args": {"at": [1, 2.5]}}, "thoughtSignature": "c2ln+/8="}]}}],
            "usageMetadata": {"promptTokenCount": 9, "cachedContentTokenCount": 2, "candidatesTokenCount": 4, "totalTokenCount": 13},
            "modelVersion": "served", "responseId": "r1"})
        }
    }
}

/// The same answer as a stream, an event each.
fn events(format: Format) -> Vec<String> {
    let data = |value: Value| format!("data: {value}\n\n");
    let named = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let document = document(format);
    match format {
        Chat => {
            let piece = |delta: Value, finish: Value| {
                data(json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "served",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
            };
            let call = json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":"}}]});
            let more = json!({"tool_calls": [{"index": 0, "function": {"arguments": "[1,2.50]}"}}]});
            vec![
                piece(json!({"role": "assistant", "content": ""}), Value::Null),
                piece(json!({"content": "Hello "}), Value::Null),
                piece(json!({"content": "there"}), Value::Null),
                piece(call, Value::Null),
                piece(more, Value::Null),
                piece(json!({}), json!("tool_calls")),
                data(json!({"id": "chatcmpl-1", "choices": [], "usage": document["usage"]})),
                "data: [DONE]\n\n".to_owned(),
            ]
        }
        Responses => {
            let mut all = vec![named(
                json!({"type": "response.created", "response": {"id": "resp_1", "model": "served", "status": "in_progress", "output": []}}),
            )];
            for (index, item) in document["output"].as_array().unwrap().iter().enumerate() {
                all.push(named(json!({"type": "response.output_item.added", "output_index": index, "item": {"type": item["type"], "call_id": item["call_id"], "name": item["name"]}})));
                if item["type"] == "message" {
                    all.push(named(
                        json!({"type": "response.output_text.delta", "output_index": index, "delta": WORDS}),
                    ));
                }
                all.push(named(json!({"type": "response.output_item.done", "output_index": index, "item": item})));
            }
            all.push(named(json!({"type": "response.completed", "response": document})));
            all
        }
        Anthropic => {
            let mut start = document.clone();
            (start["content"], start["stop_reason"]) = (json!([]), Value::Null);
            let mut all = vec![named(json!({"type": "message_start", "message": start}))];
            let deltas = [
                json!({"type": "thinking_delta", "thinking": "hm"}),
                Value::Null,
                json!({"type": "text_delta", "text": WORDS}),
                json!({"type": "input_json_delta", "partial_json": "{\"at\":[1,2.5]}"}),
            ];
            for (index, (block, delta)) in document["content"].as_array().unwrap().iter().zip(deltas).enumerate() {
                let mut begun = block.clone();
                for (key, empty) in
                    [("text", json!("")), ("thinking", json!("")), ("signature", json!("")), ("input", json!({}))]
                {
                    if !begun[key].is_null() {
                        begun[key] = empty;
                    }
                }
                all.push(named(json!({"type": "content_block_start", "index": index, "content_block": begun})));
                if !delta.is_null() {
                    all.push(named(json!({"type": "content_block_delta", "index": index, "delta": delta})));
                }
                if block["type"] == "thinking" {
                    let signed = json!({"type": "signature_delta", "signature": block["signature"]});
                    all.push(named(json!({"type": "content_block_delta", "index": index, "delta": signed})));
                }
                all.push(named(json!({"type": "content_block_stop", "index": index})));
            }
            all.push(named(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 4}})));
            all.push(named(json!({"type": "message_stop"})));
            all
        }
        Gemini => {
            let part = |parts: Value| json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}], "modelVersion": "served", "responseId": "r1"});
            let mut last = part(json!([document["candidates"][0]["content"]["parts"][1]]));
            last["candidates"][0]["finishReason"] = json!("STOP");
            last["usageMetadata"] = document["usageMetadata"].clone();
            let chunks = [part(json!([{"text": "Hello "}])), part(json!([{"text": "there"}])), last];
            chunks.into_iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
        }
    }
}

/// Gemini's stream as one array.
fn array() -> String {
    let chunks: Vec<String> =
        events(Gemini).iter().map(|e| e.trim().strip_prefix("data: ").unwrap().to_owned()).collect();
    format!("[{}]", chunks.join(",\r\n"))
}

async fn gateway(format: Format, answer: Vec<Act>) -> (Gateway, Upstream) {
    let upstream = Upstream::always(answer).await;
    let account = account("only", format.provider(), &format.base(&upstream.url()), "");
    (Gateway::start(&[account], "").await, upstream)
}

/// The same request over HTTP/1.1 and over HTTP/2.
async fn both(gateway: &Gateway, ask: &Ask) -> (Reply, Reply) {
    (client::h1(gateway.address, ask).await.unwrap(), client::h2(gateway.address, ask).await.unwrap())
}

async fn asked(gateway: &Gateway, format: Format, mode: Mode) -> Reply {
    let mut ask = format.ask(mode, format.vendor(), "hi");
    if format == Chat && mode == Stream {
        let body = json!({"model": format.vendor(), "stream": true, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "hi"}]});
        ask = Ask::post("/v1/chat/completions", body.to_string());
    }
    let (mut first, mut second) = both(gateway, &ask).await;
    // What the upstream does not date has the time of the request, and a second may pass between two.
    for _ in 0..2 {
        if first.status == 200 && first.text() != second.text() {
            (first, second) = both(gateway, &ask).await;
        }
    }
    assert_eq!(first.status, second.status, "HTTP/1.1 and HTTP/2 get the same");
    // An error names the request.
    assert!(first.status != 200 || first.text() == second.text(), "HTTP/1.1 and HTTP/2 get the same");
    first
}

/// What the answer must say in the layout asked for: the facts, whatever else stands around them.
fn check(format: Format, mode: Mode, reply: &Reply, what: &str) {
    let text = reply.text();
    assert!(reply.status == 200 && reply.complete, "{what}: {} {text}", reply.status);
    let kind = reply.header("content-type").unwrap_or_default();
    assert_eq!(kind.starts_with("text/event-stream"), mode == Stream, "{what}: {kind}");
    match (format, mode) {
        (_, Whole) => {
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{what}: {e}: {text}"));
            let want = document(format);
            let facts: &[&str] = match format {
                Chat => &[
                    "/choices/0/message/content",
                    "/choices/0/message/tool_calls",
                    "/choices/0/finish_reason",
                    "/usage/prompt_tokens",
                    "/usage/prompt_tokens_details/cached_tokens",
                    "/usage/completion_tokens",
                    "/id",
                    "/model",
                    "/object",
                ],
                Responses => &[
                    "/output/0/encrypted_content",
                    "/output/1/content/0/text",
                    "/output/2/arguments",
                    "/output/2/call_id",
                    "/status",
                    "/usage/input_tokens",
                    "/usage/output_tokens",
                    "/id",
                    "/model",
                    "/object",
                ],
                Anthropic => &[
                    "/content/0",
                    "/content/1",
                    "/content/2/text",
                    "/content/3",
                    "/stop_reason",
                    "/usage/input_tokens",
                    "/usage/cache_read_input_tokens",
                    "/usage/output_tokens",
                    "/id",
                    "/model",
                    "/type",
                ],
                Gemini => &[
                    "/candidates/0/content/parts",
                    "/candidates/0/finishReason",
                    "/usageMetadata",
                    "/responseId",
                    "/modelVersion",
                ],
            };
            for fact in facts {
                assert_eq!(value.pointer(fact), want.pointer(fact), "{what}: {fact} of {text}");
            }
        }
        _ => {
            assert_eq!(said(format, mode, &text), WORDS, "{what}: {text}");
            let ends: &[&str] = match format {
                Chat => &["\"finish_reason\":\"tool_calls\"", "\"prompt_tokens\":9", "data: [DONE]\n\n", "call_1"],
                Responses => {
                    &["response.function_call_arguments.delta", "gAAA+/==", "response.completed", "\"input_tokens\":9"]
                }
                Anthropic => &[
                    "\"partial_json\":",
                    "Eq+/==",
                    "\"redacted_thinking\",\"data\":\"Er+/==\"",
                    "\"stop_reason\":\"tool_use\"",
                    "event: message_stop",
                ],
                Gemini => &[
                    "\"functionCall\":{",
                    "\"id\":\"c1\"",
                    "\"name\":\"look\"",
                    "c2ln+/8=",
                    "\"STOP\"",
                    "\"promptTokenCount\":9",
                ],
            };
            for end in ends {
                assert!(text.contains(end), "{what}: {end} is missing in {text}");
            }
            if mode == Array {
                serde_json::from_str::<Vec<Value>>(&text).unwrap_or_else(|e| panic!("{what}: {e}: {text}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_reaches_a_streaming_client_as_a_stream() {
    for format in FORMATS {
        for label in ["application/json", "text/event-stream", ""] {
            let (gateway, _upstream) = gateway(format, whole(200, label, document(format).to_string())).await;
            let modes: &[Mode] = if format == Gemini { &[Stream, Array] } else { &[Stream] };
            for mode in modes {
                let reply = asked(&gateway, format, *mode).await;
                check(format, *mode, &reply, &format!("{format:?} {mode:?} labelled {label:?}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_answer_reaches_a_client_that_wants_it_whole_as_one() {
    for format in FORMATS {
        for label in ["text/event-stream", "application/json"] {
            let (gateway, _upstream) = gateway(format, whole(200, label, events(format).concat())).await;
            let reply = asked(&gateway, format, Whole).await;
            check(format, Whole, &reply, &format!("{format:?} labelled {label:?}"));
        }
        let (gateway, _upstream) = gateway(format, stream(&events(format))).await;
        check(format, Whole, &asked(&gateway, format, Whole).await, &format!("{format:?} in chunks"));
    }
}

/// Some servers send line ends while they think.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_that_comes_before_an_answer_changes_nothing() {
    let late = |label: &str, body: String| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {label}\r\ntransfer-encoding: chunked\r\n\r\n");
        let pause = || Act::Sleep(Duration::from_millis(30));
        vec![Act::Send(head.into()), chunk("\n"), pause(), chunk(" \r\n"), pause(), chunk(body), end()]
    };
    for format in FORMATS {
        for label in ["application/json", "text/event-stream"] {
            for (layout, body) in [(Whole, document(format).to_string()), (Stream, events(format).concat())] {
                let (gateway, _upstream) = gateway(format, late(label, body.clone())).await;
                for mode in [Whole, Stream] {
                    let reply = asked(&gateway, format, mode).await;
                    let what = format!("{format:?} {mode:?} of {layout:?} labelled {label:?} behind space");
                    match mode == layout {
                        true => assert_eq!(reply.text(), format!("\n \r\n{body}"), "{what}"),
                        false => check(format, mode, &reply, &what),
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn geminis_three_layouts_stand_for_each_other() {
    let answers = [
        ("whole", whole(200, "application/json", document(Gemini).to_string())),
        ("array", whole(200, "application/json; charset=UTF-8", array())),
        ("events", stream(&events(Gemini))),
    ];
    for (name, answer) in answers {
        let (gateway, _upstream) = gateway(Gemini, answer).await;
        for mode in [Whole, Stream, Array] {
            check(Gemini, mode, &asked(&gateway, Gemini, mode).await, &format!("{name} for {mode:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_the_right_layout_passes_byte_for_byte() {
    for format in FORMATS {
        let body = document(format).to_string();
        let (whole_one, _upstream) = gateway(format, whole(200, "application/json", &body)).await;
        let reply = asked(&whole_one, format, Whole).await;
        assert_eq!(
            (reply.text(), reply.header("content-length")),
            (body.clone(), Some(body.len().to_string().as_str()))
        );
        let (streamed, _upstream) = gateway(format, stream(&events(format))).await;
        assert_eq!(asked(&streamed, format, Stream).await.text(), events(format).concat());
        let (mislabelled, _upstream) = gateway(format, whole(200, "application/json", events(format).concat())).await;
        assert_eq!(
            asked(&mislabelled, format, Stream).await.text(),
            events(format).concat(),
            "a stream is one by its bytes"
        );
    }
    let (gateway, _upstream) = gateway(Gemini, whole(200, "application/json", array())).await;
    assert_eq!(asked(&gateway, Gemini, Array).await.text(), array());
}

fn failure(format: Format) -> Value {
    match format {
        Chat | Responses => {
            json!({"error": {"message": "unfit", "type": "invalid_request_error", "param": null, "code": "invalid_prompt"}})
        }
        Anthropic => json!({"type": "error", "error": {"type": "invalid_request_error", "message": "unfit"}}),
        Gemini => json!({"error": {"code": 400, "message": "unfit", "status": "INVALID_ARGUMENT"}}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_the_other_layout_is_an_error_reply() {
    for format in FORMATS {
        let error = failure(format);
        let event = format!("event: error\ndata: {error}\n\n");
        for (mode, answer) in [
            (Stream, whole(200, "application/json", error.to_string())),
            (Whole, stream(std::slice::from_ref(&event))),
            // What came of the answer before it is not shown, since nothing of it has been.
            (Whole, stream(&[events(format)[..2].concat(), event.clone()])),
        ] {
            let (gateway, _upstream) = gateway(format, answer).await;
            let reply = asked(&gateway, format, mode).await;
            assert_eq!(reply.status, 400, "{format:?} {mode:?}: {}", reply.text());
            assert!(format.error_name(&reply.json()).is_some(), "{format:?} {mode:?}: {}", reply.text());
            assert!(reply.text().contains("unfit"), "{format:?} {mode:?}: {}", reply.text());
            assert_eq!(reply.header("x-sub2api-upstream-status"), Some("400"), "{format:?} {mode:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_before_it_is_whole_is_answered_by_the_next_account() {
    for format in FORMATS {
        let begun = events(format)[..2].concat();
        let cuts: [(&str, Vec<Act>); 3] = [
            ("a clean end", stream(std::slice::from_ref(&begun))),
            ("a reset", vec![stream_head(), chunk(&begun), Act::Sleep(Duration::from_millis(30)), Act::Reset]),
            ("the end inside an event", stream(&[begun.clone() + "data: {\"ty"])),
        ];
        for (name, cut) in cuts {
            let bad = Upstream::always(cut).await;
            let good = Upstream::always(whole(200, "application/json", document(format).to_string())).await;
            let accounts = [
                account("bad", format.provider(), &format.base(&bad.url()), "priority: 1"),
                account("good", format.provider(), &format.base(&good.url()), "priority: 2"),
            ];
            let gateway = Gateway::start(&accounts, "").await;
            let reply = client::h1(gateway.address, &format.ask(Whole, format.vendor(), "hi")).await.unwrap();
            assert_eq!((reply.status, reply.text()), (200, document(format).to_string()), "{format:?}, {name}");
            assert_eq!((bad.seen().len(), good.seen().len()), (1, 1), "{format:?}, {name}");
        }
    }
}
