//! Why a request was not let in: whose limit, which one, how much is left, and when there is room again.

use super::{budget::Spent, calendar::rfc3339, owner::Whose, terms::Window};
use crate::{
    clock::Moment,
    error::{Reason, Rejection},
};
use std::time::Duration;

/// A limit without room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose limit it is.
    pub whose: Whose,
    /// Which one.
    pub limit: Short,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Requests per minute.
    Requests {
        /// The limit.
        limit: u64,
        /// How long until there is room.
        wait: Option<Duration>,
    },
    /// Tokens per minute.
    Tokens {
        /// The limit.
        limit: u64,
        /// How many are left.
        left: u64,
        /// How many the request was estimated at.
        want: u64,
        /// How long until there is room.
        wait: Option<Duration>,
    },
    /// Requests at the same time.
    Places {
        /// The limit.
        limit: u32,
    },
    /// A budget.
    Budget(Spent),
}

/// A place, or what other requests have set aside, may come free at any time.
const SOON: Duration = Duration::from_secs(1);

impl Refusal {
    /// The refusal as the caller is told.
    pub fn into_rejection(self, now: Moment) -> Rejection {
        let whose = self.whose.name();
        let (reason, message, wait) = match self.limit {
            Short::Requests { limit, wait } => {
                let message = format!("the {whose}'s limit of {limit} requests per minute is reached: 0 left");
                (Reason::LimitReached, message, wait)
            }
            Short::Tokens { limit, left, want, wait } => {
                let message = format!(
                    "the {whose}'s limit of {limit} tokens per minute is reached: {left} left, the request may take {want}"
                );
                (Reason::LimitReached, message, wait)
            }
            Short::Places { limit } => {
                let message = format!("the {whose}'s limit of {limit} requests at the same time is reached");
                (Reason::LimitReached, message, Some(SOON))
            }
            Short::Budget(spent) => budget(whose, &spent, now),
        };
        let message = match wait.filter(|_| reason == Reason::LimitReached) {
            Some(wait) => format!("{message}; try again in {} s", wait.as_millis().div_ceil(1000).max(1)),
            None => message,
        };
        Rejection::new(reason, message).after(wait)
    }
}

fn budget(whose: &str, spent: &Spent, now: Moment) -> (Reason, String, Option<Duration>) {
    let window = match spent.window {
        Window::FiveHours => "for five hours",
        Window::Day => "for the day",
        Window::Week => "for the week",
        Window::Month => "for the month",
        Window::Total => "in total",
    };
    let (limit, left) = (spent.unit.shown(spent.limit), spent.unit.shown(spent.left));
    if spent.is_reserved {
        let message = format!(
            "what is left of the {whose}'s budget of {limit} {window} is set aside for requests under way: {left} free"
        );
        return (Reason::LimitReached, message, Some(SOON));
    }
    let wait = spent.until.map(|until| Duration::from_millis(until.saturating_sub(now.unix_millis())));
    let back = spent.until.map(|until| format!("; it begins anew at {}", rfc3339(until))).unwrap_or_default();
    let message =
        format!("the {whose}'s budget of {limit} {window} is spent, or too small for this request: {left} left{back}");
    (Reason::BudgetSpent, message, wait)
}
