//! Looks for a key in JSON without parsing it.
//!
//! `"key"` with both its quotes cannot occur inside a JSON string (there the second quote would be escaped), so a hit
//! followed by a colon is a real key, at whatever depth. That is enough to see that an event has nothing to tell; what
//! it tells is for a parser to say.

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
        self.0.find_iter(json).filter_map(move |at| {
            let after = json.get(at + length..)?.trim_ascii_start();
            Some(after.strip_prefix(b":")?.trim_ascii_start())
        })
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
