//! What a reply or a conversation says, read from its JSON in the plainest way, for comparison.

use serde_json::{Value, json};
use sub2api::wire::WireFormat;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// Input in all, of it from the cache, output in all, of it reasoning.
pub(crate) type Counts = (u64, u64, u64, u64);

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) usage: Counts,
    pub(crate) finish: String,
    pub(crate) is_error: bool,
}

fn n(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

pub(crate) fn s(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(crate) fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        other => vec![other.clone()],
    }
}

/// A member under its camelCase or its snake_case name.
pub(crate) fn either<'v>(value: &'v Value, camel: &str) -> &'v Value {
    let snake: String = camel
        .chars()
        .flat_map(|c| if c.is_ascii_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
        .collect();
    let found = &value[camel];
    if found.is_null() { &value[snake.as_str()] } else { found }
}

/// Arguments as JSON; broken ones as `{"arguments": text}`, as they are told to formats that want an object.
pub(crate) fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => value,
        _ => json!({"arguments": text}),
    }
}

/// The finish class in words that all formats share: stop, length, tools, refusal; what cannot be said is `stop`.
pub(crate) fn finish_in(class: &str, to: WireFormat) -> String {
    match (class, to) {
        ("tools", WireFormat::Gemini) => "tools",
        ("pause", WireFormat::Anthropic) => "pause",
        ("pause", _) => "length",
        ("failed", WireFormat::OpenaiResponses) => "failed",
        ("failed", WireFormat::Gemini) => "failed",
        ("failed", _) => "stop",
        ("broken", WireFormat::Gemini) => "broken",
        ("broken", _) => "stop",
        (class, _) => class,
    }
    .to_owned()
}

fn with_calls(class: &str, calls: &[Call]) -> String {
    match class {
        "stop" | "" if !calls.is_empty() => "tools",
        "tools" if calls.is_empty() => "stop",
        "" => "stop",
        class => class,
    }
    .to_owned()
}

fn usage(format: WireFormat, u: &Value) -> Counts {
    match format {
        WireFormat::OpenaiChat => {
            let vendors = ["cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"].map(|name| n(&u[name]));
            let cached = vendors.into_iter().fold(n(&u["prompt_tokens_details"]["cached_tokens"]), Ord::max);
            let (prompt, completion) = (n(&u["prompt_tokens"]), n(&u["completion_tokens"]));
            // xAI and Google count reasoning beside the completion; the total tells.
            let output = completion.max(n(&u["total_tokens"]).saturating_sub(prompt));
            (prompt, cached, output, n(&u["completion_tokens_details"]["reasoning_tokens"]))
        }
        WireFormat::OpenaiResponses => (
            n(&u["input_tokens"]),
            n(&u["input_tokens_details"]["cached_tokens"]),
            n(&u["output_tokens"]),
            n(&u["output_tokens_details"]["reasoning_tokens"]),
        ),
        WireFormat::Anthropic => {
            let cached = n(&u["cache_read_input_tokens"]);
            let input = n(&u["input_tokens"]) + cached + n(&u["cache_creation_input_tokens"]);
            (input, cached, n(&u["output_tokens"]), n(&u["output_tokens_details"]["thinking_tokens"]))
        }
        WireFormat::Gemini => {
            let thoughts = n(&u["thoughtsTokenCount"]);
            let input = n(&u["promptTokenCount"]) + n(&u["toolUsePromptTokenCount"]);
            (input, n(&u["cachedContentTokenCount"]), n(&u["candidatesTokenCount"]) + thoughts, thoughts)
        }
    }
}

