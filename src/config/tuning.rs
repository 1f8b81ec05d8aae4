//! The settings that a gateway runs well without touching: time limits, retries, bounds, the process, the log.
//!
//! Their `Default` is the documented default; `conf/sub2api.yaml` shows each, and a test keeps the two equal.

use crate::limit::calendar::Zone;
use ipnet::IpNet;
use std::{num::NonZeroUsize, path::PathBuf, thread, time::Duration};

/// Time limits of an upstream call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, TLS included. Default 10 s.
    pub connect: Duration,
    /// From the start of an attempt to the first content of a streamed answer. Default 120 s.
    pub first_byte: Duration,
    /// The same for an answer that is not streamed, which begins only when all the thinking is done. Default: `first_byte`
    /// where that is set, else 10 min.
    pub whole: Duration,
    /// Between two pieces of the answer. Default 120 s.
    pub idle: Duration,
    /// For the whole request, all attempts together. Default 30 min.
    pub total: Duration,
    /// For the renewal of an access token. Default 30 s.
    pub token: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            whole: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(30 * 60),
            token: Duration::from_secs(30),
        }
    }
}

/// How often and how long a request tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Attempts at most, the first included. Default 6.
    pub attempts: u32,
    /// No new attempt begins after this time. Default 120 s.
    pub within: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        Failover { attempts: 6, within: Duration::from_secs(120) }
    }
}

/// How long failing accounts are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// First pause after a rate limit without a told time, or after an overload. Default 1 s, doubling.
    pub base: Duration,
    /// Longest such pause. Default 60 s.
    pub max: Duration,
    /// Longest pause that a provider's own word can ask for. Default 1 h.
    pub told_max: Duration,
    /// Pause after "credit or quota used up" without a told time. Default 1 h.
    pub money: Duration,
}

impl Default for Cooldown {
    fn default() -> Self {
        Cooldown {
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            told_max: Duration::from_secs(60 * 60),
            money: Duration::from_secs(60 * 60),
        }
    }
}

/// Streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// A keep-alive is sent after this silence. Default 15 s; zero switches it off.
    pub ping: Duration,
    /// The most bytes held back before the first content. Default 256 KiB.
    pub hold_bytes: usize,
    /// The most bytes of a whole reply that are held until its end, so that a broken one can still fail over. Default 1 MiB.
    pub whole_hold_bytes: usize,
    /// A longer event passes in pieces. Default 256 KiB.
    pub event_bytes: usize,
}

impl Default for Streams {
    fn default() -> Self {
        Streams {
            ping: Duration::from_secs(15),
            hold_bytes: 256 << 10,
            whole_hold_bytes: 1 << 20,
            event_bytes: 256 << 10,
        }
    }
}

/// What is kept to explain past choices of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explain {
    /// The last requests that can be asked about. Default 1 000; 0 for none.
    pub requests: usize,
    /// With more candidates than this only the chosen one is noted. Default 32.
    pub candidates: usize,
}

impl Default for Explain {
    fn default() -> Self {
        Explain { requests: 1_000, candidates: 32 }
    }
}

/// How many values the metrics' labels may take that clients have a say in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricBounds {
    /// Models with a label of their own; a model gets one with its first successful answer. Default 200.
    pub models: usize,
    /// Request fields with a label of their own in the count of losses. Default 200.
    pub fields: usize,
}

