//! Moderations and rerank.

use super::Ready;
use crate::mock::{
    ask::tokens,
    json,
    read::{self, given, invalid, missing, stranger, text},
    refusal::{Checked, ensure},
    seal,
};
use serde_json::Value;

#[rustfmt::skip]
const CATEGORIES: [&str; 13] = [
    "harassment", "harassment/threatening", "sexual", "hate", "hate/threatening", "illicit", "illicit/violent",
    "self-harm/intent", "self-harm/instructions", "self-harm", "sexual/minors", "violence", "violence/graphic",
];

/// `POST /v1/moderations`. An input that contains `FLAG_ME` is flagged as violence.
pub(in crate::mock) fn moderations(body: &Value) -> Checked<Ready> {
    let body = read::object(body)?;
    if let Some(name) = stranger(body, &["model", "input"]) {
        return Err(invalid(format!("Unrecognized request argument supplied: {name}")));
    }
    let model = text(body, "model").unwrap_or("omni-moderation-latest");
    let inputs: Vec<String> = match given(body, "input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(parts @ Value::Array(list)) if !list.is_empty() => vec![parts.to_string()],
        _ => return Err(missing("input")),
    };
    let count = inputs.iter().map(|input| tokens(input)).sum();
    let reply = json::object(|o| {
        o.text("id", &format!("modr-{}", seal::id(&[&inputs.join("\n")], 12))).text("model", model);
        o.list("results", |l| {
            for input in &inputs {
                let flagged = input.contains("FLAG_ME");
                let is_on = |category: &str| flagged && category == "violence";
                l.object(|r| {
                    r.flag("flagged", flagged);
                    r.object("categories", |c| CATEGORIES.iter().for_each(|name| _ = c.flag(name, is_on(name))));
                    r.object("category_scores", |c| {
                        CATEGORIES.iter().for_each(|name| _ = c.raw(name, if is_on(name) { "0.98" } else { "0.0001" }));
                    });
                    r.object("category_applied_input_types", |c| {
                        CATEGORIES.iter().for_each(|name| _ = c.raw(name, "[\"text\"]"));
                    });
                });
            }
        });
    });
    Ok(Ready::json(model, inputs.join("\n"), count, reply))
}

/// `POST /v1/rerank`: documents by how many words they share with the query.
pub(in crate::mock) fn rerank(body: &Value) -> Checked<Ready> {
    let body = read::object(body)?;
    #[rustfmt::skip]
    let known = [
        "model", "query", "documents", "top_n", "return_documents", "rank_fields", "max_chunks_per_doc",
        "max_tokens_per_doc",
    ];
    if let Some(name) = stranger(body, &known) {
        return Err(read::unknown(name));
    }
    let model = text(body, "model").ok_or_else(|| missing("model"))?;
    let query = text(body, "query").ok_or_else(|| missing("query"))?;
    let documents = body.get("documents").and_then(Value::as_array).filter(|list| !list.is_empty());
    let documents = documents.ok_or_else(|| missing("documents"))?;
    let texts: Vec<&str> = documents.iter().filter_map(|d| d.as_str().or_else(|| d.get("text")?.as_str())).collect();
    ensure!(
        texts.len() == documents.len(),
        invalid("Invalid type for 'documents': expected strings or objects with 'text'.")
    );
    let top = read::limit(body, "top_n", 1)?.map_or(texts.len(), |n| usize::try_from(n).unwrap_or(usize::MAX));
    let with_documents = body.get("return_documents") == Some(&Value::Bool(true));
    let count = tokens(query) + texts.iter().map(|text| tokens(text)).sum::<u64>();
    let reply = json::object(|o| {
        o.text("id", &format!("rerank-{}", seal::id(&[query], 12))).text("model", model);
        o.list("results", |l| {
            for (index, score) in ranked(query, &texts).into_iter().take(top) {
                l.object(|r| {
                    let share = format!("{:.4}", f64::from(score) / 10_000.0);
                    r.number("index", index as u64).raw("relevance_score", &share);
                    if let Some(text) = texts.get(index).filter(|_| with_documents) {
                        r.object("document", |d| _ = d.text("text", text));
                    }
                });
            }
        });
        o.object("usage", |u| _ = u.number("prompt_tokens", count).number("total_tokens", count));
    });
    Ok(Ready::json(model, query.to_owned(), count, reply))
}

/// The texts' indices with their scores, best first.
fn ranked(query: &str, texts: &[&str]) -> Vec<(usize, u32)> {
    let mut scored: Vec<(usize, u32)> = texts.iter().enumerate().map(|(n, text)| (n, score(query, text))).collect();
    scored.sort_by_key(|(n, score)| (std::cmp::Reverse(*score), *n));
    scored
}

/// The share of the query's words that occur in the text, in ten thousandths.
fn score(query: &str, text: &str) -> u32 {
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let text = text.to_lowercase();
    let hits = words.iter().filter(|word| text.contains(word.as_str())).count();
    (hits * 10_000).checked_div(words.len()).and_then(|share| u32::try_from(share).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(ready: Checked<Ready>) -> Value {
        serde_json::from_slice(&ready.unwrap().body.data).unwrap()
    }

    #[test]
    fn documents_come_back_by_relevance() {
        let body = json!({"model": "m", "query": "blue cat", "documents": ["a dog", "a blue cat", {"text": "cat"}], "top_n": 2});
        let results = value(rerank(&body))["results"].clone();
        assert_eq!(
            results.as_array().unwrap().iter().map(|r| r["index"].as_u64().unwrap()).collect::<Vec<_>>(),
            [1, 2]
        );
        assert!(rerank(&json!({"model": "m", "query": "x", "documents": [1]})).is_err());
    }

    #[test]
    fn each_input_is_moderated() {
        let results = value(moderations(&json!({"input": ["fine", "FLAG_ME"]})))["results"].clone();
        assert_eq!((&results[0]["flagged"], &results[1]["flagged"]), (&json!(false), &json!(true)));
    }
}
