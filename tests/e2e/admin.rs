//! The admin listener as the operator and the SRE use it.

use crate::{
    client::{self, Ask, Reply},
    failover::good,
    formats::Format::Anthropic,
    gateway::{Gateway, account, free_port},
    upstream::{Upstream, whole},
};
use std::net::SocketAddr;

const KEY: &str = "admin-key-of-the-tests";

/// A gateway with one account, and the address of its admin listener.
async fn gateway(upstream: &Upstream) -> (Gateway, SocketAddr) {
    let admin: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let account = account("alpha", "anthropic", &format!("http://{}", upstream.address), "limits: { concurrency: 7 }");
    let gateway = Gateway::start(&[account], &format!("admin: {{ listen: \"{admin}\", key: {KEY} }}\n")).await;
    (gateway, admin)
}

async fn ask(admin: SocketAddr, path: &str) -> Reply {
    let request = Ask::get(path).header("authorization", &format!("Bearer {KEY}"));
    client::h1(admin, &request).await.unwrap()
}

async fn message(gateway: &Gateway) -> Reply {
    let body = r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    client::h1(gateway.address, &Ask::post("/v1/messages", body)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_admin_key_opens_the_admin_listener() {
    let upstream = Upstream::start(|_, _| good(Anthropic)).await;
    let (_gateway, admin) = gateway(&upstream).await;
    for path in ["/metrics", "/api/v1/accounts", "/api/v1/status", "/api/v1/failures", "/nowhere"] {
        for key in ["", "Bearer sk-test", "Bearer ", "Basic YWRtaW4="] {
            let reply = client::h1(admin, &Ask::get(path).header("authorization", key)).await.unwrap();
            assert_eq!(reply.status, 401, "{path} {key:?}");
        }
    }
    assert_eq!(client::h1(admin, &Ask::get("/livez").without("authorization")).await.unwrap().status, 200);
    assert_eq!(ask(admin, "/nowhere").await.status, 404);
    assert_eq!(ask(admin, "/api/v1/reload").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_show_their_state_and_metrics_count_what_happened() {
    let upstream = Upstream::start(|n, _| match n {
        0 => good(Anthropic),
        _ => whole(429, "application/json", r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#),
    })
    .await;
    let (gateway, admin) = gateway(&upstream).await;
    assert_eq!(message(&gateway).await.status, 200);
    assert_eq!(message(&gateway).await.status, 429);
    assert!(gateway.left_over().await.is_empty());
    let accounts = ask(admin, "/api/v1/accounts").await.json();
    let alpha = &accounts["accounts"][0];
    assert_eq!((alpha["name"].as_str(), alpha["state"].as_str()), (Some("alpha"), Some("cooling")));
    assert!(alpha["seconds_left"].as_f64().unwrap() > 0.0 && alpha["concurrency"] == 7);
    assert_eq!(ask(admin, "/api/v1/accounts/alpha").await.json()["name"], "alpha");
    assert_eq!(ask(admin, "/api/v1/accounts/beta").await.status, 404);
    let metrics = ask(admin, "/metrics").await.text();
    for line in [
        "sub2api_attempts_total{account=\"alpha\",provider=\"anthropic\",result=\"ok\"} 1",
        "sub2api_attempts_total{account=\"alpha\",provider=\"anthropic\",result=\"rate\"} 1",
        "sub2api_account_state{account=\"alpha\",state=\"cooling\"} 1",
        "sub2api_overhead_seconds_count{phase=\"request\"}",
        "status=\"429\",outcome=\"refused\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    let failures = ask(admin, "/api/v1/failures?limit=5").await.json();
    assert_eq!(
        (&failures["failures"][0]["class"], &failures["failures"][0]["account"]),
        (&"rate".into(), &"alpha".into())
    );
    assert!(!metrics.contains("sk-upstream") && !accounts.to_string().contains("sk-upstream"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_a_file_says_that_it_cannot_reload() {
    let upstream = Upstream::start(|_, _| good(Anthropic)).await;
    let (_gateway, admin) = gateway(&upstream).await;
    let request = Ask::post("/api/v1/reload", "").header("authorization", &format!("Bearer {KEY}"));
    let reply = client::h1(admin, &request).await.unwrap();
    assert_eq!(reply.status, 409, "{}", reply.text());
}
