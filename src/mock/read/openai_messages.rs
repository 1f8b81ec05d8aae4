//! Reads the `messages` of a Chat Completions request: roles, content parts, and tool calls with their results.

use super::{Pending, data_url, element, invalid, missing, pointed_at, stranger, text, unknown, unsupported, warn};
use crate::mock::{
    Options,
    ask::{Ask, PastCall, Role, ToolResult, Turn, is_compatible_model},
    refusal::{Checked, Refusal, ensure},
};
use serde_json::{Map, Value};

/// A message under its index.
struct Message<'a> {
    at: String,
    role: &'a str,
    fields: &'a Map<String, Value>,
    /// Whether the model's vendor takes more than OpenAI does.
    compatible: bool,
}

/// Reads every message into the turns and the system text of `ask`.
pub(super) fn read(messages: &[Value], ask: &mut Ask, options: &Options) -> Checked<()> {
    let mut pending = Pending::default();
    for (i, message) in messages.iter().enumerate() {
        let at = format!("messages[{i}]");
        let fields = element(message, &at)?;
        let role = text(fields, "role").unwrap_or("null");
        let message = Message { at, role, fields, compatible: is_compatible_model(&ask.model) };
        fields_known(&message, ask, options)?;
        ensure!(pending.is_empty() || role == "tool", unanswered(&pending));
        read_one(&message, ask, &mut pending)?;
    }
    ensure!(pending.is_empty(), unanswered(&pending));
    Ok(())
}

fn unanswered(pending: &Pending) -> Refusal {
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The \
         following tool_call_ids did not have response messages: {}",
        pending.ids()
    );
    invalid(message).at("messages")
}

fn fields_known(message: &Message, ask: &mut Ask, options: &Options) -> Checked<()> {
    let Message { at, role, fields, .. } = message;
    let known: &[&str] = match *role {
        "system" | "developer" | "user" | "function" => &["role", "content", "name"],
        "assistant" => &["role", "content", "name", "refusal", "audio", "tool_calls", "function_call", "annotations"],
        "tool" => &["role", "content", "tool_call_id", "name"],
        other => {
            let roles = ["system", "assistant", "user", "function", "tool", "developer"];
            return Err(unsupported(other, &format!("{at}.role"), &roles));
        }
    };
    let vendor = ["reasoning_content", "reasoning", "reasoning_details"];
    let lenient = *role == "assistant" && message.compatible;
    for name in fields.keys().map(String::as_str).filter(|name| !known.contains(name)) {
        // Some clients send this back; whether OpenAI itself refuses it is not known.
        if name == "provider_specific_fields" && !options.strict_messages {
            warn(ask, format!("{at}.{name}"));
            continue;
        }
        ensure!(lenient && vendor.contains(&name), unknown(&format!("{at}.{name}")));
    }
    Ok(())
}

fn read_one(message: &Message, ask: &mut Ask, pending: &mut Pending) -> Checked<()> {
    let role = match message.role {
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => Role::User,
    };
    let mut turn = Turn::new(role);
    content(message, &mut turn)?;
    if role == Role::Tool {
        let Message { at, fields, .. } = message;
        let id = text(fields, "tool_call_id").ok_or_else(|| missing(&format!("{at}.tool_call_id")))?;
        let stray = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
        let name = pending.take(id).ok_or_else(|| invalid(stray).at(format!("{at}.role")))?;
        turn.results.push(ToolResult { name, text: turn.text() });
    }
    calls(message, &mut turn, pending)?;
    if matches!(message.role, "system" | "developer") {
        ask.instruct(&turn.text());
        return Ok(());
    }
    match ask.turns.last_mut() {
        Some(last) if role == Role::Tool && last.role == Role::Tool => last.results.append(&mut turn.results),
        _ => ask.turns.push(turn),
    }
    Ok(())
}

fn content(message: &Message, turn: &mut Turn) -> Checked<()> {
    let Message { at, role, fields, .. } = message;
    match fields.get("content") {
        None | Some(Value::Null) => {
            let has = |name: &&str| super::given(fields, name).is_some();
            let fits = *role == "assistant" && ["tool_calls", "refusal", "function_call", "audio"].iter().any(has);
            let null = "Invalid value for 'content': expected a string, got null.";
            ensure!(fits, invalid(null).at(format!("{at}.content")));
        }
        Some(Value::String(text)) => turn.texts.push(text.clone()),
        Some(Value::Array(parts)) => {
            let empty = format!("Invalid '{at}.content': empty array.");
            ensure!(!parts.is_empty() || *role == "assistant", invalid(empty).code("empty_array"));
            for (j, value) in parts.iter().enumerate() {
                let at = format!("{at}.content[{j}]");
                part(element(value, &at)?, &at, role, turn)?;
            }
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            let message = format!("Invalid type for '{at}.content': expected one of a string or array of objects.");
            return Err(invalid(message).at(format!("{at}.content")).code("invalid_type"));
        }
    }
    Ok(())
}

