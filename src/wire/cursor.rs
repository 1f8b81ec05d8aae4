//! Walks over a JSON text, value by value, without building anything.
//!
//! The ground of those who read in a hurry. Never recurses, and never says what is wrong: what is no JSON is `None`, and
//! is left to a reader that tells. Invariant: what is walked over is good JSON.

use super::{swar, unescape::unescape};
use std::borrow::Cow;

/// Whoever reads members inside of members goes no deeper: those who recurse must come to an end.
const MAX_DEPTH: usize = 100;

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Whether there is any control character in it, be it a line end between two values.
    has_controls: bool,
    /// How many objects and lists whose members are being read are open.
    depth: usize,
}

/// What a string holds besides plain characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// Nothing.
    None,
    /// Escapes of one letter.
    Letters,
    /// Escapes that say a character by its number, which need not be one.
    Numbers,
}

/// The name of a member.
#[derive(Clone, Debug)]
pub(crate) struct Key<'a>(Cow<'a, [u8]>);

impl<'a> Key<'a> {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_text(self) -> Cow<'a, str> {
        match self.0 {
            Cow::Borrowed(name) => std::str::from_utf8(name).map(Cow::Borrowed),
            Cow::Owned(name) => std::str::from_utf8(&name).map(|name| Cow::Owned(name.to_owned())),
        }
        .unwrap_or_default()
    }
}

/// The inside of a string as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a> {
    pub(crate) inside: &'a str,
    pub(crate) escapes: Escapes,
}

impl<'a> Quoted<'a> {
    /// What it says; `None` for half a surrogate pair.
    #[inline]
    pub(crate) fn said(&self) -> Option<Cow<'a, str>> {
        if self.escapes == Escapes::None { Some(Cow::Borrowed(self.inside)) } else { self.unescaped() }
    }

    #[inline(never)]
    fn unescaped(&self) -> Option<Cow<'a, str>> {
        match self.escapes {
            Escapes::None => Some(Cow::Borrowed(self.inside)),
            Escapes::Letters => {
                let mut said = String::with_capacity(self.inside.len());
                unescape(self.inside, &mut said);
                Some(Cow::Owned(said))
            }
            Escapes::Numbers => serde_json::from_str(&["\"", self.inside, "\""].concat()).ok().map(Cow::Owned),
        }
    }
}

impl<'a> Cursor<'a> {
    /// The beginning of a text; `None` if it is no UTF-8.
    pub(crate) fn new(text: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(text).ok().map(Cursor::of)
    }

    /// The beginning of a text.
    pub(crate) fn of(text: &'a str) -> Self {
        Cursor { text, at: 0, has_controls: has_control(text.as_bytes()), depth: 0 }
    }

    /// The beginning of a value that has been walked over before.
    pub(crate) fn again(value: &'a str) -> Self {
        Cursor { text: value, at: 0, has_controls: false, depth: 0 }
    }

