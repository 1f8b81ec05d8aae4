//! Writes Gemini generateContent replies: streamed as events or as one JSON array, and whole.

use crate::wire::{
    Usage, WireFormat,
    collect::{Collected, Part},
    compose::{self, Arr, Obj},
    logprobs::{self, Mean},
    loss::Losses,
    replay::{ReplayToken, TokenKind},
    reply::{BlockStart, Citation, Delta, Event, FinishReason, ReplyEncoder},
    rules::{arguments_object, free_text_input},
    translate::Context,
};
use std::{borrow::Cow, sync::Arc};

fn finish_word(reason: FinishReason, refused: bool) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Unknown if refused => "SAFETY",
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::ToolCalls | FinishReason::Unknown => "STOP",
        FinishReason::Length | FinishReason::ContextFull | FinishReason::Pause => "MAX_TOKENS",
        FinishReason::Refusal => "SAFETY",
        FinishReason::BrokenCall => "MALFORMED_FUNCTION_CALL",
        FinishReason::Failed => "OTHER",
    }
}

fn put_usage(o: &mut Obj<'_>, usage: &Usage) {
    let (prompt, output) = (usage.total_input(), usage.output.unwrap_or(0));
    let thoughts = usage.reasoning.unwrap_or(0).min(output);
    o.obj("usageMetadata", |o| {
        o.int("promptTokenCount", prompt);
        o.int("candidatesTokenCount", output - thoughts);
        if thoughts > 0 {
            o.int("thoughtsTokenCount", thoughts);
        }
        o.some_int("cachedContentTokenCount", usage.cache_read.filter(|n| *n > 0));
        o.int("totalTokenCount", prompt.saturating_add(output));
    });
}

fn put_citations(o: &mut Obj<'_>, citations: &[Citation<'_>]) {
    if citations.is_empty() {
        return;
    }
    o.obj("groundingMetadata", |o| {
        o.arr("groundingChunks", |a| {
            for citation in citations {
                a.obj(|o| {
                    o.obj("web", |o| {
                        o.str("uri", &citation.url);
                        o.str("title", &citation.title);
                    });
                });
            }
        });
        o.arr("groundingSupports", |a| {
            for (at, citation) in citations.iter().enumerate() {
                let Some((from, to)) = citation.span else { continue };
                a.obj(|o| {
                    o.obj("segment", |o| {
                        o.int("startIndex", from);
                        o.int("endIndex", to);
                        if !citation.claim.is_empty() {
                            o.str("text", &citation.claim);
                        }
                    });
                    o.arr("groundingChunkIndices", |a| compose::put_int(a.item(), at as u64));
                });
            }
        });
    });
}

/// A token for the part after a thinking block, which is what Gemini's clients send back: with the thought's text where
/// its provider wants that, too.
fn carried(token: &ReplayToken<'_>, thought: &str, model: &str) -> Option<String> {
    if token.is_at_home(WireFormat::Gemini) {
        return Some(token.data.to_string());
    }
    match token.kind {
        TokenKind::Signature => token.with_text(thought).seal_base64(model),
        TokenKind::Redacted
        | TokenKind::SignedText
        | TokenKind::Encrypted
        | TokenKind::OnThought
        | TokenKind::OnCall
        | TokenKind::OnText
        | TokenKind::Details
        | TokenKind::CallExtra => token.seal_base64(model),
    }
}

fn put_call(a: &mut Arr<'_>, call: (&str, &str, &str, bool), signature: Option<&str>) {
    let (id, name, arguments, custom) = call;
    let args = match custom {
        true => Cow::Owned(free_text_input(arguments)),
        false => arguments_object(arguments, &mut Losses::default()),
    };
    a.obj(|o| {
        o.obj("functionCall", |o| {
            o.some_str("id", Some(id).filter(|id| !id.is_empty()));
            o.str("name", name);
            o.raw("args", &args);
        });
        o.some_str("thoughtSignature", signature);
    });
}

