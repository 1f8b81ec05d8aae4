//! Recognises an event that differs from the one before it in nothing but the texts that an answer consists of, and its
//! serial number.
//!
//! A stream says the same hundreds of times around each piece of its answer. What has once been found to tell nothing but a
//! piece is not searched again: comparing costs a tenth of that.

use crate::wire::{
    swar,
    telltale::{Keys, keys},
};
use memchr::memchr;
use std::ops::Range;

/// The key of an event's own number.
const SERIAL: &str = "\"sequence_number\"";
/// Keys of what may differ: pieces of an answer in any format, the padding beside them, and the number.
static KEYS: Keys = keys!(
    "content",
    "reasoning_content",
    "reasoning",
    "arguments",
    "text",
    "thinking",
    "partial_json",
    "delta",
    "obfuscation",
    "sequence_number"
);
/// Longer events are not kept.
const MOST_BYTES: usize = 2 * 1024;
/// After so many events in a row that were unlike the one before, no more are kept: something in this stream always changes.
const PATIENCE: u8 = 8;

/// What may differ between two parts that are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// The inside of a string.
    Text,
    /// Digits.
    Number,
}

/// The last event that told nothing but a piece of the answer.
#[derive(Debug, Default)]
pub(super) struct Repeat {
    /// What is the same in all that are like it, one part behind the other.
    same: Vec<u8>,
    /// How long the first part is.
    first: usize,
    /// The gaps, and how long the part behind each is.
    others: Vec<(Gap, usize)>,
    /// Whether its lines end in LFs alone, so that one like it ends where it ends wherever the stream was cut.
    is_delimited: bool,
    unlike: u8,
}

impl Repeat {
    /// Whether this event is the kept one with other texts.
    pub(super) fn is_like(&mut self, event: &[u8]) -> bool {
        self.length(event) == Some(event.len())
    }

    /// How long the event of a stream is that begins here, its blank line included, if it is the kept one with other texts.
    pub(super) fn next(&mut self, stream: &[u8]) -> Option<usize> {
        if self.is_delimited { self.length(stream) } else { None }
    }

    fn length(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.others.is_empty() {
            return None;
        }
        let (first, mut same) = self.same.split_at_checked(self.first)?;
        let mut rest = bytes.strip_prefix(first)?;
        for (gap, part) in &self.others {
            let (part, behind) = same.split_at_checked(*part)?;
            rest = rest.get(gap.length(rest)?..)?.strip_prefix(part)?;
            same = behind;
        }
        self.unlike = 0;
        Some(bytes.len() - rest.len())
    }

    /// Keeps an event that told nothing but a piece of the answer.
    pub(super) fn keep(&mut self, event: &[u8]) {
        self.others.clear();
        if self.unlike >= PATIENCE || event.len() > MOST_BYTES {
            return;
        }
        self.unlike += 1;
        self.is_delimited = event.ends_with(b"\n\n") && memchr(b'\r', event).is_none();
        let gaps: Vec<(Gap, Range<usize>)> = KEYS.ends(event).filter_map(|key_end| gap(event, key_end)).collect();
        if gaps.iter().all(|(gap, _)| *gap == Gap::Number) {
            return;
        }
        self.same.clear();
        let ends = gaps.iter().skip(1).map(|(_, place)| place.start).chain([event.len()]);
        self.first = self.add(event, 0..gaps.first().map_or(0, |(_, place)| place.start));
        for ((gap, place), end) in gaps.iter().zip(ends) {
            let part = self.add(event, place.end..end);
            self.others.push((*gap, part));
        }
    }

    /// Takes over a part that is the same in all. Gives its length.
    fn add(&mut self, event: &[u8], part: Range<usize>) -> usize {
        let part = event.get(part).unwrap_or_default();
        self.same.extend_from_slice(part);
        part.len()
    }
}

impl Gap {
    /// How much at the front fills the gap.
    #[inline]
    fn length(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Gap::Text => text_length(bytes),
            Gap::Number => {
                Some(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()).filter(|digits| *digits > 0)
            }
        }
    }
}

