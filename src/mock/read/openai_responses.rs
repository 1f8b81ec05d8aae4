//! Reads a Responses request as strictly as OpenAI does, and its two sisters, `input_tokens` and `compact`.

use super::{given, invalid, is_tool_name, limit, missing, object, responses_items, sampling, stranger, text, unknown};
use crate::mock::{
    ask::{Ask, Choice, Thinking, Tool, is_compatible_model, is_reasoning_model},
    memory::Memory,
    refusal::{Checked, Dialect, ensure},
    schema,
};
use serde_json::{Map, Value, json};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens",
    "temperature", "top_p", "stream", "stream_options", "store", "include", "reasoning", "text", "metadata",
    "previous_response_id", "conversation", "prompt", "prompt_cache_key", "prompt_cache_retention",
    "safety_identifier", "service_tier", "truncation", "user", "background", "max_tool_calls", "top_logprobs",
    "context_management", "client_metadata", "moderation", "prompt_cache_options",
];

/// Reads the body of `/v1/responses`, `/v1/responses/input_tokens` or `/v1/responses/compact`.
pub(in crate::mock) fn read(body: &Value, key: &str, memory: &Memory) -> Checked<Ask> {
    let body = object(body)?;
    let mut ask = Ask::new(Dialect::Responses);
    ask.key = key.to_owned();
    if let Some(name) = stranger(body, FIELDS) {
        return Err(unknown(name));
    }
    // A stored prompt brings its model along.
    let stored = given(body, "prompt").map(|_| "gpt-4.1");
    ask.model = text(body, "model").or(stored).ok_or_else(|| missing("model"))?.to_owned();
    ask.stream = body.get("stream") == Some(&Value::Bool(true));
    ask.max_tokens = limit(body, "max_output_tokens", 16)?;
    sampling(body, "temperature", 0.0, 2.0)?;
    sampling(body, "top_p", 0.0, 1.0)?;
    model_limits(body, &ask.model)?;
    ask.system = text(body, "instructions").unwrap_or_default().to_owned();
    ask.encrypted = given(body, "include")
        .is_some_and(|list| list.as_array().into_iter().flatten().any(|name| name == "reasoning.encrypted_content"));
    let items = items(body, key, memory)?;
    responses_items::read(&items, &mut ask, body.get("store") == Some(&Value::Bool(false)))?;
    tools(body, &items, &mut ask)?;
    ask.items = items;
    choice(body, &mut ask);
    format(body, &mut ask)?;
    let reasoning = body.get("reasoning");
    let field = |name: &str| reasoning.and_then(|r| r.get(name)).and_then(Value::as_str);
    let thinks = is_reasoning_model(&ask.model) && !matches!(field("effort"), Some("none" | "minimal"));
    let shows = field("summary").or_else(|| field("generate_summary")).is_some();
    ask.thinking = match (thinks, shows) {
        (false, _) => Thinking::Off,
        (true, false) => Thinking::Hidden,
        (true, true) => Thinking::Shown,
    };
    Ok(ask)
}

fn model_limits(body: &Map<String, Value>, model: &str) -> Checked<()> {
    let refuse = |name: &str| {
        let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
        invalid(message).at(name).code("unsupported_parameter")
    };
    if is_reasoning_model(model) {
        for name in ["temperature", "top_p"] {
            ensure!(super::is_default_one(body.get(name)), refuse(name));
        }
        return Ok(());
    }
    let effort = body.get("reasoning").and_then(|reasoning| reasoning.get("effort")).filter(|effort| !effort.is_null());
    ensure!(effort.is_none() || is_compatible_model(model), refuse("reasoning.effort"));
    Ok(())
}

/// The whole input as items, earlier turns included and references resolved.
fn items(body: &Map<String, Value>, key: &str, memory: &Memory) -> Checked<Vec<Value>> {
    let mut items = match given(body, "previous_response_id").and_then(Value::as_str) {
        None => Vec::new(),
        Some(id) => {
            let lost = format!("Previous response with id '{id}' not found.");
            let lost = || invalid(lost).at("previous_response_id").code("previous_response_not_found");
            memory.conversation(key, id).ok_or_else(lost)?
        }
    };
    match given(body, "input") {
        None => {
            let elsewhere = given(body, "prompt").is_some() || !items.is_empty();
            ensure!(elsewhere, missing("input"));
        }
        Some(Value::String(text)) => items.push(json!({"role": "user", "content": text})),
        Some(Value::Array(list)) => {
            for item in list {
                items.push(resolved(item, key, memory)?);
            }
        }
        Some(_) => return Err(invalid("Invalid type for 'input': expected a string or an array.").at("input")),
    }
    Ok(items)
}

fn resolved(item: &Value, key: &str, memory: &Memory) -> Checked<Value> {
    if item.get("type").and_then(Value::as_str) != Some("item_reference") {
        return Ok(item.clone());
    }
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
    memory.item(key, id).ok_or_else(|| responses_items::not_kept(id))
}

fn tools(body: &Map<String, Value>, items: &[Value], ask: &mut Ask) -> Checked<()> {
    let declared = given(body, "tools").and_then(Value::as_array).into_iter().flatten();
    for (i, tool) in declared.enumerate() {
        declare(tool, &format!("tools[{i}]"), ask)?;
    }
    // Tools may also arrive as an input item.
    let later = items.iter().filter(|item| item.get("type").and_then(Value::as_str) == Some("additional_tools"));
    let later = later.filter_map(|item| item.get("tools")).filter_map(Value::as_array).flatten();
    later.enumerate().try_for_each(|(k, tool)| declare(tool, &format!("input.tools[{k}]"), ask))
}

