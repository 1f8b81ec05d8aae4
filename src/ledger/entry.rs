//! One row of the ledger: one attempt of one request.
//!
//! Holds names and counts; never a key, a body or an address of a provider. Invariant: the triple of [`Entry::began`],
//! [`Entry::exchange`] and [`Entry::attempt`] names the attempt, so that a row that is written twice counts once.

use super::count::{Count, Counts};
use serde::Serialize;

/// One attempt, as it is written down when it has ended. Borrows its texts: they are copied once, into the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry<'e> {
    /// When the request began, in milliseconds since 1970. All attempts of a request have the same.
    pub began: u64,
    /// The gateway's own number for the request. A client can send the same request id twice; this is never the same.
    pub exchange: u64,
    /// Which attempt of the request, from 1.
    pub attempt: u32,
    /// The request id that both sides saw.
    pub request: &'e str,
    /// The user; empty where no users are kept.
    pub user: &'e str,
    /// The first digits of the key's hash; empty where no users are kept.
    pub key: &'e str,
    /// The account.
    pub account: &'e str,
    /// Its provider.
    pub provider: &'e str,
    /// The call.
    pub call: &'e str,
    /// The model asked for.
    pub model: &'e str,
    /// The model at the provider.
    pub served: &'e str,
    /// The caller's wire format.
    pub client_format: &'e str,
    /// The provider's wire format.
    pub upstream_format: &'e str,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The status that the provider answered; 0 if none.
    pub status: u16,
    /// served, failed, broken, client_gone or lost.
    pub outcome: Outcome,
    /// The class of the failure; empty for none.
    pub failure: &'e str,
    /// What it used.
    pub counts: Counts,
    /// What that cost, in nano-dollars; `None` where the model has no price.
    pub cost_nanos: Option<u64>,
    /// From the request's beginning to the first content, in microseconds.
    pub first_micros: Option<u64>,
    /// The whole request until this attempt's end, in microseconds.
    pub total_micros: u64,
    /// Bytes of the caller's body.
    pub bytes_in: u64,
    /// Bytes that the provider answered.
    pub bytes_out: u64,
    /// The caller's address, without its port.
    pub client: &'e str,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// With a whole answer.
    Served,
    /// Before anything of it was shown: another attempt may have followed.
    Failed,
    /// The answer broke off after it had begun.
    Broken,
    /// The client went away before the end.
    ClientGone,
    /// The gateway lost sight of it (a fault of its own).
    #[default]
    Lost,
}

impl Outcome {
    /// The word in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Served => "served",
            Outcome::Failed => "failed",
            Outcome::Broken => "broken",
            Outcome::ClientGone => "client_gone",
            Outcome::Lost => "lost",
        }
    }
}

/// A row as it is read from the file again, and as exports show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// When the request began, in milliseconds since 1970.
    pub began: u64,
    /// The request id.
    pub request: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The user.
    pub user: String,
    /// The first digits of the key's hash.
    pub key: String,
    /// The account.
    pub account: String,
    /// Its provider.
    pub provider: String,
    /// The call.
    pub call: String,
    /// The model asked for.
    pub model: String,
    /// The model at the provider.
    pub served: String,
    /// The caller's wire format.
    pub client_format: String,
    /// The provider's wire format.
    pub upstream_format: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The provider's status.
    pub status: u16,
    /// How it ended.
    pub outcome: String,
    /// The class of the failure.
    pub failure: String,
    /// Fresh input tokens.
    pub input: Option<u64>,
    /// Input tokens from a cache.
    pub cache_read: Option<u64>,
    /// Input tokens to a cache, for 5 minutes.
    pub cache_write: Option<u64>,
    /// Input tokens to a cache, for 1 hour.
    pub cache_write_1h: Option<u64>,
    /// Output tokens.
    pub output: Option<u64>,
    /// Those of them that were reasoning.
    pub reasoning: Option<u64>,
    /// Calls of the provider's own tools.
    pub server_tools: Option<u64>,
    /// Images made.
    pub images: Option<u64>,
    /// The names of the counts that are estimates.
    pub estimated: Vec<&'static str>,
    /// The cost in nano-dollars; none where the model has no price.
    pub cost_nanos: Option<u64>,
    /// Time to the first content, in microseconds.
    pub first_micros: Option<u64>,
    /// Time to the end, in microseconds.
    pub total_micros: u64,
    /// Bytes of the caller's body.
    pub bytes_in: u64,
    /// Bytes that the provider answered.
    pub bytes_out: u64,
    /// The caller's address.
    pub client: String,
}

/// The columns of counts, in the order of [`Counts::all`].
pub const COUNT_COLUMNS: [&str; super::count::KINDS] =
    ["input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "server_tools", "images"];

/// The names of the counts whose bits are set.
pub fn estimated_names(bits: u8) -> Vec<&'static str> {
    COUNT_COLUMNS.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, name)| *name).collect()
}

impl Entry<'_> {
    /// Whether the attempt was the request's first one, which stands for the request where requests are counted.
    pub fn is_first(&self) -> bool {
        self.attempt == 1
    }

    /// Whether nothing of what was used is known, though the answer had begun.
    pub fn is_unknown(&self) -> bool {
        self.counts.all().iter().all(|count| *count == Count::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_estimates_follow_their_bits() {
        let mut counts = Counts::default();
        counts.estimate_input(3);
        counts.estimate_output(5);
        assert_eq!(estimated_names(counts.estimated_bits()), ["input", "output"]);
    }
}
