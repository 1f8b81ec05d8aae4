//! Strict readers: each refuses what its provider refuses, in that provider's words, and makes an [`Ask`] of the rest.
//!
//! They judge only the JSON body; path, key and headers were judged before. Where real servers are known to accept more
//! (merged turns, echoed vendor fields), they warn instead, unless the options say otherwise.

pub(super) mod anthropic;
pub(super) mod anthropic_turns;
pub(super) mod gemini;
pub(super) mod gemini_turns;
pub(super) mod openai_chat;
pub(super) mod openai_messages;
pub(super) mod openai_responses;
pub(super) mod responses_items;

use super::{
    ask::{Ask, Image},
    refusal::{Checked, Refusal, ensure},
    route::Route,
};
use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde_json::{Map, Value};

/// A 400 of OpenAI's usual type.
pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::bad(message).kind("invalid_request_error")
}

/// Takes out what Vertex wants in a request to Anthropic's models, and puts in what Anthropic itself wants.
pub(super) fn vertex(body: &mut Value, route: &Route) -> Checked<()> {
    let Some(body) = body.as_object_mut() else { return Ok(()) };
    let version = body.remove("anthropic_version");
    ensure!(version == Some("vertex-2023-10-16".into()), Refusal::bad("anthropic_version: Field required"));
    if let Some(model) = &route.model {
        ensure!(!body.contains_key("model"), Refusal::bad("model: Extra inputs are not permitted"));
        body.insert("model".to_owned(), model.clone().into());
    }
    Ok(())
}

/// OpenAI's complaint about a field that has to be there.
pub(super) fn missing(at: &str) -> Refusal {
    invalid(format!("Missing required parameter: '{at}'.")).at(at).code("missing_required_parameter")
}

/// OpenAI's complaint about a field that it does not know.
pub(super) fn unknown(at: &str) -> Refusal {
    invalid(format!("Unknown parameter: '{at}'.")).at(at).code("unknown_parameter")
}

/// OpenAI's complaint about a value out of a fixed set.
pub(super) fn unsupported(value: &str, at: &str, supported: &[&str]) -> Refusal {
    let list: Vec<String> = supported.iter().map(|name| format!("'{name}'")).collect();
    let message = format!("Invalid value: '{value}'. Supported values are: {}.", list.join(", "));
    invalid(message).at(at).code("invalid_value")
}

/// A field that is there and not null.
pub(super) fn given<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// A field that is a string.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// The first field that is not in the list.
pub(super) fn stranger<'a>(object: &'a Map<String, Value>, known: &[&str]) -> Option<&'a str> {
    object.keys().map(String::as_str).find(|name| !known.contains(name))
}

/// Whether a number is within these bounds; absent and null are.
pub(super) fn is_within(value: Option<&Value>, low: f64, high: f64) -> bool {
    value.is_none_or(|v| v.is_null() || v.as_f64().is_some_and(|v| (low..=high).contains(&v)))
}

/// Whether the value is absent, null or exactly one.
pub(super) fn is_default_one(value: Option<&Value>) -> bool {
    is_within(value, 1.0, 1.0)
}

/// A tool name: letters, digits, `_` and `-`, at most so many.
pub(super) fn is_tool_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The content of a `data:` URL, if it is one and well-formed.
pub(super) fn data_url(url: &str) -> Option<Image> {
    let (head, body) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some(Image { media_type: media_type.to_owned(), data: STANDARD.decode(body).ok()? })
}

/// An image that is only pointed at.
pub(super) fn pointed_at(url: &str) -> Image {
    Image { media_type: "url".into(), data: url.as_bytes().to_vec() }
}

/// Base64 as Google reads it: either alphabet, with or without padding.
pub(super) fn lenient_base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&ALPHABET, config).decode(text.replace('-', "+").replace('_', "/")).ok()
}

/// Base64 as everyone else reads it.
pub(super) fn strict_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Calls in the history that still wait for their results.
#[derive(Debug, Default)]
pub(super) struct Pending(Vec<(String, String)>);

impl Pending {
    pub(super) fn add(&mut self, id: &str, name: &str) {
        self.0.push((id.to_owned(), name.to_owned()));
    }

    /// The name of the call with this id, which is then answered.
    pub(super) fn take(&mut self, id: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == id)?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn ids(&self) -> String {
        self.0.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The body as an object, which every call takes.
pub(super) fn object(body: &Value) -> Checked<&Map<String, Value>> {
    body.as_object().ok_or_else(unreadable)
}

/// The complaint about a body that is no JSON object.
pub(super) fn unreadable() -> Refusal {
    invalid(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library \
         correctly.)",
    )
}

/// Refuses an element that is not an object.
pub(super) fn element<'a>(value: &'a Value, at: &str) -> Checked<&'a Map<String, Value>> {
    let refuse = || invalid(format!("Invalid type for '{at}': expected an object.")).at(at).code("invalid_type");
    value.as_object().ok_or_else(refuse)
}

/// Checks that OpenAI's token limits are whole and at least `least`.
pub(super) fn limit(body: &Map<String, Value>, name: &str, least: u64) -> Checked<Option<u64>> {
    let Some(value) = given(body, name) else { return Ok(None) };
    let refuse = || {
        let message = format!(
            "Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value} instead."
        );
        invalid(message).at(name).code("integer_below_min_value")
    };
    let number = value.as_u64().filter(|number| *number >= least).ok_or_else(refuse)?;
    Ok(Some(number))
}

/// Checks a sampling number against its range, in OpenAI's words.
pub(super) fn sampling(body: &Map<String, Value>, name: &str, low: f64, high: f64) -> Checked<()> {
    let refuse = || {
        let message = format!("Invalid '{name}': decimal out of range. Expected a value between {low} and {high}.");
        invalid(message).at(name)
    };
    ensure!(is_within(body.get(name), low, high), refuse());
    Ok(())
}

/// Remembers something odd that is let pass.
pub(super) fn warn(ask: &mut Ask, warning: String) {
    if ask.warnings.len() < 20 {
        ask.warnings.push(warning);
    }
}
