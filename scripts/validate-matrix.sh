#!/bin/sh
# Holds every output of the matrix test against the strict validator of the recorded traffic.
# First run `cargo test --test matrix`. Needs python3 with jsonschema (jsonschema-rs makes it some fifty times faster);
# PYTHON names another interpreter.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
traffic=${SUB2API_TRAFFIC_DIR:-$here/../shared/traffic}
out=${CARGO_TARGET_DIR:-$here/target}/matrix/out.jsonl
[ -f "$traffic/validate.py" ] || { echo "skipped: validate-matrix: shared traffic not present"; exit 0; }
[ -f "$out" ] || { echo "no $out: run 'cargo test --test matrix' first" >&2; exit 2; }
exec "${PYTHON:-python3}" "$here/scripts/validate_matrix.py" "$traffic" "$out"
