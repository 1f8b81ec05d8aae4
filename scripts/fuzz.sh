#!/usr/bin/env bash
# Fuzzes one target: scripts/fuzz.sh TARGET [SECONDS]; without arguments, names the targets.
# Installs what that needs (a C++ compiler, cargo-fuzz), and begins with ../shared/traffic where it is there.
# Findings are left in fuzz/artifacts/TARGET; `cargo fuzz run -s none TARGET FILE` repeats one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

targets=$(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2)
[ $# -ge 1 ] || die "usage: scripts/fuzz.sh TARGET [SECONDS]; targets: "$targets
name=$1 seconds=${2:-600}
grep -qx -- "$name" <<<"$targets" || die "no target $name; there are: "$targets

need_cargo
need_compiler
need c++=build-essential
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

corpus=fuzz/corpus/$name
if [ ! -d "$corpus" ]; then
    SUB2API_FUZZ_CORPUS=$PWD/fuzz/corpus cargo test --locked --quiet --test fuzz_smoke
fi
# Coverage needs compiler passes that stable releases have; sanitizers need a nightly one, and the project has no unsafe
# code for them to watch.
cargo fuzz run -s none "$name" "$corpus" -- -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
