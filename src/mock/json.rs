//! Writes JSON text in the order in which it is told.
//!
//! Providers write their fields in a fixed order, and clients (or a gateway's byte search) may come to rely on it, so a
//! map that sorts its keys would not do. It never reads JSON and never checks that `raw` text is any.

use std::fmt::Write as _;

/// An object in the making: every method appends one field.
pub(super) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

/// A list in the making: every method appends one element.
pub(super) struct List<'a> {
    out: &'a mut String,
    empty: bool,
}

/// The text of one object.
pub(super) fn object(write: impl FnOnce(&mut Object)) -> String {
    let mut out = String::with_capacity(256);
    object_into(&mut out, write);
    out
}

/// The text of one list.
pub(super) fn list(write: impl FnOnce(&mut List)) -> String {
    let mut out = String::with_capacity(64);
    list_into(&mut out, write);
    out
}

/// The text of one string, quotes included.
pub(super) fn string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    string_into(&mut out, value);
    out
}

fn object_into(out: &mut String, write: impl FnOnce(&mut Object)) {
    out.push('{');
    write(&mut Object { out, empty: true });
    out.push('}');
}

fn list_into(out: &mut String, write: impl FnOnce(&mut List)) {
    out.push('[');
    write(&mut List { out, empty: true });
    out.push(']');
}

/// Appends a quoted string; runs that need no escape are copied whole.
fn string_into(out: &mut String, value: &str) {
    out.push('"');
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(other) => put(out, format_args!("\\u{:04x}", u32::from(other))),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Formatting into a `String` cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments) {
    let _ = out.write_fmt(text);
}

impl Object<'_> {
    fn key(&mut self, key: &str) -> &mut String {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        string_into(self.out, key);
        self.out.push(':');
        self.out
    }

    pub(super) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        string_into(self.key(key), value);
        self
    }

    /// A string, or `null` when there is none.
    pub(super) fn text_or_null(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) -> &mut Self {
        let out = self.key(key);
        let place = out.len();
        // Digits come last first; numbers are short, and formatting costs more than this.
        let mut rest = value;
        loop {
            out.insert(place, char::from_digit((rest % 10) as u32, 10).unwrap_or('0'));
            rest /= 10;
            if rest == 0 {
                return self;
            }
        }
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key).push_str(if value { "true" } else { "false" });
        self
    }

    pub(super) fn null(&mut self, key: &str) -> &mut Self {
        self.raw(key, "null")
    }

    /// Text that already is JSON.
    pub(super) fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key).push_str(json);
        self
    }

    pub(super) fn object(&mut self, key: &str, write: impl FnOnce(&mut Object)) -> &mut Self {
        object_into(self.key(key), write);
        self
    }

    pub(super) fn list(&mut self, key: &str, write: impl FnOnce(&mut List)) -> &mut Self {
        list_into(self.key(key), write);
        self
    }
}

impl List<'_> {
    fn next(&mut self) -> &mut String {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        self.out
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        string_into(self.next(), value);
        self
    }

    /// Text that already is JSON.
    pub(super) fn raw(&mut self, json: &str) -> &mut Self {
        self.next().push_str(json);
        self
    }

    pub(super) fn object(&mut self, write: impl FnOnce(&mut Object)) -> &mut Self {
        object_into(self.next(), write);
        self
    }
}

/// The same JSON text over several lines, `indent` spaces a level; strings and numbers stay as they are.
pub(super) fn indented(json: &str, indent: usize) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped, mut opened) = (0usize, false, false, false);
    for c in json.chars() {
        if in_string {
            out.push(c);
            (escaped, in_string) = (c == '\\' && !escaped, escaped || c != '"');
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if opened && !closes {
            new_line(&mut out, depth * indent);
        }
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !opened {
                    new_line(&mut out, depth * indent);
                }
            }
            '"' => in_string = true,
            _ => {}
        }
        opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            ',' => new_line(&mut out, depth * indent),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut String, spaces: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', spaces));
}

/// The text with every character escaped that line-based readers of event streams mistake for a line end.
///
/// `protobuf` adds what Google's JSON printer escapes besides: angle brackets and the byte-order mark. Such characters
/// occur only inside strings, so replacing them in the finished text is safe.
pub(super) fn hardened(json: String, protobuf: bool) -> String {
    let risky =
        |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{85}') || protobuf && matches!(c, '<' | '>' | '\u{feff}');
    if !protobuf && json.is_ascii() || !json.contains(risky) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if risky(c) {
            put(&mut out, format_args!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn fields_keep_their_order_and_every_string_survives() {
        let nasty = "q\" b\\ n\n r\r t\t nul\u{0} é漢👩‍👧 \u{2028}";
        let text = object(|o| {
            o.text("z", nasty).number("a", 7).number("zero", 0).number("most", u64::MAX).null("n").flag("f", true);
            o.list("l", |l| {
                l.text("x").raw("1.5").object(|o| {
                    o.text_or_null("k", None);
                });
            });
        });
        assert!(text.starts_with("{\"z\":"), "{text}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["z"], nasty);
        assert_eq!((&back["zero"], &back["most"]), (&0.into(), &u64::MAX.into()));
        assert_eq!(back["l"][1], 1.5);
        assert!(back["l"][2]["k"].is_null());
    }

    #[test]
    fn indenting_changes_only_white_space() {
        let text = r#"{"a":[],"b":{},"c":[1,{"d":"x,{}[]:\"y\\"}],"e":"\\"}"#;
        for indent in [0, 1, 2] {
            let pretty = indented(text, indent);
            assert!(pretty.lines().count() > 5, "{pretty}");
            assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn line_separators_are_escaped_and_angle_brackets_only_for_protobuf() {
        let text = string("a\u{2028}\u{2029}\u{85}<b>");
        assert_eq!(hardened(text.clone(), false), "\"a\\u2028\\u2029\\u0085<b>\"");
        assert_eq!(hardened(text, true), "\"a\\u2028\\u2029\\u0085\\u003cb\\u003e\"");
    }
}
