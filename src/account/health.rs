//! The state machine of one account. Pure: `now` is an argument.
//!
//! Keeps what failed, for the account and for single models of it, and says whether a request may be sent. Never waits,
//! never logs. Its invariant: a pause is never shortened by a later shorter one, and never longer than the provider's own
//! word or the configured bound.
//!
//! A told pause is believed: when it is over, the account is ready. A guessed one is tested: when it is over, one request
//! at a time may go until one succeeds.

pub use super::state::{Change, Operation, State};
use super::track::Track;
use crate::{clock::Moment, config::Cooldown, provider::verdict::FailureClass};
use std::time::Duration;

/// What a failed attempt shows.
#[derive(Clone, Copy, Debug)]
pub struct Sign<'a> {
    /// Its class.
    pub class: FailureClass,
    /// How long the provider asks to stay away.
    pub told: Option<Duration>,
    /// Whether only this model is meant.
    pub model_only: bool,
    /// Whether no second sign is needed.
    pub is_certain: bool,
    /// The upstream's name of the model.
    pub model: &'a str,
    /// When the attempt began. What began before the last pause did is an echo of the same trouble.
    pub begun: Moment,
    /// A random number, for jitter.
    pub draw: u64,
}

/// Whether a request may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Open,
    /// The one request that tests the account is out: its end will tell.
    Testing,
    /// Not before this time, if it is known.
    Away(Option<Moment>),
}

/// Which tests a request carries out. They are given back with [`Health::release`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    account: bool,
    model: bool,
}

impl Probe {
    /// Whether the request tests anything.
    pub fn is_any(self) -> bool {
        self.account || self.model
    }
}

/// Cooldowns and suspicion of one account.
#[derive(Debug)]
pub struct Health {
    account: Track,
    models: Vec<(Box<str>, Track)>,
    most_models: usize,
}

impl Health {
    /// An account that nothing is known of, so many models of which are remembered apart at most; with more, the one that
    /// comes back first is forgotten.
    pub fn new(most_models: usize) -> Health {
        Health { account: Track::default(), models: Vec::new(), most_models: most_models.max(1) }
    }

    /// Whether nothing is remembered, so that every request may go without a look.
    pub fn is_calm(&self) -> bool {
        self.account.is_quiet() && self.models.is_empty()
    }

    /// The state of the account as a whole.
    pub fn state(&self, now: Moment) -> State {
        self.account.state(now)
    }

    /// The models that are not ready, with their states.
    pub fn models(&self, now: Moment) -> impl Iterator<Item = (&str, State)> {
        self.models.iter().map(move |(name, track)| (&**name, track.state(now))).filter(|(_, s)| *s != State::Ready)
    }

    /// Whether a request for this model may go.
    pub fn standing(&self, model: &str, now: Moment) -> Standing {
        let account = self.account.standing(now);
        let model = self.track(model).map_or(Standing::Open, |track| track.standing(now));
        match (account, model) {
            (Standing::Away(None), _) | (_, Standing::Away(None)) => Standing::Away(None),
            (Standing::Away(Some(a)), Standing::Away(Some(b))) => {
                Standing::Away(Some(if a.mono >= b.mono { a } else { b }))
            }
            (Standing::Away(until), _) | (_, Standing::Away(until)) => Standing::Away(until),
            (Standing::Testing, _) | (_, Standing::Testing) => Standing::Testing,
            (Standing::Open, Standing::Open) => Standing::Open,
        }
    }

    /// Lets a request go if its standing is open, and hands it the tests that are due.
    pub fn admit(&mut self, model: &str, now: Moment) -> Result<Probe, Standing> {
        match self.standing(model, now) {
            Standing::Open => {}
            refused @ (Standing::Testing | Standing::Away(_)) => return Err(refused),
        }
        let account = self.account.begin_test(now);
        let model = self.track_mut(model).is_some_and(|track| track.begin_test(now));
        Ok(Probe { account, model })
    }

    /// Takes the tests back, whatever came of them.
    pub fn release(&mut self, model: &str, probe: Probe) {
        if probe.account {
            self.account.end_test();
        }
        if probe.model
            && let Some(track) = self.track_mut(model)
        {
            track.end_test();
        }
        self.forget_quiet();
    }

