//! What a Chat Completions reply says, and the replies of OpenAI's smaller calls: completions, embeddings, images,
//! audio, moderations, rerank.

use super::usage::UsageObject;
use crate::wire::{
    Usage,
    lenient::{Count, Filled, Many, Maybe, Word},
    tap::Seen,
    telltale::{Key, key},
    upstream_error,
};
use serde::Deserialize;

static USAGE: Key = key!("usage");
static FINISH: Key = key!("finish_reason");
static ERROR: Key = key!("error");
static MODEL: Key = key!("model");
static TYPE: Key = key!("type");

/// One chunk of a stream, or a whole reply: the facts in both stand at the same places.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Word<'a>,
    #[serde(borrow)]
    model: Word<'a>,
    created: Count,
    #[serde(borrow, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow)]
    object: Word<'a>,
    #[serde(borrow)]
    choices: Many<Choice<'a>>,
    usage: Maybe<UsageObject>,
    x_groq: Maybe<Groq>,
    meta: Maybe<Meta>,
    error: Filled,
    detail: Filled,
    errors: Filled,
    message: Filled,
    delta: Filled,
    data: Filled,
    results: Filled,
    text: Filled,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
    index: Count,
    #[serde(borrow)]
    finish_reason: Word<'a>,
    delta: Maybe<Delta>,
    message: Maybe<Delta>,
    text: Filled,
}

/// The parts of a delta (or message) that an answer can consist of. Fields beside them (`role`, `channel`, `token_id`,
/// content filter results) say something about the answer, but are not part of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Filled,
    refusal: Filled,
    tool_calls: Filled,
    function_call: Filled,
    audio: Filled,
    annotations: Filled,
    images: Filled,
    reasoning: Filled,
    reasoning_content: Filled,
    reasoning_text: Filled,
    reasoning_details: Filled,
    thinking: Filled,
    thinking_blocks: Filled,
    executed_tools: Filled,
}

/// Groq's own corner.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Groq {
    usage: Maybe<UsageObject>,
}

/// Cohere's own corner, in rerank replies.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    tokens: Maybe<UsageObject>,
    billed_units: Maybe<UsageObject>,
}

impl Delta {
    fn has_content(&self) -> bool {
        [
            self.content,
            self.refusal,
            self.tool_calls,
            self.function_call,
            self.audio,
            self.annotations,
            self.images,
            self.reasoning,
            self.reasoning_content,
            self.reasoning_text,
            self.reasoning_details,
            self.thinking,
            self.thinking_blocks,
            self.executed_tools,
        ]
        .iter()
        .any(|part| part.0)
    }
}

impl Choice<'_> {
    fn has_content(&self) -> bool {
        let part = |part: &Maybe<Delta>| part.0.as_ref().is_some_and(Delta::has_content);
        self.text.0 || part(&self.delta) || part(&self.message)
    }
}

impl Chunk<'_> {
    fn identify(&self, seen: &mut Seen) {
        // Azure's first chunk has all of these empty.
        seen.id = seen.id.take().or_else(|| self.id.owned());
        seen.model = seen.model.take().or_else(|| self.model.owned());
        seen.created = seen.created.or(self.created.0.filter(|created| *created != 0));
    }

    fn count(&self, seen: &mut Seen) {
        let groq = self.x_groq.0.as_ref().and_then(|groq| groq.usage.0.as_ref());
        let meta = self.meta.0.as_ref().and_then(|meta| meta.tokens.0.as_ref().or(meta.billed_units.0.as_ref()));
        for usage in [meta, groq, self.usage.0.as_ref()].into_iter().flatten() {
            seen.usage.update(&usage.counts());
        }
    }

    fn read_choices(&self, seen: &mut Seen) {
        for choice in &self.choices.0 {
            let index = choice.index.0.unwrap_or(0);
            seen.content |= choice.has_content();
            // A vendor that sends "" on every chunk has not finished.
            match choice.finish_reason.as_str() {
                Some(reason) => {
                    seen.alternatives.finish(index);
                    seen.finish_with(reason);
                }
                None => seen.alternatives.begin(index),
            }
        }
    }

    fn is_error(&self) -> bool {
        let marked = self.kind.as_str() == Some("error") || self.object.as_str() == Some("error");
        let answers = self.choices.0.iter().any(Choice::has_content) || self.data.0 || self.results.0 || self.text.0;
        let complains = self.detail.0 || self.errors.0 || self.message.0;
        marked || (!answers && (self.error.0 || (complains && self.choices.0.is_empty())))
    }
}

