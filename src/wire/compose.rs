//! Writes JSON member by member, without a tree and without a serializer's types.
//!
//! Invariant: what is written holds no raw line break and no raw U+2028, U+2029 or U+0085, so that it can stand in one line
//! of an event stream for every client.

use super::{fields::Num, swar, text::Text};

/// Writes a JSON string, quotes included.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    put_escaped(out, text);
    out.push(b'"');
}

/// Writes a text as a JSON string, in the client's own escapes where it still has them.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &Text<'_>) {
    put_paragraphs(out, std::iter::once(text));
}

/// Writes texts as one JSON string, an empty line between them.
pub(crate) fn put_paragraphs<'t>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'t Text<'t>>) {
    out.push(b'"');
    for (at, text) in texts.enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\\n\\n");
        }
        match text {
            Text::Plain(text) => put_escaped(out, text),
            Text::Escaped(inside) => put_inside(out, inside.as_bytes()),
        }
    }
    out.push(b'"');
}

/// Writes the inside of a JSON string, in which only the three separators may want to be escaped.
pub(crate) fn put_inside(out: &mut Vec<u8>, inside: &[u8]) {
    const SHORT: usize = 32;
    let has_none = |bytes| swar::before(bytes, |word| swar::is_but_for_bit_5(word, 0xc2)) == bytes.len();
    if inside.len() <= SHORT && has_none(inside) {
        return out.extend_from_slice(inside);
    }
    let mut from = 0;
    for lead in memchr::memchr2_iter(0xc2, 0xe2, inside) {
        let Some((width, instead)) = replacement::<false>(inside.get(lead..).unwrap_or_default()) else { continue };
        out.extend_from_slice(inside.get(from..lead).unwrap_or_default());
        out.extend_from_slice(instead);
        from = lead + width;
    }
    out.extend_from_slice(inside.get(from..).unwrap_or_default());
}

/// Writes the inside of a JSON string.
pub(crate) fn put_escaped(out: &mut Vec<u8>, text: &str) {
    put_replaced::<true>(out, text.as_bytes());
}

/// Writes JSON text as it is, but without raw line breaks (they can only be white space) and with the three separators
/// escaped (they can only stand in strings).
pub(crate) fn put_raw(out: &mut Vec<u8>, json: &str) {
    put_replaced::<false>(out, json.as_bytes());
}

/// How many bytes at the front stand for themselves for sure.
fn plain<const IN_STRING: bool>(bytes: &[u8]) -> usize {
    swar::before(bytes, |word| {
        let in_string = if IN_STRING { swar::is_escaped(word) } else { swar::is_control(word) };
        in_string | swar::is_but_for_bit_5(word, 0xc2)
    })
}

/// What is written in place of the bytes at the front, and of how many; `None` where they stand for themselves.
fn replacement<const IN_STRING: bool>(bytes: &[u8]) -> Option<(usize, &'static [u8])> {
    match bytes {
        [0xc2, 0x85, ..] => Some((2, b"\\u0085")),
        [0xe2, 0x80, 0xa8, ..] => Some((3, b"\\u2028")),
        [0xe2, 0x80, 0xa9, ..] => Some((3, b"\\u2029")),
        [b'\n' | b'\r', ..] if !IN_STRING => Some((1, b"")),
        [byte, ..] if IN_STRING => escape(*byte).map(|escape| (1, escape)),
        _ => None,
    }
}

/// The escape of one byte; empty for those that are written by their number.
fn escape(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"\\\""),
        b'\\' => Some(b"\\\\"),
        b'\n' => Some(b"\\n"),
        b'\r' => Some(b"\\r"),
        b'\t' => Some(b"\\t"),
        0..=0x1f => Some(b""),
        _ => None,
    }
}

fn put_replaced<const IN_STRING: bool>(out: &mut Vec<u8>, bytes: &[u8]) {
    let (mut from, mut at) = (0, plain::<IN_STRING>(bytes));
    while let Some(rest @ [byte, ..]) = bytes.get(at..) {
        let Some((width, instead)) = replacement::<IN_STRING>(rest) else {
            at += 1 + plain::<IN_STRING>(bytes.get(at + 1..).unwrap_or_default());
            continue;
        };
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        out.extend_from_slice(instead);
        if IN_STRING && instead.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(if *byte < 0x10 { b"\\u000" } else { b"\\u001" });
            out.extend(HEX.get(usize::from(byte & 0xf)));
        }
        from = at + width;
        at = from + plain::<IN_STRING>(bytes.get(from..).unwrap_or_default());
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
}

