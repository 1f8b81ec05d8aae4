//! How the ledger is kept.

use std::time::Duration;

/// When a reply may end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Its last bytes leave when its row is in the journal (with `fsync`: in the file), so that whoever has a whole reply is
    /// also in the ledger, whatever kills the process. The default.
    #[default]
    Strict,
    /// At once; the rows of the last moment are lost with a process that is killed.
    Relaxed,
}

/// What happens when as many rows wait as may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// New requests are refused until rows have been written, so that nothing is lost. The default.
    #[default]
    Refuse,
    /// The oldest waiting row is given up for each new one, and counted.
    DropOldest,
}

/// The ledger's settings. Their `Default` is the documented default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Whether a ledger is kept. Default: yes.
    pub enabled: bool,
    /// When a reply may end.
    pub durability: Durability,
    /// Whether each commit waits for the disk, and each strict reply for its commit, so that nothing is lost with the
    /// machine's power either. Default: no.
    pub fsync: bool,
    /// The longest wait of a reply's end for its row; after it the reply ends and its row waits on. Default 2 s.
    pub commit_wait: Duration,
    /// Rows that may wait while the file cannot be written. Default 50,000.
    pub queue: usize,
    /// What happens when so many wait.
    pub when_full: WhenFull,
    /// How long a row for each attempt is kept; zero for ever. Default 90 days.
    pub keep_attempts: Duration,
    /// How long the sums by hour are kept; zero for ever. Those by day are kept for ever. Default 400 days.
    pub keep_hours: Duration,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        LedgerSettings {
            enabled: true,
            durability: Durability::default(),
            fsync: false,
            commit_wait: Duration::from_secs(2),
            queue: 50_000,
            when_full: WhenFull::default(),
            keep_attempts: 90 * DAY,
            keep_hours: 400 * DAY,
        }
    }
}
