//! Accounts behind proxies: every call goes through, and where the proxy fails nothing goes past it.

use crate::{
    anthropic,
    client::{Ask, Reply, h1},
    gateway::{Gateway, account, free_port},
    proxy::{Manner, Proxy},
    tls::Certificate,
    upstream::{Upstream, stream, whole},
    upstream_h2::{self, Answer},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpListener;

const ANSWER: &str = r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn"}"#;

/// An upstream that streams where it is asked to.
async fn anthropic_upstream() -> Upstream {
    Upstream::start(|_, seen| {
        if seen.path().ends_with("/models") {
            return whole(200, "application/json", r#"{"data":[{"id":"claude-listed"}]}"#);
        }
        if String::from_utf8_lossy(&seen.body).contains(r#""stream":true"#) {
            return stream(&[anthropic::answer("m")]);
        }
        whole(200, "application/json", ANSWER)
    })
    .await
}

/// Asks, and waits until the gateway is done with it: only then is its connection there for the next request.
async fn ask(gateway: &Gateway, body: &str) -> Reply {
    let reply = h1(gateway.address, &Ask::post("/v1/messages", body.to_owned())).await.unwrap();
    assert_eq!(gateway.left_over().await, Vec::<String>::new());
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_through_a_proxy_of_each_kind_whole_and_streamed() {
    let certificate = Certificate::new("kinds");
    for (scheme, login) in
        [("http", ""), ("http", "u:p%40s@"), ("socks5", ""), ("socks5h", "u:p%40s@"), ("https", "u:p%40s@")]
    {
        let manner = if login.is_empty() { Manner::Open } else { Manner::Login("u", "p@s") };
        let proxy = match scheme {
            "http" => Proxy::http(manner).await,
            "https" => Proxy::https(manner, certificate.acceptor.clone()).await,
            _ => Proxy::socks5(manner).await,
        };
        let upstream = anthropic_upstream().await;
        // A name that only the proxy can resolve.
        let url = format!("http://provider.test:{}", upstream.address.port());
        let way = format!("proxy: \"{scheme}://{login}localhost:{}\"", proxy.address.port());
        let more = format!("server: {{ threads: 2, ca_file: \"{}\" }}\n", certificate.file.display());
        let gateway = Gateway::start_with_server(&[account("a", "anthropic", &url, &way)], &more).await;
        for _ in 0..3 {
            let reply = ask(&gateway, anthropic::ASK_WHOLE).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER), "{scheme} {login}");
            let reply = ask(&gateway, anthropic::ASK).await;
            assert_eq!((reply.status, reply.text()), (200, anthropic::answer("m")), "{scheme} {login}");
        }
        let asked = proxy.asked();
        let target = format!("provider.test:{}", upstream.address.port());
        assert!(asked.iter().all(|asked| asked.target == target), "{asked:?}");
        assert!(
            asked.iter().all(|asked| asked.login.as_deref() == (!login.is_empty()).then_some("u:p@s")),
            "{asked:?}"
        );
        assert_eq!(asked.len(), 1, "{scheme} {login}: the connection is kept for the next request");
        assert_eq!(upstream.seen().len(), 6);
        assert!(upstream.seen().iter().all(|seen| seen.header("proxy-authorization").is_none()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_in_tls_is_reached_through_proxies_with_and_without_tls() {
    let certificate = Certificate::new("inner");
    let upstream = anthropic_upstream().await;
    let port = certificate.in_front_of(upstream.address).await;
    for scheme in ["http", "https", "socks5"] {
        let proxy = match scheme {
            "http" => Proxy::http(Manner::Open).await,
            "https" => Proxy::https(Manner::Open, certificate.acceptor.clone()).await,
            _ => Proxy::socks5(Manner::Open).await,
        };
        let way = format!("proxy: \"{scheme}://localhost:{}\"", proxy.address.port());
        let more = format!("server: {{ threads: 2, ca_file: \"{}\" }}\n", certificate.file.display());
        let url = format!("https://localhost:{port}");
        let gateway = Gateway::start_with_server(&[account("a", "anthropic", &url, &way)], &more).await;
        for _ in 0..2 {
            let reply = ask(&gateway, anthropic::ASK).await;
            assert_eq!((reply.status, reply.text()), (200, anthropic::answer("m")), "{scheme}");
        }
        assert_eq!(proxy.asked().len(), 1, "{scheme}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_speaks_first_is_heard_through_every_proxy() {
    let certificate = Certificate::new("first");
    for scheme in ["http", "https", "socks5"] {
        let proxy = match scheme {
            "http" => Proxy::http(Manner::Open).await,
            "https" => Proxy::https(Manner::Open, certificate.acceptor.clone()).await,
            _ => Proxy::socks5(Manner::Open).await,
        };
        // An HTTP/2 server sends its settings at once, perhaps together with the proxy's own words.
        let upstream = upstream_h2::Upstream::always(Answer::new(200, "application/json", &[ANSWER])).await;
        let way = format!("http2: always, proxy: \"{scheme}://localhost:{}\"", proxy.address.port());
        let more = format!("server: {{ threads: 2, ca_file: \"{}\" }}\n", certificate.file.display());
        let url = format!("http://provider.test:{}", upstream.address.port());
        let gateway = Gateway::start_with_server(&[account("a", "anthropic", &url, &way)], &more).await;
        for _ in 0..2 {
            let reply = ask(&gateway, anthropic::ASK_WHOLE).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER), "{scheme}");
        }
        assert_eq!(proxy.asked().len(), 1, "{scheme}");
    }
}

/// A provider that only counts who connects to it.
async fn counting_listener() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_proxy_is_a_failed_account_and_never_gone_round() {
    let certificate = Certificate::new("broken");
    let other = anthropic_upstream().await;
    let second = account("second", "anthropic", &other.url(), "priority: 2");
    let mut held = Vec::new();
    let mut ways = vec![("nobody listens".to_owned(), format!("http://hush:hush@127.0.0.1:{}", free_port()))];
    ways.push(("nobody listens".to_owned(), format!("socks5://127.0.0.1:{}", free_port())));
    ways.push(("no such proxy".to_owned(), "http://proxy.invalid:3128".to_owned()));
    for manner in [
        Manner::Login("u", "right"),
        Manner::Say(b"HTTP/1.1 403 Forbidden\r\n\r\n"),
        Manner::Say(b"\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"),
        Manner::Say(b"what?\r\n\r\n"),
        Manner::Close,
        Manner::Silent,
    ] {
        for scheme in ["http", "socks5", "https"] {
            let proxy = match scheme {
                "http" => Proxy::http(manner.clone()).await,
                "https" => Proxy::https(manner.clone(), certificate.acceptor.clone()).await,
                _ => Proxy::socks5(manner.clone()).await,
            };
            ways.push((format!("{manner:?}"), format!("{scheme}://u:wrong@localhost:{}", proxy.address.port())));
            held.push(proxy);
        }
    }
    for (name, way) in ways {
        let (port, direct) = counting_listener().await;
        let more = format!("proxy: \"{way}\"");
        let first = account("first", "anthropic", &format!("http://127.0.0.1:{port}"), &more);
        let patience = format!(
            "timeouts: {{ connect: 500ms }}\nqueue: {{ cooldown: 0s }}\nserver: {{ threads: 2, ca_file: \"{}\" }}\n",
            certificate.file.display()
        );
        let gateway = Gateway::start_with_server(&[first.clone(), second.clone()], &patience).await;
        let reply = ask(&gateway, anthropic::ASK_WHOLE).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER), "{name} {way}: the next account serves");
        let alone = Gateway::start_with_server(&[first], &patience).await;
        let reply = ask(&alone, anthropic::ASK_WHOLE).await;
        assert_eq!(reply.status, 502, "{name} {way}: {}", reply.text());
        for secret in ["hush", "wrong", "127.0.0.1", "localhost"] {
            assert!(!reply.text().contains(secret), "{name} {way}: {}", reply.text());
        }
        assert_eq!(direct.load(Ordering::SeqCst), 0, "{name} {way}: the provider was connected to directly");
        assert_eq!(gateway.left_over().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_with_different_ways_out_never_share_a_connection() {
    let certificate = Certificate::new("ways");
    let upstream = anthropic_upstream().await;
    let url = format!("http://localhost:{}", upstream.address.port());
    let one = Proxy::http(Manner::Open).await;
    let two = Proxy::http(Manner::Open).await;
    let socks = Proxy::socks5(Manner::Open).await;
    let tls = Proxy::https(Manner::Open, certificate.acceptor.clone()).await;
    let at = |scheme: &str, login: &str, proxy: &Proxy| {
        format!("proxy: \"{scheme}://{login}localhost:{}\", ", proxy.address.port())
    };
    let ways = [
        ("one", at("http", "", &one)),
        ("login", at("http", "u:p@", &one)),
        ("two", at("http", "", &two)),
        ("socks", at("socks5", "", &socks)),
        ("tls", at("https", "", &tls)),
        ("tls-login", at("https", "u:p@", &tls)),
        ("direct", String::new()),
    ];
    let accounts: Vec<_> =
        ways.iter().map(|(name, way)| account(name, "anthropic", &url, &format!("{way}models: [m-{name}]"))).collect();
    let more = format!("server: {{ threads: 2, ca_file: \"{}\" }}\n", certificate.file.display());
    let gateway = Gateway::start_with_server(&accounts, &more).await;
    for _ in 0..4 {
        for (name, _) in &ways {
            let body = anthropic::ASK_WHOLE.replace("claude-test", &format!("m-{name}"));
            assert_eq!(ask(&gateway, &body).await.status, 200, "{name}");
        }
    }
    let mut all = BTreeSet::new();
    for (name, _) in &ways {
        let key = format!("sk-upstream-{name}");
        let seen = upstream.seen();
        let mine: BTreeSet<_> =
            seen.iter().filter(|seen| seen.header("x-api-key") == Some(&key)).map(|seen| seen.connection).collect();
        assert_eq!(mine.len(), 1, "{name}: its own connection is kept and used again");
        assert!(mine.iter().all(|connection| all.insert(*connection)), "{name}: a connection is shared");
    }
    assert_eq!((one.asked().len(), two.asked().len(), socks.asked().len(), tls.asked().len()), (2, 1, 1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_own_calls_for_an_account_go_through_its_proxy_too() {
    let proxy = Proxy::socks5(Manner::Open).await;
    let upstream = anthropic_upstream().await;
    let url = format!("http://provider.test:{}", upstream.address.port());
    let way = format!("proxy: \"socks5://localhost:{}\"", proxy.address.port());
    let gateway = Gateway::start(&[account("a", "anthropic", &url, &way)], "").await;
    let reply = h1(gateway.address, &Ask::get("/v1/models")).await.unwrap();
    assert!(reply.text().contains("claude-listed"), "{}", reply.text());
    assert_eq!(proxy.asked().len(), 1);
}
