//! The members of Responses replies that are read.
//!
//! Borrows from the reply; a text delta costs no allocation.

use super::server_tools::Action;
use crate::wire::{
    fields::{Json, Soft, Str},
    lenient::{Maybe, soft},
    openai_chat::UsageObject,
};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct EventIn<'a> {
    #[serde(borrow, rename = "type", default)]
    pub(super) kind: Option<Str<'a>>,
    #[serde(default, deserialize_with = "soft")]
    pub(super) output_index: Option<u64>,
    #[serde(default, deserialize_with = "soft")]
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
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) model: Option<Str<'a>>,
    #[serde(default, deserialize_with = "soft")]
    pub(super) created_at: Option<f64>,
    #[serde(borrow, default)]
    pub(super) status: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) output: Option<Vec<ItemIn<'a>>>,
    #[serde(default)]
    pub(super) usage: Maybe<UsageObject>,
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) incomplete_details: Option<IncompleteIn<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<Json<'a>>,
}

#[derive(Deserialize)]
pub(super) struct IncompleteIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) reason: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ItemIn<'a> {
    #[serde(borrow, rename = "type", default)]
    pub(super) kind: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) call_id: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
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
    #[serde(borrow, default, deserialize_with = "soft")]
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
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) url: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    pub(super) title: Option<Str<'a>>,
    #[serde(default, deserialize_with = "soft")]
    pub(super) start_index: Option<u64>,
    #[serde(default, deserialize_with = "soft")]
    pub(super) end_index: Option<u64>,
}
