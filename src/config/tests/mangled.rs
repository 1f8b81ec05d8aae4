//! Whatever a file holds, reading it ends well: with a configuration, or with faults that have lines and tell no secret.

use super::{reference::reference_switched_on, *};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lines dropped, doubled, moved, and bytes replaced anywhere: never a panic, every fault has a line, no secret is told.
    #[test]
    fn a_mangled_file_is_refused_with_lines_and_without_secrets(
        edits in prop::collection::vec((0_usize..200, 0_u8..6, 0_usize..200, any::<char>()), 1..6),
    ) {
        let original = shared("design/acceptance.yaml").unwrap_or_else(reference_switched_on);
        let text = mangle(&original, &edits);
        match read(&text) {
            Ok(_) => {}
            Err(found) => {
                prop_assert!(!found.faults.is_empty());
                for fault in &found.faults {
                    let is_count = fault.message.starts_with("… and ");
                    prop_assert!(is_count || (fault.line >= 1 && fault.column >= 1), "{fault}");
                    prop_assert!(fault.line <= text.split(['\n', '\r']).count() + 1, "{fault}");
                    prop_assert!(!fault.to_string().contains("sk-"), "{fault}");
                }
            }
        }
    }

    #[test]
    fn random_text_never_panics(text in "[-:{}\\[\\]&*#|>!?%@,'\"$a-c \n\t0-9]{0,200}") {
        let _ = read(&text);
    }
}

fn mangle(text: &str, edits: &[(usize, u8, usize, char)]) -> String {
    let mut lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (at, kind, other, character) in edits {
        let (at, other) = (at % lines.len(), other % lines.len());
        match kind {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => lines[at].insert(0, ' '),
            4 => lines[at] = lines[at].replacen(':', &character.to_string(), 1),
            _ => {
                let place = lines[at].char_indices().map(|(index, _)| index).nth(other).unwrap_or(0);
                lines[at].insert(place, *character);
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}
