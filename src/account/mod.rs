//! The upstream accounts: which one serves a request, and how each is doing.

mod affinity;
mod appetite;
mod board;
mod candidate;
mod changes;
mod claim;
pub mod decision;
mod explain;
pub mod health;
mod history;
mod index;
mod lease;
mod line;
mod live;
pub mod oauth;
mod outlook;
pub mod pool;
mod quotas;
mod rates;
pub mod schedule;
mod state;
mod steps;
#[cfg(test)]
mod testing;
mod track;
mod tree;
mod windows;

pub use appetite::Need;
pub use claim::Claim;
pub use explain::{Explained, Reason};
pub use history::Event;
pub use lease::{Lease, Place};
pub use line::LineFigures;
pub use live::Took;
pub use outlook::LimitName;
pub use pool::Pool;
pub use steps::Steps;
pub use windows::{Figure, Tokens};
