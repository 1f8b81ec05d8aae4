//! The series that a finished request counts in, found once for all requests of a kind.
//!
//! Labels are compared and hashed for every series; a request counts in fifteen. Those of one kind (same user, account,
//! model, …) count in the same ones, which are therefore kept together. What is kept is bounded; only kinds whose labels
//! can never change any more are.

use super::{
    Overhead,
    families::Families,
    names::Name::{self, Word},
    operation,
};
use crate::telemetry::Access;
use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

/// Most kinds that are kept; a further one is looked up each time.
const MOST_KINDS: usize = 4096;
/// A kind with longer names is looked up each time.
const MOST_KEY_BYTES: usize = 512;

/// The values of all labels.
pub(super) struct Labels {
    pub(super) account: Name,
    pub(super) user: Name,
    pub(super) call: Name,
    pub(super) format: Name,
    pub(super) upstream_format: Name,
    pub(super) asked: Name,
    pub(super) served: Name,
    pub(super) status: Name,
    pub(super) outcome: Name,
    pub(super) provider: Name,
    /// The status of a failure, else empty.
    pub(super) failed: Name,
    pub(super) operation: &'static str,
}

/// The series of one kind; those that not every request of it counts in are found when one first does.
pub(super) struct Series {
    labels: Labels,
    requests: Counter,
    user_requests: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    duration: Histogram,
    gen_ai_duration: Histogram,
    first_content: OnceLock<Histogram>,
    first_token: OnceLock<Histogram>,
    overhead: OnceLock<(Histogram, Histogram)>,
    tokens: [OnceLock<(Counter, Counter)>; 6],
    gen_ai_tokens: [OnceLock<Histogram>; 2],
}

impl Series {
    /// The series with these labels.
    pub(super) fn new(families: &Families, labels: Labels) -> Series {
        let l = &labels;
        let kind = [
            ("call", l.call.clone()),
            ("format", l.format.clone()),
            ("upstream_format", l.upstream_format.clone()),
            ("status", l.status.clone()),
            ("outcome", l.outcome.clone()),
        ];
        let gen_ai_duration = l.gen_ai("error_type", l.failed.clone());
        Series {
            requests: families.requests.get_or_create_owned(&kind),
            user_requests: families.user_requests.get_or_create_owned(&[("user", l.user.clone())]),
            bytes_in: families.bytes.get_or_create_owned(&[("direction", Word("in"))]),
            bytes_out: families.bytes.get_or_create_owned(&[("direction", Word("out"))]),
            duration: families.duration.get_or_create_owned(&[("format", l.format.clone())]),
            gen_ai_duration: families.gen_ai_duration.get_or_create_owned(&gen_ai_duration),
            first_content: OnceLock::new(),
            first_token: OnceLock::new(),
            overhead: OnceLock::new(),
            tokens: Default::default(),
            gen_ai_tokens: Default::default(),
            labels,
        }
    }

    /// Counts one request.
    pub(super) fn count(&self, families: &Families, access: &Access<'_>, overhead: Option<Overhead>) {
        let seconds = access.total.as_secs_f64();
        self.requests.inc();
        self.user_requests.inc();
        self.bytes_in.inc_by(access.bytes_in as u64);
        self.bytes_out.inc_by(access.bytes_out as u64);
        self.duration.observe(seconds);
        self.gen_ai_duration.observe(seconds);
        if let Some(first) = access.first_content {
            let format = || [("format", self.labels.format.clone())];
            let spread = self.first_content.get_or_init(|| families.first_content.get_or_create_owned(&format()));
            spread.observe(first.as_secs_f64());
            if access.stream {
                let provider = || [("gen_ai_provider_name", self.labels.provider.clone())];
                let spread =
                    self.first_token.get_or_init(|| families.gen_ai_first_token.get_or_create_owned(&provider()));
                spread.observe(first.as_secs_f64());
            }
        }
        if let Some(own) = overhead {
            let phase = |phase| families.overhead.get_or_create_owned(&[("phase", Word(phase))]);
            let (request, reply) = self.overhead.get_or_init(|| (phase("request"), phase("reply")));
            request.observe(own.request.as_secs_f64());
            reply.observe(own.reply.as_secs_f64());
        }
        self.count_tokens(families, access);
    }

