//! The reference file in `conf/` says what the code says.

use super::*;
use std::collections::BTreeSet;

fn reference() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sub2api.yaml")).unwrap()
}

/// The reference file with every setting switched on: `#` goes where a setting follows, and stays before prose.
pub(super) fn reference_switched_on() -> String {
    let line = |line: &str| {
        let Some((indent, rest)) = line.split_once('#').filter(|(indent, _)| indent.trim().is_empty()) else {
            return line.to_owned();
        };
        let is_prose = rest.is_empty() || (rest.starts_with(' ') && !rest.starts_with("  "));
        if is_prose { line.to_owned() } else { format!("{indent}{rest}") }
    };
    reference().lines().map(line).collect::<Vec<_>>().join("\n")
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
    assert_eq!(config.budgets, BudgetSettings::default());
    assert_eq!(config.client_address.header, ForwardedHeader::default());
    assert_eq!(config.ledger, crate::ledger::LedgerSettings::default());
    assert_eq!(config.affinity, Affinity::default());
    assert_eq!(config.log, LogSettings::default());
    assert_eq!(config.metrics, MetricBounds::default());
    assert_eq!(config.headers, HeaderRules::default());
    assert_eq!(config.explain, Explain::default());
    let ServerSettings { upstream_keepalive, upgrade_socket, drain, .. } = ServerSettings::default();
    assert_eq!(config.server.upstream_keepalive, upstream_keepalive);
    assert_eq!((config.server.upgrade_socket, config.server.drain), (upgrade_socket, drain));
    let bare = read(&with("")).unwrap().config;
    assert_eq!(config.listen, bare.listen);
    assert_eq!(config.data_dir, bare.data_dir);
    assert_eq!(config.prices.unpriced, bare.prices.unpriced);
    assert_eq!(config.prices.len(), bare.prices.len() + 2, "one row of its own, one from the file");
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
    let elsewhere = |path: &String| {
        [
            "_key.file",
            "admin.key.credential",
            "account.credential",
            "_secret.file",
            "_secret.credential",
            "_token.credential",
            "proxy.file",
            "proxy.credential",
        ]
        .iter()
        .any(|form| path.ends_with(form))
    };
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
