//! How one thing that can fail is doing: an account, or one model of it. Pure: `now` is an argument.
//!
//! Its invariant: a pause is never shortened by a later shorter one, and never longer than the provider's own word or the
//! configured bound.

use super::health::{Sign, Standing, State};
use crate::{clock::Moment, config::Cooldown, provider::verdict::FailureClass};
use std::time::Duration;

/// A refused key is left alone for so long, and suspended if it is refused once more after that.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_secs(10);
/// So many faults without a success between them open the breaker. A success takes half of them back, so that one that
/// fails three times in four opens it as well.
const FAULTS_TO_OPEN: u32 = 3;
/// An extension of a pause is told again only if it adds this much, so that a burst of refusals is one line in the log.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// A time of being left alone.
#[derive(Clone, Copy, Debug)]
struct Pause {
    began: Moment,
    until: Moment,
    cause: FailureClass,
    /// Guessed, not told: its end is tested with one request at a time.
    is_guess: bool,
}

/// The state of one thing that can fail: an account, or one model of it.
#[derive(Debug, Default)]
pub(super) struct Track {
    pause: Option<Pause>,
    /// Guessed pauses in a row: the next one is longer.
    step: u32,
    /// Faults less half of them for each success.
    faults: u32,
    /// Whether the key was refused once.
    is_suspect: bool,
    is_suspended: bool,
    /// Whether the request that tests it is out.
    is_tested: bool,
}

impl Track {
    pub(super) fn is_quiet(&self) -> bool {
        self.pause.is_none() && self.faults == 0 && !self.is_suspect && !self.is_suspended && !self.is_tested
    }

    pub(super) fn state(&self, now: Moment) -> State {
        match self.pause {
            _ if self.is_suspended => State::Suspended,
            Some(Pause { until, cause, .. }) if now.mono < until.mono => match cause {
                FailureClass::MoneyGone => State::Exhausted { until },
                FailureClass::Rate
                | FailureClass::Overload
                | FailureClass::AuthDead
                | FailureClass::Fault
                | FailureClass::NotHere
                | FailureClass::Client => State::Cooling { until },
            },
            Some(Pause { is_guess: true, .. }) => State::Probing,
            Some(_) | None => State::Ready,
        }
    }

    pub(super) fn standing(&self, now: Moment) -> Standing {
        match self.state(now) {
            State::Ready => Standing::Open,
            State::Cooling { until } | State::Exhausted { until } => Standing::Away(Some(until)),
            State::Suspended => Standing::Away(None),
            State::Probing if self.is_tested => Standing::Testing,
            State::Probing => Standing::Open,
        }
    }

    pub(super) fn begin_test(&mut self, now: Moment) -> bool {
        let is_due = self.state(now) == State::Probing;
        self.is_tested |= is_due;
        is_due
    }

    pub(super) fn end_test(&mut self) {
        self.is_tested = false;
    }

    /// When its pause ends; now if there is none.
    pub(super) fn back_at(&self, now: Moment) -> Moment {
        self.pause.map_or(now, |pause| pause.until)
    }

    /// Whether an attempt that began then tells nothing new: the pause that it would cause has begun since.
    fn is_echo(&self, begun: Moment) -> bool {
        self.pause.is_some_and(|pause| begun.mono <= pause.began.mono)
    }

    /// Returns the new state with its length, if it is worth telling.
    pub(super) fn fail(
        &mut self,
        sign: &Sign<'_>,
        cooldown: &Cooldown,
        now: Moment,
    ) -> Option<(State, Option<Duration>)> {
        let is_echo = self.is_echo(sign.begun);
        let told = sign.told.map(|told| told.min(cooldown.told_max));
        if self.is_suspended || (is_echo && told.is_none()) {
            return None;
        }
        let (wait, is_guess) = match sign.class {
            FailureClass::Rate | FailureClass::Overload => match told {
                Some(told) => (told, false),
                None => (self.grow(sign.draw, cooldown), true),
            },
            FailureClass::MoneyGone => (self.money_wait(told, is_echo, cooldown), told.is_none()),
            FailureClass::AuthDead if sign.is_certain => {
                self.is_suspended = true;
                return Some((State::Suspended, None));
            }
            FailureClass::AuthDead if !self.is_suspect => {
                self.is_suspect = true;
                (CONFIRM_AFTER, true)
            }
            FailureClass::AuthDead if is_echo => return None,
            FailureClass::AuthDead if sign.model_only => (cooldown.money, true),
            FailureClass::AuthDead => {
                self.is_suspended = true;
                return Some((State::Suspended, None));
            }
            FailureClass::Fault if sign.is_certain && told.is_some() => (told.unwrap_or_default(), false),
            FailureClass::Fault => {
                let was_probing = self.state(now) == State::Probing;
                self.faults = self.faults.saturating_add(1);
                if is_echo || !(was_probing || self.faults >= FAULTS_TO_OPEN) {
                    return None;
                }
                (self.grow(sign.draw, cooldown), true)
            }
            FailureClass::NotHere | FailureClass::Client => return None,
        };
        self.pause_for(wait, is_guess, sign.class, now)
    }

