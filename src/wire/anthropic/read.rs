//! What a Messages reply says.

use super::usage::UsageObject;
use crate::wire::{
    lenient::{Filled, Maybe, Word},
    tap::Seen,
    telltale::{Key, key},
    upstream_error,
};
use serde::Deserialize;

static ERROR: Key = key!("error");
static USAGE: Key = key!("usage");
static MODEL: Key = key!("model");
static TYPE: Key = key!("type");
static STOP: Key = key!("stop_reason");

/// One stream event.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow)]
    message: Maybe<Message<'a>>,
    #[serde(borrow)]
    content_block: Maybe<Block<'a>>,
    #[serde(borrow)]
    delta: Maybe<Delta<'a>>,
    usage: Maybe<UsageObject>,
    error: Filled,
}

/// The message: a whole reply, or the start of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    id: Word<'a>,
    #[serde(borrow)]
    model: Word<'a>,
    #[serde(borrow, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow)]
    stop_reason: Word<'a>,
    content: Filled,
    usage: Maybe<UsageObject>,
    error: Filled,
    detail: Filled,
    message: Filled,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Word<'a>,
    text: Filled,
    thinking: Filled,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    text: Filled,
    partial_json: Filled,
    thinking: Filled,
    signature: Filled,
    citation: Filled,
    content: Filled,
    #[serde(borrow)]
    stop_reason: Word<'a>,
}

impl Message<'_> {
    fn identify(&self, seen: &mut Seen) {
        seen.id = seen.id.take().or_else(|| self.id.owned());
        seen.model = seen.model.take().or_else(|| self.model.owned());
        if let Some(usage) = &self.usage.0 {
            usage.apply(&mut seen.usage);
        }
        seen.content |= self.content.0;
        if let Some(reason) = self.stop_reason.as_str() {
            seen.finish_with(reason);
        }
    }

    fn is_error(&self) -> bool {
        let complains = self.error.0 || self.detail.0 || self.message.0;
        self.kind.as_str() == Some("error") || (complains && !self.content.0)
    }
}

impl Block<'_> {
    /// Text and thinking begin empty and fill later; any other block is content by itself.
    fn has_content(&self) -> bool {
        match self.kind.as_str() {
            Some("text" | "thinking") => self.text.0 || self.thinking.0,
            Some(_) => true,
            None => false,
        }
    }
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        [self.text, self.partial_json, self.thinking, self.signature, self.citation, self.content].iter().any(|p| p.0)
    }
}

/// Reads one stream event.
pub(super) fn event(name: &[u8], data: &[u8], seen: &mut Seen) {
    if seen.content && is_delta(name, data) && !ERROR.is_said(data) {
        return;
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return };
    let kind = event.kind.as_str().or_else(|| std::str::from_utf8(name).ok()).unwrap_or_default();
    match kind {
        "message_start" => {
            if let Some(message) = &event.message.0 {
                message.identify(seen);
            }
        }
        "content_block_start" => seen.content |= event.content_block.0.is_some_and(|block| block.has_content()),
        "content_block_delta" => seen.content |= event.delta.0.is_some_and(|delta| delta.has_content()),
        "message_delta" => {
            if let Some(usage) = &event.usage.0 {
                usage.apply(&mut seen.usage);
            }
            if let Some(reason) = event.delta.0.as_ref().and_then(|delta| delta.stop_reason.as_str()) {
                seen.finish_with(reason);
            }
        }
        "message_stop" => seen.end(),
        "error" => seen.fail(|| upstream_error::read(data)),
        "message" | "" => whole(data, seen),
        _ => {}
    }
}

/// Reads what came as one event although it is a whole reply (or an error without a type).
fn whole(data: &[u8], seen: &mut Seen) {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(data) else { return };
    if message.is_error() {
        return seen.fail(|| upstream_error::read(data));
    }
    if message.kind.as_str() == Some("message") {
        message.identify(seen);
        seen.end();
    }
}

/// Whether an event only adds to an answer that has begun. Told by its name, or by the first type in its data.
fn is_delta(name: &[u8], data: &[u8]) -> bool {
    if name.is_empty() { TYPE.first_text(data) == Some("content_block_delta") } else { name == b"content_block_delta" }
}

/// Reads a whole reply.
pub(super) fn reply(body: &[u8], seen: &mut Seen) {
    let message = match serde_json::from_slice::<Message<'_>>(body) {
        Ok(message) => message,
        Err(fault) => {
            seen.error.get_or_insert_with(|| upstream_error::unreadable(body, &fault));
            return;
        }
    };
    if message.is_error() {
        return seen.fail(|| upstream_error::read(body));
    }
    message.identify(seen);
    seen.end();
}

/// Reads an event or reply of which only the ends were kept. Only content is ever that long.
pub(super) fn clipped(head: &[u8], tail: &[u8], seen: &mut Seen) {
    seen.content = true;
    seen.model = seen.model.take().or_else(|| MODEL.first_text(head).map(str::to_owned));
    if let Some(usage) = USAGE.last_object(tail).and_then(|json| serde_json::from_slice::<UsageObject>(json).ok()) {
        usage.apply(&mut seen.usage);
    }
    if let Some(reason) = STOP.last_text(head).or_else(|| STOP.last_text(tail)) {
        seen.finish_with(reason);
    }
}
