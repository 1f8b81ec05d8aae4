//! Bounds the time in which a request's head has to arrive, however steadily its bytes dribble in.
//!
//! Pingora bounds the wait for each piece of a head, never for all of it. Here a connection that serves no request within
//! the time is given up; from the moment that a request is there (Pingora makes its context then) nothing is.

use std::{cell::Cell, future::Future, pin::pin, time::Duration};
use tokio::time::sleep;

tokio::task_local! {
    /// Whether the head that the connection waits for has come.
    static ARRIVED: Cell<bool>;
}

/// A request's head is there.
pub(super) fn told() {
    // Requests over HTTP/2 have tasks of their own, and nobody waits for their heads here.
    let _ = ARRIVED.try_with(|arrived| arrived.set(true));
}

/// Serves one request of a connection; `None` if its head has not come within this time.
pub async fn head_within<F: Future>(time: Duration, serving: F) -> Option<F::Output> {
    let watched = async {
        let mut serving = pin!(serving);
        tokio::select! {
            biased;
            served = &mut serving => return Some(served),
            () = sleep(time) => {}
        }
        if ARRIVED.with(Cell::get) { Some(serving.await) } else { None }
    };
    ARRIVED.scope(Cell::new(false), watched).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    const TIME: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up() {
        assert_eq!(head_within(TIME, pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn a_request_that_is_there_takes_all_the_time_it_needs() {
        let serving = async {
            told();
            sleep(TIME * 5).await;
            7
        };
        assert_eq!(head_within(TIME, serving).await, Some(7));
    }

    #[tokio::test]
    async fn what_ends_in_time_is_not_waited_for() {
        assert_eq!(head_within(TIME, async { 3 }).await, Some(3));
    }
}
