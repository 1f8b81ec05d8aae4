//! One endpoint in front of many AI provider accounts.

pub mod account;
pub mod clock;
pub mod command;
pub mod config;
pub mod error;
pub mod mock;
pub mod provider;
pub mod user;
pub mod wire;
