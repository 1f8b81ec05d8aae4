//! What an owner (a user, a key, an account) has spent in each window, and what is set aside for requests under way.
//!
//! Reserve before the call, settle after it: what is spent and what is set aside together never pass a budget when a
//! request is let in, so requests at the same time cannot all use the same rest. Never negative: nothing below zero is
//! given back, and what comes late for a window that has ended is not charged to the next. Never reads a clock.

use super::{
    calendar::{Period, Zone},
    terms::{Amounts, Quota, Unit, Window},
};
use crate::clock::Moment;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The exact counters of one owner, for every window, whatever budgets are set.
#[derive(Debug)]
pub struct Budgets(Mutex<Book>);

#[derive(Debug)]
struct Book {
    zone: Zone,
    tallies: [Tally; Window::ALL.len()],
    reserved: Amounts,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    window: Window,
    period: Period,
    spent: Amounts,
}

/// A budget that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Its window.
    pub window: Window,
    /// What is short.
    pub unit: Unit,
    /// The whole budget.
    pub limit: u64,
    /// What is neither spent nor set aside.
    pub left: u64,
    /// When the window ends, in milliseconds since 1970; `None` for never.
    pub until: Option<u64>,
    /// Whether there would be room if nothing were set aside for requests under way: it may come back soon.
    pub is_reserved: bool,
}

/// How a budget stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The budget.
    pub quota: Quota,
    /// What was spent in its window.
    pub spent: Amounts,
    /// What is set aside for requests under way.
    pub reserved: Amounts,
    /// When the window ends, in milliseconds since 1970; `None` for never, and before the first use of five hours.
    pub until: Option<u64>,
}

impl Budgets {
    /// Nothing spent yet.
    pub fn new(zone: Zone) -> Budgets {
        let tally = |window| Tally { window, period: Period::default(), spent: Amounts::default() };
        Budgets(Mutex::new(Book { zone, tallies: Window::ALL.map(tally), reserved: Amounts::default() }))
    }

    /// Moves the calendar to another zone; windows under way end as they would have.
    pub fn move_to(&self, zone: &Zone) {
        let mut book = self.book();
        if book.zone != *zone {
            book.zone = zone.clone();
        }
    }

    /// Sets `want` aside if every budget has room for it.
    pub fn reserve(&self, quotas: &[Quota], want: Amounts, now: Moment) -> Result<(), Spent> {
        let mut book = self.book();
        if let Some(spent) = book.first_without_room(quotas, want, now.unix_millis()) {
            return Err(spent);
        }
        book.reserved = book.reserved.plus(want);
        Ok(())
    }

    /// Whether a budget is spent already, so that not even the smallest request has room; nothing is set aside.
    pub fn is_open(&self, quotas: &[Quota], now: Moment) -> Result<(), Spent> {
        let least = Amounts { tokens: 1, requests: 1, cost_nanos: 1 };
        self.book().first_without_room(quotas, least, now.unix_millis()).map_or(Ok(()), Err)
    }

    /// Gives back what was set aside.
    pub fn release(&self, reserved: Amounts) {
        let mut book = self.book();
        book.reserved = book.reserved.minus(reserved);
    }

    /// Books what was used at a time (milliseconds since 1970), in place of the `reserved` part of what was set aside.
    pub fn settle(&self, reserved: Amounts, used: Amounts, at: u64) {
        let mut book = self.book();
        book.reserved = book.reserved.minus(reserved);
        book.charge(used, at);
    }

    /// The smallest share, from 0 to 1, that is left of any of these budgets.
    pub fn least_left(&self, quotas: &[Quota], now: Moment) -> f64 {
        let mut book = self.book();
        let reserved = book.reserved;
        let share = |quota: &Quota| {
            let spent = book.tally(quota.window, now.unix_millis()).map_or_else(Amounts::default, |tally| tally.spent);
            let taken = spent.plus(reserved);
            let left = |unit: Unit| {
                let limit = unit.limit(quota)?.max(1);
                Some(limit.saturating_sub(unit.of(&taken)) as f64 / limit as f64)
            };
            Unit::ALL.into_iter().filter_map(left).fold(1.0, f64::min)
        };
        quotas.iter().map(share).fold(1.0, f64::min)
    }

