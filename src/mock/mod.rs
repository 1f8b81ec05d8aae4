//! Mock providers: what demo, tests and benches talk to instead of OpenAI, Anthropic and Google.
//!
//! One port speaks all four wire formats over HTTP/1.1 and HTTP/2, whole and streamed, with tools, reasoning and usage;
//! answers are deterministic ([`COMMANDS`]), requests are judged as strictly as the real providers judge them, and a fault
//! is asked for by name in the model, the key or the prompt ([`FAULTS`]). Nothing here is used on the way of a real
//! request, and nothing here talks to anyone: a mock only ever answers.
//!
//! ```text
//! request → http1 | http2 → engine → route → credential → script → read → answer → fault → write → damage → http1 | http2
//! ```

mod answer;
mod ask;
mod bench;
mod credential;
mod damage;
mod engine;
mod fault;
mod http1;
mod http2;
mod instead;
mod issuer;
mod json;
mod log;
mod memory;
mod other;
mod read;
mod refusal;
mod reply;
mod request;
mod route;
mod schema;
mod script;
mod seal;
mod server;
#[cfg(test)]
mod tests;
mod write;

pub use answer::COMMANDS;
pub use fault::{FAULTS, FaultInfo};
pub use log::{Entry, Outcome, Usage};
pub use reply::{Framing, Head, Reply, Step};
pub use request::{Protocol, Request};
pub use script::{Matching, Play};
pub use server::{Mock, MockHandle};

use crate::config::ServiceAccount;
use std::path::PathBuf;

/// How a mock behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The only keys that are accepted; empty accepts every key that does not start with `bad`.
    pub keys: Vec<String>,
    /// Service accounts whose assertions are traded for tokens.
    pub service_accounts: Vec<ServiceAccount>,
    /// Whether a provider serves models that are named like another vendor's.
    pub any_model: bool,
    /// Anthropic: refuse consecutive turns of one role, which the real API merges.
    pub strict_alternation: bool,
    /// OpenAI chat: refuse `provider_specific_fields` in messages too.
    pub strict_messages: bool,
    /// Anthropic: refuse tool blocks in the history of a request without tools.
    pub strict_tools: bool,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How many requests the log keeps.
    pub max_log_entries: usize,
    /// How many bytes of bodies and headers the log keeps.
    pub max_log_bytes: usize,
    /// A file to which the row of every finished request is appended.
    pub log_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            keys: Vec::new(),
            service_accounts: Vec::new(),
            any_model: false,
            strict_alternation: false,
            strict_messages: false,
            strict_tools: false,
            max_body_bytes: 256 << 20,
            max_log_entries: 10_000,
            max_log_bytes: 256 << 20,
            log_file: None,
        }
    }
}
