//! The upstream accounts: which one serves a request, and how each is doing.

pub mod health;
mod index;
mod lease;
mod line;
pub mod oauth;
pub mod pool;
pub mod schedule;
#[cfg(test)]
mod testing;
mod track;

pub use lease::{Lease, Place};
pub use pool::Pool;
