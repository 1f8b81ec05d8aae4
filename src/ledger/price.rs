//! What a model's tokens cost.
//!
//! Money is whole nano-dollars; nothing is ever a float, negative or wrapped around. Prices are nano-dollars for a million
//! tokens, so that every published price is exact. A table says nothing about a model that it does not know: the caller
//! decides what that means.

use crate::wire::Usage;
use std::collections::HashMap;

/// Prices are told for this many tokens.
const MILLION: u128 = 1_000_000;
/// The most that one attempt is booked with: ten thousand dollars.
const MOST_NANOS: u64 = 10_000_000_000_000;

/// Prices of the kinds of tokens, in nano-dollars for a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Fresh input.
    pub input: u64,
    /// Input read from a cache.
    pub cache_read: u64,
    /// Input written to a cache for 5 minutes, or for a time that is not named.
    pub cache_write: u64,
    /// Input written to a cache for 1 hour.
    pub cache_write_1h: u64,
    /// Output, reasoning included.
    pub output: u64,
}

/// Other prices for requests with a long input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// They hold for requests with more input tokens (of every kind) than this.
    pub above: u64,
    /// The prices of the whole request.
    pub rates: Rates,
}

/// The price of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// For tokens.
    pub rates: Rates,
    /// For requests with a long input, the lowest threshold first.
    pub tiers: Vec<Tier>,
    /// For an image made, in nano-dollars.
    pub image: u64,
    /// For a call of one of the provider's own tools (a web search), in nano-dollars.
    pub tool_call: u64,
    /// Where the price was read.
    pub source: String,
    /// When, as a date (2026-11-25).
    pub date: String,
}

impl Price {
    fn rates_for(&self, input_tokens: u64) -> &Rates {
        self.tiers.iter().rfind(|tier| input_tokens > tier.above).map_or(&self.rates, |tier| &tier.rates)
    }

    /// What this usage costs, in nano-dollars, rounded up. Counts that are not known cost nothing.
    pub fn cost_nanos(&self, usage: &Usage) -> u64 {
        let rates = self.rates_for(usage.total_input());
        let tokens = [
            (usage.input, rates.input),
            (usage.cache_read, rates.cache_read),
            (usage.cache_write, rates.cache_write),
            (usage.cache_write_1h, rates.cache_write_1h),
            (usage.output, rates.output),
        ];
        let pieces = [(usage.images, self.image), (usage.server_tools, self.tool_call)];
        total(&tokens, &pieces)
    }

    /// Whether nothing of this model costs anything.
    pub fn is_free(&self) -> bool {
        self.rates == Rates::default() && self.tiers.is_empty() && self.image == 0 && self.tool_call == 0
    }

    /// The most that a request can cost, in nano-dollars: all its input written to the dearest cache, all the output that
    /// it allows, so many images.
    pub fn most_nanos(&self, input_tokens: u64, output_tokens: u64, images: u64) -> u64 {
        let rates = self.rates_for(input_tokens);
        let input = rates.input.max(rates.cache_write).max(rates.cache_write_1h);
        total(&[(Some(input_tokens), input), (Some(output_tokens), rates.output)], &[(Some(images), self.image)])
    }
}

/// The sum of `count × price`: the first list's prices are for a million, the second one's for one.
fn total(tokens: &[(Option<u64>, u64)], pieces: &[(Option<u64>, u64)]) -> u64 {
    let sum = |list: &[(Option<u64>, u64)]| {
        // Two 64-bit numbers always fit; the sum of a few such products saturates.
        list.iter()
            .map(|(count, price)| u128::from(count.unwrap_or(0)) * u128::from(*price))
            .fold(0, u128::saturating_add)
    };
    let nanos = sum(tokens).div_ceil(MILLION).saturating_add(sum(pieces));
    u64::try_from(nanos).unwrap_or(u64::MAX).min(MOST_NANOS)
}

/// One row of a price table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRule {
    /// The models' names, or beginnings of names with `*` at the end.
    pub models: Vec<String>,
    /// Only for accounts of these providers; empty for all.
    pub providers: Vec<&'static str>,
    /// The price.
    pub price: Price,
}

/// What becomes of a request whose model has no price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpriced {
    /// It is served, and only its tokens are counted. The default.
    #[default]
    TokensOnly,
    /// It is refused.
    Refuse,
}

/// The prices in force.
///
/// Tables lie one upon another: the uppermost that knows a model has the say. Within one, a whole name wins over a
/// beginning, a longer beginning over a shorter one, and a row for a provider over one for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceTable {
    layers: Vec<Layer>,
    /// What becomes of the rest.
    pub unpriced: Unpriced,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Layer {
    rules: Vec<PriceRule>,
    /// Rules by a model's whole name.
    exact: HashMap<String, Vec<usize>>,
    /// Rules by the beginning of names, in the order of the alphabet: before a name stand all of its beginnings.
    beginnings: Vec<(String, usize)>,
}

