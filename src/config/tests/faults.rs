//! Every fault is found, and said where it is.

use super::*;

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
        (
            "{name: a, provider: groq, base_url: \"http://127.0.0.1:8080/v1\"}",
            "its calls would arrive at 127.0.0.1:8080",
        ),
        ("{name: a, provider: groq, base_url: \"http://localhost:8080\"}", "its calls would arrive at 127.0.0.1:8080"),
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
        (
            "{name: a, provider: openai, proxy: \"http://h\"}",
            "accounts[0].proxy: has no port: write it behind the host, as in socks5://host:1080 (the value is not shown)",
        ),
        ("{name: a, provider: openai, proxy: {url: x}}", "accounts[0].proxy.url: unknown key"),
        (
            "{name: a, provider: openai, credentials: {oauth: {}}}",
            "3:54: accounts[0].credentials.oauth: `token_url` is",
        ),
        ("{name: a, provider: openai, credentials: {oauth: {}}}", "credentials.oauth: `client_id` is missing"),
        ("{name: a, provider: openai, credentials: {oauth: {}}}", "credentials.oauth: `refresh_token` is missing"),
        ("{name: a, provider: openai, credentials: {oauth: {token: x}}}", "credentials.oauth.token: unknown key"),
        ("{name: a, provider: openai, credentials: {oauth: {token_url: h}}}", "oauth.token_url: has no scheme"),
        (
            "{name: a, provider: openai, credentials: {oauth: {scope: \"a  b\"}}}",
            "oauth.scope: must be scopes with single",
        ),
        ("{name: a, provider: openai, credentials: {oauth: {client_auth: basic}}}", "needs a `client_secret`"),
        ("{name: a, provider: openai, credentials: {oauth: {encoding: xml}}}", "encoding: must be one of form, json"),
        (
            "{name: a, provider: openai, credentials: {api_key: k, oauth: {}}}",
            "accounts[0].credentials: holds more than one of `api_key`, `oauth` and `google_service_account`",
        ),
        (
            "{name: a, provider: openai, credentials: {google_service_account: {}}}",
            "must be `{file: path}`, `{credential",
        ),
        (
            "{name: a, provider: openai, credentials: {google_service_account: {file: /no/such}}}",
            "google_service_account.file: /no/such: the file cannot be read",
        ),
        (
            "{name: a, provider: openai, credentials: {google_service_account: sk-1}}",
            "is not the JSON of a service account",
        ),
        (
            "{name: a, provider: openai, credentials: {google_service_account: {type: user, private_key: k}}}",
            "its `type` must be \"service_account\"",
        ),
        (
            "{name: a, provider: openai, credentials: {google_service_account: {type: service_account, private_key: k}}}",
            "has no `client_email`",
        ),
        (
            "{name: a, provider: openai, credentials: {google_service_account: \
             {type: service_account, client_email: a@b, private_key: sk-very-secret}}}",
            "no RSA key of at least 2048 bits in PEM (nothing of it is shown)",
        ),
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
            format!("[{{name: u, keys: [\"{one}\"], addresses: [10.0.0.0/8, everywhere]}}]"),
            "users[0].addresses[1]: must be an address or a network such as 10.0.0.0/8",
        ),
        (
            format!("[{{name: u, keys: [\"{one}\"], addresses: [10.1.2.3/8]}}]"),
            "users[0].addresses[0]: has bits behind the network's end; 10.0.0.0/8 is meant",
        ),
        (
            format!("[{{name: u, keys: [{{sha256: \"{one}\", addresses: []}}]}}]"),
            "users[0].keys[0].addresses: names no address",
        ),
        (
            format!("[{{name: u, keys: [{{sha256: \"{one}\", budgets: [{{window: day}}]}}]}}]"),
            "users[0].keys[0].budgets[0]: names no amount",
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
    ] {
        let found = warnings(&text);
        assert!(
            found.iter().any(|warning| warning.contains(expected)),
            "{text}\n  expected {expected}\n  found {found:?}"
        );
    }
    assert_eq!(warnings(&with("")), Vec::<String>::new());
}

fn warnings(text: &str) -> Vec<String> {
    read(text).unwrap_or_else(|faults| panic!("{faults}")).warnings.iter().map(Fault::to_string).collect()
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
