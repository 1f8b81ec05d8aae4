//! One endpoint in front of many AI provider accounts.

pub mod account;
pub mod admin;
pub mod clock;
pub mod command;
pub mod config;
pub mod error;
pub mod gateway;
pub mod ledger;
pub mod limit;
pub mod live;
pub mod metrics;
pub mod mock;
pub mod provider;
pub mod server;
pub mod telemetry;
pub mod tokens;
pub mod trace;
pub mod user;
pub mod wire;
