//! Reads a Chat Completions request as strictly as OpenAI does.
//!
//! Models of the compatible vendors (see `is_compatible_model`) may carry fields that OpenAI refuses.

use super::{
    given, invalid, is_default_one, is_tool_name, limit, missing, object, openai_messages, sampling, stranger, text,
    unknown, unsupported,
};
use crate::mock::{
    Options,
    ask::{Ask, Choice, Thinking, Tool, is_compatible_model, is_reasoning_model},
    refusal::{Checked, Dialect, ensure},
    route::Route,
    schema,
};
use serde_json::{Map, Value, json};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "model", "messages", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format",
    "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options", "moderation",
    "prompt_cache_options",
];

/// Reads the body of `/v1/chat/completions`.
pub(in crate::mock) fn read(body: &Value, route: &Route, options: &Options) -> Checked<Ask> {
    let body = object(body)?;
    let mut ask = Ask::new(Dialect::Chat);
    ask.azure = route.azure;
    ask.model = model(body, route)?;
    let compatible = is_compatible_model(&ask.model);
    if let Some(name) = stranger(body, FIELDS).filter(|_| !compatible) {
        return Err(invalid(format!("Unrecognized request argument supplied: {name}")));
    }
    let messages = body.get("messages").and_then(Value::as_array).ok_or_else(|| missing("messages"))?;
    let empty =
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
    ensure!(!messages.is_empty(), invalid(empty).at("messages").code("empty_array"));
    reasoning_limits(body, &ask.model)?;
    sampling(body, "temperature", 0.0, 2.0)?;
    sampling(body, "top_p", 0.0, 1.0)?;
    sampling(body, "frequency_penalty", -2.0, 2.0)?;
    sampling(body, "presence_penalty", -2.0, 2.0)?;
    max_tokens(body, &mut ask)?;
    streaming(body, &mut ask)?;
    stop(body, &mut ask)?;
    ask.choices = limit(body, "n", 1)?.unwrap_or(1);
    ensure!(ask.choices <= 128, invalid("Invalid 'n': integer above maximum value. Expected a value <= 128.").at("n"));
    openai_messages::read(messages, &mut ask, options)?;
    tools(body, &mut ask)?;
    choice(body, &mut ask)?;
    response_format(body, messages, &mut ask)?;
    effort(body, &mut ask)?;
    Ok(ask)
}

/// The model, which on Azure the path may name instead.
fn model(body: &Map<String, Value>, route: &Route) -> Checked<String> {
    let named = text(body, "model").filter(|model| !model.is_empty());
    let model = route.model.as_deref().or(named);
    model.map(str::to_owned).ok_or_else(|| invalid("you must provide a model parameter"))
}

/// What reasoning models refuse.
fn reasoning_limits(body: &Map<String, Value>, model: &str) -> Checked<()> {
    if !is_reasoning_model(model) {
        return Ok(());
    }
    let refuse = |name: &str, more: &str| {
        let message = format!("Unsupported parameter: '{name}' is not supported with this model.{more}");
        invalid(message).at(name).code("unsupported_parameter")
    };
    ensure!(given(body, "max_tokens").is_none(), refuse("max_tokens", " Use 'max_completion_tokens' instead."));
    for name in ["stop", "logprobs", "top_logprobs", "logit_bias"] {
        let harmless = matches!(body.get(name), None | Some(Value::Null | Value::Bool(false)));
        ensure!(harmless, refuse(name, ""));
    }
    for name in ["temperature", "top_p"] {
        let value = body.get(name).map(Value::to_string).unwrap_or_default();
        let message = format!(
            "Unsupported value: '{name}' does not support {value} with this model. Only the default (1) value is supported."
        );
        ensure!(is_default_one(body.get(name)), invalid(message).at(name).code("unsupported_value"));
    }
    Ok(())
}

fn max_tokens(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let (old, new) = (limit(body, "max_tokens", 1)?, limit(body, "max_completion_tokens", 1)?);
    let both = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
    ensure!(old.is_none() || new.is_none(), invalid(both));
    ask.max_tokens = new.or(old);
    Ok(())
}

