//! Reads an event that brings a fragment of an item and nothing else, as nearly all events of a stream do.
//!
//! Any other event is left to the full reader. Invariant: what is read here is what the full reader would make of it.

use crate::wire::skim::{Met, Skim};

/// What an event brings: its type, the item that it belongs to, and the inside of its JSON string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) kind: &'a str,
    pub(super) index: u64,
    pub(super) text: &'a str,
}

/// Reads an event whose type ends with `.delta`.
pub(super) fn read(data: &[u8]) -> Option<Fragment<'_>> {
    let (mut found, mut met) = (Fragment::default(), Met::default());
    let mut event = Skim::new(data)?;
    event.object(|event, key| match key {
        b"type" => met.once(0).and_then(|()| event.string()).map(|kind| found.kind = kind),
        b"delta" => met.once(1).and_then(|()| event.string()).map(|text| found.text = text),
        b"output_index" => met.once(2).and_then(|()| event.count()).map(|index| found.index = index),
        b"summary_index" => met.once(3).and_then(|()| event.count()).map(drop),
        b"logprobs" => met.once(4).and_then(|()| if event.is_null() { Some(()) } else { event.empty_list() }),
        b"item" | b"annotation" | b"response" => None,
        _ => event.skip(),
    })?;
    event.end()?;
    (found.kind.ends_with(".delta") && !found.kind.contains('\\')).then_some(found)
}
