//! What lies between a decoder and an encoder: undoes what the request side had to do, and holds the reply to the grammar.
//!
//! Bounded: a reply beyond the limit ends with an error.

use super::{Context, Translate};
use crate::wire::{
    WireFormat,
    collect::Collected,
    compose::put_escaped,
    fields::{Members, text_of},
    grammar::Grammar,
    loss::Losses,
    reply::{
        BlockStart, Citation, Delta, ErrorKind, Event, Finish, FinishReason, Piece, ReplyEncoder, ReplyError, Sink,
    },
    rules::arguments_object,
    span::Ruler,
    usage::Usage,
};
use std::{borrow::Cow, sync::Arc};

/// The most that one reply may amount to; encoders keep a whole reply at most.
const MAX_REPLY_BYTES: usize = 64 << 20;
/// What a block or a citation counts for beside its texts: about what is kept of an empty one.
const PART_BYTES: usize = 128;

/// What is kept of an event at most.
fn kept_bytes(event: &Event<'_>) -> usize {
    match event {
        Event::Delta(Delta::Text(text) | Delta::Arguments(text) | Delta::Logprobs(text)) => text.len(),
        Event::Delta(Delta::Token(token)) => token.data.len(),
        Event::Delta(Delta::Citation(citation)) => PART_BYTES + citation.size(),
        Event::BlockStart(BlockStart::ToolCall { id, name, custom: _ }) => PART_BYTES + id.len() + name.len(),
        Event::BlockStart(BlockStart::Text | BlockStart::Thinking | BlockStart::Refusal) => PART_BYTES,
        Event::Start { .. }
        | Event::BlockStop
        | Event::Usage(_)
        | Event::Finish(_)
        | Event::End
        | Event::Error(_)
        | Event::Lost(_) => 0,
    }
}

/// Where a reply goes.
pub(super) enum Outlet {
    Stream(Box<dyn ReplyEncoder>),
    Whole(Box<Collected>),
}

/// The way of a reply's events from the decoder to the encoder.
pub(super) struct Guard {
    grammar: Grammar,
    pub(super) exit: Exit,
    stand_in: StandIn,
    /// Whether a structured answer came by way of a tool, and whether a real call came.
    answered: bool,
    called: bool,
    bytes: usize,
}

/// What stands in for something else in the block that is open.
#[derive(Debug, Default)]
enum StandIn {
    #[default]
    Nothing,
    /// The structured answer, given as the input of a tool.
    Answer,
    /// A free-text call, given as an object with one string; held back until it is whole.
    FreeText(String),
    /// The other way round: a free-text call that the client is given as an object with one string.
    Wrapped,
}

impl Guard {
    pub(super) fn new(
        (source, target): (WireFormat, &'static dyn Translate),
        outlet: Outlet,
        context: &Arc<Context>,
    ) -> Self {
        Guard {
            grammar: Grammar::new(),
            exit: Exit {
                outlet,
                target,
                context: Arc::clone(context),
                out: Vec::new(),
                losses: Losses::default(),
                usage: Usage::default(),
                error: None,
                ended: false,
                arguments: None,
                ruler: Ruler::between(source, target.id()).map(Box::new),
                has_text: false,
            },
            stand_in: StandIn::Nothing,
            answered: false,
            called: false,
            bytes: 0,
        }
    }

    /// The upstream has nothing more: an unfinished reply ends with an error.
    pub(super) fn close(&mut self) {
        self.grammar.close(&mut self.exit);
    }

    /// The reply is beyond a bound.
    pub(super) fn too_large(&mut self) {
        self.admit(Event::Error(ReplyError::new(ErrorKind::Server, "the provider's reply is too large")));
    }

    fn admit(&mut self, event: Event<'_>) {
        self.grammar.admit(event, &mut self.exit);
    }

    fn start_call(&mut self, id: &str, name: &str, custom: bool) {
        let context = Arc::clone(&self.exit.context);
        if context.output_tool.as_deref() == Some(name) {
            self.stand_in = StandIn::Answer;
            self.answered = true;
            return self.admit(Event::BlockStart(BlockStart::Text));
        }
        self.called = true;
        let stands_in = context.custom_tools.iter().any(|tool| tool == name);
        if stands_in {
            self.stand_in = StandIn::FreeText(String::new());
        }
        let name = Cow::Borrowed(context.names.restore(name));
        let custom = custom || stands_in;
        let wrapped = custom && !stands_in && !self.exit.target.knows_free_text(&context);
        let start = BlockStart::ToolCall { id: Cow::Borrowed(id), name, custom: custom && !wrapped };
        self.admit(Event::BlockStart(start));
        if wrapped {
            self.stand_in = StandIn::Wrapped;
            self.admit(Event::Delta(Delta::Arguments(Cow::Borrowed("{\"input\":\""))));
        }
    }

    fn stop_block(&mut self) {
        match std::mem::take(&mut self.stand_in) {
            StandIn::Nothing | StandIn::Answer => {}
            StandIn::FreeText(arguments) => self.admit(Event::Delta(Delta::Arguments(free_text(&arguments)))),
            StandIn::Wrapped => self.admit(Event::Delta(Delta::Arguments(Cow::Borrowed("\"}")))),
        }
        self.admit(Event::BlockStop);
    }

    fn arguments(&mut self, text: Cow<'_, str>) {
        match &mut self.stand_in {
            StandIn::Nothing => self.admit(Event::Delta(Delta::Arguments(text))),
            StandIn::Answer => self.admit(Event::Delta(Delta::Text(text))),
            StandIn::FreeText(held) => held.push_str(&text),
            StandIn::Wrapped => {
                let mut escaped = Vec::new();
                put_escaped(&mut escaped, &text);
                let escaped = String::from_utf8(escaped).unwrap_or_default();
                self.admit(Event::Delta(Delta::Arguments(Cow::Owned(escaped))));
            }
        }
    }
}

impl Sink for Guard {
    fn event(&mut self, event: Event<'_>) {
        self.bytes = self.bytes.saturating_add(kept_bytes(&event));
        if self.bytes > MAX_REPLY_BYTES {
            return self.too_large();
        }
        match event {
            Event::BlockStart(BlockStart::ToolCall { id, name, custom }) => self.start_call(&id, &name, custom),
            Event::BlockStop => self.stop_block(),
            Event::Delta(Delta::Arguments(text)) => self.arguments(text),
            Event::Finish(finish) if self.answered && finish.reason == FinishReason::ToolCalls => {
                let reason = if self.called { FinishReason::ToolCalls } else { FinishReason::Stop };
                self.admit(Event::Finish(Finish { reason, detail: None }));
            }
            event => self.admit(event),
        }
    }

