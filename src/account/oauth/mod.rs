//! The access tokens of one account: which to use, when to renew, what a failed renewal means.
//!
//! A state machine: `now` is an argument, nothing here waits or calls. Its invariants: there is at most one renewal under
//! way, a token is never used past its end, and after a failed renewal none begins before its pause is over.

mod answer;
mod ask;
mod keep;

pub use answer::{Granted, read};
pub use ask::{Ask, ask};
pub use keep::{Keep, Kept};

use crate::{
    clock::Moment,
    config::{Cooldown, secret::Secret},
};
use std::time::Duration;

/// A token is renewed this long before its end, or a fifth of its life before where that is shorter; up to half as much
/// again earlier, by chance, so that accounts made together do not renew together.
const EARLY: Duration = Duration::from_secs(300);
/// What clocks may differ by and a request may take: tokens are not used in their last moments.
const LAST_MOMENTS: Duration = Duration::from_secs(10);
/// A token that the provider refuses is replaced out of turn once in this time.
const FORCED_APART: Duration = Duration::from_secs(60);
/// The life of a token whose endpoint tells none.
const USUAL_LIFE: Duration = Duration::from_secs(3600);
/// The longest life that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whether the endpoint refuses the grant itself, so that only a person can help.
    pub is_lasting: bool,
    /// For how long no renewal will be tried, or how long the endpoint asks to stay away.
    pub wait: Option<Duration>,
    /// A few words for logs and states: never the endpoint's own text.
    pub reason: String,
}

impl Trouble {
    /// A fault of network or server, which passes.
    pub fn passing(reason: impl Into<String>) -> Trouble {
        Trouble { is_lasting: false, wait: None, reason: reason.into() }
    }
}

/// What a request for a token is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Use this token.
    Use(Secret),
    /// Use this token, and begin its renewal.
    UseAndRenew(Secret),
    /// Begin a renewal, and ask again when it has ended.
    Renew,
    /// A renewal is under way: ask again when it has ended.
    Wait,
    /// There is none.
    Failed(Trouble),
}

#[derive(Debug)]
struct Access {
    token: Secret,
    renew_at: Moment,
    until: Moment,
    is_refused: bool,
}

/// The tokens of one account.
#[derive(Debug, Default)]
pub struct Tokens {
    access: Option<Access>,
    refresh: Option<Secret>,
    is_renewing: bool,
    trouble: Option<(Trouble, Moment)>,
    failures: u32,
    forced_at: Option<Moment>,
}

impl Tokens {
    /// What to do for a request now. Where it says to begin a renewal, the caller must, and report its end.
    pub fn step(&mut self, now: Moment) -> Step {
        let pause = self.trouble.as_ref().filter(|(_, until)| now.mono < until.mono);
        let access = self.access.as_ref().filter(|access| !access.is_refused && now.mono < access.until.mono);
        match (access, pause) {
            (Some(access), None) if now.mono >= access.renew_at.mono && !self.is_renewing => {
                self.is_renewing = true;
                Step::UseAndRenew(access.token.clone())
            }
            (Some(access), _) => Step::Use(access.token.clone()),
            (None, _) if self.is_renewing => Step::Wait,
            (None, Some((trouble, until))) => Step::Failed(Trouble { wait: Some(until.since(now)), ..trouble.clone() }),
            (None, None) => {
                self.is_renewing = true;
                Step::Renew
            }
        }
    }

    /// The refresh token in force, where the endpoint has replaced the configured one.
    pub fn refresh(&self) -> Option<&Secret> {
        self.refresh.as_ref()
    }

    /// Whether this is the access token held, good or not.
    pub fn holds(&self, token: &Secret) -> bool {
        self.access.as_ref().is_some_and(|access| access.token == *token)
    }

