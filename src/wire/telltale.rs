//! Looks for a key in JSON without parsing it.
//!
//! `"key"` with both its quotes cannot occur inside a JSON string (there the second quote would be escaped), so a hit
//! followed by a colon is a real key, at whatever depth. That is enough to see that an event has nothing to tell; what
//! it tells is for a parser to say.

use aho_corasick::packed;
use memchr::memmem::Finder;
use serde::de::IgnoredAny;
use std::sync::LazyLock;

/// A key to look for.
#[derive(Debug)]
pub(crate) struct Key(LazyLock<Finder<'static>>);

impl Key {
    /// The key, given with its quotes; `make` is called once.
    pub(crate) const fn new(make: fn() -> Finder<'static>) -> Self {
        Key(LazyLock::new(make))
    }

    /// Whether the name stands there in its quotes, as a key or as a text.
    pub(crate) fn stands_in(&self, json: &[u8]) -> bool {
        self.0.find(json).is_some()
    }

    /// Whether the key stands there with any value but null.
    pub(crate) fn is_said(&self, json: &[u8]) -> bool {
        self.values(json).any(|value| !value.starts_with(b"null"))
    }

    /// The last whole object that the key stands for. What comes before it may be anything.
    pub(crate) fn last_object<'a>(&self, json: &'a [u8]) -> Option<&'a [u8]> {
        self.values(json).filter(|value| value.first() == Some(&b'{')).filter_map(first_document).last()
    }

    /// The last text without escapes that the key stands for.
    pub(crate) fn last_text<'a>(&self, json: &'a [u8]) -> Option<&'a str> {
        self.values(json).filter_map(plain_text).last()
    }

    /// The first text without escapes that the key stands for.
    pub(crate) fn first_text<'a>(&self, json: &'a [u8]) -> Option<&'a str> {
        self.values(json).find_map(plain_text)
    }

    /// What follows the key's colon, for each place where the key stands.
    fn values<'a>(&self, json: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let length = self.0.needle().len();
        self.0.find_iter(json).filter_map(move |at| value(json, at + length))
    }
}

/// What follows the colon of a key that ends there; `None` for a text that is no key.
fn value(json: &[u8], end: usize) -> Option<&[u8]> {
    let after = json.get(end..)?.trim_ascii_start();
    Some(after.strip_prefix(b":")?.trim_ascii_start())
}

/// Several keys, looked for all at once.
#[derive(Debug)]
pub(crate) struct Keys(LazyLock<Finders>);

/// What finds them.
#[derive(Debug)]
pub(crate) struct Finders {
    words: Vec<Finder<'static>>,
    /// None on processors without the instructions that it needs.
    together: Option<packed::Searcher>,
}

impl Keys {
    /// The keys, given with their quotes; `make` is called once.
    pub(crate) const fn new(make: fn() -> Finders) -> Self {
        Keys(LazyLock::new(make))
    }

    /// Which of the keys, by their places in the list, stand there with any value but null; as often as they do.
    pub(crate) fn said<'a>(&'a self, json: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.0.said(json)
    }

    /// Where the names of the keys end that stand there in their quotes, as a key or as a text; in their order.
    pub(crate) fn ends<'a>(&'a self, json: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.0.ends(json)
    }
}

impl Finders {
    fn said<'a>(&'a self, json: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let is_said = move |end| value(json, end).is_some_and(|value| !value.starts_with(b"null"));
        self.found(json).filter(move |(_, end)| is_said(*end)).map(|(key, _)| key)
    }

    fn ends<'a>(&'a self, json: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        // What is not found together is not found in its order.
        let mut apart: Vec<usize> =
            if self.together.is_none() { self.found(json).map(|(_, end)| end).collect() } else { Vec::new() };
        apart.sort_unstable();
        let together = self.found(json).filter(|_| self.together.is_some()).map(|(_, end)| end);
        apart.into_iter().chain(together)
    }

    /// Each place where one of them stands: which one it is, and where it ends.
    fn found<'a>(&'a self, json: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
        let together = self.together.as_ref().map(|together| together.find_iter(json));
        let together = together.into_iter().flatten().map(|found| (found.pattern().as_usize(), found.end()));
        let alone = self.words.iter().enumerate().filter(|_| self.together.is_none());
        let alone = alone.flat_map(|(key, word)| word.find_iter(json).map(move |at| (key, at + word.needle().len())));
        together.chain(alone)
    }

    pub(crate) fn new(keys: &'static [&'static str]) -> Finders {
        let words = keys.iter().map(|key| Finder::new(*key)).collect();
        Finders { words, together: packed::Searcher::new(keys) }
    }
}

