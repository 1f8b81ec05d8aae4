//! The program itself, as an operator runs it: started, checked, reloaded, handed over, ended.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod crash;
mod program;
mod secrets;
#[path = "../e2e/tls.rs"]
mod tls;

use program::{Program, Scratch, get, slow_upstream, stream};
use std::{
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const KEYLESS: &str = "auth: none\n";

fn config(scratch: &Scratch, upstream: &str, more: &str) -> String {
    format!(
        "listen: [\"{}\"]\ndata_dir: \"{}\"\n{KEYLESS}accounts:\n  - {{ name: only, provider: anthropic, base_url: \"{upstream}\", \
         credentials: {{ api_key: sk-upstream }} }}\n{more}",
        scratch.address,
        scratch.path("data").display()
    )
}

#[test]
fn a_faulty_configuration_ends_with_code_2_and_every_fault() {
    let scratch = Scratch::new();
    let file =
        scratch.write("bad.yaml", "listen: [\"127.0.0.1:1\"]\nlisen: 1\naccounts:\n  - { name: a, provider: opnai }\n");
    for arguments in [vec!["check", file.to_str().unwrap()], vec!["serve", "-c", file.to_str().unwrap()]] {
        let (code, output) = program::run(&arguments, &[]);
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("bad.yaml:2:"), "{output}");
        assert!(output.contains("did you mean"), "{output}");
        assert!(output.contains("accounts[0].provider"), "{output}");
    }
}

#[test]
fn without_a_file_the_keys_in_the_environment_make_the_accounts() {
    let (code, output) = program::run(&["serve"], &[]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("OPENAI_API_KEY") && output.contains("ANTHROPIC_API_KEY"), "{output}");
}

#[test]
fn an_address_in_use_is_told_in_words() {
    let scratch = Scratch::new();
    let _taken = std::net::TcpListener::bind(&scratch.address).unwrap();
    let file = scratch.write("c.yaml", &config(&scratch, "http://127.0.0.1:1", ""));
    let (code, output) = program::run(&["serve", "-c", file.to_str().unwrap()], &[]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("cannot listen on") && !output.contains("panicked"), "{output}");
}

#[test]
fn a_key_works_that_key_new_printed() {
    let (code, output) = program::run(&["key", "new"], &[]);
    assert_eq!(code, Some(0));
    let key = output.split_whitespace().find(|word| word.starts_with("sk-")).unwrap().to_owned();
    let hash = output.split('"').find(|word| word.starts_with("sha256:")).unwrap().to_owned();
    let scratch = Scratch::new();
    let text = config(&scratch, "http://127.0.0.1:1", "")
        .replace(KEYLESS, &format!("users: [ {{ name: u, keys: [\"{hash}\"] }} ]\n"));
    let file = scratch.write("c.yaml", &text);
    let _program = Program::serve(&scratch, &file, &[]);
    assert_eq!(get(&scratch.address, "/v1/models", Some(&key)).unwrap().0, 200);
    assert_eq!(get(&scratch.address, "/v1/models", Some("sk-wrong")).unwrap().0, 401);
    assert_eq!(get(&scratch.address, "/v1/models", None).unwrap().0, 401);
    assert_eq!(get(&scratch.address, "/livez", None).unwrap().0, 200);
}

#[test]
fn a_hangup_reloads_and_a_faulty_file_changes_nothing() {
    let scratch = Scratch::new();
    let file = scratch.write(
        "c.yaml",
        &config(&scratch, "http://127.0.0.1:1", "models: [ { name: before, targets: [ { model: m } ] } ]\n"),
    );
    let program = Program::serve(&scratch, &file, &[]);
    let lists = |name: &str| {
        get(&scratch.address, "/v1/models/x", None).is_ok()
            && get(&scratch.address, "/v1/models", None).unwrap().1.contains(name)
    };
    assert!(lists("before"));
    scratch.write(
        "c.yaml",
        &config(&scratch, "http://127.0.0.1:1", "models: [ { name: after, targets: [ { model: m } ] } ]\n"),
    );
    program.signal("HUP");
    program::eventually(Duration::from_secs(5), || lists("after"));
    scratch.write("c.yaml", "accounts: nonsense\n");
    program.signal("HUP");
    program::eventually(Duration::from_secs(5), || program.log().contains("reload refused"));
    assert!(lists("after"));
}

