//! What a request becomes in another format, rule by rule of the translation reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod audit;
mod bounds;
mod conversions;
mod counts;
mod logprobs;
mod odd;
mod properties;
mod quirks;
mod replies;
mod same;
mod told;
mod turns;

use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    translate::{Options, Translated, translate_request},
};

pub(crate) fn options(model: &str) -> Options<'_> {
    Options { model, request_id: "req_1", now: 1_700_000_000, ..Options::default() }
}

pub(crate) fn translated(from: WireFormat, to: WireFormat, model: &str, body: &Value) -> Translated {
    translate_request(from, to, body.to_string().as_bytes(), &options(model)).unwrap_or_else(|e| panic!("{e}: {body}"))
}

pub(crate) fn body(from: WireFormat, to: WireFormat, model: &str, body: &Value) -> Value {
    serde_json::from_slice(&translated(from, to, model, body).body).unwrap()
}

pub(crate) fn losses(from: WireFormat, to: WireFormat, model: &str, body: &Value) -> String {
    translated(from, to, model, body).losses.header().unwrap_or_default()
}

pub(crate) fn refused(from: WireFormat, to: WireFormat, model: &str, body: &Value) -> String {
    let refusal = translate_request(from, to, body.to_string().as_bytes(), &options(model)).expect_err("refused");
    refusal.param.unwrap_or_default()
}