    /// Does what a person asks; returns the new state.
    pub fn operate(&mut self, operation: Operation, now: Moment) -> Change {
        match operation {
            Operation::Suspend => self.account.suspend(),
            Operation::Resume => self.account.clear(),
            Operation::Clear => {
                self.account.clear();
                self.models.iter_mut().for_each(|(_, track)| track.clear());
            }
            Operation::Probe => self.account.probe(now),
        }
        self.forget_quiet();
        Change { model: None, state: self.state(now), wait: None }
    }

    /// Books a failed attempt.
    pub fn fail(&mut self, sign: &Sign<'_>, cooldown: &Cooldown, now: Moment) -> Option<Change> {
        match sign.class {
            FailureClass::Client | FailureClass::NotHere => {
                self.answered(sign.model, sign.begun, now);
                None
            }
            FailureClass::Rate
            | FailureClass::Overload
            | FailureClass::MoneyGone
            | FailureClass::AuthDead
            | FailureClass::Fault => {
                let track = if sign.model_only { self.remember(sign.model, now) } else { &mut self.account };
                let changed = track.fail(sign, cooldown, now);
                self.forget_quiet();
                let (state, wait) = changed?;
                Some(Change { model: sign.model_only.then(|| sign.model.to_owned()), state, wait })
            }
        }
    }

    /// Books an attempt that brought content.
    pub fn succeed(&mut self, model: &str, begun: Moment, now: Moment) -> Option<Change> {
        let of_model = self.track_mut(model).is_some_and(|track| track.succeed(begun, now));
        let of_account = self.account.succeed(begun, now);
        self.forget_quiet();
        let model = (of_model && !of_account).then(|| model.to_owned());
        (of_model || of_account).then_some(Change { model, state: State::Ready, wait: None })
    }

    /// An answer that blames the request shows at least that the server is there.
    fn answered(&mut self, model: &str, begun: Moment, now: Moment) {
        self.account.answered(begun, now);
        if let Some(track) = self.track_mut(model) {
            track.answered(begun, now);
        }
        self.forget_quiet();
    }

    fn track(&self, model: &str) -> Option<&Track> {
        self.models.iter().find(|(name, _)| **name == *model).map(|(_, track)| track)
    }

    fn track_mut(&mut self, model: &str) -> Option<&mut Track> {
        self.models.iter_mut().find(|(name, _)| **name == *model).map(|(_, track)| track)
    }

    /// The model's track, newly made if there is none. With too many of them, the one that is back first is forgotten.
    fn remember(&mut self, model: &str, now: Moment) -> &mut Track {
        let at = match self.models.iter().position(|(name, _)| **name == *model) {
            Some(at) => at,
            None => {
                if self.models.len() >= self.most_models {
                    let first = self.models.iter().enumerate().min_by_key(|(_, (_, track))| track.back_at(now).mono);
                    if let Some(first) = first.map(|(at, _)| at) {
                        self.models.swap_remove(first);
                    }
                }
                self.models.push((model.into(), Track::default()));
                self.models.len() - 1
            }
        };
        // The index was found or made just now; the account's own track is a harmless stand-in.
        self.models.get_mut(at).map_or(&mut self.account, |(_, track)| track)
    }

    fn forget_quiet(&mut self) {
        self.models.retain(|(_, track)| !track.is_quiet());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::track::CONFIRM_AFTER, *};
    use crate::clock::ManualClock;
    use FailureClass::*;
    use proptest::prelude::*;

    const COOLDOWN: Cooldown = Cooldown {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
        told_max: Duration::from_secs(3600),
        money: Duration::from_secs(3600),
    };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// An account under a clock of its own.
    struct Bench {
        health: Health,
        clock: ManualClock,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { health: Health::new(64), clock: ManualClock::new() }
        }

