//! Recognises an event that is like an earlier one in all but its text.
//!
//! A provider writes the events of a stream alike: from one to the next only the text differs, and perhaps a serial number
//! or padding. So an event that was read once tells how to read the next ones, at the cost of comparing their bytes.
//! Invariant: an event that fits has the members and the values of the one that was learnt, but for what stands in the
//! holes, and is good JSON as that one was.

use super::swar;
use memchr::{memchr2, memmem::Finder};
use std::{ops::Range, sync::LazyLock};

/// After so many events in a row from which nothing was gained, none is learnt any more.
const MOST_MISSES: u8 = 16;
/// Members that no reader looks at, whose values change from event to event.
static SERIAL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"sequence_number\":"));
static PADDING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"obfuscation\":\""));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// The inside of the string that is read.
    Text,
    /// The inside of a string that is not.
    Padding,
    /// Digits.
    Count,
    /// Spaces between two members' ends.
    Space,
}

/// An event with holes; `T` is what else was read of it.
#[derive(Debug)]
pub(crate) struct Stencil<T> {
    /// What stands around the holes, one part behind the other.
    solid: Vec<u8>,
    /// The holes, each with the length of the part before it.
    holes: Vec<(usize, Hole)>,
    rest: Option<T>,
    misses: u8,
}

impl<T> Default for Stencil<T> {
    fn default() -> Self {
        Stencil { solid: Vec::new(), holes: Vec::new(), rest: None, misses: 0 }
    }
}

/// The inside of a string, as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inside<'d> {
    /// ASCII without escapes, so that it says what is written.
    Ascii(&'d [u8]),
    /// Anything, but without a `\u`.
    Other(&'d str),
}

impl<'d> Inside<'d> {
    /// Reads up to the string's end; gives what lies behind it, too. Most strings are a word.
    #[inline]
    fn read(bytes: &'d [u8]) -> Option<(Self, &'d [u8])> {
        let word = swar::first_word(bytes);
        let length = (swar::is_escaped(word) | swar::is_foreign(word)).trailing_zeros() as usize / 8;
        match bytes.split_at_checked(length) {
            Some((inside, behind @ [b'"', ..])) => Some((Inside::Ascii(inside), behind)),
            Some(_) | None => Inside::read_longer(bytes),
        }
    }

    #[inline(never)]
    fn read_longer(bytes: &'d [u8]) -> Option<(Self, &'d [u8])> {
        let plain = swar::before(bytes, |word| swar::is_escaped(word) | swar::is_foreign(word));
        let (inside, behind) = bytes.split_at_checked(plain)?;
        if behind.first() == Some(&b'"') {
            return Some((Inside::Ascii(inside), behind));
        }
        let (inside, behind) = bytes.split_at_checked(inside_from(plain, bytes)?)?;
        Some((Inside::Other(std::str::from_utf8(inside).ok()?), behind))
    }

    /// As text.
    pub(crate) fn as_str(self) -> &'d str {
        match self {
            Inside::Ascii(text) => std::str::from_utf8(text).unwrap_or_default(),
            Inside::Other(text) => text,
        }
    }
}

