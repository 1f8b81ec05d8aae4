//! Reads Responses replies.
//!
//! Only the first unfinished item goes out as it comes; what belongs to later items is held until their turn.

use super::{
    fragment,
    reply_shape::{AnnotationIn, EventIn, ItemIn, ResponseIn},
    request_decode::flat_name,
    server_tools::is_billed,
};
use crate::wire::{
    errors,
    fields::{Json, text_of},
    grammar::{Kind, Opener},
    logprobs,
    openai_chat::UsageObject,
    replay::{ReplayToken, TokenKind},
    reply::{BlockStart, Citation, Delta, Event, Finish, FinishReason, ReplyDecoder, ReplyError, Sink},
    stencil::Stencil,
    telltale::{Key, key},
    translate::Context,
    unescape::unescape,
};
use std::{borrow::Cow, sync::Arc};

/// The member that every answer has.
static ANSWER: Key = key!("output");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemKind {
    Message,
    Reasoning,
    Call,
    CustomCall,
    Other,
}

impl ItemKind {
    fn of(kind: &str) -> ItemKind {
        match kind {
            "message" => ItemKind::Message,
            "reasoning" => ItemKind::Reasoning,
            "function_call" => ItemKind::Call,
            "custom_tool_call" => ItemKind::CustomCall,
            _ => ItemKind::Other,
        }
    }
}

/// One output item.
#[derive(Debug)]
struct Item {
    index: u64,
    kind: ItemKind,
    call_id: String,
    name: String,
    /// Whether the block of a call has been opened.
    begun: bool,
    /// Whether content came by deltas, so that the repetitions are not to be read.
    streamed: bool,
    cited: bool,
    /// Whether log probabilities came with the deltas.
    scored: bool,
    done: bool,
    /// What came before the item's turn.
    held: Vec<Held>,
}

#[derive(Debug)]
enum Held {
    Text(String),
    Refusal(String),
    Thought(String),
    Arguments(String),
    Token(String),
    Citation(Citation<'static>),
    Logprobs(String),
}

impl Held {
    fn bytes(&self) -> usize {
        PIECE_BYTES
            + match self {
                Held::Text(text)
                | Held::Refusal(text)
                | Held::Thought(text)
                | Held::Arguments(text)
                | Held::Token(text)
                | Held::Logprobs(text) => text.len(),
                Held::Citation(citation) => citation.url.len() + citation.title.len(),
            }
    }
}

/// The most bytes that are held back for items that are not yet their turn.
const MAX_HELD_BYTES: usize = 32 << 20;
/// What anything that is held counts for beside its text.
const PIECE_BYTES: usize = 64;
/// The most items of one reply.
const MAX_ITEMS: usize = 4096;

/// Reads one reply.
pub(crate) struct Decoder {
    context: Arc<Context>,
    opener: Opener,
    started: bool,
    items: Vec<Item>,
    /// The first item that is not finished.
    head: usize,
    held_bytes: usize,
    has_calls: bool,
    /// Calls of tools that the provider ran itself and bills one by one.
    server_calls: u64,
    ended: bool,
    /// How the last fragment was written, and which item it was of.
    stencil: Stencil<(u64, Growth)>,
    /// Where the text of a fragment is put that holds escapes.
    said: String,
}

impl Decoder {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Decoder {
            context: Arc::clone(context),
            opener: Opener::default(),
            started: false,
            items: Vec::new(),
            head: 0,
            held_bytes: 0,
            has_calls: false,
            server_calls: 0,
            ended: false,
            stencil: Stencil::default(),
            said: String::new(),
        }
    }

    fn fail(&mut self, error: ReplyError, sink: &mut dyn Sink) {
        self.ended = true;
        sink.event(Event::Error(error));
    }

    fn start(&mut self, response: Option<&ResponseIn<'_>>, sink: &mut dyn Sink) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = response.and_then(|r| r.id.as_deref()).unwrap_or(&self.context.request_id);
        let model = response.and_then(|r| r.model.as_deref()).unwrap_or(&self.context.model);
        let created = response.and_then(|r| r.created_at).filter(|c| *c >= 1.0).map(|c| c as u64);
        sink.event(Event::Start { id: Cow::Borrowed(id), model: Cow::Borrowed(model), created });
    }

