//! Work that outlives the request which began it: a token's renewal, a tunnel's copying.
//!
//! Every task is held here and ends with the process; one that panicked is told in the log. What a task waits for is
//! bounded by the task itself, and how many there are by those who begin them.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
};
use tokio::task::JoinSet;

/// The tasks under way.
#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Begins a task, and forgets those that have ended.
    pub(super) fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                log::error!("a task of the gateway panicked");
            }
        }
        tasks.spawn(task);
    }
}
