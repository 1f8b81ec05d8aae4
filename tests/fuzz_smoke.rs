//! The fuzz targets, with seeds and a few thousand damaged ones. The fuzzers themselves: `scripts/fuzz.sh`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

#[path = "support/dice.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod dice;
#[path = "support/seeds.rs"]
mod seeds;
#[path = "../fuzz/src/targets.rs"]
mod targets;

use dice::Dice;
use seeds::Seed;
use std::{fs, panic, path::Path};
use sub2api::wire::{Endpoint, WireFormat, tap::Shape};
use targets::{CONTENT_TYPES, ENDPOINTS, FORMATS, LAYOUTS};

/// Damaged inputs for each target.
const CASES: u64 = 2_000;

/// Runs a target with every seed as it is, then with damaged ones. `SUB2API_FUZZ_CORPUS` names a folder that gets the
/// seeds as files, one folder for each target, for a fuzzer to begin with.
fn smoke(name: &str, seeds: &[Vec<u8>], target: fn(&[u8])) {
    assert!(!seeds.is_empty());
    if let Some(corpus) = std::env::var_os("SUB2API_FUZZ_CORPUS") {
        let folder = Path::new(&corpus).join(name);
        fs::create_dir_all(&folder).unwrap();
        for (at, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{at:04}")), seed).unwrap();
        }
        return;
    }
    seeds.iter().for_each(|seed| target(seed));
    for case in 0..CASES {
        let mut dice = Dice::new(case);
        // Short ones are damaged where it matters more often.
        let seed = (0..3).map(|_| dice.pick(seeds)).min_by_key(|seed| seed.len()).unwrap();
        let mut input = seed.clone();
        dice.mangle(&mut input);
        let outcome = panic::catch_unwind(|| target(&input));
        assert!(outcome.is_ok(), "{name}, case {case}: {}", input.escape_ascii());
    }
    println!("{name}: {} seeds, {CASES} damaged ones", seeds.len());
}

fn note_if_skipped(name: &str, seeds: &[Seed]) {
    if !seeds::are_recorded(seeds) {
        println!("skipped: {name}: shared traffic not present");
    }
}

fn endpoint(path: &str) -> usize {
    let wanted = match path.split('?').next().unwrap().rsplit(['/', ':']).next().unwrap() {
        "responses" => Endpoint::Responses,
        "compact" => Endpoint::ResponsesCompact,
        "input_tokens" => Endpoint::ResponsesInputTokens,
        "messages" => Endpoint::Messages,
        "count_tokens" => Endpoint::CountTokens,
        "embeddings" => Endpoint::Embeddings,
        "moderations" => Endpoint::Moderations,
        "generations" => Endpoint::Images("edits"),
        "generateContent" => Endpoint::GenerateContent,
        "streamGenerateContent" => Endpoint::StreamGenerateContent { sse: true },
        "countTokens" => Endpoint::GeminiCountTokens,
        "embedContent" => Endpoint::EmbedContent,
        "batchEmbedContents" => Endpoint::BatchEmbedContents,
        _ => Endpoint::ChatCompletions,
    };
    ENDPOINTS.iter().position(|endpoint| *endpoint == wanted).unwrap()
}

fn layout(seed: &Seed) -> usize {
    let format = ENDPOINTS[endpoint(&seed.path)].format();
    let shape = match seed.reply_type {
        "text/event-stream" => Shape::Sse,
        _ if format == WireFormat::Gemini && seed.reply.starts_with(b"[") => Shape::JsonArray,
        _ => Shape::Json,
    };
    LAYOUTS.iter().position(|layout| *layout == (format, shape)).unwrap()
}

#[test]
fn envelopes_hold_for_damaged_requests() {
    let seeds = seeds::load();
    note_if_skipped("envelopes_hold_for_damaged_requests", &seeds);
    let mut inputs: Vec<Vec<u8>> =
        seeds.iter().map(|seed| [&[endpoint(&seed.path) as u8, 0], &seed.request[..]].concat()).collect();
    const FORM: &[u8] = b"--XX\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--XX\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nRIFF\r\n--XX\r\n\
        content-disposition: form-data; name=stream\r\n\r\ntrue\r\n--XX--\r\n";
    let audio = ENDPOINTS.len() - 1;
    inputs.extend((2..CONTENT_TYPES.len()).map(|kind| [&[audio as u8, kind as u8], FORM].concat()));
    smoke("envelope", &inputs, targets::envelope);
}

