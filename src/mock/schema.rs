//! JSON schemas: an instance made from one, and what each provider refuses in one.
//!
//! Instances are deterministic: the first enum value, 7, 7.5, true, `Paris` for a place and `mock` for other strings.
//! Depth and size are bounded, since schemas may refer to themselves.

use super::{
    json,
    refusal::{Checked, Refusal, ensure},
};
use serde_json::Value;

/// How deep schemas are followed, and how large an instance may grow in bytes.
const MAX_DEPTH: usize = 32;
const MAX_INSTANCE: usize = 1 << 20;

/// The JSON text of an instance. `variant` tells the calls of one turn apart.
pub(super) fn instance(schema: &Value, variant: usize) -> String {
    let mut maker = Maker { root: schema, variant, out: String::new() };
    maker.write(schema, "", 0);
    maker.out
}

struct Maker<'a> {
    root: &'a Value,
    variant: usize,
    out: String,
}

impl<'a> Maker<'a> {
    fn write(&mut self, schema: &Value, key: &str, depth: usize) {
        if depth > MAX_DEPTH || self.out.len() > MAX_INSTANCE {
            return self.out.push_str("null");
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let pointer = target.trim_start_matches('#');
            let root: &'a Value = self.root;
            return self.write(root.pointer(pointer).unwrap_or(&Value::Null), key, depth + 1);
        }
        let fixed = schema.get("const").or_else(|| schema.get("enum").and_then(|values| values.get(0)));
        if let Some(value) = fixed {
            return self.out.push_str(&value.to_string());
        }
        let unions = ["anyOf", "oneOf", "allOf", "any_of"];
        if let Some(first) = unions.iter().find_map(|name| schema.get(name).and_then(|list| list.get(0))) {
            return self.write(first, key, depth + 1);
        }
        match kind(schema).as_str() {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, key, depth),
            "integer" => self.out.push('7'),
            "number" => self.out.push_str("7.5"),
            "boolean" => self.out.push_str("true"),
            "null" => self.out.push_str("null"),
            _ => self.out.push_str(&json::string(self.word(key))),
        }
    }

    fn word(&self, key: &str) -> &'static str {
        let is_place = ["city", "location", "place"].iter().any(|word| key.contains(word));
        match (is_place, self.variant) {
            (true, 0) => "Paris",
            (true, _) => "London",
            (false, _) => "mock",
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) {
        let required = schema.get("required").and_then(Value::as_array);
        let wanted = |name: &String| required.is_none_or(|list| list.iter().any(|r| r.as_str() == Some(name)));
        self.out.push('{');
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        for (n, (name, property)) in properties.filter(|(name, _)| wanted(name)).enumerate() {
            if n > 0 {
                self.out.push(',');
            }
            self.out.push_str(&json::string(name));
            self.out.push(':');
            self.write(property, name, depth + 1);
        }
        self.out.push('}');
    }

    fn array(&mut self, schema: &Value, key: &str, depth: usize) {
        let items = schema.get("items").unwrap_or(&Value::Null);
        let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, 100);
        self.out.push('[');
        for n in 0..count {
            if n > 0 {
                self.out.push(',');
            }
            self.write(items, key, depth + 1);
        }
        self.out.push(']');
    }
}

/// The schema's type in lower case; the first that is not null of several.
fn kind(schema: &Value) -> String {
    let named = match schema.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    };
    let guess = if schema.get("properties").is_some() { "object" } else { "string" };
    named.unwrap_or(guess).to_ascii_lowercase()
}

/// OpenAI's rules for a schema: an object, and closed and complete when `strict`.
pub(super) fn check_openai(schema: Option<&Value>, strict: bool, name: &str) -> Checked<()> {
    let Some(schema) = schema.filter(|schema| !schema.is_null()) else { return Ok(()) };
    let refuse = |what: String| {
        let message = format!("Invalid schema for function '{name}': {what}");
        Refusal::bad(message).kind("invalid_request_error").code("invalid_function_parameters")
    };
    let Some(fields) = schema.as_object() else { return Err(refuse("expected an object.".into())) };
    if strict {
        return check_strict(schema, name, 0);
    }
    let named = schema.get("type").and_then(Value::as_str);
    let fits = fields.is_empty() || matches!(named, None | Some("object")) || schema.get("anyOf").is_some();
    ensure!(
        fits,
        refuse(format!(
            "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{}\"'.",
            named.unwrap_or("null")
        ))
    );
    Ok(())
}