    /// Books what was used before the process started, in one window only; called in the order of time.
    pub fn begin(&self, window: Window, used: Amounts, at: u64) {
        let mut book = self.book();
        let Book { zone, tallies, .. } = &mut *book;
        tallies.iter_mut().filter(|tally| tally.window == window).for_each(|tally| tally.charge(zone, used, at));
    }

    /// How these budgets stand.
    pub fn standing(&self, quotas: &[Quota], now: Moment) -> Vec<Standing> {
        let mut book = self.book();
        let reserved = book.reserved;
        let stand = |quota: &Quota| {
            let (spent, until) = book
                .tally(quota.window, now.unix_millis())
                .map_or_else(Default::default, |tally| (tally.spent, tally.until(now.unix_millis())));
            Standing { quota: *quota, spent, reserved, until }
        };
        quotas.iter().map(stand).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// The tally of a window, begun anew where its period has ended.
    fn tally(&mut self, window: Window, now: u64) -> Option<&mut Tally> {
        let tally = self.tallies.iter_mut().find(|tally| tally.window == window)?;
        tally.roll(&self.zone, now);
        Some(tally)
    }

    fn first_without_room(&mut self, quotas: &[Quota], want: Amounts, now: u64) -> Option<Spent> {
        let reserved = self.reserved;
        quotas.iter().find_map(|quota| self.tally(quota.window, now)?.shortage(quota, reserved, want, now))
    }

    fn charge(&mut self, used: Amounts, at: u64) {
        self.tallies.iter_mut().for_each(|tally| tally.charge(&self.zone, used, at));
    }
}

impl Tally {
    fn roll(&mut self, zone: &Zone, now: u64) {
        if now < self.period.end {
            return;
        }
        self.spent = Amounts::default();
        match self.window {
            Window::FiveHours => {}
            Window::Day | Window::Week | Window::Month | Window::Total => self.period = zone.period(self.window, now),
        }
    }

    fn charge(&mut self, zone: &Zone, used: Amounts, at: u64) {
        self.roll(zone, at);
        if at >= self.period.end {
            // Five hours begin with the first use.
            self.period = zone.period(self.window, at);
        }
        if at >= self.period.start {
            self.spent = self.spent.plus(used);
        }
    }

    fn until(&self, now: u64) -> Option<u64> {
        Some(self.period.end).filter(|end| *end > now && *end != u64::MAX)
    }

