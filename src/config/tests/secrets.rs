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