    /// A renewal that began then has brought this. `draw` is a random number.
    pub fn renewed(&mut self, granted: Granted, begun: Moment, draw: u64) {
        let life = granted.expires_in.unwrap_or(USUAL_LIFE).min(LONGEST_LIFE);
        let early = (life / 5).min(EARLY);
        let chance = early.mul_f64((draw % 1000) as f64 / 2000.0);
        self.access = Some(Access {
            token: granted.access_token,
            renew_at: begun.plus(life.saturating_sub(early + chance)),
            until: begun.plus(life.saturating_sub((life / 20).min(LAST_MOMENTS))),
            is_refused: false,
        });
        self.refresh = granted.refresh_token.or(self.refresh.take());
        self.is_renewing = false;
        self.trouble = None;
        self.failures = 0;
    }

    /// A renewal has failed. A refused grant takes the access token with it: it belongs to what was revoked.
    pub fn failed(&mut self, trouble: Trouble, cooldown: &Cooldown, (now, draw): (Moment, u64)) {
        let doubled = cooldown.base.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let chance = 1.0 - (draw % 1000) as f64 / 10_000.0;
        let told = trouble.wait.unwrap_or_default().min(cooldown.told_max);
        let pause = if trouble.is_lasting { cooldown.max } else { doubled.min(cooldown.max).mul_f64(chance).max(told) };
        if trouble.is_lasting {
            self.access = None;
        }
        self.failures = self.failures.saturating_add(1).min(31);
        self.is_renewing = false;
        self.trouble = Some((trouble, now.plus(pause)));
    }

    /// The provider refuses this token. Returns whether another one is there or will be fetched, so that the request is
    /// worth a second try: once, and not again until a while later.
    pub fn refused(&mut self, token: &Secret, now: Moment) -> bool {
        let Some(access) = &mut self.access else { return self.is_renewing };
        if access.token != *token || access.is_refused {
            return true;
        }
        if self.forced_at.is_some_and(|at| now.since(at) < FORCED_APART) {
            return false;
        }
        self.forced_at = Some(now);
        access.is_refused = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn granted(token: &str, seconds: u64) -> Granted {
        Granted { access_token: Secret::new(token), expires_in: Some(secs(seconds)), refresh_token: None }
    }

    struct Bench {
        tokens: Tokens,
        clock: ManualClock,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { tokens: Tokens::default(), clock: ManualClock::new() }
        }

        fn step(&mut self) -> Step {
            self.tokens.step(self.clock.now())
        }

        fn renewed(&mut self, token: &str, seconds: u64) {
            self.tokens.renewed(granted(token, seconds), self.clock.now(), 0);
        }

        fn failed(&mut self, trouble: Trouble) {
            self.tokens.failed(trouble, &Cooldown::default(), (self.clock.now(), 0));
        }

        fn refused(&mut self, token: &str) -> bool {
            self.tokens.refused(&Secret::new(token), self.clock.now())
        }
    }

    fn uses(token: &str) -> Step {
        Step::Use(Secret::new(token))
    }

    fn lasting() -> Trouble {
        Trouble { is_lasting: true, wait: None, reason: "invalid_grant".into() }
    }

    #[test]
    fn one_renewal_serves_all_who_wait_for_it() {
        let mut bench = Bench::new();
        assert_eq!(bench.step(), Step::Renew);
        assert!((0..100).all(|_| bench.step() == Step::Wait));
        bench.renewed("a", 3600);
        assert!((0..100).all(|_| bench.step() == uses("a")));
    }

    #[test]
    fn a_token_is_renewed_before_its_end_while_it_is_still_used() {
        let mut bench = Bench::new();
        bench.step();
        bench.renewed("a", 3600);
        bench.clock.advance(secs(3299));
        assert_eq!(bench.step(), uses("a"));
        bench.clock.advance(secs(1));
        assert_eq!(bench.step(), Step::UseAndRenew(Secret::new("a")));
        assert_eq!(bench.step(), uses("a"), "one renewal is enough");
        bench.clock.advance(secs(290));
        assert_eq!(bench.step(), Step::Wait, "it is not used in its last moments");
        bench.renewed("b", 3600);
        assert_eq!(bench.step(), uses("b"));
    }