    fn take(&mut self, event: EventIn<'_>, data: &[u8], sink: &mut dyn Sink) {
        let kind = event.kind.as_deref().unwrap_or_default();
        if kind == "error" {
            return self.fail(errors::read(0, data), sink);
        }
        let index = event.output_index.unwrap_or(0);
        if let Some(item) = grows(kind) {
            self.score(index, event.logprobs, sink);
            return self.piece(index, item, event.delta.0.unwrap_or_default(), sink);
        }
        match kind {
            "response.reasoning_summary_part.added" if event.summary_index.unwrap_or(0) > 0 => {
                self.piece(index, (ItemKind::Reasoning, Held::Thought), Cow::Borrowed("\n\n"), sink);
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = event.annotation {
                    self.annotation(index, annotation, sink);
                }
            }
            "response.output_item.added" => {
                if let Some(item) = event.item {
                    self.start(None, sink);
                    self.add(index, &item, sink);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = event.item {
                    self.start(None, sink);
                    self.done(index, item, sink);
                }
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(event.response.as_ref(), sink);
            }
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                if let Some(response) = event.response {
                    self.response(response, sink);
                }
            }
            _ => {}
        }
    }

    /// Where the item of this index stands, made if it was never announced.
    fn place(&mut self, index: u64, kind: ItemKind, sink: &mut dyn Sink) -> Option<usize> {
        if let Some(at) = self.items.iter().rposition(|item| item.index == index) {
            return Some(at);
        }
        if self.items.len() >= MAX_ITEMS {
            self.fail(ReplyError::unreadable(&"too many items"), sink);
            return None;
        }
        self.items.push(Item {
            index,
            kind,
            call_id: String::new(),
            name: String::new(),
            begun: false,
            streamed: false,
            cited: false,
            scored: false,
            done: false,
            held: Vec::new(),
        });
        Some(self.items.len() - 1)
    }

    /// Counts what is held; a reply that makes us hold too much is given up.
    fn hold(&mut self, bytes: usize, sink: &mut dyn Sink) {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes > MAX_HELD_BYTES && !self.ended {
            self.fail(ReplyError::unreadable(&"too many unfinished items"), sink);
        }
    }

    fn add(&mut self, index: u64, item: &ItemIn<'_>, sink: &mut dyn Sink) {
        let kind = ItemKind::of(item.kind.as_deref().unwrap_or_default());
        let Some(at) = self.place(index, kind, sink) else { return };
        let Some(entry) = self.items.get_mut(at) else { return };
        entry.kind = kind;
        if let Some(id) = item.call_id.as_deref().or(item.id.as_deref()).filter(|_| entry.call_id.is_empty()) {
            entry.call_id = id.to_owned();
        }
        if let Some(name) = item.name.as_deref().filter(|_| entry.name.is_empty()) {
            // A client that nests its tools itself is given the name in two parts again.
            let flat = item.namespace.as_ref().map(|namespace| flat_name(namespace, name));
            let is_nested = |flat: &String| self.context.namespaces.iter().any(|(known, _, _)| known == flat);
            entry.name = flat.filter(is_nested).unwrap_or_else(|| name.to_owned());
        }
        let named = entry.call_id.len() + entry.name.len();
        self.hold(named, sink);
        if kind == ItemKind::Other {
            let what = item.kind.as_deref().unwrap_or_default();
            sink.event(Event::Lost(Cow::Owned(format!("output.{what}"))));
        }
        self.begin_call(at, sink);
    }

    /// Opens the block of a call whose turn it is; text and thoughts open theirs with their first words.
    fn begin_call(&mut self, at: usize, sink: &mut dyn Sink) {
        if at != self.head {
            return;
        }
        let Some(entry) = self.items.get_mut(at) else { return };
        if entry.begun || !matches!(entry.kind, ItemKind::Call | ItemKind::CustomCall) {
            return;
        }
        entry.begun = true;
        self.has_calls = true;
        let custom = entry.kind == ItemKind::CustomCall;
        let (id, name) = (Cow::Borrowed(&*entry.call_id), Cow::Borrowed(&*entry.name));
        self.opener.start(BlockStart::ToolCall { id, name, custom }, sink);
    }

