//! The values that a label may take: a bounded set, whatever clients send.
//!
//! Invariant: at most `most` values and `other`, so that no client can grow the number of time series.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

/// What stands for every value that has no place of its own.
const OTHER: Name = Name::Word("other");

/// A label's value: a word of ours, which costs nothing, or one of a bounded set.
#[derive(Clone, Debug)]
pub(super) enum Name {
    /// A word of this program.
    Word(&'static str),
    /// One that was learned.
    Learned(Arc<str>),
}

impl Name {
    fn text(&self) -> &str {
        match self {
            Name::Word(word) => word,
            Name::Learned(name) => name,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.text().encode(encoder)
    }
}

/// The values of one label.
#[derive(Debug)]
pub(super) struct Names {
    known: RwLock<HashMap<Box<str>, Name>>,
    most: usize,
}

impl Names {
    /// At most this many values.
    pub(super) fn new(most: usize) -> Names {
        Names { known: RwLock::default(), most }
    }

    /// The value for this text if it has a place, else `other`.
    pub(super) fn known(&self, text: &str) -> Name {
        self.find(text).unwrap_or(OTHER)
    }

    /// The value for this text, which gets a place while there are any.
    pub(super) fn learn(&self, text: &str) -> Name {
        if let Some(name) = self.find(text) {
            return name;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.most {
            return OTHER;
        }
        known.entry(text.into()).or_insert_with(|| Name::Learned(text.into())).clone()
    }

    fn find(&self, text: &str) -> Option<Name> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(text).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_label_are_bounded() {
        let names = Names::new(2);
        assert_eq!(names.known("a").text(), "other", "who only asks gets no place");
        assert_eq!(names.learn("a").text(), "a");
        assert_eq!(names.learn("b").text(), "b");
        assert_eq!(names.learn("c").text(), "other");
        assert_eq!(names.known("a").text(), "a");
    }
}
