//! Reads a generateContent request as strictly (and as leniently) as Google does.
//!
//! Google takes snake_case for camelCase, a lone object for a list and enum names in any case; an unknown name anywhere
//! is a 400. Tool arguments, tool responses and JSON schemas are the caller's own and are left as they are.

use super::{gemini_turns, given, is_within, object, text};
use crate::mock::{
    ask::{Ask, Choice, Thinking, Tool},
    refusal::{Checked, Dialect, Refusal, ensure},
    schema,
};
use serde_json::{Map, Value};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "contents", "tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig", "cachedContent",
    "labels", "model", "store", "serviceTier",
];

#[rustfmt::skip]
const GENERATION_FIELDS: &[&str] = &[
    "stopSequences", "responseMimeType", "responseSchema", "responseJsonSchema", "_responseJsonSchema",
    "responseModalities", "candidateCount", "maxOutputTokens", "temperature", "topP", "topK", "seed",
    "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs", "enableEnhancedCivicAnswers",
    "speechConfig", "thinkingConfig", "imageConfig", "mediaResolution", "responseFormat",
];

#[rustfmt::skip]
const TOOL_FIELDS: &[&str] = &[
    "functionDeclarations", "googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "googleMaps",
    "computerUse", "fileSearch", "mcpServers",
];

const FUNCTION_FIELDS: &[&str] =
    &["name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior"];

/// Subtrees whose names are the caller's.
const OWN_NAMES: &[&str] =
    &["args", "response", "properties", "parametersJsonSchema", "responseJsonSchema", "_responseJsonSchema"];

/// The value with every name in camelCase, except in the caller's own subtrees.
pub(in crate::mock) fn camelized(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let name = schema::camel(name);
                let value = if OWN_NAMES.contains(&name.as_str()) { value.clone() } else { camelized(value) };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(camelized).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The elements of a repeated field, which may also be a lone value or absent.
pub(in crate::mock) fn repeated(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
    }
}

/// Google's complaint about a name that it does not know.
pub(super) fn unknown(name: &str, at: &str) -> Refusal {
    let place = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
    Refusal::bad(format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."))
}

/// Refuses the first field that is not in the list.
pub(in crate::mock) fn known(fields: &Map<String, Value>, list: &[&str], at: &str) -> Checked<()> {
    super::stranger(fields, list).map_or(Ok(()), |name| Err(unknown(name, at)))
}

/// An element that has to be an object.
pub(in crate::mock) fn message<'a>(value: &'a Value, at: &str) -> Checked<&'a Map<String, Value>> {
    let wrong =
        || Refusal::bad(format!("Invalid value at '{at}' (type.googleapis.com/google.ai.generativelanguage.v1beta)"));
    value.as_object().ok_or_else(wrong)
}

/// Reads the body of `:generateContent` and `:streamGenerateContent`.
pub(in crate::mock) fn read(body: &Value, model: &str, stream: bool) -> Checked<Ask> {
    let body = camelized(body);
    let body = object(&body)?;
    let mut ask = Ask::new(Dialect::Gemini);
    ask.model = model.to_owned();
    ask.stream = stream;
    known(body, FIELDS, "")?;
    let contents = repeated(body.get("contents"));
    let none = "* GenerateContentRequest.contents: contents is not specified\n";
    ensure!(!contents.is_empty(), Refusal::bad(none));
    let empty = Map::new();
    let config = match given(body, "generationConfig") {
        Some(config) => message(config, "generation_config")?,
        None => &empty,
    };
    generation(config, &mut ask)?;
    thinking(config, &mut ask)?;
    if let Some(system) = given(body, "systemInstruction") {
        let system = message(system, "system_instruction")?;
        let parts = repeated(system.get("parts")).iter();
        let texts: Vec<&str> = parts.filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
        ask.system = texts.join("\n");
    }
    gemini_turns::read(contents, &mut ask)?;
    for tool in repeated(body.get("tools")) {
        declarations(message(tool, "tools[0]")?, &mut ask)?;
    }
    choice(body, &mut ask)?;
    output(config, &mut ask)?;
    Ok(ask)
}

/// Reads the body of `:countTokens`, which holds contents or a whole request.
pub(in crate::mock) fn read_count(body: &Value, model: &str) -> Checked<Ask> {
    let body = camelized(body);
    let inner = body.get("generateContentRequest").filter(|inner| inner.is_object()).unwrap_or(&body);
    read(inner, model, false)
}

fn generation(config: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    known(config, GENERATION_FIELDS, "generation_config")?;
    ask.max_tokens = given(config, "maxOutputTokens").and_then(Value::as_u64);
    let stops = repeated(config.get("stopSequences")).iter();
    ask.stop = stops.filter_map(Value::as_str).filter(|stop| !stop.is_empty()).map(str::to_owned).collect();
    ensure!(ask.stop.len() <= 5, Refusal::bad("The number of stop sequences must not exceed 5."));
    for (name, at, high) in [("temperature", "temperature", 2.0), ("topP", "top_p", 1.0)] {
        let range =
            || format!("* GenerateContentRequest.generation_config.{at}: must be in the range [0.0, {high:.1}]");
        ensure!(is_within(config.get(name), 0.0, high), Refusal::bad(range()));
    }
    Ok(())
}

