//! Reads over the small events that make up nearly all of a stream, without building anything.
//!
//! Never decides alone: what is not just as expected gives `None`, and is left to the full reader. Invariant: what is
//! accepted here is good JSON that the full reader would take, and that it would read alike.

use super::cursor::{Cursor, Escapes};

/// How deep a value that is read over may go.
const MAX_DEPTH: usize = 8;

/// A place in a JSON text.
pub(crate) struct Skim<'a>(Cursor<'a>);

/// The members of an object that were met so far: the full reader takes none of those that it knows twice.
#[derive(Default)]
pub(crate) struct Met(u32);

impl Met {
    /// Notes the member with this number, which is below 32.
    pub(crate) fn once(&mut self, number: u32) -> Option<()> {
        let bit = 1_u32.checked_shl(number)?;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new.then_some(())
    }
}

impl<'a> Skim<'a> {
    /// Begins with the whole text.
    pub(crate) fn new(json: &'a [u8]) -> Option<Self> {
        Cursor::new(json).map(Skim)
    }

    /// Nothing may follow.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.0.end()
    }

    /// Reads over a null.
    pub(crate) fn null(&mut self) -> Option<()> {
        self.0.word("null")
    }

    /// Whether a null comes next, which is then read over.
    pub(crate) fn is_null(&mut self) -> bool {
        self.null().is_some()
    }

    /// Reads an object: `each` gets every key and must read its value.
    pub(crate) fn object(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.0.sign(b'{')?;
        if self.0.sign(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.0.string().filter(|key| key.escapes == Escapes::None)?;
            self.0.sign(b':')?;
            each(self, key.inside.as_bytes())?;
            if self.0.sign(b',').is_none() {
                return self.0.sign(b'}');
            }
        }
    }

    /// Reads a list of one; `element` must read it.
    pub(crate) fn only(&mut self, element: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.0.sign(b'[')?;
        element(self)?;
        self.0.sign(b']')
    }

    /// Reads an empty list.
    pub(crate) fn empty_list(&mut self) -> Option<()> {
        self.0.sign(b'[')?;
        self.0.sign(b']')
    }

    /// The inside of a string, its escapes as they are; none of them is a `\u`.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        self.0.string().filter(|text| text.escapes != Escapes::Numbers).map(|text| text.inside)
    }

    /// A string, or nothing for a null.
    pub(crate) fn string_or_null(&mut self) -> Option<Option<&'a str>> {
        if self.is_null() { Some(None) } else { self.string().map(Some) }
    }

    /// Reads a true or a false.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        if self.0.word("true").is_some() { Some(true) } else { self.0.word("false").map(|()| false) }
    }

    /// A whole number of at most 15 digits.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.0.count().filter(|count| *count < 1_000_000_000_000_000)
    }

    /// Reads over a number without an exponent, of at most 15 digits before its point.
    pub(crate) fn number(&mut self) -> Option<()> {
        let written = self.0.number()?;
        let digits = written.strip_prefix('-').unwrap_or(written);
        let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
        (whole <= 15 && !written.contains(['e', 'E'])).then_some(())
    }

    /// Reads over any value.
    pub(crate) fn skip(&mut self) -> Option<()> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.0.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.object(|inner, _| inner.skip_at(depth + 1)),
            b'[' => {
                self.0.sign(b'[')?;
                if self.0.sign(b']').is_some() {
                    return Some(());
                }
                loop {
                    self.skip_at(depth + 1)?;
                    if self.0.sign(b',').is_none() {
                        return self.0.sign(b']');
                    }
                }
            }
            b't' => self.0.word("true"),
            b'f' => self.0.word("false"),
            b'n' => self.null(),
            _ => self.number(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::unescape::unescape;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn skipped(json: &[u8]) -> bool {
        Skim::new(json).is_some_and(|mut skim| skim.skip().and_then(|()| skim.end()).is_some())
    }

    #[test]
    fn what_streams_are_made_of_is_read() {
        for json in
            [r#"{"a":[{"b":null,"c":true}],"d":-1.50,"e":"x\n\"y\\ é","f":[],"g":{}}"#, " [ 1 , [ ] , \"\" ]\r\n", "0"]
        {
            assert!(skipped(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn what_is_no_json_or_takes_a_closer_look_is_left_to_the_full_reader() {
        for json in [
            "",
            "{",
            "{]",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "1e5",
            "\"\\u0041\"",
            "\"\\x\"",
            "\"\n\"",
            "nul",
            "truefalse",
            "1 2",
            "{\"\\n\":1}",
            "[[[[[[[[[[1]]]]]]]]]]",
        ] {
            assert!(!skipped(json.as_bytes()), "{json}");
        }
        assert!(!skipped(b"\"\xff\""));
    }

    #[test]
    fn members_that_come_twice_are_noticed() {
        let mut met = Met::default();
        assert!(met.once(3).is_some() && met.once(31).is_some() && met.once(3).is_none());
    }

    proptest! {
        #[test]
        fn nothing_is_accepted_that_is_no_json(json in "[\\[{}\\]:,\"\\\\a-c0-1 .ntrue-]{0,24}") {
            if skipped(json.as_bytes()) {
                prop_assert!(serde_json::from_str::<IgnoredAny>(&json).is_ok(), "{json}");
            }
        }

        #[test]
        fn strings_say_what_the_full_reader_reads(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let mut said = String::new();
            if let Some(inside) = Skim::new(json.as_bytes()).and_then(|mut skim| skim.string()) {
                prop_assert_eq!(unescape(inside, &mut said), text);
            } else {
                prop_assert!(json.contains("\\u"));
            }
        }
    }
}
