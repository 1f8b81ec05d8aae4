//! The faults: their names, and how a request asks for one.
//!
//! A fault is asked for by the text `fault-<name>[-<arg>][x<times>]` in the model name, the key, or the last user text
//! (`[[fault-429x2]]`), looked for in this order. With `x<times>` only so many requests fail. Text that looks like a
//! fault but names none is left alone. What a fault does is in `damage` (before and on the wire) and `write` (events).

use std::{collections::HashMap, sync::Mutex};

/// One row of the table.
#[derive(Debug)]
pub struct FaultInfo {
    /// The name in the selector.
    pub name: &'static str,
    /// What it does, for a person.
    pub about: &'static str,
    pub(super) effect: Effect,
}

/// What a fault does, by the stage at which it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Instead(Instead),
    Events(Events),
    Wire(Wire),
}

/// Something else is sent than an answer, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    Status(u16),
    RateLimit(RetryHint),
    Quota,
    RawRateLimit,
    Credit,
    BadKey,
    ContextTooLong,
    Html(u16),
    Empty,
    ErrorBody,
    Redirect,
    ResetHead,
    Close,
    StallHead,
    Slow,
}

/// How a 429 says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryHint {
    Seconds,
    Millis,
    Date,
    ResetHeaders,
    Nothing,
}

/// The answer itself is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    NoUsage,
    UsageEarly,
    FinishNull,
    NoDone,
    DupDone,
    MidError,
    LateError,
    PreError,
    Huge,
}

/// The right answer goes out in an odd or broken way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    SlowHead,
    Stall,
    Reset,
    Truncated,
    CutEvent,
    BadJson,
    Split,
    Bytes,
    Merge,
    Crlf,
    Cr,
    Lf,
    NoSpace,
    Comments,
    NoEvent,
    Bom,
    MultiLine,
    Gzip,
    GzipForce,
    Http10,
    WrongType,
    JsonForStream,
    RawSeparators,
    PreClose,
    PreReset,
    PreStall,
}

const fn instead(name: &'static str, about: &'static str, effect: Instead) -> FaultInfo {
    FaultInfo { name, about, effect: Effect::Instead(effect) }
}

const fn events(name: &'static str, about: &'static str, effect: Events) -> FaultInfo {
    FaultInfo { name, about, effect: Effect::Events(effect) }
}

const fn wire(name: &'static str, about: &'static str, effect: Wire) -> FaultInfo {
    FaultInfo { name, about, effect: Effect::Wire(effect) }
}

