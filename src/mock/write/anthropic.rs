//! Writes Messages: one object, or the named events that build it block by block.

use super::{Event, Part, Shape};
use crate::mock::{
    answer::{Answer, Call, Finish, pieces},
    ask::{Ask, Thinking},
    json::{self, Object},
    seal,
};

/// A content block of the answer.
enum Block<'a> {
    Thinking { text: &'a str, signature: String },
    Text(&'a str),
    Call(&'a Call),
}

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    shape: Shape,
    events: Vec<Event>,
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCall => "tool_use",
        Finish::Refusal => "refusal",
    }
}

fn blocks<'a>(ask: &Ask, answer: &'a Answer) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    if let Some(thinking) = answer.thinking.as_deref() {
        // Hidden thinking comes as a signature alone.
        let signature = seal::signature(thinking);
        blocks.push(match ask.thinking {
            Thinking::Hidden => Block::Thinking { text: "", signature: format!("omit{signature}") },
            Thinking::Shown | Thinking::Off => Block::Thinking { text: thinking, signature },
        });
    }
    if !answer.text.is_empty() {
        blocks.push(Block::Text(&answer.text));
    }
    blocks.extend(answer.calls.iter().map(Block::Call));
    blocks
}

impl Block<'_> {
    fn whole(&self, o: &mut Object) {
        match self {
            Block::Thinking { text, signature } => {
                o.text("type", "thinking").text("thinking", text).text("signature", signature)
            }
            Block::Text(text) => o.text("type", "text").text("text", text),
            Block::Call(call) => {
                o.text("type", "tool_use").text("id", &call.id).text("name", &call.name).raw("input", &call.object())
            }
        };
    }

    /// The block as it starts, before its deltas.
    fn start(&self, o: &mut Object) {
        match self {
            Block::Thinking { .. } => o.text("type", "thinking").text("thinking", "").text("signature", ""),
            Block::Text(_) => o.text("type", "text").text("text", ""),
            Block::Call(call) => {
                o.text("type", "tool_use").text("id", &call.id).text("name", &call.name).raw("input", "{}")
            }
        };
    }
}

impl Writer<'_> {
    fn emit(&mut self, name: &'static str, part: Part, write: impl FnOnce(&mut Object)) {
        let data = json::object(|o| {
            o.text("type", name);
            write(o);
        });
        self.events.push(Event { name: Some(name), data, part });
    }

    fn delta(&mut self, index: u64, kind: &str, field: &str, text: &str) {
        self.emit("content_block_delta", Part::Content, |o| {
            o.number("index", index).object("delta", |d| {
                d.text("type", kind).text(field, text);
            });
        });
    }

    fn block(&mut self, index: u64, block: &Block) {
        self.emit("content_block_start", Part::Content, |o| {
            o.number("index", index).object("content_block", |b| block.start(b));
        });
        if index == 0 {
            self.emit("ping", Part::Content, |_| {});
        }
        match block {
            Block::Thinking { text, signature } => {
                for piece in pieces(text, 9) {
                    self.delta(index, "thinking_delta", "thinking", piece);
                }
                self.delta(index, "signature_delta", "signature", signature);
            }
            Block::Text(text) => {
                for piece in pieces(text, self.answer.piece) {
                    self.delta(index, "text_delta", "text", piece);
                }
            }
            Block::Call(call) => {
                self.delta(index, "input_json_delta", "partial_json", "");
                let input = call.object();
                for piece in pieces(&input, 6).filter(|_| input != "{}") {
                    self.delta(index, "input_json_delta", "partial_json", piece);
                }
            }
        }
        self.emit("content_block_stop", Part::Content, |o| {
            o.number("index", index);
        });
    }

    /// The counts of the input side, which Anthropic tells without the cached part.
    fn input_counts(&self, o: &mut Object) {
        let usage = &self.answer.usage;
        o.number("input_tokens", usage.input.saturating_sub(usage.cached + usage.cache_write));
        o.number("cache_creation_input_tokens", usage.cache_write).number("cache_read_input_tokens", usage.cached);
    }

    fn usage(&self, output: u64) -> String {
        if !self.shape.usage {
            return r#"{"input_tokens":0,"output_tokens":0}"#.to_owned();
        }
        let written = self.answer.usage.cache_write;
        let hour = written > 0 && self.ask.body.to_string().contains(r#""ttl":"1h""#);
        let (five_minutes, one_hour) = if hour { (0, written) } else { (written, 0) };
        json::object(|o| {
            self.input_counts(o);
            o.object("cache_creation", |c| {
                c.number("ephemeral_5m_input_tokens", five_minutes).number("ephemeral_1h_input_tokens", one_hour);
            });
            o.number("output_tokens", output).text("service_tier", "standard");
        })
    }

    fn message(&self, content: &str, stop: Option<&str>, usage: &str) -> String {
        let id = seal::id(&[&self.answer.text, &self.ask.turns.len().to_string(), &self.ask.model], 20);
        let sequence = self.answer.stopped_by.as_deref().filter(|_| stop.is_some());
        json::object(|o| {
            o.text("model", &self.ask.model).text("id", &format!("msg_01{id}")).text("type", "message");
            o.text("role", "assistant").raw("content", content).text_or_null("stop_reason", stop);
            o.text_or_null("stop_sequence", sequence).raw("usage", usage);
        })
    }

    fn stop(&self) -> Option<&'static str> {
        self.shape.finish.then(|| stop_reason(self.answer.finish))
    }
}

/// The whole answer.
pub(super) fn whole(ask: &Ask, answer: &Answer, shape: Shape) -> String {
    let writer = Writer { ask, answer, shape, events: Vec::new() };
    let content = json::list(|l| {
        for block in blocks(ask, answer) {
            l.object(|o| block.whole(o));
        }
    });
    writer.message(&content, writer.stop(), &writer.usage(answer.usage.output))
}

/// The answer as events.
pub(super) fn events(ask: &Ask, answer: &Answer, shape: Shape) -> Vec<Event> {
    let mut writer = Writer { ask, answer, shape, events: Vec::new() };
    let message = writer.message("[]", None, &writer.usage(answer.usage.output.min(1)));
    writer.emit("message_start", Part::Preamble, |o| {
        o.raw("message", &message);
    });
    for (index, block) in blocks(ask, answer).iter().enumerate() {
        writer.block(index as u64, block);
    }
    let stop = writer.stop();
    let usage = json::object(|o| {
        if shape.usage {
            writer.input_counts(o);
        }
        o.number("output_tokens", if shape.usage { answer.usage.output } else { 0 });
    });
    writer.emit("message_delta", Part::Finish, |o| {
        o.object("delta", |d| {
            d.text_or_null("stop_reason", stop).text_or_null("stop_sequence", answer.stopped_by.as_deref());
        });
        o.raw("usage", &usage);
    });
    writer.emit("message_stop", Part::End, |_| {});
    writer.events
}
