//! Compares the ledger with what a provider says was used, and names the differences.
//!
//! Reads the answers of OpenAI's `/v1/organization/usage/completions` (also `embeddings`, `images`, …) and `/costs`, and of
//! Anthropic's `/v1/organizations/usage_report/messages` and `/cost_report`, as they were downloaded: one document, or
//! several pages one behind another. Sources: the two vendors' API references, read 2026-11-25.

use super::{
    export,
    query::{Filter, Group, Page, Reader, Sums},
    store::LedgerError,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const HOUR_MILLIS: u64 = 3_600_000;

/// Whose export it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// OpenAI.
    Openai,
    /// Anthropic.
    Anthropic,
}

impl Vendor {
    /// The provider whose accounts are compared.
    pub fn provider(self) -> &'static str {
        match self {
            Vendor::Openai => "openai",
            Vendor::Anthropic => "anthropic",
        }
    }
}

/// One of the figures that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// All input tokens.
    Input,
    /// Input tokens that were not cached.
    FreshInput,
    /// Input tokens from a cache.
    CacheRead,
    /// Input tokens to a cache for 5 minutes.
    CacheWrite,
    /// Input tokens to a cache for 1 hour.
    CacheWrite1h,
    /// Output tokens.
    Output,
    /// Searches.
    ServerTools,
    /// Images.
    Images,
    /// Requests.
    Requests,
    /// Money, in nano-dollars.
    Cost,
}

impl Figure {
    /// Its name in the list of differences.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Input => "input",
            Figure::FreshInput => "fresh_input",
            Figure::CacheRead => "cache_read",
            Figure::CacheWrite => "cache_write",
            Figure::CacheWrite1h => "cache_write_1h",
            Figure::Output => "output",
            Figure::ServerTools => "server_tools",
            Figure::Images => "images",
            Figure::Requests => "requests",
            Figure::Cost => "cost_usd",
        }
    }

    fn of(self, sums: &Sums) -> u64 {
        match self {
            Figure::Input => sums.input + sums.cache_read + sums.cache_write + sums.cache_write_1h,
            Figure::FreshInput => sums.input,
            Figure::CacheRead => sums.cache_read,
            Figure::CacheWrite => sums.cache_write,
            Figure::CacheWrite1h => sums.cache_write_1h,
            Figure::Output => sums.output,
            Figure::ServerTools => sums.server_tools,
            Figure::Images => sums.images,
            Figure::Requests => sums.attempts - sums.failures,
            Figure::Cost => sums.cost_nanos,
        }
    }

    /// A value of this figure as it is shown.
    pub fn shown(self, value: u64) -> String {
        match self {
            Figure::Cost => export::dollars(value),
            Figure::Input
            | Figure::FreshInput
            | Figure::CacheRead
            | Figure::CacheWrite
            | Figure::CacheWrite1h
            | Figure::Output
            | Figure::ServerTools
            | Figure::Images
            | Figure::Requests => value.to_string(),
        }
    }
}

/// What an export says of one span of time and one model; no model where it is not kept apart.
type Claims = BTreeMap<(u64, u64, Option<String>), BTreeMap<Figure, u64>>;

/// What a provider says was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Whose it is.
    pub vendor: Vendor,
    claims: Claims,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The span, in milliseconds since 1970.
    pub from: u64,
    /// Its end.
    pub to: u64,
    /// The model, where the export keeps them apart.
    pub model: Option<String>,
    /// What differs.
    pub figure: Figure,
    /// What the provider says.
    pub provider: u64,
    /// What the ledger says.
    pub ledger: u64,
    /// How many of the ledger's attempts in this span have estimated counts.
    pub estimated: u64,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Figures that were compared.
    pub compared: usize,
    /// Those that differ.
    pub differences: Vec<Difference>,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    data: Vec<Bucket<'a>>,
}

#[derive(Deserialize)]
struct Bucket<'a> {
    start_time: Option<u64>,
    end_time: Option<u64>,
    starting_at: Option<String>,
    ending_at: Option<String>,
    #[serde(borrow, alias = "result")]
    results: Vec<Entry<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry<'a> {
    model: Option<String>,
    // OpenAI
    input_tokens: Option<u64>,
    input_cached_tokens: Option<u64>,
    output_tokens: Option<u64>,
    num_model_requests: Option<u64>,
    images: Option<u64>,
    // Anthropic
    uncached_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    server_tool_use: Option<ServerTools>,
    // Costs: OpenAI's is an object in dollars, Anthropic's a text in cents.
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Option<u64>,
}

