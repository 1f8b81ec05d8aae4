//! Limits: what may happen at the same time, how often, and how much of it.
//!
//! Exact caps live in atomics, rates in estimators, budgets in exact counters; nothing here waits or reads a clock.

pub mod budget;
pub mod calendar;
pub mod flood;
pub mod inflight;
pub mod limiter;
pub mod opening;
pub mod owner;
pub mod permit;
pub mod refusal;
pub mod report;
pub mod terms;
pub mod window;
