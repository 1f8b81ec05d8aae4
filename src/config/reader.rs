//! Reads a marked tree by a schema, collecting every fault on the way.
//!
//! A section is asked for its keys one by one; what nobody asked for is an unknown key, so the schema *is* the code
//! that reads. A value at fault reads as `None` after its fault was noted: reading goes on, and nothing is noted twice.

use super::{
    fault::{Fault, FaultList, did_you_mean, may_be_secret, shown},
    interpolate::Environment,
    scalar,
    tree::{Entry, Mark, Node, Scalar, Value, push_key},
};
use crate::provider::Provider;
use std::{cell::RefCell, ops::RangeInclusive, path::PathBuf, time::Duration};

/// What a configuration is read with, besides its text.
pub(crate) struct Surroundings<'a> {
    /// Environment variables.
    pub(crate) environment: &'a Environment<'a>,
    /// The providers that accounts can belong to.
    pub(crate) providers: &'a [&'static dyn Provider],
    /// Finds a provider by any name that it goes by.
    pub(crate) find: fn(&str) -> Option<&'static dyn Provider>,
}

/// What all parts of one reading share.
pub(crate) struct Reader<'a> {
    /// What the configuration is read with.
    pub(crate) surroundings: &'a Surroundings<'a>,
    faults: RefCell<FaultList>,
    warnings: RefCell<FaultList>,
    #[cfg(test)]
    asked: RefCell<std::collections::BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    /// A reader that goes on from faults found so far.
    pub(crate) fn new(surroundings: &'a Surroundings<'a>, faults: FaultList) -> Self {
        Reader {
            surroundings,
            faults: RefCell::new(faults),
            warnings: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Faults and warnings, in the file's order.
    pub(crate) fn into_parts(self) -> (Vec<Fault>, Vec<Fault>) {
        (self.faults.into_inner().into_sorted(), self.warnings.into_inner().into_sorted())
    }

    /// Every key that was asked for, as a path with `[]` for list items.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> std::collections::BTreeSet<String> {
        self.asked.borrow().clone()
    }
}

/// A value of the tree with its path.
#[derive(Clone)]
pub(crate) struct Item<'r> {
    /// What the reading shares.
    pub(crate) reader: &'r Reader<'r>,
    node: &'r Node,
    path: String,
}

impl<'r> Item<'r> {
    /// The whole document.
    pub(crate) fn root(reader: &'r Reader<'r>, node: &'r Node) -> Self {
        Item { reader, node, path: String::new() }
    }

    fn located(&self, mark: Mark, message: String) -> Fault {
        Fault { path: self.path.clone(), line: mark.line, column: mark.column, message }
    }

    /// Notes a fault of this value.
    pub(crate) fn fault(&self, message: impl Into<String>) {
        self.reader.faults.borrow_mut().push(self.located(self.node.mark, message.into()));
    }

