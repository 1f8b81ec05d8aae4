//! The `sub2api` program: parses the command line and calls the command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sub2api::command::run(std::env::args_os().skip(1).collect())
}