/// A chat request with more members.
pub(crate) fn chat(more: Value) -> Value {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

pub(crate) fn messages(more: Value) -> Value {
    let mut request = json!({"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

pub(crate) const SONNET: &str = "claude-sonnet-4-5";
pub(crate) const GPT: &str = "gpt-4o";
pub(crate) const GEMINI: &str = "gemini-2.5-flash";

#[test]
fn max_tokens_is_filled_in_from_the_model_and_renamed() {
    assert_eq!(body(OpenaiChat, Anthropic, SONNET, &chat(json!({})))["max_tokens"], 64_000);
    assert_eq!(body(OpenaiChat, Anthropic, "claude-3-5-haiku-20241022", &chat(json!({})))["max_tokens"], 8192);
    assert_eq!(body(OpenaiChat, Anthropic, SONNET, &chat(json!({"max_tokens": 7})))["max_tokens"], 7);
    let to_chat = body(Anthropic, OpenaiChat, GPT, &messages(json!({})));
    assert_eq!((to_chat["max_completion_tokens"].as_u64(), to_chat.get("max_tokens")), (Some(4096), None));
    let request = messages(json!({})).to_string();
    let compatible = Options { compatible: true, ..options("llama") };
    let out = translate_request(Anthropic, OpenaiChat, request.as_bytes(), &compatible).unwrap();
    assert!(String::from_utf8(out.body).unwrap().contains("\"max_tokens\":4096"));
    assert_eq!(body(OpenaiChat, OpenaiResponses, GPT, &chat(json!({"max_tokens": 5})))["max_output_tokens"], 16);
}

#[test]
fn temperature_is_clamped_for_anthropic_and_left_out_where_it_is_refused() {
    let hot = chat(json!({"temperature": 1.7}));
    assert_eq!(body(OpenaiChat, Anthropic, SONNET, &hot)["temperature"], 1);
    assert_eq!(losses(OpenaiChat, Anthropic, SONNET, &hot), "temperature=approximated");
    assert_eq!(body(OpenaiChat, Anthropic, "claude-opus-5-5", &hot).get("temperature"), None);
    assert_eq!(losses(OpenaiChat, Anthropic, "claude-opus-5-5", &hot), "temperature=dropped");
    assert_eq!(losses(Anthropic, OpenaiChat, "gpt-5.1", &messages(json!({"temperature": 0.5}))), "temperature=dropped");
    assert_eq!(body(OpenaiChat, Gemini, GEMINI, &hot)["generationConfig"]["temperature"], 1.7);
}

#[test]
fn what_the_target_cannot_say_is_listed_and_defaults_are_not() {
    let silent = chat(json!({"stop": [], "n": 1, "presence_penalty": 0, "logprobs": false, "user": null}));
    for to in [Anthropic, Gemini, OpenaiResponses] {
        assert_eq!(losses(OpenaiChat, to, "m", &silent), "", "{to:?}");
    }
    let loud = chat(json!({"seed": 3, "logit_bias": {"1": 2}, "frequency_penalty": 0.5, "prediction": {}}));
    let lost = losses(OpenaiChat, Anthropic, SONNET, &loud);
    for field in ["seed=dropped", "logit_bias=dropped", "frequency_penalty=dropped", "prediction=dropped"] {
        assert!(lost.contains(field), "{field}: {lost}");
    }
    assert_eq!(losses(Anthropic, OpenaiChat, GPT, &messages(json!({"top_k": 5}))), "top_k=dropped");
}

#[test]
fn what_would_change_the_answer_is_refused_and_named() {
    assert_eq!(refused(OpenaiChat, Anthropic, SONNET, &chat(json!({"n": 2}))), "n");
    assert_eq!(refused(OpenaiChat, Anthropic, SONNET, &chat(json!({"logprobs": true}))), "logprobs");
    assert_eq!(refused(OpenaiChat, OpenaiResponses, GPT, &chat(json!({"stop": "x"}))), "stop");
    assert_eq!(refused(OpenaiChat, Gemini, GEMINI, &chat(json!({"modalities": ["text", "audio"]}))), "modalities");
    assert_eq!(refused(OpenaiChat, Gemini, GEMINI, &chat(json!({"stop": ["1", "2", "3", "4", "5", "6"]}))), "stop");
    assert_eq!(
        refused(OpenaiResponses, OpenaiChat, GPT, &json!({"input": "hi", "previous_response_id": "r"})),
        "previous_response_id"
    );
    assert_eq!(refused(Anthropic, OpenaiChat, GPT, &messages(json!({"mcp_servers": [{}]}))), "mcp_servers");
    assert_eq!(
        refused(Gemini, OpenaiChat, GPT, &json!({"contents": [{"parts": [{"text": "a"}]}], "cachedContent": "c"})),
        "cachedContent"
    );
    assert_eq!(
        refused(Gemini, OpenaiChat, GPT, &json!({"contents": [{"role": "bot", "parts": [{"text": "a"}]}]})),
        "contents.role"
    );
    let prefill =
        json!({"max_tokens": 9, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    assert_eq!(refused(Anthropic, OpenaiChat, GPT, &prefill), "messages");
}

#[test]
fn strict_mode_names_every_field_instead_of_losing_it() {
    let request = chat(json!({"seed": 1, "logit_bias": {}})).to_string();
    let strict = Options { strict: true, ..options(SONNET) };
    let refusal = translate_request(OpenaiChat, Anthropic, request.as_bytes(), &strict).unwrap_err();
    assert!(refusal.message.contains("seed=dropped") && refusal.message.contains("logit_bias=dropped"), "{refusal}");
}

#[test]
fn system_prompts_lead_joined_and_later_ones_become_marked_user_text() {
    let request = chat(json!({"messages": [
        {"role": "system", "content": "a"}, {"role": "developer", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"}, {"role": "system", "content": "d"}, {"role": "user", "content": "e"}]}));
    let anthropic = body(OpenaiChat, Anthropic, SONNET, &request);
    assert_eq!(anthropic["system"], "a\n\nb");
    let texts = &anthropic["messages"][0]["content"];
    assert_eq!(
        (texts[0]["text"].as_str(), texts[1]["text"].as_str()),
        (Some("c"), Some("<system-reminder>\nd\n</system-reminder>"))
    );
    assert_eq!(losses(OpenaiChat, Anthropic, SONNET, &request), "messages.system=emulated");
    assert_eq!(body(OpenaiChat, Anthropic, "claude-opus-5-5", &request)["messages"][1]["role"], "system");
    assert_eq!(body(OpenaiChat, Gemini, GEMINI, &request)["systemInstruction"]["parts"][0]["text"], "a\n\nb");
    let responses = body(OpenaiChat, OpenaiResponses, GPT, &request);
    assert_eq!(
        (responses["instructions"].as_str(), responses["input"][1]["role"].as_str()),
        (Some("a\n\nb"), Some("developer"))
    );
}

fn with_results() -> Value {
    chat(json!({"messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{\"x\": 1.50}"}}]},
        {"role": "tool", "tool_call_id": "call_a", "content": "one"},
        {"role": "tool", "tool_call_id": "call_b", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "and?"}],
        "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}]}))
}

#[test]
fn parallel_results_become_one_turn_with_the_results_first() {
    let anthropic = body(OpenaiChat, Anthropic, SONNET, &with_results());
    let turns = anthropic["messages"].as_array().unwrap();
    assert_eq!(turns.len(), 3);
    assert_eq!(turns[1]["content"][0], json!({"type": "tool_use", "id": "call_a", "name": "f", "input": {}}));
    assert_eq!(
        turns[2]["content"],
        json!([
        {"type": "tool_result", "tool_use_id": "call_a", "content": "one"},
        {"type": "tool_result", "tool_use_id": "call_b", "content": "two"},
        {"type": "text", "text": "and?"}])
    );
    assert_eq!(anthropic["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
    let raw = String::from_utf8(translated(OpenaiChat, Anthropic, SONNET, &with_results()).body).unwrap();
    assert!(raw.contains("{\"x\": 1.50}"), "arguments keep their numbers as they were written");
    let gemini = body(OpenaiChat, Gemini, GEMINI, &with_results());
    let parts = &gemini["contents"][2]["parts"];
    assert_eq!(parts[1]["functionResponse"], json!({"id": "call_b", "name": "g", "response": {"result": "two"}}));
    assert_eq!(parts[2]["text"], "and?");
}

#[test]
fn errors_of_tools_are_marked_in_every_format() {
    let request = json!({"max_tokens": 9, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": "bad"}]}]});
    assert_eq!(body(Anthropic, OpenaiChat, GPT, &request)["messages"][2]["content"], "Error: bad");
    assert_eq!(body(Anthropic, OpenaiResponses, GPT, &request)["input"][2]["output"], "Error: bad");
    let gemini = body(Anthropic, Gemini, GEMINI, &request);
    assert_eq!(gemini["contents"][2]["parts"][0]["functionResponse"]["response"], json!({"error": "bad"}));
    let back = json!({"contents": gemini["contents"]});
    assert_eq!(body(Gemini, Anthropic, SONNET, &back)["messages"][2]["content"][0]["is_error"], true);
}

#[test]
fn images_in_results_go_along_or_into_the_next_user_message() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    let request = json!({"max_tokens": 9, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "see"}, image]}]}]});
    let chat = body(Anthropic, OpenaiChat, GPT, &request);
    assert_eq!(chat["messages"][3]["content"][1]["image_url"]["url"], "data:image/png;base64,AAAA");
    assert_eq!(body(Anthropic, OpenaiResponses, GPT, &request)["input"][2]["output"][1]["type"], "input_image");
    let three = body(Anthropic, Gemini, "gemini-3-pro", &request);
    assert_eq!(three["contents"][2]["parts"][0]["functionResponse"]["parts"][0]["inlineData"]["data"], "AAAA");
    let two = body(Anthropic, Gemini, GEMINI, &request);
    assert_eq!(two["contents"][2]["parts"][1]["inlineData"]["mimeType"], "image/png");
}

#[test]
fn media_goes_where_both_can_and_is_refused_where_not() {
    let pdf =
        json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}});
    let request = chat(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, pdf]}]}));
    let source = &body(OpenaiChat, Anthropic, SONNET, &request)["messages"][0]["content"][1];
    assert_eq!(source["source"], json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}));
    assert_eq!(
        body(OpenaiChat, Gemini, GEMINI, &request)["contents"][0]["parts"][1]["inlineData"]["mimeType"],
        "application/pdf"
    );
    assert_eq!(body(OpenaiChat, OpenaiResponses, GPT, &request)["input"][0]["content"][1]["filename"], "a.pdf");
    let audio = json!({"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}});
    let request = chat(json!({"messages": [{"role": "user", "content": [audio]}]}));
    assert_eq!(refused(OpenaiChat, Anthropic, SONNET, &request), "audio");
    assert_eq!(
        body(OpenaiChat, Gemini, GEMINI, &request)["contents"][0]["parts"][0]["inlineData"]["mimeType"],
        "audio/mp3"
    );
    let text = json!({"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "words"}});
    let request = messages(json!({"messages": [{"role": "user", "content": [text]}]}));
    assert_eq!(body(Anthropic, OpenaiChat, GPT, &request)["messages"][0]["content"][0]["text"], "words");
    let file = json!({"type": "image", "source": {"type": "file", "file_id": "f"}});
    assert_eq!(
        refused(Anthropic, Gemini, GEMINI, &messages(json!({"messages": [{"role": "user", "content": [file]}]}))),
        "image"
    );
    let url = json!({"type": "image_url", "image_url": {"url": "https://example.org/a.webp", "detail": "low"}});
    let request = chat(json!({"messages": [{"role": "user", "content": [url]}]}));
    assert_eq!(
        body(OpenaiChat, Gemini, GEMINI, &request)["contents"][0]["parts"][0]["fileData"]["mimeType"],
        "image/webp"
    );
    assert_eq!(losses(OpenaiChat, Anthropic, SONNET, &request), "image_url.detail=dropped");
}

#[test]
fn every_tool_choice_has_its_counterpart() {
    let tools =
        json!([{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]);
    let named = json!({"type": "function", "function": {"name": "f"}});
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named.clone()]}});
    for (choice, anthropic, gemini, responses) in [
        (json!("auto"), json!({"type": "auto"}), json!({"mode": "AUTO"}), json!("auto")),
        (json!("none"), json!({"type": "none"}), json!({"mode": "NONE"}), json!("none")),
        (json!("required"), json!({"type": "any"}), json!({"mode": "ANY"}), json!("required")),
        (json!("any"), json!({"type": "any"}), json!({"mode": "ANY"}), json!("required")),
        (
            named,
            json!({"type": "tool", "name": "f"}),
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
            json!({"type": "function", "name": "f"}),
        ),
        (
            allowed,
            json!({"type": "any"}),
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
            json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}),
        ),
    ] {
        let request = chat(json!({"tools": tools, "tool_choice": choice}));
        assert_eq!(body(OpenaiChat, Anthropic, SONNET, &request)["tool_choice"], anthropic, "{choice}");
        assert_eq!(
            body(OpenaiChat, Gemini, GEMINI, &request)["toolConfig"]["functionCallingConfig"],
            gemini,
            "{choice}"
        );
        assert_eq!(body(OpenaiChat, OpenaiResponses, GPT, &request)["tool_choice"], responses, "{choice}");
    }
    let single = chat(json!({"tools": tools, "parallel_tool_calls": false}));
    let choice = &body(OpenaiChat, Anthropic, SONNET, &single)["tool_choice"];
    assert_eq!(*choice, json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(losses(OpenaiChat, Gemini, GEMINI, &single), "parallel_tool_calls=dropped");
}