impl<T: Copy> Stencil<T> {
    /// The inside of the text of an event that fits, and what was learnt with it. Such an event has no line end in it.
    pub(crate) fn fits<'d>(&mut self, event: &'d [u8]) -> Option<(Inside<'d>, T)> {
        let (rest, text) = (self.rest?, self.text_of(event)?);
        self.misses = 0;
        Some((text, rest))
    }

    #[inline]
    fn text_of<'d>(&self, event: &'d [u8]) -> Option<Inside<'d>> {
        let (mut left, mut solid, mut text) = (event, self.solid.as_slice(), None);
        for (length, hole) in &self.holes {
            let (part, others) = solid.split_at_checked(*length)?;
            solid = others;
            left = left.strip_prefix(part)?;
            left = match hole {
                Hole::Text => {
                    let (inside, behind) = Inside::read(left)?;
                    text = Some(inside);
                    behind
                }
                Hole::Padding => Inside::read(left)?.1,
                Hole::Count | Hole::Space => left.get(hole.length(left)?..)?,
            };
        }
        text.filter(|_| left == solid)
    }

    /// Learns from an event that was read in full, whose text stands there in quotes.
    pub(crate) fn learn(&mut self, event: &[u8], text: &str, rest: T) {
        if self.misses >= MOST_MISSES {
            return;
        }
        self.misses += 1;
        self.rest = None;
        if memchr2(b'\n', b'\r', event).is_some() {
            return;
        }
        let Some(start) = (text.as_ptr().addr()).checked_sub(event.as_ptr().addr()) else { return };
        let said = start..start + text.len();
        if event.get(said.clone()) != Some(text.as_bytes()) {
            return;
        }
        let mut holes = vec![(said, Hole::Text)];
        // A key with both its quotes cannot stand inside a string, so that what is found is one.
        for (key, hole) in [(&SERIAL, Hole::Count), (&PADDING, Hole::Padding)] {
            let Some(from) = key.find(event).map(|at| at + key.needle().len()) else { continue };
            let length = event.get(from..).and_then(|value| hole.length(value));
            holes.extend(length.map(|length| (from..from + length, hole)));
        }
        let end = event.len().saturating_sub(1);
        let spaces = event.iter().rev().skip(1).take_while(|byte| **byte == b' ').count();
        if event.last() == Some(&b'}') && spaces > 0 {
            holes.push((end - spaces..end, Hole::Space));
        }
        holes.sort_by_key(|(at, _)| at.start);
        self.cut(event, &holes);
        self.rest = Some(rest);
    }

    /// Takes over what stands around the holes.
    fn cut(&mut self, event: &[u8], holes: &[(Range<usize>, Hole)]) {
        self.solid.clear();
        self.holes.clear();
        let mut from = 0;
        for (at, hole) in holes {
            let part = event.get(from..at.start).unwrap_or_default();
            self.solid.extend_from_slice(part);
            self.holes.push((part.len(), *hole));
            from = at.end;
        }
        self.solid.extend_from_slice(event.get(from..).unwrap_or_default());
    }
}

impl Hole {
    /// How much at the front fills the hole.
    fn length(self, bytes: &[u8]) -> Option<usize> {
        let run = |is_part: fn(&u8) -> bool| bytes.iter().take_while(|byte| is_part(byte)).count();
        match self {
            Hole::Text | Hole::Padding => inside_from(0, bytes),
            Hole::Count => {
                let digits = run(u8::is_ascii_digit);
                (digits == 1 || (2..=15).contains(&digits) && bytes.first() != Some(&b'0')).then_some(digits)
            }
            Hole::Space => Some(run(|byte| *byte == b' ')),
        }
    }
}

