//! A row on its way to the file: the bytes that the journal holds, and what is read from them.
//!
//! Borrows everything, copies nothing but numbers. Invariant: what [`Record::decode`] gives is what was encoded; bytes that
//! are none of ours give nothing, and never panic.

use super::{count::KINDS, entry::Entry};

/// How many texts a row has: request, user, key, account, provider, call, model, served, client's format, provider's
/// format, outcome, failure, client's address.
pub(super) const TEXTS: usize = 13;
/// How many of them many rows share.
pub(super) const SHARED: usize = TEXTS - 2;
/// How many of a row's numbers may be unknown: the counts, the cost, the time to the first content.
const MAYBES: usize = KINDS + 2;

/// One row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record<'r> {
    pub(super) began: u64,
    pub(super) exchange: u64,
    pub(super) attempt: u32,
    pub(super) status: u16,
    pub(super) stream: bool,
    pub(super) estimates: u8,
    pub(super) counts: [Option<u64>; KINDS],
    pub(super) cost: Option<u64>,
    pub(super) first_micros: Option<u64>,
    pub(super) total_micros: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) texts: [&'r str; TEXTS],
}

impl<'r> Record<'r> {
    /// The row that an attempt makes.
    pub(super) fn of(entry: &'r Entry) -> Record<'r> {
        Record {
            began: entry.began,
            exchange: entry.exchange,
            attempt: entry.attempt,
            status: entry.status,
            stream: entry.stream,
            estimates: entry.counts.estimated_bits(),
            counts: entry.counts.all().map(|count| count.value()),
            cost: entry.cost_nanos,
            first_micros: entry.first_micros,
            total_micros: entry.total_micros,
            bytes_in: entry.bytes_in,
            bytes_out: entry.bytes_out,
            texts: [
                &entry.request,
                &entry.user,
                &entry.key,
                &entry.account,
                entry.provider,
                entry.call,
                &entry.model,
                &entry.served,
                entry.client_format,
                entry.upstream_format,
                entry.outcome.name(),
                entry.failure,
                &entry.client,
            ],
        }
    }

    /// What many rows share: all texts but the request's own and the client's address.
    pub(super) fn shared(&self) -> [&'r str; SHARED] {
        let [_, shared @ .., _] = self.texts;
        shared
    }

    /// Whether it stands for a failure.
    pub(super) fn is_failure(&self) -> bool {
        let [.., failure, _] = self.texts;
        !failure.is_empty()
    }

    fn maybes(&self) -> [Option<u64>; MAYBES] {
        let [a, b, c, d, e, f, g, h] = self.counts;
        [a, b, c, d, e, f, g, h, self.cost, self.first_micros]
    }

    /// Appends its bytes: numbers little-endian, unknown ones left out, each text behind its length.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let maybes = self.maybes();
        let known = maybes.iter().rev().fold(0_u16, |bits, maybe| (bits << 1) | u16::from(maybe.is_some()));
        for number in [self.began, self.exchange, self.total_micros, self.bytes_in, self.bytes_out] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.attempt.to_le_bytes());
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&known.to_le_bytes());
        out.extend_from_slice(&[u8::from(self.stream), self.estimates]);
        for number in maybes.into_iter().flatten() {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for text in self.texts {
            let text = storable(text);
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Reads the bytes of one row. `None` for anything else.
    pub(super) fn decode(bytes: &'r [u8]) -> Option<Record<'r>> {
        let mut rest = Rest(bytes);
        let [began, exchange, total_micros, bytes_in, bytes_out] = rest.numbers()?;
        let attempt = u32::from_le_bytes(rest.array()?);
        let status = u16::from_le_bytes(rest.array()?);
        let known = u16::from_le_bytes(rest.array()?);
        let [stream, estimates] = rest.array()?;
        let mut maybes = [None; MAYBES];
        for (at, maybe) in maybes.iter_mut().enumerate() {
            if known >> at & 1 == 1 {
                *maybe = Some(u64::from_le_bytes(rest.array()?));
            }
        }
        let [a, b, c, d, e, f, g, h, cost, first_micros] = maybes;
        let texts = rest.texts()?;
        let counts = [a, b, c, d, e, f, g, h];
        let stream = stream == 1;
        rest.0.is_empty().then_some(Record {
            began,
            exchange,
            attempt,
            status,
            stream,
            estimates,
            counts,
            cost,
            first_micros,
            total_micros,
            bytes_in,
            bytes_out,
            texts,
        })
    }
}

/// As much of a text as its length can tell of.
fn storable(text: &str) -> &str {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Bytes that are not read yet.
struct Rest<'r>(&'r [u8]);

impl<'r> Rest<'r> {
    fn take(&mut self, count: usize) -> Option<&'r [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn numbers<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = u64::from_le_bytes(self.array()?);
        }
        Some(numbers)
    }

    fn texts(&mut self) -> Option<[&'r str; TEXTS]> {
        let all = self.0;
        // The length of a short text is made of characters too: then one look at everything does for all texts.
        let whole = str::from_utf8(all).ok();
        let mut texts = [""; TEXTS];
        for text in &mut texts {
            let length = usize::from(u16::from_le_bytes(self.array()?));
            let start = all.len() - self.0.len();
            let bytes = self.take(length)?;
            *text = match whole {
                Some(whole) => whole.get(start..start + length)?,
                None => str::from_utf8(bytes).ok()?,
            };
        }
        Some(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_was(
            numbers in prop::array::uniform5(any::<u64>()),
            counts in prop::array::uniform8(any::<Option<u64>>()),
            (cost, first_micros) in any::<(Option<u64>, Option<u64>)>(),
            (attempt, status, stream, estimates) in any::<(u32, u16, bool, u8)>(),
            texts in prop::collection::vec(any::<String>(), TEXTS),
        ) {
            let [began, exchange, total_micros, bytes_in, bytes_out] = numbers;
            let texts = std::array::from_fn(|at| texts[at].as_str());
            let row = Record {
                began, exchange, attempt, status, stream, estimates, counts, cost, first_micros, total_micros, bytes_in,
                bytes_out, texts,
            };
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Some(row));
            prop_assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode(&bytes);
        }
    }

    #[test]
    fn a_text_of_any_length_is_kept_as_far_as_it_can_be() {
        let long = "é".repeat(100_000);
        let mut row = Record::default();
        row.texts[0] = &long;
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(Record::decode(&bytes).unwrap().texts[0].len(), 65_534);
    }
}
