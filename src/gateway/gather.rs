//! Puts pieces of an answer that come close together into one write.
//!
//! Pingora hands an answer over four pieces at a time, and every batch would be a write of its own. A full batch tells
//! that more is probably there already, so it waits for the request's own task to come round again, and for nothing
//! else: no timer delays a piece, and a batch that is not full waits for nothing. Invariant: what waits is bounded, keeps
//! its order, and goes out before anything else does.

use bytes::{Bytes, BytesMut};
use pingora::protocols::http::HttpTask;
use std::{future::poll_fn, task::Poll};

/// As many pieces as Pingora's channel holds.
const FULL_BATCH: usize = 4;
/// Most bytes that wait.
const MOST_BYTES: usize = 32 * 1024;
/// How often the task comes round before what waits is written: once for the upstream's half of it to hand over what it
/// has, and twice because the halves are polled in changing order.
const ROUNDS: u8 = 3;

/// The pieces that wait.
#[derive(Default)]
pub(super) struct Gathered {
    pieces: Vec<HttpTask>,
    bytes: usize,
    rounds: u8,
}

impl Gathered {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Keeps a batch that may wait; gives any other back, behind what waited.
    pub(super) fn add(&mut self, mut batch: Vec<HttpTask>, may_wait: bool) -> Option<Vec<HttpTask>> {
        let bytes = batch.iter().map(body_bytes).sum::<Option<usize>>();
        let is_kept = may_wait
            && batch.len() >= FULL_BATCH
            && bytes.is_some_and(|bytes| self.bytes.saturating_add(bytes) <= MOST_BYTES);
        if !is_kept && self.is_empty() {
            return Some(batch);
        }
        self.pieces.append(&mut batch);
        if is_kept {
            self.bytes += bytes.unwrap_or_default();
            self.rounds = ROUNDS;
            return None;
        }
        Some(self.take())
    }

    /// All that waits, in its order.
    pub(super) fn take(&mut self) -> Vec<HttpTask> {
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }

    /// All that waits as one piece.
    pub(super) fn take_joined(&mut self) -> Bytes {
        let mut joined = BytesMut::with_capacity(self.bytes);
        for piece in self.take() {
            if let HttpTask::Body(Some(bytes), _) = piece {
                joined.extend_from_slice(&bytes);
            }
        }
        joined.freeze()
    }

    /// Waits until the task has come round often enough. May be dropped and called again: the rounds stay counted.
    pub(super) async fn settled(&mut self) {
        poll_fn(|context| {
            if self.rounds == 0 {
                return Poll::Ready(());
            }
            self.rounds -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Two batches as one, in the memory of the first that has any.
pub(super) fn join(mut first: Vec<HttpTask>, mut second: Vec<HttpTask>) -> Vec<HttpTask> {
    if first.is_empty() {
        return second;
    }
    first.append(&mut second);
    first
}

/// The bytes of a piece of a body.
pub(super) fn task_bytes(task: &HttpTask) -> usize {
    match task {
        HttpTask::Body(Some(body), _) | HttpTask::UpgradedBody(Some(body), _) => body.len(),
        HttpTask::Header(..)
        | HttpTask::Body(None, _)
        | HttpTask::UpgradedBody(None, _)
        | HttpTask::Trailer(_)
        | HttpTask::Done
        | HttpTask::Failed(_) => 0,
    }
}

/// The size of a piece that is nothing but bytes in the midst of a body; `None` for all that has to go out at once.
fn body_bytes(task: &HttpTask) -> Option<usize> {
    match task {
        HttpTask::Body(bytes, false) => Some(bytes.as_ref().map_or(0, Bytes::len)),
        HttpTask::Body(_, true)
        | HttpTask::Header(..)
        | HttpTask::UpgradedBody(..)
        | HttpTask::Trailer(_)
        | HttpTask::Done
        | HttpTask::Failed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    fn batch(pieces: &[&'static str]) -> Vec<HttpTask> {
        pieces.iter().map(|piece| HttpTask::Body(Some(Bytes::from_static(piece.as_bytes())), false)).collect()
    }

    fn text(tasks: &[HttpTask]) -> String {
        let bytes = tasks.iter().filter_map(|task| match task {
            HttpTask::Body(Some(bytes), _) => Some(std::str::from_utf8(bytes).unwrap()),
            _ => None,
        });
        bytes.collect()
    }

    #[test]
    fn a_batch_that_is_not_full_waits_for_nothing() {
        let mut gathered = Gathered::default();
        assert_eq!(text(&gathered.add(batch(&["a", "b", "c"]), true).unwrap()), "abc");
        assert!(gathered.is_empty());
    }

    #[test]
    fn full_batches_wait_and_go_out_with_the_next_one_in_their_order() {
        let mut gathered = Gathered::default();
        assert!(gathered.add(batch(&["a", "b", "c", "d"]), true).is_none());
        assert!(gathered.add(batch(&["e", "f", "g", "h"]), true).is_none());
        let all = gathered.add(batch(&["i"]), true).unwrap();
        assert_eq!(text(&all), "abcdefghi");
        assert!(gathered.is_empty());
    }

    #[test]
    fn an_end_or_a_failure_goes_out_at_once_with_all_that_waited() {
        let failed = HttpTask::Failed(pingora::Error::new(pingora::ErrorType::ReadError));
        for last in [HttpTask::Body(None, true), HttpTask::Done, failed] {
            let mut gathered = Gathered::default();
            assert!(gathered.add(batch(&["a", "b", "c", "d"]), true).is_none());
            let mut end = batch(&["e", "f", "g"]);
            end.push(last);
            let all = gathered.add(end, true).unwrap();
            assert_eq!((text(&all).as_str(), all.len()), ("abcdefg", 8));
        }
    }

    #[test]
    fn no_more_waits_than_may() {
        let mut gathered = Gathered::default();
        let piece = |size: usize| HttpTask::Body(Some(Bytes::from(vec![0; size])), false);
        let large = |size: usize| (0..4).map(|_| piece(size)).collect::<Vec<_>>();
        assert!(gathered.add(large(MOST_BYTES / 4), true).is_none());
        assert_eq!(gathered.add(large(1), true).unwrap().len(), 8);
        assert_eq!(gathered.add(large(MOST_BYTES), true).unwrap().len(), 4);
        assert_eq!(gathered.add(large(1), false).unwrap().len(), 4);
    }

    #[test]
    fn the_wait_ends_after_a_few_rounds_though_it_is_begun_anew_each_time() {
        let mut gathered = Gathered::default();
        assert!(gathered.add(batch(&["a", "b", "c", "d"]), true).is_none());
        let round =
            |gathered: &mut Gathered| pin!(gathered.settled()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!((0..ROUNDS).all(|_| !round(&mut gathered)));
        assert!(round(&mut gathered));
        assert_eq!(gathered.take_joined(), "abcd");
    }
}
