//! Reads Anthropic Messages replies.

use super::{
    fragment::{self, Fragment},
    usage::UsageObject,
};
use crate::wire::{
    Usage, errors,
    fields::{Json, List, Str},
    grammar::{Kind, Opener},
    lenient::{Maybe, soft},
    replay::{ReplayToken, TokenKind},
    reply::{BlockStart, Citation, Delta, Event, Finish, FinishReason, ReplyDecoder, ReplyError, Sink},
    stencil::Stencil,
    telltale::{Key, key},
    translate::Context,
    unescape::unescape,
};
use serde::Deserialize;
use std::{borrow::Cow, sync::Arc};

/// The member that every answer has.
static ANSWER: Key = key!("content");

#[derive(Deserialize)]
struct EventIn<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    message: Option<MessageIn<'a>>,
    #[serde(borrow, default)]
    content_block: Option<BlockIn<'a>>,
    #[serde(borrow, default)]
    delta: Option<DeltaIn<'a>>,
    #[serde(default)]
    usage: Maybe<UsageObject>,
    #[serde(borrow, default)]
    error: Option<Json<'a>>,
}

#[derive(Deserialize)]
struct MessageIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    id: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    model: Option<Str<'a>>,
    #[serde(borrow, default)]
    content: Option<List<BlockIn<'a>>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    stop_reason: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    stop_sequence: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    stop_details: Option<StopDetailsIn<'a>>,
    #[serde(borrow, default)]
    container: Option<Json<'a>>,
    #[serde(default)]
    usage: Maybe<UsageObject>,
    #[serde(borrow, default)]
    error: Option<Json<'a>>,
}

#[derive(Deserialize)]
struct StopDetailsIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    explanation: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct BlockIn<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    text: Option<Str<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Str<'a>>,
    #[serde(borrow, default)]
    signature: Option<Str<'a>>,
    #[serde(borrow, default)]
    data: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    id: Option<Str<'a>>,
    #[serde(borrow, default)]
    name: Option<Str<'a>>,
    #[serde(borrow, default)]
    input: Option<Json<'a>>,
    #[serde(borrow, default)]
    citations: Option<Vec<CitationIn<'a>>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    caller: Option<CallerIn<'a>>,
}

/// Who made a call; the model itself where nothing is said.
#[derive(Deserialize)]
struct CallerIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    tool_id: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct DeltaIn<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    text: Option<Str<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Str<'a>>,
    #[serde(borrow, default)]
    signature: Option<Str<'a>>,
    #[serde(borrow, default)]
    partial_json: Option<Str<'a>>,
    #[serde(borrow, default)]
    citation: Option<CitationIn<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    stop_reason: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    stop_sequence: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    stop_details: Option<StopDetailsIn<'a>>,
    #[serde(borrow, default)]
    container: Option<Json<'a>>,
}

#[derive(Deserialize)]
struct CitationIn<'a> {
    #[serde(borrow, default, deserialize_with = "soft")]
    url: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    title: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    cited_text: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "soft")]
    encrypted_index: Option<Str<'a>>,
}

/// The most bytes of citations that are held for the end of their block.
const MAX_CITED_BYTES: usize = 32 << 20;
/// What a citation counts for beside its texts.
const CITATION_BYTES: usize = 128;

/// Reads one reply.
pub(crate) struct Decoder {
    context: Arc<Context>,
    opener: Opener,
    started: bool,
    /// Whether the open call has had a fragment of its arguments.
    has_arguments: bool,
    /// The input that came with the start of a call, for when no fragment follows.
    input: String,
    citations: Vec<Citation<'static>>,
    cited_bytes: usize,
    usage: Usage,
    calls: u32,
    reason: Option<FinishReason>,
    detail: Option<String>,
    ended: bool,
    /// How the last fragment was written, and which kind it was.
    stencil: Stencil<&'static str>,
    /// Where the text of a fragment is put that holds escapes.
    said: String,
}

