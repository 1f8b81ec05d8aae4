//! What the configuration as a whole promises, tested through its entry points.

use super::*;
use crate::{
    provider::{BaseUrl, Call, Provider},
    wire::{Endpoint, WireFormat},
};
use proptest::prelude::*;
use std::{collections::BTreeSet, fs};

/// A provider that depends on no row of the real table.
#[derive(Debug)]
struct Double {
    name: &'static str,
    formats: &'static [WireFormat],
    default: Option<&'static str>,
    key_env: Option<&'static str>,
}

impl Provider for Double {
    fn name(&self) -> &'static str {
        self.name
    }
    fn formats(&self) -> &'static [WireFormat] {
        self.formats
    }
    fn default_base_url(&self) -> Option<&'static str> {
        self.default
    }
    fn key_env(&self) -> Option<&'static str> {
        self.key_env
    }
    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        let bad = || format!("{text:?} is not a URL");
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        let port = port.parse().map_err(|_| bad())?;
        Ok(BaseUrl { tls: scheme == "https", host: host.into(), port, prefix: prefix.into(), query: String::new() })
    }
    fn path(&self, _: &BaseUrl, call: &Call<'_>) -> Option<String> {
        let responses_too = self.name == "openai-compatible" && *call.endpoint == Endpoint::Responses;
        (self.formats.contains(&call.endpoint.format()) || responses_too).then(String::new)
    }
    fn models_path(&self, _: &BaseUrl) -> String {
        String::new()
    }
    fn credential(&self, key: &str) -> (http::HeaderName, String) {
        (http::header::AUTHORIZATION, key.to_owned())
    }
}

const DOUBLES: &[&'static dyn Provider] = &[
    &Double {
        name: "openai",
        formats: &[WireFormat::OpenaiResponses, WireFormat::OpenaiChat],
        default: Some("https://api.openai.com/v1"),
        key_env: Some("OPENAI_API_KEY"),
    },
    &Double {
        name: "anthropic",
        formats: &[WireFormat::Anthropic],
        default: Some("https://api.anthropic.com"),
        key_env: Some("ANTHROPIC_API_KEY"),
    },
    &Double {
        name: "gemini",
        formats: &[WireFormat::Gemini],
        default: Some("https://generativelanguage.googleapis.com"),
        key_env: Some("GEMINI_API_KEY"),
    },
    &Double {
        name: "azure-openai",
        formats: &[WireFormat::OpenaiChat],
        default: None,
        key_env: Some("AZURE_OPENAI_API_KEY"),
    },
    &Double { name: "openai-compatible", formats: &[WireFormat::OpenaiChat], default: None, key_env: None },
    &Double {
        name: "groq",
        formats: &[WireFormat::OpenaiChat],
        default: Some("https://api.groq.com/openai/v1"),
        key_env: Some("GROQ_API_KEY"),
    },
];

fn find_double(name: &str) -> Option<&'static dyn Provider> {
    DOUBLES.iter().copied().find(|provider| provider.name() == name)
}

fn surroundings(environment: &dyn Fn(&str) -> Option<String>) -> Surroundings<'_> {
    Surroundings { environment, providers: DOUBLES, find: find_double }
}

