//! Accounts that trade a refresh token for access tokens, against a real token endpoint.

use crate::{
    client::{Ask, Connection, Reply, h1},
    gateway::{Gateway, account, data_dir},
    proxy::{Manner, Proxy},
};
use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};
use sub2api::{
    account::health::State,
    mock::{Mock, MockHandle, Options},
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

const ASK: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#;

async fn mock(options: Options) -> MockHandle {
    Mock::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), options).unwrap()
}

/// An account at the mock, with a client's id that chooses what its token endpoint does.
fn oauth(mock: &MockHandle, client: &str, token: &str, more: &str) -> String {
    let url = mock.base_url();
    format!(
        "  - {{ name: tokens, provider: anthropic, base_url: \"{url}\", credentials: {{ oauth: {{ \
         token_url: \"{url}/oauth/token\", client_id: \"{client}\", refresh_token: \"{token}\"{more} }} }} }}\n"
    )
}

async fn ask(gateway: &Gateway) -> Reply {
    h1(gateway.address, &Ask::post("/v1/messages", ASK)).await.unwrap()
}

/// The access tokens that API calls came with, in order.
fn bearers(mock: &MockHandle) -> Vec<String> {
    let found = mock.log().into_iter().flat_map(|entry| entry.credentials);
    found.map(|(place, key)| format!("{place} {key}")).collect()
}

