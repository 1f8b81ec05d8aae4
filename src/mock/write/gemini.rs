//! Writes generateContent: one object, or chunks that each hold new parts; a stream just ends.

use super::{Event, Part, Shape};
use crate::mock::{
    answer::{Answer, Call, Finish, Tokens, pieces},
    ask::{Ask, Thinking},
    json::{self, List, Object},
    read::gemini_turns::call_signature,
    seal,
};

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    shape: Shape,
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence | Finish::ToolCall => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Refusal => "SAFETY",
    }
}

/// Token details by modality.
fn details(o: &mut Object, name: &str, count: u64) {
    o.list(name, |l| {
        l.object(|d| {
            d.text("modality", "TEXT").number("tokenCount", count);
        });
    });
}

/// The usage once the answer is there; before, only the prompt is counted.
fn usage(usage: &Tokens, complete: bool) -> String {
    json::object(|o| {
        o.number("promptTokenCount", usage.input);
        if !complete {
            o.number("totalTokenCount", usage.input);
            return details(o, "promptTokensDetails", usage.input);
        }
        let visible = usage.output.saturating_sub(usage.reasoning);
        // Google leaves the count out when nothing was generated.
        if visible > 0 {
            o.number("candidatesTokenCount", visible);
        }
        o.number("totalTokenCount", usage.input + usage.output);
        if usage.cached > 0 {
            o.number("cachedContentTokenCount", usage.cached);
        }
        details(o, "promptTokensDetails", usage.input);
        if usage.cached > 0 {
            details(o, "cacheTokensDetails", usage.cached);
        }
        if usage.reasoning > 0 {
            o.number("thoughtsTokenCount", usage.reasoning);
        }
    })
}

fn text_part(l: &mut List, text: &str, thought: bool) {
    l.object(|p| {
        p.text("text", text);
        if thought {
            p.flag("thought", true);
        }
    });
}

impl Writer<'_> {
    /// From this generation on, calls have ids and text has a signature too.
    fn is_gemini_3(&self) -> bool {
        self.ask.model.starts_with("gemini-3")
    }

    fn chunk(&self, finish: Option<&str>, complete: bool, parts: impl FnOnce(&mut List)) -> String {
        let parts = json::list(parts);
        json::object(|o| {
            o.list("candidates", |l| {
                l.object(|c| {
                    c.object("content", |content| {
                        if parts != "[]" {
                            content.raw("parts", &parts);
                        }
                        content.text("role", "model");
                    });
                    if let Some(finish) = finish {
                        c.text("finishReason", finish);
                    }
                    c.number("index", 0);
                });
            });
            if self.shape.usage {
                o.raw("usageMetadata", &usage(&self.answer.usage, complete));
            }
            o.text("modelVersion", &self.ask.model).text("responseId", &self.response_id());
        })
    }

    fn response_id(&self) -> String {
        format!("mock-{}", seal::id(&[&self.answer.text, &self.ask.model], 12))
    }

    fn call_part(&self, l: &mut List, k: usize, call: &Call) {
        l.object(|p| {
            p.object("functionCall", |f| {
                f.text("name", &call.name).raw("args", &call.object());
                if self.is_gemini_3() {
                    f.text("id", &call.id);
                }
            });
            if k == 0 && (self.is_gemini_3() || self.answer.thinking.is_some()) {
                p.text("thoughtSignature", &call_signature(&call.name));
            }
        });
    }

    fn thinking(&self) -> Option<&str> {
        self.answer.thinking.as_deref().filter(|_| self.ask.thinking == Thinking::Shown)
    }

    /// The signature on the last part of a text answer.
    fn text_signature(&self) -> Option<String> {
        let signs = self.is_gemini_3() && self.answer.calls.is_empty() && self.answer.thinking.is_some();
        signs.then(|| seal::signature(&self.answer.text))
    }

    /// A prompt that is refused gets no candidate.
    fn blocked(&self) -> String {
        json::object(|o| {
            o.object("promptFeedback", |f| {
                f.text("blockReason", "PROHIBITED_CONTENT");
            });
            if self.shape.usage {
                o.raw("usageMetadata", &usage(&self.answer.usage, false));
            }
            o.text("modelVersion", &self.ask.model).text("responseId", &self.response_id());
        })
    }

    fn finish(&self) -> Option<&'static str> {
        self.shape.finish.then(|| finish_reason(self.answer.finish))
    }
}

/// The whole answer.
pub(super) fn whole(ask: &Ask, answer: &Answer, shape: Shape) -> String {
    let writer = Writer { ask, answer, shape };
    if answer.finish == Finish::Refusal {
        return writer.blocked();
    }
    writer.chunk(writer.finish(), true, |l| {
        if let Some(thinking) = writer.thinking() {
            text_part(l, thinking, true);
        }
        if !answer.text.is_empty() {
            l.object(|p| {
                p.text("text", &answer.text);
                if let Some(signature) = writer.text_signature() {
                    p.text("thoughtSignature", &signature);
                }
            });
        }
        for (k, call) in answer.calls.iter().enumerate() {
            writer.call_part(l, k, call);
        }
    })
}

/// The answer as chunks.
pub(super) fn events(ask: &Ask, answer: &Answer, shape: Shape) -> Vec<Event> {
    let writer = Writer { ask, answer, shape };
    let mut events = Vec::new();
    if shape.preamble {
        events.push(Event::new(Part::Preamble, writer.chunk(None, false, |l| text_part(l, "", false))));
    }
    if answer.finish == Finish::Refusal {
        events.push(Event::new(Part::Finish, writer.blocked()));
        return events;
    }
    for piece in writer.thinking().map(|thinking| pieces(thinking, 12)).into_iter().flatten() {
        events.push(Event::new(Part::Content, writer.chunk(None, false, |l| text_part(l, piece, true))));
    }
    for piece in pieces(&answer.text, answer.piece) {
        events.push(Event::new(Part::Content, writer.chunk(None, false, |l| text_part(l, piece, false))));
    }
    for (k, call) in answer.calls.iter().enumerate() {
        events.push(Event::new(Part::Content, writer.chunk(None, false, |l| writer.call_part(l, k, call))));
    }
    let last = writer.chunk(writer.finish(), true, |l| {
        if answer.calls.is_empty() {
            l.object(|p| {
                p.text("text", "");
                if let Some(signature) = writer.text_signature() {
                    p.text("thoughtSignature", &signature);
                }
            });
        }
    });
    events.push(Event::new(Part::Finish, last));
    events
}