impl Layer {
    fn new(rules: Vec<PriceRule>) -> Layer {
        let mut layer = Layer::default();
        for (at, rule) in rules.iter().enumerate() {
            for model in &rule.models {
                match model.strip_suffix('*') {
                    Some(beginning) => layer.beginnings.push((beginning.to_owned(), at)),
                    None => layer.exact.entry(model.clone()).or_default().push(at),
                }
            }
        }
        layer.beginnings.sort();
        layer.rules = rules;
        layer
    }

    fn find(&self, provider: &str, model: &str) -> Option<&Price> {
        let whole = self.exact.get(model).and_then(|rules| self.best(provider, rules.iter().copied()));
        whole.or_else(|| self.find_by_beginning(provider, model.as_bytes()))
    }

    /// By the longest beginning of the name that a rule has. Every step looks at the closest entry before what is left of
    /// the name: it is a beginning, or shares so much with the name that no longer one can be.
    fn find_by_beginning(&self, provider: &str, name: &[u8]) -> Option<&Price> {
        let (mut entries, mut left) = (self.beginnings.as_slice(), name);
        loop {
            entries = entries.get(..entries.partition_point(|(entry, _)| entry.as_bytes() <= left))?;
            let (last, _) = entries.last()?;
            let shared = last.bytes().zip(left).take_while(|(a, b)| a == *b).count();
            if shared == last.len() {
                let first = entries.partition_point(|(entry, _)| entry < last);
                let (before, same) = entries.split_at_checked(first)?;
                if let Some(price) = self.best(provider, same.iter().map(|(_, at)| *at)) {
                    return Some(price);
                }
                entries = before;
            }
            left = left.get(..shared)?;
        }
    }

    /// Of rules for the same name: the provider's own, else one for all.
    fn best(&self, provider: &str, rules: impl Iterator<Item = usize>) -> Option<&Price> {
        let mut for_all = None;
        for rule in rules.filter_map(|at| self.rules.get(at)) {
            if rule.providers.contains(&provider) {
                return Some(&rule.price);
            }
            for_all = for_all.or(rule.providers.is_empty().then_some(&rule.price));
        }
        for_all
    }
}

impl PriceTable {
    /// Tables of rules, the uppermost first.
    pub fn new(tables: Vec<Vec<PriceRule>>, unpriced: Unpriced) -> PriceTable {
        PriceTable { layers: tables.into_iter().map(Layer::new).collect(), unpriced }
    }

