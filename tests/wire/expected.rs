//! The usage of a recorded reply, computed from its JSON alone.

use crate::traffic::Exchange;
use serde_json::Value;
use sub2api::wire::{Usage, WireFormat, tap::Shape};

/// The JSON documents of a reply: the data of its events, its elements, or the one document.
pub(crate) fn documents(exchange: &Exchange) -> Vec<Value> {
    match (exchange.shape(), &exchange.response) {
        (Shape::Sse, Value::String(text)) => {
            let text = text.replace("\r\n", "\n");
            text.split("\n\n").filter_map(|event| serde_json::from_str(&data_of(event)).ok()).collect()
        }
        (Shape::JsonArray, Value::Array(elements)) => elements.clone(),
        (_, document) => vec![document.clone()],
    }
}

fn data_of(event: &str) -> String {
    event.lines().filter_map(|line| line.trim_start().strip_prefix("data:")).collect::<Vec<_>>().join("\n")
}

/// The usage that the reply reports.
pub(crate) fn usage(format: WireFormat, exchange: &Exchange) -> Usage {
    let mut usage = Usage::default();
    for document in documents(exchange) {
        match format {
            WireFormat::OpenaiChat => {
                openai(&document["x_groq"]["usage"], &mut usage);
                openai(&document["usage"], &mut usage);
            }
            WireFormat::OpenaiResponses => {
                openai(&document["response"]["usage"], &mut usage);
                openai(&document["usage"], &mut usage);
                searches(&document, &mut usage);
            }
            WireFormat::Anthropic => {
                anthropic(&document["message"]["usage"], &mut usage);
                anthropic(&document["usage"], &mut usage);
            }
            WireFormat::Gemini => gemini(&document["usageMetadata"], &mut usage),
        }
    }
    usage
}

fn number(value: &Value, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| value.pointer(name).and_then(Value::as_u64))
}

fn openai(u: &Value, usage: &mut Usage) {
    if !u.is_object() {
        return;
    }
    let prompt = number(u, &["/prompt_tokens", "/input_tokens", "/total_tokens"]);
    let completion = number(u, &["/completion_tokens", "/output_tokens"]);
    let total = number(u, &["/total_tokens"]).unwrap_or(0);
    let cached = [
        "/prompt_tokens_details/cached_tokens",
        "/input_tokens_details/cached_tokens",
        "/cached_tokens",
        "/num_cached_tokens",
        "/prompt_cache_hit_tokens",
    ];
    let cache_read = cached.iter().filter_map(|name| number(u, &[name])).max();
    let cache_write =
        number(u, &["/prompt_tokens_details/cache_write_tokens", "/input_tokens_details/cache_write_tokens"]);
    usage.update(&Usage {
        input: prompt.map(|p| p.saturating_sub(cache_read.unwrap_or(0) + cache_write.unwrap_or(0))),
        cache_read,
        cache_write,
        cache_write_1h: None,
        // The part of a total that neither count has is output that was left out of its own.
        output: completion.map(|c| c.max(total.saturating_sub(prompt.unwrap_or(total)))),
        reasoning: number(
            u,
            &["/completion_tokens_details/reasoning_tokens", "/output_tokens_details/reasoning_tokens"],
        ),
        server_tools: number(u, &["/num_server_side_tools_used", "/server_tool_use_details/web_search_requests"]),
        images: None,
    });
}

/// The searches among a Responses reply's items, where its usage does not count the tools that were used.
fn searches(document: &Value, usage: &mut Usage) {
    let response = if document["response"].is_object() { &document["response"] } else { document };
    let is_search = |item: &&Value| {
        let action = item["action"]["type"].as_str().unwrap_or("search");
        item["type"] == "file_search_call" || item["type"] == "web_search_call" && action == "search"
    };
    let found = response["output"].as_array().into_iter().flatten().filter(is_search).count() as u64;
    if found > 0 && number(&response["usage"], &["/num_server_side_tools_used"]).is_none() {
        usage.server_tools = Some(found);
    }
}

fn anthropic(u: &Value, usage: &mut Usage) {
    if !u.is_object() {
        return;
    }
    let split = number(u, &["/cache_creation/ephemeral_1h_input_tokens"]).or(usage.cache_write_1h);
    let total = number(u, &["/cache_creation_input_tokens"]);
    usage.update(&Usage {
        input: number(u, &["/input_tokens"]),
        cache_read: number(u, &["/cache_read_input_tokens"]),
        cache_write: total.map(|t| t - split.unwrap_or(0)),
        cache_write_1h: total.and(split),
        output: number(u, &["/output_tokens"]),
        reasoning: number(u, &["/output_tokens_details/thinking_tokens"]),
        server_tools: number(u, &["/server_tool_use/web_search_requests"]),
        images: None,
    });
}

fn gemini(u: &Value, usage: &mut Usage) {
    if !u.is_object() {
        return;
    }
    let get = |name: &str| number(u, &[name]);
    let sum = |a: Option<u64>, b: Option<u64>| (a.is_some() || b.is_some()).then(|| a.unwrap_or(0) + b.unwrap_or(0));
    let cached = get("/cachedContentTokenCount");
    usage.update(&Usage {
        input: sum(get("/promptTokenCount"), get("/toolUsePromptTokenCount")).map(|p| p - cached.unwrap_or(0)),
        cache_read: cached,
        output: sum(get("/candidatesTokenCount"), get("/thoughtsTokenCount")),
        reasoning: get("/thoughtsTokenCount"),
        ..Usage::default()
    });
}