    fn add_text(&mut self, text: Piece<'_>) {
        if !self.grammar.takes_text() || self.bytes.saturating_add(text.len()) > MAX_REPLY_BYTES {
            return self.event(Event::Delta(Delta::Text(Cow::Borrowed(text.said()))));
        }
        self.bytes += text.len();
        self.exit.add_text(text);
    }
}

impl Exit {
    /// Notes arguments that are no JSON object where the client's format wants one whole: a model that reached its limit
    /// leaves them broken. A stream of Anthropic's carries them as they are.
    fn check_arguments(&mut self, event: &Event<'_>) {
        let wants_object = match self.target.id() {
            WireFormat::Gemini => true,
            WireFormat::Anthropic => matches!(self.outlet, Outlet::Whole(_)),
            WireFormat::OpenaiChat | WireFormat::OpenaiResponses => false,
        };
        if !wants_object {
            return;
        }
        match event {
            Event::BlockStart(BlockStart::ToolCall { custom, .. }) => self.arguments = (!custom).then(String::new),
            Event::Delta(Delta::Arguments(text)) => {
                if let Some(arguments) = &mut self.arguments {
                    arguments.push_str(text);
                }
            }
            Event::BlockStop => {
                if let Some(arguments) = self.arguments.take() {
                    arguments_object(&arguments, &mut self.losses);
                }
            }
            Event::Start { .. }
            | Event::BlockStart(_)
            | Event::Delta(_)
            | Event::Usage(_)
            | Event::Finish(_)
            | Event::End
            | Event::Error(_)
            | Event::Lost(_) => {}
        }
    }
}

/// The string of a stand-in call's arguments.
fn free_text(arguments: &str) -> Cow<'_, str> {
    let members = serde_json::from_str::<Members<'_>>(arguments).unwrap_or_default();
    match members.find("input") {
        Some(input) => Cow::Owned(text_of(input).into_owned()),
        None => Cow::Borrowed(arguments),
    }
}

/// Takes what the grammar let through.
pub(super) struct Exit {
    outlet: Outlet,
    pub(super) target: &'static dyn Translate,
    pub(super) context: Arc<Context>,
    pub(super) out: Vec<u8>,
    pub(super) losses: Losses,
    pub(super) usage: Usage,
    pub(super) error: Option<ReplyError>,
    pub(super) ended: bool,
    /// Those of the open call, where they have to be an object.
    arguments: Option<String>,
    /// Measures the answer's text, where source and target tell places in it differently.
    ruler: Option<Box<Ruler>>,
    /// Whether the block that is open is of the answer's text.
    has_text: bool,
}