fn class(format: WireFormat, word: &str) -> &'static str {
    match (format, word) {
        (WireFormat::OpenaiChat, "length" | "model_length") => "length",
        (WireFormat::OpenaiChat, "content_filter") => "refusal",
        (WireFormat::OpenaiChat, "tool_calls" | "function_call") => "tools",
        (WireFormat::Anthropic, "max_tokens" | "model_context_window_exceeded") => "length",
        (WireFormat::Anthropic, "tool_use") => "tools",
        (WireFormat::Anthropic, "refusal") => "refusal",
        (WireFormat::Anthropic, "pause_turn") => "pause",
        (WireFormat::Gemini, "MAX_TOKENS") => "length",
        (WireFormat::Gemini, "STOP" | "FINISH_REASON_UNSPECIFIED" | "") => "stop",
        (
            WireFormat::Gemini,
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE",
        ) => "broken",
        (WireFormat::Gemini, "OTHER") => "failed",
        (WireFormat::Gemini, _) => "refusal",
        _ => "stop",
    }
}

fn chat_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        other => list(other).iter().map(|part| s(&part["text"])).collect(),
    }
}

/// A whole reply.
pub(crate) fn of_whole(format: WireFormat, reply: &Value) -> Seen {
    let mut seen = Seen::default();
    if reply["error"].is_object() && reply["status"] != "failed" || reply["type"] == "error" {
        seen.is_error = true;
        return seen;
    }
    match format {
        WireFormat::OpenaiChat => {
            let choice = &reply["choices"][0];
            let message = &choice["message"];
            seen.text = chat_text(&message["content"]) + s(&message["refusal"]);
            for call in list(&message["tool_calls"]) {
                let custom = !s(&call["custom"]["name"]).is_empty();
                let function = if custom { &call["custom"] } else { &call["function"] };
                let arguments = match &function["arguments"] {
                    Value::String(text) => arguments(text),
                    Value::Null => json!({"input": s(&function["input"])}),
                    other => arguments(&other.to_string()),
                };
                let (id, name) = (s(&call["id"]).to_owned(), s(&function["name"]).to_owned());
                seen.calls.push(Call { id, name, arguments });
            }
            if !s(&message["function_call"]["name"]).is_empty() {
                let function = &message["function_call"];
                let name = s(&function["name"]).to_owned();
                seen.calls.push(Call { id: String::new(), name, arguments: arguments(s(&function["arguments"])) });
            }
            let refused = !s(&message["refusal"]).is_empty();
            let word = class(format, s(&choice["finish_reason"]));
            seen.finish = if refused { "refusal".into() } else { with_calls(word, &seen.calls) };
            seen.usage = usage(format, &reply["usage"]);
        }
        WireFormat::OpenaiResponses => responses(&mut seen, reply),
        WireFormat::Anthropic => {
            for block in list(&reply["content"]) {
                match s(&block["type"]) {
                    "text" => seen.text.push_str(s(&block["text"])),
                    "tool_use" => seen.calls.push(Call {
                        id: s(&block["id"]).to_owned(),
                        name: s(&block["name"]).to_owned(),
                        arguments: block["input"].clone(),
                    }),
                    _ => {}
                }
            }
            seen.finish = with_calls(class(format, s(&reply["stop_reason"])), &seen.calls);
            seen.usage = usage(format, &reply["usage"]);
        }
        WireFormat::Gemini => gemini(&mut seen, std::slice::from_ref(reply)),
    }
    seen
}

fn responses(seen: &mut Seen, reply: &Value) {
    let mut refused = false;
    for item in list(&reply["output"]) {
        match s(&item["type"]) {
            "message" => {
                for part in list(&item["content"]) {
                    seen.text.push_str(s(&part["text"]));
                    seen.text.push_str(s(&part["refusal"]));
                    refused |= part["type"] == "refusal";
                }
            }
            "function_call" | "custom_tool_call" => seen.calls.push(Call {
                id: s(&item["call_id"]).to_owned(),
                name: s(&item["name"]).to_owned(),
                arguments: match item["input"].as_str() {
                    Some(text) => json!({"input": text}),
                    None => arguments(s(&item["arguments"])),
                },
            }),
            _ => {}
        }
    }
    seen.is_error = matches!(s(&reply["status"]), "queued" | "in_progress" | "cancelled");
    let reason = s(&reply["incomplete_details"]["reason"]);
    seen.finish = match (s(&reply["status"]), reason) {
        ("incomplete", "content_filter") => "refusal".into(),
        ("incomplete", _) => "length".into(),
        ("failed", _) => "failed".into(),
        _ if refused => "refusal".into(),
        _ => with_calls("stop", &seen.calls),
    };
    seen.usage = usage(WireFormat::OpenaiResponses, &reply["usage"]);
}