/// What may differ of the value of a key that ends there, and where it stands.
fn gap(event: &[u8], key_end: usize) -> Option<(Gap, Range<usize>)> {
    let value = event.get(key_end..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let (gap, inside) = match value.strip_prefix(b"\"") {
        Some(text) => (Gap::Text, text),
        None if event.get(..key_end)?.ends_with(SERIAL.as_bytes()) => (Gap::Number, value),
        None => return None,
    };
    let start = event.len() - inside.len();
    Some((gap, start..start + gap.length(inside)?))
}

/// How long a text is that begins here, up to its closing quote. No text has a line end in it, and most are a word.
#[inline]
fn text_length(bytes: &[u8]) -> Option<usize> {
    let length = swar::is_escaped(swar::first_word(bytes)).trailing_zeros() as usize / 8;
    if length < 8 && bytes.get(length) == Some(&b'"') { Some(length) } else { longer_text(bytes) }
}

#[inline(never)]
fn longer_text(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += swar::before(bytes.get(at..)?, swar::is_escaped);
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' if *bytes.get(at + 1)? >= b' ' => at += 2,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &[u8] =
        br#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"obfuscation":"x9"}

"#;

    fn kept(event: &[u8]) -> Repeat {
        let mut repeat = Repeat::default();
        repeat.keep(event);
        repeat
    }

    #[test]
    fn only_the_texts_of_the_answer_may_differ() {
        let chunk = std::str::from_utf8(CHUNK).unwrap();
        for (from, to, is_like) in [
            ("Hi", "Hi", true),
            ("Hi", "", true),
            ("Hi", r#"say \"usage\":1 and \\"#, true),
            ("x9", "another length", true),
            ("null", "\"stop\"", false),
            ("\"Hi\"", "null", false),
            ("\"index\":0", "\"index\":1", false),
            ("Hi\"", "Hi\",\"usage\":{}", false),
            ("Hi", "a\nb", false),
            ("Hi", "a\\\nb", false),
            ("\"c\"", "\"d\"", false),
            ("}\n\n", "}\n", false),
        ] {
            let event = chunk.replacen(from, to, 1);
            assert_eq!(kept(CHUNK).is_like(event.as_bytes()), is_like, "{event}");
        }
    }

    #[test]
    fn an_event_s_number_may_differ_and_no_other() {
        let event = |n: &str, text: &str| {
            format!("event: e\ndata: {{\"sequence_number\":{n},\"output_index\":0,\"delta\":\"{text}\"}}\n\n")
        };
        for (other, is_like) in [
            (event("8", "lo"), true),
            (event("1234", "lo"), true),
            (event("", "lo"), false),
            (event("-1", "lo"), false),
            (event("1.5", "lo"), false),
            (event("8,\"usage\":{}", "lo"), false),
            (event("8", "lo").replace("\"output_index\":0", "\"output_index\":1"), false),
        ] {
            assert_eq!(kept(event("7", "Hel").as_bytes()).is_like(other.as_bytes()), is_like, "{other}");
        }
        let bare = b"data: {\"sequence_number\":7}\n\n";
        assert!(!kept(bare).is_like(bare), "it brings no piece of an answer");
    }

    #[test]
    fn an_event_without_such_a_text_is_like_nothing() {
        let event = b"data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n";
        assert!(!kept(event).is_like(event));
        assert!(!Repeat::default().is_like(b""));
        assert!(!kept(b"data: {\"content\":\"never ended").is_like(b"data: {\"content\":\"never ended"));
    }

    #[test]
    fn a_name_inside_a_text_is_no_key() {
        let repeat = kept(br#"{"content":"the \"content\":\"x\" of it","finish_reason":""}"#);
        assert_eq!(repeat.others.len(), 1);
    }

    #[test]
    fn a_stream_that_always_changes_and_a_long_event_are_given_up() {
        let mut repeat = Repeat::default();
        let event = |n: u32| format!("data: {{\"n\":{n},\"delta\":\"x\"}}\n\n");
        for n in 0..100 {
            assert!(!repeat.is_like(event(n).as_bytes()));
            repeat.keep(event(n).as_bytes());
        }
        assert!(!repeat.is_like(event(99).as_bytes()));
        let long = format!("data: {{\"content\":\"{}\"}}\n\n", "x".repeat(MOST_BYTES));
        assert!(!kept(long.as_bytes()).is_like(long.as_bytes()));
    }
}
