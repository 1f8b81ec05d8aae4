//! What an account's provider says is left of its limits, less what we have sent since. Pure: `now` is an argument.
//!
//! Windows of subscriptions hold for the account, all others for each model apart, as providers count. Its invariant: a
//! window blocks nobody beyond the reset that was told, and a reply to an earlier request never replaces what a later one
//! said. At its reset a window is taken to be whole again, once and for a minute at most, so that not all who waited are
//! sent at once; after that it is forgotten until the next reply tells of it. Bounded in models.

use super::outlook::{LimitName, Outlook};
use crate::{
    clock::Moment,
    provider::headroom::{Headroom, Reported, WindowKind},
};
use std::time::Duration;

/// So long a window is taken to be whole after its reset.
const ASSUMED: Duration = Duration::from_secs(60);
/// Resets are told to the second; less of a difference is none.
const SAME_RESET: Duration = Duration::from_secs(2);

/// What a request takes of the windows, in tokens; estimated before the call, known after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
}

impl Tokens {
    /// A quarter of it.
    pub(super) fn quarter(self) -> Tokens {
        Tokens { input: self.input / 4, output: self.output / 4 }
    }

    /// Both together.
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// What has been sent to a model since it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    requests: u64,
    input: u64,
    output: u64,
}

impl Tally {
    fn of(self, kind: WindowKind) -> u64 {
        match kind {
            WindowKind::Requests | WindowKind::RequestsPerDay => self.requests,
            WindowKind::Tokens | WindowKind::TokensPerDay => self.input.saturating_add(self.output),
            WindowKind::InputTokens => self.input,
            WindowKind::OutputTokens => self.output,
            // Nobody says how much a request takes of a share.
            WindowKind::FiveHours | WindowKind::Week | WindowKind::ModelWeek => 0,
        }
    }

    fn plus(self, tokens: Tokens) -> Tally {
        Tally {
            requests: self.requests.saturating_add(1),
            input: self.input.saturating_add(tokens.input),
            output: self.output.saturating_add(tokens.output),
        }
    }
}

/// Which request a reply answers: when it was sent, and the model's tally with it, if the model was watched by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) begun: Moment,
    pub(super) tally: Option<Tally>,
}

/// One window, for those who look at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// What it counts.
    pub kind: WindowKind,
    /// What it holds; for a share ten thousand.
    pub limit: u64,
    /// What is left of it by our reckoning.
    pub left: u64,
    /// When it is whole again, if that is known.
    pub reset: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    limit: u64,
    left: u64,
    reset: Option<Moment>,
    read: Moment,
    /// When the request was sent whose reply told it.
    begun: Moment,
    /// The tally with that request in it.
    sent: Tally,
    /// The reset that was told first of those that have not come yet.
    anchor: Option<Moment>,
    /// Whether it fills up little by little: its reset was seen to move on before it came.
    is_refilling: bool,
    /// Nobody told it: it is what a window is at its reset.
    is_assumed: bool,
}

impl Reading {
    /// How long it takes to be whole again from what was left.
    fn span(&self) -> Option<Duration> {
        self.reset.map(|reset| reset.since(self.read))
    }

    fn is_over(&self, now: Moment) -> bool {
        now.mono >= self.reset.unwrap_or_else(|| self.read.plus(ASSUMED)).mono
    }

    /// What flows back in a second, if it fills up little by little.
    fn refill(&self) -> f64 {
        let span = self.span().filter(|_| self.is_refilling).map_or(0.0, |span| span.as_secs_f64());
        if span > 0.0 { (self.limit - self.left) as f64 / span } else { 0.0 }
    }

    fn left(&self, kind: WindowKind, sent: Tally, now: Moment) -> f64 {
        let since = sent.of(kind).saturating_sub(self.sent.of(kind)) as f64;
        let back = self.refill() * now.since(self.read).as_secs_f64();
        (self.left as f64 - since + back).clamp(0.0, self.limit as f64)
    }