fn gemini(seen: &mut Seen, chunks: &[Value]) {
    let mut word = String::new();
    for chunk in chunks {
        if chunk["error"].is_object() {
            seen.is_error = true;
        }
        let candidate = &chunk["candidates"][0];
        for part in list(&candidate["content"]["parts"]) {
            if part["thought"] != true {
                seen.text.push_str(s(&part["text"]));
            }
            let call = either(&part, "functionCall");
            for piece in list(&call["partialArgs"]) {
                let key = s(&piece["jsonPath"]).trim_start_matches("$.").to_owned();
                let arguments = &mut seen.calls.last_mut().expect("a piece follows its call").arguments;
                let known = s(&arguments[&key]).to_owned();
                arguments[key] = json!(known + s(&piece["stringValue"]));
            }
            if call["name"].is_string() {
                let (id, name) = (s(&call["id"]).to_owned(), s(&call["name"]).to_owned());
                let arguments = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
                seen.calls.push(Call { id, name, arguments });
            }
        }
        if candidate["finishReason"].is_string() {
            word = s(&candidate["finishReason"]).to_owned();
        }
        if chunk["promptFeedback"]["blockReason"].is_string() {
            word = "SAFETY".into();
        }
        if chunk["usageMetadata"].is_object() {
            seen.usage = usage(WireFormat::Gemini, &chunk["usageMetadata"]);
        }
    }
    seen.finish = match class(WireFormat::Gemini, &word) {
        "length" | "broken" | "failed" if !seen.calls.is_empty() => "tools".into(),
        class => with_calls(class, &seen.calls),
    };
    if seen.is_error {
        seen.finish.clear();
        seen.usage = Counts::default();
    }
}

/// The data of a stream's events.
pub(crate) fn events(stream: &str) -> Vec<Value> {
    if stream.trim_start().starts_with('[') {
        return serde_json::from_str(stream).unwrap_or_default();
    }
    let mut events = Vec::new();
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    for block in stream.split("\n\n") {
        let data: Vec<&str> = block
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("data:"))
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .collect();
        if let Ok(value) = serde_json::from_str::<Value>(&data.join("\n")) {
            events.push(value);
        } else if block.trim_start().starts_with('{') {
            events.extend(serde_json::from_str::<Value>(block));
        }
    }
    events
}

/// A streamed reply.
pub(crate) fn of_stream(format: WireFormat, stream: &str) -> Seen {
    let events = events(stream);
    let mut seen = Seen::default();
    match format {
        WireFormat::OpenaiChat => chat_stream(&mut seen, &events, stream),
        WireFormat::OpenaiResponses => responses_stream(&mut seen, &events),
        WireFormat::Anthropic => anthropic_stream(&mut seen, &events),
        WireFormat::Gemini => gemini(&mut seen, &events),
    }
    if seen.is_error {
        seen.finish.clear();
        seen.usage = Counts::default();
    }
    seen
}

