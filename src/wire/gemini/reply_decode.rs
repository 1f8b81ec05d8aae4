//! Reads Gemini generateContent replies.

use super::{
    fragment::{self, Fragment},
    partial_args::{Node, PartialIn},
    usage::UsageMetadata,
};
use crate::wire::{
    errors,
    fields::{Json, List, Str},
    grammar::{Kind, Opener},
    lenient::{Maybe, soft},
    logprobs,
    replay::{ReplayToken, TokenKind},
    reply::{BlockStart, Citation, Delta, Event, Finish, FinishReason, ReplyDecoder, ReplyError, Sink},
    rules::{fnv, invented_id},
    telltale::{Key, key},
    translate::Context,
    unescape::unescape,
};
use serde::Deserialize;
use std::{borrow::Cow, sync::Arc};

/// The member that every answer has.
static ANSWER: Key = key!("candidates");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChunkIn<'a> {
    #[serde(borrow, default)]
    candidates: Option<List<CandidateIn<'a>>>,
    #[serde(borrow, default)]
    prompt_feedback: Option<FeedbackIn<'a>>,
    #[serde(default)]
    usage_metadata: Maybe<UsageMetadata>,
    #[serde(borrow, default, deserialize_with = "soft")]
    model_version: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    response_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    error: Option<Json<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FeedbackIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    block_reason: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    block_reason_message: Option<Str<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CandidateIn<'a> {
    #[serde(default, deserialize_with = "soft")]
    index: Option<u64>,
    #[serde(borrow, default)]
    content: Option<ContentIn<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    finish_reason: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    finish_message: Option<Str<'a>>,
    #[serde(borrow, default)]
    grounding_metadata: Option<GroundingIn<'a>>,
    #[serde(borrow, default)]
    citation_metadata: Option<Json<'a>>,
    #[serde(borrow, default)]
    url_context_metadata: Option<Json<'a>>,
    #[serde(borrow, default)]
    logprobs_result: Option<Json<'a>>,
}

#[derive(Deserialize)]
struct ContentIn<'a> {
    #[serde(borrow, default)]
    parts: Option<List<PartIn<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartIn<'a> {
    #[serde(borrow, default)]
    text: Option<Str<'a>>,
    #[serde(default, deserialize_with = "soft")]
    thought: Option<bool>,
    #[serde(borrow, default, alias = "thought_signature")]
    thought_signature: Option<Str<'a>>,
    #[serde(borrow, default, alias = "function_call")]
    function_call: Option<CallIn<'a>>,
    #[serde(borrow, default)]
    inline_data: Option<Json<'a>>,
    #[serde(borrow, default)]
    executable_code: Option<Json<'a>>,
    #[serde(borrow, default)]
    code_execution_result: Option<Json<'a>>,
    #[serde(borrow, default)]
    tool_call: Option<Json<'a>>,
    #[serde(borrow, default)]
    tool_response: Option<Json<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    id: Option<Str<'a>>,
    #[serde(borrow, default)]
    name: Option<Str<'a>>,
    #[serde(borrow, default)]
    args: Option<Json<'a>>,
    #[serde(borrow, default)]
    partial_args: Option<Vec<PartialIn<'a>>>,
    #[serde(default)]
    will_continue: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroundingIn<'a> {
    #[serde(borrow, default)]
    grounding_chunks: Option<Vec<GroundingChunkIn<'a>>>,
    #[serde(borrow, default)]
    grounding_supports: Option<Vec<SupportIn<'a>>>,
    #[serde(borrow, default)]
    web_search_queries: Option<Json<'a>>,
    #[serde(borrow, default)]
    search_entry_point: Option<Json<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroundingChunkIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    web: Option<WebIn<'a>>,
    #[serde(borrow, default)]
    retrieved_context: Option<Json<'a>>,
}

#[derive(Deserialize)]
struct WebIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    uri: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    title: Option<Str<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SupportIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    segment: Option<SegmentIn<'a>>,
    #[serde(default, deserialize_with = "soft")]
    grounding_chunk_indices: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SegmentIn<'a> {
    #[serde(default, deserialize_with = "soft")]
    start_index: Option<u64>,
    #[serde(default, deserialize_with = "soft")]
    end_index: Option<u64>,
    #[serde(borrow, default, deserialize_with = "soft")]
    text: Option<Str<'a>>,
}

/// The most that the arguments of a call that goes on may amount to.
const MAX_GROWN_BYTES: usize = 32 << 20;
/// The most bytes of an answer's citations, and what each counts for beside its texts.
const MAX_CITED_BYTES: usize = 32 << 20;
const CITATION_BYTES: usize = 128;

