//! Reads a chunk that brings one part of text and the counts so far and nothing else, as nearly all chunks of a stream do.
//!
//! Any other chunk is left to the full reader. Invariant: what is read here is what the full reader would make of it.

use super::usage::UsageMetadata;
use crate::wire::{
    lenient::Count,
    skim::{Met, Skim},
};

/// What a chunk brings; the text as the inside of a JSON string.
#[derive(Default)]
pub(super) struct Fragment<'a> {
    pub(super) text: &'a str,
    pub(super) is_thought: bool,
    pub(super) usage: Option<UsageMetadata>,
}

/// Reads a chunk of a reply that has begun.
pub(super) fn read(data: &[u8]) -> Option<Fragment<'_>> {
    let (mut found, mut met, mut text) = (Fragment::default(), Met::default(), None);
    let mut chunk = Skim::new(data)?;
    chunk.object(|chunk, key| match key {
        b"candidates" => met.once(0).and_then(|()| chunk.only(|candidate| read_candidate(candidate, &mut text))),
        b"usageMetadata" => met.once(1).and_then(|()| read_usage(chunk)).map(|usage| found.usage = Some(usage)),
        b"modelVersion" => met.once(2).and_then(|()| chunk.string_or_null()).map(drop),
        b"responseId" => met.once(3).and_then(|()| chunk.string_or_null()).map(drop),
        b"promptFeedback" | b"error" => None,
        _ => chunk.skip(),
    })?;
    chunk.end()?;
    (found.text, found.is_thought) = text?;
    Some(found)
}

/// The text of a part, and whether it is a thought.
type Part<'a> = Option<(&'a str, bool)>;

fn read_candidate<'a>(candidate: &mut Skim<'a>, found: &mut Part<'a>) -> Option<()> {
    let mut met = Met::default();
    candidate.object(|candidate, key| match key {
        b"content" => met.once(0).and_then(|()| read_content(candidate, found)),
        b"index" => met.once(1).and_then(|()| candidate.count()).filter(|index| *index == 0).map(drop),
        b"finishReason"
        | b"finishMessage"
        | b"groundingMetadata"
        | b"citationMetadata"
        | b"urlContextMetadata"
        | b"logprobsResult" => None,
        _ => candidate.skip(),
    })
}

fn read_content<'a>(content: &mut Skim<'a>, found: &mut Part<'a>) -> Option<()> {
    let mut met = Met::default();
    content.object(|content, key| match key {
        b"parts" => met.once(0).and_then(|()| content.only(|part| read_part(part, found))),
        _ => content.skip(),
    })
}

fn read_part<'a>(part: &mut Skim<'a>, found: &mut Part<'a>) -> Option<()> {
    let (mut text, mut is_thought, mut met) = (None, false, Met::default());
    part.object(|part, key| match key {
        b"text" => met.once(0).and_then(|()| part.string()).map(|inside| text = Some(inside)),
        b"thought" => met.once(1).and_then(|()| part.flag()).map(|is| is_thought = is),
        _ => None,
    })?;
    *found = text.map(|text| (text, is_thought));
    Some(())
}

fn read_usage(usage: &mut Skim<'_>) -> Option<UsageMetadata> {
    let (mut found, mut met) = (UsageMetadata::default(), Met::default());
    usage.object(|usage, key| {
        let (number, count) = match key {
            b"promptTokenCount" => (0, &mut found.prompt_token_count),
            b"cachedContentTokenCount" => (1, &mut found.cached_content_token_count),
            b"toolUsePromptTokenCount" => (2, &mut found.tool_use_prompt_token_count),
            b"candidatesTokenCount" => (3, &mut found.candidates_token_count),
            b"thoughtsTokenCount" => (4, &mut found.thoughts_token_count),
            _ => return usage.skip(),
        };
        met.once(number)?;
        *count = Count(Some(usage.count()?));
        Some(())
    })?;
    Some(found)
}
