//! Reads an event that brings a fragment of a block and nothing else, as nearly all events of a stream do.
//!
//! Any other event is left to the full reader. Invariant: what is read here is what the full reader would make of it.

use crate::wire::skim::{Met, Skim};

/// What an event brings: which kind of delta it is, and the inside of its JSON string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) kind: &'static str,
    pub(super) text: &'a str,
}

/// Reads a `content_block_delta`.
pub(super) fn read(data: &[u8]) -> Option<Fragment<'_>> {
    let (mut kind, mut found, mut met) = ("", None, Met::default());
    let mut event = Skim::new(data)?;
    event.object(|event, key| match key {
        b"type" => met.once(0).and_then(|()| event.string()).map(|word| kind = word),
        b"delta" => met.once(1).and_then(|()| read_delta(event)).map(|delta| found = Some(delta)),
        b"message" | b"content_block" | b"usage" | b"error" => None,
        _ => event.skip(),
    })?;
    event.end()?;
    found.filter(|_| kind == "content_block_delta")
}

fn read_delta<'a>(delta: &mut Skim<'a>) -> Option<Fragment<'a>> {
    let (mut kind, mut said, mut met) = ("", None, Met::default());
    delta.object(|delta, key| match key {
        b"type" => met.once(0).and_then(|()| delta.string()).map(|word| kind = word),
        // One of them alone, whichever it is.
        b"text" | b"thinking" | b"partial_json" => {
            met.once(1).and_then(|()| delta.string()).map(|text| said = Some((key, text)))
        }
        b"signature" | b"citation" | b"stop_reason" | b"stop_sequence" | b"stop_details" => None,
        _ => delta.skip(),
    })?;
    let (key, text) = said?;
    let kind = match (kind, key) {
        ("text_delta", b"text") => "text_delta",
        ("thinking_delta", b"thinking") => "thinking_delta",
        ("input_json_delta", b"partial_json") => "input_json_delta",
        _ => return None,
    };
    Some(Fragment { kind, text })
}
