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
        "choices" => met.once(0).and_then(|()| chunk.only(|choice| read_choice(choice, &mut found))),
        "id" => met.once(1).and_then(|()| chunk.string_or_null()).map(drop),
        "model" => met.once(2).and_then(|()| chunk.string_or_null()).map(drop),
        "created" => met.once(3).and_then(|()| if chunk.is_null() { Some(()) } else { chunk.number() }),
        "usage" => met.once(4).and_then(|()| chunk.null()),
        "x_groq" => met.once(5).and_then(|()| chunk.null()),
        "error" => met.once(6).and_then(|()| chunk.null()),
        "citations" | "search_results" => None,
        _ => chunk.skip(),
    })?;
    chunk.end()?;
    Some(found)
}

fn read_choice<'a>(choice: &mut Skim<'a>, found: &mut Fragment<'a>) -> Option<()> {
    let mut met = Met::default();
    choice.object(|choice, key| match key {
        "delta" => met.once(0).and_then(|()| read_delta(choice, found)),
        "index" => met.once(1).and_then(|()| choice.count()).filter(|index| *index == 0).map(drop),
        "finish_reason" => met.once(2).and_then(|()| choice.null()),
        "logprobs" => met.once(3).and_then(|()| choice.null()),
        "message" => None,
        _ => choice.skip(),
    })
}

fn read_delta<'a>(delta: &mut Skim<'a>, found: &mut Fragment<'a>) -> Option<()> {
    let mut met = Met::default();
    delta.object(|delta, key| match key {
        "content" => met.once(0).and_then(|()| delta.string_or_null()).map(|text| found.text = text),
        "reasoning_content" => met.once(1).and_then(|()| delta.string_or_null()).map(|text| found.thought = text),
        "refusal" => met.once(2).and_then(|()| delta.null()),
        "tool_calls" => met.once(3).and_then(|()| if delta.is_null() { Some(()) } else { delta.empty_list() }),
        "function_call" => met.once(4).and_then(|()| delta.null()),
        "audio" => met.once(5).and_then(|()| delta.null()),
        "reasoning" | "reasoning_details" | "annotations" | "images" | "executed_tools" | "extra_content"
        | "thought_signature" => None,
        _ => delta.skip(),
    })
}