/// Writes a number in decimal.
pub(crate) fn put_int(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; 20];
    let mut rest = value;
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Writes pieces of JSON one after another, as they are.
pub(crate) fn put_all(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// Writes an object; `fill` adds its members.
pub(crate) fn obj(out: &mut Vec<u8>, fill: impl FnOnce(&mut Obj<'_>)) {
    out.push(b'{');
    fill(&mut Obj { out, empty: true });
    out.push(b'}');
}

/// Writes a list; `fill` adds its elements.
pub(crate) fn arr(out: &mut Vec<u8>, fill: impl FnOnce(&mut Arr<'_>)) {
    out.push(b'[');
    fill(&mut Arr { out, empty: true });
    out.push(b']');
}

/// A JSON object being written.
pub(crate) struct Obj<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl Obj<'_> {
    /// Writes a key of ours, in which nothing has to be escaped, and gives the place for its value.
    pub(crate) fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.out.reserve(key.len() + 4);
        self.out.extend_from_slice(if self.empty { b"\"" } else { b",\"" });
        self.empty = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }
    /// Writes a key that may be anything, and gives the place for its value.
    pub(crate) fn any_key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        put_str(self.out, key);
        self.out.push(b':');
        self.out
    }
    /// Writes a word of ours, in which nothing has to be escaped.
    pub(crate) fn word(&mut self, key: &'static str, word: &'static str) {
        put_all(self.key(key), &[b"\"", word.as_bytes(), b"\""]);
    }
    pub(crate) fn str(&mut self, key: &'static str, value: &str) {
        put_str(self.key(key), value);
    }
    pub(crate) fn text(&mut self, key: &'static str, value: &Text<'_>) {
        put_text(self.key(key), value);
    }
    pub(crate) fn some_str(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.str(key, value);
        }
    }
    pub(crate) fn str_or_null(&mut self, key: &'static str, value: Option<&str>) {
        match value {
            Some(value) => self.str(key, value),
            None => self.null(key),
        }
    }
    pub(crate) fn int(&mut self, key: &'static str, value: u64) {
        put_int(self.key(key), value);
    }
    pub(crate) fn some_int(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.int(key, value);
        }
    }
    pub(crate) fn num(&mut self, key: &'static str, value: &Num) {
        let text = value.0.to_string();
        self.key(key).extend_from_slice(text.as_bytes());
    }
    pub(crate) fn some_num(&mut self, key: &'static str, value: Option<&Num>) {
        if let Some(value) = value {
            self.num(key, value);
        }
    }
    pub(crate) fn bool(&mut self, key: &'static str, value: bool) {
        self.key(key).extend_from_slice(if value { b"true" } else { b"false" });
    }
    pub(crate) fn null(&mut self, key: &'static str) {
        self.key(key).extend_from_slice(b"null");
    }
    pub(crate) fn raw(&mut self, key: &'static str, json: &str) {
        put_raw(self.key(key), json);
    }
    pub(crate) fn any_raw(&mut self, key: &str, json: &str) {
        put_raw(self.any_key(key), json);
    }
    pub(crate) fn obj(&mut self, key: &'static str, fill: impl FnOnce(&mut Obj<'_>)) {
        obj(self.key(key), fill);
    }
    pub(crate) fn arr(&mut self, key: &'static str, fill: impl FnOnce(&mut Arr<'_>)) {
        arr(self.key(key), fill);
    }
}

/// A JSON list being written.
pub(crate) struct Arr<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl Arr<'_> {
    /// Gives the place for the next element.
    pub(crate) fn item(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }
    /// Writes an object that is taken back where `fill` says that it came to nothing.
    pub(crate) fn obj_if(&mut self, fill: impl FnOnce(&mut Obj<'_>) -> bool) {
        let (before, was_empty) = (self.out.len(), self.empty);
        let mut is_kept = false;
        self.obj(|o| is_kept = fill(o));
        if !is_kept {
            self.out.truncate(before);
            self.empty = was_empty;
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }
    pub(crate) fn str(&mut self, value: &str) {
        put_str(self.item(), value);
    }
    pub(crate) fn raw(&mut self, json: &str) {
        put_raw(self.item(), json);
    }
    pub(crate) fn obj(&mut self, fill: impl FnOnce(&mut Obj<'_>)) {
        obj(self.item(), fill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_separators_and_control_characters_never_come_out_raw() {
        let mut out = Vec::new();
        put_str(&mut out, "a\u{2028}b\u{2029}c\u{85}d\n\u{1}\u{1f}\"\\é€\u{201c}");
        assert_eq!(String::from_utf8(out).unwrap(), r#""a\u2028b\u2029c\u0085d\n\u0001\u001f\"\\é€“""#);
        let mut out = Vec::new();
        put_raw(&mut out, "{\n \"a\": \"x\u{2028}y\u{85}\"\r\n}");
        assert_eq!(String::from_utf8(out).unwrap(), r#"{ "a": "x\u2028y\u0085"}"#);
    }

    #[test]
    fn texts_are_joined_by_an_empty_line() {
        let texts = [Text::Plain("a\"\n".into()), Text::Escaped("b\\n\u{2028}"), Text::Plain("c".into())];
        for (count, want) in [(0, r#""""#), (1, r#""a\"\n""#), (3, r#""a\"\n\n\nb\n\u2028\n\nc""#)] {
            let mut out = Vec::new();
            put_paragraphs(&mut out, texts.iter().take(count));
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn keys_are_written_as_they_are_where_they_are_ours_and_escaped_where_they_are_not() {
        let mut out = Vec::new();
        obj(&mut out, |o| {
            o.word("kind", "x");
            o.any_raw("a\"b", "1");
            o.int("n", 2);
        });
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"kind":"x","a\"b":1,"n":2}"#);
    }

    #[test]
    fn numbers_come_out_as_they_went_in() {
        for text in ["0", "1", "0.5", "18446744073709551615"] {
            let num: Num = serde_json::from_str(text).unwrap();
            let mut out = Vec::new();
            obj(&mut out, |o| o.num("n", &num));
            assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"n\":{text}}}"));
        }
        let mut out = Vec::new();
        put_int(&mut out, u64::MAX);
        assert_eq!(out, b"18446744073709551615");
    }
}
