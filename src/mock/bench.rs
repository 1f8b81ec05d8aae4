//! The models that benchmarks ask for: prepared replies that cost next to nothing.
//!
//! | model | reply |
//! |---|---|
//! | `bench-whole` | a JSON reply (for Chat Completions of exactly 677 bytes) |
//! | `bench-stream-50` | 50 delta events besides the stream's own frame, one write each, as fast as it goes |
//! | `bench-burst-50` | the same events in a single write, one HTTP chunk each |
//! | `bench-paced-50-5ms` | the same, one event every 5 ms from the start of the reply |
//!
//! Such requests are neither judged nor logged: what they measure is the relay. The model is found by a byte search.

use super::{
    answer::{Answer, Finish, Tokens},
    ask::{Ask, Thinking},
    damage::{Body, Envelope, Style},
    refusal::Dialect,
    reply::{Framing, Head, Reply, Step},
    route::{Call, Route},
    write,
};
use bytes::Bytes;
use memchr::memmem;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The size of the whole Chat Completions reply.
const WHOLE_BYTES: usize = 677;
const MAX_EVENTS: usize = 10_000;
/// How many different replies are kept ready.
const MAX_PREPARED: usize = 64;

/// Which reply a model's name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Course {
    Whole,
    Stream(usize),
    Burst(usize),
    Paced(usize, Duration),
}

impl Course {
    fn parse(model: &str) -> Option<Course> {
        let mut words = model.strip_prefix("bench-")?.split('-');
        let kind = words.next()?;
        let count = words.next().map(|count| count.parse::<usize>().ok().filter(|n| (1..=MAX_EVENTS).contains(n)));
        let course = match (kind, count) {
            ("whole", None) => Course::Whole,
            ("stream", Some(Some(count))) => Course::Stream(count),
            ("burst", Some(Some(count))) => Course::Burst(count),
            ("paced", Some(Some(count))) => {
                let millis = words.next()?.strip_suffix("ms")?.parse().ok()?;
                Course::Paced(count, Duration::from_millis(millis))
            }
            _ => return None,
        };
        words.next().is_none().then_some(course)
    }

    fn events(self) -> usize {
        match self {
            Course::Whole => 0,
            Course::Stream(count) | Course::Burst(count) | Course::Paced(count, _) => count,
        }
    }
}

/// The replies that are ready.
#[derive(Debug, Default)]
pub(super) struct Bench(Mutex<HashMap<(Dialect, Course), Arc<Reply>>>);

impl Bench {
    /// The reply, if a benchmark's model is asked for.
    pub(super) fn reply(&self, route: &Route, body: &[u8]) -> Option<Reply> {
        if !matches!(route.call, Call::Chat | Call::Responses | Call::Messages | Call::Generate { .. }) {
            return None;
        }
        let model = route.model.as_deref().filter(|model| model.starts_with("bench-")).or_else(|| model_in(body))?;
        let course = Course::parse(model)?;
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = ready.get(&(route.dialect, course)) {
            return Some(Reply::clone(reply));
        }
        if ready.len() >= MAX_PREPARED {
            ready.clear();
        }
        let reply = Arc::new(prepared(route.dialect, course));
        ready.insert((route.dialect, course), Arc::clone(&reply));
        Some(Reply::clone(&reply))
    }
}

/// The value of `"model"` in a body, if it starts with `bench-`.
fn model_in(body: &[u8]) -> Option<&str> {
    memmem::find_iter(body, b"\"bench-").find_map(|at| {
        let before = body.get(..at)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
        before.ends_with(b"\"model\"").then_some(())?;
        let rest = body.get(at + 1..)?;
        let end = memchr::memchr(b'"', rest)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    })
}

