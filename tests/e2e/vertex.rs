//! Gemini and Anthropic on Vertex AI: Google's paths, and tokens traded for a service account's signature.

use crate::{
    client::{Ask, Reply, h1},
    gateway::Gateway,
};
use sub2api::{
    account::health::State,
    config::ServiceAccount,
    mock::{Mock, MockHandle, Options},
};
use tokio::net::TcpListener;

/// Keys that open nothing, made for these tests.
const KEY: &str = include_str!("../support/rsa2048.txt");
const OTHER_KEY: &str = include_str!("../support/rsa2048-other.txt");
const PROJECT: &str = "/v1/projects/my-project/locations/europe-west1";

/// The JSON that Google's console hands out.
fn file(key: &str, token_uri: &str) -> String {
    let kind = "PRIVATE KEY";
    let pem = format!("-----BEGIN {kind}-----\n{key}-----END {kind}-----\n").replace('\n', "\\n");
    format!(
        "{{\"type\": \"service_account\", \"project_id\": \"my-project\", \"private_key_id\": \"k1\", \"private_key\": \
         \"{pem}\", \"client_email\": \"robot@my-project.iam.gserviceaccount.com\", \"client_id\": \"1\", \
         \"token_uri\": \"{token_uri}\", \"universe_domain\": \"googleapis.com\"}}"
    )
}

/// A mock that knows the account by its key.
async fn mock() -> MockHandle {
    let service_accounts = vec![ServiceAccount::parse(&file(KEY, "http://unused")).unwrap()];
    let options = Options { service_accounts, ..Options::default() };
    Mock::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), options).unwrap()
}

fn account(mock: &MockHandle, provider: &str, credentials: &str) -> String {
    format!(
        "  - {{ name: v, provider: {provider}, base_url: \"{}{PROJECT}\", \
         credentials: {{ google_service_account: {credentials} }} }}\n",
        mock.base_url()
    )
}

async fn gateway(mock: &MockHandle, provider: &str) -> Gateway {
    let json = file(KEY, &format!("{}/oauth/token", mock.base_url()));
    Gateway::start(&[account(mock, provider, &json)], "").await
}

async fn ask(gateway: &Gateway, path: &str, body: &str) -> Reply {
    let reply = h1(gateway.address, &Ask::post(path, body.to_owned())).await.unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply
}

/// Path, query and body.
type Called = (String, Vec<(String, String)>, String);

/// Every call, in order.
fn calls(mock: &MockHandle) -> Vec<Called> {
    let entries = mock.log().into_iter().map(|entry| entry.request);
    entries.map(|r| (r.path.clone(), r.query.clone(), String::from_utf8_lossy(&r.body).into_owned())).collect()
}

fn credentials(mock: &MockHandle) -> Vec<(&'static str, String)> {
    mock.log().into_iter().flat_map(|entry| entry.credentials).collect()
}