    #[test]
    fn chance_only_ever_makes_a_renewal_earlier_and_by_half_at_most() {
        for (draw, due) in [(0, 3300), (999, 3151), (500, 3225)] {
            let mut bench = Bench::new();
            bench.step();
            bench.tokens.renewed(granted("a", 3600), bench.clock.now(), draw);
            bench.clock.advance(secs(due - 1));
            assert_eq!(bench.step(), uses("a"), "{draw}");
            bench.clock.advance(secs(1));
            assert_eq!(bench.step(), Step::UseAndRenew(Secret::new("a")), "{draw}");
        }
    }

    #[test]
    fn a_fault_on_the_way_is_tried_again_after_growing_pauses() {
        let mut bench = Bench::new();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(bench.step(), Step::Renew);
            bench.failed(Trouble::passing("503"));
            let Step::Failed(trouble) = bench.step() else { panic!("{seconds}") };
            assert_eq!((trouble.wait, trouble.is_lasting), (Some(secs(seconds)), false));
            bench.clock.advance(secs(seconds));
        }
        assert_eq!(bench.step(), Step::Renew);
        bench.renewed("a", 3600);
        bench.tokens.access = None;
        bench.step();
        bench.failed(Trouble { wait: Some(secs(30)), ..Trouble::passing("429") });
        assert!(matches!(bench.step(), Step::Failed(Trouble { wait: Some(wait), .. }) if wait == secs(30)), "as told");
    }

    #[test]
    fn a_fault_on_the_way_leaves_a_good_token_in_use() {
        let mut bench = Bench::new();
        bench.step();
        bench.renewed("a", 3600);
        bench.clock.advance(secs(3400));
        assert_eq!(bench.step(), Step::UseAndRenew(Secret::new("a")));
        bench.failed(Trouble::passing("503"));
        assert_eq!(bench.step(), uses("a"));
        bench.clock.advance(secs(1));
        assert_eq!(bench.step(), Step::UseAndRenew(Secret::new("a")));
    }

    #[test]
    fn a_refused_grant_ends_its_access_token_too_and_is_looked_at_again_later() {
        let mut bench = Bench::new();
        bench.step();
        bench.renewed("a", 3600);
        bench.clock.advance(secs(3400));
        bench.step();
        bench.failed(lasting());
        assert!(matches!(bench.step(), Step::Failed(Trouble { is_lasting: true, .. })));
        bench.clock.advance(Cooldown::default().max);
        assert_eq!(bench.step(), Step::Renew, "an account that a person resumed is tried");
    }

    #[test]
    fn a_refused_token_is_replaced_once() {
        let mut bench = Bench::new();
        bench.step();
        bench.renewed("a", 3600);
        assert!((0..100).all(|_| bench.refused("a")), "all requests that were out with it");
        assert_eq!(bench.step(), Step::Renew);
        assert_eq!(bench.step(), Step::Wait);
        bench.renewed("b", 3600);
        assert!(bench.refused("a"), "a late refusal of the old one");
        assert_eq!(bench.step(), uses("b"));
        assert!(!bench.refused("b"), "the new one is refused as well: that is no matter of age");
        assert_eq!(bench.step(), uses("b"));
        bench.clock.advance(FORCED_APART);
        assert!(bench.refused("b"));
    }

    #[test]
    fn a_rotated_refresh_token_is_kept_until_the_next_one() {
        let mut bench = Bench::new();
        assert_eq!(bench.tokens.refresh(), None);
        let rotated = Granted { refresh_token: Some(Secret::new("r2")), ..granted("a", 10) };
        bench.tokens.renewed(rotated, bench.clock.now(), 0);
        bench.renewed("b", 10);
        assert_eq!(bench.tokens.refresh(), Some(&Secret::new("r2")));
    }

    #[test]
    fn short_lives_have_short_margins_and_absurd_ones_an_end() {
        let mut bench = Bench::new();
        bench.step();
        bench.renewed("a", 10);
        bench.clock.advance(secs(7));
        assert_eq!(bench.step(), uses("a"));
        bench.clock.advance(secs(1));
        assert!(matches!(bench.step(), Step::UseAndRenew(_)));
        bench.renewed("b", u64::MAX);
        bench.clock.advance(LONGEST_LIFE);
        assert_eq!(bench.step(), Step::Renew);
        bench.renewed("c", 0);
        assert_eq!(bench.step(), Step::Renew);
    }
}
