//! Limits: what may happen at the same time, and how often.
//!
//! Exact caps live in atomics; nothing here waits or reads a clock.

pub mod inflight;
