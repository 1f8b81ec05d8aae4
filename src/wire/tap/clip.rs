//! Keeps the start and the end of something that is too long to keep.
//!
//! What a tap looks for stands at one of the two: names at the start, usage and finish reasons at the end.

/// How much is kept of the start.
const HEAD_BYTES: usize = 4 * 1024;
/// How much is kept of the end, at least.
const TAIL_BYTES: usize = 64 * 1024;

/// The start and the end of a text.
#[derive(Debug, Default)]
pub(super) struct Clip {
    head: Vec<u8>,
    tail: Vec<u8>,
    clipped: bool,
}

impl Clip {
    /// Takes the next bytes of the text.
    pub(super) fn keep(&mut self, piece: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(piece.get(..room).unwrap_or_default());
        let end = piece.get(piece.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
        // Twice the wanted size before anything is moved, so that the cost per byte stays the same for any piece size.
        if self.tail.len() + end.len() > 2 * TAIL_BYTES {
            let surplus = self.tail.len() - TAIL_BYTES.saturating_sub(end.len()).min(self.tail.len());
            self.tail.drain(..surplus);
            self.clipped = true;
        }
        self.clipped |= end.len() < piece.len();
        self.tail.extend_from_slice(end);
    }

    /// All of it, if it turned out to be short enough.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (!self.clipped).then_some(&self.tail)
    }

    /// The first bytes.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The last bytes. For a short text, they overlap with the first ones.
    pub(super) fn tail(&self) -> &[u8] {
        self.tail.get(self.tail.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_kept_for_any_piece_size() {
        let text: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        for size in [1, 7, 4_096, 70_000, 300_000] {
            let mut clip = Clip::default();
            for piece in text.chunks(size) {
                clip.keep(piece);
                assert!(clip.tail.len() <= 2 * TAIL_BYTES);
            }
            assert_eq!(clip.head(), &text[..HEAD_BYTES], "{size}");
            assert_eq!(clip.tail(), &text[text.len() - TAIL_BYTES..], "{size}");
            assert_eq!(clip.whole(), None, "{size}");
        }
    }

    #[test]
    fn a_short_text_is_kept_whole() {
        let mut clip = Clip::default();
        clip.keep(b"ab");
        clip.keep(b"c");
        assert_eq!((clip.head(), clip.tail(), clip.whole()), (&b"abc"[..], &b"abc"[..], Some(&b"abc"[..])));
    }
}