/// Writes a stream.
pub(crate) struct Encoder {
    context: Arc<Context>,
    array: bool,
    begun: bool,
    id: String,
    model: String,
    kind: Option<BlockStart<'static>>,
    arguments: String,
    thought: String,
    token: Option<ReplayToken<'static>>,
    /// The signature that the next part takes along.
    signature: Option<String>,
    citations: Vec<Citation<'static>>,
    /// The log probabilities of the text that comes next, and the mean of all.
    logprobs: String,
    mean: Mean,
    refused: bool,
    usage: Usage,
    /// How most chunks end; empty until it is written anew.
    tail: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(context: &Arc<Context>, array: bool) -> Self {
        Encoder {
            context: Arc::clone(context),
            array,
            begun: false,
            id: String::new(),
            model: String::new(),
            kind: None,
            arguments: String::new(),
            thought: String::new(),
            token: None,
            signature: None,
            citations: Vec::new(),
            logprobs: String::new(),
            mean: Mean::default(),
            refused: false,
            usage: Usage::default(),
            tail: Vec::new(),
        }
    }

    fn frame(&mut self, out: &mut Vec<u8>, fill: impl FnOnce(&mut Obj<'_>)) {
        self.begin_frame(out);
        compose::obj(out, fill);
        self.end_frame(out);
    }

    fn begin_frame(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(match (self.array, self.begun) {
            (true, false) => b"[",
            (true, true) => b",\r\n",
            (false, _) => b"data: ",
        });
        self.begun = true;
    }

    fn end_frame(&self, out: &mut Vec<u8>) {
        if !self.array {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }

    /// A chunk with a text and nothing else, as most are.
    fn text(&mut self, out: &mut Vec<u8>, text: &str) {
        if self.tail.is_empty() {
            self.tail = self.rendered_tail();
        }
        let tail = std::mem::take(&mut self.tail);
        self.begin_frame(out);
        out.extend_from_slice(b"{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"");
        compose::put_escaped(out, text);
        out.extend_from_slice(b"\"}],\"role\":\"model\"},\"index\":0}]");
        out.extend_from_slice(&tail);
        self.end_frame(out);
        self.tail = tail;
    }

    /// The members with which every chunk ends before the last: usage so far, model and id.
    fn rendered_tail(&self) -> Vec<u8> {
        let mut tail = Vec::new();
        compose::obj(&mut tail, |o| {
            if !self.usage.is_empty() {
                put_usage(o, &self.usage);
            }
            o.str("modelVersion", &self.model);
            o.str("responseId", &self.id);
        });
        if let Some(brace) = tail.first_mut() {
            *brace = b',';
        }
        tail
    }

    fn chunk(&mut self, out: &mut Vec<u8>, finish: Option<(&str, Option<&str>)>, parts: impl FnOnce(&mut Arr<'_>)) {
        let (id, model) = (std::mem::take(&mut self.id), std::mem::take(&mut self.model));
        let citations = if finish.is_some() { std::mem::take(&mut self.citations) } else { Vec::new() };
        let (usage, tokens, mean) = (self.usage, std::mem::take(&mut self.logprobs), self.mean);
        self.frame(out, |o| {
            o.arr("candidates", |a| {
                a.obj(|o| {
                    o.obj("content", |o| {
                        o.arr("parts", parts);
                        o.word("role", "model");
                    });
                    o.int("index", 0);
                    if let Some((word, message)) = finish {
                        o.str("finishReason", word);
                        o.some_str("finishMessage", message);
                        mean.put(o);
                    }
                    put_citations(o, &citations);
                    logprobs::put_gemini(o, &tokens);
                });
            });
            if finish.is_some() || !usage.is_empty() {
                put_usage(o, &usage);
            }
            o.str("modelVersion", &model);
            o.str("responseId", &id);
        });
        (self.id, self.model) = (id, model);
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) if self.kind == Some(BlockStart::Thinking) => {
                self.thought.push_str(&text);
                self.chunk(out, None, |a| {
                    a.obj(|o| {
                        o.str("text", &text);
                        o.bool("thought", true);
                    });
                });
            }
            Delta::Text(text) if self.signature.is_none() && self.logprobs.is_empty() => self.text(out, &text),
            Delta::Text(text) => {
                let signature = self.signature.take();
                self.chunk(out, None, |a| {
                    a.obj(|o| {
                        o.str("text", &text);
                        o.some_str("thoughtSignature", signature.as_deref());
                    });
                });
            }
            Delta::Arguments(text) => self.arguments.push_str(&text),
            Delta::Token(token) => self.token = Some(token.into_owned()),
            Delta::Citation(citation) => self.citations.push(citation.into_owned()),
            Delta::Logprobs(tokens) => {
                self.mean.take(&tokens);
                logprobs::join(&mut self.logprobs, &tokens);
            }
        }
    }

    fn stop_block(&mut self, out: &mut Vec<u8>) {
        let thought = std::mem::take(&mut self.thought);
        match self.kind.take() {
            Some(BlockStart::ToolCall { id, name, custom }) => {
                let arguments = std::mem::take(&mut self.arguments);
                let signature = self.signature.take();
                self.chunk(out, None, |a| put_call(a, (&id, &name, &arguments, custom), signature.as_deref()));
            }
            Some(BlockStart::Thinking) => {
                if let Some(token) = self.token.take() {
                    // A part carries one.
                    if self.signature.is_some() {
                        self.delta(Delta::Text(Cow::Borrowed("")), out);
                    }
                    self.signature = carried(&token, &thought, &self.context.model);
                }
            }
            Some(BlockStart::Text | BlockStart::Refusal) | None => {}
        }
    }
}

impl ReplyEncoder for Encoder {
    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, created: _ } => {
                (self.id, self.model) = (id.into_owned(), model.into_owned());
                self.tail.clear();
            }
            Event::BlockStart(start) => {
                self.refused |= start == BlockStart::Refusal;
                self.kind = Some(start.into_owned());
            }
            Event::Delta(delta) => self.delta(delta, out),
            Event::BlockStop => self.stop_block(out),
            Event::Usage(usage) => {
                self.usage.update(&usage);
                self.tail.clear();
            }
            Event::Finish(finish) => {
                let word = finish_word(finish.reason, self.refused);
                let message = finish.detail.filter(|_| word != "STOP");
                let signature = self.signature.take();
                self.chunk(out, Some((word, message.as_deref())), |a| {
                    a.obj(|o| {
                        o.word("text", "");
                        o.some_str("thoughtSignature", signature.as_deref());
                    });
                });
            }
            Event::End => {
                if self.array {
                    out.extend_from_slice(b"]");
                }
            }
            Event::Error(error) => {
                self.frame(out, |o| super::failure::put(o, &error));
                if self.array {
                    out.extend_from_slice(b"]");
                }
            }
            Event::Lost(_) => {}
        }
    }
}

