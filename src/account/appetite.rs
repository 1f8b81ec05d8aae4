//! How many tokens a request will probably take, learned from those before it. Pure.
//!
//! Input by the size of the body, output by what answers of this account had. A request's own `max_tokens` is only a bound:
//! clients write tens of thousands there and get a few hundred, and an account that is kept free for the former is idle.

use super::windows::Tokens;

/// What is known of a request's size before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of its body.
    pub body_bytes: usize,
    /// The most output tokens that it allows, if it says so.
    pub max_output: Option<u64>,
}

/// How much of what is known a new answer replaces.
const LEARNING: f64 = 0.1;
/// What is taken for one request before anything is known: about four bytes a token, and a short answer.
const FIRST: Appetite = Appetite { input: 500.0, tokens_per_byte: 0.25, output: 400.0 };
/// Text has no more tokens than this for its size; what is beyond is no text (or the count of another request).
const MOST_PER_BYTE: f64 = 1.0;

/// What requests of one account took so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Appetite {
    input: f64,
    tokens_per_byte: f64,
    output: f64,
}

impl Default for Appetite {
    fn default() -> Self {
        FIRST
    }
}

impl Appetite {
    /// What a request will probably take.
    pub(super) fn of(&self, need: Need) -> Tokens {
        let input = (need.body_bytes as f64 * self.tokens_per_byte).ceil() as u64;
        Tokens { input, output: (self.output.ceil() as u64).min(need.max_output.unwrap_or(u64::MAX)) }
    }

    /// What most requests take.
    pub(super) fn usual(&self) -> Tokens {
        Tokens { input: self.input as u64, output: self.output as u64 }
    }

    /// Learns from a request that has ended.
    pub(super) fn learn(&mut self, need: Need, took: Tokens) {
        let mix = |old: &mut f64, new: f64| *old += (new - *old) * LEARNING;
        mix(&mut self.input, took.input as f64);
        mix(&mut self.output, took.output as f64);
        if need.body_bytes > 0 && took.input > 0 {
            let ratio = took.input as f64 / need.body_bytes as f64;
            mix(&mut self.tokens_per_byte, ratio.min(MOST_PER_BYTE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(body_bytes: usize, max_output: Option<u64>) -> Need {
        Need { body_bytes, max_output }
    }

    #[test]
    fn what_a_client_allows_bounds_the_estimate_and_does_not_make_it() {
        let fresh = Appetite::default();
        assert_eq!(fresh.of(need(4_000, Some(128_000))), Tokens { input: 1_000, output: 400 });
        assert_eq!(fresh.of(need(4_000, Some(5))).output, 5);
    }

    #[test]
    fn estimates_come_near_to_what_requests_took() {
        let mut appetite = Appetite::default();
        (0..100).for_each(|_| appetite.learn(need(10_000, None), Tokens { input: 1_500, output: 2_000 }));
        let estimate = appetite.of(need(20_000, None));
        assert!(estimate.input.abs_diff(3_000) < 50 && estimate.output.abs_diff(2_000) < 10, "{estimate:?}");
        assert!(appetite.usual().total().abs_diff(3_500) < 20);
    }
}