#[test]
fn odd_tool_names_are_changed_for_the_provider() {
    let request = json!({"contents": [{"parts": [{"text": "x"}]}],
        "tools": [{"functionDeclarations": [{"name": "files.read:all", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": true}}}}]}]});
    let tool = &body(Gemini, Anthropic, SONNET, &request)["tools"][0];
    assert!(tool["name"].as_str().unwrap().starts_with("files_read_all_"), "{tool}");
    assert_eq!(tool["input_schema"], json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}}));
}

#[test]
fn structured_output_is_native_where_it_can_be_and_a_tool_where_not() {
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}}});
    let request = chat(json!({"response_format": format}));
    let native = body(OpenaiChat, Anthropic, SONNET, &request);
    let schema = &native["output_config"]["format"]["schema"];
    assert_eq!(
        (&schema["additionalProperties"], &schema["properties"]["a"]["additionalProperties"]),
        (&json!(false), &json!(false))
    );
    let older = body(OpenaiChat, Anthropic, "claude-3-5-sonnet-20241022", &request);
    assert_eq!(older["tool_choice"], json!({"type": "tool", "name": "structured_answer"}));
    assert_eq!(losses(OpenaiChat, Anthropic, "claude-3-5-sonnet-20241022", &request), "response_format=emulated");
    let gemini = body(OpenaiChat, Gemini, GEMINI, &request);
    assert_eq!(gemini["generationConfig"]["responseMimeType"], "application/json");
    assert_eq!(body(OpenaiChat, OpenaiResponses, GPT, &request)["text"]["format"]["name"], "n");
    let unnamed = json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}}});
    assert_eq!(body(Gemini, OpenaiChat, GPT, &unnamed)["response_format"]["json_schema"]["name"], "response");
}