#[derive(Deserialize)]
struct Amount<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Reads an export.
pub fn read(text: &str) -> Result<Export, LedgerError> {
    let mut claims = Claims::new();
    let mut vendor = None;
    for document in serde_json::Deserializer::from_str(text).into_iter::<Document<'_>>() {
        let document = document.map_err(|error| asked(format!("not an export of OpenAI or Anthropic: {error}")))?;
        for bucket in &document.data {
            let (whose, from, to) = span(bucket)?;
            if vendor.replace(whose).is_some_and(|other| other != whose) {
                return Err(asked("the file holds exports of both vendors".to_owned()));
            }
            for entry in &bucket.results {
                claim(entry, (from, to), &mut claims)?;
            }
        }
    }
    let vendor = vendor.ok_or_else(|| asked("the export holds no bucket of time".to_owned()))?;
    Ok(Export { vendor, claims })
}

fn asked(message: String) -> LedgerError {
    LedgerError::Asked(message)
}

/// Whose bucket it is, and its span; one shorter than an hour is taken as that hour.
fn span(bucket: &Bucket<'_>) -> Result<(Vendor, u64, u64), LedgerError> {
    let parsed = |text: &str| {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| asked(format!("{text:?} is no time")))?;
        u64::try_from(at.unix_timestamp()).map_err(|_| asked(format!("{text:?} lies before 1970")))
    };
    let (vendor, from, to) = match (bucket.start_time, bucket.end_time, &bucket.starting_at, &bucket.ending_at) {
        (Some(from), Some(to), _, _) => (Vendor::Openai, from, to),
        (_, _, Some(from), Some(to)) => (Vendor::Anthropic, parsed(from)?, parsed(to)?),
        _ => return Err(asked("a bucket names no span of time".to_owned())),
    };
    let hour = |seconds: u64| seconds.saturating_mul(1_000) / HOUR_MILLIS * HOUR_MILLIS;
    let from = hour(from);
    Ok((vendor, from, hour(to.saturating_add(3_599)).max(from.saturating_add(HOUR_MILLIS))))
}

fn claim(entry: &Entry<'_>, (from, to): (u64, u64), claims: &mut Claims) -> Result<(), LedgerError> {
    let creation = entry.cache_creation.as_ref();
    let is_anthropic = entry.uncached_input_tokens.is_some();
    let figures = [
        (Figure::Input, entry.input_tokens),
        (Figure::FreshInput, entry.uncached_input_tokens),
        (Figure::CacheRead, if is_anthropic { entry.cache_read_input_tokens } else { entry.input_cached_tokens }),
        (Figure::CacheWrite, creation.and_then(|c| c.ephemeral_5m_input_tokens)),
        (Figure::CacheWrite1h, creation.and_then(|c| c.ephemeral_1h_input_tokens)),
        (Figure::Output, entry.output_tokens),
        (Figure::ServerTools, entry.server_tool_use.as_ref().and_then(|tools| tools.web_search_requests)),
        (Figure::Images, entry.images),
        (Figure::Requests, entry.num_model_requests),
        (Figure::Cost, entry.amount.map(money).transpose()?),
    ];
    // Costs name a line of the bill, not a model as requests know it.
    let model = if entry.amount.is_some() { None } else { entry.model.as_deref().map(undated) };
    let place = claims.entry((from, to, model)).or_default();
    for (figure, value) in figures {
        if let Some(value) = value {
            let sum = place.entry(figure).or_default();
            *sum = sum.saturating_add(value);
        }
    }
    Ok(())
}

/// An amount of money in nano-dollars: OpenAI's `{"value": 0.06}` in dollars, Anthropic's `"123.45"` in cents.
fn money(amount: &RawValue) -> Result<u64, LedgerError> {
    let bad = || asked(format!("{} is no amount of money", amount.get()));
    if let Ok(object) = serde_json::from_str::<Amount<'_>>(amount.get()) {
        return decimal(object.value.get().trim_matches('"'), 9).ok_or_else(bad);
    }
    decimal(amount.get().trim_matches('"'), 7).ok_or_else(bad)
}

/// A decimal number, `digits` places to the left: exactly, what lies below is cut off.
fn decimal(text: &str, digits: i32) -> Option<u64> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let all = format!("{whole}{part}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let places = i32::try_from(part.len()).ok()?;
    let shift = digits.checked_add(exponent)?.checked_sub(places)?;
    let value: u128 = all.parse().ok()?;
    let power = 10_u128.checked_pow(shift.unsigned_abs())?;
    u64::try_from(if shift >= 0 { value.checked_mul(power)? } else { value / power }).ok()
}

/// A model's name without the date of its snapshot (`-2024-08-06`, `-20250929`): requests often leave it out.
fn undated(model: &str) -> String {
    for shape in ["-dddd-dd-dd", "-dddddddd"] {
        let Some(at) = model.len().checked_sub(shape.len()) else { continue };
        let Some(end) = model.get(at..) else { continue };
        let fits = |(c, kind): (u8, u8)| if kind == b'd' { c.is_ascii_digit() } else { c == kind };
        if end.bytes().zip(shape.bytes()).all(fits) {
            return model.get(..at).unwrap_or(model).to_owned();
        }
    }
    model.to_owned()
}

