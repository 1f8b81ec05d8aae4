//! Where something belongs in an answer's text, by the measures of the formats.
//!
//! Each format tells the place of a citation in its own way, and none of them by the other's: a decoder says what its
//! provider told, an encoder writes what its format wants, and what lies between them is measured here.

use super::WireFormat;

/// The most places at which the width of the characters changes that are kept: 1.5 MB. What lies behind is not found.
const MOST_TURNS: usize = 64 << 10;

/// How a format tells a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// In characters of the answer (`url_citation` of Chat Completions).
    Chars,
    /// In characters of the block that it stands in (`url_citation` of Responses).
    BlockChars,
    /// In bytes of the answer in UTF-8 (`groundingSupports.segment` of Gemini).
    Bytes,
    /// Not at all: it belongs to the whole block (`text.citations` of Anthropic).
    Block,
}

impl Measure {
    fn of(format: WireFormat) -> Measure {
        match format {
            WireFormat::OpenaiChat => Measure::Chars,
            WireFormat::OpenaiResponses => Measure::BlockChars,
            WireFormat::Gemini => Measure::Bytes,
            WireFormat::Anthropic => Measure::Block,
        }
    }

    fn counts_chars(self) -> bool {
        matches!(self, Measure::Chars | Measure::BlockChars)
    }
}

/// A place, by both measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    bytes: u64,
    chars: u64,
}

/// From here on all characters are so many bytes wide.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Place,
    width: u64,
}

/// Measures an answer's text as it comes. Bounded.
#[derive(Debug)]
pub(crate) struct Ruler {
    from: Measure,
    to: Measure,
    now: Place,
    block: Place,
    /// Where the width changes, if places have to be put from bytes into characters or back.
    turns: Vec<Turn>,
    /// Up to where they are kept.
    known: Option<Place>,
}

impl Ruler {
    /// A ruler for the places that one format tells another; `None` where they need no measuring.
    pub(crate) fn between(from: WireFormat, to: WireFormat) -> Option<Ruler> {
        let (from, to) = (Measure::of(from), Measure::of(to));
        let (now, block) = (Place::default(), Place::default());
        (from != to && to != Measure::Block).then(|| Ruler { from, to, now, block, turns: Vec::new(), known: None })
    }

    /// A block of the answer's text begins.
    pub(crate) fn begin_block(&mut self) {
        self.block = self.now;
    }

    /// More of the answer's text.
    pub(crate) fn add(&mut self, text: &str) {
        if text.is_ascii() {
            return self.add_ascii(text.len());
        }
        for char in text.chars() {
            let width = char.len_utf8() as u64;
            self.turn(width);
            self.now.bytes += width;
            self.now.chars += 1;
        }
    }

    /// So many more characters of ASCII.
    pub(crate) fn add_ascii(&mut self, length: usize) {
        if length > 0 {
            self.turn(1);
            self.now.bytes += length as u64;
            self.now.chars += length as u64;
        }
    }

    /// Notes how wide the next characters are.
    #[inline]
    fn turn(&mut self, width: u64) {
        let is_mixed = self.from.counts_chars() != self.to.counts_chars() && self.from != Measure::Block;
        if !is_mixed || self.turns.last().map_or(1, |turn| turn.width) == width || self.known.is_some() {
            return;
        }
        if self.turns.len() == MOST_TURNS {
            self.known = Some(self.now);
        } else {
            self.turns.push(Turn { at: self.now, width });
        }
    }

    /// A place of the source's, as the target tells it; `None` where there is none.
    pub(crate) fn place(&self, span: Option<(u64, u64)>) -> Option<(u64, u64)> {
        let (start, end) = match (self.from, span) {
            (Measure::Block, _) => (self.block, self.now),
            (Measure::Chars, Some((start, end))) => (self.at_char(start)?, self.at_char(end)?),
            (Measure::BlockChars, Some((start, end))) => {
                let before = self.block.chars;
                (self.at_char(before.checked_add(start)?)?, self.at_char(before.checked_add(end)?)?)
            }
            (Measure::Bytes, Some((start, end))) => (self.at_byte(start)?, self.at_byte(end)?),
            (_, None) => return None,
        };
        match self.to {
            Measure::Chars => Some((start.chars, end.chars)),
            Measure::BlockChars => {
                let before = self.block.chars;
                Some((start.chars.checked_sub(before)?, end.chars.checked_sub(before)?))
            }
            Measure::Bytes => Some((start.bytes, end.bytes)),
            Measure::Block => None,
        }
        .filter(|(start, end)| start <= end)
    }

    fn at_char(&self, chars: u64) -> Option<Place> {
        self.at(
            chars,
            |place| place.chars,
            |turn, more| Place { bytes: turn.at.bytes + more * turn.width, chars: turn.at.chars + more },
        )
    }