fn prepared(dialect: Dialect, course: Course) -> Reply {
    if course == Course::Whole {
        return whole(dialect);
    }
    let (ask, answer) = conversation(dialect, &"word ".repeat(course.events()));
    let events = write::events(&ask, &answer, None);
    let plain = envelope(dialect).stream(&events, Style::Sse, Duration::ZERO);
    match course {
        Course::Whole | Course::Stream(_) => plain,
        Course::Burst(_) => {
            let pieces = plain
                .steps
                .into_iter()
                .filter_map(|step| if let Step::Data(data, _) = step { Some(data) } else { None });
            let burst = Step::Burst(pieces.collect());
            let headers = vec![("content-type", "text/event-stream; charset=utf-8".to_owned())];
            Reply::of([Step::Head(Head { status: 200, headers, framing: Framing::Chunked }), burst])
        }
        Course::Paced(_, every) => {
            let mut steps = Vec::with_capacity(plain.steps.len() * 2);
            let mut due = Duration::ZERO;
            for step in plain.steps {
                if matches!(step, Step::Data(..)) {
                    steps.push(Step::Until(due));
                    due += every;
                }
                steps.push(step);
            }
            Reply { steps }
        }
    }
}

fn whole(dialect: Dialect) -> Reply {
    let write = |text: &str| {
        let (ask, answer) = conversation(dialect, text);
        write::whole(&ask, &answer, None)
    };
    let frame = write("").len();
    let text = "word ".chars().cycle().take(WHOLE_BYTES.saturating_sub(frame)).collect::<String>();
    let body = Bytes::from(write(&text));
    envelope(dialect).whole(Body { content_type: "application/json", data: body.into(), chunked: false })
}

fn envelope(dialect: Dialect) -> Envelope {
    Envelope { dialect, headers: Vec::new(), accepts_gzip: false, fault: None }
}

fn conversation(dialect: Dialect, text: &str) -> (Ask, Answer) {
    let mut ask = Ask::new(dialect);
    ask.model = "bench".into();
    ask.thinking = Thinking::Off;
    ask.include_usage = true;
    let usage = Tokens { input: 250, output: 50, ..Tokens::default() };
    let answer = Answer {
        prompt: String::new(),
        thinking: None,
        text: text.to_owned(),
        calls: Vec::new(),
        finish: Finish::Stop,
        stopped_by: None,
        usage,
        piece: 5,
        pace: Duration::ZERO,
    };
    (ask, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str) -> Option<Reply> {
        let route = Route { call: Call::Chat, dialect: Dialect::Chat, model: None, azure: false, vertex: false };
        Bench::default().reply(&route, body.as_bytes())
    }

    fn deltas(data: &[u8]) -> usize {
        memmem::find_iter(data, b"\"content\":\"word \"").count()
    }

    #[test]
    fn the_whole_reply_has_its_size() {
        let reply = reply(r#"{"messages":[],"model" : "bench-whole"}"#).unwrap();
        let Some(Step::Data(body, _)) = reply.steps.last() else { panic!("{reply:?}") };
        assert_eq!(body.len(), WHOLE_BYTES);
        serde_json::from_slice::<serde_json::Value>(body).unwrap();
    }

    #[test]
    fn streams_have_fifty_deltas_each_in_its_own_way() {
        let stream = reply(r#"{"model":"bench-stream-50"}"#).unwrap();
        let writes =
            stream.steps.iter().filter(|step| matches!(step, Step::Data(data, _) if deltas(data) == 1)).count();
        assert_eq!(writes, 50);
        let burst = reply(r#"{"model":"bench-burst-50"}"#).unwrap();
        let Some(Step::Burst(list)) = burst.steps.last() else { panic!("{burst:?}") };
        assert_eq!(list.iter().map(|data| deltas(data)).sum::<usize>(), 50);
        let paced = reply(r#"{"model":"bench-paced-50-5ms"}"#).unwrap();
        assert!(paced.steps.contains(&Step::Until(Duration::from_millis(250))));
    }

    #[test]
    fn only_a_model_is_a_model() {
        for body in [
            r#"{"model":"gpt","messages":["bench-whole"]}"#,
            r#"{"user":"bench-whole"}"#,
            r#"{"model":"bench-x"}"#,
            "{}",
        ] {
            assert!(reply(body).is_none(), "{body}");
        }
        assert_eq!(Course::parse("bench-stream-0"), None);
        assert_eq!(Course::parse("bench-paced-50"), None);
    }
}
