//! Turns tool and output schemas from one dialect into another, member by member.
//!
//! Keeps the order of members. What is plain JSON Schema goes through as it came.

use super::{
    compose,
    fields::{Json, Members, Num, Str},
    in_place::in_place,
    request::Schema,
};
use std::borrow::Cow;

/// Deeper schemas are passed on as they are.
const MAX_DEPTH: usize = 64;

/// Writes a schema as JSON Schema.
pub(crate) fn put(out: &mut Vec<u8>, schema: Schema<'_>) {
    match schema {
        Schema::Json(raw) => compose::put_raw(out, raw.get()),
        Schema::Gemini(raw) => put_gemini(out, raw, 0),
    }
}

/// Writes a schema of a tool's parameters: always of type object, as Anthropic wants it.
pub(crate) fn put_object(out: &mut Vec<u8>, schema: Option<Schema<'_>>) {
    let text = match schema {
        None => Cow::Borrowed(""),
        Some(Schema::Json(json)) => Cow::Borrowed(json.get()),
        Some(schema @ Schema::Gemini(_)) => {
            let mut text = Vec::new();
            put(&mut text, schema);
            Cow::Owned(String::from_utf8(text).unwrap_or_default())
        }
    };
    let members: Members<'_> = in_place(text.as_bytes()).unwrap_or_default();
    if members.find("type").is_some_and(|t| t.get() == "\"object\"") {
        return compose::put_raw(out, &text);
    }
    compose::obj(out, |o| {
        o.word("type", "object");
        if members.0.is_empty() {
            o.obj("properties", |_| {});
        }
        for (key, value) in members.0.iter().filter(|(key, _)| key != "type") {
            o.any_raw(key, value.get());
        }
    });
}

/// The same, with every object in it closed.
pub(crate) fn put_closed_object(out: &mut Vec<u8>, schema: Option<Schema<'_>>) {
    let mut text = Vec::new();
    put_object(&mut text, schema);
    put_closed_text(out, &String::from_utf8(text).unwrap_or_default(), 0);
}

/// Whether OpenAI takes a schema as strict: every object closed, and all its properties required.
pub(crate) fn is_strict(schema: Option<Schema<'_>>) -> bool {
    let mut text = Vec::new();
    put_object(&mut text, schema);
    is_strict_text(&String::from_utf8(text).unwrap_or_default(), 0)
}

fn is_strict_text(text: &str, depth: usize) -> bool {
    let Ok(members) = serde_json::from_str::<Members<'_>>(text) else { return true };
    let inner = |key: &str| members.find(key).map(|raw| raw.get()).unwrap_or("{}");
    let each = |key: &str| serde_json::from_str::<Members<'_>>(inner(key)).unwrap_or_default();
    let list = |key: &str| serde_json::from_str::<Vec<Json<'_>>>(inner(key)).unwrap_or_default();
    let properties = each("properties");
    let is_object = members.find("properties").is_some() || inner("type").contains("\"object\"");
    let required = serde_json::from_str::<Vec<Str<'_>>>(inner("required")).unwrap_or_default();
    let is_closed = inner("additionalProperties") == "false";
    let has_all = properties.0.iter().all(|(name, _)| required.iter().any(|r| **r == **name));
    let deeper = |raw: Json<'_>| is_strict_text(raw.get(), depth + 1);
    depth <= MAX_DEPTH
        && (!is_object || (is_closed && has_all))
        && properties.0.iter().all(|(_, raw)| deeper(*raw))
        && ["$defs", "definitions"].iter().all(|key| each(key).0.iter().all(|(_, raw)| deeper(*raw)))
        && list("anyOf").into_iter().all(deeper)
        && members.find("items").is_none_or(deeper)
}

/// Writes an output schema whose objects are all closed (`additionalProperties: false`), as Anthropic wants them.
pub(crate) fn put_closed(out: &mut Vec<u8>, schema: Schema<'_>) {
    let mut text = Vec::new();
    put(&mut text, schema);
    let text = String::from_utf8(text).unwrap_or_default();
    put_closed_text(out, &text, 0);
}

fn put_closed_text(out: &mut Vec<u8>, text: &str, depth: usize) {
    let members = match serde_json::from_str::<Members<'_>>(text) {
        Ok(members) if depth <= MAX_DEPTH => members,
        _ => return compose::put_raw(out, text),
    };
    let is_object =
        members.find("type").is_some_and(|t| t.get().contains("\"object\"")) || members.find("properties").is_some();
    compose::obj(out, |o| {
        for (key, value) in &members.0 {
            match &**key {
                "properties" | "$defs" | "definitions" => {
                    let inner = serde_json::from_str::<Members<'_>>(value.get()).unwrap_or_default();
                    compose::obj(o.any_key(key), |o| {
                        inner.0.iter().for_each(|(k, v)| put_closed_text(o.any_key(k), v.get(), depth + 1));
                    });
                }
                "items" => put_closed_text(o.any_key(key), value.get(), depth + 1),
                "anyOf" | "allOf" | "oneOf" => {
                    let inner = serde_json::from_str::<Vec<Json<'_>>>(value.get()).unwrap_or_default();
                    compose::arr(o.any_key(key), |a| {
                        inner.iter().for_each(|v| put_closed_text(a.item(), v.get(), depth + 1));
                    });
                }
                "additionalProperties" if is_object => {}
                _ => o.any_raw(key, value.get()),
            }
        }
        if is_object {
            o.bool("additionalProperties", false);
        }
    });
}

