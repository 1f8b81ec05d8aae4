//! Writes Anthropic Messages replies, streamed and whole.

use crate::wire::{
    Usage, WireFormat,
    collect::{Collected, Part},
    compose::{self, Obj},
    loss::Losses,
    replay::{ReplayToken, TokenKind, hide_in_id},
    reply::{BlockStart, Citation, Delta, Event, Finish, FinishReason, Piece, ReplyEncoder},
    rules::{arguments_object, fit, free_text_input, restyle_id},
    translate::Context,
};
use std::{borrow::Cow, sync::Arc};

fn stop_word(reason: FinishReason, refused: bool) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Unknown if refused => "refusal",
        FinishReason::Stop | FinishReason::BrokenCall | FinishReason::Failed | FinishReason::Unknown => "end_turn",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "max_tokens",
        FinishReason::ContextFull => "model_context_window_exceeded",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
    }
}

fn put_stop(o: &mut Obj<'_>, reason: FinishReason, detail: Option<&str>, refused: bool) {
    let word = stop_word(reason, refused);
    o.str("stop_reason", word);
    o.str_or_null("stop_sequence", detail.filter(|_| word == "stop_sequence"));
    if let Some(explanation) = detail.filter(|_| word == "refusal") {
        o.obj("stop_details", |o| {
            o.word("type", "refusal");
            o.null("category");
            o.str("explanation", explanation);
        });
    }
}

fn put_usage(out: &mut Vec<u8>, usage: &Usage) {
    let written = usage.cache_write.unwrap_or(0).saturating_add(usage.cache_write_1h.unwrap_or(0));
    compose::obj(out, |o| {
        o.int("input_tokens", usage.input.unwrap_or(0));
        o.int("cache_creation_input_tokens", written);
        o.int("cache_read_input_tokens", usage.cache_read.unwrap_or(0));
        o.int("output_tokens", usage.output.unwrap_or(0));
        if let Some(reasoning) = usage.reasoning {
            o.obj("output_tokens_details", |o| o.int("thinking_tokens", reasoning));
        }
        if let Some(searches) = usage.server_tools.filter(|n| *n > 0) {
            o.obj("server_tool_use", |o| o.int("web_search_requests", searches));
        }
    });
}

fn put_citation(o: &mut Obj<'_>, citation: &Citation<'_>) {
    o.word("type", "web_search_result_location");
    o.str("cited_text", &citation.quoted);
    o.str("encrypted_index", &citation.sealed);
    o.str("title", &citation.title);
    o.str("url", &citation.url);
}

fn message_id(id: &str) -> String {
    restyle_id(id, "msg_")
}

/// A tool use id: only letters, digits, `_` and `-`, with the token of hidden reasoning behind it.
fn call_id(id: &str, token: Option<&ReplayToken<'_>>, model: &str) -> String {
    let id: Cow<'_, str> = fit(id, 64);
    token.and_then(|token| hide_in_id(&id, token, model)).unwrap_or_else(|| id.into_owned())
}

/// The signature by which a block comes back; its own format's is given as it is.
fn signature(token: Option<&ReplayToken<'_>>, model: &str) -> String {
    match token {
        None => String::new(),
        Some(token) if token.kind == TokenKind::Signature && token.model == 0 => token.data.to_string(),
        Some(token) => token.seal(model).unwrap_or_default(),
    }
}

/// Thinking that Anthropic itself encrypted, on its way to a client of its own.
fn is_redacted(token: &ReplayToken<'_>) -> bool {
    token.kind == TokenKind::Redacted && token.is_at_home(WireFormat::Anthropic)
}

fn put_redacted(o: &mut Obj<'_>, token: &ReplayToken<'_>) {
    o.word("type", "redacted_thinking");
    o.str("data", &token.data);
}

const EMPTY_THOUGHT: &[u8] = b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}";

/// Writes a stream.
pub(crate) struct Encoder {
    context: Arc<Context>,
    index: u64,
    /// Whether the open block is not shown to this client.
    hidden: bool,
    thinking: bool,
    refused: bool,
    signed: bool,
    /// Whether the start of a thinking block is still to be written.
    unopened: bool,
    token: Option<ReplayToken<'static>>,
    /// How a delta of the open block's text begins, once there was one.
    head: Vec<u8>,
    usage: Usage,
    /// Held back until the end, as usage may come after it.
    finish: Option<Finish<'static>>,
}