    fn outlook(&self, kind: WindowKind, sent: Tally, need: Tokens, now: Moment) -> Outlook {
        let left = self.left(kind, sent, now);
        let share = left / self.limit as f64;
        // What is larger than the limit goes alone; the provider may take it.
        let need = match kind {
            WindowKind::FiveHours | WindowKind::Week | WindowKind::ModelWeek => 1.0,
            WindowKind::Requests
            | WindowKind::RequestsPerDay
            | WindowKind::Tokens
            | WindowKind::TokensPerDay
            | WindowKind::InputTokens
            | WindowKind::OutputTokens => Tally::default().plus(need).of(kind).min(self.limit) as f64,
        };
        let room_at = self.reset.filter(|_| left < need).map(|reset| match self.refill() {
            rate if rate > 0.0 => {
                let wait = Duration::try_from_secs_f64((need - left) / rate).unwrap_or(Duration::MAX);
                now.plus(wait.min(reset.since(now)))
            }
            _ => reset,
        });
        let review = match self.reset {
            _ if share >= 1.0 => None,
            Some(_) if self.is_refilling => Some(now.plus(REFILL_REVIEW)),
            reset => reset,
        };
        Outlook { share, blocked: room_at.map(|at| (LimitName::Told(kind), Some(at))), review }
    }

    /// The window at its reset: whole again, for as long as it would take to use it up, as far as that can be known.
    fn renewed(&self, sent: Tally, now: Moment) -> Reading {
        let used = (self.limit - self.left).max(1) as f64 / self.limit as f64;
        let whole = self.span().map_or(0.0, |span| span.as_secs_f64() / used);
        let span = Duration::try_from_secs_f64(whole).unwrap_or(ASSUMED).min(ASSUMED);
        Reading {
            left: self.limit,
            reset: Some(now.plus(span)),
            read: now,
            begun: now,
            sent,
            is_assumed: true,
            ..*self
        }
    }
}

/// How often a window that fills up little by little is looked at again.
const REFILL_REVIEW: Duration = Duration::from_millis(500);

/// The windows of one account, or of one model of it.
#[derive(Debug, Default)]
struct Readings {
    /// Those that were told, in the order of [`WindowKind::ALL`]: most providers tell of two or three.
    kinds: Vec<(WindowKind, Reading)>,
}

impl Readings {
    fn take(&mut self, told: &Reported, origin: Origin, sent: Tally, now: Moment) {
        let found = self.kinds.binary_search_by_key(&told.kind.index(), |(kind, _)| kind.index());
        let place = found.ok().and_then(|at| self.kinds.get(at)).map(|(_, reading)| *reading);
        let old = place.filter(|old| !old.is_over(now));
        if old.is_some_and(|old| origin.begun.mono < old.begun.mono) {
            return;
        }
        let reset = told.reset.map(|wait| now.plus(wait));
        let anchor = place.filter(|old| !old.is_assumed).and_then(|old| old.anchor);
        let anchor = anchor.filter(|anchor| anchor.mono > now.mono).or(reset);
        let moved = anchor.and_then(|anchor| Some(reset?.since(anchor) > SAME_RESET));
        let known = place.map_or(0, |old| old.limit);
        let reading = Reading {
            limit: told.limit.unwrap_or(known.max(told.left)).max(1),
            left: told.left,
            reset,
            read: now,
            begun: origin.begun,
            sent: origin.tally.unwrap_or(sent),
            anchor,
            is_refilling: place.is_some_and(|old| old.is_refilling) || moved == Some(true),
            is_assumed: false,
        };
        match found {
            Ok(at) => self.kinds.iter_mut().skip(at).take(1).for_each(|place| place.1 = reading),
            Err(at) => self.kinds.insert(at, (told.kind, reading)),
        }
    }

    fn roll(&mut self, sent: Tally, now: Moment) {
        self.kinds.retain_mut(|(_, reading)| {
            let is_over = reading.is_over(now);
            let stays = !is_over || (!reading.is_assumed && reading.reset.is_some());
            if is_over && stays {
                *reading = reading.renewed(sent, now);
            }
            stays
        });
    }

    fn outlook(&self, sent: Tally, need: Tokens, now: Moment) -> Outlook {
        let told = self.kinds.iter().map(|(kind, reading)| reading.outlook(*kind, sent, need, now));
        told.fold(Outlook::CLEAR, Outlook::and)
    }