fn chat_stream(seen: &mut Seen, events: &[Value], stream: &str) {
    let mut calls: Vec<(Value, String, String, String)> = Vec::new();
    let (mut word, mut refused) = (None, false);
    for chunk in events {
        if chunk["error"].is_object() {
            seen.is_error = true;
        }
        for choice in list(&chunk["choices"]).iter().filter(|c| n(&c["index"]) == 0) {
            let delta = &choice["delta"];
            seen.text.push_str(&chat_text(&delta["content"]));
            seen.text.push_str(s(&delta["refusal"]));
            refused |= !s(&delta["refusal"]).is_empty();
            for call in list(&delta["tool_calls"]) {
                let function = if call["custom"].is_object() { &call["custom"] } else { &call["function"] };
                let text = match &function["arguments"] {
                    Value::String(text) => text.clone(),
                    Value::Null => s(&function["input"]).to_owned(),
                    other => other.to_string(),
                };
                match calls.iter_mut().rev().find(|c| c.0 == call["index"] && !call["index"].is_null()) {
                    Some(known) => {
                        known.3.push_str(&text);
                        if known.2.is_empty() {
                            known.2 = s(&function["name"]).to_owned();
                        }
                    }
                    None => calls.push((
                        call["index"].clone(),
                        s(&call["id"]).to_owned(),
                        s(&function["name"]).to_owned(),
                        text,
                    )),
                }
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                word = Some(reason.to_owned());
            }
        }
        let counts = [&chunk["usage"], &chunk["x_groq"]["usage"]].into_iter().find(|u| u.is_object());
        if let Some(counts) = counts {
            seen.usage = usage(WireFormat::OpenaiChat, counts);
        }
    }
    for (_, id, name, text) in calls {
        seen.calls.push(Call { id, name, arguments: arguments(&text) });
    }
    seen.is_error |= word.is_none() && !stream.contains("[DONE]");
    let word = class(WireFormat::OpenaiChat, &word.unwrap_or_default());
    seen.finish = if refused { "refusal".into() } else { with_calls(word, &seen.calls) };
}

fn responses_stream(seen: &mut Seen, events: &[Value]) {
    let last = events
        .iter()
        .rev()
        .find(|e| matches!(s(&e["type"]), "response.completed" | "response.incomplete" | "response.failed" | "error"));
    match last {
        Some(event) if event["type"] == "response.completed" || event["type"] == "response.incomplete" => {
            let mut reply = event["response"].clone();
            if list(&reply["output"]).is_empty() {
                let done = events.iter().filter(|e| e["type"] == "response.output_item.done");
                reply["output"] = done.map(|e| e["item"].clone()).collect();
            }
            responses(seen, &reply);
        }
        Some(event) if event["type"] == "response.failed" && !events.iter().any(|e| e["type"] == "error") => {
            responses(seen, &event["response"]);
        }
        _ => {
            seen.is_error = true;
            for event in events {
                if matches!(s(&event["type"]), "response.output_text.delta" | "response.refusal.delta") {
                    seen.text.push_str(s(&event["delta"]));
                }
            }
        }
    }
}

fn anthropic_stream(seen: &mut Seen, events: &[Value]) {
    let (mut json_text, mut word, mut stopped) = (String::new(), String::new(), false);
    let mut counts = json!({});
    for event in events {
        match s(&event["type"]) {
            "message_start" => {
                let message = &event["message"];
                let start = of_whole(WireFormat::Anthropic, message);
                (seen.text, seen.calls) = (start.text, start.calls);
                word = s(&message["stop_reason"]).to_owned();
                counts = message["usage"].clone();
            }
            "content_block_start" => {
                let block = &event["content_block"];
                seen.text.push_str(s(&block["text"]));
                json_text.clear();
                if block["type"] == "tool_use" {
                    seen.calls.push(Call {
                        id: s(&block["id"]).to_owned(),
                        name: s(&block["name"]).to_owned(),
                        arguments: block["input"].clone(),
                    });
                }
            }
            "content_block_delta" => {
                seen.text.push_str(s(&event["delta"]["text"]));
                if let Some(fragment) = event["delta"]["partial_json"].as_str() {
                    json_text.push_str(fragment);
                    let is_call = event["delta"]["type"] == "input_json_delta";
                    if let Some(call) = seen.calls.last_mut().filter(|_| is_call && !json_text.is_empty()) {
                        call.arguments = arguments(&json_text);
                    }
                }
            }
            "message_delta" => {
                if let Some(reason) = event["delta"]["stop_reason"].as_str() {
                    word = reason.to_owned();
                }
                for (key, value) in event["usage"].as_object().into_iter().flatten() {
                    if !value.is_null() {
                        counts[key] = value.clone();
                    }
                }
            }
            "message_stop" => stopped = true,
            "error" => seen.is_error = true,
            _ => {}
        }
    }
    seen.is_error |= !stopped;
    seen.finish = with_calls(class(WireFormat::Anthropic, &word), &seen.calls);
    seen.usage = usage(WireFormat::Anthropic, &counts);
}
