//! What an attempt used, and how that is known.
//!
//! Counts never overlap, except that `reasoning` is a part of `output`. A count that nobody told is unknown, never zero; a
//! zero that the provider told is a value. An estimate is marked as one for ever.

use crate::wire::Usage;

/// The largest count that is believed. No reply comes near it, and sums of many stay within 64 bits.
const MOST: u64 = 1_000_000_000;

/// One count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// Nobody told, and nothing could be estimated.
    #[default]
    Unknown,
    /// The provider told it.
    Reported(u64),
    /// Estimated here.
    Estimated(u64),
}

impl Count {
    fn reported(told: Option<u64>) -> Count {
        told.map_or(Count::Unknown, |count| Count::Reported(count.min(MOST)))
    }

    /// The number, however it is known.
    pub fn value(self) -> Option<u64> {
        match self {
            Count::Unknown => None,
            Count::Reported(count) | Count::Estimated(count) => Some(count),
        }
    }

    /// Whether the number is an estimate.
    pub fn is_estimated(self) -> bool {
        matches!(self, Count::Estimated(_))
    }
}

/// All counts of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input tokens that were neither read from nor written to a cache.
    pub input: Count,
    /// Input tokens read from the prompt cache.
    pub cache_read: Count,
    /// Input tokens written to the prompt cache for 5 minutes, or for a time that was not named.
    pub cache_write: Count,
    /// Input tokens written to the prompt cache for 1 hour.
    pub cache_write_1h: Count,
    /// All output tokens, reasoning included.
    pub output: Count,
    /// The part of `output` that was reasoning.
    pub reasoning: Count,
    /// Calls of the provider's own tools (web searches).
    pub server_tools: Count,
    /// Images made.
    pub images: Count,
}

/// How many kinds of counts there are.
pub const KINDS: usize = 8;

impl Counts {
    /// What the provider told, and no more.
    pub fn reported(usage: &Usage) -> Counts {
        Counts {
            input: Count::reported(usage.input),
            cache_read: Count::reported(usage.cache_read),
            cache_write: Count::reported(usage.cache_write),
            cache_write_1h: Count::reported(usage.cache_write_1h),
            output: Count::reported(usage.output),
            reasoning: Count::reported(usage.reasoning),
            server_tools: Count::reported(usage.server_tools),
            images: Count::reported(usage.images),
        }
    }

    /// Puts an estimate of the input in the place of an unknown one. Where any part of the input was told, nothing is
    /// added to it.
    pub fn estimate_input(&mut self, tokens: u64) {
        let parts = [self.input, self.cache_read, self.cache_write, self.cache_write_1h];
        if parts.iter().all(|part| part.value().is_none()) {
            self.input = Count::Estimated(tokens.min(MOST));
        }
    }

    /// Puts an estimate of the output in the place of an unknown one, or of one that was told before all had been said:
    /// then the larger one holds.
    pub fn estimate_output(&mut self, tokens: u64) {
        self.output = Count::Estimated(tokens.max(self.output.value().unwrap_or(0)).min(MOST));
    }

    /// Puts an estimate of the images in the place of an unknown count.
    pub fn estimate_images(&mut self, images: u64) {
        if self.images == Count::Unknown {
            self.images = Count::Estimated(images.min(MOST));
        }
    }

    /// The counts in the order of the ledger's columns.
    pub fn all(&self) -> [Count; KINDS] {
        [
            self.input,
            self.cache_read,
            self.cache_write,
            self.cache_write_1h,
            self.output,
            self.reasoning,
            self.server_tools,
            self.images,
        ]
    }

    /// Whether any count is an estimate.
    pub fn is_estimated(&self) -> bool {
        self.all().into_iter().any(Count::is_estimated)
    }

    /// A bit for each count that is an estimate, the first one lowest.
    pub fn estimated_bits(&self) -> u8 {
        self.all().iter().rev().fold(0, |bits, count| (bits << 1) | u8::from(count.is_estimated()))
    }

    /// The numbers, however they are known.
    pub fn usage(&self) -> Usage {
        Usage {
            input: self.input.value(),
            cache_read: self.cache_read.value(),
            cache_write: self.cache_write.value(),
            cache_write_1h: self.cache_write_1h.value(),
            output: self.output.value(),
            reasoning: self.reasoning.value(),
            server_tools: self.server_tools.value(),
            images: self.images.value(),
        }
    }

    /// All tokens: input of every kind, and output.
    pub fn tokens(&self) -> u64 {
        let usage = self.usage();
        usage.total_input().saturating_add(usage.output.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reported_zero_is_a_value_and_an_unknown_count_is_none() {
        let counts = Counts::reported(&Usage { input: Some(0), ..Usage::default() });
        assert_eq!((counts.input, counts.output), (Count::Reported(0), Count::Unknown));
        assert!(!counts.is_estimated());
    }

    #[test]
    fn an_estimate_never_takes_the_place_of_an_input_that_was_told() {
        let mut counts = Counts::reported(&Usage { cache_read: Some(7), ..Usage::default() });
        counts.estimate_input(100);
        assert_eq!((counts.input, counts.tokens()), (Count::Unknown, 7));
        let mut counts = Counts::default();
        counts.estimate_input(100);
        assert_eq!(counts.input, Count::Estimated(100));
    }

    #[test]
    fn of_an_answer_that_broke_off_the_larger_output_holds() {
        let mut counts = Counts::reported(&Usage { output: Some(1), ..Usage::default() });
        counts.estimate_output(40);
        assert_eq!(counts.output, Count::Estimated(40));
        counts.estimate_output(5);
        assert_eq!(counts.output, Count::Estimated(40));
        assert_eq!(counts.estimated_bits(), 0b1_0000);
    }

    #[test]
    fn an_absurd_count_is_not_believed() {
        let counts = Counts::reported(&Usage { output: Some(u64::MAX), ..Usage::default() });
        assert_eq!(counts.output, Count::Reported(MOST));
    }
}
