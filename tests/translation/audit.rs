//! Rules of the translation reference that its tables do not show at first sight.

use crate::{GEMINI, GPT, SONNET, body, chat, losses, messages, options, refused};
use serde_json::{Value, json};
use sub2api::wire::{
    WireFormat::{Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    translate::{Options, translate_request},
};

fn contents(more: Value) -> Value {
    let mut request = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn losses_and_refusals_are_named_as_the_client_wrote_them() {
    let gemini = contents(json!({"generationConfig": {"topK": 3, "seed": 1}, "safetySettings": [{"category": "c"}]}));
    let lost = losses(Gemini, OpenaiResponses, GPT, &gemini);
    for field in ["generationConfig.topK=dropped", "generationConfig.seed=dropped", "safetySettings=dropped"] {
        assert!(lost.contains(field), "{field}: {lost}");
    }
    assert_eq!(
        refused(Gemini, OpenaiResponses, GPT, &contents(json!({"generationConfig": {"stopSequences": ["x"]}}))),
        "generationConfig.stopSequences"
    );
    let stop = messages(json!({"stop_sequences": ["x"]}));
    let refusal =
        translate_request(Anthropic, OpenaiResponses, stop.to_string().as_bytes(), &options(GPT)).unwrap_err();
    assert_eq!(refusal.param.as_deref(), Some("stop_sequences"));
    assert!(refusal.message.contains("remove stop_sequences"), "{refusal}");
    let strict = Options { strict: true, ..options(GPT) };
    let refusal = translate_request(Gemini, OpenaiChat, gemini.to_string().as_bytes(), &strict).unwrap_err();
    assert!(refusal.message.contains("generationConfig.topK=dropped"), "{refusal}");
}

#[test]
fn reasoning_models_take_no_stop_sequences_and_no_penalties() {
    assert_eq!(refused(Anthropic, OpenaiChat, "gpt-5", &messages(json!({"stop_sequences": ["x"]}))), "stop_sequences");
    let penalties = contents(json!({"generationConfig": {"frequencyPenalty": 0.5, "topP": 0.5}}));
    let out = body(Gemini, OpenaiChat, "o3-mini", &penalties);
    assert_eq!((out.get("frequency_penalty"), out.get("top_p")), (None, None));
    assert_eq!(
        losses(Gemini, OpenaiChat, "o3-mini", &penalties),
        "generationConfig.topP=dropped, generationConfig.frequencyPenalty=dropped"
    );
    assert_eq!(body(Anthropic, OpenaiChat, GPT, &messages(json!({"stop_sequences": ["x"]})))["stop"], json!(["x"]));
    let five = messages(json!({"stop_sequences": ["1", "2", "3", "4", "5"]}));
    assert_eq!(refused(Anthropic, OpenaiChat, GPT, &five), "stop_sequences");
}

#[test]
fn only_schemas_made_for_it_are_strict_at_openai() {
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let validated = |schema: &Value| {
        contents(json!({"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}}))
    };
    assert_eq!(body(Gemini, OpenaiChat, GPT, &validated(&closed))["tools"][0]["function"]["strict"], true);
    assert_eq!(body(Gemini, OpenaiChat, GPT, &validated(&open))["tools"][0]["function"].get("strict"), None);
    assert!(losses(Gemini, OpenaiChat, GPT, &validated(&open)).contains("functionCallingConfig.mode=dropped"));
    assert_eq!(body(Gemini, OpenaiResponses, GPT, &validated(&open))["tools"][0]["strict"], false);
    let strict = messages(json!({"tools": [{"name": "f", "strict": true, "input_schema": open}]}));
    assert_eq!(losses(Anthropic, OpenaiChat, GPT, &strict), "tools.strict=dropped");
    let claude = body(Gemini, Anthropic, SONNET, &validated(&open));
    assert_eq!(claude["tools"][0]["strict"], true);
    assert_eq!(claude["tools"][0]["input_schema"]["additionalProperties"], false);
}

#[test]
fn budgets_levels_and_efforts_follow_the_table_at_its_edges() {
    for (budget, level) in
        [(512, "minimal"), (1024, "low"), (2048, "low"), (8192, "medium"), (16384, "high"), (32768, "xhigh")]
    {
        let request = contents(json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": budget}}}));
        let effort = body(Gemini, OpenaiChat, "gpt-5", &request)["reasoning_effort"].clone();
        let want = if level == "xhigh" { "high" } else { level };
        assert_eq!(effort, want, "{budget}");
    }
    for (effort, budget) in [("minimal", 1024), ("low", 2048), ("medium", 8192), ("high", 16384), ("xhigh", 32768)] {
        let request = chat(json!({"reasoning_effort": effort}));
        assert_eq!(body(OpenaiChat, Anthropic, SONNET, &request)["thinking"]["budget_tokens"], budget, "{effort}");
    }
    let minimal = chat(json!({"reasoning_effort": "minimal"}));
    assert_eq!(body(OpenaiChat, Gemini, GEMINI, &minimal)["generationConfig"]["thinkingConfig"]["thinkingBudget"], 512);
    let max = body(OpenaiChat, Anthropic, SONNET, &chat(json!({"reasoning_effort": "max"})));
    assert!(max["max_tokens"].as_u64() > max["thinking"]["budget_tokens"].as_u64(), "{max}");
}

#[test]
fn a_filled_in_limit_leaves_room_behind_the_thinking() {
    let out = body(OpenaiChat, Anthropic, "my-own-model", &chat(json!({"reasoning_effort": "high"})));
    assert_eq!(
        (out["max_tokens"].as_u64(), out["thinking"]["budget_tokens"].as_u64()),
        (Some(8192 + 16384), Some(16384))
    );
}

#[test]
fn a_container_is_left_out_and_servers_are_refused() {
    assert_eq!(losses(Anthropic, OpenaiChat, GPT, &messages(json!({"container": "c_1"}))), "container=dropped");
    assert_eq!(refused(Anthropic, OpenaiChat, GPT, &messages(json!({"mcp_servers": []}))), "mcp_servers");
}

#[test]
fn what_a_responses_client_asks_to_be_included_is_listed_where_it_cannot_be() {
    let request = json!({"input": "hi", "include": ["reasoning.encrypted_content", "web_search_call.action.sources"],
        "reasoning": {"effort": "low", "summary": "auto"}, "truncation": "auto", "max_tool_calls": 2});
    let lost = losses(OpenaiResponses, OpenaiChat, "gpt-5", &request);
    for field in ["include.web_search_call.action.sources", "reasoning.summary", "truncation", "max_tool_calls"] {
        assert!(lost.contains(&format!("{field}=dropped")), "{field}: {lost}");
    }
    assert!(
        !lost.contains("encrypted_content")
            && !losses(OpenaiResponses, Anthropic, SONNET, &request).contains("summary")
    );
}

#[test]
fn what_a_conversation_holds_beside_its_words_is_listed() {
    let cited = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [
        {"type": "text", "text": "b", "citations": [{"type": "char_location", "cited_text": "c"}]}]}, {"role": "user", "content": "d"}]});
    assert_eq!(losses(Anthropic, OpenaiChat, GPT, &cited), "messages.citations=dropped");
    let phased = json!({"input": [{"role": "user", "content": "a"}, {"type": "message", "role": "assistant", "phase": "commentary",
        "content": [{"type": "output_text", "text": "b", "annotations": [{"type": "url_citation", "url": "u"}]}]}, {"role": "user", "content": "c"}]});
    assert_eq!(losses(OpenaiResponses, Anthropic, SONNET, &phased), "input.phase=dropped, input.annotations=dropped");
    let noted = chat(
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "annotations": [{"type": "url_citation"}]}, {"role": "user", "content": "c"}]}),
    );
    assert_eq!(losses(OpenaiChat, Gemini, GEMINI, &noted), "messages.annotations=dropped");
}

