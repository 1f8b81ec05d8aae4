//! What the operator sees: one line per request, at most one per failed attempt, one per change of an account.
//!
//! Never a body, never a key. Text that a client chose is escaped, so that it cannot forge a line.

pub mod spread;

use crate::{
    clock::Clock,
    provider::verdict::Verdict,
    wire::{Usage, WireFormat, loss::Losses},
};
use serde::{Serialize, Serializer};
use std::{
    cell::RefCell,
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// The log target of access lines.
pub const ACCESS: &str = "sub2api::access";

static JSON: AtomicBool = AtomicBool::new(false);

/// Chooses between text and JSON lines, for the whole process.
pub fn set_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Whether lines are JSON.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// One finished request.
#[derive(Debug)]
pub struct Access<'a> {
    /// The request id that both sides saw.
    pub request: &'a str,
    /// The user, or a dash.
    pub user: &'a str,
    /// The first digits of the key's hash, or a dash.
    pub key: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// The call.
    pub call: &'a str,
    /// The caller's wire format.
    pub format: &'a str,
    /// The provider's wire format, or a dash.
    pub upstream_format: &'a str,
    /// The model asked for.
    pub model: &'a str,
    /// The model served, in the provider's name.
    pub served_model: &'a str,
    /// The account of the last attempt, or a dash.
    pub account: &'a str,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The status that the client got; 499 where it left first.
    pub status: u16,
    /// served, refused, client_gone or broken.
    pub outcome: &'a str,
    /// The class of the last failed attempt, or a dash.
    pub failure: &'a str,
    /// Attempts begun.
    pub attempts: u32,
    /// The finish reason in the provider's word, or a dash.
    pub finish: &'a str,
    /// What the provider reported.
    pub usage: Usage,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the answer's body.
    pub bytes_out: usize,
    /// Time to the first content.
    pub first_content: Option<Duration>,
    /// Time to the end.
    pub total: Duration,
}

/// The same, as the fields of a line.
#[derive(Serialize)]
struct Line<'a> {
    request: &'a str,
    user: &'a str,
    key: &'a str,
    client: &'a str,
    call: &'a str,
    format: &'a str,
    upstream_format: &'a str,
    model: &'a str,
    served_model: &'a str,
    account: &'a str,
    stream: bool,
    status: u16,
    outcome: &'a str,
    failure: &'a str,
    attempts: u32,
    finish: &'a str,
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    bytes_in: usize,
    bytes_out: usize,
    first_ms: Option<Millis>,
    total_ms: Millis,
}

/// Microseconds, which are shown as milliseconds.
#[derive(Clone, Copy)]
struct Millis(u64);

impl Millis {
    fn of(time: Duration) -> Millis {
        Millis(u64::try_from((time.as_nanos() + 500) / 1000).unwrap_or(u64::MAX))
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1e3)
    }
}

impl Access<'_> {
    /// The most characters of a text that others chose that a line bears.
    pub const MOST_SHOWN: usize = 200;
}

/// The start of a text that others chose, as long as a line can bear.
pub fn clip(text: &str) -> &str {
    // No text has more characters than bytes.
    if text.len() <= Access::MOST_SHOWN {
        return text;
    }
    text.char_indices().nth(Access::MOST_SHOWN).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

impl<'a> Line<'a> {
    fn new(a: &'a Access<'a>) -> Line<'a> {
        let u = &a.usage;
        let written = u.cache_write.is_some() || u.cache_write_1h.is_some();
        Line {
            request: a.request,
            user: a.user,
            key: a.key,
            client: a.client,
            call: a.call,
            format: a.format,
            upstream_format: a.upstream_format,
            model: clip(a.model),
            served_model: clip(a.served_model),
            account: a.account,
            stream: a.stream,
            status: a.status,
            outcome: a.outcome,
            failure: a.failure,
            attempts: a.attempts,
            finish: clip(a.finish),
            input: u.input,
            cache_read: u.cache_read,
            cache_write: written.then(|| u.cache_write.unwrap_or(0) + u.cache_write_1h.unwrap_or(0)),
            output: u.output,
            reasoning: u.reasoning,
            bytes_in: a.bytes_in,
            bytes_out: a.bytes_out,
            first_ms: a.first_content.map(Millis::of),
            total_ms: Millis::of(a.total),
        }
    }

    /// Appends `name=value` pairs; a value with anything but plain characters is quoted.
    fn write(&self, out: &mut String) {
        for (name, value) in [
            ("request=", self.request),
            (" user=", self.user),
            (" key=", self.key),
            (" client=", self.client),
            (" call=", self.call),
            (" format=", self.format),
            (" upstream_format=", self.upstream_format),
            (" model=", self.model),
            (" served_model=", self.served_model),
            (" account=", self.account),
            (" outcome=", self.outcome),
            (" failure=", self.failure),
            (" finish=", self.finish),
        ] {
            put(out, name, value);
        }
        out.push_str(if self.stream { " stream=true" } else { " stream=false" });
        for (name, count) in [
            (" status=", Some(u64::from(self.status))),
            (" attempts=", Some(u64::from(self.attempts))),
            (" input=", self.input),
            (" cache_read=", self.cache_read),
            (" cache_write=", self.cache_write),
            (" output=", self.output),
            (" reasoning=", self.reasoning),
            (" bytes_in=", Some(self.bytes_in as u64)),
            (" bytes_out=", Some(self.bytes_out as u64)),
        ] {
            out.push_str(name);
            put_count(out, count);
        }
        for (name, time) in [(" first_ms=", self.first_ms), (" total_ms=", Some(self.total_ms))] {
            out.push_str(name);
            put_millis(out, time);
        }
    }
}

