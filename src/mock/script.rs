//! Explicit behaviour for the next requests, for tests that need more than a fault's name.
//!
//! A script waits for requests that match (a key stands for an account, a model for a request) and is used up in order.

use super::{fault::Fault, reply::Reply};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What to do with one request.
#[derive(Clone, Debug)]
pub enum Play {
    /// Send exactly this. The body of the request is not judged.
    Reply(Reply),
    /// Answer with this fault, named as in a selector without `fault-` (`stall-2`). The request is judged first.
    Fault(&'static str),
    /// Answer as if there were no script.
    Answer,
}

/// Which requests a script is for. An empty one is for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    key: Option<String>,
    model: Option<String>,
    path: Option<String>,
}

impl Matching {
    /// Every request.
    pub fn any() -> Self {
        Matching::default()
    }

    /// Requests with this key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Requests for this model.
    pub fn model(mut self, model: &str) -> Self {
        self.model = Some(model.to_owned());
        self
    }

    /// Requests whose path ends so.
    pub fn path(mut self, suffix: &str) -> Self {
        self.path = Some(suffix.to_owned());
        self
    }

    fn fits(&self, asked: &Asked) -> bool {
        self.key.as_deref().is_none_or(|key| key == asked.key)
            && self.model.as_deref().is_none_or(|model| model == asked.model)
            && self.path.as_deref().is_none_or(|suffix| asked.path.ends_with(suffix))
    }
}

/// What a script can tell requests apart by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) key: &'a str,
    pub(super) model: &'a str,
    pub(super) path: &'a str,
}

/// The scripts that wait.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    waiting: AtomicUsize,
    queues: Mutex<Vec<(Matching, VecDeque<Play>)>>,
}

impl Scripts {
    /// Adds plays for the next matching requests; scripts are asked in the order in which they were added.
    ///
    /// # Errors
    /// The name of a fault that there is not.
    pub(super) fn add(&self, matching: Matching, plays: Vec<Play>) -> Result<(), String> {
        for play in &plays {
            match play {
                Play::Fault(name) if Fault::named(name).is_none() => return Err((*name).to_owned()),
                Play::Fault(_) | Play::Reply(_) | Play::Answer => {}
            }
        }
        self.waiting.fetch_add(plays.len(), Ordering::SeqCst);
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push((matching, plays.into()));
        Ok(())
    }

    /// Whether any play waits at all.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// How many plays wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The play for this request, which is then used up.
    pub(super) fn next(&self, asked: &Asked) -> Option<Play> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let play =
            queues.iter_mut().filter(|(matching, _)| matching.fits(asked)).find_map(|(_, queue)| queue.pop_front())?;
        queues.retain(|(_, queue)| !queue.is_empty());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(play)
    }

    pub(super) fn reset(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.waiting.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_waits_for_its_requests_and_is_used_up_in_order() {
        let scripts = Scripts::default();
        scripts.add(Matching::any().key("a"), vec![Play::Fault("500"), Play::Answer]).unwrap();
        let asked = |key| Asked { key, model: "m", path: "/v1/messages" };
        assert!(scripts.next(&asked("b")).is_none());
        assert!(matches!(scripts.next(&asked("a")), Some(Play::Fault("500"))));
        assert!(matches!(scripts.next(&asked("a")), Some(Play::Answer)));
        assert!(scripts.next(&asked("a")).is_none() && scripts.is_empty());
    }

    #[test]
    fn a_fault_that_there_is_not_is_told_at_once() {
        assert_eq!(Scripts::default().add(Matching::any(), vec![Play::Fault("nonsense")]), Err("nonsense".into()));
    }
}