const CONTENTS: &str =
    r#"{ "contents" : [{"role":"user","parts":[{"text":"hi"}]}], "generationConfig":{"temperature":1.0} }"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_is_called_under_its_project_with_one_token_for_all() {
    let mock = mock().await;
    let gateway = gateway(&mock, "vertex").await;
    let model = "gemini-2.5-flash";
    ask(&gateway, &format!("/v1beta/models/{model}:generateContent"), CONTENTS).await;
    let streamed = ask(&gateway, &format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"), CONTENTS).await;
    assert!(streamed.text().starts_with("data: "), "{}", streamed.text());
    let array = ask(&gateway, &format!("/v1beta/models/{model}:streamGenerateContent"), CONTENTS).await;
    assert!(array.text().trim_start().starts_with('['), "{}", array.text());
    let counted = ask(
        &gateway,
        &format!("/v1beta/models/{model}:countTokens"),
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
    )
    .await;
    assert!(counted.text().contains("totalTokens"), "{}", counted.text());
    let at = |method: &str| format!("{PROJECT}/publishers/google/models/{model}:{method}");
    let calls = calls(&mock);
    let paths: Vec<_> = calls.iter().map(|(path, ..)| path.clone()).collect();
    assert_eq!(
        paths,
        [at("generateContent"), at("streamGenerateContent"), at("streamGenerateContent"), at("countTokens")]
    );
    assert_eq!(calls[1].1, [("alt".to_owned(), "sse".to_owned())]);
    assert!(calls[..3].iter().all(|(_, _, body)| body == CONTENTS), "the client's bytes");
    assert_eq!(credentials(&mock), vec![("bearer", "at-mock-1".to_owned()); 4]);
    assert_eq!(mock.token_requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_without_their_model_and_with_every_other_byte_as_it_came() {
    let mock = mock().await;
    let gateway = gateway(&mock, "vertex-anthropic").await;
    let rest = r#""max_tokens" : 64,"temperature":1.0, "messages":[ {"role":"user","content":"hi \u00e9"}] }"#;
    ask(&gateway, "/v1/messages", &format!(r#"{{ "model":"claude-sonnet-4-5", {rest}"#)).await;
    let streamed = format!(r#"{{"stream":true,"model" : "claude-sonnet-4-5", {rest}"#);
    let reply = ask(&gateway, "/v1/messages?beta=true", &streamed).await;
    assert!(reply.text().ends_with("data: {\"type\":\"message_stop\"}\n\n"), "{}", reply.text());
    let counted = r#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}]}"#;
    ask(&gateway, "/v1/messages/count_tokens", counted).await;
    let version = r#""anthropic_version":"vertex-2023-10-16""#;
    let at = |what: &str| format!("{PROJECT}/publishers/anthropic/models/{what}");
    let expected = [
        (at("claude-sonnet-4-5:rawPredict"), vec![], format!("{{ {version}, {rest}")),
        (at("claude-sonnet-4-5:streamRawPredict"), vec![], format!(r#"{{"stream":true,{version}, {rest}"#)),
        (at("count-tokens:rawPredict"), vec![], counted.replacen('{', &format!("{{{version},"), 1)),
    ];
    assert_eq!(calls(&mock), expected);
    assert_eq!(credentials(&mock), vec![("bearer", "at-mock-1".to_owned()); 3]);
    assert_eq!(mock.token_requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_reaches_both_kinds_of_vertex_whole_and_streamed() {
    for (provider, model) in [("vertex", "gemini-2.5-flash"), ("vertex-anthropic", "claude-sonnet-4-5")] {
        let mock = mock().await;
        let gateway = gateway(&mock, provider).await;
        for stream in [false, true] {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let message = r#"[{"role":"user","content":"hi"}]"#;
            for (path, body) in [
                (
                    "/v1/chat/completions".to_owned(),
                    format!(r#"{{"model":"{model}","stream":{stream},"messages":{message}}}"#),
                ),
                ("/v1/responses".to_owned(), format!(r#"{{"model":"{model}","stream":{stream},"input":"hi"}}"#)),
                (
                    "/v1/messages".to_owned(),
                    format!(r#"{{"model":"{model}","stream":{stream},"max_tokens":64,"messages":{message}}}"#),
                ),
                (format!("/v1beta/models/{model}:{method}"), CONTENTS.to_owned()),
            ] {
                ask(&gateway, &path, &body).await;
            }
        }
        assert_eq!(mock.requests(), 8, "{provider}");
        assert!(mock.log().iter().all(|entry| entry.reject.is_none() && entry.status == 200), "{provider}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_is_read_from_a_file_and_a_key_that_google_does_not_know_suspends_it() {
    let mock = mock().await;
    let path = std::env::temp_dir().join(format!("sub2api-e2e-robot-{}.json", std::process::id()));
    let uri = format!("{}/oauth/token", mock.base_url());
    for (key, is_known) in [(KEY, true), (OTHER_KEY, false)] {
        std::fs::write(&path, file(key, &uri)).unwrap();
        let accounts = [account(&mock, "vertex", &format!("{{ file: \"{}\" }}", path.display()))];
        let gateway = Gateway::start(&accounts, "").await;
        let ask = Ask::post("/v1beta/models/gemini-2.5-flash:generateContent", CONTENTS);
        let reply = h1(gateway.address, &ask).await.unwrap();
        let live = gateway.live();
        let state = live.snapshot().pool.accounts()[0].live.state(live.clock.now());
        if is_known {
            assert_eq!((reply.status, state), (200, State::Ready), "{}", reply.text());
        } else {
            assert_eq!((reply.status, state), (503, State::Suspended), "{}", reply.text());
            assert!(!reply.text().contains("robot") && !reply.text().contains("my-project"), "{}", reply.text());
        }
    }
    let _ = std::fs::remove_file(&path);
}
