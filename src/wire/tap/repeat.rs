//! Recognises an event that differs from the one before it in nothing but the texts that an answer consists of.
//!
//! A stream says the same hundreds of times around each piece of its answer. What has once been found to tell nothing but a
//! piece is not searched again: comparing costs a tenth of that.

use crate::wire::{
    swar,
    telltale::{Keys, keys},
};
use memchr::memchr;
use std::ops::Range;

/// Keys of the texts that may differ: pieces of an answer in any format, and the padding beside them.
static KEYS: Keys = keys!(
    "content",
    "reasoning_content",
    "reasoning",
    "arguments",
    "text",
    "thinking",
    "partial_json",
    "delta",
    "obfuscation"
);
/// Longer events are not kept.
const MOST_BYTES: usize = 2 * 1024;
/// After so many events in a row that were unlike the one before, no more are kept: something in this stream always changes.
const PATIENCE: u8 = 8;

/// The last event that told nothing but a piece of the answer.
#[derive(Debug, Default)]
pub(super) struct Repeat {
    /// What is the same in all that are like it, one part behind the other.
    same: Vec<u8>,
    /// How long those parts are. Between each two stands a text that may differ, in its quotes.
    parts: Vec<usize>,
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
        let (first, others) = self.parts.split_first()?;
        let (first, mut same) = self.same.split_at_checked(*first)?;
        let mut rest = bytes.strip_prefix(first)?;
        for part in others {
            let (part, behind) = same.split_at_checked(*part)?;
            rest = rest.get(text_length(rest)?..)?.strip_prefix(part)?;
            same = behind;
        }
        self.unlike = 0;
        Some(bytes.len() - rest.len())
    }

    /// Keeps an event that told nothing but a piece of the answer.
    pub(super) fn keep(&mut self, event: &[u8]) {
        self.parts.clear();
        if self.unlike >= PATIENCE || event.len() > MOST_BYTES {
            return;
        }
        self.unlike += 1;
        self.is_delimited = event.ends_with(b"\n\n") && memchr(b'\r', event).is_none();
        self.same.clear();
        let mut from = 0;
        for gap in KEYS.ends(event).filter_map(|key_end| text(event, key_end)) {
            self.add(event.get(from..gap.start).unwrap_or_default());
            from = gap.end;
        }
        if from > 0 {
            self.add(event.get(from..).unwrap_or_default());
        }
    }

    fn add(&mut self, part: &[u8]) {
        self.same.extend_from_slice(part);
        self.parts.push(part.len());
    }
}

/// Where the text stands that a key ending there has as its value.
fn text(event: &[u8], key_end: usize) -> Option<Range<usize>> {
    let after = event.get(key_end..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let start = event.len() - after.len();
    Some(start..start + text_length(after)?)
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
    fn an_event_without_such_a_text_is_like_nothing() {
        let event = b"data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n";
        assert!(!kept(event).is_like(event));
        assert!(!Repeat::default().is_like(b""));
        assert!(!kept(b"data: {\"content\":\"never ended").is_like(b"data: {\"content\":\"never ended"));
    }

    #[test]
    fn a_name_inside_a_text_is_no_key() {
        let repeat = kept(br#"{"content":"the \"content\":\"x\" of it","finish_reason":""}"#);
        assert_eq!(repeat.parts.len(), 2);
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
