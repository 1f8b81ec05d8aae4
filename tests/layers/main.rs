//! The layers of docs/architecture.md, enforced: reads which paths every source file names.
//!
//! A rule is changed here and in docs/architecture.md in the same commit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, which is its purpose")]

mod source;

use std::{fs, path::Path};

const ALL: &[&str] = &["*"];

/// Which modules a module may use beside itself, the lowest layer first.
const LAYERS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("error", &[]),
    ("wire", &["error"]),
    ("tokens", &["error", "wire"]),
    ("provider", &["clock", "error", "wire"]),
    ("telemetry", &["clock", "error", "wire", "provider"]),
    ("ledger", &["clock", "error", "wire", "tokens", "telemetry"]),
    ("limit", &["clock", "error", "wire", "tokens", "telemetry", "ledger"]),
    ("config", &["clock", "error", "wire", "tokens", "telemetry", "provider", "ledger", "limit"]),
    ("metrics", &["clock", "error", "wire", "provider", "telemetry", "config"]),
    ("trace", &["clock", "error", "wire", "provider", "telemetry", "config"]),
    ("account", &["clock", "error", "wire", "tokens", "telemetry", "provider", "ledger", "limit", "config"]),
    ("user", &["clock", "error", "wire", "tokens", "telemetry", "provider", "ledger", "limit", "config"]),
    ("live", UP_TO_3),
    ("gateway", UP_TO_3),
    ("admin", UP_TO_3),
    ("mock", UP_TO_3),
    ("server", ALL),
    ("command", ALL),
    ("main", ALL),
    ("lib", ALL),
];
const UP_TO_3: &[&str] = &[
    "clock",
    "error",
    "telemetry",
    "wire",
    "tokens",
    "provider",
    "ledger",
    "limit",
    "config",
    "metrics",
    "trace",
    "account",
    "user",
    "live",
];

/// The only places that name Pingora, as beginnings of paths below `src/`.
const PINGORA: &[&str] = &["gateway", "admin", "mock", "server", "limit/window.rs", "limit/flood.rs"];

/// What `wire` must not name: it is pure, and JSON trees cost it four times the time.
const NOT_IN_WIRE: &[(&[&str], &str)] = &[
    (&["tokio"], "wire never waits"),
    (&["std", "time", "Instant"], "wire reads no clock"),
    (&["std", "time", "SystemTime"], "wire reads no clock"),
    (&["std", "fs"], "wire does no input or output"),
    (&["std", "net"], "wire does no input or output"),
    (&["std", "env"], "wire does no input or output"),
    (&["std", "process"], "wire does no input or output"),
    (&["std", "thread"], "wire never waits"),
    (&["serde_json", "Value"], "a tree of values costs several times a borrowed scan"),
    (&["serde_json", "value", "Value"], "a tree of values costs several times a borrowed scan"),
    (&["serde_json", "json"], "a tree of values costs several times a borrowed scan"),
];

/// What is wrong with a file, given its path below `src/`, one line each.
fn faults(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let top = module.first().copied().unwrap_or(file.trim_end_matches(".rs"));
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == top) else {
        return vec![format!(
            "src/{file}:1: `{top}` is in no layer; give it one in tests/layers and docs/architecture.md"
        )];
    };
    let mut faults = Vec::new();
    for path in source::paths(text, &module) {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        if let Some(why) = against_layers(top, allowed, &segments).or_else(|| against_bans(file, top, &segments)) {
            faults.push(format!("src/{file}:{}: `{}`: {why}", path.line, segments.join("::")));
        }
    }
    faults
}

fn against_layers(top: &str, allowed: &[&str], segments: &[&str]) -> Option<String> {
    let ["crate", used, ..] = segments else { return None };
    let known = LAYERS.iter().any(|(name, _)| name == used);
    if *used == top || allowed == ALL || allowed.contains(used) || (!known && *used != "*") {
        return None;
    }
    Some(format!("{top} may use only {}", if allowed.is_empty() { "itself".to_owned() } else { allowed.join(", ") }))
}

fn against_bans(file: &str, top: &str, segments: &[&str]) -> Option<String> {
    let first = segments.first()?;
    let here = PINGORA.iter().any(|place| file == *place || top == *place);
    if first.starts_with("pingora") && !here {
        return Some(format!("Pingora is named only in {}", PINGORA.join(", ")));
    }
    let (_, why) = NOT_IN_WIRE.iter().find(|(banned, _)| top == "wire" && segments.starts_with(banned))?;
    Some((*why).to_owned())
}

/// `account/pool.rs` → `["account", "pool"]`; `lib.rs` and `main.rs` → the root.
fn module_of(file: &str) -> Vec<&str> {
    let mut names: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if matches!(names.last(), Some(&"mod" | &"lib" | &"main")) {
        names.pop();
    }
    names
}

