//! A timer for a deadline that moves with every piece of an answer, and that nearly never comes.
//!
//! Setting a timer costs more than all else that is done for a piece. Deadlines mostly move away, so a timer that is set
//! too early is kept: it fires once, and is set again then.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer, and whom it wakes.
#[derive(Default)]
pub(super) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer will wake; it need not be told again.
    wakes: Option<Waker>,
}

impl Alarm {
    /// Whether the deadline has come.
    pub(super) fn poll_due(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.poll(due, context));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
        }
    }

    /// Whether the deadline has come. Ready too early at times, and never too late.
    pub(super) fn poll(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.is_elapsed() || timer.deadline() > due {
            timer.as_mut().reset(due);
            self.wakes = None;
        }
        if self.wakes.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) && !timer.is_elapsed() {
            return Poll::Pending;
        }
        self.wakes = Some(context.waker().clone());
        timer.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, time::Duration};

    const TIME: Duration = Duration::from_millis(20);

    async fn wait(alarm: &mut Alarm, due: Instant) {
        poll_fn(|context| alarm.poll(due, context)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_comes_when_it_is_due_and_can_be_set_again() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        for turn in 1..4 {
            wait(&mut alarm, start + TIME * turn).await;
            assert!(start.elapsed() >= TIME * turn && start.elapsed() < TIME * turn + TIME / 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_away_fires_early_once_and_then_in_time() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let first = poll_fn(|context| Poll::Ready(alarm.poll(start + TIME, context).is_pending())).await;
        assert!(first, "not due yet");
        let later = start + TIME * 3;
        poll_fn(|context| alarm.poll_due(later, context)).await;
        assert!(start.elapsed() >= TIME * 3 && start.elapsed() < TIME * 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_closer_is_kept() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        assert!(poll_fn(|context| Poll::Ready(alarm.poll(start + TIME * 9, context).is_pending())).await);
        wait(&mut alarm, start + TIME).await;
        assert!(start.elapsed() < TIME * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_last_is_woken() {
        let (mut alarm, due) = (Alarm::default(), Instant::now() + TIME);
        assert!(alarm.poll(due, &mut Context::from_waker(Waker::noop())).is_pending());
        wait(&mut alarm, due).await;
    }
}
