//! The pool under simulated load: seeded chance, a clock that is moved by hand, model providers, no sockets.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

/// Counts for the thread that allocates.
#[global_allocator]
static ALLOCATOR: alloc_counter::AllocCounterSystem = alloc_counter::AllocCounterSystem;

mod account_state;
#[path = "../support/dice.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod dice;
mod fairness;
mod quality;
mod seeds;
mod traffic;
mod upstream;