    fn figures(&self, sent: Tally, now: Moment) -> impl Iterator<Item = Figure> {
        self.kinds.iter().map(move |(kind, reading)| {
            let left = reading.left(*kind, sent, now) as u64;
            Figure { kind: *kind, limit: reading.limit, left, reset: reading.reset }
        })
    }
}

#[derive(Debug)]
struct ModelWindows {
    model: Box<str>,
    readings: Readings,
    sent: Tally,
    read: Moment,
}

/// All reported windows of one account.
#[derive(Debug)]
pub(super) struct Windows {
    shared: Readings,
    models: Vec<ModelWindows>,
    most_models: usize,
}

impl Windows {
    /// None yet, and of so many models at most; with more, the one that was told of longest ago is forgotten.
    pub(super) fn new(most_models: usize) -> Windows {
        Windows { shared: Readings::default(), models: Vec::new(), most_models: most_models.max(1) }
    }

    /// Whether nothing is known, so that every request has room.
    pub(super) fn is_silent(&self) -> bool {
        self.models.is_empty() && self.shared.kinds.is_empty()
    }

    /// Takes what a reply tells. `others` is what else was in flight when the model is told of for the first time: nobody
    /// knows whether the reply counts it, so it is taken not to.
    pub(super) fn read(&mut self, model: &str, told: &Headroom, origin: Origin, others: (u32, Tokens), now: Moment) {
        for window in told.windows().filter(|window| window.kind.is_shared()) {
            self.shared.take(window, origin, Tally::default(), now);
        }
        let mut own = told.windows().filter(|window| !window.kind.is_shared()).peekable();
        if own.peek().is_none() {
            return;
        }
        let watched = self.watch(model, others, now);
        if let Some(watched) = watched {
            own.for_each(|window| watched.readings.take(window, origin, Tally::default(), now));
            watched.read = now;
        }
    }

    /// Counts a request that is being sent. Returns the model's tally with it.
    pub(super) fn send(&mut self, model: &str, tokens: Tokens) -> Option<Tally> {
        let watched = self.models.iter_mut().find(|watched| *watched.model == *model)?;
        watched.sent = watched.sent.plus(tokens);
        Some(watched.sent)
    }

    /// What the windows say about a request for this model.
    pub(super) fn outlook(&mut self, model: &str, need: Tokens, now: Moment) -> Outlook {
        self.shared.roll(Tally::default(), now);
        let shared = self.shared.outlook(Tally::default(), need, now);
        let Some(watched) = self.models.iter_mut().find(|watched| *watched.model == *model) else { return shared };
        watched.readings.roll(watched.sent, now);
        shared.and(watched.readings.outlook(watched.sent, need, now))
    }

    /// Every window that is known, with its model where it is one model's.
    pub(super) fn figures(&self, now: Moment) -> Vec<(Option<String>, Figure)> {
        let shared = self.shared.figures(Tally::default(), now).map(|figure| (None, figure));
        let own = self.models.iter().flat_map(move |watched| {
            watched.readings.figures(watched.sent, now).map(|figure| (Some(watched.model.to_string()), figure))
        });
        shared.chain(own).collect()
    }

    fn watch(&mut self, model: &str, others: (u32, Tokens), now: Moment) -> Option<&mut ModelWindows> {
        if let Some(at) = self.models.iter().position(|watched| *watched.model == *model) {
            return self.models.get_mut(at);
        }
        if self.models.len() >= self.most_models {
            let oldest = self.models.iter().enumerate().min_by_key(|(_, watched)| watched.read.mono);
            if let Some(oldest) = oldest.map(|(at, _)| at) {
                self.models.swap_remove(oldest);
            }
        }
        let (count, each) = (u64::from(others.0), others.1);
        let sent = Tally {
            requests: count,
            input: each.input.saturating_mul(count),
            output: each.output.saturating_mul(count),
        };
        self.models.push(ModelWindows { model: model.into(), readings: Readings::default(), sent, read: now });
        self.models.last_mut()
    }
}

