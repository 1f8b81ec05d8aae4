//! `prices`: rows of one's own, a file with more of them, and the table that comes with the program.

use crate::{
    config::{
        Fault,
        fault::FaultList,
        file::common,
        interpolate,
        reader::{Item, Reader, Surroundings},
        tree,
    },
    ledger::price::{Price, PriceRule, PriceTable, Rates, Tier, Unpriced},
    provider::{self, PROVIDERS},
};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

/// The table that comes with the program.
const BUILT_IN: &str = include_str!("../../../conf/prices.yaml");
/// The largest price file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The built-in table, read once. A test holds that it has no fault.
static BUILT_IN_RULES: LazyLock<Vec<PriceRule>> = LazyLock::new(|| {
    let surroundings = Surroundings { environment: &|_| None, providers: PROVIDERS, find: provider::find };
    table(BUILT_IN, &surroundings).unwrap_or_default()
});

/// The built-in table alone, for a configuration that says nothing about prices.
pub(in crate::config) fn built_in() -> Arc<PriceTable> {
    static TABLE: LazyLock<Arc<PriceTable>> =
        LazyLock::new(|| Arc::new(PriceTable::new(vec![BUILT_IN_RULES.clone()], Unpriced::default())));
    TABLE.clone()
}

/// `prices`.
pub(super) fn prices(item: &Item<'_>) -> Option<Arc<PriceTable>> {
    const POLICIES: [(&str, Unpriced); 2] = [("tokens_only", Unpriced::TokensOnly), ("refuse", Unpriced::Refuse)];
    let mut section = item.section()?;
    let own = section.optional("models", rules).unwrap_or_default();
    let from_file = section.optional("file", file).unwrap_or_default();
    let (mut with_built_in, mut unpriced) = (true, Unpriced::default());
    section.set("built_in", &mut with_built_in, Item::boolean);
    section.set("unpriced", &mut unpriced, |item| item.choice(&POLICIES));
    section.done();
    let mut tables = vec![own, from_file];
    if with_built_in {
        tables.push(BUILT_IN_RULES.clone());
    }
    Some(Arc::new(PriceTable::new(tables, unpriced)))
}

/// The rows of another file; each of its faults becomes one of the configuration, with its own place in it.
fn file(item: &Item<'_>) -> Option<Vec<PriceRule>> {
    let path = item.path()?;
    let text = common::text_file(item, &path, MAX_FILE_BYTES)?;
    match table(&text, item.reader.surroundings) {
        Ok(rules) => Some(rules),
        Err(faults) => {
            faults.iter().for_each(|fault| item.fault(format!("{}:{fault}", path.display())));
            None
        }
    }
}

/// The rows of a price table, or everything that is wrong with it.
pub(in crate::config) fn table(text: &str, surroundings: &Surroundings<'_>) -> Result<Vec<PriceRule>, Vec<Fault>> {
    let mut faults = FaultList::default();
    let tree = tree::parse(text, &mut faults).filter(|tree| !tree.is_null());
    let Some(mut tree) = tree else {
        if faults.is_empty() {
            faults.push(Fault { line: 1, column: 1, ..Fault::general("the file holds no prices") });
        }
        return Err(faults.into_sorted());
    };
    interpolate::interpolate(&mut tree, surroundings.environment, &mut faults);
    let reader = Reader::new(surroundings, faults);
    let read = rules(&Item::root(&reader, &tree));
    let (faults, _) = reader.into_parts();
    match read {
        Some(read) if faults.is_empty() => Ok(read),
        Some(_) | None => Err(faults),
    }
}

fn rules(item: &Item<'_>) -> Option<Vec<PriceRule>> {
    let mut seen = Seen::default();
    Some(item.items()?.iter().filter_map(|row| rule(row, &mut seen)).collect())
}

