//! Reads Chat Completions replies, of OpenAI and of all that imitate it.

use super::{
    read,
    reply_shape::{AnnotationIn, CallIn, ChoiceIn, ChunkIn, DeltaIn, DetailIn, FunctionIn, PartIn},
};
use crate::wire::{
    errors,
    fields::{Json, List, TextOr, text_of},
    grammar::{Kind, Opener},
    in_place,
    lenient::{Count, Maybe},
    logprobs,
    replay::{ReplayToken, TokenKind},
    reply::{BlockStart, Citation, Delta, Event, Finish, FinishReason, Piece, ReplyDecoder, ReplyError, Sink},
    rules::{fnv, invented_id},
    stencil::{Inside, Stencil},
    telltale::{Key, key},
    translate::Context,
    unescape::{is_plain, unescape},
};
use std::{borrow::Cow, sync::Arc};

/// The member that every answer has.
static ANSWER: Key = key!("choices");

/// A tool call that is being streamed.
#[derive(Debug, Default)]
struct Call {
    index: u64,
    id: String,
    name: String,
    /// Arguments that could not go out yet.
    held: String,
    /// What its provider wants back with it.
    extra: Option<String>,
    custom: bool,
    balance: Balance,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waiting,
    Open,
    Closed,
}

/// Tells when a streamed JSON object is complete, so that the next call may begin.
#[derive(Debug, Default)]
struct Balance {
    depth: u32,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Balance {
    fn take(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.in_string {
                self.in_string = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.begun = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }
}

/// The most bytes that are held back for calls that are not yet their turn.
const MAX_HELD_BYTES: usize = 32 << 20;
/// The most calls of one reply.
const MAX_CALLS: usize = 4096;

/// Reads one reply.
pub(crate) struct Decoder {
    context: Arc<Context>,
    opener: Opener,
    started: bool,
    reply_id: String,
    calls: Vec<Call>,
    /// Text that came while a call was unfinished.
    late_text: String,
    held_bytes: usize,
    finish: Option<FinishReason>,
    is_whole: bool,
    ended: bool,
    /// Log probabilities whose text has not come yet.
    logprobs: String,
    /// How the last chunk was written that brought text and nothing else, and whether that was of reasoning.
    stencil: Stencil<bool>,
    /// Where a text is put that holds escapes.
    said: String,
}

impl Decoder {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Decoder {
            context: Arc::clone(context),
            opener: Opener::default(),
            started: false,
            reply_id: String::new(),
            calls: Vec::new(),
            late_text: String::new(),
            held_bytes: 0,
            finish: None,
            is_whole: false,
            ended: false,
            logprobs: String::new(),
            stencil: Stencil::default(),
            said: String::new(),
        }
    }

    fn fail(&mut self, error: ReplyError, sink: &mut dyn Sink) {
        self.ended = true;
        sink.event(Event::Error(error));
    }

    /// Takes the text of a chunk that is like an earlier one.
    fn add(&mut self, inside: Inside<'_>, is_thought: bool, sink: &mut dyn Sink) {
        let goes_on = self.goes_on(if is_thought { Kind::Thinking } else { Kind::Text });
        match inside {
            Inside::Ascii(b"") | Inside::Other("") => {}
            Inside::Ascii(text) if goes_on => sink.add_text(Piece::Ascii(text)),
            Inside::Other(text) if goes_on && is_plain(text) => sink.add_text(Piece::Plain(text)),
            Inside::Ascii(_) | Inside::Other(_) => {
                let start = if is_thought { BlockStart::Thinking } else { BlockStart::Text };
                let mut said = std::mem::take(&mut self.said);
                self.text(start, Cow::Borrowed(unescape(inside.as_str(), &mut said)), sink);
                self.said = said;
            }
        }
    }

    fn take(&mut self, chunk: &ChunkIn<'_>, sink: &mut dyn Sink) {
        if let Some(error) = chunk.error.filter(|raw| raw.get() != "null") {
            return self.fail(errors::read_raw(error), sink);
        }
        self.start(chunk, sink);
        chunk.unsaid().for_each(|field| sink.event(Event::Lost(Cow::Borrowed(field))));
        for choice in chunk.choices.iter().flat_map(List::iter) {
            if choice.index.0.unwrap_or(0) == 0 {
                self.choice(choice, sink);
            } else {
                sink.event(Event::Lost(Cow::Borrowed("choices")));
            }
        }
        if let Some(usage) = chunk.usage() {
            sink.event(Event::Usage(usage.counts()));
        }
    }

    /// The reply starts with the first chunk that names itself or has content; Azure's first one does neither.
    fn start(&mut self, chunk: &ChunkIn<'_>, sink: &mut dyn Sink) {
        let named = chunk.id.as_str().is_some();
        let empty = chunk.choices.as_ref().is_none_or(|c| c.is_empty());
        if self.started || (!named && empty) {
            return;
        }
        self.started = true;
        let id = chunk.id.as_str().unwrap_or(&self.context.request_id).to_owned();
        let model = chunk.model.as_str().unwrap_or(&self.context.model);
        let created = chunk.created.0.filter(|created| *created > 0);
        sink.event(Event::Start { id: Cow::Borrowed(&id), model: Cow::Borrowed(model), created });
        self.reply_id = id;
    }

    fn choice(&mut self, choice: &ChoiceIn<'_>, sink: &mut dyn Sink) {
        let whole = choice.message.as_deref().filter(|_| self.is_whole);
        let content = whole.or(choice.delta.as_ref());
        if let Some(logprobs) = choice.logprobs {
            self.score(logprobs, content, sink);
        }
        if let Some(content) = content {
            self.delta(content, sink);
        }
        self.give_logprobs(sink);
        // A server that sends "" with every chunk has not finished.
        if let Some(reason) = choice.finish_reason.as_str() {
            self.finish = Some(finish_reason(reason));
        }
    }

    /// Keeps log probabilities until the text that they are of has its block; those of reasoning have no place.
    fn score(&mut self, raw: Json<'_>, content: Option<&DeltaIn<'_>>, sink: &mut dyn Sink) {
        let (tokens, is_all) = logprobs::of_choice(raw);
        let is_thought = content.is_some_and(DeltaIn::is_thought) && !tokens.is_empty();
        if is_thought || !is_all {
            sink.event(Event::Lost(Cow::Borrowed("logprobs")));
        }
        if !is_thought {
            self.hold(tokens.len(), sink);
            logprobs::join(&mut self.logprobs, &tokens);
        }
    }

    /// Says the log probabilities of the text that comes next, or of one that nothing comes of.
    fn give_logprobs(&mut self, sink: &mut dyn Sink) {
        if !self.logprobs.is_empty() && self.opener.open() == Some(Kind::Text) {
            sink.event(Event::Delta(Delta::Logprobs(Cow::Owned(std::mem::take(&mut self.logprobs)))));
        }
    }

    fn delta(&mut self, delta: &DeltaIn<'_>, sink: &mut dyn Sink) {
        delta.unsaid().for_each(|field| sink.event(Event::Lost(Cow::Borrowed(field))));
        let thought = delta.reasoning_content.as_deref().or(delta.reasoning.as_deref());
        self.some_text(BlockStart::Thinking, thought, sink);
        for raw in delta.reasoning_details.iter().flatten() {
            self.detail(*raw, thought.is_some(), sink);
        }
        match &delta.content {
            None => {}
            Some(TextOr::Text(text)) => self.some_text(BlockStart::Text, Some(text), sink),
            Some(TextOr::Parts(parts)) => parts.iter().for_each(|part| self.part(part, sink)),
        }
        self.some_text(BlockStart::Refusal, delta.refusal.as_deref(), sink);
        for annotation in &delta.annotations.0 {
            self.annotation(annotation, sink);
        }
        for call in delta.tool_calls.iter().flat_map(List::iter) {
            self.call(call, sink);
        }
        if let Some(function) = delta.function_call.as_deref().filter(|f| !f.is_empty()) {
            let function = Some(function.clone());
            self.call(&CallIn { index: Count(Some(0)), function, ..CallIn::default() }, sink);
        }
    }

    fn part(&mut self, part: &PartIn<'_>, sink: &mut dyn Sink) {
        for thought in part.thinking.iter().flatten() {
            self.some_text(BlockStart::Thinking, thought.text.as_deref(), sink);
        }
        self.some_text(BlockStart::Text, part.text.as_deref(), sink);
        match part.kind.as_deref() {
            None | Some("text" | "output_text" | "thinking") => {}
            // Mistral's references to documents, and whatever comes next.
            Some(other) => sink.event(Event::Lost(Cow::Owned(format!("content.{other}")))),
        }
    }

    /// A provider's own reasoning element: shown as thinking, and kept to be given back.
    fn detail(&mut self, raw: Json<'_>, has_thought: bool, sink: &mut dyn Sink) {
        let detail: DetailIn<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
        if let Some(text) = detail.text.filter(|_| !has_thought) {
            self.text(BlockStart::Thinking, text.0, sink);
        }
        if (detail.signature.is_some() || detail.data.is_some()) && self.can_open() {
            self.opener.ensure(BlockStart::Thinking, sink);
            let token = ReplayToken::native(TokenKind::Details, Cow::Borrowed(raw.get()));
            sink.event(Event::Delta(Delta::Token(token)));
            self.opener.close(sink);
        }
    }

    fn annotation(&mut self, annotation: &AnnotationIn<'_>, sink: &mut dyn Sink) {
        let Maybe(Some(url)) = &annotation.url_citation else {
            return sink.event(Event::Lost(Cow::Borrowed("annotations")));
        };
        if self.opener.open() != Some(Kind::Text) {
            return sink.event(Event::Lost(Cow::Borrowed("annotations")));
        }
        sink.event(Event::Delta(Delta::Citation(Citation {
            span: url.start_index.0.zip(url.end_index.0),
            url: Cow::Borrowed(url.url.as_str().unwrap_or_default()),
            title: Cow::Borrowed(url.title.as_str().unwrap_or_default()),
            claim: Cow::Borrowed(""),
            quoted: Cow::Borrowed(""),
            sealed: Cow::Borrowed(""),
        })));
    }

    /// Whether a block may be opened now: not inside an unfinished call.
    fn can_open(&mut self) -> bool {
        self.calls.iter().all(|call| call.state != State::Open || call.balance.is_complete())
    }

    /// Whether text of this kind comes right behind what came before.
    fn goes_on(&self, kind: Kind) -> bool {
        self.opener.open() == Some(kind) && self.logprobs.is_empty()
    }

    fn some_text(&mut self, start: BlockStart<'_>, text: Option<&str>, sink: &mut dyn Sink) {
        self.text(start, Cow::Borrowed(text.unwrap_or_default()), sink);
    }

    fn text(&mut self, start: BlockStart<'_>, text: Cow<'_, str>, sink: &mut dyn Sink) {
        if text.is_empty() {
            return;
        }
        if self.goes_on(Kind::of(&start)) {
            return sink.add_text(Piece::Any(&text));
        }
        if self.opener.open() == Some(Kind::Call) && !self.can_open() {
            self.hold(text.len(), sink);
            self.late_text.push_str(&text);
            return;
        }
        self.close_call();
        self.opener.ensure(start, sink);
        self.give_logprobs(sink);
        sink.event(Event::Delta(Delta::Text(text)));
    }

    fn hold(&mut self, bytes: usize, sink: &mut dyn Sink) {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes > MAX_HELD_BYTES && !self.ended {
            self.fail(ReplyError::unreadable(&"too many unfinished tool calls"), sink);
        }
    }

    fn close_call(&mut self) {
        self.calls.iter_mut().filter(|call| call.state == State::Open).for_each(|call| call.state = State::Closed);
    }

    fn call(&mut self, call: &CallIn<'_>, sink: &mut dyn Sink) {
        let is_named = |f: &FunctionIn<'_>| f.name.as_deref().is_some_and(|n| !n.is_empty());
        let continues_custom = call.function.is_none() && call.custom.is_some();
        let custom = continues_custom || call.custom.as_deref().is_some_and(is_named);
        let id = call.id.as_str();
        let function = if custom { call.custom.as_deref() } else { call.function.as_ref() };
        let name = function.and_then(|f| f.name.as_deref()).filter(|n| !n.is_empty());
        let at = self.place_of_call(call.index.0, id, name);
        if at >= MAX_CALLS {
            return self.fail(ReplyError::unreadable(&"too many tool calls"), sink);
        }
        let arguments = function.and_then(|f| f.arguments.or(f.input)).map(text_of).unwrap_or_default();
        let Some(entry) = self.calls.get_mut(at) else { return };
        let mut named = 0;
        for (known, said) in [(&mut entry.id, id), (&mut entry.name, name)] {
            if let Some(said) = said.filter(|_| known.is_empty()) {
                said.clone_into(known);
                named += said.len();
            }
        }
        entry.custom |= custom;
        if let Some(extra) = call.extra_content {
            named += extra.get().len();
            match entry.state {
                State::Waiting => entry.extra = Some(extra.get().to_owned()),
                State::Open | State::Closed => sink.event(Event::Lost(Cow::Borrowed("tool_calls.extra_content"))),
            }
        }
        if entry.state == State::Open {
            entry.balance.take(&arguments);
            if !arguments.is_empty() {
                sink.event(Event::Delta(Delta::Arguments(arguments)));
            }
            return;
        }
        entry.held.push_str(&arguments);
        self.hold(arguments.len() + named, sink);
        self.open_next(false, sink);
    }

    /// Which call a fragment belongs to. Some providers give every parallel call the index 0, and some give none.
    fn place_of_call(&mut self, index: Option<u64>, id: Option<&str>, name: Option<&str>) -> usize {
        let same = |call: &Call| match (index, id) {
            (Some(index), Some(id)) => call.index == index && (call.id.is_empty() || call.id == id || name.is_none()),
            (Some(index), None) => call.index == index,
            (None, Some(id)) => call.id == id,
            (None, None) => name.is_none(),
        };
        if let Some(at) = self.calls.iter().rposition(same) {
            return at;
        }
        let index = index.unwrap_or(self.calls.len() as u64);
        self.calls.push(Call { index, ..Call::default() });
        self.calls.len() - 1
    }

    /// Opens the next waiting call if the open one is complete; at the end, whatever is left.
    fn open_next(&mut self, at_end: bool, sink: &mut dyn Sink) {
        loop {
            if !at_end && !self.can_open() {
                return;
            }
            let Some(at) = self.calls.iter().position(|call| call.state == State::Waiting) else { return };
            let Some(call) = self.calls.get(at) else { return };
            if call.name.is_empty() && !at_end {
                return;
            }
            self.close_call();
            let seed = fnv(self.reply_id.as_bytes());
            let Some(call) = self.calls.get_mut(at) else { return };
            if call.id.is_empty() {
                call.id = invented_id(seed, at);
            }
            call.state = State::Open;
            if let Some(extra) = call.extra.take() {
                self.opener.start(BlockStart::Thinking, sink);
                let token = ReplayToken::native(TokenKind::CallExtra, Cow::Owned(extra));
                sink.event(Event::Delta(Delta::Token(token)));
            }
            let (id, name) = (Cow::Borrowed(&*call.id), Cow::Borrowed(&*call.name));
            self.opener.start(BlockStart::ToolCall { id, name, custom: call.custom }, sink);
            let held = std::mem::take(&mut call.held);
            call.balance.take(&held);
            if !held.is_empty() {
                sink.event(Event::Delta(Delta::Arguments(Cow::Owned(held))));
            }
        }
    }

    fn end(&mut self, sink: &mut dyn Sink) {
        if self.ended {
            return;
        }
        self.ended = true;
        if !self.started && self.finish.is_none() {
            return;
        }
        self.open_next(true, sink);
        self.close_call();
        let late = std::mem::take(&mut self.late_text);
        self.text(BlockStart::Text, Cow::Owned(late), sink);
        self.opener.close(sink);
        if !self.logprobs.is_empty() {
            sink.event(Event::Lost(Cow::Borrowed("logprobs")));
        }
        let reason = self.finish.unwrap_or(FinishReason::Unknown);
        // A named tool choice is reported as `stop`, so the calls decide.
        let reason = match reason {
            FinishReason::Stop | FinishReason::StopSequence | FinishReason::Unknown if !self.calls.is_empty() => {
                FinishReason::ToolCalls
            }
            FinishReason::ToolCalls if self.calls.is_empty() => FinishReason::Stop,
            reason => reason,
        };
        sink.event(Event::Finish(Finish { reason, detail: None }));
        sink.event(Event::End);
    }
}

fn finish_reason(word: &str) -> FinishReason {
    match word {
        "stop" | "eos" | "eos_token" | "end_turn" | "COMPLETE" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        "length" | "model_length" | "max_tokens" | "MAX_TOKENS" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" | "tool_call" => FinishReason::ToolCalls,
        "content_filter" | "safety" | "refusal" | "sensitive" => FinishReason::Refusal,
        "error" | "insufficient_system_resource" | "network_error" => FinishReason::Failed,
        _ => FinishReason::Unknown,
    }
}

impl ReplyDecoder for Decoder {
    fn event(&mut self, _name: &[u8], data: &[u8], sink: &mut dyn Sink) {
        if self.ended || self.more(data, sink) {
            return;
        }
        if data.trim_ascii() == b"[DONE]" {
            return self.end(sink);
        }
        let mut chunk = ChunkIn::default();
        match in_place::read(data, &mut chunk) {
            Ok(()) => {
                if let Some((text, is_thought)) =
                    chunk.only_text().filter(|_| self.started && read::only_adds(b"", data))
                {
                    self.stencil.learn(data, text, is_thought);
                }
                self.take(&chunk, sink);
            }
            Err(error) => self.fail(ReplyError::unreadable(&error), sink),
        }
    }

    fn more(&mut self, data: &[u8], sink: &mut dyn Sink) -> bool {
        let found = self.stencil.fits(data).filter(|_| !self.ended);
        if let Some((inside, is_thought)) = found {
            self.add(inside, is_thought, sink);
        }
        found.is_some()
    }

    fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) {
        self.is_whole = true;
        let mut reply = ChunkIn::default();
        match in_place::read(body, &mut reply) {
            Ok(()) => {
                let has_choice = reply.choices.as_ref().is_some_and(|choices| !choices.is_empty());
                self.take(&reply, sink);
                if has_choice {
                    self.end(sink);
                }
            }
            Err(fault) => self.fail(errors::read_unread(body, &ANSWER, &fault), sink),
        }
    }

    fn finish(&mut self, sink: &mut dyn Sink) {
        // Many providers leave `[DONE]` out; a finish reason alone tells that the answer is whole.
        if self.finish.is_some() {
            self.end(sink);
        }
    }
}
