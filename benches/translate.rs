//! What does a translation cost, in time and in allocations, for every ordered pair of formats?
//!
//!     cargo bench --bench translate                # all of it, about a minute
//!     cargo bench --bench translate -- streams     # or: requests
//!
//! Prints Markdown. Streams are fed an event at a time, as they come from a provider. A text delta's own cost is the
//! difference between a stream of 1,000 and one of 50, so that starts and ends do not count. A request's cost stands beside
//! that of the bare scan of its bytes: a plain, full and validating walk by serde_json (`from_slice::<IgnoredAny>`), which
//! no change of ours makes faster. What the byte lane does to find the model (`wire::envelope::scan`) is shown too.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark takes the time and prints, and one that cannot be set up has to stop"
)]

#[path = "support/measure.rs"]
mod measure;
#[path = "support/requests.rs"]
mod requests;
#[path = "support/streams.rs"]
mod streams;

use bytes::Bytes;
use measure::{Cost, measure, median};
use serde::de::IgnoredAny;
use std::hint::black_box;
use sub2api::wire::{
    Endpoint,
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    envelope::scan,
    tap::Shape,
    translate::{Context, Options, ReplyTranslator, translate_request},
};

const FORMATS: [WireFormat; 4] = [OpenaiChat, OpenaiResponses, Anthropic, Gemini];
const SIZES: [(&str, usize); 4] = [("1 KB", 1 << 10), ("100 KB", 100 << 10), ("283 KB", 283 << 10), ("2 MB", 2 << 20)];

fn pairs() -> impl Iterator<Item = (WireFormat, WireFormat)> {
    FORMATS.into_iter().flat_map(|from| FORMATS.into_iter().filter(move |to| *to != from).map(move |to| (from, to)))
}

fn main() {
    let wanted = |what: &str| {
        let mut named = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
        named.peek().is_none() || named.any(|arg| what.contains(&arg))
    };
    if wanted("streams") {
        streams_table();
    }
    if wanted("requests") {
        requests_table();
    }
}

/// One whole stream, an event at a time.
fn translated(from: WireFormat, to: WireFormat, events: &[String]) -> usize {
    let mut translator =
        ReplyTranslator::new(from, to, (Shape::Sse, Shape::Sse), Context::for_unknown_client()).unwrap();
    let mut length = 0;
    for event in events {
        length += black_box(translator.feed(black_box(event.as_bytes()))).len();
    }
    length += translator.finish().len();
    assert!(translator.is_ended() && translator.error().is_none());
    length
}

fn streams_table() {
    println!("\n| stream, from → to | 50 events | 1,000 events | a text delta | allocations of a text delta |");
    println!("|---|---:|---:|---:|---:|");
    let mut deltas = Vec::new();
    for (from, to) in pairs() {
        let [short, long] = [50, 1000].map(|events| {
            let stream = streams::stream(from, events);
            measure(|| translated(from, to, &stream))
        });
        let of_delta = |of: fn(&Cost) -> f64| (of(&long) - of(&short)) / 950.0;
        let delta = Cost { nanos: of_delta(|c| c.nanos), allocations: of_delta(|c| c.allocations) };
        println!(
            "| {} → {} | {:.1} µs, {} | {:.0} µs, {} | {:.0} ns | {:.2} |",
            from.name(),
            to.name(),
            short.nanos / 1e3,
            short.allocations,
            long.nanos / 1e3,
            long.allocations,
            delta.nanos,
            delta.allocations
        );
        deltas.push(delta);
    }
    let of_all = |of: fn(&Cost) -> f64| median(deltas.iter().map(of).collect());
    println!("| median | | | {:.0} ns | {:.2} |", of_all(|c| c.nanos), of_all(|c| c.allocations));
}

fn call(format: WireFormat) -> Endpoint {
    match format {
        OpenaiChat => Endpoint::ChatCompletions,
        OpenaiResponses => Endpoint::Responses,
        Anthropic => Endpoint::Messages,
        Gemini => Endpoint::GenerateContent,
    }
}

fn requests_table() {
    println!("\n| request, from → to | {} |", SIZES.map(|(name, _)| name).join(" | "));
    println!("|---|{}", "---:|".repeat(SIZES.len()));
    let mut ratios = [const { Vec::new() }; SIZES.len()];
    for from in FORMATS {
        let bodies = SIZES.map(|(_, bytes)| Bytes::from(requests::request(from, bytes)));
        let scans = bodies.each_ref().map(|body| measure(|| serde_json::from_slice::<IgnoredAny>(body).unwrap()));
        let envelopes =
            bodies.each_ref().map(|body| measure(|| scan(&call(from), Some("application/json"), body).unwrap()));
        for (what, costs) in [("bare scan", scans), ("the byte lane's reading", envelopes)] {
            let costs = costs.map(|cost| format!("{:.1} µs", cost.nanos / 1e3));
            println!("| {}, {what} | {} |", from.name(), costs.join(" | "));
        }
        for to in FORMATS.into_iter().filter(|to| *to != from) {
            let cells = std::array::from_fn::<_, { SIZES.len() }, _>(|at| {
                let options = Options { model: "served-model", stream: Some(true), ..Options::default() };
                let cost = measure(|| translate_request(from, to, black_box(&bodies[at]), &options).unwrap());
                let ratio = cost.nanos / scans[at].nanos;
                ratios[at].push(ratio);
                format!("{:.1} µs, {ratio:.2}×, {} allocations", cost.nanos / 1e3, cost.allocations)
            });
            println!("| {} → {} | {} |", from.name(), to.name(), cells.join(" | "));
        }
    }
    println!("| median | {} |", ratios.map(|of_size| format!("{:.2}×", median(of_size))).join(" | "));
}
