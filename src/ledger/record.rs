//! A row on its way to the file: the bytes that the journal holds, and what is read from them.
//!
//! Copies nothing but numbers when it reads. Invariant: what [`Record::decode`] gives is what was encoded; bytes that are
//! none of ours give nothing, and never panic.

use super::{count::KINDS, entry::Entry};

/// How many texts of a row many rows share: user, key, account, provider, call, model, served, client's format, provider's
/// format, outcome, failure.
pub(super) const SHARED: usize = 11;
/// How many of a row's numbers may be unknown: the counts, the cost, the time to the first content.
const MAYBES: usize = KINDS + 2;

/// One row, as it is read.
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
    /// The request's id.
    pub(super) request: &'r [u8],
    /// What many rows share, as one piece: rows with the same bytes here have the same texts.
    pub(super) shared: &'r [u8],
    /// Whether it stands for a failure.
    pub(super) is_failure: bool,
    /// The client's address.
    pub(super) client: &'r [u8],
}

/// Appends the bytes of the row that an attempt makes: numbers little-endian, unknown ones left out, each text behind its
/// length. The texts that many rows share stand between the request's id and the client's address.
pub(super) fn encode(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h] = entry.counts.all().map(|count| count.value());
    let maybes: [Option<u64>; MAYBES] = [a, b, c, d, e, f, g, h, entry.cost_nanos, entry.first_micros];
    let known = maybes.iter().rev().fold(0_u16, |bits, maybe| (bits << 1) | u16::from(maybe.is_some()));
    let numbers = [entry.began, entry.exchange, entry.total_micros, entry.bytes_in, entry.bytes_out];
    out.extend_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
    out.extend_from_slice(&entry.attempt.to_le_bytes());
    out.extend_from_slice([entry.status, known].map(u16::to_le_bytes).as_flattened());
    out.extend_from_slice(&[u8::from(entry.stream), entry.counts.estimated_bits()]);
    let (mut told, mut count) = ([[0; 8]; MAYBES], 0);
    for (place, number) in told.iter_mut().zip(maybes.iter().flatten()) {
        *place = number.to_le_bytes();
        count += 1;
    }
    out.extend_from_slice(told.get(..count).unwrap_or_default().as_flattened());
    text(entry.request, out);
    let shared: [&str; SHARED] = [
        entry.user,
        entry.key,
        entry.account,
        entry.provider,
        entry.call,
        entry.model,
        entry.served,
        entry.client_format,
        entry.upstream_format,
        entry.outcome.name(),
        entry.failure,
    ];
    shared.iter().for_each(|shared| text(shared, out));
    text(entry.client, out);
}

/// Appends as much of a text as its length can tell of.
fn text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len();
    if end > usize::from(u16::MAX) {
        end = usize::from(u16::MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
    }
    let text = text.as_bytes().get(..end).unwrap_or_default();
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

impl<'r> Record<'r> {
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
        let request = rest.text()?;
        let (shared, is_failure) = rest.shared()?;
        let client = rest.text()?;
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
            request,
            shared,
            is_failure,
            client,
        })
    }

    /// The texts that many rows share, in the order of the columns.
    pub(super) fn shared(&self) -> [&'r [u8]; SHARED] {
        let mut rest = Rest(self.shared);
        std::array::from_fn(|_| rest.text().unwrap_or_default())
    }

    /// Whether all that should be text is.
    pub(super) fn is_text(&self) -> bool {
        let is_text = |bytes| str::from_utf8(bytes).is_ok();
        is_text(self.request) && is_text(self.client) && self.shared().into_iter().all(is_text)
    }
}

/// Bytes that are not read yet.
struct Rest<'r>(&'r [u8]);

impl<'r> Rest<'r> {
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

    fn text(&mut self) -> Option<&'r [u8]> {
        let length = u16::from_le_bytes(self.array()?);
        let (taken, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        Some(taken)
    }

    /// The piece with the texts that many rows share, and whether the last of them, the failure, says anything.
    fn shared(&mut self) -> Option<(&'r [u8], bool)> {
        let (all, mut last) = (self.0, &[][..]);
        for _ in 0..SHARED {
            last = self.text()?;
        }
        Some((all.get(..all.len() - self.0.len())?, !last.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Counts, Outcome},
        *,
    };
    use crate::wire::Usage;
    use proptest::prelude::*;

    /// What is read of the row that this attempt makes.
    fn expected<'e>(entry: &Entry<'e>, shared: &'e [u8]) -> Record<'e> {
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
            request: entry.request.as_bytes(),
            shared,
            is_failure: !entry.failure.is_empty(),
            client: entry.client.as_bytes(),
        }
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_was(
            numbers in prop::array::uniform5(any::<u64>()),
            counts in prop::array::uniform8(prop::option::of(0u64..=1_000_000_000)),
            (cost_nanos, first_micros, guess) in any::<(Option<u64>, Option<u64>, Option<u32>)>(),
            (attempt, status, stream) in any::<(u32, u16, bool)>(),
            texts in prop::collection::vec(any::<String>(), 12),
        ) {
            let [began, exchange, total_micros, bytes_in, bytes_out] = numbers;
            let [input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images] = counts;
            let usage =
                Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning, server_tools, images };
            let mut counts = Counts::reported(&usage);
            guess.into_iter().for_each(|guess| counts.estimate_output(guess.into()));
            let [request, user, key, account, provider, call, model, served, client_format, upstream_format, failure, client] =
                std::array::from_fn(|at| texts[at].as_str());
            let entry = Entry {
                began, exchange, attempt, request, user, key, account, provider, call, model, served, client_format,
                upstream_format, stream, status, outcome: Outcome::Broken, failure, counts, cost_nanos, first_micros,
                total_micros, bytes_in, bytes_out, client,
            };
            let mut bytes = Vec::new();
            encode(&entry, &mut bytes);
            let row = Record::decode(&bytes).unwrap();
            prop_assert_eq!(row, expected(&entry, row.shared));
            let shared =
                [user, key, account, provider, call, model, served, client_format, upstream_format, "broken", failure];
            prop_assert_eq!(row.shared(), shared.map(str::as_bytes));
            prop_assert!(row.is_text());
            prop_assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(row) = Record::decode(&bytes) {
                row.is_text();
            }
        }
    }

    #[test]
    fn a_text_of_any_length_is_kept_as_far_as_it_can_be() {
        let long = "é".repeat(100_000);
        let mut bytes = Vec::new();
        encode(&Entry { request: &long, ..Entry::default() }, &mut bytes);
        let row = Record::decode(&bytes).unwrap();
        assert_eq!((row.request.len(), row.is_text()), (65_534, true));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_from_text() {
        for place in ["model", "client"] {
            let mut bytes = Vec::new();
            encode(&Entry { model: "model", client: "client", ..Entry::default() }, &mut bytes);
            let at = bytes.windows(place.len()).position(|window| window == place.as_bytes()).unwrap();
            bytes[at] = 0xff;
            assert!(!Record::decode(&bytes).unwrap().is_text(), "{place}");
        }
    }
}
