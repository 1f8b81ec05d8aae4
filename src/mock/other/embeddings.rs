//! Embeddings in OpenAI's and in Gemini's form: vectors made from a hash of the text.

use super::Ready;
use crate::mock::{
    ask::tokens,
    json,
    read::{
        self,
        gemini::{camelized, repeated},
        given, invalid, stranger, text,
    },
    refusal::{Checked, Refusal, ensure},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const DEFAULT_DIMENSIONS: u64 = 16;
const MAX_DIMENSIONS: u64 = 4096;
const MAX_INPUTS: usize = 2048;

/// A vector of values between -1 and 1, always the same for the same text.
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let hash = Sha256::digest(text.as_bytes());
    let bytes = hash.iter().cycle().zip(0..dimensions);
    bytes.map(|(byte, n)| ((u64::from(*byte) + n) % 256) as f32 / 128.0 - 1.0).collect()
}

fn numbers(vector: &[f32]) -> String {
    json::list(|l| vector.iter().for_each(|value| _ = l.raw(&format!("{value:?}"))))
}

fn packed(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn dimensions(object: &Map<String, Value>, name: &str) -> Checked<u64> {
    let Some(value) = given(object, name) else { return Ok(DEFAULT_DIMENSIONS) };
    let refuse =
        || invalid(format!("Invalid value for '{name}': expected an integer from 1 to {MAX_DIMENSIONS}.")).at(name);
    value.as_u64().filter(|n| (1..=MAX_DIMENSIONS).contains(n)).ok_or_else(refuse)
}

/// `POST /v1/embeddings`; `path_model` is Azure's deployment.
pub(in crate::mock) fn openai(body: &Value, path_model: Option<&str>) -> Checked<Ready> {
    let body = read::object(body)?;
    if let Some(name) = stranger(body, &["model", "input", "encoding_format", "dimensions", "user"]) {
        return Err(invalid(format!("Unrecognized request argument supplied: {name}")));
    }
    let model = path_model.or_else(|| text(body, "model"));
    let model = model.ok_or_else(|| invalid("you must provide a model parameter"))?;
    let inputs = inputs(body.get("input"))?;
    let dimensions = dimensions(body, "dimensions")?;
    let base64 = match given(body, "encoding_format").map(|format| format.as_str().unwrap_or("null")) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(read::unsupported(other, "encoding_format", &["float", "base64"])),
    };
    let count: u64 = inputs.iter().map(|(_, count)| count).sum();
    let body = json::object(|o| {
        o.text("object", "list").list("data", |l| {
            for (index, (input, _)) in inputs.iter().enumerate() {
                let vector = vector(input, dimensions);
                l.object(|e| {
                    e.text("object", "embedding").number("index", index as u64);
                    if base64 {
                        e.text("embedding", &packed(&vector))
                    } else {
                        e.raw("embedding", &numbers(&vector))
                    };
                });
            }
        });
        o.text("model", model).object("usage", |u| {
            u.number("prompt_tokens", count).number("total_tokens", count);
        });
    });
    let prompt = inputs.into_iter().next().map(|(text, _)| text).unwrap_or_default();
    Ok(Ready::json(model, prompt, count, body))
}

/// Every input with its token count: a text, texts, tokens, or lists of tokens.
fn inputs(input: Option<&Value>) -> Checked<Vec<(String, u64)>> {
    let refuse = || {
        invalid("'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.")
            .at("input")
    };
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Ok((text.clone(), tokens(text))),
        Value::Array(list) if !list.is_empty() && list.iter().all(Value::is_u64) => {
            Ok((value.to_string(), list.len() as u64))
        }
        _ => Err(refuse()),
    };
    match input {
        Some(Value::Array(list)) if list.first().is_some_and(|first| !first.is_number()) => {
            ensure!(list.len() <= MAX_INPUTS, refuse());
            list.iter().map(one).collect()
        }
        Some(value) => Ok(vec![one(value)?]),
        None => Err(refuse()),
    }
}

/// `:embedContent` and `:batchEmbedContents`.
pub(in crate::mock) fn gemini(body: &Value, model: &str, batch: bool) -> Checked<Ready> {
    let body = camelized(body);
    let list = if batch { repeated(body.get("requests")) } else { std::slice::from_ref(&body) };
    ensure!(!list.is_empty(), Refusal::bad("* BatchEmbedContentsRequest.requests: must not be empty"));
    let mut vectors = Vec::with_capacity(list.len());
    let (mut prompt, mut count) = (String::new(), 0);
    for request in list {
        let request = read::gemini::message(request, "requests")?;
        let known = ["model", "content", "taskType", "title", "outputDimensionality", "embedContentConfig"];
        read::gemini::known(request, &known, if batch { "requests[0]" } else { "" })?;
        let parts = request.get("content").map(|content| repeated(content.get("parts"))).unwrap_or_default();
        let none = Refusal::bad("* EmbedContentRequest.content: contents is not specified\n");
        ensure!(!parts.is_empty(), none);
        let text: String =
            parts.iter().map(|part| part.get("text").and_then(Value::as_str).unwrap_or("(data)")).collect();
        vectors.push(numbers(&vector(&text, dimensions(request, "outputDimensionality")?)));
        count += tokens(&text);
        prompt = text;
    }
    let body = json::object(|o| {
        if batch {
            o.list("embeddings", |l| vectors.iter().for_each(|values| _ = l.object(|e| _ = e.raw("values", values))));
        } else {
            o.object("embedding", |e| vectors.iter().for_each(|values| _ = e.raw("values", values)));
        }
    });
    Ok(Ready::json(model, prompt, count, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn embed(body: Value) -> Checked<Value> {
        openai(&body, None).map(|ready| serde_json::from_slice(&ready.body.data).unwrap())
    }

    #[test]
    fn base64_and_numbers_hold_the_same_vector() {
        let floats = embed(json!({"model": "m", "input": ["a", "b"]})).unwrap();
        let packed = embed(json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64"})).unwrap();
        let bytes = STANDARD.decode(packed["data"][1]["embedding"].as_str().unwrap()).unwrap();
        let unpacked: Vec<f64> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect();
        let plain: Vec<f64> =
            floats["data"][1]["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(unpacked, plain);
        assert_eq!(plain.len() as u64, DEFAULT_DIMENSIONS);
    }

    #[test]
    fn tokens_are_inputs_too_and_empty_ones_are_refused() {
        assert_eq!(embed(json!({"model": "m", "input": [1, 2, 3]})).unwrap()["usage"]["prompt_tokens"], 3);
        assert_eq!(embed(json!({"model": "m", "input": [[1], [2]]})).unwrap()["data"].as_array().unwrap().len(), 2);
        for input in [json!(""), json!([]), json!(["a", ""]), json!(null), json!({"a": 1})] {
            assert!(embed(json!({"model": "m", "input": input})).is_err(), "{input}");
        }
        assert!(embed(json!({"model": "m", "input": "a", "input_type": "x"})).is_err());
    }

    #[test]
    fn gemini_embeds_one_or_many() {
        let body = json!({"requests": [{"content": {"parts": [{"text": "a"}]}, "output_dimensionality": 3}]});
        let ready = gemini(&body, "m", true).unwrap();
        let value: Value = serde_json::from_slice(&ready.body.data).unwrap();
        assert_eq!(value["embeddings"][0]["values"].as_array().unwrap().len(), 3);
        assert!(gemini(&json!({"content": {"parts": []}}), "m", false).is_err());
    }
}