/// Which model has its price in which line, for which provider.
type Seen = HashMap<(String, Option<&'static str>), usize>;

fn rule(item: &Item<'_>, seen: &mut Seen) -> Option<PriceRule> {
    let mut section = item.section()?;
    let models = section.required("models", |item| {
        let list = item.items()?;
        if list.is_empty() { item.refuse("names no model") } else { Some(list) }
    });
    let providers = section.list("providers", provider_name);
    let source = section.required("source", |item| item.text().map(str::to_owned)).unwrap_or_default();
    let date = section.required("date", |item| item.expiry().and_then(|_| item.text()).map(str::to_owned));
    let input = section.required("input", Item::dollars_or_none).unwrap_or_default();
    let output = section.required("output", Item::dollars_or_none).unwrap_or_default();
    let cache_read = section.optional("cache_read", Item::dollars_or_none).unwrap_or(input);
    let cache_write = section.optional("cache_write", Item::dollars_or_none).unwrap_or(input);
    let cache_write_1h = section.optional("cache_write_1h", Item::dollars_or_none).unwrap_or(cache_write);
    let rates = Rates { input, cache_read, cache_write, cache_write_1h, output };
    let mut price = Price { rates, source, date: date.unwrap_or_default(), ..Price::default() };
    section.set("image", &mut price.image, Item::dollars_or_none);
    section.set("tool_call", &mut price.tool_call, Item::dollars_or_none);
    price.tiers = section.list("tiers", |item| tier(item, rates));
    price.tiers.sort_by_key(|tier| tier.above);
    section.done();
    let models = models?.iter().filter_map(|model| unique(model, &providers, seen)).collect();
    Some(PriceRule { models, providers, price })
}

fn provider_name(item: &Item<'_>) -> Option<&'static str> {
    let known = (item.reader.surroundings.find)(item.text()?).map(|provider| provider.name());
    known.or_else(|| {
        let names = item.reader.surroundings.providers.iter().map(|provider| provider.name());
        item.refuse(format!("unknown provider {}{}", item.shown(), item.suggestion(names)))
    })
}

/// A model's name or pattern, unless another row has it for the same provider.
fn unique(item: &Item<'_>, providers: &[&'static str], seen: &mut Seen) -> Option<String> {
    let name = common::model_or_prefix(item)?.to_owned();
    let everyone = [None];
    let named: Vec<Option<&'static str>> = providers.iter().copied().map(Some).collect();
    for provider in if named.is_empty() { everyone.as_slice() } else { named.as_slice() } {
        if let Some(line) = seen.insert((name.clone(), *provider), item.line()) {
            return item.refuse(format!("{} has a price already, in line {line}", item.shown()));
        }
    }
    Some(name)
}

/// Other prices for a long input; those left out are the row's own.
fn tier(item: &Item<'_>, base: Rates) -> Option<Tier> {
    let mut section = item.section()?;
    let mut rates = base;
    let above = section.required("above", |item| item.count(1..=1_000_000_000));
    section.set("input", &mut rates.input, Item::dollars_or_none);
    section.set("cache_read", &mut rates.cache_read, Item::dollars_or_none);
    section.set("cache_write", &mut rates.cache_write, Item::dollars_or_none);
    section.set("cache_write_1h", &mut rates.cache_write_1h, Item::dollars_or_none);
    section.set("output", &mut rates.output, Item::dollars_or_none);
    section.done();
    Some(Tier { above: above?, rates })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Usage;

    fn read(text: &str) -> Result<PriceTable, String> {
        let surroundings = Surroundings { environment: &|_| None, providers: PROVIDERS, find: provider::find };
        table(text, &surroundings)
            .map(|rules| PriceTable::new(vec![rules], Unpriced::default()))
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_built_in_table_has_no_fault_and_knows_todays_models() {
        let table = read(BUILT_IN).unwrap();
        assert!(table.len() > 60);
        for (provider, model, input, output) in [
            ("anthropic", "claude-sonnet-4-5-20250929", 3_000_000_000, 15_000_000_000),
            ("anthropic", "claude-opus-4-20250514", 15_000_000_000, 75_000_000_000),
            ("anthropic", "claude-opus-4-5", 5_000_000_000, 25_000_000_000),
            ("openai", "gpt-5", 1_250_000_000, 10_000_000_000),
            ("openai", "gpt-5-mini-2025-08-07", 250_000_000, 2_000_000_000),
            ("azure-openai", "gpt-4o-mini", 150_000_000, 600_000_000),
            ("openai", "gpt-4o-mini-transcribe", 1_250_000_000, 5_000_000_000),
            ("gemini", "gemini-2.5-flash", 300_000_000, 2_500_000_000),
            ("gemini", "models/gemini-2.5-flash-lite", 100_000_000, 400_000_000),
            ("ollama", "llama3", 0, 0),
        ] {
            let price = table.find(provider, model).unwrap_or_else(|| panic!("{model}"));
            assert_eq!((price.rates.input, price.rates.output), (input, output), "{model}");
        }
        assert!(table.find("openai", "llama3").is_none());
    }

    #[test]
    fn versions_whose_names_begin_alike_have_prices_of_their_own() {
        let table = read(BUILT_IN).unwrap();
        // Nano-dollars for a token of fresh input, of input from the cache, of output.
        for (provider, model, fresh, [input, cached, output]) in [
            ("anthropic", "claude-opus-5", 150_000, [5_000, 500, 25_000]),
            ("vertex-anthropic", "claude-opus-5@20260724", 1, [5_000, 500, 25_000]),
            ("anthropic", "claude-opus-5-5", 150_000, [4_000, 200, 20_000]),
            ("anthropic", "claude-sonnet-5", 300_000, [2_000, 200, 10_000]),
            ("anthropic", "claude-sonnet-5-5", 300_000, [2_000, 100, 10_000]),
            ("anthropic", "claude-haiku-5-5", 99_900, [100, 10, 500]),
            ("anthropic", "claude-haiku-5-5", 99_901, [500, 50, 2_500]),
            ("anthropic", "claude-fable-5-20260609", 1, [10_000, 1_000, 50_000]),
            ("anthropic", "claude-fable-5-1", 1, [10_000, 250, 50_000]),
            ("anthropic", "claude-fable-5-2", 1, [8_000, 200, 40_000]),
            ("openai", "gpt-5.5", 271_900, [5_000, 500, 30_000]),
            ("openai", "gpt-5.5-2026-04-23", 271_901, [10_000, 1_000, 45_000]),
            ("openai", "gpt-5.5-pro", 300_000, [60_000, 60_000, 270_000]),
            ("openai", "gpt-5.4", 1, [2_500, 250, 15_000]),
            ("azure-openai", "gpt-5.4-mini", 1, [750, 75, 4_500]),
            ("openai", "gpt-6-sol", 1, [2_000, 200, 10_000]),
            ("openai", "gpt-6.1-sol", 300_000, [4_000, 200, 15_000]),
            ("gemini", "gemini-3.1-pro-preview", 199_900, [2_000, 200, 12_000]),
            ("gemini", "gemini-3.1-pro-preview", 199_901, [4_000, 400, 18_000]),
            ("gemini", "gemini-4-neon", 300_000, [3_000, 150, 15_000]),
            ("gemini", "gemini-3.5-flash", 1, [1_500, 150, 9_000]),
            ("gemini", "gemini-3.5-flash-lite", 1, [300, 30, 2_500]),
            ("gemini", "gemini-2.5-pro-preview-tts", 1, [1_000, 1_000, 20_000]),
            ("xai", "grok-4.7", 199_899, [2_000, 500, 6_000]),
            ("xai", "grok-4.7", 199_900, [4_000, 1_000, 12_000]),
        ] {
            let usage = Usage { input: Some(fresh), cache_read: Some(100), output: Some(10), ..Usage::default() };
            let price = table.find(provider, model).unwrap_or_else(|| panic!("{model}"));
            assert_eq!(price.cost_nanos(&usage), fresh * input + 100 * cached + 10 * output, "{model} {fresh}");
        }
        for unknown in ["claude-opus-5-6", "claude-sonnet-6", "gpt-5.7", "gpt-6.3-sol", "gemini-3.9-flash"] {
            assert_eq!(table.find("openai", unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_long_input_makes_no_token_cheaper() {
        let surroundings = Surroundings { environment: &|_| None, providers: PROVIDERS, find: provider::find };
        for PriceRule { models, price, .. } in table(BUILT_IN, &surroundings).unwrap() {
            let kinds = |r: &Rates| [r.input, r.cache_read, r.cache_write, r.cache_write_1h, r.output];
            let own = kinds(&price.rates);
            for tier in &price.tiers {
                assert!(kinds(&tier.rates).iter().zip(own).all(|(long, own)| *long >= own), "{models:?}");
                assert!(tier.rates.cache_read > price.rates.cache_read, "{models:?}");
            }
        }
    }

    #[test]
    fn a_price_left_out_is_the_one_before_it() {
        let table = read("- { models: [m], source: s, date: 2026-01-01, input: 2, output: 3 }").unwrap();
        let rates = table.find("openai", "m").unwrap().rates;
        assert_eq!(
            (rates.cache_read, rates.cache_write, rates.cache_write_1h),
            (2_000_000_000, 2_000_000_000, 2_000_000_000)
        );
    }

    #[test]
    fn all_faults_of_a_table_are_told_at_once_with_their_places() {
        let faults = read(
            "- { models: [m, m], source: s, date: 2026-01-01, input: -2, output: 3 }\n\
             - { models: [], source: s, date: soon, inputs: 1, output: 1e3 }\n\
             - { models: [a*b], providers: [opnai], source: s, date: 2026-01-01, input: 1, output: 1, tiers: [{ input: 1 }] }\n",
        )
        .unwrap_err();
        for (place, what) in [
            ("1:17: [0].models[1]", "already"),
            ("1:57: [0].input", "must be an amount"),
            ("2:13: [1].models", "names no model"),
            ("2:34: [1].date", "must be a date"),
            ("2:40: [1].inputs", "unknown key"),
            ("[1]: `input` is missing", ""),
            ("2:59: [1].output", "must be an amount"),
            ("[2].models[0]", "`*` may stand only at the end"),
            ("[2].providers[0]", "did you mean \"openai\"?"),
            ("[2].tiers[0]: `above` is missing", ""),
        ] {
            assert!(
                faults.lines().any(|line| line.contains(place) && line.contains(what)),
                "{place} {what}:\n{faults}"
            );
        }
    }

    #[test]
    fn an_empty_table_is_a_fault() {
        assert!(read("").unwrap_err().contains("holds no prices"));
        assert!(read("prices: 1").unwrap_err().contains("must be a list"));
    }
}