    fn shortage(&self, quota: &Quota, reserved: Amounts, want: Amounts, now: u64) -> Option<Spent> {
        Unit::ALL.into_iter().find_map(|unit| {
            let limit = unit.limit(quota)?;
            let (spent, reserved, want) = (unit.of(&self.spent), unit.of(&reserved), unit.of(&want));
            let taken = spent.saturating_add(reserved);
            (taken.saturating_add(want) > limit).then(|| Spent {
                window: quota.window,
                unit,
                limit,
                left: limit.saturating_sub(taken),
                until: self.until(now),
                is_reserved: spent.saturating_add(want) <= limit,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::{Duration, SystemTime};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn quota(window: Window, tokens: u64) -> Quota {
        Quota { window, tokens: Some(tokens), requests: None, cost_nanos: None }
    }

    fn tokens(tokens: u64) -> Amounts {
        Amounts { tokens, ..Amounts::default() }
    }

    /// Wednesday, the 25th of November 2026, 09:00 UTC.
    fn morning() -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_597_200);
        Moment { wall, ..ManualClock::new().now() }
    }

    fn spent(budgets: &Budgets, window: Window, now: Moment) -> u64 {
        budgets.standing(&[quota(window, 1)], now)[0].spent.tokens
    }

    #[test]
    fn what_is_set_aside_cannot_be_used_by_another_and_comes_back() {
        let (budgets, now, day) = (Budgets::new(Zone::default()), morning(), [quota(Window::Day, 100)]);
        budgets.reserve(&day, tokens(60), now).unwrap();
        let refused = budgets.reserve(&day, tokens(60), now).unwrap_err();
        assert_eq!((refused.left, refused.is_reserved, refused.unit), (40, true, Unit::Tokens));
        budgets.settle(tokens(60), tokens(10), now.unix_millis());
        budgets.reserve(&day, tokens(60), now).unwrap();
        budgets.release(tokens(60));
        let refused = budgets.reserve(&day, tokens(91), now).unwrap_err();
        assert_eq!((refused.left, refused.is_reserved), (90, false));
        assert_eq!(refused.until, Some(1_795_651_200_000));
    }

    #[test]
    fn each_unit_has_its_own_limit_and_the_tightest_window_has_the_say() {
        let (budgets, now) = (Budgets::new(Zone::default()), morning());
        let all = Amounts { tokens: 10, requests: 1, cost_nanos: 500 };
        let money = Quota { cost_nanos: Some(900), tokens: None, ..quota(Window::Month, 0) };
        let quotas = [quota(Window::Day, 1_000), money];
        budgets.reserve(&quotas, all, now).unwrap();
        let refused = budgets.reserve(&quotas, all, now).unwrap_err();
        assert_eq!((refused.window, refused.unit, refused.left), (Window::Month, Unit::Cost, 400));
    }

    #[test]
    fn a_window_that_ends_takes_what_was_spent_with_it_but_not_what_is_set_aside() {
        let (budgets, now, day) = (Budgets::new(Zone::default()), morning(), [quota(Window::Day, 100)]);
        budgets.settle(Amounts::default(), tokens(90), now.unix_millis());
        budgets.reserve(&day, tokens(10), now).unwrap();
        let tomorrow = now.plus(15 * HOUR);
        assert_eq!(budgets.reserve(&day, tokens(91), tomorrow).unwrap_err().left, 90);
        // It began yesterday and is booked there, as the ledger does.
        budgets.settle(tokens(10), tokens(10), now.unix_millis());
        assert_eq!((spent(&budgets, Window::Day, tomorrow), spent(&budgets, Window::Week, tomorrow)), (0, 100));
        budgets.reserve(&day, tokens(100), tomorrow).unwrap();
    }

    #[test]
    fn the_least_left_is_that_of_the_tightest_budget() {
        let (budgets, now) = (Budgets::new(Zone::default()), morning());
        let quotas = [quota(Window::Day, 100), quota(Window::Month, 1_000)];
        budgets.reserve(&quotas, tokens(25), now).unwrap();
        budgets.settle(Amounts::default(), tokens(25), now.unix_millis());
        assert_eq!(budgets.least_left(&quotas, now), 0.5);
        assert_eq!(budgets.least_left(&[], now), 1.0);
    }

    #[test]
    fn five_hours_begin_with_the_first_use() {
        let (budgets, now, five) = (Budgets::new(Zone::default()), morning(), [quota(Window::FiveHours, 100)]);
        budgets.reserve(&five, tokens(1), now).unwrap();
        budgets.release(tokens(1));
        assert_eq!(budgets.standing(&five, now)[0].until, None);
        let later = now.plus(2 * HOUR);
        budgets.settle(Amounts::default(), tokens(100), later.unix_millis());
        let refused = budgets.reserve(&five, tokens(1), later.plus(4 * HOUR)).unwrap_err();
        assert_eq!(refused.until, Some(later.plus(5 * HOUR).unix_millis()));
        budgets.reserve(&five, tokens(1), later.plus(5 * HOUR)).unwrap();
    }

    #[test]
    fn nothing_ever_falls_below_zero_or_wraps() {
        let (budgets, now, total) = (Budgets::new(Zone::default()), morning(), [quota(Window::Total, u64::MAX)]);
        budgets.release(tokens(5));
        budgets.settle(tokens(5), tokens(u64::MAX), now.unix_millis());
        budgets.settle(tokens(5), tokens(u64::MAX), now.unix_millis());
        let standing = budgets.standing(&total, now)[0];
        assert_eq!((standing.spent.tokens, standing.reserved.tokens), (u64::MAX, 0));
        assert_eq!(budgets.is_open(&[quota(Window::Total, 5)], now).unwrap_err().left, 0);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_twice() {
        let (budgets, now, day) = (Budgets::new(Zone::default()), morning(), [quota(Window::Day, 100)]);
        budgets.settle(Amounts::default(), tokens(100), now.unix_millis());
        let earlier = Moment { wall: now.wall - 48 * HOUR, ..now };
        assert!(budgets.reserve(&day, tokens(1), earlier).is_err());
    }
}
