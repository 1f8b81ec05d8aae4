//! What of a reply has no place in the client's format is told; what has one comes back next turn.

use crate::{
    SONNET, body,
    replies::{run, whole},
    translated,
};
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, ReplyTranslator},
};

fn losses(from: WireFormat, to: WireFormat, reply: &Value) -> String {
    let shapes = (Shape::Json, Shape::Json);
    let mut translator = ReplyTranslator::new(from, to, shapes, Context::for_unknown_client()).unwrap();
    translator.feed(reply.to_string().as_bytes());
    translator.finish();
    translator.losses().header().unwrap_or_default()
}

fn message(content: Value) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2}})
}

fn cited() -> Value {
    message(json!([{"type": "text", "text": "It rains.", "citations": [{"type": "web_search_result_location",
        "url": "https://w.example", "title": "W", "cited_text": "Rain all day", "encrypted_index": "Eo8B"}]}]))
}

#[test]
fn what_stands_beside_a_citation_is_told() {
    let both = "citations.encrypted_index=dropped, citations.cited_text=dropped";
    for to in [OpenaiChat, OpenaiResponses, Gemini] {
        assert_eq!(losses(Anthropic, to, &cited()), both, "{to:?}");
    }
}

#[test]
fn a_citation_of_anthropic_s_stays_whole_in_its_own_format() {
    let kept = whole(Anthropic, Anthropic, &cited());
    assert_eq!(kept["content"][0]["citations"], cited()["content"][0]["citations"]);
    assert_eq!(losses(Anthropic, Anthropic, &cited()), "");
}

#[test]
fn a_source_without_an_address_is_told() {
    let file = json!({"type": "file_citation", "file_id": "file-1", "filename": "a.txt", "index": 3});
    let responses = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [
        {"type": "message", "id": "msg", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "see", "annotations": [file]}]}]});
    let chat = json!({"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "see", "annotations": [{"type": "file", "file": {"hash": "h"}}]}}]});
    for to in [OpenaiChat, OpenaiResponses, Anthropic, Gemini] {
        for (from, reply) in [(OpenaiResponses, &responses), (OpenaiChat, &chat)] {
            assert_eq!(losses(from, to, reply), "annotations=dropped", "{from:?} {to:?}");
        }
    }
}

#[test]
fn a_call_by_a_program_and_the_container_that_it_ran_in_are_told() {
    let caller = json!({"type": "code_execution_20250825", "tool_id": "srvtoolu_1"});
    let call =
        |caller| message(json!([{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": caller}]));
    assert_eq!(losses(Anthropic, OpenaiChat, &call(caller)), "content.caller=dropped");
    assert_eq!(losses(Anthropic, OpenaiChat, &call(json!({"type": "direct"}))), "");
    let stream = [
        json!({"type": "message_start", "message": message(json!([]))}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "container": {"id": "c", "expires_at": "t"}}}),
        json!({"type": "message_stop"}),
    ];
    let stream: String = stream.iter().map(|event| format!("data: {event}\n\n")).collect();
    let shapes = (Shape::Sse, Shape::Sse);
    let mut translator = ReplyTranslator::new(Anthropic, Gemini, shapes, Context::for_unknown_client()).unwrap();
    translator.feed(stream.as_bytes());
    assert_eq!(translator.losses().header().unwrap(), "container=dropped");
}

#[test]
fn signatures_in_a_row_all_come_back_from_a_gemini_client() {
    let sealed =
        [json!({"type": "redacted_thinking", "data": "Er1+"}), json!({"type": "redacted_thinking", "data": "Er2+"})];
    for last in
        [json!({"type": "text", "text": "x"}), json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}})]
    {
        let reply = message(json!([sealed[0], sealed[1], last]));
        for shape in [Shape::Json, Shape::JsonArray] {
            let content = parts(&reply, shape);
            let next = json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 2048}}, "contents": [{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": content},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}, {"text": "on"}]}]});
            let asked = body(Gemini, Anthropic, SONNET, &next);
            let turn: Vec<_> = asked["messages"][1]["content"].as_array().unwrap().iter().take(2).collect();
            assert_eq!(turn, [&sealed[0], &sealed[1]], "{shape:?} {asked}");
        }
    }
}

