//! What is written comes out as it is meant.

use super::*;

#[test]
fn the_acceptance_configuration_loads_as_it_stands() {
    let Some(text) = shared("design/acceptance.yaml") else { return };
    let Loaded { config, warnings } = read(&text).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
    let names = config.accounts.iter().map(|account| account.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["openai-a", "compatible-a", "claude-a", "claude-b", "gemini-a"]);
    let compatible = &config.accounts[1];
    assert_eq!(Config::upstream_name(compatible, "chat-only"), Some("gpt-4.1"));
    assert_eq!(compatible.api_key.as_ref().map(|key| key.expose()), Some("sk-compatible-a"));
    assert_eq!((compatible.base_url.host.as_str(), compatible.base_url.port), ("127.0.0.1", 9100));
    let claude = &config.accounts[2];
    assert_eq!((claude.priority, claude.weight), (1, 2));
    assert_eq!(claude.limits, Limits { rpm: Some(6_000), tpm: Some(50_000_000), concurrency: Some(200) });
    assert_eq!(config.accounts[4].quotas[0].tokens, Some(500_000_000));
    assert_eq!(config.models[1].targets[1].account.as_deref(), Some("openai-a"));
    assert_eq!(config.users[1].budgets[0].cost_nanos, Some(5_000_000_000));
    assert_eq!(config.users[0].keys[0].sha256[..2], [0x46, 0xc9]);
    assert!(!config.open && config.admin.is_some());
    assert_eq!(warnings, []);
}

#[test]
fn values_come_out_as_they_are_meant() {
    let text = "
listen: [\"127.0.0.1:${PORT}\", \"[::1]:0\"]
auth: none
accounts:
  - name: a
    provider: openai-compatible
    base_url: http://127.0.0.1:${MOCK_PORT:-9100}/v1
    priority: ${PRIORITY:-7}
    models: [\"gpt-*\", {name: gpt-best, upstream: gpt-4.1}]
    formats: [openai_responses, openai_chat]
    quotas: [{window: 5h, cost_usd: 0.000_1}, {window: total, requests: 9}]
    timeouts: {idle: 1m30s}
    headers: {X-Title: \"${KEY}\"}
    http2: always
timeouts: {connect: 500ms, total: 2h}
headers: {request: [default, X-Mine-*]}
streams: {ping: 0}
server:
log: {format: json, level: debug}
";
    let text = text.replace("0.000_1", "0.0001");
    let Loaded { config, .. } = read(&text).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listen[0].port(), 7070);
    let account = &config.accounts[0];
    assert_eq!((account.priority, account.base_url.port, account.http2), (7, 9100, Http2::Always));
    assert_eq!(account.formats, [WireFormat::OpenaiResponses, WireFormat::OpenaiChat]);
    assert!(account.api_key.is_none());
    assert_eq!(Config::upstream_name(account, "gpt-best"), Some("gpt-4.1"), "a whole name goes before a beginning");
    assert_eq!(Config::upstream_name(account, "gpt-5"), Some("gpt-5"));
    assert_eq!(account.quotas[0].cost_nanos, Some(100_000));
    assert_eq!((account.quotas[0].window, account.quotas[1].window), (Window::FiveHours, Window::Total));
    let seconds = |seconds| std::time::Duration::from_secs(seconds);
    assert_eq!((account.timeouts.idle, account.timeouts.total), (seconds(90), seconds(7_200)));
    assert_eq!(account.timeouts.connect, std::time::Duration::from_millis(500));
    assert_eq!(account.headers[0].0.as_str(), "x-title");
    assert_eq!(account.headers[0].1.expose(), "sk-from-the-environment");
    assert!(
        ["x-mine-1", "user-agent"]
            .map(http::HeaderName::from_static)
            .iter()
            .all(|name| config.headers.request.allows(name))
    );
    assert!(config.streams.ping.is_zero() && config.log.json && config.log.level == log::LevelFilter::Debug);
    assert_eq!(config.server.upgrade_socket, Path::new("./data/upgrade.sock"));
}

#[test]
fn keys_end_and_are_switched_off_as_written() {
    let hash = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let text = format!(
        "accounts:\n  - {{name: a, provider: openai, credentials: {{api_key: k}}}}\nusers:\n  - name: u\n    expires: 1970-01-01\n    disabled: ${{FLAG}}\n    keys:\n      - {}\n      - {{sha256: {}, disabled: true, expires: \"1970-01-01T00:00:01Z\"}}\n",
        hash("a"),
        hash("b")
    );
    let config = read(&text).unwrap_or_else(|faults| panic!("{faults}")).config;
    let user = &config.users[0];
    assert_eq!((user.expires_unix_millis, user.disabled), (Some(86_400_000), true));
    assert_eq!((user.keys[0].disabled, user.keys[0].sha256), (false, [0xaa; 32]));
    assert_eq!((user.keys[1].disabled, user.keys[1].expires_unix_millis), (true, Some(1_000)));
}

#[test]
fn keys_in_the_environment_make_a_configuration() {
    let read = |set: &[(&str, &str)]| {
        let environment = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        environment::config(&surroundings(&environment))
    };
    let one = read(&[("OPENAI_API_KEY", " sk-1\n"), ("ANTHROPIC_API_KEY", "")]).unwrap().config;
    assert_eq!((one.accounts.len(), one.open), (1, true));
    assert_eq!(one.accounts[0].api_key.as_ref().map(|key| key.expose()), Some("sk-1"));
    assert!(one.accounts[0].models.is_empty() && one.listen[0].ip().is_loopback());
    let several = read(&[("OPENAI_API_KEY", "k"), ("GOOGLE_API_KEY", "g"), ("GROQ_API_KEY", "q")]).unwrap().config;
    let serving = |model: &str| {
        let serves = several.accounts.iter().filter(|account| Config::upstream_name(account, model).is_some());
        serves.map(|account| (account.name.as_str(), account.priority)).collect::<Vec<_>>()
    };
    assert_eq!(serving("gemini-2.5-flash"), [("gemini", 1), ("groq", 2)]);
    assert_eq!(serving("gpt-4.1"), [("openai", 1), ("groq", 2)]);
    assert_eq!(serving("llama-3"), [("groq", 2)]);
    let none = read(&[("AZURE_OPENAI_API_KEY", "k")]).unwrap_err().to_string();
    assert!(none.contains("azure-openai has no address of its own"), "{none}");
    assert!(none.contains("OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, GROQ_API_KEY"), "{none}");
}
