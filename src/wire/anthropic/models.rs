//! Model lists in Anthropic's shape.

use crate::wire::json;
use serde::Serialize;

#[derive(Serialize)]
struct List<'a> {
    data: Vec<Entry<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Entry<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    /// The epoch stands for a release date that is not known, as Anthropic's reference has it.
    created_at: &'static str,
}

fn entry(id: &str) -> Entry<'_> {
    Entry { r#type: "model", id, display_name: id, created_at: "1970-01-01T00:00:00Z" }
}

/// The list, all on one page.
pub(super) fn list(models: &[&str]) -> Vec<u8> {
    json::to_vec(&List {
        data: models.iter().map(|id| entry(id)).collect(),
        has_more: false,
        first_id: models.first().copied(),
        last_id: models.last().copied(),
    })
}

/// One entry.
pub(super) fn one(model: &str) -> Vec<u8> {
    json::to_vec(&entry(model))
}
