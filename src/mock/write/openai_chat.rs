//! Writes Chat Completions: one object, or chunks that end in `[DONE]`.
//!
//! The vendors that only imitate OpenAI show their reasoning each in their own way, so the model's name chooses one:
//! `orouter` (`reasoning` and `reasoning_details`), `thinktag` (inside the text), any other compatible model
//! (`reasoning_content`).

use super::{CREATED, Event, Part, Shape};
use crate::mock::{
    answer::{Answer, Call, Finish, Tokens, pieces},
    ask::{Ask, Thinking},
    json::{self, Object},
    seal,
};

const SAFE: &str = r#"{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}"#;

/// How a model shows its reasoning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Content,
    Details,
    Tag,
}

/// What every chunk of one answer shares.
struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    shape: Shape,
    id: String,
    manner: Manner,
    /// The reasoning that shows.
    shown: Option<&'a str>,
    /// The text, with the reasoning in it where the manner wants that.
    text: String,
    events: Vec<Event>,
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence => "stop",
        Finish::Length => "length",
        Finish::ToolCall => "tool_calls",
        Finish::Refusal => "content_filter",
    }
}

impl<'a> Writer<'a> {
    fn new(ask: &'a Ask, answer: &'a Answer, shape: Shape) -> Self {
        let manner = match ask.model.as_str() {
            model if model.contains("thinktag") => Manner::Tag,
            model if model.contains("orouter") => Manner::Details,
            _ => Manner::Content,
        };
        let shown = answer.thinking.as_deref().filter(|_| ask.thinking == Thinking::Shown);
        let text = match shown.filter(|_| manner == Manner::Tag) {
            Some(thinking) => format!("<think>\n{thinking}\n</think>\n\n{}", answer.text),
            None => answer.text.clone(),
        };
        let shown = shown.filter(|_| manner != Manner::Tag);
        let id = format!("chatcmpl-{}", seal::id(&[&answer.text, &ask.model], 12));
        Writer { ask, answer, shape, id, manner, shown, text, events: Vec::new() }
    }

    fn finish(&self) -> Option<&'static str> {
        self.shape.finish.then(|| finish_reason(self.answer.finish))
    }

    fn head(&self, o: &mut Object, kind: &str) {
        o.text("id", &self.id).text("object", kind).number("created", CREATED).text("model", &self.ask.model);
    }

    fn reasoning(&self, o: &mut Object, text: &str) {
        match self.manner {
            Manner::Tag => {}
            Manner::Content => {
                o.text("reasoning_content", text);
            }
            Manner::Details => {
                o.text("reasoning", text).list("reasoning_details", |l| {
                    l.object(|d| {
                        d.text("type", "reasoning.text").text("text", text).null("format").number("index", 0);
                    });
                });
            }
        }
    }

    fn message(&self, o: &mut Object) {
        o.text("role", "assistant");
        let has_text = !self.text.is_empty() || self.answer.calls.is_empty();
        o.text_or_null("content", has_text.then_some(self.text.as_str())).null("refusal").raw("annotations", "[]");
        if let Some(thinking) = self.shown {
            self.reasoning(o, thinking);
        }
        if !self.answer.calls.is_empty() {
            o.list("tool_calls", |l| {
                for call in &self.answer.calls {
                    l.object(|t| {
                        t.text("id", &call.id);
                        function(t, call, Some(&call.name), &call.input);
                    });
                }
            });
        }
    }

    /// Adds a chunk for one choice.
    fn chunk(&mut self, part: Part, index: u64, finish: Option<&str>, delta: impl FnOnce(&Self, &mut Object)) {
        let is_finish = part == Part::Finish;
        let data = json::object(|o| {
            self.head(o, "chat.completion.chunk");
            o.text("service_tier", "default").text("system_fingerprint", "fp_mock");
            o.list("choices", |l| {
                l.object(|c| {
                    c.number("index", index).object("delta", |d| delta(self, d)).null("logprobs");
                    c.text_or_null("finish_reason", finish);
                    if self.ask.azure {
                        c.raw("content_filter_results", "{}");
                    }
                });
            });
            if is_finish && self.shape.usage_early {
                o.raw("usage", &usage(&self.answer.usage));
            } else if self.ask.include_usage {
                o.null("usage");
            }
            o.text("obfuscation", "xxxx".get(..self.events.len() % 5).unwrap_or_default());
        });
        self.events.push(Event::new(part, data));
    }

    fn calls(&mut self, index: u64) {
        for (k, call) in self.answer.calls.iter().enumerate() {
            self.chunk(Part::Content, index, None, |_, d| {
                tool_call(d, k, |t| {
                    t.text("id", &call.id);
                    function(t, call, Some(&call.name), "");
                });
            });
            for piece in pieces(&call.input, 6) {
                self.chunk(Part::Content, index, None, |_, d| tool_call(d, k, |t| function(t, call, None, piece)));
            }
        }
    }

    fn usage_chunk(&mut self) {
        let data = json::object(|o| {
            self.head(o, "chat.completion.chunk");
            o.text("service_tier", "default").text("system_fingerprint", "fp_mock").raw("choices", "[]");
            o.raw("usage", &usage(&self.answer.usage)).text("obfuscation", "");
        });
        self.events.push(Event::new(Part::Usage, data));
    }

    /// Azure starts with a chunk about the prompt that has no id.
    fn prompt_filter(&mut self) {
        let data = format!(
            r#"{{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{{"prompt_index":0,"content_filter_results":{SAFE}}}]}}"#
        );
        self.events.push(Event::new(Part::Preamble, data));
    }
}

