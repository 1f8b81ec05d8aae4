#!/usr/bin/env bash
# Builds the gateway and starts its demo: loopback only, mock providers built in, no key needed.
# With provider keys in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, …) it uses those instead.
# Arguments go to `sub2api demo`.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_cargo
need_compiler
# The development profile: minutes instead of the many that link-time optimisation takes, and the tests share it.
say "Building (the first time takes a few minutes) …"
cargo build --locked --bin sub2api
exec "$target/debug/sub2api" demo "$@"
