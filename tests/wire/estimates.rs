//! Estimated input tokens against what providers billed for recorded requests.

use super::traffic::{self, Exchange};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use sub2api::{tokens, wire::tap::Tap};

/// The vendor of a first-party recording; others add what is theirs.
fn vendor(exchange: &Exchange) -> Option<&'static str> {
    let host = exchange.id.split('.').nth(1)?;
    ["openai", "anthropic", "google"].into_iter().find(|vendor| host == *vendor)
}

fn model(exchange: &Exchange) -> String {
    let in_path = exchange.path.split("models/").nth(1).and_then(|rest| rest.split(':').next());
    in_path.or(exchange.request["model"].as_str()).unwrap_or_default().to_owned()
}

/// What the provider counted, where it is the request alone: no tools of the provider's own ran, nothing came from a store.
fn counted(exchange: &Exchange) -> Option<u64> {
    let request = exchange.request.to_string();
    let hidden =
        ["previous_response_id", "cachedContent", "file_id", "fileUri", "\"url\"", "image_url", "conversation"];
    let served = ["codeExecution", "fileSearch", "googleSearch", "google_search", "urlContext", "compact", "file_data"];
    let tools = exchange.request["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_custom = |tool: &Value| matches!(tool["type"].as_str(), None | Some("function" | "custom"));
    let is_whole = exchange.request.is_object() && tools.iter().all(is_custom);
    if exchange.status != 200 || !is_whole || hidden.iter().chain(&served).any(|word| request.contains(word)) {
        return None;
    }
    let body = exchange.reply_bytes();
    let endpoint = exchange.endpoint()?;
    if endpoint.is_counting() {
        let reply = &exchange.response;
        return reply["input_tokens"].as_u64().or(reply["totalTokens"].as_u64());
    }
    let mut tap = Tap::new(endpoint.format(), exchange.shape(), 1 << 20);
    tap.feed(Bytes::from(body));
    tap.finish();
    Some(tap.seen.usage.total_input()).filter(|input| *input > 0)
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
fn an_estimate_is_near_what_the_provider_counted() {
    let Some(exchanges) = traffic::load("an_estimate_is_near_what_the_provider_counted") else { return };
    let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for exchange in &exchanges {
        let (Some(vendor), Some(endpoint)) = (vendor(exchange), exchange.endpoint()) else { continue };
        let Some(counted) = (endpoint.generates() || endpoint.is_counting()).then(|| counted(exchange)).flatten()
        else {
            continue;
        };
        let estimate = tokens::estimate_call(&endpoint, &exchange.request_bytes(), &model(exchange));
        if std::env::var("SHOW").is_ok() {
            println!("{vendor} {:<45} {counted:>7} {estimate:>7} {:.2}", exchange.id, estimate as f64 / counted as f64);
        }
        ratios.entry(vendor).or_default().push(estimate as f64 / counted as f64);
    }
    println!("vendor     requests  p10   median  p90  (estimate / counted by the provider)");
    for (vendor, list) in &mut ratios {
        list.sort_by(f64::total_cmp);
        let [low, median, high] = [10, 50, 90].map(|percent| percentile(list, percent));
        println!("{vendor:<10} {:>8}  {low:.2}  {median:.2}    {high:.2}", list.len());
        assert!((0.9..=1.1).contains(&median), "{vendor}: median {median:.2}");
        assert!(low >= 0.4 && high <= 1.4, "{vendor}: {low:.2} to {high:.2}");
    }
    assert_eq!(ratios.len(), 3, "every vendor is among the recordings");
}
