//! The whole gateway in this process, on loopback, against upstreams of which the tests decide every byte.
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

mod abuse;
mod accounts;
mod admin;
mod allowances;
mod answers;
mod anthropic;
mod bodies;
mod bursts;
mod client;
mod client_h2;
mod conversations;
mod counting;
#[path = "../support/dice.rs"]
mod dice;
mod discretion;
mod egress;
#[path = "../wire/expected.rs"]
mod expected;
mod failover;
mod faults;
mod flow;
mod formats;
mod gateway;
mod headers;
mod ledger;
mod limits;
mod log;
mod oauth;
mod panics;
mod paths;
mod pauses;
mod proxy;
mod recorded;
mod recording;
mod reshaped;
mod rough;
#[path = "../support/seeds.rs"]
mod seeds;
mod storm;
mod streams;
mod tls;
mod traces;
#[path = "../wire/traffic.rs"]
#[allow(dead_code, reason = "shared with the wire tests")]
mod traffic;
mod upstream;
mod upstream_h2;
mod vertex;