#[test]
fn free_text_tools_are_allowed_by_their_own_kind() {
    let request = json!({"input": "hi", "tools": [{"type": "custom", "name": "patch"}, {"type": "function", "name": "f"}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "patch"}, {"type": "function", "name": "f"}]}});
    let allowed = body(OpenaiResponses, OpenaiChat, GPT, &request)["tool_choice"]["allowed_tools"]["tools"].clone();
    assert_eq!(
        allowed,
        json!([{"type": "custom", "custom": {"name": "patch"}}, {"type": "function", "function": {"name": "f"}}])
    );
}

#[test]
fn names_that_gemini_does_not_take_come_back_as_they_were() {
    let request = chat(
        json!({"tools": [{"type": "function", "function": {"name": "3d_view"}}], "tool_choice": {"type": "function", "function": {"name": "3d_view"}}}),
    );
    let out = body(OpenaiChat, Gemini, GEMINI, &request);
    let name = out["tools"][0]["functionDeclarations"][0]["name"].as_str().unwrap();
    assert_eq!(name, "_3d_view");
    assert_eq!(out["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"], json!([name]));
}

#[test]
fn names_and_descriptions_that_have_no_place_are_listed() {
    let file =
        json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}});
    let request = chat(json!({"messages": [{"role": "user", "content": [file]}]}));
    assert_eq!(losses(OpenaiChat, Gemini, GEMINI, &request), "messages.file.filename=dropped");
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {"type": "object"}}});
    let request = chat(json!({"response_format": format}));
    for (to, model) in [(Gemini, GEMINI), (Anthropic, SONNET)] {
        assert_eq!(losses(OpenaiChat, to, model, &request), "response_format.json_schema.description=dropped");
    }
    let search = chat(json!({"tools": [{"type": "openrouter:web_search", "parameters": {"max_uses": 1}}]}));
    assert_eq!(losses(OpenaiChat, Anthropic, SONNET, &search), "tools.web_search=approximated");
}
