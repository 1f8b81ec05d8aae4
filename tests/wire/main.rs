//! The byte lane against recorded provider traffic.
//!
//! Reads `../shared/traffic`, which is not a part of the project; without it, each test says so and passes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod errors;
mod estimates;
mod expected;
mod replies;
mod requests;
mod traffic;