#[test]
fn efforts_budgets_and_levels_stand_for_each_other() {
    let high = chat(json!({"reasoning_effort": "high"}));
    assert_eq!(
        body(OpenaiChat, Anthropic, SONNET, &high)["thinking"],
        json!({"type": "enabled", "budget_tokens": 16384})
    );
    let adaptive = body(OpenaiChat, Anthropic, "claude-opus-4-7", &high);
    assert_eq!(
        (&adaptive["thinking"]["type"], &adaptive["output_config"]["effort"]),
        (&json!("adaptive"), &json!("high"))
    );
    assert_eq!(body(OpenaiChat, Gemini, GEMINI, &high)["generationConfig"]["thinkingConfig"]["thinkingBudget"], 16384);
    assert_eq!(
        body(OpenaiChat, Gemini, "gemini-3-pro", &high)["generationConfig"]["thinkingConfig"]["thinkingLevel"],
        "high"
    );
    let budget = messages(json!({"max_tokens": 30000, "thinking": {"type": "enabled", "budget_tokens": 2000}}));
    assert_eq!(body(Anthropic, OpenaiChat, "gpt-5.2", &budget)["reasoning_effort"], "low");
    assert_eq!(
        body(Anthropic, OpenaiResponses, "gpt-5.2", &budget)["reasoning"],
        json!({"effort": "low", "summary": "auto"})
    );
    assert_eq!(losses(Anthropic, OpenaiChat, GPT, &budget), "thinking=dropped");
    let small = chat(json!({"reasoning_effort": "high", "max_tokens": 3000}));
    assert_eq!(body(OpenaiChat, Anthropic, SONNET, &small)["thinking"]["budget_tokens"], 2999);
    let off = json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}});
    assert_eq!(body(Gemini, Anthropic, SONNET, &off).get("thinking"), None);
}

