//! No key is ever written anywhere: a run at the highest log level through every fault that the mock providers know, then
//! all that came out of it is searched.

use crate::program::{Program, Scratch, eventually, get};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

/// Every key of the run: the callers' (one is known, one is not), the accounts', the operator's.
const KEYS: [&str; 6] = [
    "sk-known-caller-1f7a",
    "sk-unknown-caller-77",
    "sk-account-one-c0de",
    "sk-account-two-beef",
    "hush-proxy-pass",
    ADMIN,
];
const ADMIN: &str = "admin-key-5d1e-secret";

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn hash(key: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn send(address: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Calls that fail in every way, with the known key in every place and with an unknown one.
fn calls(address: &str, faults: &[String]) -> Vec<String> {
    let [known, unknown, ..] = KEYS;
    let chat = |text: &str, stream| {
        format!(r#"{{"model":"gpt-4.1","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#)
    };
    let mut answers = Vec::new();
    for header in [format!("authorization: Bearer {known}"), format!("x-api-key: {known}"), format!("api-key: {known}")]
    {
        answers.push(send(address, "/v1/chat/completions", &format!("{header}\r\n"), &chat("hello", false)));
    }
    let gemini = r#"{"contents":[{"parts":[{"text":"hello"}]}]}"#;
    for key in [known, unknown] {
        answers.push(send(address, &format!("/v1beta/models/gpt-4.1:generateContent?key={key}"), "", gemini));
        answers.push(send(address, "/v1/messages", &format!("x-api-key: {key}\r\n"), "{ broken"));
        answers.push(send(address, "/v1/nowhere", &format!("authorization: Bearer {key}\r\n"), "{}"));
    }
    let own = format!("authorization: Bearer {known}\r\n");
    for fault in faults {
        for stream in [false, true] {
            answers.push(send(address, "/v1/chat/completions", &own, &chat(&format!("[[fault-{fault}]]"), stream)));
        }
    }
    answers
}

/// What the mock can do wrong without keeping a caller waiting for long.
fn faults(mock: &str) -> Vec<String> {
    let (_, listed) = get(mock, "/_faults", None).unwrap();
    let names: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let all = match &names {
        serde_json::Value::Object(all) => all.keys().cloned().collect::<Vec<_>>(),
        serde_json::Value::Array(all) => all.iter().filter_map(|n| Some(n.as_str()?.to_owned())).collect(),
        other => panic!("{other}"),
    };
    let slow = ["stall", "hang", "slow", "drip", "pause", "silent", "wait"];
    all.into_iter().filter(|name| !slow.iter().any(|word| name.contains(word))).collect()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => {
                all.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap_or_default()));
            }
            Ok(_) | Err(_) => {}
        }
    }
    all
}

#[test]
fn no_key_is_written_anywhere_at_the_highest_log_level() {
    let scratch = Scratch::new();
    let (mock, admin, proxy) = (free_address(), free_address(), free_address());
    let _mock = Program::start(&scratch, &["mock", "--listen", &mock], &[]);
    eventually(Duration::from_secs(20), || get(&mock, "/_health", None).is_ok());
    let [known, _, one, two, pass, _] = KEYS;
    let file = scratch.write(
        "c.yaml",
        &format!(
            "listen: [\"{}\"]\nadmin: {{ listen: \"{admin}\", key: {ADMIN} }}\ndata_dir: \"{}\"\nlog: {{ level: trace }}\n\
             cooldown: {{ base: 10ms, max: 20ms, told_max: 20ms, money: 20ms }}\n\
             timeouts: {{ first_byte: 2s, idle: 2s, total: 6s }}\n\
             accounts:\n  - {{ name: one, provider: openai, base_url: \"http://{mock}/v1\", credentials: {{ api_key: {one} }} }}\n  \
             - {{ name: two, provider: openai, base_url: \"http://{mock}/v1\", priority: 2, credentials: {{ api_key: {two} }}, \
             proxy: \"http://me:{pass}@{proxy}\" }}\nusers:\n  - {{ name: ann, keys: [\"sha256:{}\"] }}\n",
            scratch.address,
            scratch.path("data").display(),
            hash(known)
        ),
    );
    let mut program = Program::serve(&scratch, &file, &[]);
    let faults = faults(&mock);
    assert!(faults.len() > 20, "{faults:?}");
    let mut said = calls(&scratch.address, &faults);
    for path in [
        "/metrics",
        "/api/v1/accounts",
        "/api/v1/failures?limit=1000",
        "/api/v1/usage/attempts?limit=1000",
        "/api/v1/keys",
        "/api/v1/limits",
        "/api/v1/status",
        "/nowhere",
    ] {
        said.push(get(&admin, path, Some(ADMIN)).unwrap().1);
        said.push(get(&admin, path, Some(KEYS[1])).unwrap().1);
    }
    program.signal("HUP");
    program.signal("TERM");
    assert_eq!(program.wait(Duration::from_secs(30)), Some(0));
    let log = program.log();
    assert!(log.contains("attempt failed") && log.contains("request="), "the run has left no log: {log}");
    for key in KEYS {
        for (at, answer) in said.iter().enumerate() {
            assert!(!answer.contains(key), "answer {at} tells a key: {answer}");
        }
        let line = log.lines().find(|line| line.contains(key));
        assert_eq!(line, None, "the log tells a key");
        for (name, bytes) in files(&scratch.path("data")) {
            assert!(memchr::memmem::find(&bytes, key.as_bytes()).is_none(), "{name} holds a key");
        }
    }
    println!(
        "{} answers, {} lines of log, {} files: no key",
        said.len(),
        log.lines().count(),
        files(&scratch.path("data")).len()
    );
}