        fn sign(&self, class: FailureClass) -> Sign<'static> {
            Sign {
                class,
                told: None,
                model_only: false,
                is_certain: false,
                model: "m",
                begun: self.clock.now(),
                draw: 0,
            }
        }

        fn fail(&mut self, class: FailureClass, told: Option<u64>) -> Option<Change> {
            let sign = Sign { told: told.map(secs), ..self.sign(class) };
            self.health.fail(&sign, &COOLDOWN, self.clock.now())
        }

        fn succeed(&mut self) -> Option<Change> {
            self.health.succeed("m", self.clock.now(), self.clock.now())
        }

        fn advance(&self, by: Duration) {
            self.clock.advance(by);
        }

        fn state(&self) -> State {
            self.health.state(self.clock.now())
        }

        fn standing(&self, model: &str) -> Standing {
            self.health.standing(model, self.clock.now())
        }

        fn away_for(&self, model: &str) -> Duration {
            match self.standing(model) {
                Standing::Away(Some(until)) => until.since(self.clock.now()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_told_rate_limit_is_kept_to_the_second_and_then_believed() {
        let mut bench = Bench::new();
        assert_eq!(bench.fail(Rate, Some(2)).unwrap().to_string(), "cooling for 2.0s");
        bench.advance(Duration::from_millis(1999));
        assert!(matches!(bench.state(), State::Cooling { .. }));
        bench.advance(Duration::from_millis(1));
        assert_eq!(bench.state(), State::Ready, "a short 429 is not stretched");
        let now = bench.clock.now();
        assert_eq!(bench.health.admit("m", now).map(Probe::is_any), Ok(false), "a told end needs no test");
    }

    #[test]
    fn a_rate_limit_without_a_time_backs_off_shortly_and_grows_to_the_maximum() {
        let mut bench = Bench::new();
        let mut waits = Vec::new();
        for _ in 0..9 {
            bench.fail(Rate, None);
            waits.push(bench.away_for("m").as_secs());
            bench.advance(secs(60));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        bench.succeed();
        bench.fail(Rate, None);
        assert_eq!(bench.away_for("m"), secs(1), "a success starts over");
    }

    #[test]
    fn jitter_only_ever_shortens_a_guessed_pause_and_by_a_tenth_at_most() {
        for draw in [0, 1, 500, 999, 1000, u64::MAX] {
            let mut bench = Bench::new();
            let sign = Sign { draw, ..bench.sign(Rate) };
            bench.health.fail(&sign, &COOLDOWN, bench.clock.now());
            let wait = bench.away_for("m");
            assert!(wait <= secs(1) && wait > Duration::from_millis(899), "{draw}: {wait:?}");
        }
    }

    #[test]
    fn a_told_time_is_clamped() {
        let mut bench = Bench::new();
        bench.fail(Rate, Some(1_000_000));
        assert_eq!(bench.away_for("m"), COOLDOWN.told_max);
    }

    #[test]
    fn a_burst_of_refusals_is_one_step_and_one_line() {
        let mut bench = Bench::new();
        let echo = bench.sign(Rate);
        bench.advance(Duration::from_millis(5));
        let lines = (0..50).filter_map(|_| bench.health.fail(&echo, &COOLDOWN, bench.clock.now())).count();
        assert_eq!(lines, 1);
        assert_eq!(bench.away_for("m"), secs(1), "fifty refusals at once are one trouble, not fifty");
    }

    #[test]
    fn a_later_shorter_pause_never_shortens_a_longer_one() {
        let mut bench = Bench::new();
        bench.fail(MoneyGone, Some(600));
        bench.advance(secs(1));
        assert_eq!(bench.fail(Rate, Some(5)), None);
        assert_eq!(bench.away_for("m"), secs(599));
        assert!(matches!(bench.state(), State::Exhausted { .. }));
        assert!(bench.fail(Rate, Some(900)).is_some(), "a longer one counts");
        assert_eq!(bench.away_for("m"), secs(900));
    }

    #[test]
    fn an_overload_of_one_model_leaves_the_others_alone() {
        let mut bench = Bench::new();
        let sign = Sign { model_only: true, model: "big", ..bench.sign(Overload) };
        let change = bench.health.fail(&sign, &COOLDOWN, bench.clock.now()).unwrap();
        assert_eq!(change.to_string(), "model big cooling for 1.0s");
        let forged = Change { model: Some("x\r\n\u{1b}[2J y".to_owned()), ..change };
        assert_eq!(forged.to_string(), r"model x\r\n\u{1b}[2J y cooling for 1.0s");
        assert_eq!(bench.state(), State::Ready);
        assert_eq!(bench.standing("small"), Standing::Open);
        assert_eq!(bench.away_for("big"), secs(1));
        assert_eq!(bench.health.models(bench.clock.now()).count(), 1);
    }

    #[test]
    fn money_without_a_reset_is_a_long_park_and_one_with_a_reset_lasts_until_then() {
        let mut bench = Bench::new();
        bench.fail(MoneyGone, None);
        assert_eq!(bench.away_for("m"), COOLDOWN.money);
        let mut bench = Bench::new();
        bench.fail(MoneyGone, Some(17));
        assert_eq!(bench.away_for("m"), secs(17));
        bench.advance(secs(17));
        bench.fail(MoneyGone, Some(17));
        assert_eq!(bench.away_for("m"), secs(60), "the reset told before did not come: that is proof");
        bench.advance(secs(60));
        bench.fail(MoneyGone, Some(17));
        assert_eq!(bench.away_for("m"), secs(120));
    }

    #[test]
    fn what_is_certain_needs_no_second_sign() {
        let mut bench = Bench::new();
        let passing = Sign { is_certain: true, told: Some(secs(4)), ..bench.sign(Fault) };
        let change = bench.health.fail(&passing, &COOLDOWN, bench.clock.now()).unwrap();
        assert_eq!(change.to_string(), "cooling for 4.0s");
        bench.advance(secs(4));
        assert_eq!(bench.state(), State::Ready);
        let lasting = Sign { is_certain: true, ..bench.sign(AuthDead) };
        assert_eq!(bench.health.fail(&lasting, &COOLDOWN, bench.clock.now()).unwrap().to_string(), "suspended");
    }

    #[test]
    fn a_dead_key_is_suspended_by_a_second_sign_and_never_by_the_first() {
        let mut bench = Bench::new();
        let echo = bench.sign(AuthDead);
        assert_eq!(bench.fail(AuthDead, None).unwrap().state.name(), "cooling");
        for _ in 0..10 {
            bench.health.fail(&echo, &COOLDOWN, bench.clock.now());
        }
        bench.advance(CONFIRM_AFTER);
        assert_eq!(bench.state(), State::Probing, "requests that were out together are one sign");
        assert_eq!(bench.fail(AuthDead, None).unwrap().to_string(), "suspended");
        bench.advance(secs(1_000_000));
        assert_eq!(bench.standing("m"), Standing::Away(None));
        assert_eq!(bench.succeed(), None, "only a person ends a suspension");
        assert_eq!(bench.state(), State::Suspended);
    }

    #[test]
    fn a_success_between_two_refusals_clears_the_suspicion() {
        let mut bench = Bench::new();
        bench.fail(AuthDead, None);
        bench.advance(CONFIRM_AFTER);
        assert_eq!(bench.succeed().unwrap().to_string(), "ready");
        assert!(bench.health.is_calm());
        bench.fail(AuthDead, None);
        assert_eq!(bench.state().name(), "cooling");
    }

    #[test]
    fn a_key_that_is_refused_for_one_model_twice_parks_that_model_only() {
        let mut bench = Bench::new();
        for wait in [CONFIRM_AFTER, COOLDOWN.money] {
            let sign = Sign { model_only: true, ..bench.sign(AuthDead) };
            bench.health.fail(&sign, &COOLDOWN, bench.clock.now());
            assert_eq!(bench.away_for("m"), wait);
            bench.advance(wait);
        }
        assert_eq!(bench.standing("other"), Standing::Open);
    }

    #[test]
    fn single_faults_do_not_park_an_account_and_a_row_of_them_opens_the_breaker() {
        let mut bench = Bench::new();
        for _ in 0..20 {
            assert_eq!(bench.fail(Fault, None), None);
            assert_eq!(bench.succeed(), None);
        }
        assert!(bench.health.is_calm());
        assert_eq!(bench.fail(Fault, None), None);
        assert_eq!(bench.fail(Fault, None), None);
        assert_eq!(bench.fail(Fault, None).unwrap().to_string(), "cooling for 1.0s");
    }

    #[test]
    fn an_account_that_fails_three_times_in_four_opens_the_breaker_too() {
        let mut bench = Bench::new();
        let opened = (1..=12).find(|n| match n % 4 {
            3 => bench.succeed().is_some(),
            _ => bench.fail(Fault, None).is_some(),
        });
        assert_eq!(opened, Some(5));
    }

    #[test]
    fn after_a_guessed_pause_one_request_at_a_time_tests_the_account() {
        let mut bench = Bench::new();
        (0..3).for_each(|_| drop(bench.fail(Fault, None)));
        bench.advance(secs(1));
        let now = bench.clock.now();
        let probe = bench.health.admit("m", now).unwrap();
        assert!(probe.is_any());
        assert_eq!(bench.health.admit("other", now), Err(Standing::Testing));
        bench.health.release("m", probe);
        let probe = bench.health.admit("m", now).unwrap();
        assert_eq!(bench.fail(Fault, None).unwrap().wait, Some(secs(2)), "a failed test doubles the pause");
        bench.health.release("m", probe);
        bench.advance(secs(2));
        let probe = bench.health.admit("m", bench.clock.now()).unwrap();
        assert_eq!(bench.succeed().unwrap().state, State::Ready);
        assert_eq!(bench.standing("m"), Standing::Open);
        bench.health.release("m", probe);
        assert!(bench.health.is_calm());
    }

    #[test]
    fn the_clients_faults_never_touch_the_account_and_show_that_the_server_is_there() {
        let mut bench = Bench::new();
        for class in [Client, NotHere] {
            assert_eq!(bench.fail(class, Some(100)), None);
            assert!(bench.health.is_calm());
        }
        (0..3).for_each(|_| drop(bench.fail(Fault, None)));
        bench.advance(secs(1));
        bench.fail(Client, None);
        assert!(bench.health.is_calm(), "the breaker closes");
        bench.fail(AuthDead, None);
        bench.advance(CONFIRM_AFTER);
        bench.fail(Client, None);
        assert_eq!(bench.state(), State::Probing, "but a 400 proves nothing about the key");
    }

    #[test]
    fn a_stream_that_began_before_the_trouble_does_not_end_it() {
        let mut bench = Bench::new();
        let before = bench.clock.now();
        bench.advance(secs(1));
        bench.fail(Rate, None);
        bench.advance(secs(5));
        assert_eq!(bench.health.succeed("m", before, bench.clock.now()), None);
        assert_eq!(bench.state(), State::Probing);
    }

    #[test]
    fn the_models_remembered_are_bounded_and_the_nearest_to_its_end_goes_first() {
        let mut bench = Bench::new();
        for n in 0..(64 + 10) {
            let model = format!("m{n}");
            let sign = Sign { told: Some(secs(1000 - n)), model_only: true, model: &model, ..bench.sign(Rate) };
            bench.health.fail(&sign, &COOLDOWN, bench.clock.now());
        }
        assert_eq!(bench.health.models.len(), 64);
        assert_eq!(bench.away_for("m0"), secs(1000));
    }

    fn any_class() -> impl Strategy<Value = FailureClass> {
        prop_oneof![
            Just(Rate),
            Just(Overload),
            Just(MoneyGone),
            Just(AuthDead),
            Just(Fault),
            Just(Client),
            Just(NotHere)
        ]
    }

    proptest! {
        #[test]
        fn no_sequence_of_failures_and_successes_shortens_a_pause_or_passes_its_bound(
            steps in prop::collection::vec((any_class(), prop::option::of(0_u64..9000), 0_u64..90, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let mut bench = Bench::new();
            let longest = COOLDOWN.told_max.max(COOLDOWN.money);
            for (class, told, pass, model_only, succeeds) in steps {
                let before = bench.standing("m");
                let now = bench.clock.now();
                if succeeds {
                    bench.health.succeed("m", now, now);
                } else {
                    let sign = Sign { told: told.map(secs), model_only, ..bench.sign(class) };
                    bench.health.fail(&sign, &COOLDOWN, now);
                }
                let after = bench.standing("m");
                match (before, after) {
                    (Standing::Away(Some(before)), Standing::Away(Some(after))) => prop_assert!(after.mono >= before.mono),
                    (Standing::Away(_), after) => prop_assert_eq!(after, Standing::Away(None)),
                    (Standing::Open | Standing::Testing, Standing::Away(Some(after))) => prop_assert!(after.since(now) <= longest),
                    (Standing::Open | Standing::Testing, _) => {}
                }
                let may_go = bench.health.admit("m", now);
                prop_assert_eq!(may_go.is_ok(), after == Standing::Open);
                if let Ok(probe) = may_go {
                    bench.health.release("m", probe);
                }
                bench.advance(secs(pass));
            }
        }
    }
}
