//! Finds the elements of a JSON array that comes in pieces: Gemini's stream without `alt=sse`.
//!
//! Looks at brackets and strings only and never judges what lies between them; a document that is no array counts as one
//! element. What separates two elements belongs to the later one, so that a stream which stops after any element can
//! still be closed.

use memchr::memchr2;

/// Where in the array the last byte seen lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elements {
    depth: usize,
    /// The depth at which elements lie: 1 in an array, 0 for a lone document; `None` before the first bracket.
    base: Option<usize>,
    text: Text,
    closed: bool,
}

/// Whether the last byte seen lies in a JSON string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// Directly behind a backslash.
    Escape,
}

impl Elements {
    /// How many bytes lie before the first element end in `piece`; `None` if no element ends here. Once the array is
    /// closed, all that still comes ends at once.
    pub fn next(&mut self, piece: &[u8]) -> Option<usize> {
        if self.closed {
            return (!piece.is_empty()).then_some(piece.len());
        }
        let mut pos = 0;
        while let Some(&byte) = piece.get(pos) {
            match self.text {
                Text::Escape => self.text = Text::Inside,
                Text::Inside => {
                    let found = memchr2(b'"', b'\\', piece.get(pos..)?)?;
                    pos += found;
                    self.text = if piece.get(pos) == Some(&b'"') { Text::Outside } else { Text::Escape };
                }
                Text::Outside => {
                    if self.outside(byte) {
                        return Some(pos + 1);
                    }
                }
            }
            pos += 1;
        }
        None
    }

    /// Takes a byte outside of strings; tells whether an element (or the array) ends with it.
    fn outside(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => self.text = Text::Inside,
            b'{' | b'[' => {
                if self.base.is_none() {
                    self.base = Some(usize::from(byte == b'['));
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.closed = byte == b']' && self.base == Some(1) && self.depth == 0;
                return self.closed || self.base == Some(self.depth);
            }
            _ => {}
        }
        false
    }

    /// Whether the array has been closed, so that nothing can follow.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

/// An element without what separates it from the one before; `None` if nothing but separators is there.
pub fn read(element: &[u8]) -> Option<&[u8]> {
    let start = element.iter().position(|b| matches!(b, b'{' | b'"'))?;
    element.get(start..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> (Vec<String>, String) {
        let (mut elements, mut found, mut open) = (Elements::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while let Some(end) = elements.next(rest) {
                open.extend_from_slice(&rest[..end]);
                found.push(String::from_utf8(std::mem::take(&mut open)).unwrap());
                rest = &rest[end..];
            }
            open.extend_from_slice(rest);
        }
        (found, String::from_utf8(open).unwrap())
    }

    #[test]
    fn each_element_ends_with_its_bracket_and_begins_with_its_separator() {
        let (found, open) = split(&[br#"[{"a":"]}\"","b":[{}]}"#, b"\n,\r\n{\"c\":1}\r\n]", b"\n"]);
        assert_eq!(found, [r#"[{"a":"]}\"","b":[{}]}"#, "\n,\r\n{\"c\":1}", "\r\n]", "\n"]);
        assert_eq!(open, "");
        assert_eq!(read(found[1].as_bytes()), Some(&b"{\"c\":1}"[..]));
        assert_eq!(read(b"\r\n]"), None);
    }

    #[test]
    fn a_document_that_is_no_array_is_one_element() {
        let (found, open) = split(&[b" {\"error\":", b"{\"code\":429}}\n"]);
        assert_eq!(found, [" {\"error\":{\"code\":429}}"]);
        assert_eq!(open, "\n");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_elements(text in r#"\[?(\{|\}|\[|\]|"|\\|,|a|\n){0,60}"#, cut in 0usize..60, other in 0usize..60) {
            let bytes = text.as_bytes();
            let (a, b) = (cut.min(other).min(bytes.len()), cut.max(other).min(bytes.len()));
            let whole = split(&[bytes]);
            let pieces = split(&[&bytes[..a], &bytes[a..b], &bytes[b..]]);
            prop_assert_eq!(whole.0.concat() + &whole.1, text.clone());
            prop_assert_eq!(pieces.0.concat() + &pieces.1, text.clone());
            // Behind the closing bracket everything ends at once, so only the elements before it are compared.
            let elements = |found: &[String]| found.iter().filter(|e| read(e.as_bytes()).is_some()).cloned().collect::<Vec<_>>();
            if !text.contains(']') {
                prop_assert_eq!(elements(&whole.0), elements(&pieces.0));
            }
        }
    }
}
