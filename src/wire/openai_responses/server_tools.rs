//! Which output items are calls of tools that the provider runs itself and bills one by one, as Anthropic counts them.
//!
//! Searches of the web and of files. Opening a page that was found, MCP and image generation cost tokens only, and
//! code runs in containers that are billed by time.

use crate::wire::lenient::{Filled, Maybe, Word, facts};

facts! {
    /// An output item, as far as it is looked at to count it.
    pub(super) struct Item<'a> {
        b"type" => pub(super) kind: Word<'a>,
        b"action" => action: Maybe<Action<'a>>,
        b"content" => pub(super) content: Filled,
        b"summary" => pub(super) summary: Filled,
    }
}

facts! {
    /// What a call does.
    pub(super) struct Action<'a> {
        b"type" => pub(super) kind: Word<'a>,
    }
}

impl Item<'_> {
    pub(super) fn is_billed(&self) -> bool {
        is_billed(
            self.kind.as_str().unwrap_or_default(),
            self.action.0.as_ref().and_then(|action| action.kind.as_str()),
        )
    }
}

/// Whether an item of this type, whose call does this, is billed by itself. Early replies do not say what a search does.
pub(super) fn is_billed(kind: &str, action: Option<&str>) -> bool {
    match kind {
        "web_search_call" => action.is_none_or(|action| action == "search"),
        "file_search_call" => true,
        _ => false,
    }
}