impl Default for MetricBounds {
    fn default() -> Self {
        MetricBounds { models: 200, fields: 200 }
    }
}

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest request body. Default 64 MiB.
    pub body_bytes: usize,
    /// All request bodies in flight together. Default 512 MiB.
    pub bodies_in_flight_bytes: usize,
    /// Largest header section of a request. Default 64 KiB.
    pub header_bytes: usize,
    /// Most headers of a request. Default 100.
    pub header_count: usize,
    /// Client connections. Default 10 000.
    pub connections: usize,
    /// Requests at the same time. Default 5 000.
    pub requests: usize,
    /// Concurrent HTTP/2 streams on one client connection. Default 100.
    pub streams_per_connection: u32,
    /// Requests without a good key that one address (or IPv6 /64) may send in a minute. Default 120; zero for no bound.
    pub unauthenticated: u64,
    /// Addresses that the estimate of those is sized for. Default 8 192.
    pub flood_addresses: usize,
    /// Users and keys that the estimate of their rates is sized for, if there are not more. Default 1 000.
    pub rate_owners: usize,
    /// Models of one account whose cooldowns and windows are remembered apart. Default 64.
    pub account_models: usize,
    /// Changes of one account that are kept. Default 32.
    pub account_events: usize,
    /// Model names whose accounts are remembered, besides as many older ones; clients choose the names. Default 1 000.
    pub model_names: usize,
    /// Time that a client may take between two pieces of its request. Default 60 s.
    pub client_read: Duration,
    /// Time that a client may take to accept a piece of the answer. Default 60 s.
    pub client_write: Duration,
    /// Time that a client may take for a request's line and headers. Default 60 s.
    pub client_head: Duration,
    /// Time that a connection is kept without a request. Default 5 min.
    pub client_idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            body_bytes: 64 << 20,
            bodies_in_flight_bytes: 512 << 20,
            header_bytes: 64 << 10,
            header_count: 100,
            connections: 10_000,
            requests: 5_000,
            streams_per_connection: 100,
            unauthenticated: 120,
            flood_addresses: 8_192,
            rate_owners: 1_000,
            account_models: 64,
            account_events: 32,
            model_names: 1_000,
            client_read: Duration::from_secs(60),
            client_write: Duration::from_secs(60),
            client_head: Duration::from_secs(60),
            client_idle: Duration::from_secs(5 * 60),
        }
    }
}

/// Waiting for a free account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests that may wait. Default 1 000.
    pub length: usize,
    /// How long one waits at most. Default 30 s.
    pub timeout: Duration,
    /// Where all accounts are cooling and the first one is back within this time, it is waited for. Default 5 s.
    pub cooldown: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { length: 1_000, timeout: Duration::from_secs(30), cooldown: Duration::from_secs(5) }
    }
}

/// How budgets are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Whose days, weeks and months they are. Default UTC.
    pub zone: Zone,
    /// The most output tokens that are set aside for a request before its answer. Default 4 096.
    pub reserve_output: u64,
    /// Whether a stream that uses more than was set aside is ended when the budget has no more. Default: it is.
    pub end_streams: bool,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        BudgetSettings { zone: Zone::default(), reserve_output: 4_096, end_streams: true }
    }
}

/// Whose word about the caller's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress {
    /// The proxies in front of the gateway. Default: none, the connection's address is the caller's.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they tell it.
    pub header: ForwardedHeader,
}

/// The header in which a proxy tells for whom it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239)
    Forwarded,
}

/// Keeping conversations on their accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Conversations that are remembered. Default 100 000; none switches it off.
    pub entries: usize,
    /// How long one that is not used is remembered at most. Default 1 h.
    pub expiry: Duration,
}

impl Default for Affinity {
    fn default() -> Self {
        Affinity { entries: 100_000, expiry: Duration::from_secs(60 * 60) }
    }
}

/// What to do about fields of a request that the serving account's wire format cannot say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Translation {
    /// Leave them out, and name them in the reply's `x-sub2api-loss` header.
    #[default]
    Lossy,
    /// Refuse the request with 400.
    Strict,
}

/// Process-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Worker threads. Default: the number of cores.
    pub threads: usize,
    /// Idle upstream connections kept. Default 256.
    pub upstream_keepalive: usize,
    /// The socket over which listeners are handed to a new process. Default `{data_dir}/upgrade.sock`.
    pub upgrade_socket: PathBuf,
    /// Longest wait for streams in flight at shutdown or upgrade. Default 30 min.
    pub drain: Duration,
    /// PEM file with additional root certificates for upstreams.
    pub ca_file: Option<PathBuf>,
}

impl Default for ServerSettings {
    /// The defaults for the default `data_dir`, `./data`.
    fn default() -> Self {
        ServerSettings {
            threads: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            upstream_keepalive: 256,
            upgrade_socket: PathBuf::from("./data/upgrade.sock"),
            drain: Duration::from_secs(30 * 60),
            ca_file: None,
        }
    }
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Whether lines are JSON. Default: text.
    pub json: bool,
    /// Least level shown. Default: info.
    pub level: log::LevelFilter,
    /// How long an access line may wait for others, to be written with them; zero writes each by itself. Default: 20 ms.
    pub hold: Duration,
    /// Most bytes of access lines that wait. Default: 256 KiB.
    pub hold_bytes: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            json: false,
            level: log::LevelFilter::Info,
            hold: Duration::from_millis(20),
            hold_bytes: 256 << 10,
        }
    }
}