impl Decoder {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Decoder {
            context: Arc::clone(context),
            opener: Opener::default(),
            started: false,
            has_arguments: false,
            input: String::new(),
            citations: Vec::new(),
            cited_bytes: 0,
            usage: Usage::default(),
            calls: 0,
            reason: None,
            detail: None,
            ended: false,
            stencil: Stencil::default(),
            said: String::new(),
        }
    }

    fn fail(&mut self, error: ReplyError, sink: &mut dyn Sink) {
        self.ended = true;
        sink.event(Event::Error(error));
    }

    fn take(&mut self, event: EventIn<'_>, sink: &mut dyn Sink) {
        match event.kind.as_deref().unwrap_or_default() {
            "message_start" => {
                if let Some(message) = event.message {
                    self.message(message, sink);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.start_block(block, sink);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.delta(delta, sink);
                }
            }
            "content_block_stop" => self.stop_block(sink),
            "message_delta" => {
                if let Some(delta) = event.delta {
                    lose_container(delta.container, sink);
                    self.stop_reason(delta.stop_reason, delta.stop_sequence, delta.stop_details);
                }
                self.count(&event.usage, sink);
            }
            "message_stop" => self.end(sink),
            "error" => {
                let error = event.error.map_or_else(ReplyError::cut, errors::read_raw);
                self.fail(error, sink);
            }
            _ => {}
        }
    }

    /// The start of a stream, or a whole message: with programmatic tool calls a stream's start is whole, too.
    fn message(&mut self, message: MessageIn<'_>, sink: &mut dyn Sink) {
        lose_container(message.container, sink);
        if std::mem::replace(&mut self.started, true) {
            // Two answers in one: to go on would splice them together.
            return self.fail(ReplyError::unreadable(&"it starts twice"), sink);
        }
        let id = message.id.map(|id| id.0).unwrap_or(Cow::Borrowed(&self.context.request_id));
        let model = message.model.map(|m| m.0).unwrap_or(Cow::Borrowed(&self.context.model));
        sink.event(Event::Start { id, model, created: None });
        for block in message.content.unwrap_or_default() {
            self.start_block(block, sink);
            self.stop_block(sink);
        }
        self.stop_reason(message.stop_reason, message.stop_sequence, message.stop_details);
        self.count(&message.usage, sink);
    }

    /// Takes what has been used so far.
    fn count(&mut self, usage: &Maybe<UsageObject>, sink: &mut dyn Sink) {
        if let Maybe(Some(usage)) = usage {
            usage.apply(&mut self.usage);
            sink.event(Event::Usage(self.usage));
        }
    }

    fn stop_reason(&mut self, reason: Option<Str<'_>>, sequence: Option<Str<'_>>, details: Option<StopDetailsIn<'_>>) {
        if let Some(reason) = reason {
            self.reason = Some(finish_reason(&reason));
        }
        let detail = sequence.or(details.and_then(|d| d.explanation));
        self.detail = detail.map(|d| d.0.into_owned()).or(self.detail.take());
    }

    fn start_block(&mut self, block: BlockIn<'_>, sink: &mut dyn Sink) {
        self.has_arguments = false;
        match block.kind.as_deref().unwrap_or_default() {
            "text" => {
                self.opener.start(BlockStart::Text, sink);
                if let Some(text) = block.text.filter(|t| !t.is_empty()) {
                    sink.event(Event::Delta(Delta::Text(text.0)));
                }
                block.citations.unwrap_or_default().into_iter().for_each(|c| self.citation(c, sink));
            }
            "thinking" => {
                self.opener.start(BlockStart::Thinking, sink);
                if let Some(text) = block.thinking.filter(|t| !t.is_empty()) {
                    sink.event(Event::Delta(Delta::Text(text.0)));
                }
                self.signature(TokenKind::Signature, block.signature, sink);
            }
            "redacted_thinking" => {
                self.opener.start(BlockStart::Thinking, sink);
                self.signature(TokenKind::Redacted, block.data, sink);
            }
            "tool_use" => {
                self.calls += 1;
                if block.caller.is_some_and(|caller| caller.tool_id.is_some()) {
                    sink.event(Event::Lost(Cow::Borrowed("content.caller")));
                }
                let id = block.id.map(|id| id.0).unwrap_or_default();
                let name = block.name.map(|n| n.0).unwrap_or_default();
                self.opener.start(BlockStart::ToolCall { id, name, custom: false }, sink);
                self.input = block.input.map_or("{}", Json::get).to_owned();
            }
            other => {
                self.opener.close(sink);
                sink.event(Event::Lost(Cow::Owned(format!("content.{other}"))));
            }
        }
    }

    fn signature(&mut self, kind: TokenKind, data: Option<Str<'_>>, sink: &mut dyn Sink) {
        if let Some(data) = data.filter(|d| !d.is_empty()) {
            sink.event(Event::Delta(Delta::Token(ReplayToken::native(kind, data.0))));
        }
    }

    fn citation(&mut self, citation: CitationIn<'_>, sink: &mut dyn Sink) {
        let Some(url) = citation.url else {
            return sink.event(Event::Lost(Cow::Borrowed("citations")));
        };
        let citation = Citation {
            url: Cow::Owned(url.0.into_owned()),
            title: Cow::Owned(citation.title.map(|t| t.0.into_owned()).unwrap_or_default()),
            span: None,
            claim: Cow::Borrowed(""),
            quoted: Cow::Owned(citation.cited_text.map(|t| t.0.into_owned()).unwrap_or_default()),
            sealed: Cow::Owned(citation.encrypted_index.map(|i| i.0.into_owned()).unwrap_or_default()),
        };
        self.cited_bytes += CITATION_BYTES + citation.size();
        if self.cited_bytes > MAX_CITED_BYTES {
            return self.fail(ReplyError::unreadable(&"too many citations"), sink);
        }
        self.citations.push(citation);
    }

    /// Takes a fragment of the open block.
    fn fragment(&mut self, fragment: &Fragment<'_>, sink: &mut dyn Sink) {
        let mut said = std::mem::take(&mut self.said);
        self.grow(fragment.kind, Cow::Borrowed(unescape(fragment.text, &mut said)), sink);
        self.said = said;
    }

    /// Lets the open block grow, if it is of the kind that the delta is for.
    fn grow(&mut self, kind: &str, text: Cow<'_, str>, sink: &mut dyn Sink) {
        if text.is_empty() {
            return;
        }
        match (kind, self.opener.open()) {
            ("text_delta", Some(Kind::Text)) => sink.event(Event::Delta(Delta::Text(text))),
            ("thinking_delta", Some(Kind::Thinking)) => sink.event(Event::Delta(Delta::Text(text))),
            ("input_json_delta", Some(Kind::Call)) => {
                self.has_arguments = true;
                sink.event(Event::Delta(Delta::Arguments(text)));
            }
            _ => {}
        }
    }

    fn delta(&mut self, delta: DeltaIn<'_>, sink: &mut dyn Sink) {
        let Some(open) = self.opener.open() else { return };
        let kind = delta.kind.as_deref().unwrap_or_default();
        let grown = match kind {
            "text_delta" => delta.text,
            "input_json_delta" => delta.partial_json,
            "thinking_delta" => delta.thinking,
            _ => None,
        };
        if let Some(text) = grown {
            return self.grow(kind, text.0, sink);
        }
        match (kind, open) {
            ("signature_delta", Kind::Thinking) => self.signature(TokenKind::Signature, delta.signature, sink),
            ("citations_delta", Kind::Text) => {
                if let Some(citation) = delta.citation {
                    self.citation(citation, sink);
                }
            }
            _ => {}
        }
    }

    fn stop_block(&mut self, sink: &mut dyn Sink) {
        if self.opener.open() == Some(Kind::Call) && !self.has_arguments {
            let input = std::mem::take(&mut self.input);
            sink.event(Event::Delta(Delta::Arguments(Cow::Owned(input))));
        }
        for citation in std::mem::take(&mut self.citations) {
            if self.opener.open() == Some(Kind::Text) {
                sink.event(Event::Delta(Delta::Citation(citation)));
            }
        }
        self.opener.close(sink);
    }

    fn end(&mut self, sink: &mut dyn Sink) {
        if self.ended || !self.started {
            return;
        }
        self.ended = true;
        self.stop_block(sink);
        let reason = match self.reason {
            Some(FinishReason::ToolCalls) if self.calls == 0 => FinishReason::Stop,
            Some(reason) => reason,
            None => FinishReason::Unknown,
        };
        let detail = self.detail.take().map(Cow::Owned);
        sink.event(Event::Finish(Finish { reason, detail }));
        sink.event(Event::End);
    }
}