    /// Notes a warning about this value.
    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.reader.warnings.borrow_mut().push(self.located(self.node.mark, message.into()));
    }

    /// The line on which the value begins.
    pub(crate) fn line(&self) -> usize {
        self.node.mark.line
    }

    /// Whether this is a mapping, for values that can be written in a short form too.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether this is a list, for values that can be written as a single one too.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    fn scalar(&self, wanted: &str) -> Option<&'r Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.is_null() => self.refuse(format!("must be {wanted}, but is empty")),
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) => self.refuse(format!("must be {wanted}, not a list")),
            Value::Map(_) => self.refuse(format!("must be {wanted}, not a mapping")),
            Value::Broken => None,
        }
    }

    /// Notes a fault and reads as nothing.
    pub(crate) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.fault(message);
        None
    }

    /// The value in quotes for a fault's text; not shown where it could be a secret.
    pub(crate) fn shown(&self) -> String {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.from_environment => "a value from the environment".to_owned(),
            Value::Scalar(scalar) => shown(&scalar.text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Broken => "a broken value".to_owned(),
        }
    }

    /// Whether a fault may repeat words that were made from this value.
    pub(crate) fn may_be_shown(&self) -> bool {
        match &self.node.value {
            Value::Scalar(scalar) => !scalar.from_environment && !may_be_secret(&scalar.text),
            Value::List(_) | Value::Map(_) | Value::Broken => false,
        }
    }

    /// Any text but the empty one.
    pub(crate) fn text(&self) -> Option<&'r str> {
        let scalar = self.scalar("a text")?;
        if scalar.text.is_empty() { self.refuse("must not be empty") } else { Some(&scalar.text) }
    }

    fn parsed<T>(&self, wanted: &str, read: impl FnOnce(&str) -> Result<T, &'static str>) -> Option<T> {
        let text = &self.scalar(wanted)?.text;
        read(text).map_err(|allowed| self.fault(format!("must be {allowed}, not {}", self.shown()))).ok()
    }

    /// A whole number within a range.
    pub(crate) fn count<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let number = self.parsed("a whole number", scalar::count)?;
        let (least, most) = (range.start(), range.end());
        let fitting = T::try_from(number).ok().filter(|_| range.contains(&number));
        fitting.or_else(|| match (*least, *most) {
            (least, u64::MAX) => self.refuse(format!("must be at least {least}")),
            (least, most) => self.refuse(format!("must be from {least} to {most}")),
        })
    }

    /// A size in bytes within a range.
    pub(crate) fn bytes(&self, range: RangeInclusive<usize>) -> Option<usize> {
        let bytes = self.parsed("a size", scalar::bytes)?;
        let fitting = usize::try_from(bytes).ok().filter(|bytes| range.contains(bytes));
        fitting.or_else(|| self.refuse(format!("must be from {} to {} bytes", range.start(), range.end())))
    }

    /// A duration within a range.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.parsed("a duration", scalar::duration)?;
        if range.contains(&duration) {
            return Some(duration);
        }
        self.refuse(format!("must be from {:?} to {:?}", range.start(), range.end()))
    }

    /// US dollars, in nano-dollars; more than none.
    pub(crate) fn dollars(&self) -> Option<u64> {
        let nanos = self.parsed("an amount in US dollars", scalar::dollars)?;
        if nanos == 0 { self.refuse("must be more than 0") } else { Some(nanos) }
    }

    /// US dollars, in nano-dollars; perhaps none.
    pub(crate) fn dollars_or_none(&self) -> Option<u64> {
        self.parsed("an amount in US dollars", scalar::dollars)
    }

    /// An end in time, in milliseconds since 1970.
    pub(crate) fn expiry(&self) -> Option<u64> {
        self.parsed("a date", scalar::expiry)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        self.parsed("true or false", scalar::boolean)
    }

    /// One of several words.
    pub(crate) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = &self.scalar("a word")?.text;
        let chosen = words.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        chosen.or_else(|| {
            let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
            self.refuse(format!(
                "must be one of {}, not {}{}",
                list.join(", "),
                self.shown(),
                self.suggestion(list.iter().copied())
            ))
        })
    }

    /// `, did you mean …?` for this value, where one of the candidates is near and the value may be shown.
    pub(crate) fn suggestion<'c>(&self, candidates: impl IntoIterator<Item = &'c str>) -> String {
        match &self.node.value {
            Value::Scalar(scalar) if self.may_be_shown() && !self.reader.faults.borrow().is_full() => {
                did_you_mean(&scalar.text, candidates)
            }
            Value::Scalar(_) | Value::List(_) | Value::Map(_) | Value::Broken => String::new(),
        }
    }

    /// A path in the file system; a relative one is relative to the working directory.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.text().map(PathBuf::from)
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Option<Vec<Item<'r>>> {
        match &self.node.value {
            Value::List(nodes) => Some(
                nodes
                    .iter()
                    .enumerate()
                    .map(|(index, node)| Item { reader: self.reader, node, path: format!("{}[{index}]", self.path) })
                    .collect(),
            ),
            Value::Scalar(_) | Value::Map(_) => self.refuse("must be a list"),
            Value::Broken => None,
        }
    }

    /// The mapping, to be asked for its keys.
    pub(crate) fn section(&self) -> Option<Section<'r>> {
        match &self.node.value {
            Value::Map(entries) => Some(Section { item: self.clone(), entries, known: Vec::new(), later: Vec::new() }),
            Value::Scalar(_) | Value::List(_) => self.refuse("must be a mapping (`key: value`)"),
            Value::Broken => None,
        }
    }

    /// The pairs of a mapping whose keys are free: each key as an item's path, with its text.
    pub(crate) fn pairs(&self) -> Option<Vec<(&'r str, Item<'r>)>> {
        let section = self.section()?;
        Some(section.entries.iter().map(|entry| (entry.key.as_str(), section.item_of(entry))).collect())
    }
}

