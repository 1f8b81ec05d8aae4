//! The members of Responses replies that are read.
//!
//! Borrows from the reply; a text delta costs no allocation.

use super::server_tools::Action;
use crate::wire::{
    Usage,
    fields::{Json, Soft, Str},
    lenient::Maybe,
};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct EventIn<'a> {
    #[serde(borrow, rename = "type", default)]
    pub(super) kind: Option<Str<'a>>,
    #[serde(default)]
    pub(super) output_index: Option<u64>,
    #[serde(default)]
    pub(super) summary_index: Option<u64>,
    #[serde(borrow, default)]
    pub(super) delta: Soft<'a>,
    #[serde(borrow, default)]
    pub(super) item: Option<ItemIn<'a>>,
    #[serde(borrow, default)]
    pub(super) logprobs: Option<Json<'a>>,
    #[serde(borrow, default)]
    pub(super) annotation: Option<AnnotationIn<'a>>,
    #[serde(borrow, default)]
    pub(super) response: Option<ResponseIn<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ResponseIn<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) model: Option<Str<'a>>,
    #[serde(default)]
    pub(super) created_at: Option<f64>,
    #[serde(borrow, default)]
    pub(super) status: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) output: Option<Vec<ItemIn<'a>>>,
    #[serde(default)]
    pub(super) usage: Option<UsageIn>,
    #[serde(borrow, default)]
    pub(super) incomplete_details: Option<IncompleteIn<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<Json<'a>>,
}

#[derive(Deserialize)]
pub(super) struct IncompleteIn<'a> {
    #[serde(borrow, default)]
    pub(super) reason: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ItemIn<'a> {
    #[serde(borrow, rename = "type", default)]
    pub(super) kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) call_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) namespace: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) arguments: Option<Json<'a>>,
    #[serde(borrow, default)]
    pub(super) input: Option<Json<'a>>,
    #[serde(borrow, default)]
    pub(super) content: Option<Vec<PartIn<'a>>>,
    #[serde(borrow, default)]
    pub(super) summary: Option<Vec<PartIn<'a>>>,
    #[serde(borrow, default)]
    pub(super) encrypted_content: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) phase: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) action: Maybe<Action<'a>>,
}

#[derive(Deserialize)]
pub(super) struct PartIn<'a> {
    #[serde(borrow, default)]
    pub(super) text: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) refusal: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) annotations: Option<Vec<AnnotationIn<'a>>>,
    #[serde(borrow, default)]
    pub(super) logprobs: Option<Json<'a>>,
}

#[derive(Deserialize)]
pub(super) struct AnnotationIn<'a> {
    #[serde(borrow, default)]
    pub(super) url: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) title: Option<Str<'a>>,
    #[serde(default)]
    pub(super) start_index: Option<u64>,
    #[serde(default)]
    pub(super) end_index: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct UsageIn {
    #[serde(default)]
    pub(super) input_tokens: Option<u64>,
    #[serde(default)]
    pub(super) output_tokens: Option<u64>,
    #[serde(default)]
    pub(super) input_tokens_details: Option<InputDetailsIn>,
    #[serde(default)]
    pub(super) output_tokens_details: Option<OutputDetailsIn>,
    /// xAI.
    #[serde(default)]
    pub(super) num_server_side_tools_used: Option<u64>,
}

#[derive(Deserialize, Default)]
pub(super) struct InputDetailsIn {
    #[serde(default)]
    pub(super) cached_tokens: Option<u64>,
    #[serde(default)]
    pub(super) cache_write_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
pub(super) struct OutputDetailsIn {
    #[serde(default)]
    pub(super) reasoning_tokens: Option<u64>,
}

impl UsageIn {
    pub(super) fn counts(&self) -> Usage {
        let details = self.input_tokens_details.as_ref();
        let cached = details.and_then(|d| d.cached_tokens);
        let written = details.and_then(|d| d.cache_write_tokens);
        let not_fresh = cached.unwrap_or(0).saturating_add(written.unwrap_or(0));
        Usage {
            input: self.input_tokens.map(|all| all.saturating_sub(not_fresh)),
            cache_read: cached,
            cache_write: written,
            output: self.output_tokens,
            reasoning: self.output_tokens_details.as_ref().and_then(|d| d.reasoning_tokens),
            server_tools: self.num_server_side_tools_used,
            ..Usage::default()
        }
    }
}
