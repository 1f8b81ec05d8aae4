//! `sub2api mock`: the mock providers on an address of their own.

use super::help;
use crate::{
    config::ServiceAccount,
    mock::{COMMANDS, FAULTS, Mock, Options},
};
use lexopt::prelude::*;
use std::{
    ffi::OsStr,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};
use tokio::net::TcpListener;

const HELP: &str = "\
sub2api mock [--listen ADDRESS]

Runs mock providers: OpenAI, Azure OpenAI, Anthropic and Gemini on one port, HTTP/1.1 and HTTP/2, no provider account needed.
  -l, --listen ADDRESS     where (default 127.0.0.1:9100); --host and --port set its parts
      --key KEY            accept only this key; may be repeated (default: any key that does not start with `bad`)
      --service-account FILE  trade this Google service account's assertions for tokens; may be repeated
      --any-model          serve models that are named like another vendor's
      --strict-alternation Anthropic: refuse consecutive turns of one role, which the real API merges
      --strict-messages    OpenAI chat: refuse `provider_specific_fields` in messages too
      --strict-tools       Anthropic: refuse tool blocks in the history of a request without tools
      --log FILE           append every finished request to this file, a line of JSON each

GET /_log[?since=N&contains=TEXT]   what was received, a line of JSON each       POST /_reset   forget it
POST /oauth/token   gives out access tokens; words in the client's id choose what goes wrong (src/mock/issuer.rs)
GET /_faults                        the faults                                   GET /_health   whether it runs

Models for benchmarks: bench-whole, bench-stream-50, bench-burst-50, bench-paced-50-5ms.";

/// What the command line asks for.
struct Arguments {
    listen: SocketAddr,
    options: Options,
}

pub(super) fn command(parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    match arguments(parser)? {
        Some(arguments) => Ok(run(arguments)),
        None => help(&help_text()),
    }
}

/// The arguments, or none when help is asked for.
fn arguments(mut parser: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    let mut listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9100);
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('l') | Long("listen") => listen = parser.value()?.parse()?,
            Long("host") => listen.set_ip(parser.value()?.parse()?),
            Short('p') | Long("port") => listen.set_port(parser.value()?.parse()?),
            Long("key") => options.keys.push(parser.value()?.string()?),
            Long("service-account") => options.service_accounts.push(service_account(&parser.value()?)?),
            Long("any-model") => options.any_model = true,
            Long("strict-alternation") => options.strict_alternation = true,
            Long("strict-messages") => options.strict_messages = true,
            Long("strict-tools") => options.strict_tools = true,
            Long("log") => options.log_file = Some(PathBuf::from(parser.value()?)),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(Arguments { listen, options }))
}

fn service_account(file: &OsStr) -> Result<ServiceAccount, lexopt::Error> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(ServiceAccount::parse(&text).map_err(|fault| format!("{}: {fault}", file.display()))?)
}

fn run(Arguments { listen, options }: Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mock = Mock::start(TcpListener::bind(listen).await?, options)?;
            println!("mock providers on {}", mock.base_url());
            mock.wait().await
        })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sub2api: mock on {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The help, with what can be asked for in a prompt.
fn help_text() -> String {
    let mut text = HELP.to_owned();
    text.push_str("\n\nThe last user text decides the answer:\n");
    for (command, answer) in COMMANDS {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "  {command:<44} {answer}");
    }
    text.push_str(
        "\nFaults: fault-<name>[-<arg>][x<times>] in the model, the key or the last user text ([[fault-429x2]]):\n",
    );
    for fault in FAULTS {
        let _ = writeln!(text, "  {:<12} {}", fault.name, fault.about);
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments_given: &[&str]) -> Result<Option<Arguments>, lexopt::Error> {
        arguments(lexopt::Parser::from_args(arguments_given))
    }

    #[test]
    fn the_address_can_be_given_whole_or_in_parts() {
        let address = |given: &[&str]| parse(given).unwrap().unwrap().listen.to_string();
        assert_eq!(address(&[]), "127.0.0.1:9100");
        assert_eq!(address(&["--listen", "[::1]:7"]), "[::1]:7");
        assert_eq!(address(&["--host=0.0.0.0", "--port", "8"]), "0.0.0.0:8");
        assert!(parse(&["--listen", "nowhere"]).is_err() && parse(&["--threads"]).is_err());
    }

    #[test]
    fn keys_can_be_repeated_and_the_help_names_every_fault() {
        assert_eq!(parse(&["--key", "a", "--key", "b"]).unwrap().unwrap().options.keys, ["a", "b"]);
        let text = help_text();
        assert!(FAULTS.iter().all(|fault| text.contains(fault.about)), "{text}");
    }
}