fn state(gateway: &Gateway) -> State {
    let live = gateway.live();
    live.snapshot().pool.accounts()[0].live.state(live.clock.now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_at_once_need_one_token() {
    let mock = mock(Options::default()).await;
    let accounts = [oauth(&mock, "slow=300", "rt", "").replace(" } }\n", " }, headers: { anthropic-beta: b2 } }\n")];
    let gateway = Gateway::start(&accounts, "").await;
    let mut asks = JoinSet::new();
    for at in 0..100 {
        let address = gateway.address;
        let body = if at % 2 == 0 { ASK.replace("\"max", "\"stream\":true,\"max") } else { ASK.to_owned() };
        let ask = Ask::post("/v1/messages", body).header("anthropic-beta", "b1");
        asks.spawn(async move { h1(address, &ask).await.unwrap() });
    }
    while let Some(reply) = asks.join_next().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(mock.token_requests(), 1);
    assert_eq!(bearers(&mock), vec!["bearer at-mock-1"; 100]);
    assert!(mock.log().iter().all(|entry| entry.request.header("anthropic-beta") == Some("b1,b2")));
    assert_eq!(gateway.left_over().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_early_while_requests_go_on_with_the_old_one() {
    let mock = mock(Options::default()).await;
    let gateway = Gateway::start(&[oauth(&mock, "ttl=12+slow=2000", "rt", "")], "").await;
    let begun = Instant::now();
    let mut during = 0;
    while !bearers(&mock).contains(&"bearer at-mock-2".to_owned()) {
        let is_renewing = mock.token_requests() == 2;
        let reply = ask(&gateway).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let was_old = bearers(&mock).last().is_some_and(|key| key == "bearer at-mock-1");
        during += usize::from(is_renewing && was_old);
        assert!(begun.elapsed() < Duration::from_secs(60), "it is never renewed");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(during > 0, "requests waited for the renewal");
    assert_eq!(mock.token_requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_survives_a_restart_and_a_new_one_in_the_file_wins() {
    let mock = mock(Options::default()).await;
    let accounts = [oauth(&mock, "rotate", "rt", "")];
    let gateway = Gateway::start_in(data_dir(), &accounts, "server: { threads: 2 }\n").await;
    assert_eq!(ask(&gateway).await.status, 200);
    let data = gateway.stop();
    let files = std::fs::read_dir(data.join("tokens")).unwrap();
    let kept = files.map(|file| file.unwrap().path()).next().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept), mode(kept.parent().unwrap())), (0o600, 0o700));

    let gateway = Gateway::start_in(data, &accounts, "server: { threads: 2 }\n").await;
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(mock.token_requests(), 1, "the access token is still good");
    mock.revoke_tokens();
    assert_eq!(ask(&gateway).await.status, 200, "only the kept refresh token works: the configured one is used up");
    assert_eq!(mock.token_requests(), 2);
    let data = gateway.stop();

    let accounts = [oauth(&mock, "rotate", "rt-of-a-new-login", "")];
    let gateway = Gateway::start_in(data, &accounts, "server: { threads: 2 }\n").await;
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(mock.token_requests(), 3, "what was kept belongs to the old login");
    assert!(std::fs::read_to_string(&kept).unwrap().contains("rt-mock-2"), "it would count again with the old login");
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_grant_suspends_the_account_and_others_serve() {
    let mock = mock(Options::default()).await;
    for (client, token) in [("x", "bad"), ("deny", "rt"), ("secret=other", "rt")] {
        mock.reset();
        let spare = account("spare", "anthropic", &mock.base_url(), "priority: 2");
        let gateway = Gateway::start(&[oauth(&mock, client, token, ""), spare], "").await;
        for _ in 0..3 {
            assert_eq!(ask(&gateway).await.status, 200, "{client}");
        }
        assert_eq!(state(&gateway), State::Suspended, "{client}");
        assert_eq!(mock.token_requests(), 1, "{client}: a suspended account is left alone");

        let alone = Gateway::start(&[oauth(&mock, client, token, "")], "").await;
        let reply = ask(&alone).await;
        assert_eq!(reply.status, 503, "{client}");
        assert!(reply.text().contains("refuses the gateway's credentials"), "{}", reply.text());
        assert!(!reply.text().contains("127.0.0.1") && !reply.text().contains("tokens"), "{}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_endpoint_cools_the_account_and_is_asked_again() {
    let mock = mock(Options::default()).await;
    let gateway = Gateway::start(&[oauth(&mock, "status=503+times=1", "rt", "")], "").await;
    let reply = ask(&gateway).await;
    assert!(reply.status >= 500 && reply.text().contains("the token endpoint answers 503"), "{}", reply.text());
    assert!(matches!(state(&gateway), State::Cooling { .. }), "{:?}", state(&gateway));
    let reply = ask(&gateway).await;
    assert_eq!(reply.status, 200, "the account is waited for and back: {}", reply.text());
    assert_eq!(mock.token_requests(), 2);
    assert_eq!(state(&gateway), State::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_says_nothing_costs_no_more_than_its_time() {
    let mock = mock(Options::default()).await;
    let spare = account("spare", "anthropic", &mock.base_url(), "priority: 2");
    let gateway = Gateway::start(&[oauth(&mock, "slow=60000", "rt", ""), spare], "timeouts: { token: 200ms }\n").await;
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(bearers(&mock), ["x-api-key sk-upstream-spare"]);
    assert!(matches!(state(&gateway), State::Cooling { .. } | State::Ready), "{:?}", state(&gateway));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_replaced_once_for_all_who_used_it() {
    let mock = mock(Options::default()).await;
    let gateway = Gateway::start(&[oauth(&mock, "rotate", "rt", "")], "").await;
    assert_eq!(ask(&gateway).await.status, 200);
    mock.revoke_tokens();
    let mut asks = JoinSet::new();
    for _ in 0..20 {
        let address = gateway.address;
        asks.spawn(async move { h1(address, &Ask::post("/v1/messages", ASK)).await.unwrap() });
    }
    while let Some(reply) = asks.join_next().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(mock.token_requests(), 2);
    assert_eq!(state(&gateway), State::Ready, "an old token is no bad account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_refuses_fresh_tokens_too_is_believed() {
    let mock = mock(Options { keys: vec!["sk-upstream-spare".into()], ..Options::default() }).await;
    let spare = account("spare", "anthropic", &mock.base_url(), "priority: 2");
    let gateway = Gateway::start(&[oauth(&mock, "rotate", "rt", ""), spare], "").await;
    for _ in 0..5 {
        assert_eq!(ask(&gateway).await.status, 200);
    }
    assert_eq!(mock.token_requests(), 2, "one forced renewal, then the usual rule for a refused key");
    assert!(matches!(state(&gateway), State::Cooling { .. }), "{:?}", state(&gateway));
    assert_eq!(bearers(&mock).iter().filter(|key| key.starts_with("bearer")).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_breaks_no_renewal_off() {
    let mock = mock(Options::default()).await;
    let gateway = Gateway::start(&[oauth(&mock, "rotate+slow=400", "rt", "")], "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(&Ask::post("/v1/messages", ASK)).await.unwrap();
    while mock.token_requests() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    drop(connection);
    assert_eq!(ask(&gateway).await.status, 200, "its token is there for the next one");
    assert_eq!(mock.token_requests(), 1);
    assert_eq!(gateway.left_over().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_their_secret_as_the_endpoint_wants_it() {
    let mock = mock(Options::default()).await;
    for more in [
        ", client_secret: \"s&1\"",
        ", client_secret: \"s&1\", client_auth: basic",
        ", client_secret: \"s&1\", encoding: json, scope: \"a b\"",
    ] {
        let gateway = Gateway::start(&[oauth(&mock, "secret=s&1", "rt", more)], "").await;
        let reply = ask(&gateway).await;
        assert_eq!(reply.status, 200, "{more}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_fetched_through_the_accounts_proxy() {
    let mock = mock(Options::default()).await;
    let proxy = Proxy::http(Manner::Login("u", "p")).await;
    let port = mock.address().port();
    let way = format!(", proxy: \"http://u:p@localhost:{}\" }}\n", proxy.address.port());
    let accounts = oauth(&mock, "x", "rt", "").replace("127.0.0.1", "provider.test").replace(" }\n", &way);
    let gateway = Gateway::start(&[accounts], "").await;
    assert_eq!(ask(&gateway).await.status, 200);
    let asked = proxy.asked();
    assert_eq!(asked.len(), 2, "one for the token, one for the call: {asked:?}");
    assert!(asked.iter().all(|asked| asked.target == format!("provider.test:{port}")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_list_is_fetched_with_a_token_too() {
    let mock = mock(Options::default()).await;
    let gateway = Gateway::start(&[oauth(&mock, "x", "rt", "")], "").await;
    let ask = Ask::get("/v1/models").header("anthropic-version", "2023-06-01");
    let reply = h1(gateway.address, &ask).await.unwrap();
    assert!(reply.text().contains("claude"), "{}", reply.text());
    assert_eq!(bearers(&mock), ["bearer at-mock-1"]);
}
