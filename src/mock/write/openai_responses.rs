//! Writes Responses: one object, or the named and numbered events that build it.

use super::{CREATED, Event, Part, Shape};
use crate::mock::{
    answer::{Answer, Call, Finish, pieces},
    ask::{Ask, Role, Thinking},
    json::{self, Object},
    refusal::Refusal,
    seal,
};
use serde_json::Value;

/// What changes between the snapshots of one response; JSON texts.
struct Snapshot<'a> {
    status: &'a str,
    output: &'a str,
    usage: &'a str,
    error: &'a str,
    incomplete: &'a str,
}

const STARTED: Snapshot =
    Snapshot { status: "in_progress", output: "[]", usage: "null", error: "null", incomplete: "null" };

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    shape: Shape,
    /// The hexadecimal digits that all ids of this answer are made of.
    id: String,
    events: Vec<Event>,
    sequence: u64,
    /// The finished items.
    output: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(ask: &'a Ask, answer: &'a Answer, shape: Shape) -> Self {
        let calls: String = answer.calls.iter().map(|call| call.id.as_str()).collect();
        let id = seal::id(&[&answer.text, &calls, &ask.turns.len().to_string(), &ask.model], 40);
        Writer { ask, answer, shape, id, events: Vec::new(), sequence: 0, output: Vec::new() }
    }

    fn item_id(&self, prefix: &str, suffix: &str) -> String {
        format!("{prefix}_{}{suffix}", self.id.get(..20).unwrap_or_default())
    }

    fn emit(&mut self, name: &'static str, part: Part, write: impl FnOnce(&mut Object)) {
        let data = json::object(|o| {
            o.text("type", name).number("sequence_number", self.sequence);
            write(o);
        });
        self.sequence += 1;
        self.events.push(Event { name: Some(name), data, part });
    }

    /// An event of an item: its id and place, then its own fields.
    fn of_item(&mut self, name: &'static str, id: &str, write: impl FnOnce(&mut Object)) {
        let at = self.output.len() as u64;
        self.emit(name, Part::Content, |o| {
            o.text("item_id", id).number("output_index", at);
            write(o);
        });
    }

    fn added(&mut self, item: &str) {
        let at = self.output.len() as u64;
        self.emit("response.output_item.added", Part::Content, |o| {
            o.number("output_index", at).raw("item", item);
        });
    }

    fn done(&mut self, item: String) {
        let at = self.output.len() as u64;
        self.emit("response.output_item.done", Part::Content, |o| {
            o.number("output_index", at).raw("item", &item);
        });
        self.output.push(item);
    }

    fn response(&self, now: &Snapshot) -> String {
        let body = &self.ask.body;
        let echo = |name: &str, default: &str| {
            body.get(name).filter(|v| !v.is_null()).map_or(default.to_owned(), Value::to_string)
        };
        let inner = |name: &str, field: &str, default: &str| {
            body.get(name)
                .and_then(|v| v.get(field))
                .filter(|v| !v.is_null())
                .map_or(default.to_owned(), Value::to_string)
        };
        json::object(|o| {
            o.text("id", &format!("resp_{}", self.id)).text("object", "response").number("created_at", CREATED);
            o.text("status", now.status).flag("background", false).raw("error", now.error);
            o.raw("incomplete_details", now.incomplete).raw("instructions", &echo("instructions", "null"));
            o.raw("max_output_tokens", &echo("max_output_tokens", "null")).null("max_tool_calls");
            o.text("model", &self.ask.model).raw("output", now.output).flag("parallel_tool_calls", self.ask.parallel);
            o.raw("previous_response_id", &echo("previous_response_id", "null"));
            o.raw("prompt_cache_key", &echo("prompt_cache_key", "null"));
            o.object("reasoning", |r| {
                r.raw("effort", &inner("reasoning", "effort", "null"))
                    .raw("summary", &inner("reasoning", "summary", "null"));
            });
            o.raw("safety_identifier", &echo("safety_identifier", "null")).text("service_tier", "default");
            o.raw("store", &echo("store", "true")).raw("temperature", &echo("temperature", "1.0"));
            o.object("text", |t| {
                t.raw("format", &inner("text", "format", r#"{"type":"text"}"#));
                t.raw("verbosity", &inner("text", "verbosity", "\"medium\""));
            });
            o.raw("tool_choice", &echo("tool_choice", "\"auto\"")).raw("tools", &echo("tools", "[]"));
            o.number("top_logprobs", 0).raw("top_p", &echo("top_p", "1.0")).text("truncation", "disabled");
            o.raw("usage", now.usage).raw("user", &echo("user", "null")).raw("metadata", &echo("metadata", "{}"));
        })
    }

    fn reasoning(&mut self, thinking: &str) {
        let id = self.item_id("rs", "");
        let sealed = self.ask.encrypted.then(|| seal::encrypted(&self.id, &self.ask.key));
        let item = |summary: &str| {
            json::object(|o| {
                o.text("id", &id).text("type", "reasoning").raw("summary", summary);
                if let Some(token) = &sealed {
                    o.text("encrypted_content", token);
                }
            })
        };
        self.added(&item("[]"));
        if self.ask.thinking != Thinking::Shown {
            return self.done(item("[]"));
        }
        let summary = |text: &str| {
            json::object(|o| {
                o.text("type", "summary_text").text("text", text);
            })
        };
        self.of_item("response.reasoning_summary_part.added", &id, |o| {
            o.number("summary_index", 0).raw("part", &summary(""));
        });
        for piece in pieces(thinking, 9) {
            self.of_item("response.reasoning_summary_text.delta", &id, |o| {
                o.number("summary_index", 0).text("delta", piece).text("obfuscation", "xy");
            });
        }
        self.of_item("response.reasoning_summary_text.done", &id, |o| {
            o.number("summary_index", 0).text("text", thinking);
        });
        self.of_item("response.reasoning_summary_part.done", &id, |o| {
            o.number("summary_index", 0).raw("part", &summary(thinking));
        });
        self.done(item(&format!("[{}]", summary(thinking))));
    }

    fn message(&mut self) {
        let id = self.item_id("msg", "");
        let item = |status: &str, content: &str| {
            json::object(|o| {
                o.text("id", &id).text("type", "message").text("status", status).raw("content", content);
                o.text("role", "assistant");
            })
        };
        self.added(&item("in_progress", "[]"));
        let refused = self.answer.finish == Finish::Refusal;
        let part = |text: &str| {
            json::object(|o| {
                if refused {
                    o.text("type", "refusal").text("refusal", text);
                } else {
                    o.text("type", "output_text").raw("annotations", "[]").raw("logprobs", "[]").text("text", text);
                }
            })
        };
        self.of_item("response.content_part.added", &id, |o| {
            o.number("content_index", 0).raw("part", &part(""));
        });
        let answer = self.answer;
        let text = if refused { "I can't help with that." } else { &answer.text };
        if refused {
            self.refusal(&id, text);
        } else {
            self.text(&id, text);
        }
        self.of_item("response.content_part.done", &id, |o| {
            o.number("content_index", 0).raw("part", &part(text));
        });
        self.done(item(self.status(), &format!("[{}]", part(text))));
    }

    fn text(&mut self, id: &str, text: &str) {
        for piece in pieces(text, self.answer.piece) {
            self.of_item("response.output_text.delta", id, |o| {
                o.number("content_index", 0).text("delta", piece).raw("logprobs", "[]").text("obfuscation", "abc");
            });
        }
        self.of_item("response.output_text.done", id, |o| {
            o.number("content_index", 0).text("text", text).raw("logprobs", "[]");
        });
    }

    fn refusal(&mut self, id: &str, text: &str) {
        self.of_item("response.refusal.delta", id, |o| {
            o.number("content_index", 0).text("delta", text);
        });
        self.of_item("response.refusal.done", id, |o| {
            o.number("content_index", 0).text("refusal", text);
        });
    }

    fn call(&mut self, k: usize, call: &Call) {
        let (kind, field, prefix) = match call.custom {
            true => ("custom_tool_call", "input", "ctc"),
            false => ("function_call", "arguments", "fc"),
        };
        let (delta, done) = match call.custom {
            true => ("response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"),
            false => ("response.function_call_arguments.delta", "response.function_call_arguments.done"),
        };
        let id = self.item_id(prefix, &k.to_string());
        let item = |status: &str, input: &str| {
            json::object(|o| {
                o.text("id", &id).text("type", kind).text("status", status).text(field, input);
                o.text("call_id", &call.id).text("name", &call.name);
            })
        };
        self.added(&item("in_progress", ""));
        for piece in pieces(&call.input, 6) {
            self.of_item(delta, &id, |o| {
                o.text("delta", piece).text("obfuscation", "q");
            });
        }
        self.of_item(done, &id, |o| {
            o.text(field, &call.input);
            if !call.custom {
                o.text("name", &call.name);
            }
        });
        self.done(item("completed", &call.input));
    }

    fn status(&self) -> &'static str {
        if self.answer.finish == Finish::Length { "incomplete" } else { "completed" }
    }

    /// Writes every item, as events and into `output`.
    fn items(&mut self) {
        let answer = self.answer;
        if let Some(thinking) = &answer.thinking {
            self.reasoning(thinking);
        }
        if !answer.text.is_empty() || answer.calls.is_empty() {
            self.message();
        }
        for (k, call) in answer.calls.iter().enumerate() {
            self.call(k, call);
        }
    }

    fn finished(&self) -> String {
        let output = format!("[{}]", self.output.join(","));
        let usage = if self.shape.usage { usage(self.answer) } else { "null".to_owned() };
        let cut = self.answer.finish == Finish::Length;
        let incomplete = if cut { r#"{"reason":"max_output_tokens"}"# } else { "null" };
        self.response(&Snapshot { status: self.status(), output: &output, usage: &usage, incomplete, ..STARTED })
    }
}

fn usage(answer: &Answer) -> String {
    let usage = &answer.usage;
    json::object(|o| {
        o.number("input_tokens", usage.input).object("input_tokens_details", |d| {
            d.number("cached_tokens", usage.cached);
        });
        o.number("output_tokens", usage.output).object("output_tokens_details", |d| {
            d.number("reasoning_tokens", usage.reasoning);
        });
        o.number("total_tokens", usage.input + usage.output);
    })
}

/// The whole answer.
pub(super) fn whole(ask: &Ask, answer: &Answer, shape: Shape) -> String {
    let mut writer = Writer::new(ask, answer, shape);
    writer.items();
    writer.finished()
}

/// The answer as events.
pub(super) fn events(ask: &Ask, answer: &Answer, shape: Shape) -> Vec<Event> {
    let mut writer = Writer::new(ask, answer, shape);
    let started = writer.response(&STARTED);
    for name in ["response.created", "response.in_progress"] {
        writer.emit(name, Part::Preamble, |o| {
            o.raw("response", &started);
        });
    }
    writer.items();
    let finished = writer.finished();
    let name = if answer.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
    writer.emit(name, Part::End, |o| {
        o.raw("response", &finished);
    });
    writer.events
}

/// The two events that tell of a failure, numbered from `sequence`.
pub(super) fn failure(ask: &Ask, answer: &Answer, failure: &Refusal, sequence: u64) -> Vec<Event> {
    let mut writer = Writer { sequence, ..Writer::new(ask, answer, Shape::of(None)) };
    let code = failure.code.unwrap_or("server_error");
    writer.emit("error", Part::Error, |o| {
        o.text("code", code).text("message", &failure.message).null("param");
    });
    let error = json::object(|o| {
        o.text("code", code).text("message", &failure.message);
    });
    let failed = writer.response(&Snapshot { status: "failed", error: &error, ..STARTED });
    writer.emit("response.failed", Part::Error, |o| {
        o.raw("response", &failed);
    });
    writer.events
}

/// The id of the answer, and its items as the API would store them.
pub(in crate::mock) fn stored(ask: &Ask, answer: &Answer) -> (String, Vec<Value>) {
    let mut writer = Writer::new(ask, answer, Shape::of(None));
    writer.items();
    let items = writer.output.iter().filter_map(|item| serde_json::from_str(item).ok()).collect();
    (format!("resp_{}", writer.id), items)
}

/// The reply of `/v1/responses/compact`: what the user said, and the rest sealed.
pub(in crate::mock) fn compacted(ask: &Ask, answer: &Answer) -> String {
    let writer = Writer::new(ask, answer, Shape::of(None));
    let words = ask.turns.iter().filter(|turn| turn.role == Role::User && !turn.texts.is_empty());
    json::object(|o| {
        o.text("id", &format!("resp_{}", writer.id))
            .text("object", "response.compaction")
            .number("created_at", CREATED);
        o.list("output", |l| {
            for (n, turn) in words.enumerate() {
                l.object(|m| {
                    m.text("id", &writer.item_id("msg", &n.to_string())).text("type", "message");
                    m.text("status", "completed").text("role", "user").list("content", |c| {
                        c.object(|p| _ = p.text("type", "input_text").text("text", &turn.text()));
                    });
                });
            }
            l.object(|c| {
                c.text("id", &writer.item_id("cmp", "")).text("type", "compaction");
                c.text("encrypted_content", &seal::encrypted(&writer.id, &ask.key));
            });
        });
        o.raw("usage", &usage(answer));
    })
}
