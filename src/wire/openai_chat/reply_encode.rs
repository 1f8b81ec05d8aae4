//! Writes Chat Completions replies, streamed and whole.

use crate::wire::{
    Usage,
    collect::{Collected, Part},
    compose::{self, Obj},
    logprobs,
    replay::{ReplayToken, TokenKind, hide_in_id},
    reply::{BlockStart, Citation, Delta, Event, FinishReason, ReplyEncoder, ReplyError},
    rules::restyle_id,
    translate::Context,
};
use std::{borrow::Cow, sync::Arc};

/// The word for a finish.
fn finish_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::BrokenCall | FinishReason::Unknown => "stop",
        FinishReason::Failed => "stop",
        FinishReason::Length | FinishReason::ContextFull | FinishReason::Pause => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Refusal => "content_filter",
    }
}

fn put_usage(o: &mut Obj<'_>, usage: &Usage) {
    let (prompt, output) = (usage.total_input(), usage.output.unwrap_or(0));
    o.obj("usage", |o| {
        o.int("prompt_tokens", prompt);
        o.int("completion_tokens", output);
        o.int("total_tokens", prompt.saturating_add(output));
        o.obj("prompt_tokens_details", |o| {
            o.int("cached_tokens", usage.cache_read.unwrap_or(0));
            o.some_int("cache_write_tokens", written(usage));
        });
        o.obj("completion_tokens_details", |o| o.int("reasoning_tokens", usage.reasoning.unwrap_or(0)));
    });
}

fn written(usage: &Usage) -> Option<u64> {
    match (usage.cache_write, usage.cache_write_1h) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    }
}

fn put_citation(o: &mut Obj<'_>, citation: &Citation<'_>) {
    let (from, to) = citation.span.unwrap_or((0, 0));
    o.word("type", "url_citation");
    o.obj("url_citation", |o| {
        o.int("start_index", from);
        o.int("end_index", to);
        o.str("title", &citation.title);
        o.str("url", &citation.url);
    });
}

/// A thinking block as an element of `reasoning_details`, by which it comes back next turn.
fn put_detail(out: &mut Vec<u8>, text: &str, token: &ReplayToken<'_>, model: &str) {
    if token.kind == TokenKind::Details {
        return compose::put_raw(out, &token.data);
    }
    let sealed = token.seal(model).unwrap_or_default();
    compose::obj(out, |o| {
        o.word("type", "reasoning.text");
        o.str("text", text);
        o.str("signature", &sealed);
        o.word("format", "sub2api-v1");
        o.int("index", 0);
    });
}

/// The `extra_content` of a call whose provider and client both speak Chat Completions.
fn put_extra(o: &mut Obj<'_>, token: Option<&ReplayToken<'_>>) {
    if let Some(token) = token.filter(|token| is_extra(token)) {
        o.raw("extra_content", &token.data);
    }
}

/// Whether a token goes with its call as it came.
fn is_extra(token: &ReplayToken<'_>) -> bool {
    token.kind == TokenKind::CallExtra && token.model == 0
}

/// A call's id, with the token of the reasoning before it hidden behind, for clients that drop unknown fields.
fn call_id<'i>(id: &'i str, token: Option<&ReplayToken<'_>>, model: &str) -> Cow<'i, str> {
    match token.filter(|token| !is_extra(token)).and_then(|token| hide_in_id(id, token, model)) {
        Some(hidden) => Cow::Owned(hidden),
        None => Cow::Borrowed(id),
    }
}

