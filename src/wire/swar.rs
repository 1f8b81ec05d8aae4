//! Finds the first of several kinds of bytes, eight bytes at a time.
//!
//! What is looked for is said as a function of a word: the highest bit of each byte that is meant, exact up to the first.

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// Marks the bytes that are this one.
pub(crate) fn is(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (ONES * u64::from(byte));
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & HIGH
}

/// Marks the control characters (below 0x20).
pub(crate) fn is_control(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGH
}

/// Marks what cannot stand in a JSON string as it is: quotes, backslashes and control characters.
#[inline]
pub(crate) fn is_escaped(word: u64) -> u64 {
    let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
    let below = quote.wrapping_sub(ONES) | backslash.wrapping_sub(ONES) | word.wrapping_sub(ONES * 0x20);
    below & !word & HIGH
}

/// Marks the bytes of characters beyond ASCII.
#[inline]
pub(crate) fn is_foreign(word: u64) -> u64 {
    word & HIGH
}

/// Marks the bytes that are `byte` but for bit 5: a letter in either case, or 0xC2 and 0xE2.
pub(crate) fn is_but_for_bit_5(word: u64, byte: u8) -> u64 {
    is(word | (ONES * 0x20), byte | 0x20)
}

/// How many bytes lie before the first that is marked; all of them if none is. The space must not be a mark.
#[inline]
pub(crate) fn before(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let found = marks(short(rest));
    if found == 0 { bytes.len() } else { words.len() * 8 + found.trailing_zeros() as usize / 8 }
}

/// How long the inside of a JSON string is that begins here, if it is short and has no escapes.
#[inline]
pub(crate) fn quoted(bytes: &[u8]) -> Option<usize> {
    near(bytes, is_escaped).filter(|length| bytes.get(*length) == Some(&b'"'))
}

/// The same for a string in which no spaces are expected either, which is sooner told.
#[inline]
pub(crate) fn quoted_key(bytes: &[u8]) -> Option<usize> {
    let marks = |word: u64| {
        let backslash = word ^ (ONES * u64::from(b'\\'));
        (word.wrapping_sub(ONES * 0x23) | backslash.wrapping_sub(ONES)) & !word & HIGH
    };
    near(bytes, marks).filter(|length| bytes.get(*length) == Some(&b'"'))
}

/// Where the first mark is, if it is near at hand.
#[inline]
fn near(bytes: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    const NEAR: usize = 40;
    for (at, word) in bytes.get(..NEAR).unwrap_or(bytes).as_chunks::<8>().0.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    None
}

/// The first eight bytes as a word, filled up with spaces.
#[inline]
pub(crate) fn first_word(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or_else(|| short(bytes), |word| u64::from_le_bytes(*word))
}

/// Fewer than eight bytes as a word, filled up with spaces.
fn short(bytes: &[u8]) -> u64 {
    const SPACES: u64 = ONES * b' ' as u64;
    let length = bytes.len();
    let word = if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (length - 4))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        u64::from(u16::from_le_bytes(*first)) | u64::from(u16::from_le_bytes(*last)) << (8 * (length - 2))
    } else {
        bytes.first().map_or(0, |byte| u64::from(*byte))
    };
    word | SPACES << (8 * length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_is_found(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a')], 0..40)) {
            let slow = |is_meant: fn(u8) -> bool| bytes.iter().position(|b| is_meant(*b)).unwrap_or(bytes.len());
            prop_assert_eq!(before(&bytes, |word| is(word, b'"')), slow(|b| b == b'"'));
            prop_assert_eq!(before(&bytes, is_control), slow(|b| b < 0x20));
            prop_assert_eq!(before(&bytes, |word| is_but_for_bit_5(word, 0xc2)), slow(|b| matches!(b, 0xc2 | 0xe2)));
            let end = slow(|b| matches!(b, b'"' | b'\\' | 0..0x20));
            prop_assert!(quoted(&bytes).is_none_or(|length| length == end && bytes.get(end) == Some(&b'"')));
            prop_assert!(bytes.get(end) != Some(&b'"') || end + 8 > bytes.len() || quoted(&bytes) == Some(end));
            let is_quote = |length| length == end && bytes.get(end) == Some(&b'"');
            prop_assert!(quoted_key(&bytes).is_none_or(is_quote));
            let mut first = [b' '; 8];
            first.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            prop_assert_eq!(first_word(&bytes).to_le_bytes(), first);
            let any = |word| is(word, b'\\') | is_control(word);
            prop_assert_eq!(before(&bytes, any), slow(|b| b == b'\\' || b < 0x20));
            prop_assert_eq!(before(&bytes, is_escaped), slow(|b| matches!(b, b'"' | b'\\' | 0..0x20)));
            prop_assert_eq!(before(&bytes, is_foreign), slow(|b| b >= 0x80));
        }
    }
}
