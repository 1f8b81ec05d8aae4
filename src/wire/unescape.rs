//! Takes the escapes out of the inside of a JSON string.

use super::swar;

/// Writes what the inside of a string says, in which no character is escaped by its number, into `said`, and gives it back
/// from there; or the inside itself where it has no escapes.
pub(crate) fn unescape<'t>(inside: &'t str, said: &'t mut String) -> &'t str {
    let mut rest = inside;
    let Some(mut at) = backslash(rest) else { return inside };
    said.clear();
    loop {
        said.push_str(rest.get(..at).unwrap_or_default());
        said.push(match rest.as_bytes().get(at + 1) {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(other) => char::from(*other),
            None => return said,
        });
        rest = rest.get(at + 2..).unwrap_or_default();
        match backslash(rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    said.push_str(rest);
    said
}

/// Whether the inside of a JSON string holds no escapes.
pub(crate) fn is_plain(inside: &str) -> bool {
    backslash(inside).is_none()
}

/// Where the next escape is. Most texts are a word, and in others escapes are near to each other.
#[inline]
fn backslash(text: &str) -> Option<usize> {
    const NEAR: usize = 32;
    let bytes = text.as_bytes();
    let near = bytes.get(..NEAR).unwrap_or(bytes);
    match swar::before(near, |word| swar::is(word, b'\\')) {
        at if at < near.len() => Some(at),
        _ if near.len() == bytes.len() => None,
        _ => memchr::memchr(b'\\', bytes),
    }
}
