//! Secrets come from where they are kept, and go nowhere else.

use super::*;

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
fn a_service_account_is_read_from_a_file_from_a_text_and_from_the_yaml_itself() {
    let files = Files::new("robot");
    let json = fs::read_to_string(Path::new(files.path()).join("robot.json")).unwrap();
    let quoted = serde_json::Value::from(json.as_str()).to_string();
    for (form, scope) in [
        ("{file: /etc/sub2api/robot.json}".to_owned(), "https://www.googleapis.com/auth/cloud-platform"),
        ("{credential: robot.json, scope: \"a b\"}".to_owned(), "a b"),
        (json.clone(), "https://www.googleapis.com/auth/cloud-platform"),
        (quoted, "https://www.googleapis.com/auth/cloud-platform"),
    ] {
        let keys = format!("{{name: a, provider: openai, credentials: {{google_service_account: {form}}}}}");
        let loaded = files.read(&account(&keys)).unwrap_or_else(|faults| panic!("{faults}"));
        let grant = loaded.config.accounts[0].grant.clone().unwrap();
        assert_eq!((grant.email(), grant.scope.as_deref()), (Some("robot@p.iam.gserviceaccount.com"), Some(scope)));
        assert_eq!(grant.token_url.authority(), "oauth2.googleapis.com");
        assert!(!format!("{grant:?}").contains("PRIVATE"));
    }
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
        account("{name: a, provider: groq, proxy: \"http://u:sk-very-secret@h\"}"),
        account("{name: a, provider: groq, proxy: sk-very-secret}"),
        account("{name: a, provider: groq, proxy: \"${KEY}\"}"),
        account("{name: a, provider: openai, credentials: {oauth: {token_url: sk-very-secret, refresh_token: [x]}}}"),
        account("{name: a, provider: openai, credentials: {oauth: {token_url: \"https://u:sk-very-secret@h\"}}}"),
        account("{name: a, provider: openai, credentials: {oauth: {encoding: sk-very-secret}}}"),
        account("{name: a, provider: openai, credentials: {google_service_account: sk-very-secret}}"),
        account("{name: a, provider: openai, credentials: {google_service_account: {private_key: sk-very-secret}}}"),
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
    let oauth = "{token_url: \"https://h/t\", client_id: c, client_secret: the-secret-1, refresh_token: the-secret-2}";
    let loaded = read(&account(&format!(
        "{{name: a, provider: openai, proxy: \"http://secret:secret@h:1\", credentials: {{oauth: {oauth}}}}}"
    )));
    assert!(!format!("{:?}", loaded.unwrap().config.accounts).replace("client_secret", "").contains("secret"));
}
