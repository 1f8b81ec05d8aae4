//! Reads how large an image is from its first bytes.
//!
//! Knows PNG, GIF, WebP and JPEG, which are what the providers take. Never decodes a picture.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// How much of an image is looked at; a JPEG's size stands behind its preview.
const HEAD_BYTES: usize = 48 * 1024;

/// Width and height in pixels of an image in base64.
pub(super) fn size(data: &str) -> Option<(u64, u64)> {
    let head = data.as_bytes().get(..HEAD_BYTES / 3 * 4).unwrap_or(data.as_bytes());
    let whole = head.len() / 4 * 4;
    let head = head.get(..whole)?;
    let bytes = STANDARD.decode(head).ok().or_else(|| {
        // Padding is only at the end; a body cut off in it is read without its last four.
        STANDARD.decode(head.get(..whole.checked_sub(4)?)?).ok()
    })?;
    of_bytes(&bytes).filter(|(width, height)| (1..=100_000).contains(width) && (1..=100_000).contains(height))
}

fn of_bytes(bytes: &[u8]) -> Option<(u64, u64)> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some((big(bytes.get(16..20)?), big(bytes.get(20..24)?)));
    }
    if bytes.starts_with(b"GIF8") {
        return Some((little(bytes.get(6..8)?), little(bytes.get(8..10)?)));
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return webp(bytes);
    }
    bytes.starts_with(b"\xff\xd8").then(|| jpeg(bytes)).flatten()
}

fn big(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Lossy, lossless and extended WebP each keep their size elsewhere.
fn webp(bytes: &[u8]) -> Option<(u64, u64)> {
    match bytes.get(12..16)? {
        b"VP8 " => Some((little(bytes.get(26..28)?) & 0x3fff, little(bytes.get(28..30)?) & 0x3fff)),
        b"VP8L" => {
            let packed = little(bytes.get(21..25)?);
            Some(((packed & 0x3fff) + 1, (packed >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((little(bytes.get(24..27)?) + 1, little(bytes.get(27..30)?) + 1)),
        _ => None,
    }
}

/// Walks the segments up to the frame header.
fn jpeg(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    loop {
        let marker = *bytes.get(at + 1).filter(|_| bytes.get(at) == Some(&0xff))?;
        match marker {
            // Filling before a marker.
            0xff => at += 1,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((big(bytes.get(at + 7..at + 9)?), big(bytes.get(at + 5..at + 7)?)));
            }
            _ => at += 2 + usize::try_from(big(bytes.get(at + 2..at + 4)?)).ok()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_found_in_every_kind_of_image() {
        let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
        assert_eq!(size(png), Some((1, 1)));
        let of = |bytes: &[u8]| size(&STANDARD.encode(bytes));
        assert_eq!(of(b"GIF89a\x40\x01\xf0\x00\x00\x00"), Some((320, 240)));
        let extended = [b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".as_slice(), b"\x3f\x01\0\xef\0\0"].concat();
        assert_eq!(of(&extended), Some((320, 240)));
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04\0\0\xff\xc0\x00\x11\x08\x00\xf0\x01\x40\x03\0\0";
        assert_eq!(of(jpeg), Some((320, 240)));
    }

    #[test]
    fn what_is_no_image_has_no_size() {
        for data in ["", "AAAA", "not base64!", "/9j/4AAA", "iVBORw0KGgo="] {
            assert_eq!(size(data), None, "{data}");
        }
    }
}
