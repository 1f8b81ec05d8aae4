//! Counts the tokens of text with OpenAI's o200k vocabulary.
//!
//! The vocabulary is unpacked when the first estimate asks for it (about 0.1 s and 24 MB). Invariant: no more than
//! [`MOST_BYTES`] are tokenised for one estimate; of a longer text evenly spread pieces are, and the rest is taken to be like them.

use std::sync::OnceLock;
use tiktoken::CoreBpe;

/// More text than this is sampled.
pub(super) const MOST_BYTES: usize = 256 * 1024;
/// Text is tokenised in pieces of at most this length, so that no word is long enough to be slow. Each border between two
/// pieces adds a token at most.
const PIECE_BYTES: usize = 4096;
/// How many bytes are a token where there is no vocabulary to ask.
const USUAL_BYTES_PER_TOKEN: u64 = 4;

static FOUND: OnceLock<Option<&'static CoreBpe>> = OnceLock::new();

fn vocabulary() -> Option<&'static CoreBpe> {
    *FOUND.get_or_init(|| tiktoken::get_encoding("o200k_base"))
}

/// Whether the vocabulary has been unpacked.
pub(super) fn is_there() -> bool {
    FOUND.get().is_some()
}

/// The tokens of these texts together.
pub(super) fn count<T: AsRef<str>>(texts: &[T]) -> u64 {
    let total: usize = texts.iter().map(|text| text.as_ref().len()).sum();
    if total == 0 {
        return 0;
    }
    let Some(vocabulary) = vocabulary() else { return (total as u64).div_ceil(USUAL_BYTES_PER_TOKEN) };
    let every = total.div_ceil(MOST_BYTES);
    let (mut bytes, mut tokens) = (0, 0);
    for piece in texts.iter().flat_map(|text| pieces(text.as_ref())).step_by(every) {
        bytes += piece.len() as u64;
        tokens += vocabulary.count(piece) as u64;
    }
    if every == 1 { tokens } else { (u128::from(tokens) * total as u128 / u128::from(bytes.max(1))) as u64 }
}

/// The text in pieces, cut between characters and if possible in front of a space.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, behind) = rest.split_at_checked(border(rest)).unwrap_or((rest, ""));
        rest = behind;
        Some(piece)
    })
}

fn border(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let longest = (0..=PIECE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let space = text.get(..longest).and_then(|piece| piece.rfind(' ')).filter(|at| *at > PIECE_BYTES / 2);
    space.unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_text_and_short() {
        for text in ["", "a", &"word ".repeat(5_000), &"漢字".repeat(3_000), &"x".repeat(PIECE_BYTES * 2 + 1)] {
            let parts: Vec<&str> = pieces(text).collect();
            assert_eq!(parts.concat(), text);
            assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= PIECE_BYTES));
        }
    }

    #[test]
    fn cutting_costs_next_to_nothing() {
        let text = "The gateway counts tokens in pieces, and nobody can tell the difference afterwards. ".repeat(800);
        let whole = vocabulary().unwrap().count(&text) as u64;
        let cut = count(&[&text]);
        assert!(cut.abs_diff(whole) * 1000 <= whole, "{cut} for {whole}");
    }

    #[test]
    fn a_sample_stands_for_a_long_text() {
        let text = "Some prose, 12345, and {\"json\": [true, null]} once more. ".repeat(20_000);
        let whole: u64 = pieces(&text).map(|piece| vocabulary().unwrap().count(piece) as u64).sum();
        assert!(text.len() > 4 * MOST_BYTES);
        assert!(count(&[&text]).abs_diff(whole) * 100 <= whole);
    }
}
