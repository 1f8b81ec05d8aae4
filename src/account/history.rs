//! The last changes of one account, for whoever asks why. Bounded: the oldest is forgotten.

use crate::clock::Moment;
use std::collections::VecDeque;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// The new state with its reason, as in the log.
    pub what: String,
}

/// The last changes, oldest first.
#[derive(Debug)]
pub(super) struct History {
    events: VecDeque<Event>,
    most: usize,
}

impl History {
    /// None yet; so many are kept.
    pub(super) fn new(most: usize) -> History {
        History { events: VecDeque::new(), most: most.max(1) }
    }

    pub(super) fn note(&mut self, at: Moment, what: String) {
        if self.events.len() >= self.most {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, what });
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_last_changes_are_kept_and_no_more() {
        let (mut history, now) = (History::new(32), ManualClock::new().now());
        (0..37).for_each(|n| history.note(now, n.to_string()));
        let kept: Vec<_> = history.events().map(|event| event.what.as_str()).collect();
        assert_eq!((kept.len(), kept[0], kept[31]), (32, "5", "36"));
    }
}