/// Every fault, with what it does.
#[rustfmt::skip]
pub static FAULTS: &[FaultInfo] = &[
    instead("400", "invalid request", Instead::Status(400)),
    instead("401", "bad credentials", Instead::Status(401)),
    instead("402", "no credit", Instead::Status(402)),
    instead("403", "permission denied", Instead::Status(403)),
    instead("404", "not found", Instead::Status(404)),
    instead("408", "request timeout", Instead::Status(408)),
    instead("413", "request too large", Instead::Status(413)),
    instead("422", "unprocessable", Instead::Status(422)),
    instead("429", "rate limit with retry-after (arg = seconds, default 1)", Instead::RateLimit(RetryHint::Seconds)),
    instead("429ms", "rate limit with retry-after-ms only (arg = milliseconds, default 700)", Instead::RateLimit(RetryHint::Millis)),
    instead("429date", "rate limit whose retry-after is a date (arg = seconds from now, default 2)", Instead::RateLimit(RetryHint::Date)),
    instead("429reset", "rate limit told by the reset headers only (arg = seconds, default 2)", Instead::RateLimit(RetryHint::ResetHeaders)),
    instead("429bare", "rate limit without any hint", Instead::RateLimit(RetryHint::Nothing)),
    instead("429quota", "quota exhausted, no retry-after", Instead::Quota),
    instead("429raw", "429 with a plain-text body", Instead::RawRateLimit),
    instead("credit", "no money left, in the provider's own words", Instead::Credit),
    instead("badkey", "the provider's own answer to a revoked key", Instead::BadKey),
    instead("500", "server error", Instead::Status(500)),
    instead("502", "bad gateway, html body", Instead::Html(502)),
    instead("503", "unavailable (arg = retry-after in seconds)", Instead::Status(503)),
    instead("503html", "unavailable, html body", Instead::Html(503)),
    instead("504", "gateway timeout", Instead::Status(504)),
    instead("529", "overloaded (arg = retry-after in seconds)", Instead::Status(529)),
    instead("ctxlen", "400 context length exceeded", Instead::ContextTooLong),
    instead("empty200", "200 with an empty body", Instead::Empty),
    instead("html200", "200 with an html body", Instead::Html(200)),
    instead("error200", "200 whose body is the provider's error object", Instead::ErrorBody),
    instead("redirect", "307 to the same path with ?r=1", Instead::Redirect),
    instead("resethead", "TCP reset before any byte", Instead::ResetHead),
    instead("close", "connection closed before any byte", Instead::Close),
    instead("stallhead", "never answers (arg = seconds, default 600)", Instead::StallHead),
    instead("slow", "first byte after arg seconds (default 3)", Instead::Slow),
    events("nousage", "no usage anywhere", Events::NoUsage),
    events("usageearly", "OpenAI chat: usage on the finish chunk instead of a chunk of its own", Events::UsageEarly),
    events("finishnull", "finish reason null or absent (not for Responses)", Events::FinishNull),
    events("nodone", "stream ends cleanly without its terminal event", Events::NoDone),
    events("dupdone", "terminal event sent twice", Events::DupDone),
    events("miderror", "provider error as an event in mid-stream", Events::MidError),
    events("lateerror", "200 stream whose first event is the error", Events::LateError),
    events("preerror", "the stream's preamble, then an error event", Events::PreError),
    events("huge", "one delta event of 5 MiB (arg = MiB)", Events::Huge),
    wire("slowhead", "headers at once, first event after arg seconds (default 3)", Wire::SlowHead),
    wire("stall", "stops in mid-stream for arg seconds (default 600)", Wire::Stall),
    wire("reset", "TCP reset in mid-stream", Wire::Reset),
    wire("truncated", "connection closed inside an HTTP chunk", Wire::Truncated),
    wire("cutevent", "stream ends cleanly inside an event", Wire::CutEvent),
    wire("badjson", "an event (or the body) is invalid JSON", Wire::BadJson),
    wire("split", "writes cut inside data: and inside UTF-8 characters", Wire::Split),
    wire("bytes", "one byte per write", Wire::Bytes),
    wire("merge", "all events in one write", Wire::Merge),
    wire("crlf", "CRLF line ends", Wire::Crlf),
    wire("cr", "CR line ends", Wire::Cr),
    wire("lf", "LF line ends (Gemini too)", Wire::Lf),
    wire("nospace", "data:{…} without the space", Wire::NoSpace),
    wire("comments", ": keep-alive comments between events", Wire::Comments),
    wire("noevent", "no event: lines", Wire::NoEvent),
    wire("bom", "a UTF-8 byte-order mark first", Wire::Bom),
    wire("multiline", "JSON pretty-printed over several data: lines", Wire::MultiLine),
    wire("gzip", "gzip body if the client accepts it", Wire::Gzip),
    wire("gzipforce", "gzip body always", Wire::GzipForce),
    wire("http10", "HTTP/1.0 without a length, closed at the end", Wire::Http10),
    wire("wrongct", "event stream with content-type application/json", Wire::WrongType),
    wire("jsonforstream", "whole JSON although a stream was asked for", Wire::JsonForStream),
    wire("rawsep", "U+2028, U+2029 and U+0085 unescaped inside JSON", Wire::RawSeparators),
    wire("preclose", "the stream's preamble (whole: the head), then the connection is closed", Wire::PreClose),
    wire("prereset", "the stream's preamble (whole: the head), then a TCP reset", Wire::PreReset),
    wire("prestall", "the stream's preamble (whole: the head), then silence (arg = seconds, default 600)", Wire::PreStall),
];

/// A fault that a request asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) info: &'static FaultInfo,
    pub(super) argument: Option<u64>,
}

impl Fault {
    /// The fault of this name, as a selector without the leading `fault-` writes it (`stall-2`).
    pub(super) fn named(selector: &str) -> Option<Fault> {
        selected(&format!("fault-{selector}")).map(|found| found.fault)
    }
}

/// A selector found in a text.
struct Selected<'a> {
    fault: Fault,
    times: Option<u64>,
    text: &'a str,
}

/// The first selector of a known fault in the text.
fn selected(text: &str) -> Option<Selected<'_>> {
    let mut from = 0;
    while let Some(at) = text.get(from..)?.find("fault-") {
        let start = from + at;
        from = start + "fault-".len();
        let glued = text.get(..start)?.ends_with(|c: char| c.is_ascii_alphanumeric());
        let found = if glued { None } else { parsed(text.get(start..)?) };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Reads a selector at the start of the text.
fn parsed(text: &str) -> Option<Selected<'_>> {
    let body = text.strip_prefix("fault-")?;
    let run = body.get(..body.find(|c: char| !is_word(c)).unwrap_or(body.len()))?;
    let (name, times) = counted(run);
    let after = body.get(run.len()..)?;
    let (argument, late_times, tail) = if times.is_none() { argument(after) } else { (None, None, 0) };
    let info = FAULTS.iter().find(|info| info.name == name)?;
    let text = text.get(.."fault-".len() + run.len() + tail)?;
    Some(Selected { fault: Fault { info, argument }, times: times.or(late_times), text })
}

