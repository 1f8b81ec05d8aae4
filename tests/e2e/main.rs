//! The whole gateway in this process, on loopback, against upstreams of which the tests decide every byte.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

#[path = "../support/dice.rs"]

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/seeds.rs"]
mod seeds;
#[path = "../wire/expected.rs"]
mod expected;
#[path = "../wire/traffic.rs"]
mod traffic;
mod anthropic;
mod bodies;
mod client;
mod faults;
mod formats;
mod gateway;
mod log;
mod recorded;
mod recording;
mod rough;
mod streams;
mod upstream;
mod upstream_h2;

// The recordings are read as the wire tests read them.
