//! The members of Chat Completions replies that are read, of OpenAI's and of those that imitate it.
//!
//! Borrows from the reply; a chunk with one choice costs no allocation.

use super::usage::UsageObject;
use crate::wire::{
    fields::{Json, List, Str, TextOr, wire_struct},
    lenient::{Count, Many, Maybe, Word, facts},
};
use std::borrow::Cow;

facts! {
    pub(super) struct ChunkIn<'a> {
        b"id" => pub(super) id: Word<'a>,
        b"model" => pub(super) model: Word<'a>,
        b"created" => pub(super) created: Count,
        b"choices" => pub(super) choices: Option<List<ChoiceIn<'a>>>,
        b"usage" => pub(super) usage: Maybe<UsageObject>,
        b"x_groq" => pub(super) x_groq: Maybe<Box<GroqIn>>,
        b"error" => pub(super) error: Option<Json<'a>>,
        /// Perplexity: the sources of the answer.
        b"citations" => pub(super) citations: Option<Json<'a>>,
        b"search_results" => pub(super) search_results: Option<Json<'a>>,
    }
}

impl ChunkIn<'_> {
    /// What it says was used, wherever it says so.
    pub(super) fn usage(&self) -> Option<&UsageObject> {
        let groq = || self.x_groq.0.as_ref().and_then(|groq| groq.usage.0.as_ref());
        let chosen = || self.choices.iter().flat_map(List::iter).find_map(|choice| choice.usage.0.as_deref());
        self.usage.0.as_ref().or_else(groq).or_else(chosen)
    }

    /// What no other format has a place for, by name.
    pub(super) fn unsaid(&self) -> impl Iterator<Item = &'static str> {
        let all = [("citations", self.citations), ("search_results", self.search_results)];
        all.into_iter().filter(|(_, value)| value.is_some_and(is_said)).map(|(name, _)| name)
    }
}

impl<'a> ChunkIn<'a> {
    /// The text that it brings, and whether that is of reasoning, where it brings nothing else.
    pub(super) fn only_text(&self) -> Option<(&'a str, bool)> {
        let mut choices = self.choices.as_ref()?.iter();
        let (choice, None) = (choices.next()?, choices.next()) else { return None };
        let is_plain = self.usage.0.is_none() && self.x_groq.0.is_none() && self.error.is_none();
        let is_unsourced = self.citations.is_none() && self.search_results.is_none();
        let ChoiceIn {
            index: Count(None | Some(0)),
            delta: Some(delta),
            message: None,
            finish_reason: Word(None),
            logprobs: None,
            usage: Maybe(None),
        } = choice
        else {
            return None;
        };
        delta.only_text().filter(|_| is_plain && is_unsourced)
    }
}

/// Whether a member holds anything.
fn is_said(value: Json<'_>) -> bool {
    !matches!(value.get(), "null" | "[]" | "{}" | "\"\"")
}

facts! {
    pub(super) struct GroqIn {
        b"usage" => pub(super) usage: Maybe<UsageObject>,
    }
}

facts! {
    #[derive(Clone)]
    pub(super) struct ChoiceIn<'a> {
        b"index" => pub(super) index: Count,
        b"delta" => pub(super) delta: Option<DeltaIn<'a>>,
        /// In a whole reply. Some providers send it beside the delta, or repeat all in it at the stream's end.
        b"message" => pub(super) message: Option<Box<DeltaIn<'a>>>,
        b"finish_reason" => pub(super) finish_reason: Word<'a>,
        b"logprobs" => pub(super) logprobs: Option<Json<'a>>,
        /// Moonshot's last chunk.
        b"usage" => pub(super) usage: Maybe<Box<UsageObject>>,
    }
}

facts! {
    #[derive(Clone)]
    pub(super) struct DeltaIn<'a> {
        b"content" => pub(super) content: Option<TextOr<'a, PartIn<'a>>>,
        b"refusal" => pub(super) refusal: Option<Str<'a>>,
        b"reasoning_content" => pub(super) reasoning_content: Option<Str<'a>>,
        b"reasoning" => pub(super) reasoning: Option<Str<'a>>,
        b"reasoning_details" => pub(super) reasoning_details: Option<Vec<Json<'a>>>,
        b"tool_calls" => pub(super) tool_calls: Option<List<CallIn<'a>>>,
        b"function_call" => pub(super) function_call: Option<Box<FunctionIn<'a>>>,
        b"annotations" => pub(super) annotations: Many<AnnotationIn<'a>>,
        b"audio" => pub(super) audio: Option<Json<'a>>,
        b"images" => pub(super) images: Option<Json<'a>>,
        /// Groq: the tools that it ran.
        b"executed_tools" => executed_tools: Option<Json<'a>>,
        /// Google: a signature of the text.
        b"extra_content" => extra_content: Option<Json<'a>>,
        b"thought_signature" => thought_signature: Option<Json<'a>>,
    }
}