#[test]
fn a_price_file_that_is_broken_at_a_hangup_changes_nothing_and_is_named_with_its_fault() {
    let scratch = Scratch::new();
    let upstream = slow_upstream(1, Duration::ZERO);
    let row = |input: &str, more: &str| {
        format!("- {{ models: [claude-x], source: test, date: 2026-05-22, input: {input}, output: 0{more} }}\n")
    };
    let prices = scratch.write("prices.yaml", &row("1_000_000", ""));
    let more = format!(
        "prices: {{ file: \"{}\", built_in: false }}\nadmin: {{ listen: \"{}\", key: sk-admin-of-the-test }}\n",
        prices.display(),
        scratch.second_address()
    );
    let file = scratch.write("c.yaml", &config(&scratch, &upstream, &more));
    let program = Program::serve(&scratch, &file, &[]);
    // Seven input tokens each time: 7 dollars by the first price, 14 by the second.
    let spent = || {
        assert!(stream(&scratch.address).join().unwrap().contains("message_stop"));
        let cost = || {
            let metrics = get(&scratch.second_address(), "/metrics", Some("sk-admin-of-the-test")).unwrap().1;
            let line = metrics.lines().find(|line| line.starts_with("sub2api_cost_usd_total")).map(str::to_owned);
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default()
        };
        thread::sleep(Duration::from_millis(300));
        cost()
    };
    assert_eq!(spent(), 7.0);
    let faults =
        [("input: two", row("two", "")), ("unknown key", row("2_000_000", ", inptu: 1")), ("no prices", String::new())];
    for (at, (what, text)) in (1..).zip(faults) {
        scratch.write("prices.yaml", &text);
        program.signal("HUP");
        program::eventually(Duration::from_secs(5), || program.log().matches("reload refused").count() == at);
        let log = program.log();
        let told = log.rsplit("reload refused").next().unwrap();
        assert!(told.contains(&format!("{}:1:", prices.display())), "{what}: {told}");
        assert!(told.contains("last good configuration stays"), "{what}: {told}");
        assert_eq!(spent(), 7.0 + 7.0 * at as f64, "{what}: the last good prices are kept, not frozen and not dropped");
    }
    scratch.write("prices.yaml", &row("2_000_000", ""));
    program.signal("HUP");
    program::eventually(Duration::from_secs(5), || {
        program.log().contains("] reloaded") || program.log().contains("reloaded ")
    });
    assert_eq!(spent(), 28.0 + 14.0, "and a good file is taken again");
}

#[test]
fn the_roots_of_ca_file_are_believed_beside_the_system_s_and_nobody_else_is() {
    let scratch = Scratch::new();
    let upstream: std::net::SocketAddr =
        slow_upstream(1, Duration::ZERO).trim_start_matches("http://").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let [system, own, stranger] = ["system", "own", "stranger"].map(tls::Certificate::new);
    let port = |certificate: &tls::Certificate| runtime.block_on(certificate.in_front_of(upstream));
    let environment = [("SSL_CERT_FILE", system.file.to_str().unwrap())];
    for (name, certificate, has_own, expected) in [
        ("own", &own, true, "message_stop"),
        ("system", &system, true, "message_stop"),
        ("stranger", &stranger, true, "TLSHandshakeFailure"),
        ("system", &system, false, "message_stop"),
        ("own", &own, false, "TLSHandshakeFailure"),
    ] {
        let more = if has_own { format!("server: {{ ca_file: \"{}\" }}\n", own.file.display()) } else { String::new() };
        let url = format!("https://localhost:{}", port(certificate));
        let file = scratch.write("c.yaml", &config(&scratch, &url, &more));
        let program = Program::serve(&scratch, &file, &environment);
        let reply = stream(&scratch.address).join().unwrap();
        assert!(reply.contains(expected), "{name} {has_own}: {reply}\n{}", program.log());
    }
}