/// The token in a form that is of use by itself, for hiding in a call's id.
fn portable(token: &ReplayToken<'_>, thought: &str) -> Option<ReplayToken<'static>> {
    match token.kind {
        TokenKind::OnCall
        | TokenKind::Encrypted
        | TokenKind::Redacted
        | TokenKind::SignedText
        | TokenKind::CallExtra => Some(token.clone().into_owned()),
        TokenKind::Signature => Some(token.with_text(thought)),
        TokenKind::OnThought | TokenKind::OnText | TokenKind::Details => None,
    }
}

/// Writes a stream.
pub(crate) struct Encoder {
    context: Arc<Context>,
    /// The members that every chunk begins with.
    head: Vec<u8>,
    calls: u64,
    thought: String,
    /// The token of the reasoning before the next call.
    token: Option<ReplayToken<'static>>,
    block_token: Option<ReplayToken<'static>>,
    thinking: bool,
    refusing: bool,
    custom: bool,
    /// The log probabilities of the text that comes next.
    logprobs: String,
    usage: Usage,
}

impl Encoder {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Encoder {
            context: Arc::clone(context),
            head: Vec::new(),
            calls: 0,
            thought: String::new(),
            token: None,
            block_token: None,
            thinking: false,
            refusing: false,
            custom: false,
            logprobs: String::new(),
            usage: Usage::default(),
        }
    }

    fn begin(&mut self, id: &str, model: &str, created: Option<u64>) {
        let mut head = Vec::new();
        compose::obj(&mut head, |o| {
            o.str("id", &restyle_id(id, "chatcmpl-"));
            o.word("object", "chat.completion.chunk");
            o.int("created", created.unwrap_or(self.context.now));
            o.str("model", model);
        });
        head.pop();
        self.head = head;
    }

    /// A chunk with a text and nothing else, as most are; the key is ours.
    fn text(&self, out: &mut Vec<u8>, key: &str, text: &str) {
        let begin: &[u8] = b",\"choices\":[{\"index\":0,\"delta\":{\"";
        compose::put_all(out, &[b"data: ", &self.head, begin, key.as_bytes(), b"\":\""]);
        compose::put_escaped(out, text);
        out.extend_from_slice(b"\"},\"logprobs\":null,\"finish_reason\":null}]");
        out.extend_from_slice(if self.context.stream_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }

    fn chunk(&mut self, out: &mut Vec<u8>, finish: Option<&str>, fill: impl FnOnce(&mut Obj<'_>)) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":");
        compose::obj(out, fill);
        out.extend_from_slice(b",\"logprobs\":");
        logprobs::put_chat(out, &self.logprobs);
        self.logprobs.clear();
        out.extend_from_slice(b",\"finish_reason\":");
        match finish {
            Some(word) => compose::put_str(out, word),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}]");
        if self.context.stream_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn block(&mut self, start: BlockStart<'_>, out: &mut Vec<u8>) {
        self.thinking = start == BlockStart::Thinking;
        self.refusing = start == BlockStart::Refusal;
        let BlockStart::ToolCall { id, name, custom } = start else { return };
        let token = self.token.take();
        let id = call_id(&id, token.as_ref(), &self.context.model).into_owned();
        let kind = if custom { "custom" } else { "function" };
        self.custom = custom;
        let index = self.calls;
        self.calls += 1;
        self.chunk(out, None, |o| {
            o.arr("tool_calls", |a| {
                a.obj(|o| {
                    o.int("index", index);
                    o.str("id", &id);
                    o.str("type", kind);
                    o.obj(kind, |o| {
                        o.str("name", &name);
                        o.str(if custom { "input" } else { "arguments" }, "");
                    });
                    put_extra(o, token.as_ref());
                });
            });
        });
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) if self.thinking => {
                self.thought.push_str(&text);
                self.text(out, "reasoning_content", &text);
            }
            Delta::Text(text) if self.refusing => self.text(out, "refusal", &text),
            Delta::Text(text) if self.logprobs.is_empty() => self.text(out, "content", &text),
            Delta::Text(text) => self.chunk(out, None, |o| o.str("content", &text)),
            Delta::Logprobs(tokens) => logprobs::join(&mut self.logprobs, &tokens),
            Delta::Arguments(text) => {
                let index = self.calls.saturating_sub(1);
                let custom = self.custom;
                self.chunk(out, None, |o| {
                    o.arr("tool_calls", |a| {
                        a.obj(|o| {
                            o.int("index", index);
                            let kind = if custom { "custom" } else { "function" };
                            o.obj(kind, |o| o.str(if custom { "input" } else { "arguments" }, &text));
                        });
                    });
                });
            }
            Delta::Token(token) => self.block_token = Some(token.into_owned()),
            Delta::Citation(citation) => self.chunk(out, None, |o| {
                o.arr("annotations", |a| a.obj(|o| put_citation(o, &citation)));
            }),
        }
    }

    fn stop_block(&mut self, out: &mut Vec<u8>) {
        let thought = std::mem::take(&mut self.thought);
        if let Some(token) = self.block_token.take() {
            if !is_extra(&token) {
                let mut detail = Vec::new();
                put_detail(&mut detail, &thought, &token, &self.context.model);
                self.chunk(out, None, |o| {
                    o.arr("reasoning_details", |a| a.item().extend_from_slice(&detail));
                });
            }
            self.token = portable(&token, &thought);
        }
        if !self.logprobs.is_empty() {
            self.chunk(out, None, |o| o.word("content", ""));
        }
        self.thinking = false;
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.context.stream_usage {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b",\"choices\":[],");
            let mut usage = Vec::new();
            compose::obj(&mut usage, |o| put_usage(o, &self.usage));
            out.extend_from_slice(usage.strip_prefix(b"{").unwrap_or_default());
            out.extend_from_slice(b"\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl ReplyEncoder for Encoder {
    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, created } => {
                self.begin(&id, &model, created);
                self.chunk(out, None, |o| {
                    o.word("role", "assistant");
                    o.word("content", "");
                    o.null("refusal");
                });
            }
            Event::BlockStart(start) => self.block(start, out),
            Event::Delta(delta) => self.delta(delta, out),
            Event::BlockStop => self.stop_block(out),
            Event::Usage(usage) => self.usage.update(&usage),
            Event::Finish(finish) => self.chunk(out, Some(finish_word(finish.reason)), |_| {}),
            Event::End => self.end(out),
            Event::Error(error) => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(&super::failure::body(&error));
                out.extend_from_slice(b"\n\ndata: [DONE]\n\n");
            }
            Event::Lost(_) => {}
        }
    }
}