/// A count, or a dash where it is not known.
fn put_count(out: &mut String, count: Option<u64>) {
    match count {
        Some(count) => out.push_str(itoa::Buffer::new().format(count)),
        None => out.push('-'),
    }
}

/// A time in milliseconds with three decimals, or a dash where it is not known.
fn put_millis(out: &mut String, time: Option<Millis>) {
    let Some(Millis(micros)) = time else { return out.push('-') };
    put_count(out, Some(micros / 1000));
    let rest = micros % 1000;
    out.push_str(if rest < 10 {
        ".00"
    } else if rest < 100 {
        ".0"
    } else {
        "."
    });
    put_count(out, Some(rest));
}

/// Which bytes stand in a line as they are.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7F {
        #[allow(clippy::indexing_slicing, reason = "made by the compiler, which checks it")]
        {
            plain[byte as usize] = !matches!(byte, b'"' | b'=' | b'\\');
        }
        byte += 1;
    }
    plain
};

fn put(out: &mut String, name: &str, value: &str) {
    // Looks at every byte, however early one is not plain: that goes faster.
    let is_plain = value.bytes().fold(true, |plain, byte| plain & PLAIN.get(usize::from(byte)).is_some_and(|is| *is));
    out.push_str(name);
    if !value.is_empty() && is_plain {
        out.push_str(value);
    } else {
        let _ = write!(out, "{value:?}");
    }
}

thread_local! {
    /// Room for a line, used again and again; lines are bounded.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes the line of a finished request.
pub fn access(access: &Access<'_>) {
    if !log::log_enabled!(target: ACCESS, log::Level::Info) {
        return;
    }
    let line = Line::new(access);
    if is_json() {
        // The formatter takes an access line's message as the fields of its object.
        if let Ok(json) = serde_json::to_string(&line) {
            log::info!(target: ACCESS, "{json}");
        }
    } else {
        LINE.with_borrow_mut(|text| {
            text.clear();
            line.write(text);
            log::info!(target: ACCESS, "{text}");
        });
    }
}

/// Lines about failed attempts: this many per second at most; the rest is counted.
const MOST_PER_SECOND: u64 = 20;

/// Writes the line of a failed attempt, unless too many were written within this second.
pub fn attempt_failed(request: &str, account: &str, verdict: &Verdict) {
    static SECOND: AtomicU64 = AtomicU64::new(0);
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let second = Clock::System.now().unix_millis() / 1000;
    if SECOND.swap(second, Ordering::Relaxed) != second {
        WRITTEN.store(0, Ordering::Relaxed);
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            log::warn!("{dropped} lines about failed attempts left out");
        }
    }
    if WRITTEN.fetch_add(1, Ordering::Relaxed) < MOST_PER_SECOND {
        log::warn!(
            "attempt failed request={request} account={account} class={} reason={:?}",
            verdict.class.name(),
            verdict.reason
        );
    } else {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes a debug line about what a translation could not carry.
pub fn lost(request: &str, (from, to): (WireFormat, WireFormat), losses: &Losses) {
    if let Some(fields) = losses.header() {
        log::debug!("translation request={request} from={} to={} loss={fields:?}", from.name(), to.name());
    }
}

/// Writes the line of an account's change of state, if there is one.
pub fn account_changed(account: &str, change: Option<String>) {
    if let Some(change) = change {
        log::warn!("account {account}: {change}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(model: &'a str) -> Access<'a> {
        Access {
            request: "req_1",
            user: "u",
            key: "-",
            client: "127.0.0.1:1",
            call: "messages",
            format: "anthropic",
            upstream_format: "anthropic",
            model,
            served_model: "m",
            account: "a",
            stream: true,
            status: 200,
            outcome: "served",
            failure: "-",
            attempts: 1,
            finish: "-",
            usage: Usage { input: Some(0), ..Usage::default() },
            bytes_in: 1,
            bytes_out: 2,
            first_content: None,
            total: Duration::from_micros(1500),
        }
    }

    fn text(access: &Access<'_>) -> String {
        let mut text = String::new();
        Line::new(access).write(&mut text);
        text
    }

    #[test]
    fn a_hostile_model_name_cannot_forge_a_line() {
        let access = line("x status=500\nrequest=fake");
        let text = text(&access);
        assert!(!text.contains('\n') && text.contains(r#"model="x status=500\nrequest=fake""#), "{text}");
    }

    #[test]
    fn a_name_of_any_length_makes_a_line_of_bounded_length() {
        for long in ["m".repeat(1 << 20), "\u{e9}".repeat(1 << 20), "\n".repeat(1 << 20)] {
            let access = Access { finish: &long, ..line(&long) };
            let line = Line::new(&access);
            assert!(text(&access).len() < 2_000 && serde_json::to_string(&line).unwrap().len() < 2_000);
        }
    }

    #[test]
    fn a_zero_is_shown_and_an_unknown_count_is_not() {
        let access = line("m");
        let text = text(&access);
        assert!(text.contains("input=0 ") && text.contains("output=- ") && text.contains("total_ms=1.500"), "{text}");
    }

    #[test]
    fn a_name_of_any_length_is_clipped_between_two_characters() {
        assert_eq!(clip(&"é".repeat(1_000)).chars().count(), 200);
        assert_eq!(clip("gpt-4.1"), "gpt-4.1");
    }
}
