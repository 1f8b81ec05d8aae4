//! Writers: an [`Answer`] in the form of the asked provider, whole or as the events of a stream.
//!
//! Also where a fault changes *what* is said (no usage, no end, an error in mid-stream); how the bytes then travel is
//! `damage`'s business. Events carry the part they play, so a fault can cut by meaning and not by position.

pub(super) mod anthropic;
pub(super) mod gemini;
pub(super) mod openai_chat;
pub(super) mod openai_responses;

use super::{
    answer::Answer,
    ask::Ask,
    fault::{Effect, Events, Fault, Wire},
    refusal::{Dialect, Refusal},
};

/// The moment at which every answer is created: answers are deterministic.
pub(super) const CREATED: u64 = 1_700_000_000;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The `event:` line, where the format has one.
    pub(super) name: Option<&'static str>,
    pub(super) data: String,
    pub(super) part: Part,
}

impl Event {
    pub(super) fn new(part: Part, data: String) -> Self {
        Event { name: None, data, part }
    }
}

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Before any content: a failure here costs the client nothing.
    Preamble,
    Content,
    /// Tells why the answer ends.
    Finish,
    Usage,
    End,
    Error,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) usage: bool,
    /// Usage on the finish chunk instead of one of its own (OpenAI chat).
    pub(super) usage_early: bool,
    pub(super) finish: bool,
    /// A first chunk without content, which Gemini otherwise lacks.
    pub(super) preamble: bool,
}

impl Shape {
    pub(super) fn of(fault: Option<Fault>) -> Self {
        let effect = fault.map(|fault| fault.info.effect);
        let is = |wanted: Events| effect == Some(Effect::Events(wanted));
        let wires = [Wire::PreClose, Wire::PreReset, Wire::PreStall];
        Shape {
            usage: !is(Events::NoUsage),
            usage_early: is(Events::UsageEarly),
            finish: !is(Events::FinishNull),
            preamble: is(Events::PreError) || wires.iter().any(|wire| effect == Some(Effect::Wire(*wire))),
        }
    }
}

/// The whole answer as one JSON text.
pub(super) fn whole(ask: &Ask, answer: &Answer, fault: Option<Fault>) -> String {
    let shape = Shape::of(fault);
    match ask.dialect {
        Dialect::Chat => openai_chat::whole(ask, answer, shape),
        Dialect::Responses => openai_responses::whole(ask, answer, shape),
        Dialect::Anthropic => anthropic::whole(ask, answer, shape),
        Dialect::Gemini => gemini::whole(ask, answer, shape),
    }
}

/// The answer as events, with what the fault does to them.
pub(super) fn events(ask: &Ask, answer: &Answer, fault: Option<Fault>) -> Vec<Event> {
    let shape = Shape::of(fault);
    let mut events = match ask.dialect {
        Dialect::Chat => openai_chat::events(ask, answer, shape),
        Dialect::Responses => openai_responses::events(ask, answer, shape),
        Dialect::Anthropic => anthropic::events(ask, answer, shape),
        Dialect::Gemini => gemini::events(ask, answer, shape),
    };
    disturb(&mut events, fault, |sequence| match ask.dialect {
        Dialect::Chat | Dialect::Anthropic | Dialect::Gemini => vec![error_event(ask.dialect)],
        Dialect::Responses => openai_responses::failure(ask, answer, &failure(ask.dialect), sequence),
    });
    events
}

/// Does to the events what the fault asks for; `error` makes the error events that come at that position.
pub(super) fn disturb(events: &mut Vec<Event>, fault: Option<Fault>, error: impl FnOnce(u64) -> Vec<Event>) {
    let Some(Effect::Events(effect)) = fault.map(|fault| fault.info.effect) else { return };
    let cut = match effect {
        Events::NoDone => return events.retain(|event| !matches!(event.part, Part::Finish | Part::Usage | Part::End)),
        Events::DupDone => return events.extend(events.last().cloned()),
        Events::NoUsage | Events::UsageEarly | Events::FinishNull | Events::Huge => return,
        Events::MidError => (events.len() / 2).max(2),
        Events::LateError => 0,
        Events::PreError => events.iter().take_while(|event| event.part == Part::Preamble).count(),
    };
    events.truncate(cut);
    events.extend(error(events.len() as u64));
}

