//! Traces, for who switched them on: one span for each request, one below it for each attempt.
//!
//! Names and attributes follow OpenTelemetry's conventions for generative AI
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>). Never holds a key, a body, or what was said to a
//! model. Invariant: the queue to the exporter is bounded; what does not fit is dropped and counted, and never waited for.

mod otlp;

pub use otlp::export;

use crate::{clock::Moment, wire::Usage};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A finished request with its attempts.
#[derive(Clone, Debug)]
pub struct RequestTrace {
    /// Whose trace it belongs to.
    pub context: Context,
    /// The id that both sides saw.
    pub request_id: String,
    /// The call, as the log names it.
    pub call: &'static str,
    /// OpenTelemetry's word for it.
    pub operation: &'static str,
    /// The user, or a dash.
    pub user: String,
    /// The model asked for.
    pub model: String,
    /// The status that the client got.
    pub status: u16,
    /// How it ended, as the log says it.
    pub outcome: &'static str,
    /// When it began and ended.
    pub time: (Moment, Moment),
    /// Its attempts.
    pub attempts: Vec<AttemptTrace>,
}

/// One attempt at one account.
#[derive(Clone, Debug)]
pub struct AttemptTrace {
    /// Its span.
    pub span: u64,
    /// The account's name.
    pub account: String,
    /// The provider's name.
    pub provider: &'static str,
    /// The model, in the provider's name.
    pub model: String,
    /// The upstream's status, 0 for none.
    pub status: u16,
    /// Why it failed: the class, and the reason as the log says it.
    pub failed: Option<(&'static str, String)>,
    /// What the provider reported.
    pub usage: Usage,
    /// The finish reason in the provider's word.
    pub finish: Option<String>,
    /// When it began and ended.
    pub time: (Moment, Moment),
}

/// Where a request stands in a trace (<https://www.w3.org/TR/trace-context/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: u128,
    /// The caller's span, 0 for none.
    pub parent: u64,
    /// The request's own span.
    pub span: u64,
}

impl Context {
    /// The place that a `traceparent` header gives, else the beginning of a trace of its own. `draw` gives random numbers.
    pub fn new(traceparent: Option<&str>, mut draw: impl FnMut() -> u64) -> Context {
        let span = draw().max(1);
        if let Some((trace, parent)) = traceparent.and_then(told) {
            return Context { trace, parent, span };
        }
        let trace = (u128::from(draw()) << 64 | u128::from(draw())).max(1);
        Context { trace, parent: 0, span }
    }
}

/// Trace and span of a `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`; zeroes are invalid, later versions may be longer.
fn told(header: &str) -> Option<(u128, u64)> {
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = (version.len(), trace.len(), span.len(), flags.len());
    let is_hex = [version, trace, span, flags].iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
    if lengths != (2, 32, 16, 2)
        || !is_hex
        || version.eq_ignore_ascii_case("ff")
        || (version == "00" && parts.next().is_some())
    {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (trace != 0 && span != 0).then_some((trace, span))
}

/// Finished requests that wait for the exporter.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<VecDeque<RequestTrace>>,
    most: usize,
    dropped: AtomicU64,
}

impl Queue {
    /// At most this many requests wait.
    pub fn new(most: usize) -> Queue {
        Queue { waiting: Mutex::default(), most, dropped: AtomicU64::new(0) }
    }

    /// Adds a request; drops it where too many wait.
    pub fn push(&self, trace: RequestTrace) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < self.most {
            waiting.push_back(trace);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes up to `most` of those that wait, the oldest first.
    pub fn take(&self, most: usize) -> Vec<RequestTrace> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(most);
        waiting.drain(..count).collect()
    }

    /// How many were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_trace_is_joined_and_a_broken_header_begins_one() {
        let mut next = 6_u64;
        let mut draw = || {
            next += 1;
            next
        };
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let joined = Context::new(Some(header), &mut draw);
        assert_eq!((joined.trace, joined.parent), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7));
        for broken in
            ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", &format!("{header}-x")]
        {
            let own = Context::new(Some(broken), &mut draw);
            assert!(own.parent == 0 && own.trace != 0, "{broken}");
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let clock = crate::clock::ManualClock::new();
        let trace = RequestTrace {
            context: Context { trace: 1, parent: 0, span: 2 },
            request_id: "r".into(),
            call: "messages",
            operation: "chat",
            user: "-".into(),
            model: "m".into(),
            status: 200,
            outcome: "served",
            time: (clock.now(), clock.now()),
            attempts: Vec::new(),
        };
        let queue = Queue::new(2);
        for _ in 0..5 {
            queue.push(trace.clone());
        }
        assert_eq!((queue.take(10).len(), queue.dropped()), (2, 3));
    }
}
