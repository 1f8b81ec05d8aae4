#!/usr/bin/env bash
# Compares, in one run on this machine: the mock alone, nginx, a bare Pingora proxy, and the gateway with authentication,
# limits and the access log on. Prints Markdown tables; docs/performance.md says how to read them.
# Options: --rounds N, --seconds N, --cases whole,burst,paced,whole-1,burst-1,translated,translated-paced,ledger. Builds the release profile (minutes).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_cargo
need_compiler
need python3 nginx wrk
cargo build --locked --release --bin sub2api --example bare
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 benches/support/compare.py --gateway "$target/release/sub2api" --bare "$target/release/examples/bare" \
    --work "$work" "$@"