impl Exit {
    /// Takes a whole reply that is one document, if it is to be one.
    pub(super) fn document(&mut self, body: &[u8]) -> bool {
        let context = Arc::clone(&self.context);
        let Some(document) = &context.document else { return false };
        self.ended = true;
        match document.translate(self.target.id(), body, (&context, &mut self.losses)) {
            Ok((body, usage)) => {
                self.usage = usage;
                self.out.extend_from_slice(&body);
            }
            Err(error) => {
                self.out.extend_from_slice(&self.target.error_reply(&error, &context.request_id).1);
                self.error = Some(error);
            }
        }
        true
    }
}

impl Exit {
    /// Puts a citation's place into the target's measure, and lists what of it the target cannot say.
    fn cite(&mut self, citation: &mut Citation<'_>) {
        let told = citation.span;
        if let Some(ruler) = &self.ruler {
            citation.span = ruler.place(told);
        }
        if self.target.id() == WireFormat::Anthropic {
            if told.is_some() {
                // There it stands for the whole block.
                self.losses.approximated("citations.span");
            }
            return;
        }
        let unsaid = [
            ("citations.span", told.is_some() && citation.span.is_none()),
            ("citations.encrypted_index", !citation.sealed.is_empty()),
            ("citations.cited_text", !citation.quoted.is_empty()),
        ];
        unsaid.iter().filter(|(_, is_told)| *is_told).for_each(|(field, _)| self.losses.dropped(*field));
    }

    /// Keeps account of the answer's text.
    fn measure(&mut self, event: &Event<'_>) {
        match event {
            Event::BlockStart(block) => {
                self.has_text = *block == BlockStart::Text;
                if let (Some(ruler), true) = (&mut self.ruler, self.has_text) {
                    ruler.begin_block();
                }
            }
            Event::Delta(Delta::Text(text)) if self.has_text => {
                if let Some(ruler) = &mut self.ruler {
                    ruler.add(text);
                }
            }
            Event::Start { .. }
            | Event::Delta(_)
            | Event::BlockStop
            | Event::Usage(_)
            | Event::Finish(_)
            | Event::End
            | Event::Error(_)
            | Event::Lost(_) => {}
        }
    }
}

impl Sink for Exit {
    fn add_text(&mut self, text: Piece<'_>) {
        if let (Some(ruler), true) = (&mut self.ruler, self.has_text) {
            match text {
                Piece::Ascii(text) => ruler.add_ascii(text.len()),
                Piece::Plain(text) | Piece::Any(text) => ruler.add(text),
            }
        }
        match &mut self.outlet {
            Outlet::Stream(encoder) => encoder.add_text(text, &mut self.out),
            Outlet::Whole(reply) => reply.take(Event::Delta(Delta::Text(Cow::Borrowed(text.said())))),
        }
    }

    fn event(&mut self, mut event: Event<'_>) {
        let ends = matches!(event, Event::End | Event::Error(_));
        self.measure(&event);
        match &mut event {
            Event::Lost(field) => return self.losses.dropped(field.clone()),
            Event::Delta(Delta::Token(token)) if token.is_too_long() => {
                return self.losses.dropped("reasoning.signature");
            }
            Event::Delta(Delta::Citation(citation)) => self.cite(citation),
            Event::Delta(Delta::Logprobs(_)) if self.target.id() == WireFormat::Anthropic => {
                return self.losses.dropped("logprobs");
            }
            Event::Usage(usage) => {
                self.usage.update(usage);
                if usage.server_tools.is_some_and(|n| n > 0) && self.target.id() != WireFormat::Anthropic {
                    self.losses.dropped("usage.server_tool_use");
                }
            }
            Event::Error(error) => self.error = Some(error.clone()),
            Event::Finish(finish) => match finish.reason {
                FinishReason::Unknown | FinishReason::BrokenCall | FinishReason::Pause | FinishReason::Failed => {
                    self.losses.approximated("finish_reason");
                }
                FinishReason::Stop
                | FinishReason::StopSequence
                | FinishReason::Length
                | FinishReason::ContextFull
                | FinishReason::ToolCalls
                | FinishReason::Refusal => {}
            },
            Event::Start { .. } | Event::BlockStart(_) | Event::Delta(_) | Event::BlockStop | Event::End => {}
        }
        self.ended |= ends;
        self.check_arguments(&event);
        match &mut self.outlet {
            Outlet::Stream(encoder) => encoder.event(event, &mut self.out),
            Outlet::Whole(reply) => {
                reply.take(event);
                if ends {
                    let body = match &reply.error {
                        Some(error) => self.target.error_reply(error, &self.context.request_id).1,
                        None => self.target.whole_reply(reply, &self.context),
                    };
                    self.out.extend_from_slice(&body);
                }
            }
        }
    }
}