/// Gemini's OpenAPI subset as JSON Schema: lower-case types, `nullable` as a type, counts as numbers.
fn put_gemini(out: &mut Vec<u8>, raw: Json<'_>, depth: usize) {
    let Ok(members) = serde_json::from_str::<Members<'_>>(raw.get()) else { return compose::put_raw(out, raw.get()) };
    let nullable = members.find("nullable").is_some_and(|n| n.get() == "true");
    compose::obj(out, |o| {
        for (key, value) in members.0.iter().map(|(key, value)| (key, *value)) {
            if depth > MAX_DEPTH || value.get() == "null" {
                continue;
            }
            match &**key {
                "nullable" | "propertyOrdering" | "property_ordering" => {}
                "type" => put_type(o, value, nullable),
                "format" if matches!(value.get(), "\"enum\"" | "\"ENUM\"") => {}
                "items" => put_gemini(o.key("items"), value, depth + 1),
                "properties" => put_properties(o, value, depth),
                "anyOf" | "any_of" => put_any_of(o, value, depth),
                "maxItems" | "max_items" => put_count(o, "maxItems", value),
                "minItems" | "min_items" => put_count(o, "minItems", value),
                "maxLength" | "max_length" => put_count(o, "maxLength", value),
                "minLength" | "min_length" => put_count(o, "minLength", value),
                "maxProperties" | "max_properties" => put_count(o, "maxProperties", value),
                "minProperties" | "min_properties" => put_count(o, "minProperties", value),
                "maximum" => put_count(o, "maximum", value),
                "minimum" => put_count(o, "minimum", value),
                "example" => o.key("examples").extend_from_slice(format!("[{}]", value.get()).as_bytes()),
                _ => o.any_raw(key, value.get()),
            }
        }
    });
}

fn put_type(o: &mut compose::Obj<'_>, value: Json<'_>, nullable: bool) {
    let Ok(name) = serde_json::from_str::<Str<'_>>(value.get()) else { return o.raw("type", value.get()) };
    let name = name.to_ascii_lowercase();
    if name == "type_unspecified" {
        return;
    }
    if nullable && name != "null" {
        o.arr("type", |a| {
            a.str(&name);
            a.str("null");
        });
    } else {
        o.str("type", &name);
    }
}

fn put_properties(o: &mut compose::Obj<'_>, value: Json<'_>, depth: usize) {
    let properties = serde_json::from_str::<Members<'_>>(value.get()).unwrap_or_default();
    o.obj("properties", |o| {
        for (name, schema) in &properties.0 {
            put_gemini(o.any_key(name), *schema, depth + 1);
        }
    });
}

fn put_any_of(o: &mut compose::Obj<'_>, value: Json<'_>, depth: usize) {
    let schemas = serde_json::from_str::<Vec<Json<'_>>>(value.get()).unwrap_or_default();
    o.arr("anyOf", |a| {
        for schema in schemas {
            put_gemini(a.item(), schema, depth + 1);
        }
    });
}

/// Protocol buffers write 64-bit counts as strings.
fn put_count(o: &mut compose::Obj<'_>, key: &'static str, value: Json<'_>) {
    match serde_json::from_str::<Num>(value.get()) {
        Ok(number) => o.num(key, &number),
        Err(_) => o.raw(key, value.get()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Json<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn geminis_subset_becomes_json_schema() {
        let mut out = Vec::new();
        let schema = r#"{"type":"OBJECT","properties":{"type":{"type":"STRING","nullable":true},"list":{"type":"ARRAY",
            "items":{"type":"INTEGER"},"maxItems":"3"}},"propertyOrdering":["list"],"required":["type"]}"#;
        put(&mut out, Schema::Gemini(raw(schema)));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"type":"object","properties":{"type":{"type":["string","null"]},"list":{"type":"array","items":{"type":"integer"},"maxItems":3}},"required":["type"]}"#
        );
    }

    #[test]
    fn strict_is_what_openai_calls_so() {
        let is = |text: &str| is_strict(Some(Schema::Json(raw(text))));
        let closed =
            r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;
        assert!(is(closed));
        assert!(!is(r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#));
        assert!(!is(r#"{"type":"object","properties":{}}"#) && !is_strict(None));
        assert!(is(&format!(
            r#"{{"type":"object","properties":{{"l":{{"type":"array","items":{closed}}}}},"required":["l"],"additionalProperties":false}}"#
        )));
        assert!(!is(
            r#"{"type":"object","properties":{"l":{"type":"array","items":{"type":"object"}}},"required":["l"],"additionalProperties":false}"#
        ));
    }

    #[test]
    fn parameters_are_always_an_object_schema() {
        for (schema, want) in [
            (None, r#"{"type":"object","properties":{}}"#),
            (Some("{}"), r#"{"type":"object","properties":{}}"#),
            (Some(r#"{"properties":{"a":{}}}"#), r#"{"type":"object","properties":{"a":{}}}"#),
            (Some(r#"{"b":1,"type":"object"}"#), r#"{"b":1,"type":"object"}"#),
        ] {
            let mut out = Vec::new();
            put_object(&mut out, schema.map(|s| Schema::Json(raw(s))));
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
