//! Counts of tokens and embeddings, asked of accounts in another format or estimated.

use crate::{
    client::{Ask, Reply, h1},
    gateway::{Gateway, account},
    upstream::{Upstream, whole},
};
use serde_json::{Value, json};
use sub2api::account::health::State;

const QUESTION: &str = "What is the capital of France?";

/// The three counting calls with the same question, and where their answers hold the count.
fn counts(model: &str) -> [(Ask, &'static str); 3] {
    let turn = json!({ "model": model, "messages": [{ "role": "user", "content": QUESTION }] });
    let input = json!({ "model": model, "input": QUESTION });
    let contents = json!({ "contents": [{ "role": "user", "parts": [{ "text": QUESTION }] }] });
    [
        (Ask::post("/v1/messages/count_tokens", turn.to_string()), "input_tokens"),
        (Ask::post("/v1/responses/input_tokens", input.to_string()), "input_tokens"),
        (Ask::post(&format!("/v1beta/models/{model}:countTokens"), contents.to_string()), "totalTokens"),
    ]
}

async fn fetch(gateway: &Gateway, ask: &Ask) -> Reply {
    h1(gateway.address, ask).await.unwrap()
}

fn counted(reply: &Reply, field: &str) -> u64 {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()[field].as_u64().unwrap_or_else(|| panic!("no {field} in {}", reply.text()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_is_asked_of_the_account_in_its_own_format_and_told_in_the_clients() {
    for (provider, body, path) in [
        ("anthropic", r#"{"input_tokens":14}"#, "/v1/messages/count_tokens"),
        ("gemini", r#"{"totalTokens":14}"#, "/v1beta/models/m:countTokens"),
        ("openai", r#"{"object":"response.input_tokens","input_tokens":14}"#, "/v1/responses/input_tokens"),
    ] {
        let upstream = Upstream::always(whole(200, "application/json", body)).await;
        let base = if provider == "openai" { format!("{}/v1", upstream.url()) } else { upstream.url() };
        let gateway = Gateway::start(&[account("a", provider, &base, "models: [m]")], "").await;
        for (count, field) in counts("m") {
            let reply = fetch(&gateway, &count).await;
            assert_eq!(counted(&reply, field), 14, "{} of {provider}", count.path);
            assert_eq!(reply.header("x-sub2api-estimate"), None);
            let seen = upstream.take();
            assert_eq!(seen.iter().map(|seen| seen.path()).collect::<Vec<_>>(), [path], "{}", count.path);
            assert!(String::from_utf8_lossy(&seen[0].body).contains(QUESTION));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_nobody_can_give_is_an_estimate_and_says_so() {
    let refusing = Upstream::always(whole(500, "application/json", r#"{"error":{"message":"oops"}}"#)).await;
    let chat = Upstream::always(whole(404, "text/html", "<html>not found</html>")).await;
    let gateway = Gateway::start(
        &[
            account("failing", "anthropic", &refusing.url(), "models: [broken]"),
            account("chat-only", "openai-compatible", &format!("{}/v1", chat.url()), "models: [local]"),
        ],
        "",
    )
    .await;
    for model in ["broken", "local"] {
        for (count, field) in counts(model) {
            let reply = fetch(&gateway, &count).await;
            assert!((10..=20).contains(&counted(&reply, field)), "{}: {}", count.path, reply.text());
            assert_eq!(reply.header("x-sub2api-estimate"), Some("tokens"), "{} of {model}", count.path);
        }
    }
    assert!(chat.seen().is_empty(), "an account without such a call is not asked for one");
    let live = gateway.live();
    for account in live.snapshot().pool.accounts() {
        let state = account.live.state(live.clock.now());
        assert_eq!(state, State::Ready, "{} is none the worse for it", account.settings.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_without_the_call_leaves_it_to_the_gateway_and_one_without_the_model_does_not() {
    let no_call = r#"{"error":{"message":"Invalid URL (POST /v1/responses/input_tokens)","type":"invalid_request_error","param":null,"code":null}}"#;
    let no_model = r#"{"error":{"message":"The model `m` does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
    for (body, is_counted) in [(no_call, true), (no_model, false)] {
        let upstream = Upstream::always(whole(404, "application/json", body)).await;
        let gateway =
            Gateway::start(&[account("a", "openai", &format!("{}/v1", upstream.url()), "models: [m]")], "").await;
        for (count, field) in counts("m").into_iter().filter(|(count, _)| !count.path.contains("responses")) {
            let reply = fetch(&gateway, &count).await;
            let what = format!("{}: {} {}", count.path, reply.status, reply.text());
            assert_eq!(reply.status, if is_counted { 200 } else { 404 }, "{what}");
            if is_counted {
                assert!((10..=20).contains(&counted(&reply, field)), "{what}");
                assert_eq!(reply.header("x-sub2api-estimate"), Some("tokens"), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_models_that_somebody_serves_are_counted_for() {
    let upstream = Upstream::always(whole(200, "application/json", "{}")).await;
    let base = format!("{}/v1", upstream.url());
    let gateway = Gateway::start(&[account("a", "openai-compatible", &base, "models: [known]")], "").await;
    for (count, _) in counts("unknown") {
        assert_eq!(fetch(&gateway, &count).await.status, 404, "{}", count.path);
    }
    let broken = Ask::post("/v1/messages/count_tokens", r#"{"model":"known","messages":"#);
    assert_eq!(fetch(&gateway, &broken).await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_openai_client_gets_embeddings_of_gemini() {
    let body = r#"{"embeddings":[{"values":[0.5,-1]},{"values":[0.25,2]}],"usageMetadata":{"promptTokenCount":4}}"#;
    let upstream = Upstream::always(whole(200, "application/json", body)).await;
    let gateway = Gateway::start(&[account("g", "gemini", &upstream.url(), "models: [m]")], "").await;
    let body = json!({ "model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 2, "user": "u" });
    let reply = fetch(&gateway, &Ask::post("/v1/embeddings", body.to_string())).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-sub2api-loss"), Some("user=dropped"));
    let told = reply.json();
    assert_eq!(told["data"][0]["embedding"], "AAAAPwAAgL8=");
    assert_eq!((&told["data"][1]["index"], &told["usage"]["prompt_tokens"]), (&json!(1), &json!(4)));
    let seen = upstream.take();
    assert_eq!(seen[0].path(), "/v1beta/models/m:batchEmbedContents");
    let asked: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(asked["requests"][1]["content"]["parts"][0]["text"], "b");
    assert_eq!(asked["requests"][1]["outputDimensionality"], 2);
    let tokens = json!({ "model": "m", "input": [[1, 2], [3]] });
    let refused = fetch(&gateway, &Ask::post("/v1/embeddings", tokens.to_string())).await;
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("input")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gemini_client_gets_embeddings_of_openai() {
    let body = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1]}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let upstream = Upstream::always(whole(200, "application/json", body)).await;
    let base = format!("{}/v1", upstream.url());
    let gateway = Gateway::start(&[account("o", "openai", &base, "models: [m]")], "").await;
    let content = json!({ "content": { "parts": [{ "text": "a" }] }, "taskType": "RETRIEVAL_QUERY" });
    let one = fetch(&gateway, &Ask::post("/v1beta/models/m:embedContent", content.to_string())).await;
    assert_eq!(one.status, 200, "{}", one.text());
    assert_eq!(one.json(), json!({ "embedding": { "values": [0.5, -1] }, "usageMetadata": { "promptTokenCount": 3 } }));
    assert_eq!(one.header("x-sub2api-loss"), Some("taskType=dropped"));
    let batch = json!({ "requests": [{ "model": "models/m", "content": { "parts": [{ "text": "a" }] } }] });
    let many = fetch(&gateway, &Ask::post("/v1beta/models/m:batchEmbedContents", batch.to_string())).await;
    assert_eq!(many.json()["embeddings"][0]["values"], json!([0.5, -1]), "{}", many.text());
    let strict =
        Ask::post("/v1beta/models/m:embedContent", content.to_string()).header("x-sub2api-translation", "strict");
    let refused = fetch(&gateway, &strict).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("taskType"), "{}", refused.text());
    let seen = upstream.take();
    assert!(seen.iter().all(|seen| seen.path() == "/v1/embeddings"), "{seen:?}");
    let bodies: Vec<Value> = seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    assert_eq!(bodies[0], json!({ "model": "m", "input": "a", "encoding_format": "float" }));
    assert_eq!(bodies[1]["input"], json!(["a"]));
}
