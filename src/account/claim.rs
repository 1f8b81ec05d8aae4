//! What a request brings along when it asks for an account, and where its conversation is at home.

use super::appetite::Need;

/// What a request brings along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// How large it is.
    pub need: Need,
    /// Who asks, as a hash; those who wait are served in fair turns by this.
    pub user: u64,
    /// The conversation that it belongs to, as a hash that holds the user and the model.
    pub conversation: Option<u64>,
    /// The earlier response that it continues, as a hash that holds the user: only the account that made it can.
    pub previous: Option<u64>,
    /// Whether it holds reasoning that the conversation's account has signed or encrypted.
    pub is_bound: bool,
}

/// Output tokens that are expected of a request in line which names no limit.
const UNSAID_OUTPUT: u64 = 4_096;
/// About so many bytes are a token.
const BYTES_PER_TOKEN: usize = 4;

impl Claim {
    /// What it costs a user's turn in the line: its input and the most output that it allows, in tokens.
    pub(super) fn cost(&self) -> u64 {
        let input = (self.need.body_bytes / BYTES_PER_TOKEN) as u64;
        input.saturating_add(self.need.max_output.unwrap_or(UNSAID_OUTPUT)).max(1)
    }
}

/// The account where a conversation is at home, and how firmly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// The account's number.
    pub(super) account: u32,
    pub(super) hold: Hold,
}

/// A conversation that comes to an account from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) conversation: u64,
    /// The home that it left, if it had one.
    pub(super) left: Option<u32>,
}

/// How firmly a conversation is held on its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is better off there.
    Prefers,
    /// It is waited for while it is busy; another account only while that one is away.
    Bound,
    /// No other can serve.
    Only,
}
