//! Bounds the time in which a request's head has to arrive, however steadily its bytes dribble in.
//!
//! Pingora bounds the wait for each piece of a head, never for all of it. Here a connection that serves no request within
//! the time is given up; from the moment that a request is there (Pingora makes its context then) nothing is.

use super::alarm::Alarm;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;

tokio::task_local! {
    /// Whether the head that the connection waits for has come.
    static ARRIVED: Cell<bool>;
}

/// A request's head is there.
pub(super) fn told() {
    // Requests over HTTP/2 have tasks of their own, and nobody waits for their heads here.
    let _ = ARRIVED.try_with(|arrived| arrived.set(true));
}

/// How a wait for a head has ended.
enum Came<T> {
    /// The head is there, and its request is being served.
    Head,
    /// The request has been served already.
    Served(T),
    /// It has not come in time.
    TooLate,
}

/// The waits for the heads on one connection. They share a timer, which most of them never set again.
#[derive(Default)]
pub struct Heads(Alarm);

impl Heads {
    /// Serves the next request of the connection; `None` if its head has not come within this time.
    pub async fn within<F: Future + Unpin>(&mut self, time: Duration, mut serving: F) -> Option<F::Output> {
        let due = Instant::now() + time;
        let mut is_there = false;
        let came = poll_fn(|context| {
            // Not before the next round: the request has just been polled.
            if is_there {
                return Poll::Ready(Came::Head);
            }
            let step = || (Pin::new(&mut serving).poll(context), ARRIVED.with(Cell::get));
            match ARRIVED.sync_scope(Cell::new(false), step) {
                (Poll::Ready(served), _) => Poll::Ready(Came::Served(served)),
                (Poll::Pending, false) => self.0.poll_due(due, context).map(|()| Came::TooLate),
                (Poll::Pending, true) => {
                    is_there = true;
                    Poll::Pending
                }
            }
        });
        // Once the head is there nothing is left to watch, and the request is served as if nobody did.
        match came.await {
            Came::Head => Some(serving.await),
            Came::Served(served) => Some(served),
            Came::TooLate => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    const TIME: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up() {
        assert_eq!(Heads::default().within(TIME, pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn a_request_that_is_there_takes_all_the_time_it_needs() {
        let serving = async {
            told();
            sleep(TIME * 5).await;
            7
        };
        assert_eq!(Heads::default().within(TIME, Box::pin(serving)).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn each_head_of_a_connection_has_all_of_its_time_and_no_more() {
        let mut heads = Heads::default();
        let served = |after| Box::pin(sleep(after));
        assert!(heads.within(TIME, served(TIME / 2)).await.is_some());
        assert!(heads.within(TIME, served(TIME - Duration::from_millis(1))).await.is_some());
        let begun = Instant::now();
        assert!(heads.within(TIME, pending::<()>()).await.is_none());
        assert!((TIME..TIME * 3 / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn what_ends_in_time_is_not_waited_for() {
        assert_eq!(Heads::default().within(TIME, Box::pin(async { 3 })).await, Some(3));
    }
}