/// The container in which a tool ran has no place elsewhere.
fn lose_container(container: Option<Json<'_>>, sink: &mut dyn Sink) {
    if container.is_some_and(|container| container.get() != "null") {
        sink.event(Event::Lost(Cow::Borrowed("container")));
    }
}

fn finish_reason(word: &str) -> FinishReason {
    match word {
        "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        "max_tokens" => FinishReason::Length,
        "model_context_window_exceeded" => FinishReason::ContextFull,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::Refusal,
        "pause_turn" | "compaction" => FinishReason::Pause,
        _ => FinishReason::Unknown,
    }
}

impl ReplyDecoder for Decoder {
    fn event(&mut self, _name: &[u8], data: &[u8], sink: &mut dyn Sink) {
        if self.ended || data.trim_ascii() == b"[DONE]" {
            return;
        }
        if let Some((text, kind)) = self.stencil.fits(data) {
            return self.fragment(&Fragment { kind, text: text.as_str() }, sink);
        }
        if let Some(fragment) = fragment::read(data) {
            self.stencil.learn(data, fragment.text, fragment.kind);
            return self.fragment(&fragment, sink);
        }
        match serde_json::from_slice(data) {
            Ok(event) => self.take(event, sink),
            Err(error) => self.fail(ReplyError::unreadable(&error), sink),
        }
    }

    fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) {
        match serde_json::from_slice::<MessageIn<'_>>(body) {
            Ok(MessageIn { error: Some(error), .. }) => self.fail(errors::read_raw(error), sink),
            Ok(message) if message.content.is_some() => {
                self.message(message, sink);
                self.end(sink);
            }
            Ok(_) => self.fail(errors::read(0, body), sink),
            Err(fault) => self.fail(errors::read_unread(body, &ANSWER, &fault), sink),
        }
    }

    fn finish(&mut self, sink: &mut dyn Sink) {
        // Between the stop reason and the stream's own end nothing but that end can be missing.
        if self.reason.is_some() && self.opener.open().is_none() {
            self.end(sink);
        }
    }
}
