//! The last changes of one account, for whoever asks why. Bounded: the oldest is forgotten.

use crate::clock::Moment;
use std::collections::VecDeque;

/// So many changes are kept for each account.
const KEPT: usize = 32;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// The new state with its reason, as in the log.
    pub what: String,
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Event>);

impl History {
    pub(super) fn note(&mut self, at: Moment, what: String) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Event { at, what });
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_last_changes_are_kept_and_no_more() {
        let (mut history, now) = (History::default(), ManualClock::new().now());
        (0..KEPT + 5).for_each(|n| history.note(now, n.to_string()));
        let kept: Vec<_> = history.events().map(|event| event.what.as_str()).collect();
        assert_eq!((kept.len(), kept[0], kept[KEPT - 1]), (KEPT, "5", "36"));
    }
}
