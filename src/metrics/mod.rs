//! What the SRE scrapes: counters, gauges and histograms of this process.
//!
//! `sub2api_*` for what is particular to this gateway, and the names of OpenTelemetry's conventions for generative AI
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>) as Prometheus spells them. Never holds a key, a
//! body, or a text that a client chose and no provider confirmed. Invariant: the number of time series is bounded by the
//! configuration, whatever clients send (`names`).

mod failures;
mod families;
mod names;
mod present;
mod series;
mod spread;

pub use failures::FailedAttempt;
pub use present::{AccountNow, LedgerNow, Present, WindowNow};

use crate::{
    clock::Moment,
    config::MetricBounds,
    provider::verdict::{FailureClass, Verdict},
    telemetry::Access,
    wire::{WireFormat, loss::Losses},
};
use families::Families;
use names::{
    Name::{self, Word},
    Names,
};
use prometheus_client::{encoding::prometheus_text, registry::Registry};
use series::{Kinds, Series, Worked};
use std::{fmt, time::Duration};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The gateway's own share of a request's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overhead {
    /// From the last byte of the request's body to its first attempt, without the wait for an account.
    pub request: Duration,
    /// From the last byte of the upstream's answer to the end of the exchange.
    pub reply: Duration,
}

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    families: Families,
    /// Accounts, users, providers: the operator's own words.
    own: Names,
    models: Names,
    fields: Names,
    failures: failures::Failures,
    kinds: Kinds,
    worked: Worked,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(MetricBounds::default())
    }
}

/// The operator's own words are bounded by the file; this only keeps many reloads from adding up.
const MOST_OWN: usize = 100_000;

impl Metrics {
    /// Metrics that have counted nothing yet.
    pub fn new(bounds: MetricBounds) -> Metrics {
        let mut registry = Registry::default();
        let families = Families::new(&mut registry);
        let (own, models, fields) = (Names::new(MOST_OWN), Names::new(bounds.models), Names::new(bounds.fields));
        Metrics {
            registry,
            families,
            own,
            models,
            fields,
            failures: failures::Failures::default(),
            kinds: Kinds::default(),
            worked: Worked::default(),
        }
    }

    /// Books a finished request.
    pub fn request(&self, access: &Access<'_>, provider: &'static str, overhead: Option<Overhead>) {
        let make = || {
            let labels = series::labels(access, provider, |text| self.own.learn(text), self.model_names(access));
            Series::new(&self.families, labels)
        };
        self.kinds.of(access, provider, make).count(&self.families, access, overhead);
    }

    /// A model has a label of its own once an answer has shown that it exists.
    fn model_names(&self, access: &Access<'_>) -> (Name, Name) {
        if series::is_served(access) {
            return (self.models.learn(access.model), self.models.learn(access.served_model));
        }
        (self.models.known(access.model), self.models.known(access.served_model))
    }

    /// Books an attempt: `None` for one that brought content, else why it failed.
    pub fn attempt(&self, account: &str, provider: &'static str, failed: Option<FailureClass>) {
        let of = |result| {
            let labels = [("account", self.own.learn(account)), ("provider", Word(provider)), ("result", Word(result))];
            self.families.attempts.get_or_create_owned(&labels)
        };
        match failed {
            Some(class) => _ = of(class.name()).inc(),
            None => self.worked.count((account, provider), || of("ok")),
        }
    }

    /// Keeps a failed attempt for [`Metrics::failures`].
    pub fn failed(&self, request: &str, account: &str, verdict: &Verdict, now: Moment) {
        self.failures.keep(request, account, verdict, now);
    }

    /// The last failed attempts, the newest first.
    pub fn failures(&self, most: usize) -> Vec<FailedAttempt> {
        self.failures.newest(most)
    }

    /// Books what a translation could not carry.
    pub fn losses(&self, (from, to): (WireFormat, WireFormat), losses: &Losses) {
        for loss in losses.iter() {
            let labels = [
                ("from", Word(from.name())),
                ("to", Word(to.name())),
                ("field", self.fields.learn(&plain(&loss.field))),
                ("how", Word(loss.how.name())),
            ];
            self.families.losses.get_or_create(&labels).inc();
        }
    }

    /// Books a cost in nano-dollars: of an answer, which shows that the model exists.
    pub fn cost(&self, (account, user, model): (&str, &str, &str), nanos: u64) {
        let dollars = nanos as f64 / 1e9;
        let (account, model) = (self.own.learn(account), self.models.learn(model));
        self.families.cost.get_or_create(&[("account", account), ("model", model)]).inc_by(dollars);
        self.families.user_cost.get_or_create(&[("user", self.own.learn(user))]).inc_by(dollars);
    }