/// How long the inside of a string is, at whose front the bytes begin; so many of them are known to be plain.
fn inside_from(plain: usize, bytes: &[u8]) -> Option<usize> {
    let mut at = plain;
    loop {
        at += swar::before(bytes.get(at..)?, swar::is_escaped);
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => {
                matches!(bytes.get(at + 1)?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't').then_some(())?;
                at += 2;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn learnt(event: &str, text: &str) -> Stencil<u8> {
        let at = event.find(text).unwrap();
        let mut stencil = Stencil::default();
        stencil.learn(event.as_bytes(), &event[at..at + text.len()], 7);
        stencil
    }

    fn text<'d>(stencil: &mut Stencil<u8>, event: &'d str) -> Option<&'d str> {
        stencil.fits(event.as_bytes()).map(|(text, _)| text.as_str())
    }

    #[test]
    fn only_the_text_a_serial_number_and_padding_may_differ() {
        let event = r#"{"type":"d","sequence_number":9,"delta":"<>","obfuscation":"xy"  }"#;
        let mut stencil = learnt(event, "<>");
        for (other, want) in [
            (r#"{"type":"d","sequence_number":9,"delta":"<>","obfuscation":"xy"  }"#, Some("<>")),
            (r#"{"type":"d","sequence_number":1234,"delta":" a\"é\n","obfuscation":""}"#, Some(" a\\\"é\\n")),
            (r#"{"type":"d","sequence_number":0,"delta":"","obfuscation":"z"      }"#, Some("")),
            (r#"{"type":"e","sequence_number":9,"delta":"<>","obfuscation":"xy"  }"#, None),
            (r#"{"type":"d","sequence_number":01,"delta":"<>","obfuscation":"xy"  }"#, None),
            (r#"{"type":"d","sequence_number":1.5,"delta":"<>","obfuscation":"xy"  }"#, None),
            (r#"{"type":"d","sequence_number":,"delta":"<>","obfuscation":"xy"  }"#, None),
            (r#"{"type":"d","sequence_number":9,"delta":"<>","obfuscation":"xy","more":1}"#, None),
            (r#"{"type":"d","sequence_number":9,"delta":"a","more":1,"obfuscation":"xy"}"#, None),
            (r#"{"type":"d","sequence_number":9,"delta":"\u0041","obfuscation":"xy"}"#, None),
            (r#"{"type":"d","sequence_number":9,"delta":"<>"#, None),
            ("", None),
        ] {
            assert_eq!(text(&mut stencil, other), want, "{other}");
        }
        for broken in [
            &b"{\"type\":\"d\",\"sequence_number\":9,\"delta\":\"\xff\",\"obfuscation\":\"xy\"  }"[..],
            b"{\"type\":\"d\",\"sequence_number\":9,\"delta\":\"a\",\"obfuscation\":\"\xff\"  }",
        ] {
            assert!(stencil.fits(broken).is_none());
        }
        assert!(matches!(stencil.fits(event.as_bytes()), Some((Inside::Ascii(b"<>"), 7))));
        let accented = event.replace("<>", "é");
        assert!(matches!(stencil.fits(accented.as_bytes()), Some((Inside::Other("é"), 7))));
    }

    #[test]
    fn spaces_before_the_end_are_learnt_from_an_event_that_has_some() {
        let mut stencil = learnt(r#"{"delta":"<>"}"#, "<>");
        assert_eq!(text(&mut stencil, r#"{"delta":"a"}"#), Some("a"));
        assert_eq!(text(&mut stencil, r#"{"delta":"a"  }"#), None);
        let mut stencil = learnt(r#"{"delta":"<>" }"#, "<>");
        assert_eq!(text(&mut stencil, r#"{"delta":"a"  }"#), Some("a"));
        assert_eq!(text(&mut stencil, r#"{"delta":"a"}"#), Some("a"));
    }

    #[test]
    fn a_text_of_another_event_teaches_nothing() {
        let mut stencil = Stencil::default();
        stencil.learn(b"{\"a\":\"b\"}", "b", 7);
        assert!(stencil.fits(b"{\"a\":\"b\"}").is_none());
    }

    #[test]
    fn nothing_is_learnt_from_an_event_of_several_lines() {
        let mut stencil = learnt("{\"a\":1,\n\"delta\":\"<>\"}", "<>");
        assert_eq!(text(&mut stencil, "{\"a\":1,\n\"delta\":\"<>\"}"), None);
    }

    #[test]
    fn where_no_event_is_like_the_last_learning_ends() {
        let mut stencil = Stencil::default();
        for n in 0..100 {
            let event = format!(r#"{{"n":{n},"a":"x"}}"#);
            assert_eq!(text(&mut stencil, &event), None);
            stencil.learn(event.as_bytes(), event.get(event.len() - 3..event.len() - 2).unwrap(), 7);
        }
        assert!(stencil.solid.starts_with(br#"{"n":15"#), "{:?}", String::from_utf8_lossy(&stencil.solid));
    }

    proptest! {
        #[test]
        fn what_fits_says_what_the_full_reader_reads(said in any::<String>(), pad in "[ -~]{0,9}", n in any::<u32>()) {
            let make = |said: &str, pad: &str, n: u32| {
                let text = serde_json::to_string(said).unwrap();
                let pad = serde_json::to_string(pad).unwrap();
                format!(r#"{{"sequence_number":{n},"delta":{text},"obfuscation":{pad} }}"#)
            };
            let mut stencil = learnt(&make("<->", "p", 3), "<->");
            let event = make(&said, &pad, n);
            let mut unescaped = String::new();
            match text(&mut stencil, &event) {
                Some(inside) => prop_assert_eq!(crate::wire::unescape::unescape(inside, &mut unescaped), said),
                None => prop_assert!(event.contains("\\u")),
            }
        }
    }
}
