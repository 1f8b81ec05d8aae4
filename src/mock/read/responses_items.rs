//! Reads the input items of a Responses request: messages, calls with their outputs, and reasoning that comes back.

use super::{Pending, data_url, element, invalid, missing, pointed_at, stranger, text, unknown, unsupported};
use crate::mock::{
    ask::{Ask, PastCall, Role, ToolResult, Turn, is_compatible_model},
    refusal::{Checked, Refusal, ensure},
    seal,
};
use serde_json::{Map, Value};

/// Item types that are let pass without being understood.
#[rustfmt::skip]
const OTHER_ITEMS: &[&str] = &[
    "item_reference", "web_search_call", "local_shell_call", "local_shell_call_output", "file_search_call",
    "image_generation_call", "code_interpreter_call", "mcp_call", "mcp_list_tools", "compaction", "apply_patch_call",
    "apply_patch_call_output", "shell_call", "shell_call_output", "additional_tools", "tool_search_call",
    "tool_search_output",
];

/// The complaint about an item that was not stored.
pub(super) fn not_kept(id: &str) -> Refusal {
    let message = format!(
        "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with `store` set \
         to true, or remove this item from your input."
    );
    Refusal { status: 404, ..invalid(message).at("input") }
}

/// Reads every item into the turns and the system text of `ask`. `stateless` means `store: false`.
pub(super) fn read(items: &[Value], ask: &mut Ask, stateless: bool) -> Checked<()> {
    let mut pending = Pending::default();
    for (i, value) in items.iter().enumerate() {
        let at = format!("input[{i}]");
        let item = element(value, &at)?;
        match text(item, "type").unwrap_or("message") {
            "message" => message(item, &at, ask)?,
            "function_call" | "custom_tool_call" => call(item, &at, ask, &mut pending)?,
            "function_call_output" | "custom_tool_call_output" => output(item, &at, ask, &mut pending)?,
            "reasoning" => {
                reasoning(item, &at, ask, stateless)?;
                let id = text(item, "id").unwrap_or_default();
                let alone =
                    format!("Item '{id}' of type 'reasoning' was provided without its required following item.");
                ensure!(i + 1 < items.len(), invalid(alone).at("input"));
            }
            other => {
                let at = format!("{at}.type");
                ensure!(OTHER_ITEMS.contains(&other), unsupported(other, &at, &["message", "function_call", "…"]));
            }
        }
    }
    let unanswered = || format!("No tool output found for function call {}.", pending.ids());
    ensure!(pending.is_empty(), invalid(unanswered()).at("input"));
    merge(&mut ask.turns);
    Ok(())
}

/// Consecutive items of the assistant are one turn.
fn merge(turns: &mut Vec<Turn>) {
    let mut merged: Vec<Turn> = Vec::with_capacity(turns.len());
    for mut turn in turns.drain(..) {
        match merged.last_mut() {
            Some(last) if last.role == Role::Assistant && turn.role == Role::Assistant => {
                last.calls.append(&mut turn.calls);
                last.texts.append(&mut turn.texts);
            }
            _ => merged.push(turn),
        }
    }
    *turns = merged;
}

fn message(item: &Map<String, Value>, at: &str, ask: &mut Ask) -> Checked<()> {
    let role = text(item, "role").unwrap_or("null");
    let roles = ["user", "assistant", "system", "developer"];
    ensure!(roles.contains(&role), unsupported(role, &format!("{at}.role"), &roles));
    let strange = stranger(item, &["type", "role", "content", "id", "status", "phase"]);
    if let Some(name) = strange.filter(|_| !is_compatible_model(&ask.model)) {
        return Err(unknown(&format!("{at}.{name}")));
    }
    let mut turn = Turn::new(if role == "assistant" { Role::Assistant } else { Role::User });
    match item.get("content") {
        Some(Value::String(text)) => turn.texts.push(text.clone()),
        Some(Value::Array(parts)) => {
            for (j, value) in parts.iter().enumerate() {
                let at = format!("{at}.content[{j}]");
                part(element(value, &at)?, &at, role == "assistant", &mut turn)?;
            }
        }
        _ => return Err(missing(&format!("{at}.content"))),
    }
    if matches!(role, "system" | "developer") {
        ask.instruct(&turn.text());
    } else {
        ask.turns.push(turn);
    }
    Ok(())
}

fn part(part: &Map<String, Value>, at: &str, by_assistant: bool, turn: &mut Turn) -> Checked<()> {
    let kind = text(part, "type").unwrap_or("null");
    let known: &[&str] = if by_assistant {
        &["output_text", "refusal"]
    } else {
        &["input_text", "input_image", "input_file", "input_audio"]
    };
    ensure!(known.contains(&kind), unsupported(kind, &format!("{at}.type"), known));
    match kind {
        "input_text" | "output_text" => {
            turn.texts.push(text(part, "text").ok_or_else(|| missing(&format!("{at}.text")))?.to_owned());
        }
        "input_image" => {
            let has_file = text(part, "file_id").is_some();
            let url = text(part, "image_url");
            let wrong = format!("Invalid type for '{at}.image_url': expected an image URL, but got an object instead.");
            ensure!(url.is_some() || has_file, invalid(wrong).code("invalid_type"));
            let url = url.unwrap_or_default();
            let pointer = (url.starts_with("http") || has_file).then(|| pointed_at(url));
            let bad =
                format!("Invalid '{at}.image_url'. Expected a valid URL, but got a value with an invalid format.");
            turn.images.push(data_url(url).or(pointer).ok_or_else(|| invalid(bad).code("invalid_value"))?);
        }
        _ => {}
    }
    Ok(())
}