/// Writes a whole reply.
pub(crate) fn whole(reply: &Collected, context: &Context) -> Vec<u8> {
    let (mut out, scores) = (Vec::new(), reply.logprobs());
    compose::obj(&mut out, |o| {
        o.str("id", &restyle_id(&reply.id, "chatcmpl-"));
        o.word("object", "chat.completion");
        o.int("created", reply.created.unwrap_or(context.now));
        o.str("model", &reply.model);
        o.arr("choices", |a| {
            a.obj(|o| {
                o.int("index", 0);
                o.obj("message", |o| put_message(o, reply, context));
                logprobs::put_chat(o.key("logprobs"), &scores);
                o.str("finish_reason", finish_word(reply.finish.unwrap_or(FinishReason::Unknown)));
            });
        });
        put_usage(o, &reply.usage);
    });
    out
}

fn put_message(o: &mut Obj<'_>, reply: &Collected, context: &Context) {
    let (mut text, mut thoughts, mut refusal) = (String::new(), String::new(), None);
    let (mut has_text, mut citations) = (false, Vec::new());
    for part in &reply.parts {
        match part {
            Part::Text { text: more, citations: found, logprobs: _ } => {
                has_text = true;
                text.push_str(more);
                citations.extend(found);
            }
            Part::Thinking { text: more, .. } => thoughts.push_str(more),
            Part::Refusal(said) => refusal = Some(&**said),
            Part::Call { .. } => {}
        }
    }
    o.word("role", "assistant");
    o.str_or_null("content", Some(&*text).filter(|_| has_text));
    o.str_or_null("refusal", refusal);
    o.some_str("reasoning_content", Some(&*thoughts).filter(|t| !t.is_empty()));
    put_details(o, reply, context);
    o.arr("annotations", |a| citations.iter().for_each(|citation| a.obj(|o| put_citation(o, citation))));
    put_calls(o, reply, context);
}

fn put_details(o: &mut Obj<'_>, reply: &Collected, context: &Context) {
    let with_token = |part: &Part| matches!(part, Part::Thinking { token: Some(token), .. } if !is_extra(token));
    if !reply.parts.iter().any(with_token) {
        return;
    }
    o.arr("reasoning_details", |a| {
        for part in &reply.parts {
            if let Part::Thinking { text, token: Some(token) } = part
                && !is_extra(token)
            {
                put_detail(a.item(), text, token, &context.model);
            }
        }
    });
}

fn put_calls(o: &mut Obj<'_>, reply: &Collected, context: &Context) {
    if !reply.has_calls() {
        return;
    }
    let mut token = None;
    o.arr("tool_calls", |a| {
        for part in &reply.parts {
            match part {
                Part::Thinking { text, token: Some(found) } => token = portable(found, text),
                Part::Call { id, name, arguments, custom } => {
                    let token = token.take();
                    let id = call_id(id, token.as_ref(), &context.model);
                    let kind = if *custom { "custom" } else { "function" };
                    a.obj(|o| {
                        o.str("id", &id);
                        o.str("type", kind);
                        o.obj(kind, |o| {
                            o.str("name", name);
                            o.str(if *custom { "input" } else { "arguments" }, arguments);
                        });
                        put_extra(o, token.as_ref());
                    });
                }
                Part::Thinking { .. } | Part::Text { .. } | Part::Refusal(_) => {}
            }
        }
    });
}

/// The error reply.
pub(crate) fn error_reply(error: &ReplyError) -> (u16, Vec<u8>) {
    (super::failure::status(error.kind), super::failure::body(error))
}