/// Compares an export with the ledger's rows of that provider's accounts, or of one account.
pub fn compare(export: &Export, reader: &Reader, account: Option<&str>) -> Result<Outcome, LedgerError> {
    let mut outcome = Outcome::default();
    let mut known: BTreeMap<(u64, u64), BTreeMap<String, Sums>> = BTreeMap::new();
    for ((from, to, model), figures) in &export.claims {
        let sums = match known.get(&(*from, *to)) {
            Some(sums) => sums,
            None => {
                let sums = ledger_sums(reader, export.vendor, account, (*from, *to))?;
                known.entry((*from, *to)).or_insert(sums)
            }
        };
        let ours = match model {
            Some(model) => sums.get(model).copied().unwrap_or_default(),
            None => sums.values().fold(Sums::default(), add),
        };
        for (figure, provider) in figures {
            outcome.compared += 1;
            let ledger = figure.of(&ours);
            if ledger != *provider {
                let (model, figure, provider) = (model.clone(), *figure, *provider);
                let estimated = ours.estimated;
                outcome.differences.push(Difference {
                    from: *from,
                    to: *to,
                    model,
                    figure,
                    provider,
                    ledger,
                    estimated,
                });
            }
        }
    }
    name_what_only_we_have(export, &known, &mut outcome);
    Ok(outcome)
}

/// Models that the ledger has in a span in which the export keeps models apart, but does not have this one.
fn name_what_only_we_have(
    export: &Export,
    known: &BTreeMap<(u64, u64), BTreeMap<String, Sums>>,
    outcome: &mut Outcome,
) {
    for ((from, to), sums) in known {
        let by_model = export.claims.keys().any(|(f, t, model)| (f, t) == (from, to) && model.is_some());
        for (model, ours) in sums.iter().filter(|_| by_model) {
            let claimed = export.claims.contains_key(&(*from, *to, Some(model.clone())));
            let tokens = ours.tokens();
            if !claimed && tokens > 0 {
                outcome.differences.push(Difference {
                    from: *from,
                    to: *to,
                    model: Some(model.clone()),
                    figure: Figure::Requests,
                    provider: 0,
                    ledger: Figure::Requests.of(ours),
                    estimated: ours.estimated,
                });
            }
        }
    }
}

fn ledger_sums(
    reader: &Reader,
    vendor: Vendor,
    account: Option<&str>,
    (from, to): (u64, u64),
) -> Result<BTreeMap<String, Sums>, LedgerError> {
    let mut only = vec![(Group::Provider, vendor.provider().to_owned())];
    only.extend(account.map(|account| (Group::Account, account.to_owned())));
    let filter = Filter { from: Some(from), to: Some(to), only };
    let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
    for line in reader.sums(&filter, &[Group::Served], Page::default())? {
        let model = undated(line.groups.first().map(String::as_str).unwrap_or_default());
        let place = sums.entry(model).or_default();
        *place = add(*place, &line.sums);
    }
    Ok(sums)
}

fn add(mut all: Sums, one: &Sums) -> Sums {
    all.attempts += one.attempts;
    all.requests += one.requests;
    all.failures += one.failures;
    all.estimated += one.estimated;
    all.unpriced += one.unpriced;
    all.input += one.input;
    all.cache_read += one.cache_read;
    all.cache_write += one.cache_write;
    all.cache_write_1h += one.cache_write_1h;
    all.output += one.output;
    all.reasoning += one.reasoning;
    all.server_tools += one.server_tools;
    all.images += one.images;
    all.cost_nanos += one.cost_nanos;
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_exactly_in_both_vendors_units() {
        let read = |json: &str| money(&RawValue::from_string(json.to_owned()).unwrap()).unwrap();
        assert_eq!(read(r#"{"value":0.06,"currency":"usd"}"#), 60_000_000);
        assert_eq!(read(r#"{"value":1.3e-7,"currency":"usd"}"#), 130);
        assert_eq!(read(r#""123.45""#), 1_234_500_000);
        assert!(money(&RawValue::from_string("\"-1\"".to_owned()).unwrap()).is_err());
    }

    #[test]
    fn the_date_of_a_snapshot_is_no_part_of_the_name() {
        assert_eq!(undated("gpt-4o-2024-08-06"), "gpt-4o");
        assert_eq!(undated("claude-sonnet-4-5-20250929"), "claude-sonnet-4-5");
        assert_eq!(undated("gpt-4.1"), "gpt-4.1");
    }

    #[test]
    fn what_is_no_export_is_refused_in_words() {
        for (text, why) in [
            ("", "no bucket"),
            ("{}", "not an export"),
            (r#"{"data":[{"results":[]}]}"#, "no span"),
            (r#"{"data":[{"starting_at":"soon","ending_at":"later","results":[]}]}"#, "is no time"),
        ] {
            assert!(read(text).unwrap_err().to_string().contains(why), "{text}");
        }
    }
}