    /// Takes a fragment of an item.
    fn fragment(&mut self, index: u64, item: Growth, text: &str, sink: &mut dyn Sink) {
        let mut said = std::mem::take(&mut self.said);
        self.piece(index, item, Cow::Borrowed(unescape(text, &mut said)), sink);
        self.said = said;
    }

    fn piece(&mut self, index: u64, (kind, make): Growth, delta: Cow<'_, str>, sink: &mut dyn Sink) {
        if delta.is_empty() {
            return;
        }
        self.start(None, sink);
        let Some(at) = self.place(index, kind, sink) else { return };
        let Some(entry) = self.items.get_mut(at) else { return };
        entry.streamed = true;
        if at != self.head {
            let held = delta.len() + PIECE_BYTES;
            entry.held.push(make(delta.into_owned()));
            return self.hold(held, sink);
        }
        let block = match make(String::new()) {
            Held::Text(_) => BlockStart::Text,
            Held::Refusal(_) => BlockStart::Refusal,
            Held::Thought(_) => BlockStart::Thinking,
            Held::Arguments(_) | Held::Token(_) | Held::Citation(_) | Held::Logprobs(_) => {
                self.begin_call(at, sink);
                return sink.event(Event::Delta(Delta::Arguments(delta)));
            }
        };
        self.opener.ensure(block, sink);
        sink.event(Event::Delta(Delta::Text(delta)));
    }

    /// Takes the log probabilities of the text that comes next.
    fn score(&mut self, index: u64, logprobs: Option<Json<'_>>, sink: &mut dyn Sink) {
        let tokens = logprobs.and_then(logprobs::of_openai).filter(|tokens| !tokens.is_empty());
        let Some(tokens) = tokens else { return };
        self.start(None, sink);
        let Some(at) = self.place(index, ItemKind::Message, sink) else { return };
        let Some(entry) = self.items.get_mut(at) else { return };
        entry.scored = true;
        if at == self.head {
            self.opener.ensure(BlockStart::Text, sink);
            return sink.event(Event::Delta(Delta::Logprobs(Cow::Owned(tokens))));
        }
        let bytes = tokens.len() + PIECE_BYTES;
        entry.held.push(Held::Logprobs(tokens));
        self.hold(bytes, sink);
    }

    fn annotation(&mut self, index: u64, annotation: AnnotationIn<'_>, sink: &mut dyn Sink) {
        let Some(citation) = citation(annotation) else {
            return sink.event(Event::Lost(Cow::Borrowed("annotations")));
        };
        let Some(at) = self.place(index, ItemKind::Message, sink) else { return };
        let Some(entry) = self.items.get_mut(at) else { return };
        entry.cited = true;
        let held = Held::Citation(citation);
        let bytes = held.bytes();
        entry.held.push(held);
        if at == self.head {
            self.release(at, sink);
        } else {
            self.hold(bytes, sink);
        }
    }

    /// An item is complete: says what of it was never streamed, and lets the next ones go.
    fn done(&mut self, index: u64, item: ItemIn<'_>, sink: &mut dyn Sink) {
        self.add(index, &item, sink);
        let Some(at) = self.items.iter().rposition(|entry| entry.index == index) else { return };
        let Some(entry) = self.items.get_mut(at) else { return };
        if std::mem::replace(&mut entry.done, true) {
            return;
        }
        let action = item.action.0.as_ref().and_then(|action| action.kind.as_str());
        self.server_calls += u64::from(is_billed(item.kind.as_deref().unwrap_or_default(), action));
        if item.phase.is_some() {
            sink.event(Event::Lost(Cow::Borrowed("output.phase")));
        }
        if item.content.iter().flatten().flat_map(|part| part.annotations.iter().flatten()).any(|a| a.url.is_none()) {
            sink.event(Event::Lost(Cow::Borrowed("annotations")));
        }
        entry.complete(item);
        if at != self.head {
            let held = entry.held.iter().map(Held::bytes).sum();
            self.hold(held, sink);
        }
        while let Some(entry) = self.items.get(self.head) {
            let (done, at) = (entry.done, self.head);
            self.begin_call(at, sink);
            self.release(at, sink);
            if !done {
                break;
            }
            self.opener.close(sink);
            self.head += 1;
        }
    }