/// Every `.rs` file below `folder`, as its path below `src/` with its text; files named `tests` are test code.
fn read_all(folder: &Path, below: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            read_all(&entry.path(), &format!("{below}{name}/"), found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push((format!("{below}{name}"), fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

#[test]
fn every_file_keeps_to_its_layer() {
    let mut files = Vec::new();
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(files.len() > 10, "only {} files were read", files.len());
    let faults: Vec<String> = files.iter().flat_map(|(file, text)| faults(file, text)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_use_of_a_higher_layer_is_found_however_it_is_written() {
    for text in [
        "use crate::gateway::Exchange;",
        "use crate::{\n    error::Rejection,\n    gateway::{Exchange, Plan},\n};",
        "fn f() { crate::gateway::go() }",
        "use super::super::gateway;",
        "mod inner { use super::super::super::gateway::go; }",
        "macro_rules! m { () => { $crate::gateway::go() } }",
        "fn f(text: &str) -> crate::gateway::Exchange { todo(text, '\"', r#\"x\"#) }",
        "use crate::*;",
    ] {
        let found = faults("wire/sse.rs", text);
        assert!(!found.is_empty(), "{text}");
        assert!(found.iter().all(|fault| fault.contains("wire may use only error")), "{found:?}");
    }
    assert!(faults("wire/sse.rs", "\n\nuse crate::clock::Clock;")[0].starts_with("src/wire/sse.rs:3:"));
}

#[test]
fn what_only_looks_like_a_use_is_left_alone() {
    for text in [
        "// crate::gateway::go()\n/* use /* crate::gateway */ crate::mock; */",
        "const A: &str = \"crate::gateway::go \\\" crate::mock\";",
        "const A: &str = r#\"crate::gateway \" crate::mock\"#; const B: char = '\\''; const C: char = '\"';",
        "pub(crate) fn gateway<'a>(x: &'a str) {}",
        "use crate::error::Rejection; use super::usage::Usage; use self::gateway::x;",
        "#[cfg(test)]\nmod tests {\n use crate::gateway::go; fn f() { if a { tokio::spawn(b) } }\n}",
        "#[cfg(test)]\nuse crate::{mock::Mock, gateway::{A, B}};",
        "#[test]\n#[ignore]\nfn f() -> [u8; 3] { crate::mock::go() }",
    ] {
        assert_eq!(faults("wire/sse.rs", text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn code_after_a_test_item_is_read_again() {
    let text =
        "#[cfg(test)]\nuse crate::{mock::Mock};\n#[cfg(test)] mod tests { fn f() {} }\nuse crate::account::pool;";
    assert_eq!(faults("wire/sse.rs", text).len(), 1);
    assert_eq!(faults("wire/sse.rs", "#[cfg(not(test))] use crate::account::pool;").len(), 1);
}

#[test]
fn the_three_upper_modules_never_use_each_other() {
    let modules = ["gateway", "admin", "mock"];
    for user in modules {
        for used in modules {
            let found = faults(&format!("{user}/mod.rs"), &format!("use crate::{used}::x;"));
            assert_eq!(found.is_empty(), user == used, "{user} uses {used}: {found:?}");
        }
    }
    assert!(faults("server.rs", "use crate::{gateway, admin, mock};").is_empty());
}

#[test]
fn pingora_is_named_only_where_it_may_be() {
    let text = "use pingora_limits::rate::Rate;\nfn f() { let _ = pingora::Error::new_str(\"\"); }";
    for file in ["limit/inflight.rs", "account/pool.rs", "wire/mod.rs", "command/serve.rs"] {
        assert_eq!(faults(file, text).len(), 2, "{file}");
    }
    for file in ["limit/window.rs", "gateway/downstream.rs", "admin/mod.rs", "mock/mod.rs", "server.rs"] {
        assert!(faults(file, text).is_empty(), "{file}");
    }
}

#[test]
fn wire_stays_pure() {
    for text in [
        "use tokio::sync::mpsc;",
        "fn f() { ::tokio::spawn(g()); }",
        "use std::{fmt, time::{Duration, Instant}};",
        "fn f() { std::time::SystemTime::now(); }",
        "use serde_json::{Value as Tree, from_slice};",
        "fn f() { serde_json::json!({}); }",
    ] {
        assert_eq!(faults("wire/gemini/reply.rs", text).len(), 1, "{text}");
        assert!(faults("account/oauth.rs", text).is_empty(), "{text}");
    }
    assert!(faults("wire/mod.rs", "use serde_json::value::RawValue; use std::time::Duration;").is_empty());
}

#[test]
fn a_module_without_a_layer_is_a_fault() {
    assert!(faults("misc.rs", "")[0].contains("in no layer"));
}