/// Writes a whole reply.
pub(crate) fn whole(reply: &Collected, context: &Context) -> Vec<u8> {
    let mut out = Vec::new();
    let word = finish_word(reply.finish.unwrap_or(FinishReason::Unknown), reply.has_refusal());
    let (mut cited, tokens, mut mean) = (Vec::new(), reply.logprobs(), Mean::default());
    mean.take(&tokens);
    compose::obj(&mut out, |o| {
        o.arr("candidates", |a| {
            a.obj(|o| {
                o.obj("content", |o| {
                    o.arr("parts", |a| put_parts(a, reply, context, &mut cited));
                    o.word("role", "model");
                });
                o.int("index", 0);
                o.str("finishReason", word);
                o.some_str("finishMessage", reply.detail.as_deref().filter(|_| word != "STOP"));
                put_citations(o, &cited);
                mean.put(o);
                logprobs::put_gemini(o, &tokens);
            });
        });
        put_usage(o, &reply.usage);
        o.str("modelVersion", &reply.model);
        o.str("responseId", &reply.id);
    });
    out
}

fn put_parts(a: &mut Arr<'_>, reply: &Collected, context: &Context, cited: &mut Vec<Citation<'static>>) {
    let mut signature: Option<String> = None;
    for part in &reply.parts {
        match part {
            Part::Thinking { text, token } => {
                if !text.is_empty() {
                    a.obj(|o| {
                        o.str("text", text);
                        o.bool("thought", true);
                    });
                }
                if let Some(token) = token {
                    // A part carries one.
                    if signature.is_some() {
                        put_text(a, "", signature.take());
                    }
                    signature = carried(token, text, &context.model);
                }
            }
            Part::Text { text, citations, logprobs: _ } => {
                cited.extend(citations.iter().cloned());
                put_text(a, text, signature.take());
            }
            Part::Refusal(text) => put_text(a, text, signature.take()),
            Part::Call { id, name, arguments, custom } => {
                put_call(a, (id, name, arguments, *custom), signature.take().as_deref());
            }
        }
    }
    if signature.is_some() {
        put_text(a, "", signature);
    }
}

fn put_text(a: &mut Arr<'_>, text: &str, signature: Option<String>) {
    a.obj(|o| {
        o.str("text", text);
        o.some_str("thoughtSignature", signature.as_deref());
    });
}
