//! Several answers at once: between the two formats that have them, and refused where there is only one.

use crate::{
    client::{self, Ask},
    formats::{Format, Mode},
    gateway::{Gateway, account},
    upstream::{Act, Upstream, stream, whole},
};
use Format::{Anthropic, Chat, Gemini, Responses};
use Mode::{Array, Stream, Whole};
use serde_json::{Value, json};

const TEXTS: [&str; 2] = ["one", "two"];

/// A request for two answers.
fn ask(format: Format, mode: Mode) -> Ask {
    let body = match format {
        Gemini => {
            json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"candidateCount": 2}})
        }
        Chat | Responses | Anthropic => json!({"model": "m", "n": 2, "stream": mode != Whole,
            "messages": [{"role": "user", "content": "hi"}]}),
    };
    Ask::post(&format.path(mode, "m"), body.to_string())
}

fn answer(format: Format, index: usize, finish: bool, key: &str) -> Value {
    match format {
        Gemini => {
            let parts = json!({"role": "model", "parts": [{"text": TEXTS[index]}]});
            let mut candidate = json!({"index": index, "content": parts});
            if finish {
                candidate["finishReason"] = json!("STOP");
            }
            candidate
        }
        Chat | Responses | Anthropic => {
            let finish = if finish { json!("stop") } else { Value::Null };
            json!({"index": index, key: {"role": "assistant", "content": TEXTS[index]}, "finish_reason": finish})
        }
    }
}

fn document(format: Format, answers: &[Value]) -> Value {
    match format {
        Gemini => json!({"candidates": answers, "modelVersion": "m", "responseId": "r",
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 8, "totalTokenCount": 11}}),
        Chat | Responses | Anthropic => json!({"id": "c", "object": "chat.completion", "created": 5, "model": "m",
            "choices": answers, "usage": {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}}),
    }
}

/// The upstream's two answers.
fn reply(format: Format, mode: Mode) -> Vec<Act> {
    if mode == Whole {
        let answers = [answer(format, 0, true, "message"), answer(format, 1, true, "message")];
        return whole(200, "application/json", document(format, &answers).to_string());
    }
    let mut events: Vec<String> = [0, 1]
        .map(|index| document(format, &[answer(format, index, true, "delta")]))
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    if format == Chat {
        events.push("data: [DONE]\n\n".to_owned());
    }
    stream(&events)
}

/// The text of each answer, and how often one finished.
fn read(format: Format, mode: Mode, body: &str) -> ([String; 2], usize) {
    let documents: Vec<Value> = match mode {
        Whole => vec![serde_json::from_str(body).unwrap()],
        Array => serde_json::from_str(body).unwrap(),
        Stream => {
            let data = body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
            data.map(|data| serde_json::from_str(data).unwrap()).collect()
        }
    };
    let (list, finish) = if format == Gemini { ("candidates", "finishReason") } else { ("choices", "finish_reason") };
    let (mut texts, mut finished) = ([String::new(), String::new()], 0);
    for answer in documents.iter().flat_map(|document| document[list].as_array().unwrap()) {
        let places = ["/message/content", "/delta/content", "/content/parts/0/text"];
        let said: String = places.iter().filter_map(|at| answer.pointer(at)?.as_str()).collect();
        texts[answer["index"].as_u64().unwrap() as usize].push_str(&said);
        finished += usize::from(answer[finish].is_string());
    }
    (texts, finished)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_answers_reach_a_client_of_the_other_format_each_under_its_number() {
    for (client, provider, asked) in [(Chat, Gemini, "\"candidateCount\":2"), (Gemini, Chat, "\"n\":2")] {
        for upstream_mode in [Whole, Stream] {
            let modes: &[Mode] = if client == Gemini { &[Whole, Stream, Array] } else { &[Whole, Stream] };
            for mode in modes {
                let what = format!("{client:?} {mode:?} on {provider:?} {upstream_mode:?}");
                let upstream = Upstream::always(reply(provider, upstream_mode)).await;
                let account = account("only", provider.provider(), &provider.base(&upstream.url()), "models: [m]");
                let gateway = Gateway::start(&[account], "").await;
                let reply = client::h1(gateway.address, &ask(client, *mode)).await.unwrap();
                assert!(reply.status == 200 && reply.complete, "{what}: {} {}", reply.status, reply.text());
                let (texts, finished) = read(client, *mode, &reply.text());
                assert_eq!((texts, finished), (TEXTS.map(str::to_owned), 2), "{what}: {}", reply.text());
                let sent = String::from_utf8(upstream.seen()[0].body.clone()).unwrap();
                assert!(sent.contains(asked), "{what}: {sent}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_one_answer_only_more_are_refused_and_nothing_is_asked() {
    for (client, field) in [(Chat, "n"), (Gemini, "candidateCount")] {
        for (provider, more) in [(Responses, "formats: [openai_responses], models: [m]"), (Anthropic, "models: [m]")] {
            let upstream = Upstream::always(reply(Chat, Whole)).await;
            let account = account("only", provider.provider(), &provider.base(&upstream.url()), more);
            let gateway = Gateway::start(&[account], "").await;
            let reply = client::h1(gateway.address, &ask(client, Whole)).await.unwrap();
            assert_eq!(reply.status, 400, "{client:?} on {provider:?}: {}", reply.text());
            assert!(reply.text().contains(field), "{client:?} on {provider:?}: {}", reply.text());
            assert!(upstream.seen().is_empty(), "{client:?} on {provider:?}");
        }
    }
}
