//! The log probabilities that a reply tells, read in the plainest way.

use serde_json::{Value, json};
use sub2api::wire::WireFormat;

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn openai(tokens: &Value) -> impl Iterator<Item = Value> {
    list(tokens).map(|token| {
        let top: Vec<Value> = list(&token["top_logprobs"]).map(|t| json!([t["token"], t["logprob"]])).collect();
        json!([token["token"], token["logprob"].as_f64(), top])
    })
}

fn gemini(result: &Value) -> impl Iterator<Item = Value> {
    list(&result["chosenCandidates"]).enumerate().map(|(at, token)| {
        let top = list(&result["topCandidates"][at]["candidates"]);
        let top: Vec<Value> = top.map(|t| json!([t["token"], t["logProbability"]])).collect();
        json!([token["token"], token["logProbability"].as_f64(), top])
    })
}

/// Each token with its probability and the likely ones beside it, of a stream's events or of a lone whole reply.
pub(crate) fn of(format: WireFormat, replies: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for reply in replies {
        match format {
            WireFormat::OpenaiChat => all.extend(openai(&reply["choices"][0]["logprobs"]["content"])),
            WireFormat::OpenaiResponses if reply["type"] == "response.output_text.delta" => {
                all.extend(openai(&reply["logprobs"]));
            }
            WireFormat::OpenaiResponses => {
                let parts = list(&reply["output"]).flat_map(|item| list(&item["content"]));
                all.extend(parts.flat_map(|part| openai(&part["logprobs"])));
            }
            WireFormat::Gemini => all.extend(gemini(&reply["candidates"][0]["logprobsResult"])),
            WireFormat::Anthropic => {}
        }
    }
    all
}