fn thinking(config: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let empty = Map::new();
    let thinking = given(config, "thinkingConfig").and_then(Value::as_object).unwrap_or(&empty);
    known(thinking, &["includeThoughts", "thinkingBudget", "thinkingLevel"], "generation_config.thinking_config")?;
    let both = given(thinking, "thinkingBudget").is_some() && given(thinking, "thinkingLevel").is_some();
    ensure!(!both, Refusal::bad("You can only set only one of thinking budget and thinking level."));
    let off = given(thinking, "thinkingBudget").and_then(Value::as_i64) == Some(0);
    let shown = thinking.get("includeThoughts") == Some(&Value::Bool(true));
    ask.thinking = match (off, shown) {
        (true, _) => Thinking::Off,
        (false, true) => Thinking::Shown,
        (false, false) => Thinking::Hidden,
    };
    Ok(())
}

fn declarations(tool: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    known(tool, TOOL_FIELDS, "tools[0]")?;
    for (i, value) in repeated(tool.get("functionDeclarations")).iter().enumerate() {
        let at = format!("tools[0].function_declarations[{i}]");
        let function = message(value, &at)?;
        known(function, FUNCTION_FIELDS, &at)?;
        let name = text(function, "name").unwrap_or_default();
        let invalid = format!(
            "* GenerateContentRequest.{at}.name: Invalid function name. Must start with a letter or an underscore. Must be \
             alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128.\n"
        );
        ensure!(is_function_name(name), Refusal::bad(invalid));
        if let Some(parameters) = given(function, "parameters") {
            schema::check_google(parameters, &format!("{at}.parameters"))?;
        }
        let schema = given(function, "parameters").or_else(|| given(function, "parametersJsonSchema"));
        ask.tools.push(Tool { name: name.to_owned(), schema: schema.cloned().unwrap_or_default(), custom: false });
    }
    Ok(())
}

fn is_function_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 128 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

fn choice(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let config =
        body.get("toolConfig").and_then(|config| config.get("functionCallingConfig")).and_then(Value::as_object);
    let Some(config) = config else { return Ok(()) };
    let mode = text(config, "mode").unwrap_or("AUTO").to_ascii_uppercase();
    ask.choice = match mode.as_str() {
        "ANY" => Choice::Any,
        "NONE" => Choice::None,
        _ => Choice::Auto,
    };
    let allowed = repeated(config.get("allowedFunctionNames"));
    let misplaced = "Function calling config: allowed_function_names should only be set when mode is ANY.";
    ensure!(allowed.is_empty() || mode == "ANY" || mode == "VALIDATED", Refusal::bad(misplaced));
    if let ([name], Choice::Any) = (allowed, &ask.choice) {
        ask.choice = Choice::Named(name.as_str().unwrap_or_default().to_owned());
    }
    Ok(())
}

fn output(config: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let format = given(config, "responseFormat");
    let formatted = format.and_then(|format| format.get("text").unwrap_or(format).get("schema"));
    let names = ["responseSchema", "responseJsonSchema", "_responseJsonSchema"];
    let schema = names.iter().find_map(|name| given(config, name)).or(formatted);
    let mime = text(config, "responseMimeType").unwrap_or("text/plain");
    let typed = matches!(mime, "application/json" | "text/x.enum") || format.is_some();
    let untyped =
        "Schema in GenerationConfig can be used only when response_mime_type is application/json or text/x.enum.";
    ensure!(schema.is_none() || typed, Refusal::bad(untyped));
    if let Some(schema) = given(config, "responseSchema") {
        schema::check_google(schema, "generation_config.response_schema")?;
    }
    ask.json_mode = schema.is_none() && mime == "application/json";
    ask.schema = schema.cloned();
    let mixed = !ask.tools.is_empty() && (ask.json_mode || ask.schema.is_some()) && !ask.model.starts_with("gemini-3");
    let message = "Function calling with a response mime type: 'application/json' is unsupported";
    ensure!(!mixed, Refusal::bad(message));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(extra: Value) -> Checked<Ask> {
        let mut body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(&body, "gemini-2.5-flash", false)
    }

    #[test]
    fn both_spellings_and_lone_objects_are_read() {
        let ask = with(json!({"contents": {"parts": {"text": "hi"}}, "system_instruction": {"parts": {"text": "s"}},
            "generation_config": {"max_output_tokens": 5, "thinking_config": {"include_thoughts": true}},
            "tools": {"function_declarations": {"name": "f", "parameters": {"type": "object", "properties": {"a_b": {"type": "string"}}}}}}))
        .unwrap();
        assert!(ask.system == "s" && ask.max_tokens == Some(5) && ask.thinking == Thinking::Shown, "{ask:?}");
        assert!(
            ask.tool("f").unwrap().schema.pointer("/properties/a_b").is_some(),
            "a property's name is the caller's"
        );
    }

    #[test]
    fn what_google_refuses_is_refused_and_named() {
        let function = |parameters: Value| json!([{"functionDeclarations": [{"name": "f", "parameters": parameters}]}]);
        for (extra, named) in [
            (json!({"max_tokens": 5}), "maxTokens"),
            (json!({"generationConfig": {"maxTokens": 5}}), "maxTokens"),
            (json!({"generationConfig": {"temperature": 3}}), "temperature"),
            (json!({"generationConfig": {"stopSequences": ["a", "b", "c", "d", "e", "f"]}}), "stop sequences"),
            (json!({"generationConfig": {"responseSchema": {"type": "object"}}}), "response_mime_type"),
            (json!({"contents": []}), "contents is not specified"),
            (
                json!({"tools": function(json!({"type": "object", "additionalProperties": false}))}),
                "additionalProperties",
            ),
            (json!({"tools": [{"functionDeclarations": [{"name": "1 f"}]}]}), "Invalid function name"),
            (
                json!({"toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}}}),
                "allowed_function",
            ),
        ] {
            let refusal = with(extra.clone()).unwrap_err();
            assert!(refusal.message.contains(named), "{extra}: {refusal:?}");
        }
    }
}