/// Reads one reply.
pub(crate) struct Decoder {
    context: Arc<Context>,
    opener: Opener,
    started: bool,
    seed: u64,
    calls: usize,
    /// The arguments so far of a call that goes on.
    growing: Option<Node>,
    /// How much more of such arguments is taken.
    room: usize,
    finish: Option<FinishReason>,
    detail: Option<String>,
    citations: Vec<Citation<'static>>,
    /// What signs the text of the open block. It comes behind its citations, which the end of the reply may bring.
    signature: Option<ReplayToken<'static>>,
    /// Log probabilities whose text has not come yet.
    logprobs: String,
    ended: bool,
    /// Where the text of a fragment is put that holds escapes.
    said: String,
}

impl Decoder {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Decoder {
            context: Arc::clone(context),
            opener: Opener::default(),
            started: false,
            seed: 0,
            calls: 0,
            growing: None,
            room: MAX_GROWN_BYTES,
            finish: None,
            detail: None,
            citations: Vec::new(),
            signature: None,
            logprobs: String::new(),
            ended: false,
            said: String::new(),
        }
    }

    fn fail(&mut self, error: ReplyError, sink: &mut dyn Sink) {
        self.ended = true;
        sink.event(Event::Error(error));
    }

    /// Takes a fragment of a reply that has begun.
    fn fragment(&mut self, fragment: &Fragment<'_>, sink: &mut dyn Sink) {
        self.end_call(sink);
        self.give_signature(sink);
        let mut said = std::mem::take(&mut self.said);
        let text = unescape(fragment.text, &mut said);
        // A part marked as a thought opens its block even where it says nothing.
        if fragment.is_thought {
            self.opener.ensure(BlockStart::Thinking, sink);
        } else if !text.is_empty() {
            self.opener.ensure(BlockStart::Text, sink);
        }
        if !text.is_empty() {
            sink.event(Event::Delta(Delta::Text(Cow::Borrowed(text))));
        }
        self.said = said;
        if let Some(usage) = &fragment.usage {
            sink.event(Event::Usage(usage.counts()));
        }
    }

    fn take(&mut self, chunk: ChunkIn<'_>, sink: &mut dyn Sink) {
        if let Some(error) = chunk.error.filter(|raw| raw.get() != "null") {
            return self.fail(errors::read_raw(error), sink);
        }
        if !std::mem::replace(&mut self.started, true) {
            let id = chunk.response_id.as_deref().unwrap_or(&self.context.request_id);
            let model = chunk.model_version.as_deref().unwrap_or(&self.context.model);
            self.seed = fnv(id.as_bytes());
            sink.event(Event::Start { id: Cow::Borrowed(id), model: Cow::Borrowed(model), created: None });
        }
        for candidate in chunk.candidates.into_iter().flatten() {
            if candidate.index.unwrap_or(0) == 0 {
                self.candidate(candidate, sink);
            } else {
                sink.event(Event::Lost(Cow::Borrowed("candidates")));
            }
        }
        if let Some(reason) = chunk.prompt_feedback.as_ref().and_then(|f| f.block_reason.as_deref()) {
            self.finish = Some(FinishReason::Refusal);
            let said = chunk.prompt_feedback.as_ref().and_then(|f| f.block_reason_message.as_deref());
            self.detail = Some(said.unwrap_or(reason).to_owned());
        }
        if let Some(usage) = chunk.usage_metadata.0 {
            sink.event(Event::Usage(usage.counts()));
        }
    }

    fn candidate(&mut self, candidate: CandidateIn<'_>, sink: &mut dyn Sink) {
        if let Some(result) = candidate.logprobs_result {
            self.score(result, sink);
        }
        for part in candidate.content.and_then(|c| c.parts).into_iter().flatten() {
            self.part(part, sink);
        }
        self.give_logprobs(sink);
        if let Some(reason) = candidate.finish_reason.filter(|word| &**word != "FINISH_REASON_UNSPECIFIED") {
            self.finish = Some(finish_reason(&reason));
            self.detail = candidate.finish_message.map(|m| m.0.into_owned());
        }
        if let Some(grounding) = candidate.grounding_metadata {
            self.ground(grounding, sink);
        }
        let unsaid =
            [("citationMetadata", candidate.citation_metadata), ("urlContextMetadata", candidate.url_context_metadata)];
        for (field, _) in unsaid.iter().filter(|(_, value)| value.is_some_and(|v| v.get() != "null")) {
            sink.event(Event::Lost(Cow::Borrowed(field)));
        }
    }

    /// Keeps log probabilities until the text that they are of has its block. Their average says nothing more.
    fn score(&mut self, result: Json<'_>, sink: &mut dyn Sink) {
        match logprobs::of_gemini(result) {
            Some(tokens) => logprobs::join(&mut self.logprobs, &tokens),
            None => sink.event(Event::Lost(Cow::Borrowed("logprobsResult"))),
        }
        if self.logprobs.len() > MAX_GROWN_BYTES {
            self.fail(ReplyError::unreadable(&"too many log probabilities"), sink);
        }
    }

    /// Says the log probabilities of the text that comes next, or of one that nothing comes of.
    fn give_logprobs(&mut self, sink: &mut dyn Sink) {
        if !self.logprobs.is_empty() && self.opener.open() == Some(Kind::Text) {
            sink.event(Event::Delta(Delta::Logprobs(Cow::Owned(std::mem::take(&mut self.logprobs)))));
        }
    }

    fn part(&mut self, part: PartIn<'_>, sink: &mut dyn Sink) {
        let signature = part.thought_signature.filter(|s| !s.is_empty());
        if part.function_call.is_none() {
            self.end_call(sink);
        }
        let says_something = part.text.as_ref().is_some_and(|text| !text.is_empty());
        if says_something || part.thought == Some(true) || part.function_call.is_some() || signature.is_some() {
            self.give_signature(sink);
        }
        if part.thought == Some(true) {
            self.opener.ensure(BlockStart::Thinking, sink);
            if let Some(text) = part.text.filter(|t| !t.is_empty()) {
                sink.event(Event::Delta(Delta::Text(text.0)));
            }
            return self.sign(TokenKind::OnThought, signature, sink);
        }
        if let Some(call) = part.function_call {
            if self.growing.is_some() {
                return self.call(call, sink);
            }
            self.sign(TokenKind::OnCall, signature, sink);
            return self.call(call, sink);
        }
        if let Some(text) = part.text.filter(|t| !t.is_empty()) {
            self.opener.ensure(BlockStart::Text, sink);
            self.give_logprobs(sink);
            sink.event(Event::Delta(Delta::Text(text.0)));
        }
        if let Some(signature) = signature {
            self.signature = Some(ReplayToken::native(TokenKind::OnText, Cow::Owned(signature.0.into_owned())));
        }
        let unsaid = [
            ("inlineData", part.inline_data),
            ("executableCode", part.executable_code),
            ("codeExecutionResult", part.code_execution_result),
            ("toolCall", part.tool_call),
            ("toolResponse", part.tool_response),
        ];
        for (field, _) in unsaid.iter().filter(|(_, value)| value.is_some()) {
            sink.event(Event::Lost(Cow::Borrowed(field)));
        }
    }

    /// A signature becomes the token of a thinking block: of the open one, or of one of its own.
    fn sign(&mut self, kind: TokenKind, signature: Option<Str<'_>>, sink: &mut dyn Sink) {
        if let Some(signature) = signature {
            self.seal(ReplayToken::native(kind, signature.0), sink);
        }
    }

    /// Gives out the signature that was held back, if there is one.
    fn give_signature(&mut self, sink: &mut dyn Sink) {
        if let Some(token) = self.signature.take() {
            self.seal(token, sink);
        }
    }

    fn seal(&mut self, token: ReplayToken<'_>, sink: &mut dyn Sink) {
        if token.kind != TokenKind::OnThought {
            self.opener.start(BlockStart::Thinking, sink);
        }
        sink.event(Event::Delta(Delta::Token(token)));
        self.opener.close(sink);
    }

    fn call(&mut self, call: CallIn<'_>, sink: &mut dyn Sink) {
        let goes_on = call.will_continue == Some(true);
        if self.growing.is_none() {
            self.start_call(call.id, call.name, sink);
        }
        if goes_on || self.growing.is_some() {
            let node = self.growing.get_or_insert_with(|| Node::Object(Vec::new()));
            call.partial_args.iter().flatten().for_each(|piece| node.take(piece, &mut self.room));
            if self.room == 0 {
                return self.fail(ReplyError::unreadable(&"a call's arguments are too large"), sink);
            }
            if !goes_on {
                self.end_call(sink);
            }
            return;
        }
        let args = call.args.map_or("{}", Json::get);
        sink.event(Event::Delta(Delta::Arguments(Cow::Borrowed(if args == "null" { "{}" } else { args }))));
        self.opener.close(sink);
    }

    fn end_call(&mut self, sink: &mut dyn Sink) {
        let Some(node) = self.growing.take() else { return };
        let mut args = Vec::new();
        node.put(&mut args);
        let args = String::from_utf8(args).unwrap_or_default();
        sink.event(Event::Delta(Delta::Arguments(Cow::Owned(args))));
        self.opener.close(sink);
    }

    fn start_call(&mut self, id: Option<Str<'_>>, name: Option<Str<'_>>, sink: &mut dyn Sink) {
        let id = match id.filter(|id| !id.is_empty()) {
            Some(id) => id.0,
            None => Cow::Owned(invented_id(self.seed, self.calls)),
        };
        self.calls += 1;
        let name = name.map(|n| n.0).unwrap_or_default();
        self.opener.start(BlockStart::ToolCall { id, name, custom: false }, sink);
    }

    fn ground(&mut self, grounding: GroundingIn<'_>, sink: &mut dyn Sink) {
        let chunks = grounding.grounding_chunks.unwrap_or_default();
        let unsaid = [
            ("groundingMetadata.webSearchQueries", grounding.web_search_queries),
            ("groundingMetadata.searchEntryPoint", grounding.search_entry_point),
            ("groundingChunks.retrievedContext", chunks.iter().find_map(|chunk| chunk.retrieved_context)),
        ];
        for (field, _) in unsaid.iter().filter(|(_, value)| value.is_some()) {
            sink.event(Event::Lost(Cow::Borrowed(field)));
        }
        let supports = grounding.grounding_supports.unwrap_or_default();
        let make = |web: &WebIn<'_>, segment: Option<&SegmentIn<'_>>| Citation {
            url: Cow::Owned(web.uri.as_deref().unwrap_or_default().to_owned()),
            title: Cow::Owned(web.title.as_deref().unwrap_or_default().to_owned()),
            span: segment.map(|s| (s.start_index.unwrap_or(0), s.end_index.unwrap_or(0))),
            claim: Cow::Owned(segment.and_then(|s| s.text.as_deref()).unwrap_or_default().to_owned()),
            quoted: Cow::Borrowed(""),
            sealed: Cow::Borrowed(""),
        };
        let mut citations = Vec::new();
        let mut room = MAX_CITED_BYTES;
        for support in &supports {
            for at in support.grounding_chunk_indices.iter().flatten() {
                let web = chunks.get(*at).and_then(|chunk| chunk.web.as_ref());
                let Some(citation) = web.map(|web| make(web, support.segment.as_ref())) else { continue };
                // A few sources may be named again and again: what comes in is bounded, what it makes would not be.
                room = room.saturating_sub(CITATION_BYTES + citation.size());
                if room == 0 {
                    return self.fail(ReplyError::unreadable(&"too many citations"), sink);
                }
                citations.push(citation);
            }
        }
        if citations.is_empty() {
            citations.extend(chunks.iter().filter_map(|chunk| chunk.web.as_ref()).map(|web| make(web, None)));
        }
        if !citations.is_empty() {
            self.citations = citations;
        }
    }

    fn end(&mut self, sink: &mut dyn Sink) {
        let Some(reason) = self.finish.filter(|_| !self.ended) else { return };
        self.ended = true;
        self.end_call(sink);
        for citation in std::mem::take(&mut self.citations) {
            if self.opener.open() == Some(Kind::Text) {
                sink.event(Event::Delta(Delta::Citation(citation)));
            } else {
                sink.event(Event::Lost(Cow::Borrowed("groundingMetadata")));
            }
        }
        self.give_signature(sink);
        self.opener.close(sink);
        if !self.logprobs.is_empty() {
            sink.event(Event::Lost(Cow::Borrowed("logprobsResult")));
        }
        // Whatever the reason says: a reply with calls waits for their results.
        let reason = if self.calls > 0 { FinishReason::ToolCalls } else { reason };
        let detail = self.detail.take().map(Cow::Owned);
        sink.event(Event::Finish(Finish { reason, detail }));
        sink.event(Event::End);
    }
}