#[test]
fn a_termination_waits_for_the_stream_in_flight() {
    let scratch = Scratch::new();
    let upstream = slow_upstream(20, Duration::from_millis(100));
    let file = scratch.write("c.yaml", &config(&scratch, &upstream, ""));
    let mut program = Program::serve(&scratch, &file, &[]);
    let streaming = stream(&scratch.address);
    thread::sleep(Duration::from_millis(500));
    program.signal("TERM");
    let text = streaming.join().unwrap();
    assert!(text.contains("message_stop") && !text.contains("event: error"), "{text}");
    let ended = Instant::now();
    assert_eq!(program.wait(Duration::from_secs(10)), Some(0));
    assert!(ended.elapsed() < Duration::from_secs(3), "it ended {:?} after the stream", ended.elapsed());
}

#[test]
fn a_hand_over_cuts_no_stream_and_refuses_no_connection() {
    let scratch = Scratch::new();
    let upstream = slow_upstream(100, Duration::from_millis(100));
    let file = scratch.write("c.yaml", &config(&scratch, &upstream, ""));
    let mut old = Program::serve(&scratch, &file, &[]);
    let streaming = stream(&scratch.address);
    let (stop, refused, served) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let knocking = {
        let (stop, refused, served, address) = (stop.clone(), refused.clone(), served.clone(), scratch.address.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match TcpStream::connect(&address) {
                    Ok(_) => match get(&address, "/livez", None) {
                        Ok((200, _)) => served.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other:?}"),
                    },
                    Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                };
                thread::sleep(Duration::from_millis(5));
            }
        })
    };
    thread::sleep(Duration::from_millis(500));
    // Nobody waits for the listeners: the signal must not end the service.
    old.signal("QUIT");
    program::eventually(Duration::from_secs(5), || old.log().contains("SIGQUIT ignored"));
    let new = Program::start(&scratch, &["serve", "--upgrade", "-c", file.to_str().unwrap()], &[]);
    program::eventually(Duration::from_secs(5), || scratch.path("data/upgrade.sock").exists());
    old.signal("QUIT");
    let text = streaming.join().unwrap();
    assert!(
        text.contains("message_stop") && !text.contains("event: error"),
        "the stream was cut: {}",
        &text[text.len().saturating_sub(300)..]
    );
    assert_eq!(old.wait(Duration::from_secs(20)), Some(0), "{}", old.log());
    assert_eq!(get(&scratch.address, "/readyz", None).unwrap().0, 200, "{}", new.log());
    stop.store(true, Ordering::Relaxed);
    knocking.join().unwrap();
    assert_eq!(refused.load(Ordering::Relaxed), 0);
    assert!(served.load(Ordering::Relaxed) > 500, "{}", served.load(Ordering::Relaxed));
}

#[test]
fn the_log_has_one_line_a_request_and_never_a_key() {
    let scratch = Scratch::new();
    let upstream = slow_upstream(2, Duration::from_millis(5));
    let file = scratch.write("c.yaml", &config(&scratch, &upstream, "log: { format: json }\n"));
    let program = Program::serve(&scratch, &file, &[]);
    stream(&scratch.address).join().unwrap();
    program::eventually(Duration::from_secs(5), || program.log().contains("\"kind\":\"access\""));
    let log = program.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.contains("\"kind\":\"access\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    let line = &lines[0];
    assert_eq!(
        (line["status"].as_u64(), line["account"].as_str(), line["outcome"].as_str()),
        (Some(200), Some("only"), Some("served")),
        "{line}"
    );
    assert_eq!(
        (line["input"].as_u64(), line["output"].as_u64(), line["finish"].as_str()),
        (Some(7), Some(3), Some("end_turn")),
        "{line}"
    );
    assert!(!log.contains("sk-upstream") && !log.contains("sk-client"), "{log}");
}