/// The environment of the tests.
fn variable(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("sk-from-the-environment".into()),
        "PORT" => Some("7070".into()),
        "FLAG" => Some("true".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Loaded, Faults> {
    parse_with(text, &surroundings(&variable))
}

/// The faults of a file, one in a line.
fn faults(text: &str) -> String {
    match read(text) {
        Ok(_) => String::from("(no fault)"),
        Err(faults) => faults.to_string(),
    }
}

fn warnings(text: &str) -> Vec<String> {
    read(text).unwrap_or_else(|faults| panic!("{faults}")).warnings.iter().map(Fault::to_string).collect()
}

/// An open gateway with one account, and whatever else a test adds below.
fn with(more: &str) -> String {
    format!("auth: none\naccounts:\n  - {{name: a, provider: openai, credentials: {{api_key: k}}}}\n{more}")
}

/// One account with the keys that a test gives it, at 3:5 and below.
fn account(keys: &str) -> String {
    format!("auth: none\naccounts:\n  - {keys}")
}

fn shared(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    let text = fs::read_to_string(path).ok();
    if text.is_none() {
        println!("skipped: {name}: shared traffic not present");
    }
    text
}

fn reference() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sub2api.yaml")).unwrap()
}

/// The reference file with every setting switched on: `#` goes where a setting follows, and stays before prose.
fn reference_switched_on() -> String {
    let line = |line: &str| {
        let Some((indent, rest)) = line.split_once('#').filter(|(indent, _)| indent.trim().is_empty()) else {
            return line.to_owned();
        };
        let is_prose = rest.is_empty() || (rest.starts_with(' ') && !rest.starts_with("  "));
        if is_prose { line.to_owned() } else { format!("{indent}{rest}") }
    };
    reference().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A directory with the files that the reference names, gone when dropped.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Files {
        let directory = std::env::temp_dir().join(format!("sub2api-config-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cert.pem"), "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
            .unwrap();
        fs::write(directory.join("key.pem"), "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n")
            .unwrap();
        fs::write(directory.join("admin.key"), "sk-admin-0123456789abcdef\n").unwrap();
        fs::write(directory.join("anthropic-key"), "sk-ant-from-systemd\r\n").unwrap();
        fs::write(directory.join("empty"), "\n").unwrap();
        fs::write(directory.join("two-lines"), "sk-one\nsk-two\n").unwrap();
        Files(directory)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The text with its paths in `/etc/sub2api` moved here.
    fn read(&self, text: &str) -> Result<Loaded, Faults> {
        let directory = self.path().to_owned();
        let environment = move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.clone());
        parse_with(&text.replace("/etc/sub2api", self.path()), &surroundings(&environment))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

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
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].message.contains("accounts[2].limits.rpm"), "{warnings:?}");
}

#[test]
fn the_reference_file_is_good_as_it_stands() {
    let loaded = read(&reference()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    assert!(loaded.config.open);
}

#[test]
fn the_reference_file_shows_the_defaults() {
    let files = Files::new("defaults");
    let Loaded { config, .. } = files.read(&reference_switched_on()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.failover, Failover::default());
    assert_eq!(config.cooldown, Cooldown::default());
    assert_eq!(config.streams, Streams::default());
    assert_eq!(config.bounds, Bounds::default());
    assert_eq!(config.queue, Queue::default());
    assert_eq!(config.log, LogSettings::default());
    let sorted = |rules: &HeaderRules| {
        [&rules.request, &rules.response].map(|list| list.iter().cloned().collect::<BTreeSet<_>>())
    };
    assert_eq!(sorted(&config.headers), sorted(&HeaderRules::default()));
    let ServerSettings { upstream_keepalive, upgrade_socket, drain, .. } = ServerSettings::default();
    assert_eq!(config.server.upstream_keepalive, upstream_keepalive);
    assert_eq!((config.server.upgrade_socket, config.server.drain), (upgrade_socket, drain));
    let bare = read(&with("")).unwrap().config;
    assert_eq!(config.listen, bare.listen);
    assert_eq!(config.data_dir, bare.data_dir);
    let (shown, plain) = (&config.accounts[0], &bare.accounts[0]);
    assert_eq!((shown.priority, shown.weight, shown.http2), (plain.priority, plain.weight, plain.http2));
    assert_eq!((&shown.base_url, &shown.formats, shown.timeouts), (&plain.base_url, &plain.formats, plain.timeouts));
}

#[test]
fn the_reference_file_shows_every_key_that_is_read() {
    let files = Files::new("keys");
    let directory = files.path().to_owned();
    let environment = move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.clone());
    let surroundings = surroundings(&environment);
    let text = reference_switched_on().replace("/etc/sub2api", files.path());
    let mut list = FaultList::default();
    let mut tree = tree::parse(&text, &mut list).unwrap();
    interpolate::interpolate(&mut tree, &environment, &mut list);
    let reader = Reader::new(&surroundings, list);
    file::config(&reader, &tree).unwrap();
    let mut shown = BTreeSet::new();
    key_paths(&tree, String::new(), &mut shown);
    // A secret has two more forms, each shown at one place only.
    let elsewhere = |path: &String| path.ends_with("_key.file") || path.ends_with("admin.key.credential");
    let absent =
        reader.asked().into_iter().filter(|path| !shown.contains(path) && !elsewhere(path)).collect::<Vec<_>>();
    assert_eq!(absent, Vec::<String>::new());
    assert!(shown.contains("accounts[].models[].upstream") && shown.contains("users[].keys[].expires"));
    assert!(shown.contains("admin.key.file") && shown.contains("accounts[].credentials.api_key.credential"));
}

/// Every key of a tree, as a path with `[]` for list items.
fn key_paths(node: &tree::Node, path: String, paths: &mut BTreeSet<String>) {
    match &node.value {
        tree::Value::List(items) => items.iter().for_each(|item| key_paths(item, format!("{path}[]"), paths)),
        tree::Value::Map(entries) => {
            for entry in entries {
                let mut path = path.clone();
                tree::push_key(&mut path, &entry.key);
                key_paths(&entry.node, path.clone(), paths);
                paths.insert(path);
            }
        }
        tree::Value::Scalar(_) | tree::Value::Broken => {}
    }
}

#[test]
fn an_unknown_key_is_refused_in_every_section() {
    let files = Files::new("unknown");
    let text = reference_switched_on();
    let mut sections = 0;
    for (index, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_key = line.trim_start().starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(':');
        if !is_key || line.trim_start().starts_with("x-team") {
            continue;
        }
        let lines = text.lines().take(index).map(str::to_owned);
        let extra = format!("{}zzz_unknown: 1", " ".repeat(indent));
        let changed = lines.chain([extra]).chain(text.lines().skip(index).map(str::to_owned)).collect::<Vec<_>>();
        let faults = files.read(&changed.join("\n")).unwrap_err();
        let hit = faults.faults.iter().any(|fault| {
            fault.path.ends_with("zzz_unknown") && fault.line == index + 1 && fault.message.starts_with("unknown key")
        });
        assert!(hit, "line {}: {faults}", index + 1);
        sections += 1;
    }
    assert!(sections > 50, "{sections}");
}

#[test]
fn yaml_is_read_as_another_parser_reads_it() {
    let shared = shared("design/acceptance.yaml");
    for text in [Some(reference()), Some(reference_switched_on()), shared].into_iter().flatten() {
        let mut list = FaultList::default();
        let ours = tree::parse(&text, &mut list).unwrap();
        assert!(list.is_empty());
        let theirs: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        assert_same(&ours, &theirs);
    }
}

fn assert_same(ours: &tree::Node, theirs: &serde_yaml::Value) {
    match (&ours.value, theirs) {
        (tree::Value::List(items), serde_yaml::Value::Sequence(others)) => {
            assert_eq!(items.len(), others.len());
            items.iter().zip(others).for_each(|(item, other)| assert_same(item, other));
        }
        (tree::Value::Map(entries), serde_yaml::Value::Mapping(others)) => {
            assert_eq!(entries.len(), others.len());
            entries.iter().for_each(|entry| assert_same(&entry.node, &others[entry.key.as_str()]));
        }
        (tree::Value::Scalar(scalar), serde_yaml::Value::String(text)) => assert_eq!(&scalar.text, text),
        (tree::Value::Scalar(scalar), other) => assert!(scalar.plain && !other.is_sequence() && !other.is_mapping()),
        (ours, theirs) => panic!("{ours:?} is not {theirs:?}"),
    }
}

#[test]
fn all_faults_are_reported_at_once_with_path_line_and_column() {
    let text = "\
listen: [\"127.0.0.1:http\"]
timeout: {connect: 1s}
accounts:
  - name: a
    provider: opnai
    credentials: {api_kye: \"sk-very-secret\"}
  - name: a
    provider: openai
    weight: 0
    credentials: {api_key: \"${NOT_SET}\"}
    limits: {rpm: many}
models:
  - name: smart
    targets: [{account: b, model: gpt-4.1}]
users:
  - name: u
    keys: [\"sk-plain-key\"]
    budgets: [{window: dya, tokens: 5}]
";
    let expected = "\
1:10: listen[0]: must be an IP address with a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or \"[::1]:8080\", not \"127.0.0.1:http\"
2:1: timeout: unknown key, did you mean \"timeouts\"?
5:15: accounts[0].provider: unknown provider \"opnai\", did you mean \"openai\"?
6:19: accounts[0].credentials.api_kye: unknown key, did you mean \"api_key\"?
7:11: accounts[1].name: the name \"a\" is taken already, in line 4
9:13: accounts[1].weight: must be from 1 to 1000000
10:28: accounts[1].credentials.api_key: the environment variable NOT_SET is not set; set it, or give a default: ${NOT_SET:-…}
11:19: accounts[1].limits.rpm: must be a whole number such as 60 or 50_000, not \"many\"
14:25: models[0].targets[0].account: no account is called \"b\", did you mean \"a\"?
17:12: users[0].keys[0]: must be the hash of a key, `sha256:` and 64 hex digits, never the key itself: `sub2api key new` makes a key and prints its hash
18:24: users[0].budgets[0].window: must be one of 5h, day, week, month, total, not \"dya\", did you mean \"day\"?";
    assert_eq!(faults(text), expected);
}

#[test]
fn what_is_wrong_with_an_account_is_said() {
    for (keys, expected) in [
        ("{provider: openai, credentials: {api_key: k}}", "3:5: accounts[0]: `name` is missing"),
        ("{name: a, credentials: {api_key: k}}", "3:5: accounts[0]: `provider` is missing"),
        ("{name: a, provider: openai}", "3:5: accounts[0]: `credentials` is missing"),
        ("{name: a, provider: openai, credentials: {}}", "3:46: accounts[0].credentials: `api_key` is missing"),
        ("{name: a, provider: openai, credentials: {api_key: }}", "accounts[0].credentials.api_key: must not be empty"),
        ("{name: a, provider: openai, credentials: sk-1}", "accounts[0].credentials: must be a mapping"),
        ("{name: a b, provider: openai}", "accounts[0].name: must be one word"),
        ("{name: [a], provider: openai}", "accounts[0].name: must be a text, not a list"),
        ("{name: a, provider: zzz}", "unknown provider \"zzz\"; known: openai, anthropic"),
        (
            "{name: a, provider: openai-compatible}",
            "`base_url` is missing: openai-compatible has no address of its own",
        ),
        ("{name: a, provider: groq, base_url: nothing}", "accounts[0].base_url: \"nothing\" is not a URL"),
        ("{name: a, provider: groq, base_url: \"http://u:pw@h\"}", "holds a user name or password"),
        ("{name: a, provider: groq, base_url: \"http://127.0.0.1:8080/v1\"}", "points at this gateway's own listener"),
        ("{name: a, provider: groq, base_url: \"http://localhost:8080\"}", "points at this gateway's own listener"),
        ("{name: a, provider: openai, weight: 0}", "accounts[0].weight: must be from 1 to 1000000"),
        ("{name: a, provider: openai, priority: -1}", "accounts[0].priority: must be a whole number"),
        ("{name: a, provider: openai, models: []}", "accounts[0].models: names no model"),
        ("{name: a, provider: openai, models: gpt-4}", "accounts[0].models: must be a list"),
        ("{name: a, provider: openai, models: [g*t]}", "accounts[0].models[0]: `*` may stand only at the end"),
        ("{name: a, provider: openai, models: [x, x]}", "accounts[0].models[1]: this model stands in the list already"),
        ("{name: a, provider: openai, models: [{name: x}]}", "accounts[0].models[0]: `upstream` is missing"),
        ("{name: a, provider: openai, models: [{name: x*, upstream: y}]}", "models[0].name: must be one model's name"),
        ("{name: a, provider: openai, limits: {concurrency: 0}}", "accounts[0].limits.concurrency: must be from 1"),
        ("{name: a, provider: openai, limits: {rpm: 0}}", "accounts[0].limits.rpm: must be at least 1"),
        ("{name: a, provider: openai, quotas: [{window: day}]}", "accounts[0].quotas[0]: names no amount"),
        ("{name: a, provider: openai, quotas: [{tokens: 5}]}", "accounts[0].quotas[0]: `window` is missing"),
        ("{name: a, provider: openai, quotas: [{window: day, cost_usd: 0.00}]}", "cost_usd: must be more than 0"),
        (
            "{name: a, provider: openai, formats: [gemini]}",
            "this provider can speak only openai_responses, openai_chat",
        ),
        ("{name: a, provider: openai, formats: [openai]}", "must be one of openai_responses, openai_chat, anthropic"),
        ("{name: a, provider: openai, formats: [openai_chat, openai_chat]}", "formats[1]: stands in the list already"),
        ("{name: a, provider: openai, formats: []}", "accounts[0].formats: names no format"),
        ("{name: a, provider: openai, timeouts: {connect: 0}}", "timeouts.connect: must be from 1ms to 3600s"),
        ("{name: a, provider: openai, timeouts: {idle: fast}}", "timeouts.idle: must be a duration such as"),
        ("{name: a, provider: openai, headers: {host: x}}", "headers.host: belongs to one connection"),
        ("{name: a, provider: openai, headers: {X-A: x, x-a: y}}", "headers.x-a: this header is written twice"),
        ("{name: a, provider: openai, headers: {\"b d\": x}}", "is not a header's name"),
        ("{name: a, provider: openai, http2: yes}", "must be one of auto, always, never, not \"yes\""),
        ("{name: a, provider: openai, proxy: \"http://h\"}", "accounts[0].proxy: not supported by this version"),
        ("{name: a, provider: openai, credentials: {oauth: {}}}", "credentials.oauth: not supported by this version"),
    ] {
        let found = faults(&account(keys));
        assert!(found.contains(expected), "{keys}\n  expected {expected}\n  found {found}");
    }
}

#[test]
fn what_is_wrong_with_listeners_and_tuning_is_said() {
    for (more, expected) in [
        ("listen: []", "4:9: listen: names no address"),
        ("listen: [\"127.0.0.1:1\", \"localhost:1\"]", "4:25: listen[1]: another listener has this address"),
        ("admin: {listen: \"127.0.0.1:8080\", key: 0123456789abcdef}", "4:17: admin.listen: another listener"),
        ("admin: {listen: \"127.0.0.1:9090\", key: short}", "admin.key: must be at least 16 characters long"),
        ("admin: {key: 0123456789abcdef}", "4:8: admin: `listen` is missing"),
        ("listen: \"0.0.0.0:8080\"", "1:7: auth: `auth: none` would let everyone who can reach 0.0.0.0:8080"),
        ("tls: {cert: /no/such/cert, key: /no/such/key}", "4:13: tls.cert: /no/such/cert: the file cannot be read"),
        ("tls: {cert: /no/such/cert, key: /no/such/key}", "4:33: tls.key: /no/such/key: the file cannot be read"),
        ("tls: {cert: /etc/hostname}", "4:6: tls: `key` is missing"),
        ("server: {ca_file: /etc/passwd}", "server.ca_file: the file holds no PEM block"),
        ("server: {threads: 0}", "server.threads: must be from 1 to 1024"),
        (
            "server: {upgrade_socket: \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
            "server.upgrade_socket: must be shorter than 108 bytes",
        ),
        ("data_dir: /etc/passwd", "data_dir: is there, but is not a directory"),
        ("bounds: {body_bytes: 1GiB}", "4:9: bounds: `bodies_in_flight_bytes` is less than `body_bytes`"),
        ("bounds: {body_bytes: 64M}", "bounds.body_bytes: must be a size such as"),
        ("cooldown: {base: 2m}", "4:11: cooldown: `max` is shorter than `base`"),
        ("failover: {attempts: 0}", "failover.attempts: must be from 1 to 100"),
        ("headers: {request: [authorization]}", "headers.request[0]: never crosses the gateway"),
        ("headers: {request: [\"a b\"]}", "headers.request[0]: must be a header's name"),
        ("log: {level: verbose}", "log.level: must be one of off, error, warn, info, debug, trace, not \"verbose\""),
        ("log: {format: jsn}", "did you mean \"json\"?"),
        ("queue: 5", "4:8: queue: must be a mapping"),
        ("addmin: {}", "4:1: addmin: unknown key, did you mean \"admin\"?"),
        (
            "zzzzzzzz: {}",
            "unknown key; known here: listen, tls, admin, auth, data_dir, timeouts, accounts, models, users",
        ),
    ] {
        let found = faults(&with(more));
        assert!(found.contains(expected), "{more}\n  expected {expected}\n  found {found}");
    }
}

#[test]
fn what_is_wrong_with_users_is_said() {
    let hash = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let (one, other) = (hash("a"), hash("b"));
    for (users, expected) in [
        ("[]".to_owned(), "there are no users: add some under `users`"),
        (String::new(), "there are no users"),
        (format!("[{{keys: [\"{one}\"]}}]"), "users[0]: `name` is missing"),
        (
            format!("[{{name: u, keys: [\"{one}\", \"{}\"]}}]", one.to_uppercase().replace("SHA", "sha")),
            "users[0].keys[1]: this key is given to a user already, in line 3",
        ),
        (
            format!("[{{name: u, keys: [\"{one}\"]}}, {{name: u, keys: [\"{other}\"]}}]"),
            "users[1].name: the name \"u\" is taken already",
        ),
        ("[{name: u, keys: [\"sha256:abc\"]}]".to_owned(), "users[0].keys[0]: must be the hash of a key"),
        ("[{name: u, keys: [{disabled: true}]}]".to_owned(), "users[0].keys[0]: `sha256` is missing"),
        (
            format!("[{{name: u, keys: [{{sha256: \"{one}\", expires: soon}}]}}]"),
            "users[0].keys[0].expires: must be a date such as",
        ),
        (
            format!("[{{name: u, keys: [\"{one}\"], disabled: maybe}}]"),
            "users[0].disabled: must be true or false, not \"maybe\"",
        ),
        (format!("[{{name: u, keys: [\"{one}\"], models: []}}]"), "users[0].models: allows no model"),
        (
            format!("[{{name: u, keys: [\"{one}\"], addresses: [10.0.0.0/8]}}]"),
            "users[0].addresses: not supported by this version",
        ),
        (
            format!("[{{name: u, keys: [\"{one}\"], budgets: [{{window: dayly, cost_usd: $5}}]}}]"),
            "budgets[0].cost_usd: must be an amount in US dollars",
        ),
    ] {
        let text =
            format!("accounts:\n  - {{name: a, provider: openai, credentials: {{api_key: k}}}}\nusers: {users}\n");
        let found = faults(&text);
        assert!(found.contains(expected), "{users}\n  expected {expected}\n  found {found}");
    }
}

#[test]
fn what_is_wrong_with_model_names_is_said() {
    let head = "auth: none\naccounts:\n  - {name: one, provider: openai, credentials: {api_key: k}, models: [gpt-4.1, \"o3*\"]}\n";
    for (models, expected) in [
        ("[{name: smart}]", "4:10: models[0]: `targets` is missing"),
        ("[{name: smart, targets: []}]", "models[0]: `targets` is empty"),
        ("[{name: sm*, targets: [gpt-4.1]}]", "models[0].name: must be one model's name"),
        (
            "[{name: smart, targets: [gpt-4.2]}]",
            "models[0].targets[0]: no account serves \"gpt-4.2\", did you mean \"gpt-4.1\"?",
        ),
        (
            "[{name: smart, targets: [{model: gpt-4.1, account: oen}]}]",
            "no account is called \"oen\", did you mean \"one\"?",
        ),
        ("[{name: smart, targets: [{model: x, account: one}]}]", "the account of this target does not serve \"x\""),
        (
            "[{name: smart, targets: [{model: fast}]}, {name: fast, targets: [gpt-4.1]}]",
            "\"fast\" is itself a name of `models`",
        ),
        ("[{name: smart, targets: [smart]}]", "\"smart\" is itself a name of `models`"),
        (
            "[{name: x, targets: [gpt-4.1]}, {name: x, targets: [o3]}]",
            "models[1].name: the name \"x\" is taken already",
        ),
    ] {
        let found = faults(&format!("{head}models: {models}\n"));
        assert!(found.contains(expected), "{models}\n  expected {expected}\n  found {found}");
    }
    let fine =
        read(&format!("{head}models: [{{name: gpt-4.1, targets: [gpt-4.1, {{model: o3-mini, account: one}}]}}]\n"));
    assert_eq!(fine.unwrap().config.models[0].targets.len(), 2);
}

#[test]
fn a_fault_in_an_account_brings_no_second_fault_for_its_targets() {
    let found = faults(
        "auth: none\naccounts:\n  - {name: one, provider: nobody, models: [\"g*t\"]}\nmodels: [{name: x, targets: [{account: one, model: y}]}]\n",
    );
    assert!(!found.contains("targets"), "{found}");
}

#[test]
fn what_is_allowed_but_hardly_meant_is_a_warning() {
    let hash = format!("sha256:{}", "c".repeat(64));
    for (text, expected) in [
        (with(&format!("users: [{{name: u, keys: [\"{hash}\"]}}]")), "`users` has no effect with `auth: none`"),
        (with("users: [{name: u}]"), "users[0]: has no key"),
        (with("users: [{name: u, keys: []}]"), "users[0]: has no key"),
        (with("listen: \"0.0.0.0:80\"").replace("none", "none-anywhere"), "everyone who can reach 0.0.0.0:80"),
        (with("admin: {listen: \"0.0.0.0:90\", key: 0123456789abcdef}"), "other machines can reach the admin listener"),
        (
            account("{name: a, provider: groq, base_url: \"http://h:80\", credentials: {api_key: k}}"),
            "travel unencrypted",
        ),
        (
            account(
                "{name: a, provider: groq, credentials: {api_key: k}, models: [m, n]}\nmodels: [{name: m, targets: [n]}]",
            ),
            "models[0].name: hides the model of the same name",
        ),
        (
            account(
                "{name: a, provider: groq, credentials: {api_key: k}, models: [llama-3]}\nusers: [{name: u, models: [lama-3]}]",
            ),
            "users[0].models[0]: no account serves \"lama-3\", did you mean \"llama-3\"?",
        ),
        (
            with("users: [{name: u, budgets: [{window: day, tokens: 1}]}]"),
            "not enforced by this version: users[0].budgets",
        ),
    ] {
        let found = warnings(&text);
        assert!(
            found.iter().any(|warning| warning.contains(expected)),
            "{text}\n  expected {expected}\n  found {found:?}"
        );
    }
    assert_eq!(warnings(&with("")), Vec::<String>::new());
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
    assert!(config.headers.request.iter().any(|name| name == "x-mine-*"));
    assert!(config.headers.request.iter().any(|name| name == "user-agent"));
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
fn secrets_come_from_files_and_systemd() {
    let files = Files::new("secrets");
    let read =
        |key: &str| files.read(&account(&format!("{{name: a, provider: openai, credentials: {{api_key: {key}}}}}")));
    let key = |text: &str| read(text).unwrap().config.accounts[0].api_key.as_ref().map(|key| key.expose().to_owned());
    assert_eq!(key("{file: /etc/sub2api/admin.key}").as_deref(), Some("sk-admin-0123456789abcdef"));
    assert_eq!(key("{credential: anthropic-key}").as_deref(), Some("sk-ant-from-systemd"));
    for (form, expected) in [
        ("{file: /etc/sub2api/absent}", "api_key.file: "),
        ("{file: /etc/sub2api/empty}", "must not be empty"),
        ("{file: /etc/sub2api/two-lines}", "holds a line break"),
        ("{file: /etc/sub2api}", "the file cannot be read"),
        ("{credential: ../admin.key}", "must be the name of a credential"),
        ("{credential: absent}", "the file cannot be read"),
        ("{file: x, credential: y}", "names both"),
        ("{}", "must be a text, `{file: path}` or `{credential: name}`"),
        ("{fil: x}", "did you mean \"file\"?"),
        ("[k]", "must be a text, not a list"),
        ("\" k\"", "a space at an end"),
    ] {
        let found = read(form).unwrap_err().to_string();
        assert!(found.contains(expected) && !found.contains("sk-"), "{form}\n  expected {expected}\n  found {found}");
    }
    assert!(
        faults(&account("{name: a, provider: openai, credentials: {api_key: {credential: x}}}"))
            .contains("CREDENTIALS_DIRECTORY")
    );
}

#[test]
fn no_fault_shows_a_secret_wherever_it_was_put() {
    for text in [
        account("{name: a, provider: sk-very-secret}"),
        account("{name: a, provider: \"${KEY}\"}"),
        account("{name: a, provider: openai, credentials: {sk-very-secret: }}"),
        account("{name: a, provider: openai, credentials: sk-very-secret}"),
        account("{name: a, provider: openai, credentials: {api_key: \" sk-very-secret\"}}"),
        account("{name: a, provider: openai, credentials: {api_key: {file: sk-very-secret}}}"),
        account("{name: a, provider: groq, base_url: sk-very-secret}"),
        account("{name: a, provider: groq, base_url: \"${KEY}\"}"),
        account("{name: a, provider: groq, base_url: \"https://user:sk-very-secret@h\"}"),
        account("{name: a, provider: groq, headers: {sk-very-secret: {x: y}}}"),
        with("admin: {listen: sk-very-secret, key: sk-very-secret}"),
        with("timeouts: {connect: \"${KEY}\"}"),
        with("log: {level: \"${KEY}\"}"),
        with("models: [{name: sk-very-secret, targets: [\"${KEY}\"]}, {name: sk-very-secret, targets: [x]}]\nzzz: 1"),
        with("users: [{name: u, keys: [sk-very-secret]}]"),
        with("sk-very-secret: 1\nsk-very-secret: 2"),
    ] {
        let found = faults(&text);
        assert!(!found.contains("(no fault)"), "{text}");
        assert!(!found.contains("very-secret") && !found.contains("from-the-environment"), "{text}\n{found}");
    }
}

#[test]
fn a_loaded_configuration_prints_no_secret() {
    let loaded = read(&account(
        "{name: a, provider: openai, credentials: {api_key: sk-very-secret}, headers: {x: sk-2-secret}}",
    ));
    assert!(!format!("{:?}", loaded.unwrap()).contains("secret"));
}

#[test]
fn a_file_that_cannot_be_read_at_all_is_one_fault() {
    let load = |path: &Path| Config::load(path).unwrap_err().to_string();
    assert!(load(Path::new("/no/such.yaml")).starts_with("/no/such.yaml: cannot be read: "));
    assert!(load(Path::new("/")).starts_with("/: cannot be read: "));
    let files = Files::new("unreadable");
    let latin = files.0.join("latin.yaml");
    fs::write(&latin, b"a: 1\nname: caf\xe9\n").unwrap();
    assert_eq!(load(&latin), format!("{}:2:10: not UTF-8 from here on", latin.display()));
    let large = files.0.join("large.yaml");
    fs::write(&large, vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(load(&large).ends_with("larger than 4 MiB"));
    for empty in ["", "# only a comment\n", "---\n", "null\n", "\u{feff}"] {
        assert!(faults(empty).contains("the file is empty"), "{empty:?}: {}", faults(empty));
    }
    assert_eq!(faults("- a\n- b\n"), "1:1: must be a mapping (`key: value`)");
    assert_eq!(faults("just a text\n"), "1:1: must be a mapping (`key: value`)");
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lines dropped, doubled, moved, and bytes replaced anywhere: never a panic, every fault has a line, no secret is told.
    #[test]
    fn a_mangled_file_is_refused_with_lines_and_without_secrets(
        edits in prop::collection::vec((0_usize..200, 0_u8..6, 0_usize..200, any::<char>()), 1..6),
    ) {
        let original = shared("design/acceptance.yaml").unwrap_or_else(reference_switched_on);
        let text = mangle(&original, &edits);
        match read(&text) {
            Ok(_) => {}
            Err(found) => {
                prop_assert!(!found.faults.is_empty());
                for fault in &found.faults {
                    let is_count = fault.message.starts_with("… and ");
                    prop_assert!(is_count || (fault.line >= 1 && fault.column >= 1), "{fault}");
                    prop_assert!(fault.line <= text.split(['\n', '\r']).count() + 1, "{fault}");
                    prop_assert!(!fault.to_string().contains("sk-"), "{fault}");
                }
            }
        }
    }

    #[test]
    fn random_text_never_panics(text in "[-:{}\\[\\]&*#|>!?%@,'\"$a-c \n\t0-9]{0,200}") {
        let _ = read(&text);
    }
}

fn mangle(text: &str, edits: &[(usize, u8, usize, char)]) -> String {
    let mut lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (at, kind, other, character) in edits {
        let (at, other) = (at % lines.len(), other % lines.len());
        match kind {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => lines[at].insert(0, ' '),
            4 => lines[at] = lines[at].replacen(':', &character.to_string(), 1),
            _ => {
                let place = lines[at].char_indices().map(|(index, _)| index).nth(other).unwrap_or(0);
                lines[at].insert(place, *character);
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}