fn call(item: &Map<String, Value>, at: &str, ask: &mut Ask, pending: &mut Pending) -> Checked<()> {
    let id = text(item, "call_id").ok_or_else(|| missing(&format!("{at}.call_id")))?;
    let name = text(item, "name").ok_or_else(|| missing(&format!("{at}.name")))?;
    if let Some(id) = text(item, "id").filter(|id| !id.is_empty()) {
        let wrong = format!("Invalid '{at}.id': '{id}'. Expected an ID that begins with 'fc'.");
        ensure!(id.starts_with("fc") || id.starts_with("ctc"), invalid(wrong).code("invalid_value"));
    }
    let arguments = text(item, "arguments").or_else(|| text(item, "input"));
    let arguments = arguments.ok_or_else(|| missing(&format!("{at}.arguments")))?.to_owned();
    let mut turn = Turn::new(Role::Assistant);
    turn.calls.push(PastCall { id: id.to_owned(), arguments });
    pending.add(id, name);
    ask.turns.push(turn);
    Ok(())
}

fn output(item: &Map<String, Value>, at: &str, ask: &mut Ask, pending: &mut Pending) -> Checked<()> {
    let id = text(item, "call_id").unwrap_or("null");
    let stray = format!("No tool call found for function call output with call_id {id}.");
    let name = pending.take(id).ok_or_else(|| invalid(stray).at("input"))?;
    let text = match item.get("output") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => {
            let wrong = format!("Invalid type for '{at}.output': expected one of an array of objects or string.");
            return Err(invalid(wrong).code("invalid_type"));
        }
    };
    let result = ToolResult { name, text };
    match ask.turns.last_mut() {
        Some(last) if last.role == Role::Tool => last.results.push(result),
        _ => ask.turns.push(Turn { results: vec![result], ..Turn::new(Role::Tool) }),
    }
    Ok(())
}

/// Reasoning that comes back must be what this account was given, or stored.
fn reasoning(item: &Map<String, Value>, at: &str, ask: &Ask, stateless: bool) -> Checked<()> {
    let summary = item.get("summary").is_some_and(Value::is_array);
    ensure!(summary, missing(&format!("{at}.summary")));
    let id = text(item, "id");
    match text(item, "encrypted_content").filter(|token| !token.is_empty()) {
        Some(token) => {
            let message = format!(
                "The encrypted content for item {} could not be verified. Reason: Encrypted content could not be \
                 decrypted or parsed.",
                id.unwrap_or("null")
            );
            ensure!(seal::is_encrypted_for(token, &ask.key), invalid(message).code("invalid_encrypted_content"));
        }
        None => {
            if let Some(id) = id.filter(|_| stateless) {
                return Err(not_kept(id));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::refusal::Dialect;
    use serde_json::json;

    fn turns(items: Value) -> Checked<Ask> {
        let mut ask = Ask::new(Dialect::Responses);
        ask.key = "sk-a".into();
        ask.model = "gpt-5".into();
        read(items.as_array().unwrap(), &mut ask, true).map(|()| ask)
    }

    #[test]
    fn parallel_calls_are_one_turn_and_their_outputs_another() {
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": id});
        let user = json!({"role": "user", "content": "x"});
        let ask = turns(json!([user, call("1"), call("2"), output("1"), output("2")])).unwrap();
        assert_eq!(
            ask.turns.iter().map(|turn| turn.role).collect::<Vec<_>>(),
            [Role::User, Role::Assistant, Role::Tool]
        );
        assert_eq!(ask.turns.last().unwrap().results.len(), 2);
    }

    #[test]
    fn broken_histories_are_refused() {
        let other = seal::encrypted("0123456789abcdef", "sk-other");
        let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": other});
        for (items, named) in [
            (json!([{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}]), "No tool output"),
            (json!([{"type": "function_call_output", "call_id": "1", "output": "x"}]), "No tool call found"),
            (json!([{"role": "user", "content": [{"type": "text", "text": "x"}]}]), "input_text"),
            (json!([{"role": "tool", "content": "x"}]), "tool"),
            (json!([reasoning, {"role": "user", "content": "x"}]), "could not be verified"),
            (
                json!([{"type": "reasoning", "id": "rs_1", "summary": []}, {"role": "user", "content": "x"}]),
                "not persisted",
            ),
            (json!([{"type": "novelty"}]), "novelty"),
        ] {
            let refusal = turns(items.clone()).unwrap_err();
            assert!(refusal.message.contains(named), "{items}: {refusal:?}");
        }
    }
}