/// The provider's error as an event of a stream.
pub(super) fn error_event(dialect: Dialect) -> Event {
    let name = (dialect == Dialect::Anthropic).then_some("error");
    Event { name, data: failure(dialect).body(dialect, "req_mock00000000"), part: Part::Error }
}

/// What each provider says when it gives up.
pub(super) fn failure(dialect: Dialect) -> Refusal {
    match dialect {
        Dialect::Anthropic => Refusal::new(529, "Overloaded"),
        Dialect::Gemini => Refusal::new(503, "The model is overloaded. Please try again later."),
        Dialect::Chat | Dialect::Responses => {
            Refusal::new(500, "The server had an error while processing your request. Sorry about that!")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{
        answer::plan,
        ask::{Role, Turn},
    };
    use serde_json::Value;

    const DIALECTS: [Dialect; 4] = [Dialect::Chat, Dialect::Responses, Dialect::Anthropic, Dialect::Gemini];

    fn ask(dialect: Dialect) -> Ask {
        let mut ask = Ask::new(dialect);
        ask.model = "model".into();
        ask.stream = true;
        ask.include_usage = true;
        ask.body = serde_json::json!({});
        let mut turn = Turn::new(Role::User);
        turn.texts.push("hello é漢 world, how are you".into());
        ask.turns.push(turn);
        ask
    }

    fn parts(dialect: Dialect, fault: &str) -> Vec<Part> {
        let ask = ask(dialect);
        let answer = plan(&ask);
        events(&ask, &answer, Fault::named(fault)).into_iter().map(|event| event.part).collect()
    }

    #[test]
    fn every_stream_ends_and_says_why() {
        for dialect in DIALECTS {
            let parts = parts(dialect, "none");
            assert!(parts.contains(&Part::Finish) || parts.last() == Some(&Part::End), "{dialect:?} {parts:?}");
            assert!(parts.iter().filter(|part| **part == Part::Content).count() >= 3, "{dialect:?} {parts:?}");
        }
    }

    #[test]
    fn faults_cut_streams_by_meaning() {
        for dialect in DIALECTS {
            assert!(!parts(dialect, "nodone").iter().any(|p| matches!(p, Part::Finish | Part::Usage | Part::End)));
            assert_eq!(parts(dialect, "lateerror").first(), Some(&Part::Error));
            let early = parts(dialect, "preerror");
            assert_eq!(early.first(), Some(&Part::Preamble), "{dialect:?}");
            assert!(!early.contains(&Part::Content) && early.contains(&Part::Error), "{dialect:?} {early:?}");
            let middle = parts(dialect, "miderror");
            assert!(middle.contains(&Part::Content) && !middle.contains(&Part::End), "{dialect:?} {middle:?}");
            assert_eq!(parts(dialect, "dupdone").len(), parts(dialect, "none").len() + 1);
        }
    }

    #[test]
    fn without_usage_no_number_is_told() {
        for dialect in DIALECTS {
            let ask = ask(dialect);
            let answer = plan(&ask);
            let text: String =
                events(&ask, &answer, Fault::named("nousage")).into_iter().map(|event| event.data).collect();
            let told =
                text.contains("\"prompt_tokens\"") || text.contains("TokenCount") || text.contains("\"total_tokens\"");
            assert!(!told, "{dialect:?}: {text}");
        }
    }

    #[test]
    fn every_event_is_json_and_whole_and_streamed_say_the_same() {
        for dialect in DIALECTS {
            let ask = ask(dialect);
            let answer = plan(&ask);
            let mut joined = String::new();
            for event in events(&ask, &answer, None) {
                if event.data == "[DONE]" {
                    continue;
                }
                let value: Value = serde_json::from_str(&event.data).unwrap();
                let delta = ["/choices/0/delta/content", "/delta/text", "/candidates/0/content/parts/0/text"];
                let text = delta.iter().find_map(|at| value.pointer(at)).and_then(Value::as_str).unwrap_or_default();
                joined.push_str(text);
                if value["type"] == "response.output_text.delta" {
                    joined.push_str(value["delta"].as_str().unwrap());
                }
            }
            assert_eq!(joined, answer.text, "{dialect:?}");
            let whole: Value = serde_json::from_str(&whole(&ask, &answer, None)).unwrap();
            assert!(whole.to_string().contains(&answer.text), "{dialect:?}: {whole}");
        }
    }
}
