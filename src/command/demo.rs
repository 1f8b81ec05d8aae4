//! `sub2api demo`: the gateway with mock providers built in, to try it without a key or a file.

use super::{USAGE_ERROR, help, log};
use crate::{
    config::{Config, Faults},
    mock::{self, Mock, MockHandle},
    server::{self, Options},
};
use lexopt::prelude::*;
use std::{net::SocketAddr, process::ExitCode};
use tokio::{net::TcpListener, runtime::Runtime};

const HELP: &str = "\
sub2api demo [--listen ADDRESS]

Runs the gateway with mock providers built in: no key and no file needed. With provider keys in the environment
(OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, …) it uses those providers instead, and says so.
      --listen ADDRESS   where the gateway answers (default 127.0.0.1:8080)";

/// The key of the demo's only user. It opens nothing but a demo on loopback.
const KEY: &str = "sk-demo";
/// Its hash, as a configuration holds it.
const KEY_HASH: &str = "sha256:f77894fdfa58e447c57e077eaa9708e8e009c84dc6aba2db80461275e9b85be7";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let mut listen: SocketAddr = ([127, 0, 0, 1], 8080).into();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = parser.value()?.parse()?,
            Short('h') | Long("help") => return help(HELP),
            other => return Err(other.unexpected()),
        }
    }
    Ok(demo(listen))
}

fn demo(listen: SocketAddr) -> ExitCode {
    match set_up(listen) {
        Ok((config, stage)) => perform(config, &stage),
        Err(fault) => {
            eprintln!("sub2api: {fault}");
            ExitCode::from(USAGE_ERROR)
        }
    }
}

/// What the demo stands on: mock providers, kept alive, or the providers whose keys were found.
enum Stage {
    Mocks { _runtime: Runtime, mock: MockHandle },
    Providers(Vec<String>),
}

fn set_up(listen: SocketAddr) -> Result<(Config, Stage), String> {
    let environment = |name: &str| std::env::var(name).ok();
    let (mut config, stage) = match Config::from_environment(&environment) {
        Ok(found) => {
            let names = found.config.accounts.iter().map(|account| account.name.clone()).collect();
            let mut config = found.config;
            let users = parse(&with_user("accounts: [ { name: none, provider: ollama } ]\n"))?;
            (config.open, config.users) = (false, users.users);
            (config, Stage::Providers(names))
        }
        Err(_) => mocks()?,
    };
    config.listen = vec![listen];
    config.admin = None;
    config.data_dir = std::env::temp_dir().join(format!("sub2api-demo-{}", std::process::id()));
    config.server.upgrade_socket = config.data_dir.join("upgrade.sock");
    Ok((config, stage))
}

fn with_user(rest: &str) -> String {
    format!("users: [ {{ name: demo, keys: [\"{KEY_HASH}\"] }} ]\n{rest}")
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, &|_| None).map(|loaded| loaded.config).map_err(|faults: Faults| faults.to_string())
}

fn mocks() -> Result<(Config, Stage), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime for the mock providers: {error}"))?;
    let mock = runtime.block_on(async {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        Mock::start(listener, mock::Options::default())
    });
    let mock = mock.map_err(|error| format!("the mock providers cannot start: {error}"))?;
    let base = mock.base_url();
    let account = |name: &str, provider: &str, path: &str, models: &str| {
        format!(
            "  - {{ name: {name}, provider: {provider}, base_url: \"{base}{path}\", credentials: {{ api_key: mock-{name} }}, models: [{models}] }}\n"
        )
    };
    let accounts = [
        account("openai", "openai", "/v1", "\"gpt-*\", \"o3*\", \"text-embedding-*\""),
        account("anthropic", "anthropic", "", "\"claude-*\""),
        account("gemini", "gemini", "", "\"gemini-*\""),
        account("compatible", "openai-compatible", "/v1", "\"deepseek-*\""),
    ];
    let config = parse(&with_user(&format!("accounts:\n{}", accounts.concat())))?;
    Ok((config, Stage::Mocks { _runtime: runtime, mock }))
}

fn perform(config: Config, stage: &Stage) -> ExitCode {
    log::start(&config.log);
    let (listen, data) = (config.listen.clone(), config.data_dir.clone());
    let running = match server::start(config, Options { signals: true, ..Options::default() }) {
        Ok(running) => running,
        Err(error) => {
            eprintln!("sub2api: {error}");
            return ExitCode::FAILURE;
        }
    };
    if running.wait_ready() {
        introduce(&listen.first().map(ToString::to_string).unwrap_or_default(), stage);
    }
    running.wait();
    // Nothing in it outlives the demo.
    let _ = std::fs::remove_dir_all(data);
    ExitCode::SUCCESS
}

fn introduce(listen: &str, stage: &Stage) {
    match stage {
        Stage::Mocks { mock, .. } => {
            println!("sub2api demo: http://{listen}, in front of mock providers at {}", mock.base_url());
        }
        Stage::Providers(names) => {
            println!(
                "sub2api demo: http://{listen}, in front of YOUR ACCOUNTS at {} (keys found in the environment)",
                names.join(", ")
            );
        }
    }
    println!("The key to use: {KEY}\n\nPaste one of these into another terminal:\n");
    let json = "-H 'content-type: application/json'";
    let bearer = format!("-H 'authorization: Bearer {KEY}'");
    let hello = r#""messages":[{"role":"user","content":"Hello"}]"#;
    let asks = [
        (
            "OpenAI Chat Completions",
            format!(
                "curl http://{listen}/v1/chat/completions {bearer} {json} \\\n    -d '{{\"model\":\"gpt-4.1-mini\",{hello}}}'"
            ),
        ),
        (
            "OpenAI Responses, streamed",
            format!(
                "curl -N http://{listen}/v1/responses {bearer} {json} \\\n    -d '{{\"model\":\"gpt-4.1-mini\",\"stream\":true,\"input\":\"Hello\"}}'"
            ),
        ),
        (
            "Anthropic Messages, streamed",
            format!(
                "curl -N http://{listen}/v1/messages -H 'x-api-key: {KEY}' -H 'anthropic-version: 2023-06-01' {json} \\\n    -d '{{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":200,\"stream\":true,{hello}}}'"
            ),
        ),
        (
            "Gemini generateContent",
            format!(
                "curl http://{listen}/v1beta/models/gemini-2.5-flash:generateContent -H 'x-goog-api-key: {KEY}' {json} \\\n    -d '{{\"contents\":[{{\"parts\":[{{\"text\":\"Hello\"}}]}}]}}'"
            ),
        ),
        (
            "Embeddings",
            format!(
                "curl http://{listen}/v1/embeddings {bearer} {json} \\\n    -d '{{\"model\":\"text-embedding-3-small\",\"input\":\"Hello\"}}'"
            ),
        ),
        ("Models", format!("curl http://{listen}/v1/models {bearer}")),
    ];
    for (title, ask) in asks {
        println!("  # {title}\n  {ask}\n");
    }
    println!("One line per request follows here. Ctrl-C ends the demo.");
}
