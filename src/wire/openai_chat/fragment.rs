//! Reads a chunk that brings a fragment of text or of reasoning and nothing else, as nearly all chunks of a stream do.
//!
//! Any other chunk is left to the full reader. Invariant: what is read here is what the full reader would make of it.

use crate::wire::skim::{Met, Skim};

/// What a chunk brings; the insides of JSON strings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) text: Option<&'a str>,
    pub(super) thought: Option<&'a str>,
}

/// Reads a chunk of a reply that has begun.
pub(super) fn read(data: &[u8]) -> Option<Fragment<'_>> {
    let (mut found, mut met) = (Fragment::default(), Met::default());
    let mut chunk = Skim::new(data)?;
    chunk.object(|chunk, key| match key {
        b"choices" => met.once(0).and_then(|()| chunk.only(|choice| read_choice(choice, &mut found))),
        b"id" => met.once(1).and_then(|()| chunk.string_or_null()).map(drop),
        b"model" => met.once(2).and_then(|()| chunk.string_or_null()).map(drop),
        b"created" => met.once(3).and_then(|()| if chunk.is_null() { Some(()) } else { chunk.number() }),
        b"usage" => met.once(4).and_then(|()| chunk.null()),
        b"x_groq" => met.once(5).and_then(|()| chunk.null()),
        b"error" => met.once(6).and_then(|()| chunk.null()),
        b"citations" | b"search_results" => None,
        _ => chunk.skip(),
    })?;
    chunk.end()?;
    Some(found)
}

fn read_choice<'a>(choice: &mut Skim<'a>, found: &mut Fragment<'a>) -> Option<()> {
    let mut met = Met::default();
    choice.object(|choice, key| match key {
        b"delta" => met.once(0).and_then(|()| read_delta(choice, found)),
        b"index" => met.once(1).and_then(|()| choice.count()).filter(|index| *index == 0).map(drop),
        b"finish_reason" => met.once(2).and_then(|()| choice.null()),
        b"logprobs" => met.once(3).and_then(|()| choice.null()),
        b"message" => None,
        _ => choice.skip(),
    })
}

fn read_delta<'a>(delta: &mut Skim<'a>, found: &mut Fragment<'a>) -> Option<()> {
    let mut met = Met::default();
    delta.object(|delta, key| match key {
        b"content" => met.once(0).and_then(|()| delta.string_or_null()).map(|text| found.text = text),
        b"reasoning_content" => met.once(1).and_then(|()| delta.string_or_null()).map(|text| found.thought = text),
        b"refusal" => met.once(2).and_then(|()| delta.null()),
        b"tool_calls" => met.once(3).and_then(|()| if delta.is_null() { Some(()) } else { delta.empty_list() }),
        b"function_call" => met.once(4).and_then(|()| delta.null()),
        b"audio" => met.once(5).and_then(|()| delta.null()),
        b"reasoning" | b"reasoning_details" | b"annotations" | b"images" | b"executed_tools" | b"extra_content"
        | b"thought_signature" => None,
        _ => delta.skip(),
    })
}
