//! What a reply says it used, as counts that do not overlap.

/// Token counts of one reply. Every count is disjoint from the others except `reasoning`, which is a part of `output`.
/// A later snapshot replaces an earlier one, field by field; counts are never added up.
/// `None` means that the provider did not say; a zero is a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that were neither read from nor written to a cache.
    pub input: Option<u64>,
    /// Input tokens read from the prompt cache.
    pub cache_read: Option<u64>,
    /// Input tokens written to the prompt cache with the short (5 minute or unnamed) lifetime.
    pub cache_write: Option<u64>,
    /// Input tokens written to the prompt cache with the 1 hour lifetime.
    pub cache_write_1h: Option<u64>,
    /// All output tokens, reasoning included.
    pub output: Option<u64>,
    /// The part of `output` that was reasoning.
    pub reasoning: Option<u64>,
    /// Server-side tool calls (web searches) that the provider counted.
    pub server_tools: Option<u64>,
}

impl Usage {
    /// Whether the provider said anything at all.
    pub fn is_empty(&self) -> bool {
        *self == Usage::default()
    }

    /// All input tokens: fresh, read from and written to the cache.
    pub fn total_input(&self) -> u64 {
        let counts = [self.input, self.cache_read, self.cache_write, self.cache_write_1h];
        counts.into_iter().flatten().fold(0, u64::saturating_add)
    }

    /// Takes over every field that `later` names.
    pub fn update(&mut self, later: &Usage) {
        let pick = |new: Option<u64>, old: &mut Option<u64>| *old = new.or(*old);
        pick(later.input, &mut self.input);
        pick(later.cache_read, &mut self.cache_read);
        pick(later.cache_write, &mut self.cache_write);
        pick(later.cache_write_1h, &mut self.cache_write_1h);
        pick(later.output, &mut self.output);
        pick(later.reasoning, &mut self.reasoning);
        pick(later.server_tools, &mut self.server_tools);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_no_provider_can_mean_do_not_overflow() {
        let most = Some(u64::MAX);
        let usage = Usage { input: most, cache_read: most, cache_write: most, ..Usage::default() };
        assert_eq!(usage.total_input(), u64::MAX);
    }
}
