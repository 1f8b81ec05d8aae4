#!/usr/bin/env bash
# Installs what the tests need and runs them all. Arguments go to `cargo test`.
# Tests against recorded traffic read ../shared; without it each says `skipped: <name>: …` and is counted apart.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

need_cargo
need_compiler

mkdir -p "$target"
log=$target/test.log
# A passing test's output is shown too: there it says that it was skipped. The awk keeps only those lines of it.
cargo test --locked --no-fail-fast "$@" -- --show-output 2>&1 | tee "$log" | awk '
    /^successes:$/ { quiet = 1 }
    /^(failures:|test result: )/ { quiet = 0 }
    !quiet || /^skipped: / { print; fflush() }'
status=${PIPESTATUS[0]}

awk -v status="$status" '
    /^test result: / { passed += $4; failed += $6; ran++ }
    /^skipped: / && !seen[$0]++ { split($0, part, ": "); skipped += !names[part[2]]++ }
    END {
        if (skipped) printf "%d tests skipped: ../shared is not there\n", skipped
        if (status && !failed) print "the tests could not be built or run"
        printf "%d passed, %d failed%s\n", passed - skipped, failed, skipped ? ", " skipped " skipped" : ""
        exit status || failed || !ran
    }' "$log"
