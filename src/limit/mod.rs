//! Limits: what may happen at the same time, and how often.
//!
//! Exact caps live in atomics, rates in estimators; nothing here waits or reads a clock.

pub mod inflight;
pub mod window;
