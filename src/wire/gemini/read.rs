//! What a generateContent reply says, and the replies of Google's smaller calls: embeddings, token counts.

use super::usage::UsageMetadata;
use crate::wire::{
    elements::{self, Elements},
    lenient::{Count, Filled, Many, Maybe, Word},
    tap::Seen,
    telltale::{Key, key},
    upstream_error,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::fmt;

static USAGE: Key = key!("usageMetadata");
static FINISH: Key = key!("finishReason");
static BLOCK: Key = key!("blockReason");
static ERROR: Key = key!("error");
static MODEL: Key = key!("modelVersion");

/// One chunk of a stream, or a whole reply.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    response_id: Word<'a>,
    #[serde(borrow)]
    model_version: Word<'a>,
    #[serde(borrow)]
    candidates: Many<Candidate<'a>>,
    #[serde(borrow)]
    prompt_feedback: Maybe<Feedback<'a>>,
    usage_metadata: Maybe<UsageMetadata>,
    error: Filled,
    detail: Filled,
    message: Filled,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate<'a> {
    index: Count,
    #[serde(borrow)]
    finish_reason: Word<'a>,
    content: Maybe<Content>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    parts: Many<Part>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Word<'a>,
}

/// Whether a part holds anything. Its kinds keep growing, so every field counts but the mark of a thought.
#[derive(Default)]
struct Part(bool);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Part;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Part, A::Error> {
                let mut filled = false;
                while let Some((name, value)) = object.next_entry::<Word<'de>, Filled>()? {
                    filled |= value.0 && name.as_str() != Some("thought");
                }
                Ok(Part(filled))
            }
        }
        input.deserialize_map(Reader)
    }
}

impl Candidate<'_> {
    fn has_content(&self) -> bool {
        self.content.0.as_ref().is_some_and(|content| content.parts.0.iter().any(|part| part.0))
    }
}

impl Chunk<'_> {
    fn identify(&self, seen: &mut Seen) {
        seen.id = seen.id.take().or_else(|| self.response_id.owned());
        seen.model = seen.model.take().or_else(|| self.model_version.owned());
        if let Some(usage) = &self.usage_metadata.0 {
            seen.usage.update(&usage.counts());
        }
    }

    fn read_candidates(&self, seen: &mut Seen) {
        for candidate in &self.candidates.0 {
            let index = candidate.index.0.unwrap_or(0);
            seen.content |= candidate.has_content();
            match candidate.finish_reason.as_str().filter(|reason| *reason != "FINISH_REASON_UNSPECIFIED") {
                Some(reason) => {
                    seen.alternatives.finish(index);
                    seen.finish_with(reason);
                }
                None => seen.alternatives.begin(index),
            }
        }
        if !self.candidates.0.is_empty() {
            seen.terminal = seen.alternatives.are_finished();
        }
        let block = self.prompt_feedback.0.as_ref().and_then(|feedback| feedback.block_reason.as_str());
        if let Some(reason) = block.filter(|_| self.candidates.0.is_empty()) {
            seen.finish_with(reason);
            seen.end();
        }
    }
}

/// Reads one stream event: the data of a server-sent one, or an element of the array.
pub(super) fn event(data: &[u8], seen: &mut Seen) {
    if seen.content && !seen.terminal && !tells_anything(data) {
        return;
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
        // A failed stream can end in the array form of an error, whatever form was asked for.
        if matches!(data.first(), Some(b'[')) {
            each_element(data, seen);
        }
        return;
    };
    chunk.identify(seen);
    if chunk.error.0 {
        return seen.fail(|| upstream_error::read(data));
    }
    chunk.read_candidates(seen);
}

fn tells_anything(data: &[u8]) -> bool {
    USAGE.is_said(data) || FINISH.is_said(data) || ERROR.is_said(data) || BLOCK.is_said(data)
}

fn each_element(array: &[u8], seen: &mut Seen) {
    let (mut elements, mut rest) = (Elements::default(), array);
    while let Some(end) = elements.next(rest) {
        if let Some(data) = rest.get(..end).and_then(elements::read) {
            event(data, seen);
        }
        rest = rest.get(end..).unwrap_or_default();
    }
}

/// Reads a whole reply.
pub(super) fn reply(body: &[u8], seen: &mut Seen) {
    if body.trim_ascii_start().first() == Some(&b'[') {
        return array(body, seen);
    }
    let chunk = match serde_json::from_slice::<Chunk<'_>>(body) {
        Ok(chunk) => chunk,
        Err(fault) => {
            seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
            return;
        }
    };
    chunk.identify(seen);
    chunk.read_candidates(seen);
    if !seen.content && (chunk.error.0 || chunk.detail.0 || chunk.message.0) {
        return seen.fail(|| upstream_error::read(body));
    }
    seen.end();
}

/// Reads the array form as one document: an error reply of the streaming call, or a stream that came whole.
fn array(body: &[u8], seen: &mut Seen) {
    if let Err(fault) = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(body) {
        seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
        return;
    }
    each_element(body, seen);
    seen.end();
}

/// Reads a chunk or reply of which only the ends were kept: an image, mostly.
pub(super) fn clipped(tail: &[u8], seen: &mut Seen) {
    seen.content = true;
    seen.model = seen.model.take().or_else(|| MODEL.last_text(tail).map(str::to_owned));
    if let Some(usage) = USAGE.last_object(tail).and_then(|json| serde_json::from_slice::<UsageMetadata>(json).ok()) {
        seen.usage.update(&usage.counts());
    }
    if let Some(reason) = FINISH.last_text(tail) {
        seen.alternatives.finish(0);
        seen.finish_with(reason);
        seen.terminal = seen.alternatives.are_finished();
    }
}
