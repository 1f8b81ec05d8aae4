#!/usr/bin/env bash
# Holds every output of the matrix test, requests and streams too, against the strict validator of the recorded traffic,
# and what was lost against what the output lacks. First run `cargo test --test matrix`.
# The first time it installs jsonschema from PyPI into target/; PYTHON names an interpreter that has it already.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

traffic=${SUB2API_TRAFFIC_DIR:-$PWD/../shared/traffic}
out=$target/matrix/out.jsonl
if [ ! -f "$traffic/validate.py" ]; then
    echo "skipped: validate-matrix: ../shared/traffic is not there"
    exit 0
fi
[ -f "$out" ] || die "$out is not there: run 'cargo test --test matrix' first"
if [ -z "${PYTHON:-}" ]; then
    need python3
    venv=$target/validator
    PYTHON=$venv/bin/python
    if [ ! -f "$venv/.installed" ]; then
        python3 -c 'import ensurepip, venv' 2>/dev/null || need ensurepip=python3-venv
        say "Installing the validator into $venv …"
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check jsonschema==4.26.0 jsonschema-rs==0.45.0 >&2
        touch "$venv/.installed"
    fi
fi
exec "$PYTHON" scripts/validate_matrix.py "$traffic" "$out"
