//! Model lists in Google's shape.

use crate::wire::json;
use serde::Serialize;

#[derive(Serialize)]
struct List<'a> {
    models: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    name: String,
    display_name: &'a str,
    supported_generation_methods: &'static [&'static str],
}

/// What every chat model can be asked for.
const GENERATION: &[&str] = &["generateContent", "streamGenerateContent", "countTokens"];
/// What an embedding model can be asked for.
const EMBEDDING: &[&str] = &["embedContent", "batchEmbedContents"];

fn entry(model: &str) -> Entry<'_> {
    let id = model.strip_prefix("models/").unwrap_or(model);
    // Clients choose by the methods; only the name tells the two kinds apart.
    let methods = if id.contains("embedding") { EMBEDDING } else { GENERATION };
    Entry { name: format!("models/{id}"), display_name: id, supported_generation_methods: methods }
}

/// The list, all on one page.
pub(super) fn list(models: &[&str]) -> Vec<u8> {
    json::to_vec(&List { models: models.iter().map(|model| entry(model)).collect() })
}

/// One entry.
pub(super) fn one(model: &str) -> Vec<u8> {
    json::to_vec(&entry(model))
}
