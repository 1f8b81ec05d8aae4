//! The admin listener as the operator and the SRE use it, and what it answers beside what its OpenAPI document says.

use crate::{
    client::{self, Ask, Reply},
    failover::good,
    formats::Format::Anthropic,
    gateway::{Gateway, account, free_port},
    upstream::{Upstream, whole, with_headers},
};
use serde_json::Value;
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
    for path in [
        "/metrics",
        "/api/v1/accounts",
        "/api/v1/status",
        "/api/v1/failures",
        "/api/v1/usage",
        "/api/v1/limits",
        "/api/v1/keys",
        "/api/v1/explain?model=m",
        "/openapi.json",
        "/nowhere",
    ] {
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

async fn order(admin: SocketAddr, path: &str) -> Reply {
    let request = Ask::post(path, "").header("authorization", &format!("Bearer {KEY}"));
    client::h1(admin, &request).await.unwrap()
}

/// What in an answer is not as its schema says, as far as this document's schemas go.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/components/schemas/")) {
        return faults(document, &document["components"]["schemas"][name], value, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = any.iter().any(|schema| faults(document, schema, value, at).is_empty());
        return if fits { Vec::new() } else { vec![format!("{at}: none of anyOf")] };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let is = |kind: &&str| match *kind {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{at}: the document has a type {other}"),
    };
    if !kinds.iter().any(is) {
        return vec![format!("{at}: {value} is not {kinds:?}")];
    }
    let mut found = Vec::new();
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        found.push(format!("{at}: {value} is not among {allowed:?}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(faults(document, &schema["items"], item, &format!("{at}[{index}]")));
    }
    let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else { return found };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            found.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in object {
        match properties.get(name) {
            Some(schema) => found.extend(faults(document, schema, value, &format!("{at}.{name}"))),
            None => found.push(format!("{at}.{name}: not in the document")),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_the_document_says() {
    let upstream = Upstream::start(|n, _| match n {
        0 => good(Anthropic),
        _ => with_headers(
            429,
            &[
                ("content-type", "application/json"),
                ("retry-after", "9"),
                ("anthropic-ratelimit-requests-limit", "50"),
                ("anthropic-ratelimit-requests-remaining", "0"),
            ],
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#,
        ),
    })
    .await;
    let (gateway, admin) = gateway(&upstream).await;
    assert_eq!(message(&gateway).await.status, 200);
    let refused = message(&gateway).await;
    assert_eq!(refused.status, 429);
    assert!(gateway.left_over().await.is_empty());
    let document = ask(admin, "/openapi.json").await.json();
    let id = refused.header("x-request-id").unwrap().to_owned();
    let explained = format!("/api/v1/explain?request={id}");
    let asked = [
        ("/api/v1/status", "Status"),
        ("/api/v1/accounts", "Accounts"),
        ("/api/v1/accounts/alpha", "Account"),
        (explained.as_str(), "Explanation"),
        ("/api/v1/explain?model=claude-x&call=messages", "Explanation"),
        ("/api/v1/failures", "Failures"),
        ("/api/v1/usage", "Usage"),
        ("/api/v1/usage?by=hour", "Usage"),
        ("/api/v1/usage?by=user,key,account,provider,call,model,served,day", "Usage"),
        ("/api/v1/usage/attempts", "Attempts"),
        ("/api/v1/limits", "Limits"),
        ("/api/v1/keys", "Keys"),
    ];
    for (path, schema) in asked {
        let reply = ask(admin, path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let schema = serde_json::json!({ "$ref": format!("#/components/schemas/{schema}") });
        assert_eq!(faults(&document, &schema, &reply.json(), path), Vec::<String>::new());
        assert!(!reply.text().contains("sk-"), "{path} shows a key");
    }
    for (path, status) in
        [("/api/v1/usage?by=nothing", 400), ("/api/v1/explain", 400), ("/api/v1/explain?request=x", 404)]
    {
        let reply = ask(admin, path).await;
        assert_eq!(reply.status, status, "{path}");
        let schema = serde_json::json!({ "$ref": "#/components/schemas/Error" });
        assert_eq!(faults(&document, &schema, &reply.json(), path), Vec::<String>::new());
    }
    let done = order(admin, "/api/v1/accounts/alpha/clear").await;
    let schema = serde_json::json!({ "$ref": "#/components/schemas/Operated" });
    assert_eq!(faults(&document, &schema, &done.json(), "clear"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_asked_for_by_groups_pages_and_as_csv() {
    let upstream = Upstream::start(|_, _| good(Anthropic)).await;
    let (gateway, admin) = gateway(&upstream).await;
    for _ in 0..3 {
        assert_eq!(message(&gateway).await.status, 200);
    }
    assert!(gateway.left_over().await.is_empty());
    let rows = ask(admin, "/api/v1/usage?by=user,account").await.json();
    let row = &rows["rows"][0];
    assert_eq!((&row["user"], &row["account"], &row["requests"]), (&"tester".into(), &"alpha".into(), &3.into()));
    let none = ask(admin, "/api/v1/usage?by=user&account=beta").await.json();
    assert_eq!(none["rows"], serde_json::json!([]));
    let first = ask(admin, "/api/v1/usage/attempts?limit=2").await.json();
    assert_eq!((first["rows"].as_array().unwrap().len(), &first["next"]), (2, &2.into()));
    let last = ask(admin, "/api/v1/usage/attempts?limit=2&skip=2").await.json();
    assert_eq!((last["rows"].as_array().unwrap().len(), last.get("next")), (1, None));
    let csv = ask(admin, "/api/v1/usage?by=user&format=csv").await;
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"), "{:?}", csv.headers);
    assert!(
        csv.text().starts_with("user,requests,attempts,") && csv.text().contains("\ntester,3,3,"),
        "{}",
        csv.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_taken_out_and_in_by_hand_and_its_choices_are_explained() {
    let upstream = Upstream::start(|_, _| good(Anthropic)).await;
    let (gateway, admin) = gateway(&upstream).await;
    assert_eq!(order(admin, "/api/v1/accounts/alpha/suspend").await.json()["state"], "suspended");
    let refused = message(&gateway).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let dry = ask(admin, "/api/v1/explain?model=claude-x&call=messages").await.json();
    let way = &dry["choices"][0]["candidates"][0];
    assert_eq!((&dry["choices"][0]["account"], &way["reason"]), (&Value::Null, &"not well".into()));
    let account = ask(admin, "/api/v1/accounts/alpha").await.json();
    assert!(account["reason"].as_str().unwrap().contains("by hand"), "{account}");
    assert_eq!(order(admin, "/api/v1/accounts/alpha/probe").await.json()["state"], "probing");
    let served = message(&gateway).await;
    assert_eq!(served.status, 200, "{}", served.text());
    let id = served.header("x-request-id").unwrap();
    // What came of a request is kept once it has ended, a moment after the client has its answer.
    assert!(gateway.left_over().await.is_empty());
    let past = ask(admin, &format!("/api/v1/explain?request={id}")).await.json();
    let choice = &past["choices"][0];
    assert_eq!((&choice["account"], &choice["candidates"][0]["chosen"]), (&"alpha".into(), &true.into()));
    assert_eq!(ask(admin, "/api/v1/accounts/alpha").await.json()["state"], "ready");
    assert_eq!(order(admin, "/api/v1/accounts/alpha/bless").await.status, 404);
    assert_eq!(order(admin, "/api/v1/accounts/beta/clear").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_without_a_key_and_may_load_nothing_from_elsewhere() {
    let upstream = Upstream::start(|_, _| good(Anthropic)).await;
    let (_gateway, admin) = gateway(&upstream).await;
    for (path, kind) in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let reply = client::h1(admin, &Ask::get(path).without("authorization")).await.unwrap();
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.header("content-type").unwrap().starts_with(kind), "{path}");
        assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{path}");
        assert!(!reply.text().contains("//cdn") && !reply.text().contains("alpha"), "{path}");
    }
}
