//! Model lists in OpenAI's shape, shared by both of OpenAI's formats.

use crate::wire::json;
use serde::Serialize;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    /// Required by the clients' types; a gateway does not know it, and 1970 says so.
    created: u64,
    owned_by: &'static str,
}

fn entry(id: &str) -> Entry<'_> {
    Entry { id, object: "model", created: 0, owned_by: "sub2api" }
}

/// The list.
pub(crate) fn list(models: &[&str]) -> Vec<u8> {
    json::to_vec(&List { object: "list", data: models.iter().map(|id| entry(id)).collect() })
}

/// One entry.
pub(crate) fn one(model: &str) -> Vec<u8> {
    json::to_vec(&entry(model))
}