    /// Gives out what was held for the item whose turn it is.
    fn release(&mut self, at: usize, sink: &mut dyn Sink) {
        let Some(entry) = self.items.get_mut(at) else { return };
        for held in std::mem::take(&mut entry.held) {
            let (block, text) = match held {
                Held::Text(text) => (BlockStart::Text, text),
                Held::Refusal(text) => (BlockStart::Refusal, text),
                Held::Thought(text) => (BlockStart::Thinking, text),
                Held::Arguments(text) => {
                    sink.event(Event::Delta(Delta::Arguments(Cow::Owned(text))));
                    continue;
                }
                Held::Token(data) => {
                    self.opener.ensure(BlockStart::Thinking, sink);
                    let token = ReplayToken::native(TokenKind::Encrypted, Cow::Owned(data));
                    sink.event(Event::Delta(Delta::Token(token)));
                    continue;
                }
                Held::Logprobs(tokens) => {
                    self.opener.ensure(BlockStart::Text, sink);
                    sink.event(Event::Delta(Delta::Logprobs(Cow::Owned(tokens))));
                    continue;
                }
                Held::Citation(citation) => {
                    if self.opener.open() == Some(Kind::Text) {
                        sink.event(Event::Delta(Delta::Citation(citation)));
                    }
                    continue;
                }
            };
            self.opener.ensure(block, sink);
            sink.event(Event::Delta(Delta::Text(Cow::Owned(text))));
        }
    }

    /// A whole response, or the end of a stream, which may hold items that were never streamed.
    fn response(&mut self, mut response: ResponseIn<'_>, sink: &mut dyn Sink) {
        self.start(Some(&response), sink);
        let status = response.status.as_deref().unwrap_or("completed").to_owned();
        let error = response.error.filter(|raw| raw.get() != "null");
        for (index, item) in response.output.take().into_iter().flatten().enumerate() {
            self.done(index as u64, item, sink);
        }
        if let Some(mut usage) = response.usage.0.as_ref().map(UsageObject::counts) {
            usage.server_tools = usage.server_tools.or(Some(self.server_calls).filter(|calls| *calls > 0));
            sink.event(Event::Usage(usage));
        }
        if let Some(error) = error {
            return self.fail(errors::read_raw(error), sink);
        }
        if status == "failed" || status == "cancelled" {
            return self.fail(ReplyError::cut(), sink);
        }
        self.flush(sink);
        let incomplete = response.incomplete_details.as_ref().and_then(|d| d.reason.as_deref());
        let reason = match (&*status, incomplete) {
            ("incomplete", Some("content_filter")) => FinishReason::Refusal,
            ("incomplete", Some("max_output_tokens" | "max_tokens") | None) => FinishReason::Length,
            ("incomplete", Some(_)) => FinishReason::Unknown,
            ("completed", _) if self.has_calls => FinishReason::ToolCalls,
            ("completed", _) => FinishReason::Stop,
            _ => return self.fail(ReplyError::cut(), sink),
        };
        self.ended = true;
        sink.event(Event::Finish(Finish { reason, detail: None }));
        sink.event(Event::End);
    }

    /// Everything that is still held goes out in order: nothing more will come.
    fn flush(&mut self, sink: &mut dyn Sink) {
        while self.head < self.items.len() {
            let at = self.head;
            self.begin_call(at, sink);
            self.release(at, sink);
            self.opener.close(sink);
            self.head += 1;
        }
        self.opener.close(sink);
    }
}

/// The kind of item that a delta is for, and how it is held.
type Growth = (ItemKind, fn(String) -> Held);

/// What the deltas of this type let grow.
fn grows(kind: &str) -> Option<Growth> {
    match kind {
        "response.output_text.delta" => Some((ItemKind::Message, Held::Text)),
        "response.refusal.delta" => Some((ItemKind::Message, Held::Refusal)),
        "response.function_call_arguments.delta" => Some((ItemKind::Call, Held::Arguments)),
        "response.custom_tool_call_input.delta" => Some((ItemKind::CustomCall, Held::Arguments)),
        "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
            Some((ItemKind::Reasoning, Held::Thought))
        }
        _ => None,
    }
}