#[test]
fn the_responses_side_stays_stateless_and_loose() {
    let request = chat(
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]}),
    );
    let out = body(OpenaiChat, OpenaiResponses, "gpt-5.2", &request);
    assert_eq!((&out["store"], &out["include"]), (&json!(false), &json!(["reasoning.encrypted_content"])));
    assert_eq!(out["tools"][0]["strict"], false, "absent would mean strict there");
}

#[test]
fn long_user_ids_are_told_apart_and_fit() {
    let request = messages(json!({"metadata": {"user_id": "u".repeat(100)}}));
    let id = body(Anthropic, OpenaiChat, GPT, &request)["safety_identifier"].as_str().unwrap().to_owned();
    assert!(id.len() <= 64 && id.starts_with("user_"));
    assert_eq!(body(OpenaiChat, Anthropic, SONNET, &chat(json!({"user": "me"})))["metadata"]["user_id"], "me");
}

#[test]
fn nested_and_free_text_tools_of_codex_reach_every_format() {
    let request = json!({"input": "hi", "tools": [
        {"type": "namespace", "name": "fs", "tools": [{"type": "function", "name": "read", "parameters": {"type": "object", "properties": {}}}]},
        {"type": "custom", "name": "apply_patch", "description": "d"}, {"type": "web_search"}]});
    let out = body(OpenaiResponses, Anthropic, SONNET, &request);
    assert_eq!(out["tools"][0]["name"], "fs__read");
    assert_eq!(out["tools"][1]["input_schema"]["required"], json!(["input"]));
    assert_eq!(out["tools"][2]["type"], "web_search_20250305");
}