fn part(part: &Map<String, Value>, at: &str, role: &str, turn: &mut Turn) -> Checked<()> {
    let kind = text(part, "type").unwrap_or("null");
    let known: &[&str] = match role {
        "user" => &["file", "image_url", "input_audio", "text"],
        "assistant" => &["refusal", "text"],
        _ => &["text"],
    };
    ensure!(known.contains(&kind), unsupported(kind, &format!("{at}.type"), known));
    if let Some(name) = stranger(part, &["type", kind, "prompt_cache_breakpoint"]) {
        return Err(unknown(&format!("{at}.{name}")));
    }
    let lost = || missing(&format!("{at}.{kind}"));
    match kind {
        "text" => turn.texts.push(text(part, "text").ok_or_else(lost)?.to_owned()),
        "image_url" => {
            let wrong = format!("Invalid type for '{at}.image_url': expected an object, but got a string instead.");
            let url = part.get("image_url").and_then(|image| image.get("url")).and_then(Value::as_str);
            let url = url.ok_or_else(|| invalid(wrong).at(format!("{at}.image_url")).code("invalid_type"))?;
            let pointer = url.starts_with("http").then(|| pointed_at(url));
            let bad = "Invalid 'image_url'. Expected a base64-encoded data URL with an image MIME type (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU=')";
            turn.images.push(data_url(url).or(pointer).ok_or_else(|| invalid(bad).code("invalid_value"))?);
        }
        _ => ensure!(part.get(kind).is_some(), lost()),
    }
    Ok(())
}

fn calls(message: &Message, turn: &mut Turn, pending: &mut Pending) -> Checked<()> {
    let calls = message.fields.get("tool_calls").and_then(Value::as_array);
    for (k, value) in calls.into_iter().flatten().enumerate() {
        let at = format!("{}.tool_calls[{k}]", message.at);
        let call = element(value, &at)?;
        let kind = text(call, "type").filter(|kind| matches!(*kind, "function" | "custom"));
        let kind = kind.ok_or_else(|| missing(&format!("{at}.type")))?;
        let strange = stranger(call, &["id", "type", "function", "custom"]).filter(|_| !message.compatible);
        if let Some(name) = strange {
            return Err(unknown(&format!("{at}.{name}")));
        }
        let id = text(call, "id").ok_or_else(|| missing(&format!("{at}.id")))?;
        let long = format!("Invalid '{at}.id': string too long. Expected a string with maximum length 64.");
        ensure!(id.len() <= 64, invalid(long).code("string_above_max_length"));
        let inner = call.get(kind).and_then(Value::as_object).ok_or_else(|| missing(&format!("{at}.{kind}")))?;
        let name = text(inner, "name").ok_or_else(|| missing(&format!("{at}.{kind}.name")))?;
        let arguments = text(inner, if kind == "function" { "arguments" } else { "input" });
        let wrong =
            format!("Invalid type for '{at}.function.arguments': expected a string, but got an object instead.");
        let arguments = arguments.ok_or_else(|| invalid(wrong).code("invalid_type"))?;
        turn.calls.push(PastCall { id: id.to_owned(), arguments: arguments.to_owned() });
        pending.add(id, name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::refusal::Dialect;
    use serde_json::json;

    fn turns(messages: Value) -> Checked<Ask> {
        let mut ask = Ask::new(Dialect::Chat);
        ask.model = "gpt-4.1".into();
        read(messages.as_array().unwrap(), &mut ask, &Options::default()).map(|()| ask)
    }

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
    }

    #[test]
    fn parallel_results_become_one_turn_and_system_text_is_gathered() {
        let ask = turns(json!([
            {"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [call("1"), call("2")]},
            {"role": "tool", "tool_call_id": "2", "content": "two"}, {"role": "tool", "tool_call_id": "1", "content": "one"}]))
        .unwrap();
        assert_eq!(ask.system, "a");
        let results: Vec<_> = ask.turns.last().unwrap().results.iter().map(|r| r.text.as_str()).collect();
        assert_eq!(results, ["two", "one"]);
    }

    #[test]
    fn broken_histories_are_refused() {
        for (messages, named) in [
            (json!([{"role": "tool", "tool_call_id": "1", "content": "x"}]), "preceeding"),
            (json!([{"role": "assistant", "tool_calls": [call("1")]}]), "did not have response"),
            (json!([{"role": "assistant", "tool_calls": [call("1")]}, {"role": "user", "content": "x"}]), "1"),
            (json!([{"role": "robot", "content": "x"}]), "robot"),
            (json!([{"role": "user", "content": null}]), "null"),
            (json!([{"role": "user", "content": "x", "cache_control": {}}]), "cache_control"),
            (json!([{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]), "input_text"),
            (
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]),
                "image_url",
            ),
            (json!(["text"]), "expected an object"),
        ] {
            let refusal = turns(messages.clone()).unwrap_err();
            assert!(refusal.message.contains(named), "{messages}: {refusal:?}");
        }
    }
}