/// The parts that a Gemini client gets of a whole reply of Anthropic's.
fn parts(reply: &Value, shape: Shape) -> Value {
    let asked = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let context = translated(Gemini, Anthropic, SONNET, &asked).context;
    let answer: Value =
        serde_json::from_str(&run(Anthropic, Gemini, (Shape::Json, shape), context, &reply.to_string())).unwrap();
    let chunks = answer.as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
    chunks.iter().flat_map(|chunk| chunk["candidates"][0]["content"]["parts"].as_array().unwrap().clone()).collect()
}

#[test]
fn a_signature_too_long_to_be_carried_is_told() {
    let long = "x".repeat(1 << 20);
    let reply =
        message(json!([{"type": "thinking", "thinking": "hm", "signature": long}, {"type": "text", "text": "x"}]));
    for to in [OpenaiChat, OpenaiResponses, Gemini] {
        assert_eq!(losses(Anthropic, to, &reply), "reasoning.signature=dropped");
    }
}

/// Gemini's answer of which the end is cited; its places are told in bytes. The signature comes with the text.
fn grounded() -> Value {
    let segment = json!({"startIndex": 9, "endIndex": 21, "text": "à Besançon"});
    json!({"responseId": "r", "modelVersion": "m", "candidates": [{"finishReason": "STOP", "index": 0,
        "content": {"role": "model", "parts": [{"text": "Un café à Besançon.", "thoughtSignature": "c2ln"}]},
        "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://w.example", "title": "W"}}],
            "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0]}]}}]})
}

#[test]
fn a_citation_stands_for_the_same_words_in_every_measure() {
    let chat = whole(Gemini, OpenaiChat, &grounded());
    let cited = &chat["choices"][0]["message"]["annotations"][0]["url_citation"];
    assert_eq!((&cited["start_index"], &cited["end_index"]), (&json!(8), &json!(18)), "{chat}");
    let responses = whole(Gemini, OpenaiResponses, &grounded());
    let messages = responses["output"].as_array().unwrap().iter().find(|item| item["type"] == "message").unwrap();
    let cited = &messages["content"][0]["annotations"][0];
    assert_eq!((&cited["start_index"], &cited["end_index"]), (&json!(8), &json!(18)), "{responses}");
    for (from, reply) in [(OpenaiChat, &chat), (OpenaiResponses, &responses)] {
        let back = whole(from, Gemini, reply);
        let segment = &back["candidates"][0]["groundingMetadata"]["groundingSupports"][0]["segment"];
        assert_eq!(segment, &json!({"startIndex": 9, "endIndex": 21}), "{from:?} {back}");
    }
}

#[test]
fn the_answer_s_own_words_are_not_given_as_the_source_s() {
    let message = whole(Gemini, Anthropic, &grounded());
    let text = message["content"].as_array().unwrap().iter().find(|block| block["type"] == "text").unwrap();
    let cited = &text["citations"][0];
    assert_eq!((&cited["url"], &cited["cited_text"]), (&json!("https://w.example"), &json!("")), "{message}");
    assert_eq!(losses(Gemini, Anthropic, &grounded()), "citations.span=approximated");
    let back = whole(Anthropic, Gemini, &self::cited());
    let segment = &back["candidates"][0]["groundingMetadata"]["groundingSupports"][0]["segment"];
    assert_eq!(segment, &json!({"startIndex": 0, "endIndex": 9}), "the whole block: {back}");
}

#[test]
fn a_part_that_is_no_text_is_told() {
    let content = json!([{"type": "text", "text": "see "}, {"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "there"}]);
    let reply = json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": content}}]});
    assert_eq!(whole(OpenaiChat, Anthropic, &reply)["content"][0]["text"], "see there");
    assert_eq!(losses(OpenaiChat, Anthropic, &reply), "content.reference=dropped");
}