fn streaming(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    ask.stream = body.get("stream") == Some(&Value::Bool(true));
    let Some(options) = given(body, "stream_options") else { return Ok(()) };
    let misplaced = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
    ensure!(ask.stream, invalid(misplaced).at("stream_options"));
    let options = super::element(options, "stream_options")?;
    if let Some(name) = stranger(options, &["include_usage", "include_obfuscation"]) {
        return Err(unknown(&format!("stream_options.{name}")));
    }
    ask.include_usage = options.get("include_usage") == Some(&Value::Bool(true));
    Ok(())
}

fn stop(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    ask.stop = match given(body, "stop") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(_) => return Err(invalid("Invalid type for 'stop': expected a string or an array of strings.").at("stop")),
    };
    let long = "Invalid 'stop': array too long. Expected an array with maximum length 4.";
    ensure!(ask.stop.len() <= 4, invalid(long).at("stop").code("array_above_max_length"));
    Ok(())
}

fn tools(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let Some(tools) = given(body, "tools") else { return Ok(()) };
    let empty =
        "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.";
    let tools = tools.as_array().filter(|tools| !tools.is_empty());
    for (i, tool) in tools.ok_or_else(|| invalid(empty).at("tools").code("empty_array"))?.iter().enumerate() {
        let tool = super::element(tool, &format!("tools[{i}]"))?;
        let kind = text(tool, "type").unwrap_or("null");
        let known = ["function", "custom"];
        ensure!(known.contains(&kind), unsupported(kind, &format!("tools[{i}].type"), &known));
        let at = format!("tools[{i}].{kind}");
        let inner = tool.get(kind).and_then(Value::as_object).ok_or_else(|| missing(&at))?;
        ask.tools.push(declared(inner, &at, kind == "custom")?);
    }
    Ok(())
}

fn declared(function: &Map<String, Value>, at: &str, custom: bool) -> Checked<Tool> {
    let name = text(function, "name").ok_or_else(|| missing(&format!("{at}.name")))?;
    let pattern = format!(
        "Invalid '{at}.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
    );
    ensure!(is_tool_name(name, 64), invalid(pattern).at(format!("{at}.name")).code("invalid_value"));
    if let Some(name) = stranger(function, &["name", "description", "parameters", "strict", "format"]) {
        return Err(unknown(&format!("{at}.{name}")));
    }
    let strict = function.get("strict") == Some(&Value::Bool(true));
    schema::check_openai(function.get("parameters"), strict, name)?;
    let schema = given(function, "parameters").cloned();
    let schema = schema.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    Ok(Tool { name: name.to_owned(), schema, custom })
}

fn choice(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    for name in ["tool_choice", "parallel_tool_calls"] {
        let message = || format!("Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.");
        ensure!(!ask.tools.is_empty() || given(body, name).is_none(), invalid(message()).at(name));
    }
    ask.parallel = body.get("parallel_tool_calls") != Some(&Value::Bool(false));
    let Some(choice) = given(body, "tool_choice") else { return Ok(()) };
    ask.choice = match (choice.as_str(), text(super::element(choice, "tool_choice").unwrap_or(&Map::new()), "type")) {
        (Some("none"), _) => Choice::None,
        (Some("auto"), _) => Choice::Auto,
        (Some("required"), _) => Choice::Any,
        (Some(other), _) => return Err(unsupported(other, "tool_choice", &["none", "auto", "required"])),
        (None, Some("allowed_tools")) => match choice.pointer("/allowed_tools/mode").and_then(Value::as_str) {
            Some("required") => Choice::Any,
            _ => Choice::Auto,
        },
        (None, kind) => {
            let kind = kind.unwrap_or("function");
            let name = choice.get(kind).and_then(|inner| inner.get("name")).and_then(Value::as_str).unwrap_or("null");
            let lost = format!("Tool choice '{name}' not found in 'tools' parameter.");
            ensure!(ask.tool(name).is_some(), invalid(lost).at("tool_choice"));
            Choice::Named(name.to_owned())
        }
    };
    Ok(())
}

