//! Every path that clients use reaches the right path of every kind of provider, in both HTTP versions.

use crate::{
    client::{self, Ask, Connection, H2, Reply},
    gateway::{Gateway, account},
    upstream::{Act, Seen, Upstream, stream, whole, with_headers},
};
use serde_json::json;

const CHAT: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;
const MESSAGE: &str = r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#;
const GENERATED: &str =
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"ok"}]},"finishReason":"STOP"}]}"#;

/// What a provider answers to a call, told by the end of its path.
fn answer(seen: &Seen) -> Vec<Act> {
    let path = seen.path().split('?').next().unwrap();
    let json = |body: &str| whole(200, "application/json", body);
    match path.rsplit(['/', ':']).next().unwrap() {
        "completions" => json(CHAT),
        "responses" => json(r#"{"id":"r","object":"response","status":"completed","output":[]}"#),
        "input_tokens" => json(r#"{"object":"response.input_tokens","input_tokens":3}"#),
        "compact" => json(r#"{"id":"r","object":"response.compaction","output":[]}"#),
        "messages" => json(MESSAGE),
        "count_tokens" => json(r#"{"input_tokens":3}"#),
        "generateContent" => json(GENERATED),
        "streamGenerateContent" if seen.path().contains("alt=sse") => stream(&[format!("data: {GENERATED}\r\n\r\n")]),
        "streamGenerateContent" => json(&format!("[{GENERATED}\r\n]")),
        "countTokens" => json(r#"{"totalTokens":3}"#),
        "embedContent" => json(r#"{"embedding":{"values":[0.5]}}"#),
        "batchEmbedContents" => json(r#"{"embeddings":[{"values":[0.5]}]}"#),
        "embeddings" => json(
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AAAAPw=="}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
        ),
        "moderations" => json(r#"{"id":"m","model":"m","results":[]}"#),
        "rerank" => json(r#"{"results":[{"index":0,"relevance_score":0.5}]}"#),
        "generations" | "edits" | "variations" => json(r#"{"created":1,"data":[{"b64_json":"AAAA"}]}"#),
        "speech" => with_headers(200, &[("content-type", "audio/mpeg")], speech()),
        "transcriptions" | "translations" => json(r#"{"text":"hello"}"#),
        other => panic!("the provider was asked for {other}: {}", seen.head),
    }
}

/// Bytes that are no text in any encoding.
fn speech() -> Vec<u8> {
    (0..70_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A form with a file, as browsers and SDKs write it; the model's name stands where `model` says.
fn form(model: &str) -> Vec<u8> {
    let mut body = b"--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n".to_vec();
    body.extend_from_slice(&speech()[..5_000]);
    body.extend_from_slice(b"\r\n--xYz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n");
    body.extend_from_slice(model.as_bytes());
    body.extend_from_slice(b"\r\n--xYz\r\nContent-Disposition: form-data; name=\"language\"\r\n\r\nen\r\n--xYz--\r\n");
    body
}

/// The kinds of providers: name of the account, which is also its clients' name for a model, the provider, what its base
/// URL has behind the host, and what is to stand before an OpenAI-like call at the provider.
const OPENAI_LIKE: [(&str, &str, &str, &str); 13] = [
    ("k-openai", "openai", "/v1", "/v1"),
    ("k-openai-bare", "openai", "", "/v1"),
    ("k-compatible", "openai-compatible", "", "/v1"),
    ("k-prefixed", "openai-compatible", "/gateway/v3/openai", "/gateway/v3/openai"),
    ("k-doubled", "openai-compatible", "/v1/v1/", "/v1"),
    ("k-groq", "groq", "", "/openai/v1"),
    ("k-openrouter", "openrouter", "", "/api/v1"),
    ("k-zai", "zai", "", "/api/paas/v4"),
    ("k-fireworks", "fireworks", "", "/inference/v1"),
    ("k-perplexity", "perplexity", "", ""),
    ("k-deepseek", "deepseek", "", "/v1"),
    ("k-vllm", "vllm", "", "/v1"),
    ("k-azure-v1", "azure-openai", "/openai/v1", "/openai/v1"),
];

async fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::start(|_, seen| answer(seen)).await;
    let url = |path: &str| format!("{}{path}", upstream.url());
    let renamed = |name: &str, upstream: &str| format!("models: [{{ name: \"{name}\", upstream: \"{upstream}\" }}]");
    let mut accounts: Vec<String> = OPENAI_LIKE
        .iter()
        .map(|(name, provider, path, _)| account(name, provider, &url(path), &renamed(name, "upstream-name")))
        .collect();
    let azure = [("azure-resource", ""), ("azure-deployment", "/openai/deployments/mine?api-version=2024-06-01")];
    accounts.extend(azure.map(|(name, path)| {
        account(name, "azure-openai", &url(path), &renamed(&format!("k-{name}"), "upstream/name"))
    }));
    let google = "models: [ \"gem-*\", \"tunedModels/*\", { name: k-gemini, upstream: upstream-name } ]";
    accounts.push(account("google", "gemini", &url(""), google));
    accounts.push(account("google-prefixed", "gemini", &url("/proxy/v1beta"), &renamed("k-gemini-p", "upstream-name")));
    accounts.push(account("claude", "anthropic", &url(""), &renamed("k-claude", "upstream-name")));
    accounts.push(account("claude-v1", "anthropic", &url("/v1/"), &renamed("k-claude-v1", "upstream-name")));
    accounts.push(account("claude-p", "anthropic", &url("/anthropic"), &renamed("k-claude-p", "upstream-name")));
    let messages = format!("formats: [anthropic], {}", renamed("k-messages", "upstream-name"));
    accounts.push(account("messages", "openai-compatible", &url("/api/v1"), &messages));
    (Gateway::start(&accounts, "").await, upstream)
}

/// One call: what clients append to their base URL, the body with `MODEL` in it, and what the provider appends.
struct Row {
    call: &'static str,
    body: &'static str,
    form: bool,
}

const fn row(call: &'static str, body: &'static str) -> Row {
    Row { call, body, form: false }
}

const OPENAI_CALLS: [Row; 14] = [
    row("chat/completions", r#"{"model":"MODEL","messages":[]}"#),
    row("responses", r#"{"input":"x","model":"MODEL"}"#),
    row("responses/input_tokens", r#"{"model":"MODEL","input":"x"}"#),
    row("responses/compact", r#"{"model":"MODEL","input":[]}"#),
    row("completions", r#"{"prompt":"x", "model": "MODEL"}"#),
    row("embeddings", r#"{"model":"MODEL","input":["x"],"encoding_format":"base64"}"#),
    row("moderations", r#"{"input":"x","model":"MODEL"}"#),
    row("rerank", r#"{"model":"MODEL","query":"x","documents":["y"]}"#),
    row("images/generations", r#"{"prompt":"x","model":"MODEL"}"#),
    Row { call: "images/edits", body: "", form: true },
    Row { call: "images/variations", body: "", form: true },
    row("audio/speech", r#"{"model":"MODEL","input":"x","voice":"v"}"#),
    Row { call: "audio/transcriptions", body: "", form: true },
    Row { call: "audio/translations", body: "", form: true },
];

fn speaks_responses(provider: &str) -> bool {
    ["openai", "azure-openai", "groq", "openrouter", "fireworks"].contains(&provider)
}

/// The calls that a provider of the table has not, by its own documentation.
fn is_absent(provider: &str, call: &str) -> bool {
    let kind = call.split('/').next().unwrap();
    let absent: &[&str] = match provider {
        "openai" => &["rerank"],
        "azure-openai" => &["rerank", "moderations"],
        "groq" => &["embeddings", "completions", "moderations", "images", "rerank"],
        "openrouter" => &["moderations"],
        "zai" => &["completions", "moderations"],
        "fireworks" => &["moderations"],
        "perplexity" => &["completions", "moderations", "images", "audio", "rerank"],
        "deepseek" => &["embeddings", "moderations", "images", "audio", "rerank"],
        "vllm" => &["moderations"],
        "openai-compatible" => &[],
        other => panic!("{other}"),
    };
    absent.contains(&kind)
}

fn ask(path: &str, row: &Row, model: &str) -> Ask {
    match row.form {
        true => Ask::post(path, form(model)).header("content-type", "multipart/form-data; boundary=xYz"),
        false => Ask::post(path, row.body.replace("MODEL", model)),
    }
}

/// Both HTTP versions on connections that are kept.
struct Clients {
    gateway: Gateway,
    h1: Connection,
    h2: H2,
}

impl Clients {
    async fn of(gateway: Gateway) -> Clients {
        let h1 = Connection::open(gateway.address).await.unwrap();
        let h2 = H2::open(gateway.address).await.unwrap();
        Clients { gateway, h1, h2 }
    }

    async fn both(&mut self, ask: &Ask) -> [Reply; 2] {
        self.h1.send(ask).await.unwrap();
        let first = self.h1.receive().await.unwrap();
        if first.header("connection") == Some("close") {
            self.h1 = Connection::open(self.gateway.address).await.unwrap();
        }
        [first, self.h2.ask(ask).await.unwrap()]
    }
}

/// What may stand before a call: a prefix, and a version or none.
fn beginnings() -> impl Iterator<Item = String> {
    let prefixes = ["", "/openai", "/anthropic", "/gemini"];
    prefixes.into_iter().flat_map(|prefix| ["/v1/", "/"].map(|version| format!("{prefix}{version}")))
}

/// Sends a request both ways, and checks the provider's path and the model's place in the body.
async fn arrives(clients: &mut Clients, upstream: &Upstream, ask: &Ask, path: &str, body: &[u8]) -> [Reply; 2] {
    let replies = clients.both(ask).await;
    for reply in &replies {
        assert_eq!(reply.status, 200, "{} to {path}: {}", ask.path, reply.text());
    }
    let seen = upstream.take();
    assert_eq!(seen.len(), 2, "{}", ask.path);
    for request in seen {
        let key =
            ["authorization", "x-api-key", "x-goog-api-key", "api-key"].iter().filter_map(|name| request.header(name));
        let keys = key.collect::<Vec<_>>();
        assert!(matches!(keys[..], [key] if key.contains("sk-upstream-")), "{}: {keys:?}", ask.path);
        assert_eq!(request.path(), path, "{}", ask.path);
        assert!(request.body == body, "{}: {}", ask.path, String::from_utf8_lossy(&request.body));
    }
    replies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_openai_call_reaches_its_path_at_every_openai_like_provider() {
    let (gateway, upstream) = start().await;
    let mut clients = Clients::of(gateway).await;
    let mut reached = 0;
    for row in &OPENAI_CALLS {
        for (name, provider, _, at_provider) in OPENAI_LIKE {
            if row.call.starts_with("responses") && !speaks_responses(provider) {
                // Those are translated, which other tests look at.
                continue;
            }
            if is_absent(provider, row.call) {
                let reply = client::h1(clients.gateway.address, &ask(&format!("/v1/{}", row.call), row, name)).await;
                // A call that generates is said in a format that the account speaks; no other call has such a way.
                if row.call != "responses" {
                    assert_eq!(reply.unwrap().status, 404, "{name} {}", row.call);
                }
                upstream.take();
                continue;
            }
            let path = format!("{at_provider}/{}", row.call);
            let arrived = ask("", row, "upstream-name").body;
            // All beginnings for the first provider, one in turn for the others.
            for (at, beginning) in beginnings().enumerate() {
                if name != "k-openai" && at != reached % 8 {
                    continue;
                }
                let replies = arrives(
                    &mut clients,
                    &upstream,
                    &ask(&format!("{beginning}{}", row.call), row, name),
                    &path,
                    &arrived,
                )
                .await;
                if row.call == "audio/speech" {
                    assert!(replies.iter().all(|reply| reply.body == speech()));
                    assert!(replies.iter().all(|reply| reply.header("content-type") == Some("audio/mpeg")));
                }
            }
            reached += 1;
        }
    }
    assert!(reached > 100, "{reached}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_gets_deployments_and_versions() {
    let (gateway, upstream) = start().await;
    let mut clients = Clients::of(gateway).await;
    for row in OPENAI_CALLS.iter().filter(|row| !is_absent("azure-openai", row.call)) {
        let arrived = ask("", row, "upstream/name").body;
        let is_responses = row.call.starts_with("responses");
        let resource = match is_responses {
            true => format!("/openai/{}?api-version=2025-04-01-preview", row.call),
            false => format!("/openai/deployments/upstream%2Fname/{}?api-version=2024-10-21", row.call),
        };
        let deployment = format!("/openai/deployments/mine/{}?api-version=2024-06-01", row.call);
        for (name, path) in [("k-azure-resource", resource), ("k-azure-deployment", deployment)] {
            for beginning in ["/openai/v1/", "/v1/", "/"] {
                // An Azure client sends a version of its own; the account's is the one that holds.
                let query = "?api-version=1999-01-01";
                let ask = ask(&format!("{beginning}{}{query}", row.call), row, name).header("api-key", "sk-test");
                arrives(&mut clients, &upstream, &ask.without("authorization"), &path, &arrived).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropics_calls_reach_their_paths() {
    let (gateway, upstream) = start().await;
    let mut clients = Clients::of(gateway).await;
    let providers =
        [("k-claude", "/v1"), ("k-claude-v1", "/v1"), ("k-claude-p", "/anthropic/v1"), ("k-messages", "/api/v1")];
    for call in ["messages", "messages/count_tokens"] {
        for (name, at_provider) in providers {
            let body = |model: &str| format!("{{\"max_tokens\":9,\"messages\":[],\"model\":\"{model}\"}}");
            for beginning in beginnings() {
                let ask = Ask::post(&format!("{beginning}{call}?beta=true&key=sk-test"), body(name));
                let path = format!("{at_provider}/{call}?beta=true");
                arrives(&mut clients, &upstream, &ask, &path, body("upstream-name").as_bytes()).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn geminis_calls_reach_their_paths_in_the_clients_version() {
    let (gateway, upstream) = start().await;
    let mut clients = Clients::of(gateway).await;
    let named = |model: &str| json!({ "model": format!("models/{model}"), "content": {} }).to_string();
    let batch = |model: &str| json!({ "requests": [{ "model": format!("models/{model}") }] }).to_string();
    let plain = |_: &str| r#"{"contents":[]}"#.to_owned();
    type Body<'a> = &'a (dyn Fn(&str) -> String + Sync);
    let calls: [(&str, Body<'_>); 5] = [
        ("generateContent", &plain),
        ("streamGenerateContent", &plain),
        ("countTokens", &plain),
        ("embedContent", &named),
        ("batchEmbedContents", &batch),
    ];
    let versions = [("/v1beta/", "v1beta"), ("/v1/", "v1"), ("/v1alpha/", "v1alpha"), ("/", "v1beta")];
    for (call, body) in calls {
        for (segment, version) in versions {
            for prefix in ["", "/openai", "/anthropic", "/gemini"] {
                for (asked, model, at_provider) in [
                    ("models/k-gemini", "upstream-name", "models/upstream-name"),
                    ("models/gem-2.5-x", "gem-2.5-x", "models/gem-2.5-x"),
                    ("models/gem-a%2Fb", "gem-a/b", "models/gem-a%2Fb"),
                    ("tunedModels/mine", "tunedModels/mine", "tunedModels/mine"),
                ] {
                    let path = format!("/{version}/{at_provider}:{call}");
                    let client_path = format!("{prefix}{segment}{asked}:{call}");
                    // The body names the model as the path does, but not encoded.
                    let sent = body(if asked == "models/k-gemini" { "k-gemini" } else { model });
                    let arrived = body(model);
                    let ask = Ask::post(&format!("{client_path}?key=sk-test"), sent).without("authorization");
                    let replies = arrives(&mut clients, &upstream, &ask, &path, arrived.as_bytes()).await;
                    if call == "streamGenerateContent" {
                        assert!(replies.iter().all(|reply| reply.text() == format!("[{GENERATED}\r\n]")));
                    }
                }
            }
        }
    }
    let path = "/v1beta/models/upstream-name:streamGenerateContent?alt=sse&%24fields=x";
    let ask = Ask::post("/v1beta/models/k-gemini:streamGenerateContent?%24fields=x&key=sk-test&alt=sse", "{}");
    let replies = arrives(&mut clients, &upstream, &ask, path, b"{}").await;
    assert!(replies.iter().all(|reply| reply.text() == format!("data: {GENERATED}\r\n\r\n")));
    let ask = Ask::post("/v1/models/k-gemini-p:generateContent", "{}");
    arrives(&mut clients, &upstream, &ask, "/proxy/v1/models/upstream-name:generateContent", b"{}").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_need_no_model_are_served_without_one() {
    let (gateway, upstream) = start().await;
    let mut clients = Clients::of(gateway).await;
    for (call, body) in [
        ("moderations", r#"{"input":"x"}"#),
        ("images/generations", r#"{"prompt":"x"}"#),
        ("responses", r#"{"prompt":{"id":"pmpt_1"}}"#),
    ] {
        let ask = Ask::post(&format!("/v1/{call}"), body);
        let replies = clients.both(&ask).await;
        assert!(replies.iter().all(|reply| reply.status == 200), "{call}: {}", replies[0].text());
    }
    assert!(upstream.seen().iter().all(|seen| !String::from_utf8_lossy(&seen.body).contains("model")));
    let refused = clients.both(&Ask::post("/v1/audio/speech", r#"{"input":"x"}"#)).await;
    assert!(refused.iter().all(|reply| reply.status == 400 && reply.json()["error"]["param"] == "model"));
}