impl Encoder {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Encoder {
            context: Arc::clone(context),
            index: 0,
            hidden: false,
            thinking: false,
            refused: false,
            signed: false,
            unopened: false,
            token: None,
            head: Vec::new(),
            usage: Usage::default(),
            finish: None,
        }
    }

    fn start(&mut self, id: &str, model: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
        compose::put_str(out, &message_id(id));
        out.extend_from_slice(b",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        compose::put_str(out, model);
        out.extend_from_slice(b",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
        put_usage(out, &self.usage);
        out.extend_from_slice(b"}}\n\n");
    }

    fn start_block(&mut self, start: BlockStart<'_>, out: &mut Vec<u8>) {
        self.thinking = start == BlockStart::Thinking;
        self.signed = false;
        self.head.clear();
        self.refused |= start == BlockStart::Refusal;
        self.hidden = self.thinking && self.context.thinking_shown == Some(false);
        if self.hidden {
            return;
        }
        if self.thinking {
            // Its first delta tells which of the two kinds it is.
            self.unopened = true;
            return;
        }
        let token = self.token.take();
        put_head(out, "content_block_start", self.index);
        out.extend_from_slice(b",\"content_block\":");
        match start {
            BlockStart::Text | BlockStart::Refusal => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
            BlockStart::Thinking => out.extend_from_slice(EMPTY_THOUGHT),
            BlockStart::ToolCall { id, name, custom: _ } => {
                out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
                compose::put_str(out, &call_id(&id, token.as_ref(), &self.context.model));
                out.extend_from_slice(b",\"name\":");
                compose::put_str(out, &name);
                out.extend_from_slice(b",\"input\":{}}");
            }
        }
        out.extend_from_slice(EVENT_END);
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Vec<u8>) {
        if self.hidden {
            if let Delta::Token(token) = delta {
                self.token = Some(token.into_owned()).filter(|t| t.kind != TokenKind::OnText);
            }
            return;
        }
        let index = self.index;
        if let Delta::Token(token) = &delta
            && is_redacted(token)
            && self.unopened
        {
            self.unopened = false;
            self.signed = true;
            return event(out, "content_block_start", |o| {
                o.int("index", index);
                o.obj("content_block", |o| put_redacted(o, token));
            });
        }
        self.open_thought(out);
        match delta {
            Delta::Text(text) => self.put_text(Piece::Any(&text), out),
            Delta::Arguments(text) => put_delta(out, index, ("input_json_delta", "partial_json"), &text),
            Delta::Token(token) => {
                self.signed = true;
                let sealed = signature(Some(&token), &self.context.model);
                put_delta(out, index, ("signature_delta", "signature"), &sealed);
            }
            // The guard has noted them as a loss.
            Delta::Logprobs(_) => {}
            Delta::Citation(citation) => event(out, "content_block_delta", |o| {
                o.int("index", index);
                o.obj("delta", |o| {
                    o.word("type", "citations_delta");
                    o.obj("citation", |o| put_citation(o, &citation));
                });
            }),
        }
    }

    fn put_text(&mut self, text: Piece<'_>, out: &mut Vec<u8>) {
        if self.head.is_empty() {
            let (kind, key) = if self.thinking { ("thinking_delta", "thinking") } else { ("text_delta", "text") };
            put_delta_head(&mut self.head, self.index, kind, key);
        }
        out.extend_from_slice(&self.head);
        match text {
            Piece::Any(text) => compose::put_escaped(out, text),
            Piece::Plain(text) => compose::put_inside(out, text.as_bytes()),
            Piece::Ascii(text) => out.extend_from_slice(text),
        }
        out.extend_from_slice(DELTA_END);
    }

    fn stop_block(&mut self, out: &mut Vec<u8>) {
        if !self.hidden {
            self.open_thought(out);
            if self.thinking && !self.signed {
                put_delta(out, self.index, ("signature_delta", "signature"), "");
            }
            put_head(out, "content_block_stop", self.index);
            out.extend_from_slice(EVENT_END);
            self.index += 1;
        }
        self.hidden = false;
        self.thinking = false;
    }

    fn open_thought(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.unopened, false) {
            return;
        }
        put_head(out, "content_block_start", self.index);
        compose::put_all(out, &[b",\"content_block\":", EMPTY_THOUGHT, EVENT_END]);
    }

    fn put_finish(&mut self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        event(out, "message_delta", |o| {
            o.obj("delta", |o| put_stop(o, finish.reason, finish.detail.as_deref(), self.refused));
            put_usage(o.key("usage"), &self.usage);
        });
    }
}

/// How an event of a block begins; its end is `EVENT_END`.
fn put_head(out: &mut Vec<u8>, name: &str, index: u64) {
    let name = name.as_bytes();
    compose::put_all(out, &[b"event: ", name, b"\ndata: {\"type\":\"", name, b"\",\"index\":"]);
    compose::put_int(out, index);
}