fn response_format(body: &Map<String, Value>, messages: &[Value], ask: &mut Ask) -> Checked<()> {
    let Some(format) = given(body, "response_format") else { return Ok(()) };
    let format = super::element(format, "response_format")?;
    match text(format, "type").unwrap_or("null") {
        "text" => {}
        "json_object" => {
            let says_json = messages.iter().any(|message| message.to_string().to_ascii_lowercase().contains("json"));
            let silent =
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
            ensure!(says_json, invalid(silent).at("messages"));
            ask.json_mode = true;
        }
        "json_schema" => {
            let inner = format.get("json_schema").and_then(Value::as_object);
            let inner = inner.ok_or_else(|| missing("response_format.json_schema"))?;
            ensure!(text(inner, "name").is_some(), missing("response_format.json_schema.name"));
            let strict = inner.get("strict") == Some(&Value::Bool(true));
            schema::check_openai(inner.get("schema"), strict, "response_format")?;
            ask.schema = Some(given(inner, "schema").cloned().unwrap_or_else(|| json!({})));
        }
        other => return Err(unsupported(other, "response_format.type", &["json_object", "json_schema", "text"])),
    }
    Ok(())
}

fn effort(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let effort = given(body, "reasoning_effort").map(|effort| effort.as_str().unwrap_or("null"));
    let known = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    if let Some(effort) = effort {
        ensure!(known.contains(&effort), unsupported(effort, "reasoning_effort", &known));
    }
    let (reasoning, compatible) = (is_reasoning_model(&ask.model), is_compatible_model(&ask.model));
    let asked = effort.is_some_and(|effort| effort != "none");
    ensure!(!asked || reasoning || compatible, invalid("Unrecognized request argument supplied: reasoning_effort"));
    ask.thinking = match (compatible, reasoning || effort.is_some_and(|e| e != "none" && e != "minimal")) {
        (true, _) => Thinking::Shown,
        (false, true) => Thinking::Hidden,
        (false, false) => Thinking::Off,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::route::Call;

    fn read_body(body: Value) -> Checked<Ask> {
        let route = Route { call: Call::Chat, dialect: Dialect::Chat, model: None, azure: false, vertex: false };
        read(&body, &route, &Options::default())
    }

    fn with(extra: Value) -> Checked<Ask> {
        let mut body = json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi json"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        read_body(body)
    }

    #[test]
    fn a_plain_request_is_read() {
        let ask =
            with(json!({"stream": true, "stream_options": {"include_usage": true}, "stop": "x", "max_tokens": 9}))
                .unwrap();
        assert!(ask.stream && ask.include_usage && ask.max_tokens == Some(9), "{ask:?}");
        assert_eq!(ask.turns.first().unwrap().text(), "hi json");
        assert!(with(json!({"stop": []})).unwrap().stop.is_empty());
    }

    #[test]
    fn what_openai_refuses_is_refused_and_named() {
        let tool = json!([{"type": "function", "function": {"name": "a b"}}]);
        for (extra, named) in [
            (json!({"top_k": 5}), "top_k"),
            (json!({"temperature": 2.5}), "temperature"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"max_tokens": 1, "max_completion_tokens": 1}), "max_completion_tokens"),
            (json!({"stream_options": {}}), "stream_options"),
            (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
            (json!({"tools": []}), "tools"),
            (json!({"tools": tool}), "pattern"),
            (json!({"tool_choice": "auto"}), "tool_choice"),
            (json!({"response_format": {"type": "json_schema", "json_schema": {}}}), "json_schema.name"),
            (json!({"model": "gpt-5", "max_tokens": 5}), "max_completion_tokens"),
            (json!({"model": "o3", "temperature": 0.5}), "temperature"),
            (json!({"reasoning_effort": "low"}), "reasoning_effort"),
            (json!({"messages": []}), "messages"),
        ] {
            let refusal = with(extra.clone()).unwrap_err();
            assert!(refusal.status == 400 && refusal.message.contains(named), "{extra}: {refusal:?}");
        }
        assert!(with(json!({"model": "deepseek-chat", "top_k": 5, "reasoning_effort": "low"})).is_ok());
    }
}
