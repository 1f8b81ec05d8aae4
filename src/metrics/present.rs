//! What holds at the moment of a scrape, in plain numbers; the admin listener gathers it.

use crate::telemetry::spread::Spread;
use std::time::Duration;

/// The present state of a process.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// Requests at the same time.
    pub requests: usize,
    /// Requests that wait for an account.
    pub waiting: usize,
    /// Requests that have ever waited, how many of them got a place, and how long those waited, all together.
    pub waited: (u64, u64, Duration),
    /// Of those that waited, how many were in line when each joined it, itself included.
    pub places: Spread,
    /// The seconds that each of them waited which got a place.
    pub waits: Spread,
    /// Bytes of request bodies held.
    pub body_bytes: usize,
    /// Whether the process is on its way out.
    pub draining: bool,
    /// Every account.
    pub accounts: Vec<AccountNow>,
    /// Users of the configuration.
    pub users: usize,
    /// Model names of its own.
    pub models: usize,
    /// When it was put in force, in seconds since 1970.
    pub loaded_at: u64,
    /// The ledger.
    pub ledger: LedgerNow,
}

/// The present state of an account.
#[derive(Clone, Debug, Default)]
pub struct AccountNow {
    /// Its name.
    pub name: String,
    /// The name of its state.
    pub state: &'static str,
    /// Requests in flight.
    pub in_flight: u32,
    /// Time until it comes back by itself; zero where it is here.
    pub cooldown: Duration,
    /// Its windows.
    pub windows: Vec<WindowNow>,
}

/// How much of a window is left.
#[derive(Clone, Debug, Default)]
pub struct WindowNow {
    /// Its name, such as `tokens_minute`.
    pub name: String,
    /// The share that is left, 0 to 1.
    pub left: f64,
}

/// The present state of the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerNow {
    /// Rows that wait to be written.
    pub waiting: u64,
    /// Rows written since the start.
    pub written: u64,
    /// Rows that could not be kept.
    pub lost: u64,
    /// Whether the last try to write failed.
    pub stuck: bool,
    /// Models that were used and have no price.
    pub unpriced: u64,
}

/// One number with its name.
pub(super) struct Reading {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: f64,
}

impl Present {
    /// The numbers that stand for the whole process, always the same ones in the same order.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let ledger = &self.ledger;
        let reading = |name, help, value| Reading { name, help, value };
        vec![
            reading("sub2api_requests_in_flight", "Requests at the same time", self.requests as f64),
            reading("sub2api_queue_length", "Requests that wait for an account", self.waiting as f64),
            reading("sub2api_queue_joined", "Requests that have ever waited", self.waited.0 as f64),
            reading("sub2api_queue_served", "Of these, how many got a place", self.waited.1 as f64),
            reading("sub2api_queue_waited_seconds", "Their waits, all together", self.waited.2.as_secs_f64()),
            reading("sub2api_body_bytes_held", "Bytes of request bodies in memory", self.body_bytes as f64),
            reading("sub2api_draining", "1 while the process ends", f64::from(u8::from(self.draining))),
            reading("sub2api_config_accounts", "Accounts of the configuration", self.accounts.len() as f64),
            reading("sub2api_config_users", "Users of the configuration", self.users as f64),
            reading("sub2api_config_models", "Model names of its own", self.models as f64),
            reading("sub2api_config_loaded_at_seconds", "When it was put in force, since 1970", self.loaded_at as f64),
            reading("sub2api_ledger_rows_waiting", "Usage rows that wait to be written", ledger.waiting as f64),
            reading("sub2api_ledger_rows_written", "Usage rows written since the start", ledger.written as f64),
            reading("sub2api_ledger_rows_lost", "Usage rows that could not be kept", ledger.lost as f64),
            reading("sub2api_ledger_stuck", "1 while usage rows cannot be written", f64::from(u8::from(ledger.stuck))),
            reading("sub2api_ledger_unpriced_models", "Models used that have no price", ledger.unpriced as f64),
        ]
    }
}