fn declare(tool: &Value, at: &str, ask: &mut Ask) -> Checked<()> {
    let tool = super::element(tool, at)?;
    let kind = text(tool, "type").ok_or_else(|| missing(&format!("{at}.type")))?;
    match kind {
        "function" => ask.tools.push(function(tool, at)?),
        "custom" => {
            let name = named(tool, at)?.to_owned();
            ask.tools.push(Tool { name, schema: Value::Null, custom: true });
        }
        "namespace" => {
            let nested = tool.get("tools").and_then(Value::as_array).into_iter().flatten();
            for (k, inner) in nested.enumerate() {
                let is_nested = inner.get("type").and_then(Value::as_str) == Some("namespace");
                ensure!(
                    !is_nested,
                    invalid(format!("Invalid value: 'namespace' cannot be nested at {at}.tools[{k}]."))
                );
                declare(inner, &format!("{at}.tools[{k}]"), ask)?;
            }
        }
        _ => {} // OpenAI's own tools: nothing of ours to call.
    }
    Ok(())
}

fn function(tool: &Map<String, Value>, at: &str) -> Checked<Tool> {
    #[rustfmt::skip]
    let known = [
        "type", "name", "description", "parameters", "strict", "defer_loading", "output_schema", "allowed_callers",
    ];
    if let Some(name) = stranger(tool, &known) {
        return Err(unknown(&format!("{at}.{name}")));
    }
    let name = named(tool, at)?.to_owned();
    let strict = tool.get("strict") == Some(&Value::Bool(true));
    schema::check_openai(tool.get("parameters"), strict, &name)?;
    Ok(Tool { name, schema: given(tool, "parameters").cloned().unwrap_or_else(|| json!({})), custom: false })
}

fn named<'a>(tool: &'a Map<String, Value>, at: &str) -> Checked<&'a str> {
    let name = text(tool, "name").ok_or_else(|| missing(&format!("{at}.name")))?;
    let pattern = format!("Invalid '{at}.name': string does not match pattern.");
    ensure!(is_tool_name(name, 128), invalid(pattern).at(format!("{at}.name")).code("invalid_value"));
    Ok(name)
}

fn choice(body: &Map<String, Value>, ask: &mut Ask) {
    ask.parallel = body.get("parallel_tool_calls") != Some(&Value::Bool(false));
    let field = |choice: &Value, name: &str| choice.get(name).and_then(Value::as_str).map(str::to_owned);
    ask.choice = match given(body, "tool_choice") {
        Some(Value::String(word)) if word == "required" => Choice::Any,
        Some(Value::String(word)) if word == "none" => Choice::None,
        Some(object @ Value::Object(_)) => match (field(object, "name"), field(object, "mode")) {
            (Some(name), _) => Choice::Named(name),
            (None, Some(mode)) if mode == "required" => Choice::Any,
            (None, _) => Choice::Auto,
        },
        _ => Choice::Auto,
    };
}

fn format(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let Some(format) = body.get("text").and_then(|text| text.get("format")).and_then(Value::as_object) else {
        return Ok(());
    };
    match text(format, "type") {
        Some("json_schema") => {
            let name = text(format, "name").ok_or_else(|| missing("text.format.name"))?;
            schema::check_openai(format.get("schema"), format.get("strict") == Some(&Value::Bool(true)), name)?;
            ask.schema = Some(given(format, "schema").cloned().unwrap_or_else(|| json!({})));
        }
        Some("json_object") => ask.json_mode = true,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(extra: Value) -> Checked<Ask> {
        let mut body = json!({"model": "gpt-4.1", "input": "hi"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(&body, "sk-a", &Memory::default())
    }

    #[test]
    fn a_plain_request_is_read() {
        let ask =
            with(json!({"model": "gpt-5", "reasoning": {"effort": "low", "summary": "auto"}, "stream": true})).unwrap();
        assert!(ask.stream && ask.thinking == Thinking::Shown, "{ask:?}");
        assert_eq!(ask.turns.first().unwrap().text(), "hi");
    }

    #[test]
    fn nested_tools_count_as_tools() {
        let tool = json!({"type": "function", "name": "inner", "parameters": {"type": "object", "properties": {}}});
        let ask = with(json!({"tools": [{"type": "namespace", "name": "n", "tools": [tool]}]})).unwrap();
        assert!(ask.tool("inner").is_some());
    }

    #[test]
    fn what_openai_refuses_is_refused_and_named() {
        for (extra, named) in [
            (json!({"messages": []}), "messages"),
            (json!({"max_output_tokens": 15}), "max_output_tokens"),
            (json!({"reasoning": {"effort": "low"}}), "reasoning.effort"),
            (json!({"model": "gpt-5", "temperature": 0.2}), "temperature"),
            (json!({"previous_response_id": "resp_x"}), "resp_x"),
            (json!({"input": null}), "input"),
            (json!({"tools": [{"type": "function", "function": {"name": "f"}}]}), "tools[0].function"),
            (json!({"text": {"format": {"type": "json_schema", "schema": {}}}}), "text.format.name"),
        ] {
            let refusal = with(extra.clone()).unwrap_err();
            assert!(refusal.message.contains(named), "{extra}: {refusal:?}");
        }
    }
}
