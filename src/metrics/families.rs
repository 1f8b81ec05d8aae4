//! Every metric's name, help and labels, in one place.

use super::{
    names::Name,
    present::{AccountNow, Present},
    spread::Shown,
};
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

/// The labels of one series: names and values.
type Labels<const N: usize> = [(&'static str, Name); N];
type Counts<const N: usize> = Family<Labels<N>, Counter>;
type Dollars<const N: usize> = Family<Labels<N>, Counter<f64, AtomicU64>>;
type Level<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;
type Spread<const N: usize> = Family<Labels<N>, Histogram, Buckets>;

/// The borders of a histogram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Seconds of whole requests, as OpenTelemetry advises for `gen_ai.client.operation.duration`.
const SECONDS: Buckets =
    Buckets(&[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]);
/// Seconds to the first content, as it advises for `gen_ai.server.time_to_first_token`.
const FIRST: Buckets =
    Buckets(&[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]);
/// Seconds of our own.
const OWN: Buckets = Buckets(&[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5]);
/// Tokens, as it advises for `gen_ai.client.token.usage`.
const TOKENS: Buckets = Buckets(&[
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
    67108864.0,
]);

/// The metrics that are written to.
pub(super) struct Families {
    pub(super) requests: Counts<5>,
    pub(super) user_requests: Counts<1>,
    pub(super) attempts: Counts<3>,
    pub(super) tokens: Counts<3>,
    pub(super) user_tokens: Counts<2>,
    pub(super) cost: Dollars<2>,
    pub(super) user_cost: Dollars<1>,
    pub(super) bytes: Counts<1>,
    pub(super) losses: Counts<4>,
    pub(super) duration: Spread<1>,
    pub(super) first_content: Spread<1>,
    pub(super) overhead: Spread<1>,
    pub(super) gen_ai_tokens: Spread<5>,
    pub(super) gen_ai_duration: Spread<5>,
    pub(super) gen_ai_first_token: Spread<1>,
    now: Now,
}

/// The metrics that are set when they are asked for.
#[derive(Default)]
struct Now {
    in_flight: Level<1>,
    state: Level<2>,
    cooldown: Level<1>,
    headroom: Level<2>,
    places: Shown,
    waits: Shown,
    /// One for each of `Present::readings`, in its order.
    readings: Vec<Gauge<f64, AtomicU64>>,
}

impl Families {
    /// Enters all of them.
    pub(super) fn new(registry: &mut Registry) -> Families {
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("sub2api_build", "The running program", Info::new(build.to_vec()));
        let mut families = Families {
            requests: Family::default(),
            user_requests: Family::default(),
            attempts: Family::default(),
            tokens: Family::default(),
            user_tokens: Family::default(),
            cost: Family::default(),
            user_cost: Family::default(),
            bytes: Family::default(),
            losses: Family::default(),
            duration: Family::new_with_constructor(SECONDS),
            first_content: Family::new_with_constructor(FIRST),
            overhead: Family::new_with_constructor(OWN),
            gen_ai_tokens: Family::new_with_constructor(TOKENS),
            gen_ai_duration: Family::new_with_constructor(SECONDS),
            gen_ai_first_token: Family::new_with_constructor(FIRST),
            now: Now::default(),
        };
        families.register_counts(registry);
        families.register_spreads(registry);
        families.now.register(registry);
        families
    }

    fn register_counts(&self, registry: &mut Registry) {
        registry.register("sub2api_requests", "Finished requests", self.requests.clone());
        registry.register("sub2api_user_requests", "Finished requests of each user", self.user_requests.clone());
        registry.register("sub2api_attempts", "Attempts at accounts, by what came of them", self.attempts.clone());
        registry.register("sub2api_tokens", "Tokens of each account and model, by kind", self.tokens.clone());
        registry.register("sub2api_user_tokens", "Tokens of each user, by kind", self.user_tokens.clone());
        registry.register("sub2api_cost_usd", "Cost in US dollars of each account and model", self.cost.clone());
        registry.register("sub2api_user_cost_usd", "Cost in US dollars of each user", self.user_cost.clone());
        registry.register("sub2api_body_bytes", "Bytes of request bodies (in) and answers (out)", self.bytes.clone());
        let losses = "Fields that a translation could not carry as they were";
        registry.register("sub2api_translation_losses", losses, self.losses.clone());
    }

    fn register_spreads(&self, registry: &mut Registry) {
        let first = "Time from a request's arrival to its first content";
        registry.register("sub2api_request_duration_seconds", "Time of whole requests", self.duration.clone());
        registry.register("sub2api_first_content_seconds", first, self.first_content.clone());
        let overhead =
            "The gateway's own share: before the first attempt without waiting, and after the upstream's end";
        registry.register("sub2api_overhead_seconds", overhead, self.overhead.clone());
        registry.register("gen_ai_client_token_usage", "Tokens of each call", self.gen_ai_tokens.clone());
        let duration = "Time of calls to providers, as clients see it";
        registry.register("gen_ai_client_operation_duration_seconds", duration, self.gen_ai_duration.clone());
        let first_token = "Time to the first token of streamed answers";
        registry.register("gen_ai_server_time_to_first_token_seconds", first_token, self.gen_ai_first_token.clone());
    }

    /// Takes over what holds at this moment; what is no longer there disappears.
    pub(super) fn set(&self, present: &Present, name: &dyn Fn(&str) -> Name) {
        let now = &self.now;
        for (gauge, reading) in now.readings.iter().zip(present.readings()) {
            gauge.set(reading.value);
        }
        now.places.set(present.places.clone());
        now.waits.set(present.waits.clone());
        for level in [&now.in_flight, &now.cooldown] {
            level.clear();
        }
        for level in [&now.state, &now.headroom] {
            level.clear();
        }
        for account in &present.accounts {
            now.set(account, name);
        }
    }
}

impl Now {
    fn register(&mut self, registry: &mut Registry) {
        registry.register("sub2api_account_in_flight", "Requests in flight at each account", self.in_flight.clone());
        registry.register("sub2api_account_state", "1 for the state that an account is in", self.state.clone());
        let cooldown = "Seconds until an account comes back by itself";
        registry.register("sub2api_account_cooldown_seconds", cooldown, self.cooldown.clone());
        let headroom = "Share of an account's window that is left, 0 to 1";
        registry.register("sub2api_account_headroom_ratio", headroom, self.headroom.clone());
        let places = "Place in line of each request that began to wait for an account, itself included";
        registry.register("sub2api_queue_position", places, self.places.clone());
        let waits = "Wait of each request that got an account after waiting";
        registry.register("sub2api_queue_wait_seconds", waits, self.waits.clone());
        for reading in Present::default().readings() {
            let gauge = Gauge::default();
            registry.register(reading.name, reading.help, gauge.clone());
            self.readings.push(gauge);
        }
    }

    fn set(&self, account: &AccountNow, name: &dyn Fn(&str) -> Name) {
        let own = ("account", name(&account.name));
        let of = [own.clone()];
        self.in_flight.get_or_create(&of).set(f64::from(account.in_flight));
        self.cooldown.get_or_create(&of).set(account.cooldown.as_secs_f64());
        self.state.get_or_create(&[own.clone(), ("state", Name::Word(account.state))]).set(1.0);
        for window in &account.windows {
            self.headroom.get_or_create(&[own.clone(), ("window", name(&window.name))]).set(window.left);
        }
    }
}