/// Reads one stream event.
pub(super) fn event(name: &[u8], data: &[u8], seen: &mut Seen) {
    if data.trim_ascii() == b"[DONE]" {
        return seen.end();
    }
    if seen.content && !seen.terminal && name.is_empty() && !tells_anything(data) {
        return;
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
    chunk.identify(seen);
    chunk.count(seen);
    if chunk.error.0 || chunk.kind.as_str() == Some("error") {
        return seen.fail(|| upstream_error::read(data));
    }
    chunk.read_choices(seen);
    if !chunk.choices.0.is_empty() {
        // Many servers leave out `[DONE]`. A choice that begins only now takes the end back.
        seen.terminal = seen.alternatives.are_finished();
    }
    if let Some(kind) = chunk.kind.as_str() {
        typed_event(kind, &chunk, seen);
    }
}

/// Reads an event of the calls that name theirs: streamed images, speech and transcriptions.
fn typed_event(kind: &str, chunk: &Chunk<'_>, seen: &mut Seen) {
    if kind.ends_with(".delta") {
        seen.content |= chunk.delta.0 || kind.starts_with("speech.");
    } else if kind.ends_with(".partial_image") || kind.ends_with(".segment") {
        seen.content = true;
    } else if kind.ends_with(".done") || kind.ends_with(".completed") {
        seen.end();
    }
}

/// Whether a chunk that comes after the first content can have more to say than further content.
fn tells_anything(data: &[u8]) -> bool {
    // Only the named events begin with their type.
    data.starts_with(b"{\"type\"") || FINISH.is_said(data) || USAGE.is_said(data) || ERROR.is_said(data)
}

/// Reads a whole reply.
pub(super) fn reply(body: &[u8], seen: &mut Seen) {
    let chunk = match serde_json::from_slice::<Chunk<'_>>(body) {
        Ok(chunk) => chunk,
        // Some calls answer with a list (Hugging Face's embeddings and rerank).
        Err(_) if is_list(body) => Chunk::default(),
        Err(fault) => {
            seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
            return;
        }
    };
    chunk.identify(seen);
    chunk.count(seen);
    chunk.read_choices(seen);
    if chunk.is_error() {
        seen.content = false;
        return seen.fail(|| upstream_error::read(body));
    }
    seen.end();
}

fn is_list(body: &[u8]) -> bool {
    serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(body).is_ok()
}

/// Reads a chunk or reply of which only the ends were kept.
pub(super) fn clipped(head: &[u8], tail: &[u8], seen: &mut Seen) {
    seen.content = true;
    seen.model = seen.model.take().or_else(|| MODEL.first_text(head).map(str::to_owned));
    if let Some(usage) = last_usage(tail) {
        seen.usage.update(&usage);
    }
    if let Some(reason) = FINISH.last_text(tail).filter(|reason| !reason.is_empty()) {
        seen.alternatives.finish(0);
        seen.finish_with(reason);
        seen.terminal = seen.alternatives.are_finished();
    }
    let kind = if head.starts_with(b"{\"type\"") { TYPE.first_text(head) } else { None };
    if kind.is_some_and(|kind| kind.ends_with(".done") || kind.ends_with(".completed")) {
        seen.end();
    }
}

/// The last usage object in the end of a text.
pub(crate) fn last_usage(tail: &[u8]) -> Option<Usage> {
    serde_json::from_slice::<UsageObject>(USAGE.last_object(tail)?).ok().map(|usage| usage.counts())
}
