//! The upstream accounts: which one serves a request, and how each is doing.

pub mod health;
pub mod pool;
pub mod schedule;

pub use pool::{Lease, Pool};