/// A mapping whose keys are known.
pub(crate) struct Section<'r> {
    item: Item<'r>,
    entries: &'r [Entry],
    known: Vec<&'static str>,
    /// Keys that a later version will know.
    later: Vec<&'static str>,
}

impl<'r> Section<'r> {
    fn item_of(&self, entry: &'r Entry) -> Item<'r> {
        let mut path = self.item.path.clone();
        push_key(&mut path, &entry.key);
        Item { reader: self.item.reader, node: &entry.node, path }
    }

    fn entry(&mut self, key: &'static str) -> Option<&'r Entry> {
        #[cfg(test)]
        self.record(key);
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    #[cfg(test)]
    fn record(&self, key: &str) {
        let mut pattern = String::new();
        for piece in self.item.path.split_inclusive('[') {
            let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
            pattern.push_str(&piece[digits..]);
        }
        push_key(&mut pattern, key);
        self.item.reader.asked.borrow_mut().insert(pattern);
    }

    /// The value of a key; nothing where it is absent or empty.
    pub(crate) fn find(&mut self, key: &'static str) -> Option<Item<'r>> {
        let entry = self.entry(key).filter(|entry| !entry.node.is_null())?;
        Some(self.item_of(entry))
    }

    /// Reads a key that may be absent.
    pub(crate) fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&Item<'r>) -> Option<T>) -> Option<T> {
        self.find(key).and_then(|item| read(&item))
    }

    /// Reads a key that must be there.
    pub(crate) fn required<T>(&mut self, key: &'static str, read: impl FnOnce(&Item<'r>) -> Option<T>) -> Option<T> {
        match self.find(key) {
            Some(item) => read(&item),
            None => self.missing(key),
        }
    }

    /// The section as a value.
    pub(crate) fn item(&self) -> Item<'r> {
        self.item.clone()
    }

    /// Whether the key is written with a value, be it at fault or not.
    pub(crate) fn has_value(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && !entry.node.is_null())
    }

    /// Notes that a key is missing, or stands there without a value.
    pub(crate) fn missing<T>(&self, key: &str) -> Option<T> {
        match self.entries.iter().find(|entry| entry.key == key) {
            Some(entry) => self.item_of(entry).refuse("must not be empty"),
            None => self.item.refuse(format!("`{key}` is missing")),
        }
    }

    /// Reads a key into its place; an absent key leaves the default that stands there.
    pub(crate) fn set<T>(&mut self, key: &'static str, place: &mut T, read: impl FnOnce(&Item<'r>) -> Option<T>) {
        if let Some(value) = self.optional(key, read) {
            *place = value;
        }
    }

    /// Reads every item of a list that may be absent; those at fault are left out.
    pub(crate) fn list<T>(&mut self, key: &'static str, read: impl FnMut(&Item<'r>) -> Option<T>) -> Vec<T> {
        let items = self.optional(key, Item::items).unwrap_or_default();
        items.iter().filter_map(read).collect()
    }

    /// Ends the section: every key that was not asked for is a fault. Returns the section as an item.
    pub(crate) fn done(self) -> Item<'r> {
        let is_known = |key: &str| self.known.contains(&key) || self.later.contains(&key);
        for entry in self.entries.iter().filter(|entry| !is_known(&entry.key)) {
            let item = self.item_of(entry);
            let mut faults = item.reader.faults.borrow_mut();
            let message = if faults.is_full() { String::new() } else { self.unknown(&entry.key) };
            faults.push(item.located(entry.mark, message));
        }
        self.item
    }

    fn unknown(&self, key: &str) -> String {
        let near = if may_be_secret(key) { String::new() } else { did_you_mean(key, self.known.iter().copied()) };
        if near.is_empty() {
            return format!("unknown key; known here: {}", self.known.join(", "));
        }
        format!("unknown key{near}")
    }
}