    /// The price of a model (in the provider's own name) at a provider.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Price> {
        let model = model.strip_prefix("models/").unwrap_or(model);
        self.layers.iter().find_map(|layer| layer.find(provider, model))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.layers.iter().map(|layer| layer.rules.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(models: &[&str], providers: &[&'static str], input: u64) -> PriceRule {
        let price = Price { rates: Rates { input, ..Rates::default() }, ..Price::default() };
        PriceRule { models: models.iter().map(|m| (*m).to_owned()).collect(), providers: providers.to_vec(), price }
    }

    fn dollars(price: u64) -> u64 {
        price * 1_000_000_000
    }

    fn sonnet() -> Price {
        let rates = |input, cache_read, cache_write, cache_write_1h, output| Rates {
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
        };
        let base = rates(dollars(3), 300_000_000, 3_750_000_000, dollars(6), dollars(15));
        let long = rates(dollars(6), 600_000_000, 7_500_000_000, dollars(12), 22_500_000_000);
        Price {
            rates: base,
            tiers: vec![Tier { above: 200_000, rates: long }],
            tool_call: 10_000_000,
            ..Price::default()
        }
    }

    #[test]
    fn every_kind_of_token_has_its_price_and_is_paid_once() {
        let usage = Usage {
            input: Some(1_000),
            cache_read: Some(2_000),
            cache_write: Some(100),
            cache_write_1h: Some(10),
            output: Some(500),
            reasoning: Some(400),
            server_tools: Some(2),
            images: None,
        };
        let nanos = 1_000 * 3_000 + 2_000 * 300 + 100 * 3_750 + 10 * 6_000 + 500 * 15_000 + 2 * 10_000_000;
        assert_eq!(sonnet().cost_nanos(&usage), nanos);
    }

    #[test]
    fn a_long_input_of_whatever_kind_changes_the_price_of_the_whole_request() {
        let usage = |input, cache_read| Usage {
            input: Some(input),
            cache_read: Some(cache_read),
            output: Some(1),
            ..Usage::default()
        };
        assert_eq!(sonnet().cost_nanos(&usage(100_000, 100_000)), 100_000 * 3_000 + 100_000 * 300 + 15_000);
        assert_eq!(sonnet().cost_nanos(&usage(100_000, 100_001)), 100_000 * 6_000 + 100_001 * 600 + 22_500);
    }

    #[test]
    fn a_part_of_a_nano_dollar_is_rounded_up() {
        let price = Price { rates: Rates { input: 12_500_000, ..Rates::default() }, ..Price::default() };
        assert_eq!(price.cost_nanos(&Usage { input: Some(1), ..Usage::default() }), 13);
        assert_eq!(price.cost_nanos(&Usage { input: Some(2), ..Usage::default() }), 25);
    }

    #[test]
    fn the_uppermost_table_that_knows_a_model_has_the_say() {
        let own = vec![rule(&["gpt-*"], &[], 1)];
        let table = PriceTable::new(vec![own, vec![rule(&["gpt-5", "o3"], &[], 2)]], Unpriced::Refuse);
        assert_eq!(table.find("openai", "gpt-5").map(|price| price.rates.input), Some(1));
        assert_eq!(table.find("openai", "o3").map(|price| price.rates.input), Some(2));
        assert_eq!(table.find("openai", "models/o3").map(|price| price.rates.input), Some(2));
        assert_eq!(table.find("openai", "o4"), None);
    }

    #[test]
    fn the_closest_row_wins() {
        let rules = vec![
            rule(&["*"], &["ollama"], 0),
            rule(&["gpt-*"], &[], 1),
            rule(&["gpt-4o*"], &["azure-openai"], 2),
            rule(&["gpt-4o*"], &[], 3),
            rule(&["gpt-4o"], &[], 4),
            rule(&["gpt-4o"], &["groq"], 5),
        ];
        let table = PriceTable::new(vec![rules], Unpriced::TokensOnly);
        let found = |provider, model| table.find(provider, model).map(|price| price.rates.input);
        assert_eq!(found("openai", "gpt-4"), Some(1));
        assert_eq!(found("openai", "gpt-4o-mini"), Some(3));
        assert_eq!(found("azure-openai", "gpt-4o-mini"), Some(2));
        assert_eq!(found("openai", "gpt-4o"), Some(4));
        assert_eq!(found("groq", "gpt-4o"), Some(5));
        assert_eq!(found("ollama", "llama3"), Some(0));
        assert_eq!(found("openai", "llama3"), None);
    }

    proptest! {
        #[test]
        fn no_usage_and_no_price_breaks_the_arithmetic(counts in prop::array::uniform7(any::<Option<u64>>()), prices in prop::array::uniform5(any::<u64>())) {
            let [input, cache_read, cache_write, cache_write_1h, output, server_tools, images] = counts;
            let usage = Usage { input, cache_read, cache_write, cache_write_1h, output, server_tools, images, ..Usage::default() };
            let [input, cache_read, cache_write, cache_write_1h, output] = prices;
            let rates = Rates { input, cache_read, cache_write, cache_write_1h, output };
            let price = Price { rates, image: input, tool_call: output, ..Price::default() };
            prop_assert!(price.cost_nanos(&usage) <= MOST_NANOS);
            prop_assert!(price.most_nanos(input, output, cache_read) <= MOST_NANOS);
        }

        #[test]
        fn the_longest_beginning_that_a_name_has_is_found(
            names in prop::collection::vec("[ab]{0,4}", 0..12),
            model in "[ab]{0,6}",
        ) {
            let rules = names.iter().enumerate().map(|(at, name)| rule(&[&format!("{name}*")], &[], at as u64)).collect();
            let table = PriceTable::new(vec![rules], Unpriced::TokensOnly);
            let fits = names.iter().enumerate().filter(|(_, name)| model.starts_with(name.as_str()));
            // Of two rules for the same beginning the first one counts.
            let expected = fits.rev().max_by_key(|(_, name)| name.len()).map(|(at, _)| at as u64);
            prop_assert_eq!(table.find("openai", &model).map(|price| price.rates.input), expected);
        }

        #[test]
        fn no_usage_within_a_reservation_costs_more_than_it(
            parts in prop::array::uniform4(0u64..100_000),
            output in 0u64..100_000,
        ) {
            let [input, cache_read, cache_write, cache_write_1h] = parts;
            let usage = Usage {
                input: Some(input),
                cache_read: Some(cache_read),
                cache_write: Some(cache_write),
                cache_write_1h: Some(cache_write_1h),
                output: Some(output),
                ..Usage::default()
            };
            prop_assert!(sonnet().cost_nanos(&usage) <= sonnet().most_nanos(usage.total_input(), output, 0));
        }
    }
}
