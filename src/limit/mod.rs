//! Limits: what may happen at the same time, how often, and how much of it.
//!
//! Exact caps live in atomics, rates in estimators, budgets in exact counters; nothing here waits or reads a clock.

pub mod budget;
pub mod calendar;
pub mod inflight;
pub mod terms;
pub mod window;
