//! The members of Chat Completions replies that are read, of OpenAI's and of those that imitate it.
//!
//! Borrows from the reply; a chunk with one choice costs no allocation.

use crate::wire::{
    Usage,
    fields::{List, Str, TextOr, wire_struct},
};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct ChunkIn<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) model: Option<Str<'a>>,
    #[serde(default)]
    pub(super) created: Option<f64>,
    #[serde(borrow, default)]
    pub(super) choices: Option<List<ChoiceIn<'a>>>,
    #[serde(default)]
    pub(super) usage: Option<UsageIn>,
    #[serde(default)]
    pub(super) x_groq: Option<GroqIn>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
    /// Perplexity: the sources of the answer.
    #[serde(borrow, default)]
    pub(super) citations: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) search_results: Option<&'a RawValue>,
}

impl ChunkIn<'_> {
    /// What no other format has a place for, by name.
    pub(super) fn unsaid(&self) -> impl Iterator<Item = &'static str> {
        let all = [("citations", self.citations), ("search_results", self.search_results)];
        all.into_iter().filter(|(_, value)| value.is_some_and(is_said)).map(|(name, _)| name)
    }
}

/// Whether a member holds anything.
fn is_said(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "[]" | "{}" | "\"\"")
}

#[derive(Deserialize)]
pub(super) struct GroqIn {
    #[serde(default)]
    pub(super) usage: Option<UsageIn>,
}

#[derive(Deserialize, Clone)]
pub(super) struct ChoiceIn<'a> {
    #[serde(default)]
    pub(super) index: Option<u64>,
    #[serde(borrow, default)]
    pub(super) delta: Option<DeltaIn<'a>>,
    /// In a whole reply. Some providers send it beside the delta, or repeat all in it at the stream's end.
    #[serde(borrow, default)]
    pub(super) message: Option<DeltaIn<'a>>,
    #[serde(borrow, default)]
    pub(super) finish_reason: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize, Default, Clone)]
pub(super) struct DeltaIn<'a> {
    #[serde(borrow, default)]
    pub(super) content: Option<TextOr<'a, PartIn<'a>>>,
    #[serde(borrow, default)]
    pub(super) refusal: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) reasoning_content: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) reasoning: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) reasoning_details: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    pub(super) tool_calls: Option<List<CallIn<'a>>>,
    #[serde(borrow, default)]
    pub(super) function_call: Option<FunctionIn<'a>>,
    #[serde(borrow, default)]
    pub(super) annotations: Option<Vec<AnnotationIn<'a>>>,
    #[serde(borrow, default)]
    pub(super) audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) images: Option<&'a RawValue>,
    /// Groq: the tools that it ran.
    #[serde(borrow, default)]
    executed_tools: Option<&'a RawValue>,
    /// Google: a signature of the text.
    #[serde(borrow, default)]
    extra_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thought_signature: Option<&'a RawValue>,
}

wire_struct! { AudioIn { "data" => data: Str<'a>, "transcript" => transcript: Str<'a>, "id" => id: Str<'a> } }
wire_struct! { PartIn { "type" => kind: Str<'a>, "text" => text: Str<'a>, "thinking" => thinking: Vec<PartIn<'a>> } }
wire_struct! {
    DetailIn {
        "type" => kind: Str<'a>, "text" => text: Str<'a>, "signature" => signature: Str<'a>, "data" => data: Str<'a>,
    }
}

#[derive(Deserialize, Clone)]
pub(super) struct CallIn<'a> {
    #[serde(default)]
    pub(super) index: Option<u64>,
    #[serde(borrow, default)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) function: Option<FunctionIn<'a>>,
    #[serde(borrow, default)]
    pub(super) custom: Option<FunctionIn<'a>>,
    /// Google's endpoint: what it wants back with the call.
    #[serde(borrow, default)]
    pub(super) extra_content: Option<&'a RawValue>,
}

#[derive(Deserialize, Clone)]
pub(super) struct FunctionIn<'a> {
    #[serde(borrow, default)]
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) input: Option<&'a RawValue>,
}

impl DeltaIn<'_> {
    /// What no other format has a place for, by name.
    pub(super) fn unsaid(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("audio", self.audio.filter(|audio| !says_nothing(audio))),
            ("images", self.images),
            ("executed_tools", self.executed_tools),
            ("extra_content", self.extra_content),
            ("thought_signature", self.thought_signature),
        ];
        all.into_iter().filter(|(_, value)| value.is_some_and(is_said)).map(|(name, _)| name)
    }

    /// Whether it brings reasoning and no text.
    pub(super) fn is_thought(&self) -> bool {
        let thought = self.reasoning_content.as_ref().or(self.reasoning.as_ref());
        thought.is_some_and(|text| !text.is_empty()) && self.content.is_none()
    }
}

/// Whether an audio object has neither data nor words.
fn says_nothing(audio: &RawValue) -> bool {
    let audio: AudioIn<'_> = serde_json::from_str(audio.get()).unwrap_or_default();
    let is_empty = |text: &Option<Str<'_>>| text.as_deref().is_none_or(str::is_empty);
    is_empty(&audio.data) && is_empty(&audio.transcript) && is_empty(&audio.id)
}

impl FunctionIn<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.name.as_deref().is_none_or(str::is_empty) && self.arguments.is_none_or(|a| a.get() == "\"\"")
    }
}

#[derive(Deserialize, Clone)]
pub(super) struct AnnotationIn<'a> {
    #[serde(borrow, default)]
    pub(super) url_citation: Option<UrlIn<'a>>,
}

#[derive(Deserialize, Clone)]
pub(super) struct UrlIn<'a> {
    #[serde(borrow, default)]
    pub(super) url: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) title: Option<Str<'a>>,
    #[serde(default)]
    pub(super) start_index: Option<u64>,
    #[serde(default)]
    pub(super) end_index: Option<u64>,
}

#[derive(Deserialize, Default)]
pub(super) struct UsageIn {
    #[serde(default)]
    pub(super) prompt_tokens: Option<u64>,
    #[serde(default)]
    pub(super) completion_tokens: Option<u64>,
    #[serde(default)]
    pub(super) total_tokens: Option<u64>,
    #[serde(default)]
    pub(super) prompt_tokens_details: Option<PromptDetailsIn>,
    #[serde(default)]
    pub(super) completion_tokens_details: Option<OutputDetailsIn>,
    #[serde(default)]
    pub(super) prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
pub(super) struct PromptDetailsIn {
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
        let prompt = self.prompt_tokens_details.as_ref();
        let cached = prompt.and_then(|p| p.cached_tokens).or(self.prompt_cache_hit_tokens);
        let written = prompt.and_then(|p| p.cache_write_tokens);
        let cached_total = cached.unwrap_or(0).saturating_add(written.unwrap_or(0));
        let reasoning = self.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens);
        let (prompt, completion) = (self.prompt_tokens.unwrap_or(0), self.completion_tokens.unwrap_or(0));
        // xAI counts reasoning beside the completion instead of inside it; its total shows that.
        let all = |reasoning: u64| prompt.saturating_add(completion).saturating_add(reasoning);
        let beside = reasoning.filter(|r| *r > 0 && self.total_tokens == Some(all(*r))).unwrap_or(0);
        Usage {
            input: self.prompt_tokens.map(|all| all.saturating_sub(cached_total)),
            cache_read: cached,
            cache_write: written,
            output: self.completion_tokens.map(|n| n.saturating_add(beside)),
            reasoning,
            ..Usage::default()
        }
    }
}
