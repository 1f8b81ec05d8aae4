//! How an account, or one model of it, is doing, and the words for it. Says nothing about why.

use crate::clock::Moment;
use std::{fmt, time::Duration};

/// How an account, or one model of it, is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests may go.
    Ready,
    /// Left alone for a while.
    Cooling {
        /// Until then.
        until: Moment,
    },
    /// Credit or quota is used up.
    Exhausted {
        /// Until the reset that was told, or the next look.
        until: Moment,
    },
    /// The key is dead; only a person can help.
    Suspended,
    /// One request at a time finds out whether it is well again.
    Probing,
}

impl State {
    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Cooling { .. } => "cooling",
            State::Exhausted { .. } => "exhausted",
            State::Suspended => "suspended",
            State::Probing => "probing",
        }
    }
}

/// What a person can do to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Take it out until it is resumed, cleared or probed, or the process starts anew.
    Suspend,
    /// Take it in again: its own pause or suspension is over.
    Resume,
    /// Forget all that is held against it and against single models of it.
    Clear,
    /// Let one request at a time find out whether it is well again.
    Probe,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 4] = [Operation::Suspend, Operation::Resume, Operation::Clear, Operation::Probe];

    /// The word for it in commands and paths.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Suspend => "suspend",
            Operation::Resume => "resume",
            Operation::Clear => "clear",
            Operation::Probe => "probe",
        }
    }

    /// The one with this name.
    pub fn find(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// A change of state, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The model that it is about; `None` for the whole account.
    pub model: Option<String>,
    /// The new state.
    pub state: State,
    /// For how long, where the state ends by itself.
    pub wait: Option<Duration>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(model) = &self.model {
            // Clients choose the names of models behind a pattern: none may begin a line of its own.
            write!(f, "model {} ", model.escape_debug())?;
        }
        f.write_str(self.state.name())?;
        match self.wait {
            Some(wait) => write!(f, " for {:.1}s", wait.as_secs_f64()),
            None => Ok(()),
        }
    }
}