wire_struct! { AudioIn { "data" => data: Str<'a>, "transcript" => transcript: Str<'a>, "id" => id: Str<'a> } }
wire_struct! { PartIn { "type" => kind: Str<'a>, "text" => text: Str<'a>, "thinking" => thinking: Vec<PartIn<'a>> } }
wire_struct! {
    DetailIn {
        "type" => kind: Str<'a>, "text" => text: Str<'a>, "signature" => signature: Str<'a>, "data" => data: Str<'a>,
    }
}

facts! {
    #[derive(Clone)]
    pub(super) struct CallIn<'a> {
        b"index" => pub(super) index: Count,
        b"id" => pub(super) id: Word<'a>,
        b"function" => pub(super) function: Option<FunctionIn<'a>>,
        b"custom" => pub(super) custom: Option<Box<FunctionIn<'a>>>,
        /// Google's endpoint: what it wants back with the call.
        b"extra_content" => pub(super) extra_content: Option<Json<'a>>,
    }
}

facts! {
    #[derive(Clone)]
    pub(super) struct FunctionIn<'a> {
        b"name" => pub(super) name: Option<Str<'a>>,
        b"arguments" => pub(super) arguments: Option<Json<'a>>,
        b"input" => pub(super) input: Option<Json<'a>>,
    }
}

impl<'a> DeltaIn<'a> {
    /// What no other format has a place for, by name.
    pub(super) fn unsaid(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("audio", self.audio.filter(|audio| !says_nothing(*audio))),
            ("images", self.images),
            ("executed_tools", self.executed_tools),
            ("extra_content", self.extra_content),
            ("thought_signature", self.thought_signature),
        ];
        all.into_iter().filter(|(_, value)| value.is_some_and(is_said)).map(|(name, _)| name)
    }

    /// The text that it brings, and whether that is of reasoning, where it brings nothing else.
    fn only_text(&self) -> Option<(&'a str, bool)> {
        let DeltaIn {
            content,
            refusal: None,
            reasoning_content,
            reasoning: None,
            reasoning_details: None,
            tool_calls,
            function_call: None,
            annotations,
            audio: None,
            images: None,
            executed_tools: None,
            extra_content: None,
            thought_signature: None,
        } = self
        else {
            return None;
        };
        let text = match content {
            Some(TextOr::Text(Str(Cow::Borrowed(text)))) => Some(*text),
            Some(TextOr::Text(_) | TextOr::Parts(_)) => return None,
            None => None,
        };
        let thought = match reasoning_content {
            Some(Str(Cow::Borrowed(text))) => Some(*text),
            Some(Str(Cow::Owned(_))) => return None,
            None => None,
        };
        let found = match (text, thought) {
            (Some(text), None | Some("")) => Some((text, false)),
            (None | Some(""), Some(thought)) => Some((thought, true)),
            (Some(_), Some(_)) | (None, None) => None,
        };
        found.filter(|_| tool_calls.as_ref().is_none_or(List::is_empty) && annotations.0.is_empty())
    }

    /// Whether it brings reasoning and no text.
    pub(super) fn is_thought(&self) -> bool {
        let thought = self.reasoning_content.as_ref().or(self.reasoning.as_ref());
        thought.is_some_and(|text| !text.is_empty()) && self.content.is_none()
    }
}

/// Whether an audio object has neither data nor words.
fn says_nothing(audio: Json<'_>) -> bool {
    let audio: AudioIn<'_> = serde_json::from_str(audio.get()).unwrap_or_default();
    let is_empty = |text: &Option<Str<'_>>| text.as_deref().is_none_or(str::is_empty);
    is_empty(&audio.data) && is_empty(&audio.transcript) && is_empty(&audio.id)
}

impl FunctionIn<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.name.as_deref().is_none_or(str::is_empty) && self.arguments.is_none_or(|a| a.get() == "\"\"")
    }
}

facts! {
    #[derive(Clone)]
    pub(super) struct AnnotationIn<'a> {
        b"url_citation" => pub(super) url_citation: Maybe<UrlIn<'a>>,
    }
}

facts! {
    #[derive(Clone)]
    pub(super) struct UrlIn<'a> {
        b"url" => pub(super) url: Word<'a>,
        b"title" => pub(super) title: Word<'a>,
        b"start_index" => pub(super) start_index: Count,
        b"end_index" => pub(super) end_index: Count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{damaged, in_place};

    #[test]
    fn recorded_and_damaged_replies_are_read_as_serde_reads_them() {
        damaged::each_reply(|json| in_place::agree::<ChunkIn<'_>>(json));
    }
}