fn finish_reason(word: &str) -> FinishReason {
    match word {
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE" | "MODEL_ARMOR" => {
            FinishReason::Refusal
        }
        word if word.starts_with("IMAGE_") => FinishReason::Refusal,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE" => {
            FinishReason::BrokenCall
        }
        "OTHER" => FinishReason::Failed,
        _ => FinishReason::Unknown,
    }
}

impl ReplyDecoder for Decoder {
    fn event(&mut self, _name: &[u8], data: &[u8], sink: &mut dyn Sink) {
        if self.ended || data.trim_ascii() == b"[DONE]" {
            return;
        }
        if let Some(fragment) = Some(()).filter(|()| self.started).and_then(|()| fragment::read(data)) {
            return self.fragment(&fragment, sink);
        }
        match serde_json::from_slice::<ChunkIn<'_>>(data) {
            Ok(chunk) => self.take(chunk, sink),
            Err(error) => self.fail(ReplyError::unreadable(&error), sink),
        }
    }

    fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) {
        match serde_json::from_slice::<ChunkIn<'_>>(body) {
            Ok(chunk) if chunk.candidates.is_some() || chunk.prompt_feedback.is_some() => {
                self.take(chunk, sink);
                self.end(sink);
            }
            Ok(_) => self.fail(errors::read(0, body), sink),
            Err(fault) => self.fail(errors::read_unread(body, &ANSWER, &fault), sink),
        }
    }

    fn finish(&mut self, sink: &mut dyn Sink) {
        // The format has no terminator: a finish reason is what tells a whole answer from a broken one.
        self.end(sink);
    }
}