fn check_strict(schema: &Value, name: &str, depth: usize) -> Checked<()> {
    let refuse = |what: String| {
        let message = format!("Invalid schema for response_format '{name}': In context=(), {what}");
        Refusal::bad(message).kind("invalid_request_error").code("invalid_json_schema")
    };
    ensure!(depth <= MAX_DEPTH, refuse("the schema is nested too deeply.".into()));
    match schema {
        Value::Object(fields) => {
            if let (Some("object"), Some(Value::Object(properties))) =
                (schema.get("type").and_then(Value::as_str), schema.get("properties"))
            {
                let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
                ensure!(closed, refuse("'additionalProperties' is required to be supplied and to be false.".into()));
                let required = schema.get("required").and_then(Value::as_array);
                let listed = |key: &str| required.is_some_and(|list| list.iter().any(|r| r.as_str() == Some(key)));
                if let Some(missing) = properties.keys().find(|key| !listed(key)) {
                    return Err(refuse(format!(
                        "'required' is required to be supplied and to be an array including every key in properties. Missing '{missing}'."
                    )));
                }
            }
            fields.values().try_for_each(|value| check_strict(value, name, depth + 1))
        }
        Value::Array(list) => list.iter().try_for_each(|value| check_strict(value, name, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Anthropic's rule for structured output: every object is closed.
pub(super) fn check_anthropic(schema: &Value) -> Checked<()> {
    match schema {
        Value::Object(fields) => {
            let open = schema.get("type").and_then(Value::as_str) == Some("object")
                && schema.get("additionalProperties") != Some(&Value::Bool(false));
            ensure!(
                !open,
                Refusal::bad(
                    "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
                )
            );
            fields.values().try_for_each(check_anthropic)
        }
        Value::Array(list) => list.iter().try_for_each(check_anthropic),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// The keywords of Google's subset of OpenAPI schemas.
#[rustfmt::skip]
const GOOGLE_KEYWORDS: [&str; 24] = [
    "type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required",
    "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering",
    "default", "items", "minimum", "maximum", "any_of", "property_ordering",
];

/// Google's rules for `parameters` and `responseSchema`: a subset of OpenAPI, one type each.
pub(super) fn check_google(schema: &Value, at: &str) -> Checked<()> {
    let Some(fields) = schema.as_object() else { return Ok(()) };
    for name in fields.keys() {
        let known = GOOGLE_KEYWORDS.contains(&name.as_str()) || GOOGLE_KEYWORDS.contains(&camel(name).as_str());
        ensure!(
            known,
            Refusal::bad(format!(
                "Invalid JSON payload received. Unknown name \"{name}\" at '{at}': Cannot find field."
            ))
        );
    }
    let single = !schema.get("type").is_some_and(Value::is_array);
    ensure!(
        single,
        Refusal::bad(format!(
            "Invalid value at '{at}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type)"
        ))
    );
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check_google(property, &format!("{at}.properties[{name}].value"))?;
    }
    if let Some(items) = schema.get("items") {
        check_google(items, &format!("{at}.items"))?;
    }
    let union = schema.get("anyOf").or_else(|| schema.get("any_of")).and_then(Value::as_array);
    union.into_iter().flatten().try_for_each(|option| check_google(option, &format!("{at}.any_of")))
}

/// `snake_case` as `camelCase`; a leading underscore stays.
pub(super) fn camel(name: &str) -> String {
    if name.starts_with('_') || !name.contains('_') {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.next_if(|next| c == '_' && next.is_ascii_lowercase()) {
            Some(letter) => out.push(letter.to_ascii_uppercase()),
            None => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_instance_fits_its_schema() {
        let schema = json!({"type": "object", "required": ["city", "n", "list", "ref"], "properties": {
            "city": {"type": "string"}, "n": {"type": ["null", "integer"]}, "skipped": {"type": "string"},
            "list": {"type": "array", "minItems": 2, "items": {"enum": ["x", "y"]}}, "ref": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"anyOf": [{"type": "boolean"}]}}});
        let value = |variant| serde_json::from_str::<Value>(&instance(&schema, variant)).unwrap();
        assert_eq!(value(0), json!({"city": "Paris", "n": 7, "list": ["x", "x"], "ref": true}));
        assert_eq!(value(1)["city"], "London");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}});
        assert!(instance(&schema, 0).len() <= 2 * MAX_INSTANCE);
    }

    #[test]
    fn strict_schemas_must_be_closed_and_complete() {
        let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        assert!(check_openai(Some(&open), false, "f").is_ok());
        assert!(check_openai(Some(&open), true, "f").unwrap_err().message.contains("additionalProperties"));
        let partial = json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false, "required": []});
        assert!(check_openai(Some(&partial), true, "f").unwrap_err().message.contains("Missing 'a'"));
        assert!(check_anthropic(&open).is_err());
    }

    #[test]
    fn google_knows_its_subset_in_both_spellings() {
        assert!(check_google(&json!({"type": "OBJECT", "property_ordering": [], "anyOf": []}), "p").is_ok());
        let message = check_google(&json!({"properties": {"a": {"exclusiveMinimum": 1}}}), "p").unwrap_err().message;
        assert!(message.contains("exclusiveMinimum") && message.contains("properties[a]"), "{message}");
        assert_eq!(camel("max_output_tokens"), "maxOutputTokens");
    }
}