    /// What lies ahead.
    #[inline]
    fn rest(&self) -> Option<&'a [u8]> {
        self.text.as_bytes().get(self.at..)
    }

    /// The next byte that is no space.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.next_byte()?;
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// The next byte, be it a space.
    #[inline]
    fn next_byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Walks over one sign.
    #[inline]
    pub(crate) fn sign(&mut self, sign: u8) -> Option<()> {
        (self.peek()? == sign).then(|| self.at += 1)
    }

    /// Walks over a word.
    #[inline]
    pub(crate) fn word(&mut self, word: &str) -> Option<()> {
        self.peek()?;
        self.rest()?.starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// Nothing may follow.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// Walks over a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Option<Quoted<'a>> {
        match self.plain_string() {
            Some(inside) => Some(Quoted { inside, escapes: Escapes::None }),
            None => self.any_string(),
        }
    }

    /// The inside of a short string without escapes, as most are, which is then walked over; stays before any other.
    #[inline(never)]
    fn plain_string(&mut self) -> Option<&'a str> {
        self.peek()?;
        let length = swar::quoted(self.rest()?.strip_prefix(b"\"")?)?;
        let from = self.at + 1;
        let inside = self.text.get(from..from + length)?;
        self.at = from + length + 1;
        Some(inside)
    }

    #[inline(never)]
    fn any_string(&mut self) -> Option<Quoted<'a>> {
        self.sign(b'"')?;
        let (from, mut escapes) = (self.at, Escapes::None);
        loop {
            let plain = self.at;
            self.at += memchr::memchr2(b'"', b'\\', self.rest()?)?;
            if self.has_controls && has_control(self.text.as_bytes().get(plain..self.at)?) {
                return None;
            }
            if self.next_byte() == Some(b'"') {
                break;
            }
            escapes = self.escape(escapes)?;
        }
        self.at += 1;
        Some(Quoted { inside: self.text.get(from..self.at - 1)?, escapes })
    }

    /// Walks over a short key without escapes, as most are, and over the colon right behind it; stays before any other.
    #[inline(never)]
    fn plain_key(&mut self) -> Option<&'a [u8]> {
        self.peek()?;
        let inside = self.rest()?.strip_prefix(b"\"")?;
        let length = swar::quoted_key(inside)?;
        let (key, [b'"', b':', ..]) = inside.split_at_checked(length)? else { return None };
        self.at += length + 3;
        Some(key)
    }

    #[inline(never)]
    fn any_key(&mut self) -> Option<Key<'a>> {
        let key = match self.string()?.said()? {
            Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
            Cow::Owned(key) => Cow::Owned(key.into_bytes()),
        };
        self.sign(b':').map(|()| Key(key))
    }

    #[inline(never)]
    fn skip_string(&mut self) -> Option<()> {
        self.peek()?;
        let plain = self.rest()?.strip_prefix(b"\"").and_then(swar::quoted);
        match plain {
            Some(length) => self.at += length + 2,
            None => drop(self.any_string()?),
        }
        Some(())
    }

    /// Walks over an escape; what the string holds with it.
    fn escape(&mut self, before: Escapes) -> Option<Escapes> {
        match self.text.as_bytes().get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 2;
                Some(if before == Escapes::None { Escapes::Letters } else { before })
            }
            b'u' => {
                let digits = self.text.as_bytes().get(self.at + 2..self.at + 6)?;
                self.at += 6;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(Escapes::Numbers)
            }
            _ => None,
        }
    }

    /// Walks over the digits that come next; how many they are, at least one.
    #[inline]
    fn digits(&mut self) -> Option<usize> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.next_byte() {
            self.at += 1;
        }
        (self.at > from).then(|| self.at - from)
    }

    /// Walks over a whole number of at most 18 digits; stays before any other.
    #[inline]
    pub(crate) fn count(&mut self) -> Option<u64> {
        let first = self.peek()?;
        let rest = self.rest()?;
        let (mut number, mut length) = (0, 0);
        for byte in rest.iter().take(18) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            number = number * 10 + u64::from(digit);
            length += 1;
        }
        let goes_on = matches!(rest.get(length), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
        if length == 0 || goes_on || (length > 1 && first == b'0') {
            return None;
        }
        self.at += length;
        Some(number)
    }

    /// Walks over a number: how it is written.
    pub(crate) fn number(&mut self) -> Option<&'a str> {
        self.peek()?;
        let from = self.at;
        if self.next_byte() == Some(b'-') {
            self.at += 1;
        }
        let first = self.next_byte();
        if self.digits()? > 1 && first == Some(b'0') {
            return None;
        }
        if self.next_byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.next_byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.next_byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        self.text.get(from..self.at)
    }

    /// Walks over an object: `each` gets every key and must walk over its value.
    #[inline]
    pub(crate) fn members(&mut self, mut each: impl FnMut(&mut Self, Key<'a>) -> Option<()>) -> Option<()> {
        self.sign(b'{')?;
        if self.sign(b'}').is_some() {
            return Some(());
        }
        self.enter()?;
        loop {
            let key = match self.plain_key() {
                Some(key) => Key(Cow::Borrowed(key)),
                None => self.any_key()?,
            };
            each(self, key)?;
            if self.sign(b',').is_none() {
                self.depth -= 1;
                return self.sign(b'}');
            }
        }
    }

    #[inline]
    fn enter(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= MAX_DEPTH).then_some(())
    }

    /// Walks over a list: `each` must walk over an element.
    #[inline]
    pub(crate) fn elements(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.sign(b'[')?;
        if self.sign(b']').is_some() {
            return Some(());
        }
        self.enter()?;
        loop {
            each(self)?;
            if self.sign(b',').is_none() {
                self.depth -= 1;
                return self.sign(b']');
            }
        }
    }

    /// Whether a null comes next, which is then walked over.
    #[inline]
    pub(crate) fn is_null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.word("null").is_some()
    }

    /// Walks over a true or a false.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        if self.peek()? == b't' { self.word("true").map(|()| true) } else { self.word("false").map(|()| false) }
    }

    /// Walks over any value: how it is written.
    #[inline]
    pub(crate) fn value(&mut self) -> Option<&'a str> {
        self.written(Self::skip)
    }

    /// How a value is written that `walk` walks over.
    #[inline]
    pub(crate) fn written(&mut self, walk: impl FnOnce(&mut Self) -> Option<()>) -> Option<&'a str> {
        self.peek()?;
        let from = self.at;
        walk(self)?;
        self.text.get(from..self.at)
    }

    /// Walks over any value.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let mut open = Brackets::default();
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    // The brackets of a kind lie two apart.
                    if self.peek()? == bracket + 2 {
                        self.at += 1;
                    } else {
                        open.push(bracket == b'{');
                        if bracket == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => {
                    if self.count().is_none() {
                        self.number()?;
                    }
                }
            }
            if self.leave(&mut open)? {
                return Some(());
            }
        }
    }

    /// Behind a value: closes brackets up to where the next one begins. Whether none is left open.
    #[inline]
    fn leave(&mut self, open: &mut Brackets) -> Option<bool> {
        while let Some(is_object) = open.innermost() {
            match (self.peek()?, is_object) {
                (b',', _) => {
                    self.at += 1;
                    if is_object {
                        self.key()?;
                    }
                    return Some(false);
                }
                (b'}', true) | (b']', false) => {
                    self.at += 1;
                    open.pop();
                }
                _ => return None,
            }
        }
        Some(true)
    }

    #[inline]
    fn key(&mut self) -> Option<()> {
        if self.plain_key().is_some() {
            return Some(());
        }
        self.skip_string()?;
        self.sign(b':')
    }
}

