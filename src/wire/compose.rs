//! Writes JSON member by member, without a tree and without a serializer's types.
//!
//! Invariant: what is written holds no raw line break and no raw U+2028, U+2029 or U+0085, so that it can stand in one line
//! of an event stream for every client.

use super::fields::Num;

/// Writes a JSON string, quotes included.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    put_escaped(out, text);
    out.push(b'"');
}

/// Writes the inside of a JSON string.
pub(crate) fn put_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (width, escape): (usize, &[u8]) = match byte {
            b'"' => (1, b"\\\""),
            b'\\' => (1, b"\\\\"),
            b'\n' => (1, b"\\n"),
            b'\r' => (1, b"\\r"),
            b'\t' => (1, b"\\t"),
            0..=0x1f => (1, b""),
            0xc2 if bytes.get(at + 1) == Some(&0x85) => (2, b"\\u0085"),
            0xe2 if bytes.get(at + 1) == Some(&0x80) => match bytes.get(at + 2) {
                Some(0xa8) => (3, b"\\u2028"),
                Some(0xa9) => (3, b"\\u2029"),
                _ => {
                    at += 3;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(if byte < 0x10 { b'0' } else { b'1' });
            out.extend(HEX.get(usize::from(byte & 0xf)));
        } else {
            out.extend_from_slice(escape);
        }
        at += width;
        from = at;
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
}

/// Writes JSON text as it is, but without raw line breaks (they can only be white space) and with the three separators
/// escaped (they can only stand in strings).
pub(crate) fn put_raw(out: &mut Vec<u8>, json: &str) {
    let bytes = json.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (width, instead): (usize, &[u8]) = match byte {
            b'\n' | b'\r' => (1, b""),
            0xc2 if bytes.get(at + 1) == Some(&0x85) => (2, b"\\u0085"),
            0xe2 if bytes.get(at + 1) == Some(&0x80) => match bytes.get(at + 2) {
                Some(0xa8) => (3, b"\\u2028"),
                Some(0xa9) => (3, b"\\u2029"),
                _ => {
                    at += 3;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        out.extend_from_slice(instead);
        at += width;
        from = at;
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
    /// Writes the key and gives the place for its value.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        put_str(self.out, key);
        self.out.push(b':');
        self.out
    }
    pub(crate) fn str(&mut self, key: &str, value: &str) {
        put_str(self.key(key), value);
    }
    pub(crate) fn some_str(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.str(key, value);
        }
    }
    pub(crate) fn str_or_null(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.str(key, value),
            None => self.null(key),
        }
    }
    pub(crate) fn int(&mut self, key: &str, value: u64) {
        put_int(self.key(key), value);
    }
    pub(crate) fn some_int(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.int(key, value);
        }
    }
    pub(crate) fn num(&mut self, key: &str, value: &Num) {
        let text = value.0.to_string();
        self.key(key).extend_from_slice(text.as_bytes());
    }
    pub(crate) fn some_num(&mut self, key: &str, value: Option<&Num>) {
        if let Some(value) = value {
            self.num(key, value);
        }
    }
    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.key(key).extend_from_slice(if value { b"true" } else { b"false" });
    }
    pub(crate) fn null(&mut self, key: &str) {
        self.key(key).extend_from_slice(b"null");
    }
    pub(crate) fn raw(&mut self, key: &str, json: &str) {
        put_raw(self.key(key), json);
    }
    pub(crate) fn obj(&mut self, key: &str, fill: impl FnOnce(&mut Obj<'_>)) {
        obj(self.key(key), fill);
    }
    pub(crate) fn arr(&mut self, key: &str, fill: impl FnOnce(&mut Arr<'_>)) {
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
