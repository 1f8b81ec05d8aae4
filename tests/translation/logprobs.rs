//! Log probabilities, asked for and told.

use crate::{
    GEMINI, GPT, SONNET, body, chat, losses, refused,
    replies::{chunks, collected, run, streamed, whole},
    translated,
};
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, ReplyTranslator},
};

fn responses(more: Value) -> Value {
    let mut request = json!({"model": "m", "input": "hi"});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn google(config: Value) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": config})
}

const WANTED: &str = "message.output_text.logprobs";

#[test]
fn they_are_asked_for_in_each_format_that_has_them() {
    let asked = [
        (OpenaiChat, chat(json!({"logprobs": true, "top_logprobs": 3}))),
        (OpenaiResponses, responses(json!({"include": [WANTED], "top_logprobs": 3}))),
        (Gemini, google(json!({"responseLogprobs": true, "logprobs": 3}))),
    ];
    for (from, request) in &asked {
        if *from != OpenaiChat {
            let out = body(*from, OpenaiChat, GPT, request);
            assert_eq!((&out["logprobs"], &out["top_logprobs"]), (&json!(true), &json!(3)), "{from:?}");
        }
        if *from != OpenaiResponses {
            let out = body(*from, OpenaiResponses, GPT, request);
            assert_eq!((&out["include"], &out["top_logprobs"]), (&json!([WANTED]), &json!(3)), "{from:?}");
        }
        if *from != Gemini {
            let out = &body(*from, Gemini, GEMINI, request)["generationConfig"];
            assert_eq!((&out["responseLogprobs"], &out["logprobs"]), (&json!(true), &json!(3)), "{from:?}");
        }
        let field = refused(*from, Anthropic, SONNET, request);
        assert!(field.contains("ogprobs"), "{field}");
        for (to, model) in [(OpenaiChat, GPT), (OpenaiResponses, GPT), (Gemini, GEMINI)] {
            if to != *from {
                assert_eq!(losses(*from, to, model, request), "", "{from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn those_of_the_chosen_tokens_alone_are_asked_for_without_a_number() {
    let out = body(OpenaiChat, Gemini, GEMINI, &chat(json!({"logprobs": true})));
    assert_eq!(out["generationConfig"], json!({"responseLogprobs": true}));
    let out = body(Gemini, OpenaiChat, GPT, &google(json!({"responseLogprobs": true, "logprobs": 0})));
    assert_eq!((&out["logprobs"], out.get("top_logprobs")), (&json!(true), None));
    let out = body(OpenaiChat, OpenaiResponses, GPT, &chat(json!({"logprobs": false, "top_logprobs": 2})));
    assert_eq!((out.get("include"), out.get("top_logprobs")), (None, None));
}

#[test]
fn models_that_reason_are_not_asked_since_they_refuse_it() {
    let request = google(json!({"responseLogprobs": true, "logprobs": 3}));
    for to in [OpenaiChat, OpenaiResponses] {
        let out = translated(Gemini, to, "gpt-5.2", &request);
        assert_eq!(out.losses.header().as_deref(), Some("generationConfig.responseLogprobs=dropped"));
        assert!(!String::from_utf8(out.body).unwrap().contains("logprobs"));
    }
}

fn token(text: &str, logprob: f64) -> Value {
    json!({"token": text, "logprob": logprob, "bytes": text.as_bytes(), "top_logprobs": [
        {"token": text, "logprob": logprob, "bytes": text.as_bytes()},
        {"token": "é", "logprob": -4.25, "bytes": [195, 169]}]})
}

fn chosen(text: &str, logprob: f64) -> Value {
    json!({"token": text, "logProbability": logprob})
}

fn result(tokens: &[(&str, f64)]) -> Value {
    let top = |text: &str, p: f64| json!({"candidates": [chosen(text, p), chosen("é", -4.25)]});
    json!({"chosenCandidates": tokens.iter().map(|(t, p)| chosen(t, *p)).collect::<Vec<_>>(),
        "topCandidates": tokens.iter().map(|(t, p)| top(t, *p)).collect::<Vec<_>>()})
}

/// Two texts with their log probabilities, and one more whose text came before.
fn chat_stream() -> String {
    let piece = |text: &str, tokens: Value| json!({"index": 0, "delta": {"content": text}, "logprobs": {"content": tokens, "refusal": null}});
    chunks(&[
        piece("", json!([])),
        piece("Hi", json!([token("H", -0.5), token("i", -1.0)])),
        piece("!", json!([token("!", -1.5)])),
        piece("", json!([token("?", -3.0)])),
        json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}),
    ]) + "data: [DONE]\n\n"
}

fn all_tokens() -> Value {
    json!([token("H", -0.5), token("i", -1.0), token("!", -1.5), token("?", -3.0)])
}

fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn in_a_stream_they_go_with_their_text() {
    let out = events(&streamed(OpenaiChat, OpenaiResponses, &chat_stream()));
    let of = |kind: &str| out.iter().filter(|e| e["type"] == kind).cloned().collect::<Vec<_>>();
    let deltas: Vec<Value> =
        of("response.output_text.delta").iter().map(|e| json!([e["delta"], e["logprobs"]])).collect();
    let want = [
        json!(["Hi", [token("H", -0.5), token("i", -1.0)]]),
        json!(["!", [token("!", -1.5)]]),
        json!(["", [token("?", -3.0)]]),
    ];
    assert_eq!(deltas, want);
    assert_eq!(of("response.output_text.done")[0]["logprobs"], all_tokens());
    assert_eq!(of("response.content_part.done")[0]["part"]["logprobs"], all_tokens());
    assert_eq!(of("response.completed")[0]["response"]["output"][0]["content"][0]["logprobs"], all_tokens());

    let out = events(&streamed(OpenaiChat, Gemini, &chat_stream()));
    assert_eq!(out[0]["candidates"][0]["content"]["parts"][0]["text"], "Hi");
    assert_eq!(out[0]["candidates"][0]["logprobsResult"], result(&[("H", -0.5), ("i", -1.0)]));
    assert_eq!(out.last().unwrap()["candidates"][0]["avgLogprobs"], -1.5);
}

#[test]
fn they_come_back_from_each_format_as_they_were() {
    for between in [OpenaiResponses, Gemini] {
        let there = streamed(OpenaiChat, between, &chat_stream());
        let back = events(&streamed(between, OpenaiChat, &there));
        let content = |chunk: &Value| chunk["choices"][0]["logprobs"]["content"].as_array().cloned();
        let tokens: Vec<Value> = back.iter().filter_map(content).flatten().collect();
        assert_eq!(json!(tokens), all_tokens(), "{between:?}");
        assert_eq!(collected(between, OpenaiChat, &there)["choices"][0]["logprobs"]["content"], all_tokens());
        let whole_there = collected(OpenaiChat, between, &chat_stream());
        let whole_back = whole(between, OpenaiChat, &whole_there);
        assert_eq!(whole_back["choices"][0]["logprobs"], json!({"content": all_tokens(), "refusal": null}));
    }
    let own = collected(OpenaiChat, OpenaiChat, &chat_stream());
    assert_eq!(own["choices"][0]["logprobs"]["content"], all_tokens());
}

#[test]
fn those_that_a_responses_stream_tells_only_at_its_end_are_told() {
    let part = json!({"type": "output_text", "text": "Hi", "logprobs": [token("Hi", -0.5)]});
    let item = json!({"type": "message", "id": "m", "content": [part]});
    let stream = [
        json!({"type": "response.created", "response": {"id": "r", "model": "m"}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi", "logprobs": []}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [item]}}),
    ];
    let stream: String = stream.iter().map(|event| format!("data: {event}\n\n")).collect();
    let reply = collected(OpenaiResponses, OpenaiChat, &stream);
    assert_eq!(reply["choices"][0]["logprobs"]["content"], json!([token("Hi", -0.5)]));
}

fn lost(from: WireFormat, to: WireFormat, input: &str) -> String {
    let shapes = (Shape::Sse, Shape::Sse);
    let mut translator = ReplyTranslator::new(from, to, shapes, Context::for_unknown_client()).unwrap();
    translator.feed(input.as_bytes());
    translator.finish();
    translator.losses().header().unwrap_or_default()
}

#[test]
fn where_they_have_no_place_they_are_a_loss() {
    assert_eq!(lost(OpenaiChat, Anthropic, &chat_stream()), "logprobs=dropped");
    assert!(!streamed(OpenaiChat, Anthropic, &chat_stream()).contains("logprob"));
    assert_eq!(lost(OpenaiChat, Gemini, &chat_stream()), "");
    let end = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    let refusal =
        json!({"index": 0, "delta": {"refusal": "no"}, "logprobs": {"content": null, "refusal": [token("no", -1.0)]}});
    let thought =
        json!({"index": 0, "delta": {"reasoning_content": "hm"}, "logprobs": {"content": [token("hm", -1.0)]}});
    let legacy =
        json!({"index": 0, "delta": {"content": "a"}, "logprobs": {"tokens": ["a"], "token_logprobs": [-1.0]}});
    for odd in [refusal, thought, legacy] {
        let stream = chunks(&[odd, end.clone()]);
        assert_eq!(lost(OpenaiChat, OpenaiResponses, &stream), "logprobs=dropped", "{stream}");
    }
}

#[test]
fn each_of_several_answers_has_its_own() {
    let choice = |index: u64, text: &str| {
        json!({"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text},
            "logprobs": {"content": [token(text, -0.5)], "refusal": null}})
    };
    let reply = json!({"id": "c", "model": "m", "created": 5, "choices": [choice(0, "a"), choice(1, "b")]});
    let request = chat(json!({"n": 2, "logprobs": true, "top_logprobs": 2}));
    let context = translated(OpenaiChat, Gemini, GEMINI, &request).context;
    let out = run(OpenaiChat, Gemini, (Shape::Json, Shape::Json), context, &reply.to_string());
    let out: Value = serde_json::from_str(&out).unwrap();
    for (at, text) in ["a", "b"].iter().enumerate() {
        assert_eq!(out["candidates"][at]["logprobsResult"], result(&[(text, -0.5)]));
    }
}
