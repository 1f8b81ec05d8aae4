//! What a request's conversation says, read from its JSON in the plainest way, for comparison.

use super::seen::{arguments, either, list, s};
use serde_json::{Value, json};
use sub2api::wire::WireFormat;

/// The texts of a request's conversation, the calls and the results in their order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Conversation {
    pub(crate) said: Vec<String>,
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) results: usize,
    pub(crate) tools: Vec<String>,
    pub(crate) images: usize,
}

fn words(text: &str, said: &mut Vec<String>) {
    if !text.trim().is_empty() {
        said.push(text.to_owned());
    }
}

pub(crate) fn conversation(format: WireFormat, body: &Value) -> Conversation {
    let mut c = Conversation::default();
    match format {
        WireFormat::OpenaiChat => {
            for m in list(&body["messages"]) {
                let is_result = m["role"] == "tool" || m["role"] == "function";
                c.results += usize::from(is_result);
                match &m["content"] {
                    Value::String(text) if !is_result => words(text, &mut c.said),
                    Value::Array(parts) => parts.iter().for_each(|part| {
                        if !is_result {
                            words(s(&part["text"]), &mut c.said);
                        }
                        c.images += usize::from(!part["image_url"].is_null());
                    }),
                    _ => {}
                }
                for call in list(&m["tool_calls"]).iter().filter(|_| m["role"] == "assistant") {
                    let f = if call["custom"].is_object() { &call["custom"] } else { &call["function"] };
                    let given = f["input"].as_str().map(|text| json!({"input": text}));
                    let given = given.unwrap_or_else(|| arguments(s(&f["arguments"])));
                    c.calls.push((s(&f["name"]).to_owned(), given));
                }
                if m["function_call"].is_object() {
                    let f = &m["function_call"];
                    c.calls.push((s(&f["name"]).to_owned(), arguments(s(&f["arguments"]))));
                }
            }
            for tool in list(&body["tools"]).iter().chain(&list(&body["functions"])) {
                let named = [&tool["function"]["name"], &tool["custom"]["name"], &tool["name"]];
                c.tools.extend(named.iter().find_map(|name| name.as_str()).map(str::to_owned));
            }
        }
        WireFormat::OpenaiResponses => {
            words(s(&body["instructions"]), &mut c.said);
            if let Some(text) = body["input"].as_str() {
                words(text, &mut c.said);
            }
            for item in list(&body["input"]).iter().filter(|i| i.is_object()) {
                match s(&item["type"]) {
                    "message" | "" => match &item["content"] {
                        Value::String(text) => words(text, &mut c.said),
                        parts => list(parts).iter().for_each(|part| {
                            words(s(&part["text"]), &mut c.said);
                            c.images += usize::from(part["type"] == "input_image");
                        }),
                    },
                    "function_call" | "custom_tool_call" => {
                        let given = item["input"].as_str().map(|text| json!({"input": text}));
                        let given = given.unwrap_or_else(|| arguments(s(&item["arguments"])));
                        c.calls.push((s(&item["name"]).to_owned(), given));
                    }
                    "function_call_output" | "custom_tool_call_output" => {
                        c.results += 1;
                        c.images += list(&item["output"]).iter().filter(|p| p["type"] == "input_image").count();
                    }
                    _ => {}
                }
            }
            for tool in list(&body["tools"]) {
                if tool["type"] == "function" || tool["type"] == "custom" {
                    c.tools.push(s(&tool["name"]).to_owned());
                }
            }
        }
        WireFormat::Anthropic => {
            let texts = |content: &Value, c: &mut Conversation| match content {
                Value::String(text) => words(text, &mut c.said),
                blocks => {
                    for block in list(blocks) {
                        match s(&block["type"]) {
                            "text" => words(s(&block["text"]), &mut c.said),
                            "image" => c.images += 1,
                            "tool_use" => c.calls.push((s(&block["name"]).to_owned(), block["input"].clone())),
                            "tool_result" => {
                                c.results += 1;
                                c.images += list(&block["content"]).iter().filter(|p| p["type"] == "image").count();
                            }
                            _ => {}
                        }
                    }
                }
            };
            texts(&body["system"], &mut c);
            for m in list(&body["messages"]) {
                texts(&m["content"], &mut c);
            }
            for tool in list(&body["tools"]) {
                if tool["type"].is_null() || tool["type"] == "custom" {
                    c.tools.push(s(&tool["name"]).to_owned());
                }
            }
        }
        WireFormat::Gemini => {
            for content in std::iter::once(either(body, "systemInstruction")).chain(&list(&body["contents"])) {
                for part in list(&content["parts"]) {
                    if part["thought"] != true {
                        words(s(&part["text"]), &mut c.said);
                    }
                    let call = either(&part, "functionCall");
                    if call.is_object() {
                        let args = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
                        c.calls.push((s(&call["name"]).to_owned(), args));
                    }
                    let result = either(&part, "functionResponse");
                    c.results += usize::from(result.is_object());
                    let media = [either(&part, "inlineData"), either(&part, "fileData")];
                    let inner: Vec<Value> =
                        list(&result["parts"]).iter().map(|p| either(p, "inlineData").clone()).collect();
                    c.images += media
                        .into_iter()
                        .chain(&inner)
                        .filter(|m| s(either(m, "mimeType")).starts_with("image/"))
                        .count();
                }
                if let Some(text) = content.as_str() {
                    words(text, &mut c.said);
                }
            }
            for tool in list(&body["tools"]) {
                for function in list(either(&tool, "functionDeclarations")) {
                    c.tools.push(s(&function["name"]).to_owned());
                }
            }
        }
    }
    c
}

/// Whether a translated request says the same: every word, every call, every result, every tool and image.
pub(crate) fn same_conversation(
    from: WireFormat,
    source: &Value,
    to: WireFormat,
    output: &Value,
) -> Result<(), String> {
    let (want, got) = (conversation(from, source), conversation(to, output));
    let all = got.said.join("\n");
    for text in &want.said {
        // A single text may have been joined with others.
        if !all.contains(text.as_str()) {
            return Err(format!("request: the text {text:.200?} is missing"));
        }
    }
    if want.calls != got.calls {
        return Err(format!("request: calls differ: want {:.300?}, got {:.300?}", want.calls, got.calls));
    }
    if want.results != got.results {
        return Err(format!("request: {} results became {}", want.results, got.results));
    }
    if want.tools != got.tools {
        return Err(format!("request: tools differ: want {:?}, got {:?}", want.tools, got.tools));
    }
    if want.images != got.images {
        return Err(format!("request: {} images became {}", want.images, got.images));
    }
    Ok(())
}