    fn at_byte(&self, bytes: u64) -> Option<Place> {
        self.at(
            bytes,
            |place| place.bytes,
            |turn, more| Place { bytes: turn.at.bytes + more, chars: turn.at.chars + more / turn.width },
        )
    }

    /// The place that lies so far by one measure.
    fn at(&self, far: u64, by: impl Fn(&Place) -> u64, behind: impl Fn(&Turn, u64) -> Place) -> Option<Place> {
        // Providers err by one or two at the end.
        let far = far.min(by(&self.now));
        if self.known.is_some_and(|known| by(&known) < far) {
            return None;
        }
        let next = self.turns.partition_point(|turn| by(&turn.at) <= far);
        let start = Turn { at: Place::default(), width: 1 };
        let turn = next.checked_sub(1).and_then(|last| self.turns.get(last)).unwrap_or(&start);
        Some(behind(turn, far - by(&turn.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WireFormat::{Anthropic, Gemini, OpenaiChat, OpenaiResponses};
    use proptest::prelude::*;

    /// A ruler at the end of these blocks.
    fn ruler(from: WireFormat, to: WireFormat, blocks: &[&str]) -> Ruler {
        let mut ruler = Ruler::between(from, to).unwrap();
        for block in blocks {
            ruler.begin_block();
            ruler.add(block);
        }
        ruler
    }

    #[test]
    fn each_format_is_told_a_place_in_its_own_measure() {
        // "für" begins at the fourth character of the second block, which is the ninth byte of all.
        let blocks = ["né ", "été für"];
        for (from, to, span, wanted) in [
            (Gemini, OpenaiChat, (10, 14), (7, 10)),
            (Gemini, OpenaiResponses, (10, 14), (4, 7)),
            (OpenaiChat, Gemini, (7, 10), (10, 14)),
            (OpenaiResponses, Gemini, (4, 7), (10, 14)),
            (OpenaiChat, OpenaiResponses, (7, 10), (4, 7)),
            (OpenaiResponses, OpenaiChat, (4, 7), (7, 10)),
            (Gemini, OpenaiChat, (0, 1_000), (0, 10)),
        ] {
            assert_eq!(ruler(from, to, &blocks).place(Some(span)), Some(wanted), "{from:?} {to:?}");
            assert_eq!(ruler(from, to, &blocks).place(None), None);
        }
        for (to, wanted) in [(OpenaiChat, (3, 10)), (OpenaiResponses, (0, 7)), (Gemini, (4, 14))] {
            assert_eq!(ruler(Anthropic, to, &blocks).place(None), Some(wanted), "the block");
        }
    }

    #[test]
    fn what_lies_in_an_earlier_block_or_backwards_has_no_place() {
        assert_eq!(ruler(OpenaiChat, OpenaiResponses, &["one", "two"]).place(Some((0, 3))), None);
        assert_eq!(ruler(Gemini, OpenaiChat, &["text"]).place(Some((3, 1))), None);
        assert_eq!(ruler(OpenaiResponses, OpenaiChat, &["text"]).place(Some((u64::MAX, u64::MAX))), Some((4, 4)));
    }

    #[test]
    fn nothing_is_measured_for_those_who_tell_no_place_or_tell_it_alike() {
        for from in [OpenaiChat, OpenaiResponses, Gemini, Anthropic] {
            assert!(Ruler::between(from, Anthropic).is_none() && Ruler::between(from, from).is_none());
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_lies_behind_has_no_place() {
        let text = "aé".repeat(MOST_TURNS);
        let ruler = ruler(Gemini, OpenaiChat, &[&text]);
        assert_eq!(ruler.turns.len(), MOST_TURNS);
        let known = ruler.known.unwrap();
        assert_eq!(ruler.place(Some((0, known.bytes))), Some((0, known.chars)));
        assert_eq!(ruler.place(Some((0, known.bytes + 1))), None);
    }

    proptest! {
        #[test]
        fn bytes_and_characters_are_those_of_the_text(
            pieces in prop::collection::vec("[a-c\u{e9}\u{20ac}\u{1f600}]{0,12}", 0..8),
            cut in (0usize..60, 0usize..60),
        ) {
            let text = pieces.concat();
            let places: Vec<(u64, u64)> = text.char_indices().map(|(at, _)| at).chain([text.len()])
                .zip(0..).map(|(bytes, chars)| (bytes as u64, chars)).collect();
            let place = |at: usize| places[at % places.len()];
            let (mut one, mut other) = (place(cut.0), place(cut.1));
            if one > other {
                std::mem::swap(&mut one, &mut other);
            }
            for (from, to, told, wanted) in [
                (Gemini, OpenaiChat, (one.0, other.0), (one.1, other.1)),
                (OpenaiChat, Gemini, (one.1, other.1), (one.0, other.0)),
            ] {
                let mut ruler = Ruler::between(from, to).unwrap();
                pieces.iter().for_each(|piece| ruler.add(piece));
                prop_assert_eq!(ruler.place(Some(told)), Some(wanted));
            }
        }
    }
}
