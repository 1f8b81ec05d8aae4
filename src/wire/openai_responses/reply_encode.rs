//! Writes Responses replies, streamed and whole.
//!
//! Keeps the whole reply as it goes, since the stream's end repeats it.

use super::reply_parts::{Group, group_at, put_item, put_part, put_response};
use crate::wire::{
    collect::{Collected, Part},
    compose::{self, Obj},
    logprobs,
    openai_chat::failure,
    reply::{BlockStart, Delta, Event, FinishReason, ReplyEncoder, ReplyError},
    translate::Context,
};
use std::sync::Arc;

/// Writes a stream.
pub(crate) struct Encoder {
    context: Arc<Context>,
    reply: Collected,
    sequence: u64,
    /// How many items are finished, and where among the reply's parts the open one begins.
    item: u64,
    item_from: usize,
    is_open: bool,
    /// The id of the open item.
    id: String,
    /// Citations of the open text part so far.
    cited: u64,
    summarised: bool,
    /// The log probabilities of the text that comes next.
    logprobs: String,
}

impl Encoder {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Encoder {
            context: Arc::clone(context),
            reply: Collected::default(),
            sequence: 0,
            item: 0,
            item_from: 0,
            is_open: false,
            id: String::new(),
            cited: 0,
            summarised: false,
            logprobs: String::new(),
        }
    }

    fn put(&mut self, out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Obj<'_>)) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        compose::obj(out, |o| {
            o.str("type", name);
            o.int("sequence_number", self.sequence);
            fill(o);
        });
        out.extend_from_slice(b"\n\n");
        self.sequence += 1;
    }

    /// An event inside the open item.
    fn put_in_item(&mut self, out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Obj<'_>)) {
        let (id, item) = (std::mem::take(&mut self.id), self.item);
        self.put(out, name, |o| {
            o.str("item_id", &id);
            o.int("output_index", item);
            fill(o);
        });
        self.id = id;
    }

    /// A text's delta, which is what a stream consists of for the most part.
    fn put_text(&mut self, out: &mut Vec<u8>, index: u64, text: &str) {
        const NAME: &[u8] = b"response.output_text.delta";
        compose::put_all(out, &[b"event: ", NAME, b"\ndata: {\"type\":\"", NAME, b"\",\"sequence_number\":"]);
        compose::put_int(out, self.sequence);
        out.extend_from_slice(b",\"item_id\":");
        compose::put_str(out, &self.id);
        out.extend_from_slice(b",\"output_index\":");
        compose::put_int(out, self.item);
        out.extend_from_slice(b",\"content_index\":");
        compose::put_int(out, index);
        out.extend_from_slice(b",\"delta\":");
        compose::put_str(out, text);
        out.extend_from_slice(b",\"logprobs\":");
        logprobs::put_list(out, &self.logprobs);
        self.logprobs.clear();
        out.extend_from_slice(b"}\n\n");
        self.sequence += 1;
    }

    fn put_whole(&mut self, out: &mut Vec<u8>, name: &str, status: &str) {
        let (reply, context) = (std::mem::take(&mut self.reply), Arc::clone(&self.context));
        self.put(out, name, |o| o.obj("response", |o| put_response(o, &reply, &context, status)));
        self.reply = reply;
    }

    fn content_index(&self) -> u64 {
        (self.reply.parts.len().saturating_sub(1).saturating_sub(self.item_from)) as u64
    }

    fn start_block(&mut self, start: &BlockStart<'_>, out: &mut Vec<u8>) {
        let joins = self.is_open && matches!(start, BlockStart::Text | BlockStart::Refusal);
        let at = self.reply.parts.len().saturating_sub(1);
        if !joins || group_at(&self.reply.parts, self.item_from).kind() != "msg" {
            // The part is already among the reply's, so the open item ends before it.
            self.close_item(at, out);
            self.open_item(at, out);
        }
        self.cited = 0;
        self.summarised = false;
        if matches!(start, BlockStart::Text | BlockStart::Refusal) {
            let index = self.content_index();
            let empty = match start {
                BlockStart::Refusal => Part::Refusal(String::new()),
                BlockStart::Text | BlockStart::Thinking | BlockStart::ToolCall { .. } => Part::empty_text(),
            };
            self.put_in_item(out, "response.content_part.added", |o| {
                o.int("content_index", index);
                o.obj("part", |o| put_part(o, &empty));
            });
        }
    }

    fn open_item(&mut self, at: usize, out: &mut Vec<u8>) {
        self.item_from = at;
        self.is_open = true;
        let (item, context) = (self.item, Arc::clone(&self.context));
        let reply = std::mem::take(&mut self.reply);
        let group = Group::opening(&reply.parts, at);
        self.id = group.id(&reply.id, item);
        self.put(out, "response.output_item.added", |o| {
            o.int("output_index", item);
            o.obj("item", |o| put_item(o, &group, &reply.id, item, &context));
        });
        self.reply = reply;
    }

    /// Ends the open item, whose parts reach up to `to`.
    fn close_item(&mut self, to: usize, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        let (item, context) = (self.item, Arc::clone(&self.context));
        let reply = std::mem::take(&mut self.reply);
        let parts = reply.parts.get(..to).unwrap_or(&reply.parts);
        let group = group_at(parts, self.item_from);
        self.put(out, "response.output_item.done", |o| {
            o.int("output_index", item);
            o.obj("item", |o| put_item(o, &group, &reply.id, item, &context));
        });
        self.reply = reply;
        self.item += 1;
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let index = self.content_index();
        match (delta, self.reply.parts.last()) {
            (Delta::Text(text), Some(Part::Thinking { .. })) => {
                if !std::mem::replace(&mut self.summarised, true) {
                    self.put_in_item(out, "response.reasoning_summary_part.added", |o| {
                        o.int("summary_index", 0);
                        o.obj("part", |o| put_summary(o, ""));
                    });
                }
                self.put_in_item(out, "response.reasoning_summary_text.delta", |o| {
                    o.int("summary_index", 0);
                    o.str("delta", text);
                });
            }
            (Delta::Text(text), Some(Part::Refusal(_))) => self.put_in_item(out, "response.refusal.delta", |o| {
                o.int("content_index", index);
                o.str("delta", text);
            }),
            (Delta::Text(text), _) => self.put_text(out, index, text),
            (Delta::Arguments(text), Some(Part::Call { custom: true, .. })) => {
                self.put_in_item(out, "response.custom_tool_call_input.delta", |o| o.str("delta", text));
            }
            (Delta::Arguments(text), _) => {
                self.put_in_item(out, "response.function_call_arguments.delta", |o| o.str("delta", text));
            }
            (Delta::Citation(citation), _) => {
                let number = self.cited;
                self.cited += 1;
                self.put_in_item(out, "response.output_text.annotation.added", |o| {
                    o.int("content_index", index);
                    o.int("annotation_index", number);
                    o.obj("annotation", |o| super::reply_parts::put_citation(o, citation));
                });
            }
            (Delta::Logprobs(tokens), _) => logprobs::join(&mut self.logprobs, tokens),
            (Delta::Token(_), _) => {}
        }
    }

    fn stop_block(&mut self, out: &mut Vec<u8>) {
        let index = self.content_index();
        let Some(part) = self.reply.parts.pop() else { return };
        match &part {
            Part::Text { text, logprobs, .. } => {
                if !self.logprobs.is_empty() {
                    self.put_text(out, index, "");
                }
                self.put_in_item(out, "response.output_text.done", |o| {
                    o.int("content_index", index);
                    o.str("text", text);
                    logprobs::put_list(o.key("logprobs"), logprobs);
                });
                self.part_done(out, index, &part);
            }
            Part::Refusal(text) => {
                self.put_in_item(out, "response.refusal.done", |o| {
                    o.int("content_index", index);
                    o.str("refusal", text);
                });
                self.part_done(out, index, &part);
            }
            Part::Thinking { text, .. } if self.summarised => {
                self.put_in_item(out, "response.reasoning_summary_text.done", |o| {
                    o.int("summary_index", 0);
                    o.str("text", text);
                });
                self.put_in_item(out, "response.reasoning_summary_part.done", |o| {
                    o.int("summary_index", 0);
                    o.obj("part", |o| put_summary(o, text));
                });
            }
            Part::Thinking { .. } => {}
            Part::Call { arguments, custom: true, .. } => {
                self.put_in_item(out, "response.custom_tool_call_input.done", |o| o.str("input", arguments));
            }
            Part::Call { arguments, name, .. } => {
                self.put_in_item(out, "response.function_call_arguments.done", |o| {
                    o.str("name", name);
                    o.str("arguments", arguments);
                });
            }
        }
        let is_message = matches!(part, Part::Text { .. } | Part::Refusal(_));
        self.reply.parts.push(part);
        if !is_message {
            self.close_item(self.reply.parts.len(), out);
        }
    }

    fn part_done(&mut self, out: &mut Vec<u8>, index: u64, part: &Part) {
        self.put_in_item(out, "response.content_part.done", |o| {
            o.int("content_index", index);
            o.obj("part", |o| put_part(o, part));
        });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close_item(self.reply.parts.len(), out);
        let status = status(&self.reply);
        let name = match status {
            "incomplete" => "response.incomplete",
            "failed" => "response.failed",
            _ => "response.completed",
        };
        self.put_whole(out, name, status);
    }

    fn error(&mut self, error: &ReplyError, out: &mut Vec<u8>) {
        if self.sequence == 0 {
            self.put_whole(out, "response.created", "in_progress");
        }
        self.close_item(self.reply.parts.len(), out);
        self.put(out, "error", |o| {
            o.str("code", failure::code(error).unwrap_or("server_error"));
            o.str("message", &error.message);
            o.null("param");
        });
        self.reply.error = Some(error.clone());
        self.put_whole(out, "response.failed", "failed");
    }
}