    fn count_tokens(&self, families: &Families, access: &Access<'_>) {
        let (usage, labels) = (&access.usage, &self.labels);
        let kinds = [
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
            ("cache_write_1h", usage.cache_write_1h),
            ("output", usage.output),
            ("reasoning", usage.reasoning),
        ];
        for ((kind, count), series) in kinds.into_iter().zip(&self.tokens) {
            let Some(count) = count.filter(|count| *count > 0) else { continue };
            let (by_account, by_user) = series.get_or_init(|| labels.tokens(families, Word(kind)));
            by_account.inc_by(count);
            by_user.inc_by(count);
        }
        if usage.is_empty() {
            return;
        }
        let kinds = [("input", Some(usage.total_input())), ("output", usage.output)];
        for ((kind, count), series) in kinds.into_iter().zip(&self.gen_ai_tokens) {
            let Some(count) = count else { continue };
            let of = || labels.gen_ai("gen_ai_token_type", Word(kind));
            series.get_or_init(|| families.gen_ai_tokens.get_or_create_owned(&of())).observe(count as f64);
        }
    }
}

impl Labels {
    /// By OpenTelemetry's conventions, with one more.
    fn gen_ai(&self, name: &'static str, value: Name) -> [(&'static str, Name); 5] {
        [
            ("gen_ai_operation_name", Word(self.operation)),
            ("gen_ai_provider_name", self.provider.clone()),
            ("gen_ai_request_model", self.asked.clone()),
            ("gen_ai_response_model", self.served.clone()),
            (name, value),
        ]
    }

    fn tokens(&self, families: &Families, kind: Name) -> (Counter, Counter) {
        let by_account = [("account", self.account.clone()), ("model", self.served.clone()), ("kind", kind.clone())];
        let by_user = [("user", self.user.clone()), ("kind", kind)];
        (families.tokens.get_or_create_owned(&by_account), families.user_tokens.get_or_create_owned(&by_user))
    }
}

/// The series of the kinds that were counted.
#[derive(Default)]
pub(super) struct Kinds(RwLock<HashMap<Box<str>, Arc<Series>>>);

impl Kinds {
    /// The series of a request's kind, made by `make` where they are not known. Only the kinds of requests that were
    /// served are kept: their models have labels of their own, or never will.
    pub(super) fn of(&self, access: &Access<'_>, provider: &str, make: impl FnOnce() -> Series) -> Arc<Series> {
        thread_local! {
            /// Room for a key, used again and again.
            static KEY: RefCell<String> = const { RefCell::new(String::new()) };
        }
        KEY.with_borrow_mut(|key| {
            write_key(key, access, provider);
            if let Some(series) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key.as_str()) {
                return series.clone();
            }
            let series = Arc::new(make());
            let mut kinds = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if is_served(access) && key.len() <= MOST_KEY_BYTES && kinds.len() < MOST_KINDS {
                kinds.insert(key.as_str().into(), series.clone());
            }
            // A client's own words can be of any length.
            key.clear();
            key.shrink_to(MOST_KEY_BYTES);
            series
        })
    }
}

/// The counters of attempts that brought content, by account: every request counts in one.
#[derive(Default)]
pub(super) struct Worked(RwLock<HashMap<Box<str>, (&'static str, Counter)>>);

impl Worked {
    /// Counts one, in the counter that `find` finds where it is not known.
    pub(super) fn count(&self, (account, provider): (&str, &'static str), find: impl FnOnce() -> Counter) {
        if let Some((of, counter)) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(account)
            && *of == provider
        {
            counter.inc();
            return;
        }
        let counter = find();
        counter.inc();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_KINDS || known.contains_key(account) {
            known.insert(account.into(), (provider, counter));
        }
    }
}

/// Whether a provider has confirmed the model of this request.
pub(super) fn is_served(access: &Access<'_>) -> bool {
    access.status == 200 && access.outcome == "served" && access.served_model != "-"
}

fn write_key(key: &mut String, access: &Access<'_>, provider: &str) {
    let words = [
        access.user,
        access.account,
        access.call,
        access.format,
        access.upstream_format,
        access.outcome,
        provider,
        access.served_model,
        access.model,
    ];
    key.clear();
    key.push_str(itoa::Buffer::new().format(access.status));
    for word in words {
        key.push('\0');
        key.push_str(word);
    }
}

/// The labels of a request; `own` and `models` give their values.
pub(super) fn labels(
    access: &Access<'_>,
    provider: &'static str,
    own: impl Fn(&str) -> Name,
    (asked, served): (Name, Name),
) -> Labels {
    let status = own(itoa::Buffer::new().format(access.status));
    Labels {
        account: own(access.account),
        user: own(access.user),
        call: own(access.call),
        format: own(access.format),
        upstream_format: own(access.upstream_format),
        asked,
        served,
        failed: if access.status >= 400 { status.clone() } else { Word("") },
        status,
        outcome: own(access.outcome),
        provider: Word(provider),
        operation: operation(access.call),
    }
}