fn tool_call(delta: &mut Object, index: usize, write: impl FnOnce(&mut Object)) {
    delta.list("tool_calls", |l| {
        l.object(|t| {
            t.number("index", index as u64);
            write(t);
        });
    });
}

/// The `function` (or `custom`) of a call; the type stands before it where the name does.
fn function(call_object: &mut Object, call: &Call, name: Option<&str>, input: &str) {
    let (kind, field) = if call.custom { ("custom", "input") } else { ("function", "arguments") };
    if name.is_some() {
        call_object.text("type", kind);
    }
    call_object.object(kind, |f| {
        if let Some(name) = name {
            f.text("name", name);
        }
        f.text(field, input);
    });
}

/// The usage object.
pub(in crate::mock) fn usage(usage: &Tokens) -> String {
    json::object(|o| {
        o.number("prompt_tokens", usage.input).number("completion_tokens", usage.output);
        o.number("total_tokens", usage.input + usage.output);
        o.object("prompt_tokens_details", |d| {
            d.number("cached_tokens", usage.cached).number("audio_tokens", 0);
        });
        o.object("completion_tokens_details", |d| {
            d.number("reasoning_tokens", usage.reasoning).number("audio_tokens", 0);
            d.number("accepted_prediction_tokens", 0).number("rejected_prediction_tokens", 0);
        });
    })
}

/// The whole answer.
pub(super) fn whole(ask: &Ask, answer: &Answer, shape: Shape) -> String {
    let writer = Writer::new(ask, answer, shape);
    json::object(|o| {
        writer.head(o, "chat.completion");
        o.list("choices", |l| {
            for index in 0..ask.choices {
                l.object(|c| {
                    c.number("index", index).object("message", |m| writer.message(m)).null("logprobs");
                    c.text_or_null("finish_reason", writer.finish());
                    if ask.azure {
                        c.raw("content_filter_results", SAFE);
                    }
                });
            }
        });
        if shape.usage {
            o.raw("usage", &usage(&answer.usage));
        }
        o.text("service_tier", "default").text("system_fingerprint", "fp_mock");
        if ask.azure {
            o.raw("prompt_filter_results", &format!(r#"[{{"prompt_index":0,"content_filter_results":{SAFE}}}]"#));
        }
    })
}

/// The answer as chunks.
pub(super) fn events(ask: &Ask, answer: &Answer, shape: Shape) -> Vec<Event> {
    let mut writer = Writer::new(ask, answer, shape);
    if ask.azure {
        writer.prompt_filter();
    }
    let content = answer.calls.is_empty().then_some("");
    for index in 0..ask.choices {
        writer.chunk(Part::Preamble, index, None, |_, d| {
            d.text("role", "assistant").text_or_null("content", content).null("refusal");
        });
    }
    for piece in writer.shown.map(|thinking| pieces(thinking, 9)).into_iter().flatten() {
        for index in 0..ask.choices {
            writer.chunk(Part::Content, index, None, |writer, d| {
                writer.reasoning(d, piece);
                d.null("content");
            });
        }
    }
    let text = std::mem::take(&mut writer.text);
    for piece in pieces(&text, answer.piece) {
        for index in 0..ask.choices {
            writer.chunk(Part::Content, index, None, |_, d| {
                d.text("content", piece);
            });
        }
    }
    let finish = writer.finish();
    for index in 0..ask.choices {
        writer.calls(index);
        writer.chunk(Part::Finish, index, finish, |_, _| {});
    }
    if ask.include_usage && shape.usage && !shape.usage_early {
        writer.usage_chunk();
    }
    writer.events.push(Event::new(Part::End, "[DONE]".into()));
    writer.events
}