fn first_document(json: &[u8]) -> Option<&[u8]> {
    let mut documents = serde_json::Deserializer::from_slice(json).into_iter::<IgnoredAny>();
    documents.next()?.ok()?;
    json.get(..documents.byte_offset())
}

fn plain_text(value: &[u8]) -> Option<&str> {
    let text = value.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', text).filter(|at| text.get(*at) == Some(&b'"'))?;
    std::str::from_utf8(text.get(..end)?).ok()
}

/// Declares a [`Key`] for a name.
macro_rules! key {
    ($name:literal) => {
        $crate::wire::telltale::Key::new(|| memchr::memmem::Finder::new(concat!("\"", $name, "\"")))
    };
}
pub(crate) use key;

/// Declares [`Keys`] for names.
macro_rules! keys {
    ($($name:literal),+) => {
        $crate::wire::telltale::Keys::new(|| $crate::wire::telltale::Finders::new(&[$(concat!("\"", $name, "\"")),+]))
    };
}
pub(crate) use keys;

#[cfg(test)]
mod tests {
    use super::*;

    static USAGE: Key = key!("usage");

    #[test]
    fn a_key_is_seen_unless_its_value_is_null() {
        for (json, said) in [
            (r#"{"usage":{"a":1}}"#, true),
            (r#"{"usage" : 0}"#, true),
            (r#"{"usage": null,"usage":1}"#, true),
            (r#"{"usage":null}"#, false),
            (r#"{"text":"say \"usage\": 1"}"#, false),
            (r#"{"text":"usage"}"#, false),
            (r#"{"text":["usage",1]}"#, false),
            (r#"{"usage_x":1}"#, false),
        ] {
            assert_eq!(USAGE.is_said(json.as_bytes()), said, "{json}");
        }
    }

    #[test]
    fn several_keys_are_found_together_as_each_is_alone() {
        static BOTH: Keys = keys!("usage", "error");
        let together = Finders::new(&["\"usage\"", "\"error\""]);
        let alone = Finders { together: None, ..Finders::new(&["\"usage\"", "\"error\""]) };
        for finders in [together, alone] {
            for (json, said) in [
                (r#"{"text":"a long text that has nothing to tell","usage":{"a":1},"error":null}"#, vec![0]),
                (r#"{"error" : 0,"x":{"usage": {}}, "a":"padding padding padding padding"}"#, vec![0, 1]),
                (r#"{"text":"say \"usage\": 1 and \"error\": 2 as often as you like"}"#, vec![]),
                (r#"{"usage":"error","text":"the value of one is the name of the other"}"#, vec![0]),
                (r#"{"error":1}"#, vec![1]),
                ("", vec![]),
            ] {
                let ends: Vec<_> = finders.ends(json.as_bytes()).collect();
                assert!(
                    ends.is_sorted()
                        && ends.iter().all(|end| json[..*end].ends_with("e\"") || json[..*end].ends_with("r\"")),
                    "{json}"
                );
                assert_eq!(ends.len(), json.matches("\"usage\"").count() + json.matches("\"error\"").count(), "{json}");
                let mut found: Vec<_> = finders.said(json.as_bytes()).collect();
                found.sort_unstable();
                assert_eq!(found, said, "{json}");
                assert_eq!(BOTH.said(json.as_bytes()).count(), said.len());
            }
        }
    }

    #[test]
    fn the_last_whole_object_is_found_in_the_middle_of_nowhere() {
        let tail = br#"AAAA"}],"usage":{"n":1},"x":{"usage":{"n":2,"s":"}"}},"usage":{"n":3"#;
        assert_eq!(USAGE.last_object(tail), Some(&br#"{"n":2,"s":"}"}"#[..]));
        assert_eq!(USAGE.last_object(br#""usage":[1]"#), None);
    }

    #[test]
    fn texts_are_found_first_and_last() {
        let json = br#"{"usage":"a","x":[{"usage":"b"}],"usage":"c\n"}"#;
        assert_eq!((USAGE.first_text(json), USAGE.last_text(json)), (Some("a"), Some("b")));
    }
}