#[test]
fn frames_hold_for_damaged_streams() {
    let seeds = seeds::load();
    note_if_skipped("frames_hold_for_damaged_streams", &seeds);
    let streams = seeds.iter().filter(|seed| seed.reply_type == "text/event-stream" || seed.reply.starts_with(b"["));
    let inputs: Vec<Vec<u8>> = streams.map(|seed| [&[7, 1, 60, 200], &seed.reply[..]].concat()).collect();
    smoke("sse", &inputs, targets::sse);
}

#[test]
fn taps_hold_for_damaged_replies() {
    let seeds = seeds::load();
    note_if_skipped("taps_hold_for_damaged_replies", &seeds);
    let inputs: Vec<Vec<u8>> =
        seeds.iter().map(|seed| [&[layout(seed) as u8, 90, 33, 2, 190], &seed.reply[..]].concat()).collect();
    smoke("reply", &inputs, targets::reply);
}

fn number(format: WireFormat) -> usize {
    FORMATS.iter().position(|known| *known == format).unwrap()
}

/// The seeds of calls that can be translated, with their formats.
fn translatable(seeds: &[Seed]) -> impl Iterator<Item = (usize, &Seed)> {
    seeds.iter().filter_map(|seed| match &ENDPOINTS[endpoint(&seed.path)] {
        call @ (Endpoint::ChatCompletions
        | Endpoint::Responses
        | Endpoint::Messages
        | Endpoint::GenerateContent
        | Endpoint::StreamGenerateContent { .. }) => Some((number(call.format()), seed)),
        _ => None,
    })
}

#[test]
fn translations_hold_for_damaged_requests() {
    let seeds = seeds::load();
    note_if_skipped("translations_hold_for_damaged_requests", &seeds);
    let inputs: Vec<Vec<u8>> = translatable(&seeds)
        .enumerate()
        .map(|(at, (from, seed))| [&[(from + 4 * (at % 4)) as u8, at as u8], &seed.request[..]].concat())
        .collect();
    smoke("request", &inputs, targets::request);
}

#[test]
fn translations_hold_for_damaged_replies() {
    let seeds = seeds::load();
    note_if_skipped("translations_hold_for_damaged_replies", &seeds);
    let inputs: Vec<Vec<u8>> = translatable(&seeds)
        .enumerate()
        .map(|(at, (from, seed))| {
            let shape = match LAYOUTS[layout(seed)].1 {
                Shape::Sse => 0,
                Shape::JsonArray => 1,
                Shape::Json | Shape::Opaque => 2,
            };
            let out = [0, 2, 1][at % 3];
            [&[(from + 4 * (at % 4)) as u8, shape + 16 * out, 33, 2, 190], &seed.reply[..]].concat()
        })
        .collect();
    smoke("translate", &inputs, targets::translate);
}

#[test]
fn configurations_hold_for_damaged_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = vec![
        fs::read(root.join("conf/sub2api.yaml")).unwrap(),
        b"listen: \"127.0.0.1:1\"\nauth: none\naccounts:\n- {name: a, provider: openai, credentials: {api_key: sk-secret-1}, models: [a, b*, {name: c, upstream: d}]}\n".to_vec(),
        b"users: [{name: u, keys: [\"sha256:0\"]}]\ntimeouts: {total: 99999999999999d}\nbounds: {body_bytes: 99999999999GiB}\n".to_vec(),
        b"a: &x [*x, {<<: *x}]\nb: !!binary aaa\n---\n? [k]\n: - - - v\n".to_vec(),
    ];
    // The reference with its settings switched on.
    let reference = String::from_utf8(inputs[0].clone()).unwrap();
    inputs.push(
        reference
            .lines()
            .map(|line| line.strip_prefix('#').unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
            .into_bytes(),
    );
    match fs::read(root.join("../shared/design/acceptance.yaml")) {
        Ok(file) => inputs.push(file),
        Err(_) => println!("skipped: configurations_hold_for_damaged_files: shared traffic not present"),
    }
    smoke("config", &inputs, targets::config);
}

#[test]
fn every_target_of_the_fuzzer_has_its_smoke() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (manifest, here) = (fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap(), include_str!("fuzz_smoke.rs"));
    let targets: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
    assert!(targets.len() >= 6);
    for target in targets {
        let name = target.trim_end_matches(".rs\"");
        assert!(here.contains(&format!("smoke(\"{name}\", ")), "{name} is not among the tests");
    }
}