    /// Begins a pause unless a longer one is running.
    fn pause_for(
        &mut self,
        wait: Duration,
        is_guess: bool,
        cause: FailureClass,
        now: Moment,
    ) -> Option<(State, Option<Duration>)> {
        let until = now.plus(wait);
        let before = self.state(now);
        let old_until = self.pause.map(|pause| pause.until).filter(|old| old.mono > now.mono);
        if old_until.is_some_and(|old| old.mono >= until.mono) {
            return None;
        }
        self.pause = Some(Pause { began: now, until, cause, is_guess });
        let state = self.state(now);
        let added = old_until.map_or(Duration::MAX, |old| until.since(old));
        (before.name() != state.name() || added >= WORTH_TELLING).then_some((state, Some(wait)))
    }

    /// The next guessed pause: doubling from the base to the maximum, a tenth of it left to chance.
    fn grow(&mut self, draw: u64, cooldown: &Cooldown) -> Duration {
        let doubled = cooldown.base.saturating_mul(1_u32.checked_shl(self.step).unwrap_or(u32::MAX));
        self.step = self.step.saturating_add(1).min(31);
        let chance = (draw % 1000) as f64 / 10_000.0;
        doubled.min(cooldown.max).mul_f64(1.0 - chance)
    }

    /// A reset that was told and did not come is proof enough to wait longer than the next one told, up to the long park.
    fn money_wait(&mut self, told: Option<Duration>, is_echo: bool, cooldown: &Cooldown) -> Duration {
        let Some(told) = told else { return cooldown.money };
        if is_echo {
            return told;
        }
        let longer = match self.step {
            0 => Duration::ZERO,
            step => cooldown.max.saturating_mul(1_u32.checked_shl(step - 1).unwrap_or(u32::MAX)).min(cooldown.money),
        };
        self.step = self.step.saturating_add(1).min(31);
        told.max(longer)
    }

    /// Takes it out until a person takes it in again.
    pub(super) fn suspend(&mut self) {
        self.is_suspended = true;
    }

    /// Forgets all that was held against it.
    pub(super) fn clear(&mut self) {
        *self = Track { is_tested: self.is_tested, ..Track::default() };
    }

    /// Lets one request at a time find out, from now on, whether it is well.
    pub(super) fn probe(&mut self, now: Moment) {
        let pause = Pause { began: now, until: now, cause: FailureClass::Fault, is_guess: true };
        *self = Track { pause: Some(pause), is_tested: self.is_tested, ..Track::default() };
    }

    /// Whether it became ready by this.
    pub(super) fn succeed(&mut self, begun: Moment, now: Moment) -> bool {
        let is_paused = self.pause.is_some_and(|pause| now.mono < pause.until.mono);
        if self.is_suspended || is_paused || self.is_echo(begun) {
            return false;
        }
        let was_ill = self.pause.is_some() || self.is_suspect;
        let faults = if self.pause.is_some() { 0 } else { self.faults / 2 };
        *self = Track { faults, is_tested: self.is_tested, ..Track::default() };
        was_ill
    }

    /// Ends a pause for the server's own trouble, and nothing else: a refusal may come before keys and limits are looked at.
    pub(super) fn answered(&mut self, begun: Moment, now: Moment) {
        let blames_server = |pause: Pause| matches!(pause.cause, FailureClass::Fault | FailureClass::Overload);
        if !self.is_suspect && self.pause.is_none_or(blames_server) {
            self.succeed(begun, now);
        }
    }
}
