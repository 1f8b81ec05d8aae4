//! Recorded documents, as they are and damaged, for tests that compare two readers.

#[path = "dice.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod dice;

use crate::wire::fields::Members;
use std::{fs, path::Path};

/// Longer recordings only take time.
const LONGEST_BYTES: usize = 20_000;
/// So many of the recorded documents, and so many damaged ones of each.
const MOST: usize = 150;
const DAMAGED: u64 = 40;

/// Hands out the values of this member of all recordings, and of our own in their place where there are none.
fn each(member: &str, own: &[&str], mut look: impl FnMut(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traffic/exchanges");
    let folders = fs::read_dir(root).into_iter().flatten().flatten();
    let mut files: Vec<_> = folders
        .flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|f| f.path())
        .collect();
    files.sort();
    let texts =
        files.iter().step_by(files.len().div_ceil(4 * MOST).max(1)).filter_map(|file| fs::read_to_string(file).ok());
    let recorded = texts.filter_map(|text| {
        let exchange = serde_json::from_str::<Members<'_>>(&text).ok()?;
        exchange.find(member).map(|value| value.get().to_owned())
    });
    let short = recorded.filter(|value| value.starts_with('{') && value.len() < LONGEST_BYTES);
    for text in own.iter().map(|text| (*text).to_owned()).chain(short.take(MOST)) {
        look(text.as_bytes());
        for seed in 0..DAMAGED {
            let mut damaged = text.clone().into_bytes();
            dice::Dice::new(seed).mangle(&mut damaged);
            look(&damaged);
        }
    }
}

/// Whole replies of every format.
pub(crate) fn each_reply(look: impl FnMut(&[u8])) {
    let own = [
        r#"{"id":"c","created":1,"model":"m","choices":[{"index":0,"message":{"content":"a\u00e9\n"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2.0,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#,
        r#"{"id":"r","status":"completed","created_at":17,"output":[{"type":"message","content":[{}]}],"usage":{"input_tokens":1,"output_tokens":2}}"#,
        r#"{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":4,"cache_creation":{"ephemeral_5m_input_tokens":1}}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8}}"#,
        r#"{"error":{"code":503,"message":"busy \ud83d\ude00","status":"UNAVAILABLE"},"detail":[null],"message":{"\u0061":-1.5e3}}"#,
    ];
    each("response_body", &own, look);
}

/// Requests of every format.
pub(crate) fn each_request(look: impl FnMut(&[u8])) {
    let own = [
        r#"{"model":"m","stream":true,"max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"hi\n"}]}],"temperature":0.5}"#,
        r#" { "mod\u0065l" : "m" , "requests" : [ { "model" : "models/a" } , 1 ] , "generationConfig" : {} } "#,
    ];
    each("request_body", &own, look);
}
