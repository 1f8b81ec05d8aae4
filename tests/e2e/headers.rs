//! Headers in both directions: what a provider sees of a client, what a client sees of a provider, and the request id.

use crate::{
    client::{Ask, Connection, H2, Reply, h1, h2},
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, end, whole, with_headers},
    upstream_h2,
};
use std::collections::BTreeSet;

const CHAT_REPLY: &str =
    r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;
const CHAT: &str = r#"{"model":"m","messages":[]}"#;

/// A call of each provider, with the header in which its key belongs.
const CALLS: [(&str, &str, &str, &str); 4] = [
    ("openai", "/v1/chat/completions", r#"{"model":"m-openai","messages":[]}"#, "authorization"),
    ("anthropic", "/v1/messages", r#"{"model":"m-anthropic","max_tokens":1,"messages":[]}"#, "x-api-key"),
    ("gemini", "/v1beta/models/m-gemini:generateContent", r#"{"contents":[]}"#, "x-goog-api-key"),
    ("azure-openai", "/v1/embeddings", r#"{"model":"m-azure-openai","input":"x"}"#, "api-key"),
];

fn reply_to(path: &str) -> &'static str {
    match path {
        p if p.contains("messages") => {
            r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn"}"#
        }
        p if p.contains("generateContent") => {
            r#"{"candidates":[{"content":{"parts":[{"text":"ok"}]},"finishReason":"STOP"}]}"#
        }
        p if p.contains("embeddings") => r#"{"object":"list","data":[]}"#,
        _ => CHAT_REPLY,
    }
}

/// An account of each provider at this upstream.
fn accounts(url: &str, more: &str) -> Vec<String> {
    CALLS.iter().map(|(kind, ..)| account(kind, kind, url, &format!("models: [m-{kind}]{more}"))).collect()
}

async fn both(gateway: &Gateway, ask: &Ask) -> [Reply; 2] {
    [h1(gateway.address, ask).await.unwrap(), h2(gateway.address, ask).await.unwrap()]
}

/// A request that says everything about its client that it can.
fn talkative(path: &str, body: &str) -> Ask {
    let mut ask = Ask::post(path, body.to_owned());
    for (name, value) in [
        ("cookie", "session=leak-cookie"),
        ("proxy-authorization", "Basic leak-proxy"),
        ("forwarded", "for=leak-forwarded"),
        ("x-forwarded-for", "leak-10.1.2.3"),
        ("x-forwarded-host", "leak-host"),
        ("x-real-ip", "leak-10.1.2.3"),
        ("cf-connecting-ip", "leak-10.1.2.3"),
        ("via", "1.1 leak-via"),
        ("openai-organization", "leak-org"),
        ("openai-project", "leak-project"),
        ("x-goog-user-project", "leak-project"),
        ("anthropic-organization-id", "leak-org"),
        ("origin", "https://leak-origin"),
        ("x-internal", "leak-internal"),
        ("accept-encoding", "gzip, br"),
        ("user-agent", "a-client/1.0"),
        ("accept", "application/json"),
        ("anthropic-beta", "a-beta"),
        ("openai-beta", "b-beta"),
        ("x-stainless-lang", "rust"),
        ("x-goog-api-client", "genai/1"),
        ("x-session-id", "s-1"),
    ] {
        ask = ask.header(name, value);
    }
    ask
}

const PASSED: [&str; 8] = [
    "accept",
    "anthropic-beta",
    "content-type",
    "openai-beta",
    "user-agent",
    "x-goog-api-client",
    "x-session-id",
    "x-stainless-lang",
];

fn names(head: &str) -> BTreeSet<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.map(|(name, _)| name.to_ascii_lowercase()).collect()
}

/// Checks the head of a request at the provider.
fn check_head(head: &str, kind: &str, credential: &str) {
    assert!(!head.contains("leak-") && !head.contains("sk-test") && !head.contains("sk-other"), "{kind}: {head}");
    let mut expected: BTreeSet<String> = PASSED.iter().map(|name| (*name).to_owned()).collect();
    expected.extend([credential, "host", "content-length", "x-request-id"].map(str::to_owned));
    if kind == "anthropic" {
        expected.insert("anthropic-version".to_owned());
    }
    assert_eq!(names(head), expected, "{kind}: {head}");
    let key = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{credential}:"))).unwrap();
    assert!(key.ends_with(&format!("sk-upstream-{kind}")), "{key}");
}

/// Tells the status of a provider's error, whatever the client gets for it.
const UPSTREAM_STATUS: &str = "x-sub2api-upstream-status";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_sees_of_a_client_what_the_list_allows_and_never_its_key() {
    let over_h1 = Upstream::start(|_, seen| whole(200, "application/json", reply_to(seen.path()))).await;
    let gateway = Gateway::start(&accounts(&over_h1.url(), ""), "").await;
    for (kind, path, body, credential) in CALLS {
        // The caller's key in one place, something else in all the others, and in the query too.
        for place in ["authorization", "x-api-key", "x-goog-api-key", "api-key", "query"] {
            if place == "query" && kind != "gemini" {
                continue;
            }
            let path = format!("{path}?key=sk-test&x=1");
            let mut ask = talkative(&path, body).without("authorization");
            ask = match place {
                "authorization" => ["x-api-key", "x-goog-api-key", "api-key"]
                    .iter()
                    .fold(ask.header(place, "Bearer sk-test"), |ask, name| ask.header(name, "sk-other")),
                "query" => ask,
                place => ask.header(place, "sk-test"),
            };
            for reply in both(&gateway, &ask).await {
                assert_eq!(reply.status, 200, "{kind} {place}: {}", reply.text());
            }
            for seen in over_h1.take() {
                check_head(&seen.head, kind, credential);
                assert!(seen.path().ends_with("x=1") && !seen.path().contains("key="), "{}", seen.path());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_provider_sees_no_more() {
    for (kind, path, body, credential) in CALLS {
        let answer = upstream_h2::Answer::new(200, "application/json", &[reply_to(path)]);
        let upstream = upstream_h2::Upstream::always(answer).await;
        let gateway = Gateway::start(&accounts(&upstream.url(), ", http2: always"), "").await;
        let ask = talkative(path, body).header("x-api-key", "sk-other");
        for reply in both(&gateway, &ask).await {
            assert_eq!(reply.status, 200, "{kind}: {}", reply.text());
        }
        for seen in upstream.seen() {
            check_head(&seen.head, kind, credential);
            assert_eq!(seen.header("host"), Some(upstream.address.to_string().as_str()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_one_connection_stays_there() {
    let upstream = Upstream::always(whole(200, "application/json", CHAT_REPLY)).await;
    let gateway = Gateway::start(&[account("only", "openai", &upstream.url(), "")], "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: leak-host.test\r\nauthorization: Bearer sk-test\r\n\
         connection: keep-alive, x-hop\r\nkeep-alive: timeout=leak-5\r\nx-hop: leak-hop\r\nte: trailers, leak-te\r\n\
         trailer: leak-trailer\r\nproxy-connection: leak-proxy\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    connection.raw(head.as_bytes()).await.unwrap();
    let reply = connection.receive().await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = &upstream.seen()[0];
    assert!(!seen.head.contains("leak-"), "{}", seen.head);
    assert_eq!(seen.header("host"), Some(upstream.address.to_string().as_str()));
    for name in ["keep-alive", "te", "trailer", "x-hop", "proxy-connection", "upgrade", "transfer-encoding"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lists_are_the_operators() {
    let headers = [("content-type", "application/json"), ("x-ratelimit-limit-requests", "9"), ("x-private", "1")];
    let upstream = Upstream::always(with_headers(200, &headers, CHAT_REPLY)).await;
    let accounts = [account("only", "openai", &upstream.url(), "headers: { x-from-the-operator: \"1\" }")];
    let ask = Ask::post("/v1/chat/completions", CHAT)
        .header("user-agent", "a-client/1.0")
        .header("x-team-a", "1")
        .header("x-team-b", "2")
        .header("openai-organization", "org-mine");
    let more =
        "headers: { request: [default, \"x-team-*\", openai-organization], response: [default, \"x-ratelimit-*\"] }\n";
    let gateway = Gateway::start(&accounts, more).await;
    for reply in both(&gateway, &ask).await {
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("9"));
        assert_eq!(reply.header("x-private"), None);
    }
    for seen in upstream.take() {
        let got = ["user-agent", "x-team-a", "x-team-b", "openai-organization", "x-from-the-operator"];
        assert!(got.iter().all(|name| seen.header(name).is_some()), "{}", seen.head);
    }
    let gateway = Gateway::start(&accounts, "headers: { request: [x-team-a], response: [] }\n").await;
    for reply in both(&gateway, &ask).await {
        assert_eq!(reply.header("x-ratelimit-limit-requests"), None);
        assert_eq!(reply.header("content-type"), Some("application/json"), "the body's own headers always pass");
    }
    for seen in upstream.take() {
        assert!(seen.header("user-agent").is_none() && seen.header("x-team-b").is_none(), "{}", seen.head);
        assert!(seen.header("x-team-a").is_some(), "{}", seen.head);
    }
}

/// What a provider says about itself, its account and the connection.
const PRIVATE: [(&str, &str); 20] = [
    ("server", "leak-server"),
    ("via", "1.1 leak-via"),
    ("set-cookie", "leak=1"),
    ("alt-svc", "h3=\"leak:443\""),
    ("cf-ray", "leak-ray"),
    ("x-envoy-upstream-service-time", "leak-12"),
    ("x-powered-by", "leak"),
    ("openai-organization", "leak-org"),
    ("openai-project", "leak-project"),
    ("anthropic-organization-id", "leak-org"),
    ("x-ratelimit-limit-requests", "leak-9"),
    ("x-ratelimit-remaining-tokens", "leak-9"),
    ("x-ratelimit-reset-requests", "leak-9"),
    ("anthropic-ratelimit-requests-remaining", "leak-9"),
    ("anthropic-ratelimit-unified-reset", "leak-9"),
    ("x-request-id", "leak-id"),
    ("apim-request-id", "leak-id"),
    ("www-authenticate", "Bearer realm=leak"),
    ("location", "http://leak"),
    ("strict-transport-security", "leak"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sees_of_a_provider_what_the_list_allows() {
    let mut headers = PRIVATE.to_vec();
    headers.extend([("content-type", "application/json"), ("openai-processing-ms", "12"), ("request-id", "req_up")]);
    let mut head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nkeep-alive: timeout=5\r\n".to_owned();
    for (name, value) in headers.iter().filter(|(name, _)| *name != "content-type") {
        head += &format!("{name}: {value}\r\n");
    }
    let stream: Vec<Act> = vec![
        Act::Send((head + "content-type: text/event-stream\r\n\r\n").into()),
        chunk(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\n"),
        chunk(b"data: [DONE]\n\n"),
        end(),
    ];
    let refusal = r#"{"error":{"message":"bad","type":"invalid_request_error","param":null,"code":null}}"#;
    for (name, acts, status) in [
        ("whole", with_headers(200, &headers, CHAT_REPLY), 200),
        ("streamed", stream, 200),
        ("refused", with_headers(400, &headers, refusal), 400),
        ("failed", with_headers(500, &headers, refusal), 502),
        ("limited", with_headers(429, &headers, refusal), 429),
    ] {
        let upstream = Upstream::always(acts).await;
        let gateway =
            Gateway::start(&[account("only", "openai", &upstream.url(), "")], "queue: { cooldown: 0s }\n").await;
        let fresh = Gateway::start(&[account("only", "openai", &upstream.url(), "")], "").await;
        let ask = Ask::post("/v1/chat/completions", CHAT).header("x-request-id", "mine");
        for reply in [h1(gateway.address, &ask).await.unwrap(), h2(fresh.address, &ask).await.unwrap()] {
            assert_eq!(reply.status, status, "{name}: {}", reply.text());
            assert!(!format!("{:?}", reply.headers).contains("leak"), "{name}: {:?}", reply.headers);
            assert_eq!(reply.header("x-request-id"), Some("mine"), "{name}");
            let told = [("refused", "400"), ("failed", "500"), ("limited", "429")].iter().find(|(n, _)| *n == name);
            assert_eq!(reply.header(UPSTREAM_STATUS), told.map(|(_, status)| *status), "{name}");
            if status < 500 && status != 429 {
                assert_eq!(reply.header("request-id"), Some("req_up"), "{name}");
                assert_eq!(reply.header("openai-processing-ms"), Some("12"), "{name}");
            }
            let known = ["connection", "content-length", "content-type", "date", "openai-processing-ms", "request-id"];
            let known = known.iter().chain(&["retry-after", "transfer-encoding", "x-request-id", UPSTREAM_STATUS]);
            let known: BTreeSet<&str> = known.copied().collect();
            let odd = reply.headers.iter().find(|(name, _)| !known.contains(name.as_str()));
            assert_eq!(odd, None, "{name}");
        }
    }
}

/// Requests of every kind of end, with the status that each gets.
fn ends() -> Vec<(Ask, u16)> {
    let large = format!(r#"{{"model":"m-openai","messages":["{}"]}}"#, "x".repeat(3 << 20));
    let mut many = Ask::post("/v1/messages", "{}");
    for at in 0..150 {
        many = many.header(&format!("x-header-{at}"), "1");
    }
    vec![
        (Ask::post("/v1/chat/completions", r#"{"model":"m-openai","messages":[]}"#), 200),
        (Ask::post("/v1/messages", r#"{"model":"m-anthropic","stream":true,"messages":[]}"#), 200),
        (Ask::post("/v1beta/models/m-gemini:streamGenerateContent", "{}"), 200),
        (Ask::post("/v1/chat/completions", r#"{"model":"m-openai","messages":[]}"#).without("authorization"), 401),
        (Ask::get("/v1/models").without("authorization"), 401),
        (Ask::post("/v1/messages", "{}").header("authorization", "Bearer nobody"), 401),
        (Ask::post("/v1/messages", r#"{"model":"nobodys","messages":[]}"#), 404),
        (Ask::post("/v1/nothing", "{}"), 404),
        (Ask::post("/v1beta/nothing", "{}").without("authorization"), 404),
        (Ask::get("/v1/responses"), 405),
        (Ask::post("/v1/models", "{}"), 405),
        (Ask::post("/v1/chat/completions", "{"), 400),
        (Ask::post("/v1/messages", large), 413),
        (many, 431),
        (Ask::get("/v1/models"), 200),
        (Ask::get("/v1beta/models/m-gemini"), 200),
        (Ask::get("/v1/models/nobodys"), 404),
        (Ask::get("/livez").without("authorization"), 200),
        (Ask::get("/readyz").without("authorization"), 200),
    ]
}

fn is_made(id: &str) -> bool {
    id.strip_prefix("req_").is_some_and(|rest| rest.len() >= 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_the_requests_id() {
    let upstream = Upstream::start(|_, seen| {
        let stream = |text: &str| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            vec![Act::Send(head.to_owned().into()), chunk(text), end()]
        };
        match seen.path() {
            path if path.contains("stream") => {
                whole(200, "application/json", format!("[{}]", reply_to("generateContent")))
            }
            _ if seen.body.windows(13).any(|w| w == b"\"stream\":true") => stream(&crate::anthropic::answer("m")),
            path => whole(200, "application/json", reply_to(path)),
        }
    })
    .await;
    let gateway = Gateway::start(&accounts(&upstream.url(), ""), "bounds: { body_bytes: 1MiB }\n").await;
    for (ask, status) in ends() {
        for reply in both(&gateway, &ask.clone().header("x-request-id", "client-chosen:1/2+3=.")).await {
            assert_eq!(reply.status, status, "{} {}: {}", ask.method, ask.path, reply.text());
            assert_eq!(reply.header("x-request-id"), Some("client-chosen:1/2+3=."), "{} {}", ask.method, ask.path);
        }
        let mut made = BTreeSet::new();
        for reply in both(&gateway, &ask).await {
            let id = reply.header("x-request-id").unwrap().to_owned();
            assert!(is_made(&id), "{} {}: {id}", ask.method, ask.path);
            if let Some(shown) =
                serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap_or_default().get("request_id")
            {
                assert_eq!(shown, id.as_str());
            }
            assert!(made.insert(id), "an id came twice");
        }
    }
    for seen in upstream.seen() {
        let id = seen.header("x-request-id").unwrap();
        assert!(is_made(id) || id == "client-chosen:1/2+3=.", "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_request_id_is_replaced() {
    let upstream = Upstream::always(whole(200, "application/json", CHAT_REPLY)).await;
    let gateway = Gateway::start(&[account("only", "openai", &upstream.url(), "")], "").await;
    let long = "x".repeat(10 << 10);
    let hostile: [&[u8]; 9] =
        [b"", b"a b", b"a\"b", b"a\tb", b"a\xffb", "\u{e9}t\u{e9}".as_bytes(), b"<script>", b"a,b", long.as_bytes()];
    let mut connection = Connection::open(gateway.address).await.unwrap();
    for id in hostile {
        let mut request =
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\nx-request-id: "
                .to_vec();
        request.extend_from_slice(id);
        request.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n{CHAT}", CHAT.len()).as_bytes());
        connection.raw(&request).await.unwrap();
        let reply = connection.receive().await.unwrap();
        assert_eq!(reply.status, 200, "{id:?}: {}", reply.text());
        assert!(is_made(reply.header("x-request-id").unwrap()), "{id:?}");
    }
    assert!(upstream.seen().iter().all(|seen| is_made(seen.header("x-request-id").unwrap())));
    let h2 = H2::open(gateway.address).await.unwrap();
    for id in ["a b", "a\"b", &long] {
        let reply = h2.ask(&Ask::post("/v1/chat/completions", CHAT).header("x-request-id", id)).await.unwrap();
        assert!(is_made(reply.header("x-request-id").unwrap()), "{id:?}");
    }
}