impl Item {
    fn complete(&mut self, item: ItemIn<'_>) {
        let text_of = |raw: Json<'_>| text_of(raw).into_owned();
        match self.kind {
            ItemKind::Message => {
                // Places are told in characters of their part; all parts of a message are one block.
                let mut before = 0;
                for part in item.content.into_iter().flatten() {
                    if !self.scored {
                        let tokens = part.logprobs.and_then(logprobs::of_openai).filter(|tokens| !tokens.is_empty());
                        self.held.extend(tokens.map(Held::Logprobs));
                    }
                    let chars = part.text.as_ref().map_or(0, |text| text.0.chars().count() as u64);
                    if !self.streamed {
                        self.held.extend(part.text.map(|t| Held::Text(t.0.into_owned())));
                        self.held.extend(part.refusal.map(|r| Held::Refusal(r.0.into_owned())));
                    }
                    if !self.cited {
                        let citations = part.annotations.into_iter().flatten().filter_map(citation);
                        self.held.extend(citations.map(|citation| Held::Citation(moved(citation, before))));
                    }
                    before += chars;
                }
            }
            ItemKind::Reasoning => {
                if !self.streamed {
                    let summary = item.summary.filter(|s| !s.is_empty()).or(item.content).unwrap_or_default();
                    let texts: Vec<_> = summary.into_iter().filter_map(|part| part.text).map(|t| t.0).collect();
                    if !texts.is_empty() {
                        self.held.push(Held::Thought(texts.join("\n\n")));
                    }
                }
                let token = item.encrypted_content.filter(|data| !data.is_empty());
                self.held.extend(token.map(|data| Held::Token(data.0.into_owned())));
            }
            ItemKind::Call | ItemKind::CustomCall => {
                if !self.streamed {
                    let arguments = item.arguments.or(item.input).map(text_of).filter(|a| !a.is_empty());
                    self.held.extend(arguments.map(Held::Arguments));
                }
            }
            ItemKind::Other => {}
        }
    }
}

fn citation(annotation: AnnotationIn<'_>) -> Option<Citation<'static>> {
    Some(Citation {
        url: Cow::Owned(annotation.url?.0.into_owned()),
        title: Cow::Owned(annotation.title.map(|t| t.0.into_owned()).unwrap_or_default()),
        span: annotation.start_index.zip(annotation.end_index),
        claim: Cow::Borrowed(""),
        quoted: Cow::Borrowed(""),
        sealed: Cow::Borrowed(""),
    })
}

/// The same behind so many more characters.
fn moved(citation: Citation<'static>, before: u64) -> Citation<'static> {
    let span = citation.span.map(|(start, end)| (start.saturating_add(before), end.saturating_add(before)));
    Citation { span, ..citation }
}

impl ReplyDecoder for Decoder {
    fn event(&mut self, _name: &[u8], data: &[u8], sink: &mut dyn Sink) {
        if self.ended || data.trim_ascii() == b"[DONE]" {
            return;
        }
        if let Some((text, (index, item))) = self.stencil.fits(data) {
            return self.fragment(index, item, text.as_str(), sink);
        }
        if let Some(fragment) = fragment::read(data) {
            let Some(item) = grows(fragment.kind) else { return };
            self.stencil.learn(data, fragment.text, (fragment.index, item));
            return self.fragment(fragment.index, item, fragment.text, sink);
        }
        match serde_json::from_slice::<EventIn<'_>>(data) {
            Ok(event) if event.kind.is_none() => self.fail(errors::read(0, data), sink),
            Ok(event) => self.take(event, data, sink),
            Err(error) => self.fail(ReplyError::unreadable(&error), sink),
        }
    }

    fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) {
        match serde_json::from_slice::<ResponseIn<'_>>(body) {
            Ok(response) if response.output.is_some() => self.response(response, sink),
            Ok(_) => self.fail(errors::read(0, body), sink),
            Err(fault) => self.fail(errors::read_unread(body, &ANSWER, &fault), sink),
        }
    }

    fn finish(&mut self, _sink: &mut dyn Sink) {
        // Only the terminal event tells that a response is whole.
    }
}