/// The brackets that are open: a bit for each, set for an object's.
#[derive(Default)]
struct Brackets {
    depth: usize,
    /// The innermost ones, at most 64 of them.
    kinds: u64,
    /// Those around them, by 64.
    outer: Vec<u64>,
}

impl Brackets {
    #[inline]
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.kinds);
        }
        self.depth += 1;
        self.kinds = self.kinds << 1 | u64::from(is_object);
    }

    #[inline]
    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.kinds >>= 1;
        if self.depth.is_multiple_of(64) {
            self.kinds = self.outer.pop().unwrap_or(0);
        }
    }

    #[inline]
    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.kinds & 1 == 1)
    }
}

fn has_control(bytes: &[u8]) -> bool {
    // Without a way out in the middle, so that many are looked at at once.
    bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::damaged;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn walks(json: &[u8]) -> bool {
        Cursor::new(json).is_some_and(|mut cursor| cursor.skip().and_then(|()| cursor.end()).is_some())
    }

    fn is_json(text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    }

    #[test]
    fn what_is_json_and_nothing_else_is_walked_over() {
        for json in [
            r#"{"a":[{"b":null,"c":true}],"d":-1.50E+3,"e":"x\n\"y\\ \u00e9","f":[],"g":{}}"#,
            " [ 1 , [ ] , \"\" , 0 , -0 , 0.5 , 1e5 ]\r\n\t",
            "123456789012345678901234567890",
            "\"a text of more than thirty-two bytes, with \u{e9} and an escape: \\/ and no more\"",
        ] {
            assert!(walks(json.as_bytes()) && is_json(json.as_bytes()), "{json}");
            for end in 0..json.trim_end().len() {
                assert_eq!(walks(&json.as_bytes()[..end]), is_json(&json.as_bytes()[..end]), "{json}, {end}");
            }
        }
        for text in [
            "",
            "{",
            "{]",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{,}",
            "{1:1}",
            "01",
            "1.",
            ".5",
            "-",
            "1e",
            "+1",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "nul",
            "truefalse",
            "1 2",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "]",
            "\u{feff}1",
        ] {
            assert!(!walks(text.as_bytes()) && !is_json(text.as_bytes()), "{text}");
        }
        assert!(!walks(b"\"\xff\""));
    }

    #[test]
    fn any_depth_is_walked_over() {
        let kinds = |at: usize| if at.is_multiple_of(3) { ("{\"a\":", "}") } else { ("[", "]") };
        for depth in [1, 63, 64, 65, 128, 129, 5_000] {
            let open: String = (0..depth).map(|at| kinds(at).0).collect();
            let close: String = (0..depth).rev().map(|at| kinds(at).1).collect();
            assert!(walks(format!("{open}1{close}").as_bytes()), "{depth}");
            assert!(walks(format!("[{open}1{close},{open}1{close}]").as_bytes()), "{depth}");
            assert!(!walks(format!("{open}1{}", &close[1..]).as_bytes()), "{depth}");
            let wrong = close.replacen(']', "}", 1);
            assert!(wrong == close || !walks(format!("{open}1{wrong}").as_bytes()), "{depth}");
        }
    }

    #[test]
    fn recorded_and_damaged_documents_are_told_apart_as_by_serde() {
        let check = |json: &[u8]| assert_eq!(walks(json), is_json(json), "{}", json.escape_ascii());
        damaged::each_reply(check);
        damaged::each_request(check);
    }

    proptest! {
        #[test]
        fn random_texts_are_told_apart_as_by_serde(json in "[\\[{}\\]:,\"\\\\a-fu0-1 .ntrule\\n-]{0,24}") {
            prop_assert_eq!(walks(json.as_bytes()), is_json(json.as_bytes()), "{}", json);
        }

        #[test]
        fn strings_say_what_serde_reads(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let mut cursor = Cursor::new(json.as_bytes()).unwrap();
            prop_assert_eq!(cursor.string().unwrap().said().unwrap(), text);
        }

        #[test]
        fn counts_are_what_serde_reads(number in any::<u64>(), shift in 0_u32..64, more in "(\\.0|e1|[0-9]|)") {
            let json = format!("{}{more}", number >> shift);
            let mut cursor = Cursor::new(json.as_bytes()).unwrap();
            match cursor.count() {
                Some(count) => prop_assert_eq!(Some(count), serde_json::from_str(&json).ok()),
                None => prop_assert!(json.len() > 18 || json.contains(['.', 'e']) || json.starts_with('0')),
            }
        }
    }
}