const EVENT_END: &[u8] = b"}\n\n";

fn event(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Obj<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    compose::obj(out, |o| {
        o.str("type", name);
        fill(o);
    });
    out.extend_from_slice(b"\n\n");
}

/// What a stream consists of for the most part, so it is written without the detours of `event`; words are ours.
fn put_delta(out: &mut Vec<u8>, index: u64, (kind, key): (&str, &str), text: &str) {
    put_delta_head(out, index, kind, key);
    compose::put_escaped(out, text);
    out.extend_from_slice(DELTA_END);
}

/// A delta up to its text.
fn put_delta_head(out: &mut Vec<u8>, index: u64, kind: &str, key: &str) {
    put_head(out, "content_block_delta", index);
    compose::put_all(out, &[b",\"delta\":{\"type\":\"", kind.as_bytes(), b"\",\"", key.as_bytes(), b"\":\""]);
}

/// A delta behind its text.
const DELTA_END: &[u8] = b"\"}}\n\n";

impl ReplyEncoder for Encoder {
    fn add_text(&mut self, text: Piece<'_>, out: &mut Vec<u8>) {
        if self.hidden {
            return;
        }
        self.open_thought(out);
        self.put_text(text, out);
    }

    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, created: _ } => self.start(&id, &model, out),
            Event::BlockStart(start) => self.start_block(start, out),
            Event::Delta(delta) => self.delta(delta, out),
            Event::BlockStop => self.stop_block(out),
            Event::Usage(usage) => self.usage.update(&usage),
            Event::Finish(finish) => {
                let detail = finish.detail.map(|d| Cow::Owned(d.into_owned()));
                self.finish = Some(Finish { reason: finish.reason, detail });
            }
            Event::End => {
                if let Some(finish) = self.finish.take() {
                    self.put_finish(&finish, out);
                }
                out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
            }
            Event::Error(error) => {
                out.extend_from_slice(b"event: error\ndata: ");
                out.extend_from_slice(&super::failure::body(&error, &self.context.request_id));
                out.extend_from_slice(b"\n\n");
            }
            Event::Lost(_) => {}
        }
    }
}

/// Writes a whole reply.
pub(crate) fn whole(reply: &Collected, context: &Context) -> Vec<u8> {
    let mut out = Vec::new();
    compose::obj(&mut out, |o| {
        o.str("id", &message_id(&reply.id));
        o.word("type", "message");
        o.word("role", "assistant");
        o.str("model", &reply.model);
        put_content(o, reply, context);
        let reason = reply.finish.unwrap_or(FinishReason::Unknown);
        put_stop(o, reason, reply.detail.as_deref(), reply.has_refusal());
        put_usage(o.key("usage"), &reply.usage);
    });
    out
}

fn put_content(o: &mut Obj<'_>, reply: &Collected, context: &Context) {
    let mut hidden = None;
    o.arr("content", |a| {
        for part in &reply.parts {
            match part {
                Part::Thinking { token, .. } if context.thinking_shown == Some(false) => {
                    hidden = token.as_ref().filter(|t| t.kind != TokenKind::OnText);
                }
                Part::Thinking { token: Some(token), .. } if is_redacted(token) => a.obj(|o| put_redacted(o, token)),
                Part::Thinking { text, token } => a.obj(|o| {
                    o.word("type", "thinking");
                    o.str("thinking", text);
                    o.str("signature", &signature(token.as_ref(), &context.model));
                }),
                Part::Refusal(text) => a.obj(|o| put_text(o, text, &[])),
                Part::Text { text, citations, logprobs: _ } => a.obj(|o| put_text(o, text, citations)),
                Part::Call { id, name, arguments, custom } => {
                    let id = call_id(id, hidden.take(), &context.model);
                    a.obj(|o| {
                        o.word("type", "tool_use");
                        o.str("id", &id);
                        o.str("name", name);
                        let input = match custom {
                            true => Cow::Owned(free_text_input(arguments)),
                            false => arguments_object(arguments, &mut Losses::default()),
                        };
                        o.raw("input", &input);
                    });
                }
            }
        }
    });
}

fn put_text(o: &mut Obj<'_>, text: &str, citations: &[Citation<'_>]) {
    o.word("type", "text");
    o.str("text", text);
    if citations.is_empty() {
        return o.null("citations");
    }
    o.arr("citations", |a| citations.iter().for_each(|citation| a.obj(|o| put_citation(o, citation))));
}