#[test]
fn a_body_that_cannot_be_read_says_where() {
    for from in [OpenaiChat, OpenaiResponses, Anthropic, Gemini] {
        let to = if from == Anthropic { Gemini } else { Anthropic };
        let refusal = translate_request(from, to, b"{\"messages\": [}", &options("m")).unwrap_err();
        assert!(refusal.message.contains("column"), "{refusal}");
        assert!(translate_request(from, to, b"{}", &options("m")).is_err(), "{from:?}: nothing to say is refused");
    }
}

#[test]
fn what_is_wrong_with_a_body_is_said_with_its_place() {
    let chat = |message: Value| json!({"model": "m", "messages": [{"role": "user", "content": "hi"}, message]});
    let user = |part: Value| chat(json!({"role": "user", "content": [{"type": "text", "text": "see"}, part]}));
    let claude = |block: Value| json!({"max_tokens": 5, "messages": [{"role": "user", "content": [block]}]});
    let gemini = |part: Value| json!({"contents": [{"role": "user", "parts": [{"text": "hi"}, part]}]});
    for (from, body, place) in [
        (OpenaiChat, chat(json!({"role": 5, "content": "x"})), "messages[1].role"),
        (OpenaiChat, user(json!({"type": "text", "text": 5})), "messages[1].content[1].text"),
        (OpenaiChat, chat(json!({"role": "user", "content": 5})), "messages[1].content"),
        (OpenaiChat, json!({"messages": "x"}), "messages"),
        (OpenaiChat, json!({"tools": [{"function": {"name": 5}}], "messages": []}), "tools[0].function.name"),
        (OpenaiChat, json!({"tool_choice": {"function": {"name": []}}, "messages": []}), "tool_choice.function.name"),
        (OpenaiChat, user(json!({"type": "image_url", "image_url": {}})), "image"),
        (OpenaiResponses, json!({"input": [{"role": "user", "content": [{"text": {}}]}]}), "input[0].content[0].text"),
        (OpenaiResponses, json!({"input": "hi", "tool_choice": 5}), "tool_choice"),
        (Anthropic, claude(json!({"type": "text", "text": 5})), "messages[0].content[0].text"),
        (Anthropic, claude(json!({"type": "image", "source": {"type": "base64", "data": 5}})), "source.data"),
        (Anthropic, claude(json!({"type": "image", "source": {"type": "base64"}})), "image"),
        (Anthropic, json!({"max_tokens": {}, "messages": []}), "max_tokens"),
        (Anthropic, json!({"system": [{"type": "text", "text": []}], "messages": []}), "system[0].text"),
        (Gemini, gemini(json!({"text": 5})), "contents[0].parts[1].text"),
        (Gemini, gemini(json!({"inlineData": {"mimeType": "image/png"}})), "image"),
        (Gemini, json!({"contents": [], "generationConfig": {"topP": "x"}}), "generationConfig.topP"),
    ] {
        let to = if from == Anthropic { OpenaiChat } else { Anthropic };
        let refusal = translate_request(from, to, body.to_string().as_bytes(), &options("m")).unwrap_err();
        assert_eq!(refusal.param.as_deref(), Some(place), "{from:?} {body}: {refusal}");
        assert!(refusal.message.contains(place) && !refusal.message.contains(" at line "), "{refusal}");
    }
}

#[test]
fn a_choice_of_tools_that_nobody_knows_is_told() {
    let tools = json!([{"type": "function", "name": "f", "function": {"name": "f"}}]);
    for (from, choice) in [
        (OpenaiChat, json!("sometimes")),
        (OpenaiChat, json!({"type": "surprise"})),
        (OpenaiResponses, json!("sometimes")),
        (OpenaiResponses, json!({"type": "image_generation"})),
    ] {
        let body = json!({"tools": tools, "tool_choice": choice, "input": "hi", "messages": [{"role": "user", "content": "hi"}]});
        let done = translate_request(from, Anthropic, body.to_string().as_bytes(), &options("m")).unwrap();
        let losses = done.losses.header().unwrap_or_default();
        assert!(losses.contains("tool_choice=dropped"), "{from:?} {choice}: {losses}");
    }
}