fn put_summary(o: &mut Obj<'_>, text: &str) {
    o.word("type", "summary_text");
    o.str("text", text);
}

/// The status in which a finished reply ends.
pub(crate) fn status(reply: &Collected) -> &'static str {
    match reply.finish {
        Some(FinishReason::Length | FinishReason::ContextFull | FinishReason::Pause | FinishReason::Refusal) => {
            "incomplete"
        }
        Some(FinishReason::Failed) => "failed",
        Some(
            FinishReason::Stop
            | FinishReason::StopSequence
            | FinishReason::ToolCalls
            | FinishReason::BrokenCall
            | FinishReason::Unknown,
        )
        | None => "completed",
    }
}

impl ReplyEncoder for Encoder {
    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { .. } => {
                self.reply.take(event);
                self.put_whole(out, "response.created", "in_progress");
                self.put_whole(out, "response.in_progress", "in_progress");
            }
            Event::BlockStart(start) => {
                self.reply.take(Event::BlockStart(start.clone()));
                self.start_block(&start, out);
            }
            Event::Delta(delta) => {
                self.delta(&delta, out);
                self.reply.take(Event::Delta(delta));
            }
            Event::BlockStop => self.stop_block(out),
            Event::Usage(_) | Event::Finish(_) => {
                self.reply.take(event);
            }
            Event::End => self.end(out),
            Event::Error(error) => self.error(&error, out),
            Event::Lost(_) => {}
        }
    }
}

/// Writes a whole reply.
pub(crate) fn whole(reply: &Collected, context: &Context) -> Vec<u8> {
    let mut out = Vec::new();
    compose::obj(&mut out, |o| put_response(o, reply, context, status(reply)));
    out
}