fn is_word(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Splits `429x2` into name and times.
fn counted(run: &str) -> (&str, Option<u64>) {
    match run.rsplit_once('x') {
        Some((name, times)) if !name.is_empty() => match times.parse() {
            Ok(times) => (name, Some(times)),
            Err(_) => (run, None),
        },
        _ => (run, None),
    }
}

/// Reads `-<arg>[x<times>]`: the argument, the times, and how many bytes they take.
fn argument(after: &str) -> (Option<u64>, Option<u64>, usize) {
    let Some(rest) = after.strip_prefix('-') else { return (None, None, 0) };
    let run = rest.get(..rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())).unwrap_or_default();
    let (digits, times) = match run.split_once('x') {
        Some((digits, times)) => match times.parse() {
            Ok(times) => (digits, Some(times)),
            Err(_) => return (None, None, 0),
        },
        None => (run, None),
    };
    match digits.parse() {
        Ok(argument) => (Some(argument), times, 1 + run.len()),
        Err(_) => (None, None, 0),
    }
}

/// How many selectors with `x<times>` are remembered at most.
const MAX_COUNTS: usize = 100_000;

/// How often each counted selector has struck.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<HashMap<(usize, String, String), u64>>);

impl Counts {
    /// The fault that these texts (model, key, prompt, in this order) ask for and that is not used up.
    pub(super) fn choose(&self, texts: [&str; 3]) -> Option<Fault> {
        texts.into_iter().enumerate().find_map(|(source, text)| {
            let found = selected(text)?;
            match found.times {
                None => Some(found.fault),
                Some(times) => {
                    self.strikes((source, found.text.to_owned(), text.to_owned()), times).then_some(found.fault)
                }
            }
        })
    }

    fn strikes(&self, key: (usize, String, String), times: u64) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if counts.len() >= MAX_COUNTS && !counts.contains_key(&key) {
            counts.clear();
        }
        let count = counts.entry(key).or_default();
        *count += 1;
        *count <= times
    }

    pub(super) fn reset(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(&'static str, Option<u64>, Option<u64>)> {
        selected(text).map(|found| (found.fault.info.name, found.fault.argument, found.times))
    }

    #[test]
    fn a_selector_has_a_name_an_argument_and_a_count() {
        assert_eq!(read("[[fault-429x2]] hello"), Some(("429", None, Some(2))));
        assert_eq!(read("gpt-fault-stall-2"), Some(("stall", Some(2), None)));
        assert_eq!(read("fault-slow-1x3"), Some(("slow", Some(1), Some(3))));
        assert_eq!(read("claude-fault-503html"), Some(("503html", None, None)));
        assert_eq!(read("fault-empty200"), Some(("empty200", None, None)));
        assert_eq!(read("fault-429-mini"), Some(("429", None, None)));
    }

    #[test]
    fn what_only_looks_like_a_fault_is_left_alone() {
        for text in ["gpt-default-400", "fault-", "fault-unknown", "fault-4299", "no fault here", "fault-x2"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("fault-nonsense then fault-500"), Some(("500", None, None)));
    }

    #[test]
    fn a_counted_fault_strikes_so_often_and_then_the_next_source_is_asked() {
        let counts = Counts::default();
        let names = || counts.choose(["m-fault-500x2", "sk-fault-401x1", ""]).map(|fault| fault.info.name);
        assert_eq!([names(), names(), names(), names()], [Some("500"), Some("500"), Some("401"), None]);
        counts.reset();
        assert_eq!(counts.choose(["m-fault-500x2", "", ""]).map(|fault| fault.info.name), Some("500"));
    }

    #[test]
    fn names_are_unique_and_can_be_selected() {
        for info in FAULTS {
            let found = Fault::named(info.name).unwrap();
            assert_eq!(found.info.effect, info.effect, "{}", info.name);
            assert!(FAULTS.iter().filter(|other| other.name == info.name).count() == 1, "{}", info.name);
        }
        assert_eq!(Fault::named("stall-7").and_then(|fault| fault.argument), Some(7));
    }
}