    /// Everything, in Prometheus' text format 0.0.4; `present` is what holds at this moment.
    pub fn encode(&self, present: &Present) -> String {
        self.families.set(present, &|text| self.own.learn(text));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// A field's name without what a client may have put into it: places in lists, and anything but plain characters.
fn plain(field: &str) -> String {
    let parts = field.split('.').filter(|part| !part.bytes().all(|b| b.is_ascii_digit()));
    let plain = parts.filter(|part| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_[]-=".contains(&b)));
    plain.take(4).collect::<Vec<_>>().join(".")
}

/// OpenTelemetry's word for a call.
pub fn operation(call: &str) -> &'static str {
    match call {
        "messages" | "chat_completions" | "responses" => "chat",
        "generate_content" | "stream_generate_content" => "generate_content",
        "completions" => "text_completion",
        "embeddings" | "embed_content" | "batch_embed_contents" => "embeddings",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Usage;

    fn access<'a>(model: &'a str, status: u16) -> Access<'a> {
        Access {
            request: "r",
            user: "ada",
            key: "-",
            client: "",
            call: "messages",
            format: "anthropic",
            upstream_format: "openai_chat",
            model,
            served_model: model,
            account: "a",
            stream: true,
            status,
            outcome: if status == 200 { "served" } else { "refused" },
            failure: "-",
            attempts: 1,
            finish: "-",
            usage: Usage { input: Some(3), cache_read: Some(4), output: Some(5), ..Usage::default() },
            bytes_in: 1,
            bytes_out: 2,
            first_content: Some(Duration::from_millis(3)),
            total: Duration::from_millis(30),
        }
    }

    fn series(text: &str) -> usize {
        text.lines().filter(|line| !line.starts_with('#')).count()
    }

    #[test]
    fn ten_thousand_hostile_model_names_make_no_more_series_than_the_bound() {
        let metrics = Metrics::new(MetricBounds { models: 20, fields: 20 });
        for n in 0..10_000 {
            let model = format!("hostile-{n}\"\n{}", "x".repeat(n % 300));
            metrics.request(&access(&model, if n % 2 == 0 { 404 } else { 200 }), "openai", None);
            let mut losses = Losses::default();
            losses.dropped(format!("field-{n}.{n}"));
            metrics.losses((WireFormat::Anthropic, WireFormat::Gemini), &losses);
        }
        let text = metrics.encode(&Present::default());
        assert!(series(&text) < 2_500, "{} series", series(&text));
        assert!(text.contains("model=\"other\"") && text.len() < 1 << 20);
    }

    #[test]
    fn a_request_is_counted_once_with_its_tokens_time_and_outcome() {
        let metrics = Metrics::default();
        metrics.request(&access("claude-x", 200), "openai", Some(Overhead::default()));
        let text = metrics.encode(&Present::default());
        for line in [
            "sub2api_requests_total{call=\"messages\",format=\"anthropic\",upstream_format=\"openai_chat\",status=\"200\",outcome=\"served\"} 1",
            "sub2api_tokens_total{account=\"a\",model=\"claude-x\",kind=\"cache_read\"} 4",
            "sub2api_user_tokens_total{user=\"ada\",kind=\"output\"} 5",
            "sub2api_request_duration_seconds_count{format=\"anthropic\"} 1",
            "sub2api_overhead_seconds_count{phase=\"reply\"} 1",
            "gen_ai_client_token_usage_sum{gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"openai\",gen_ai_request_model=\"claude-x\",gen_ai_response_model=\"claude-x\",gen_ai_token_type=\"input\"} 7",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn attempts_that_brought_content_are_counted_by_account_and_provider_also_after_a_change() {
        let metrics = Metrics::default();
        for (account, provider) in [("a", "openai"), ("b", "openai"), ("a", "openai"), ("a", "groq"), ("a", "openai")] {
            metrics.attempt(account, provider, None);
        }
        metrics.attempt("a", "openai", Some(FailureClass::Fault));
        let text = metrics.encode(&Present::default());
        for line in [
            "sub2api_attempts_total{account=\"a\",provider=\"openai\",result=\"ok\"} 3",
            "sub2api_attempts_total{account=\"a\",provider=\"groq\",result=\"ok\"} 1",
            "sub2api_attempts_total{account=\"b\",provider=\"openai\",result=\"ok\"} 1",
            "sub2api_attempts_total{account=\"a\",provider=\"openai\",result=\"fault\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn requests_of_one_kind_add_up_and_those_of_others_do_not() {
        let metrics = Metrics::default();
        for user in ["ada", "bob", "ada"] {
            metrics.request(&Access { user, ..access("claude-x", 200) }, "openai", None);
        }
        metrics.request(&access("claude-x", 429), "openai", None);
        let text = metrics.encode(&Present::default());
        for line in [
            "sub2api_user_requests_total{user=\"ada\"} 3",
            "sub2api_user_requests_total{user=\"bob\"} 1",
            "status=\"200\",outcome=\"served\"} 3",
            "status=\"429\",outcome=\"refused\"} 1",
            "sub2api_user_tokens_total{user=\"bob\",kind=\"output\"} 5",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn places_in_lists_and_clients_words_are_left_out_of_field_names() {
        assert_eq!(plain("messages.12.content.3.cache_control"), "messages.content.cache_control");
        assert_eq!(plain("tools.\"evil\n\".strict"), "tools.strict");
    }
}