/// How scarce a share is: 0 from a half on, so that those who have plenty share alike, then a step for each sixteenth.
pub(super) fn scarcity(share: f64) -> u8 {
    if share >= 0.5 { 0 } else { 8 - (share.max(0.0) * 16.0) as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use proptest::prelude::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The windows of an account under a clock of its own.
    struct Bench {
        windows: Windows,
        clock: ManualClock,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { windows: Windows::new(32), clock: ManualClock::new() }
        }

        /// Sends a request; what comes back belongs to its reply.
        fn send(&mut self, model: &str, tokens: Tokens) -> Origin {
            Origin { begun: self.clock.now(), tally: self.windows.send(model, tokens) }
        }

        fn told(&mut self, model: &str, origin: Origin, pairs: &[(&'static str, &str)]) {
            let headers = pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect();
            let told = Headroom::read(&headers, self.clock.now());
            self.windows.read(model, &told, origin, (0, Tokens::default()), self.clock.now());
        }

        /// A request and its reply with so many requests left.
        fn requests(&mut self, limit: u64, left: u64, reset: &str) -> Origin {
            let origin = self.send("m", Tokens::default());
            self.requests_for(origin, limit, left, reset);
            origin
        }

        fn requests_for(&mut self, origin: Origin, limit: u64, left: u64, reset: &str) {
            let (limit, left) = (limit.to_string(), left.to_string());
            let pairs = [
                ("x-ratelimit-limit-requests", limit.as_str()),
                ("x-ratelimit-remaining-requests", left.as_str()),
                ("x-ratelimit-reset-requests", reset),
            ];
            self.told("m", origin, &pairs);
        }

        fn outlook(&mut self) -> Outlook {
            self.windows.outlook("m", Tokens { input: 100, output: 10 }, self.clock.now())
        }

        fn blocked_for(&mut self) -> Option<Duration> {
            let now = self.clock.now();
            self.outlook().blocked.and_then(|(_, until)| until).map(|until| until.since(now))
        }
    }

    #[test]
    fn what_is_left_is_used_up_by_what_we_send_and_then_avoided_until_the_reset() {
        let mut bench = Bench::new();
        bench.requests(100, 5, "2s");
        for _ in 0..5 {
            assert_eq!(bench.blocked_for(), None);
            bench.send("m", Tokens::default());
        }
        assert_eq!(bench.blocked_for(), Some(secs(2)));
        bench.clock.advance(secs(2));
        assert_eq!(bench.blocked_for(), None);
    }

    #[test]
    fn after_a_reset_the_window_is_whole_again_and_no_more_than_that_is_sent_before_a_reply_tells() {
        let mut bench = Bench::new();
        bench.requests(10, 0, "5s");
        bench.clock.advance(secs(5));
        for _ in 0..10 {
            assert_eq!(bench.blocked_for(), None);
            bench.send("m", Tokens::default());
        }
        assert_eq!(bench.blocked_for(), Some(secs(5)));
        bench.clock.advance(secs(5));
        assert_eq!((bench.blocked_for(), bench.outlook().share), (None, 1.0), "and that guess is made once");
        assert!(bench.windows.models[0].readings.kinds.is_empty());
    }

    #[test]
    fn a_late_reply_to_an_earlier_request_changes_nothing() {
        let mut bench = Bench::new();
        let early = bench.requests(100, 60, "60s");
        bench.clock.advance(secs(1));
        bench.requests(100, 50, "59s");
        bench.requests_for(early, 100, 59, "60s");
        assert_eq!(bench.outlook().share, 0.5);
    }

    #[test]
    fn what_was_sent_after_the_request_that_is_answered_is_not_in_its_answer() {
        let mut bench = Bench::new();
        bench.requests(100, 99, "60s");
        let answered = bench.send("m", Tokens::default());
        for _ in 0..30 {
            bench.send("m", Tokens::default());
        }
        bench.requests_for(answered, 100, 98, "60s");
        assert_eq!(bench.outlook().share, 0.68);
    }

    #[test]
    fn tokens_block_a_request_that_is_too_large_and_not_a_smaller_one() {
        let mut bench = Bench::new();
        let origin = bench.send("m", Tokens::default());
        let told = [
            ("anthropic-ratelimit-input-tokens-limit", "1000"),
            ("anthropic-ratelimit-input-tokens-remaining", "300"),
            ("anthropic-ratelimit-input-tokens-reset", "2999-01-01T00:00:00Z"),
        ];
        bench.told("m", origin, &told);
        let now = bench.clock.now();
        let mut blocked = |input| bench.windows.outlook("m", Tokens { input, output: 9_999 }, now).blocked.is_some();
        assert!(!blocked(300) && blocked(301));
        assert!(blocked(50_000), "what is larger than the limit waits for a whole window, not for ever");
    }

    #[test]
    fn a_bucket_that_fills_up_little_by_little_is_known_by_its_moving_reset() {
        let mut bench = Bench::new();
        bench.requests(60, 20, "40s");
        bench.clock.advance(secs(1));
        bench.requests(60, 10, "50s");
        for _ in 0..10 {
            bench.send("m", Tokens::default());
        }
        assert_eq!(bench.blocked_for(), Some(secs(1)), "a request a second flows back");
        bench.clock.advance(secs(5));
        assert_eq!(bench.blocked_for(), None);
        assert!((bench.outlook().share - 5.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn models_have_windows_of_their_own_and_a_subscription_is_shared() {
        let mut bench = Bench::new();
        bench.requests(10, 0, "9s");
        let now = bench.clock.now();
        let other = |bench: &mut Bench| bench.windows.outlook("other", Tokens::default(), now);
        assert_eq!(other(&mut bench).share, 1.0);
        let origin = bench.send("m", Tokens::default());
        let told = [
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-utilization", "1.0"),
            ("anthropic-ratelimit-unified-5h-reset", "99999999999"),
        ];
        bench.told("m", origin, &told);
        assert_eq!(other(&mut bench).blocked.map(|b| b.0), Some(LimitName::Told(WindowKind::FiveHours)));
    }

    #[test]
    fn a_window_without_a_reset_makes_scarce_but_never_blocks() {
        let mut bench = Bench::new();
        let origin = bench.send("m", Tokens::default());
        bench.told("m", origin, &[("x-ratelimit-limit-tokens", "500"), ("x-ratelimit-remaining-tokens", "0")]);
        assert_eq!((bench.blocked_for(), scarcity(bench.outlook().share)), (None, 8));
        bench.clock.advance(ASSUMED);
        assert_eq!(bench.outlook().share, 1.0);
    }

    #[test]
    fn the_models_watched_are_bounded_and_the_one_told_of_longest_ago_goes_first() {
        let mut bench = Bench::new();
        for n in 0..32 + 3 {
            let origin = bench.send("x", Tokens::default());
            bench.told(&format!("m{n}"), origin, &[("x-ratelimit-remaining", "1"), ("x-ratelimit-limit", "2")]);
            bench.clock.advance(Duration::from_millis(1));
        }
        assert_eq!(bench.windows.models.len(), 32);
        let now = bench.clock.now();
        assert_eq!(bench.windows.outlook("m2", Tokens::default(), now).share, 1.0);
        assert_eq!(bench.windows.outlook("m3", Tokens::default(), now).share, 0.5);
    }

    #[test]
    fn scarcity_has_no_step_above_a_half_and_eight_below() {
        let steps = [1.0, 0.5, 0.49, 0.4, 0.26, 0.2, 0.07, 0.06, 0.0].map(scarcity);
        assert_eq!(steps, [0, 0, 1, 2, 4, 5, 7, 8, 8]);
    }

    proptest! {
        #[test]
        fn a_window_never_blocks_beyond_the_reset_that_was_told(
            steps in prop::collection::vec((0_u64..50, 0_u64..50, 1_u64..90, 0_u64..40, 0_u64..20), 1..40)
        ) {
            let mut bench = Bench::new();
            // The latest time that any reply named, or that a minute's guess after a reset can reach.
            let mut latest = bench.clock.now();
            for (limit, left, reset, pass, sends) in steps {
                bench.requests(limit + 1, left.min(limit + 1), &format!("{reset}s"));
                let told = bench.clock.now().plus(secs(reset) + ASSUMED);
                latest = if told.mono > latest.mono { told } else { latest };
                for _ in 0..sends {
                    bench.send("m", Tokens::default());
                }
                let outlook = bench.outlook();
                prop_assert!((0.0..=1.0).contains(&outlook.share));
                if let Some((_, until)) = outlook.blocked {
                    prop_assert!(until.unwrap().mono <= latest.mono);
                    prop_assert!(until.unwrap().mono > bench.clock.now().mono);
                }
                bench.clock.advance(secs(pass));
            }
        }
    }
}
