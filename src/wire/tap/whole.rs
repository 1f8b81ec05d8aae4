//! Keeps a whole reply until its end, to read it then.

use super::{Reading, clip::Clip};
use bytes::Bytes;

/// Longer replies are read by their ends only.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What is kept of a reply.
#[derive(Debug, Default)]
pub(super) enum Whole {
    /// Nothing has come.
    #[default]
    Empty,
    /// One chunk, shared with the one that went on.
    One(Bytes),
    /// Several, copied together. Sharing them would keep each one's whole network buffer alive.
    Many(Vec<u8>),
    /// The ends of a long reply.
    Long(Clip),
}

impl Whole {
    pub(super) fn keep(&mut self, chunk: &Bytes) {
        *self = match std::mem::take(self) {
            Whole::Empty => Whole::One(chunk.clone()),
            Whole::One(first) => Whole::Many(first.to_vec()).and(chunk),
            Whole::Many(kept) => Whole::Many(kept).and(chunk),
            Whole::Long(clip) => Whole::Long(clip).and(chunk),
        };
    }

    fn and(self, chunk: &Bytes) -> Whole {
        match self {
            Whole::Empty => Whole::One(chunk.clone()),
            Whole::Many(mut kept) if kept.len() + chunk.len() <= MAX_BYTES => {
                kept.extend_from_slice(chunk);
                Whole::Many(kept)
            }
            Whole::Many(kept) => Whole::clipped(&[&kept, chunk]),
            Whole::One(first) => Whole::clipped(&[&first, chunk]),
            Whole::Long(mut clip) => {
                clip.keep(chunk);
                Whole::Long(clip)
            }
        }
    }

    fn clipped(parts: &[&[u8]]) -> Whole {
        let mut clip = Clip::default();
        for part in parts {
            clip.keep(part);
        }
        Whole::Long(clip)
    }

    /// Reads the reply.
    pub(super) fn read(&mut self, reading: &mut Reading<'_>) {
        let format = reading.format.behaviour();
        match std::mem::take(self) {
            Whole::Empty => format.read_reply(b"", reading.seen),
            Whole::One(body) => format.read_reply(&body, reading.seen),
            Whole::Many(body) => format.read_reply(&body, reading.seen),
            Whole::Long(clip) => {
                format.read_clipped(b"", clip.head(), clip.tail(), reading.seen);
                // A broken-off document is all that can still be told from its last byte.
                reading.seen.terminal = matches!(clip.tail().trim_ascii_end().last(), Some(b'}' | b']'));
            }
        }
    }
}
