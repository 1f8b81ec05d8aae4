//! Writes JSON for clients: one line, whatever a client takes for a line end.
//!
//! U+0085, U+2028 and U+2029 are escaped. JSON allows them as they are, but clients that split a stream into lines by
//! Unicode's rules break an event at them and show an empty answer.

use serde::Serialize;
use std::io::{self, Write};

/// The value as JSON on one line.
///
/// A value that cannot be written (a map whose keys are not strings) gives an empty vector; no type of this crate is one.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, OneLine);
    if value.serialize(&mut serializer).is_err() {
        out.clear();
    }
    out
}

/// The formatter behind [`to_vec`], for those who hold a serializer of their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // The first bytes of the three in UTF-8; almost no text holds either.
        if memchr::memchr2(0xC2, 0xE2, fragment.as_bytes()).is_none() {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((before, separator, after)) = split_at_separator(rest) {
            writer.write_all(before.as_bytes())?;
            write!(writer, "\\u{:04x}", u32::from(separator))?;
            rest = after;
        }
        writer.write_all(rest.as_bytes())
    }
}

fn split_at_separator(text: &str) -> Option<(&str, char, &str)> {
    let (at, separator) = text.char_indices().find(|(_, c)| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'))?;
    Some((text.get(..at)?, separator, text.get(at + separator.len_utf8()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_separators_are_escaped_and_read_back_as_they_were() {
        let text = "a\u{2028}b\u{2029}\u{85}é—漢 \"q\" \n end";
        let written = to_vec(text);
        let shown = String::from_utf8(written.clone()).unwrap();
        assert_eq!(shown, r#""a\u2028b\u2029\u0085é—漢 \"q\" \n end""#);
        assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
    }

    #[test]
    fn plain_text_is_written_as_serde_json_writes_it() {
        let value = serde_json::json!({"a": ["x", 1, null, true], "b": "Ãâ\u{7f}"});
        assert_eq!(to_vec(&value), serde_json::to_vec(&value).unwrap());
    }
}
