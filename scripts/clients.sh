#!/usr/bin/env bash
# Runs real clients (SDKs in Python and JavaScript, coding agents) through the gateway, each in its native format,
# and against the strict mock directly; a scenario that only passes without the gateway is a failure.
# With `--every` first, each client asks every kind of upstream (scripts/clients-every.yaml): then all but its native one
# are translated. Runs that cannot pass stand in scripts/clients-expected.txt, each with its reason.
# Needs ../shared/clients and, the first time, PyPI and npm; what is installed is kept under target/ by its lock files.
# Uses the binary that is built already, or the one named by SUB2API. Arguments go to the client run (run.py).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

source=$PWD/../shared/clients
kinds=(--native) configuration=$PWD/../shared/design/acceptance.yaml models=$source/models.example.json
if [ "${1:-}" = --every ]; then
    kinds=() configuration=scripts/clients-every.yaml models=$PWD/scripts/clients-every.json
    shift
fi
if [ ! -f "$source/run.py" ]; then
    echo "skipped: real clients: ../shared/clients is not there"
    exit 0
fi
need python3 npm git curl
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed for the clients."
python3 -c 'import ensurepip, venv' 2>/dev/null || need ensurepip=python3-venv
gateway=${SUB2API:-$target/debug/sub2api}
[ -x "$gateway" ] || die "$gateway is not there; build it first: cargo build"

# One installation per set of locked versions: a new lock file gets a folder of its own, the old one goes.
locks=("$source"/setup.sh "$source"/package*.json "$source"/agents/package.json "$source"/requirements-*.txt "$source"/lock/*)
kept=$target/clients
here=$kept/$(cat "${locks[@]}" | sha256sum | cut -c1-16)
mkdir -p "$here"
cp -r --no-preserve=mode "$source"/. "$here"/
chmod +x "$here"/*.sh "$here"/*.py
if [ ! -f "$here/.installed" ]; then
    say "Installing the clients into $here …"
    "$here/setup.sh" >&2
    touch "$here/.installed"
fi
find "$kept" -mindepth 1 -maxdepth 1 -type d ! -path "$here" -exec rm -rf {} +

work=$(mktemp -d)
started=()
trap 'stop "${started[@]}"; rm -rf "$work"' EXIT
read -r mock listen admin sink sink_direct direct <<<"$(free_ports 6)"

python3 "$here/mock_upstream.py" --port "$mock" --log "$work/mock.jsonl" >"$work/mock.out" 2>&1 &
started+=($!)
wait_for 20 $! curl -sf "http://127.0.0.1:$mock/_health" || die "the mock did not start: $(cat "$work/mock.out")"

env MOCK="http://127.0.0.1:$mock" SUB2API_LISTEN="127.0.0.1:$listen" SUB2API_ADMIN="127.0.0.1:$admin" \
    SUB2API_DATA="$work/data" "$gateway" serve -c "$configuration" >"$work/gateway.log" 2>&1 &
started+=($!)
wait_for 20 $! curl -sf "http://127.0.0.1:$listen/readyz" || die "the gateway did not get ready:
$(tail -n 20 "$work/gateway.log")"

say "--- directly against the mock"
python3 "$here/mock_upstream.py" --port "$direct" >"$work/direct.out" 2>&1 &
started+=($!)
wait_for 20 $! curl -sf "http://127.0.0.1:$direct/_health" || die "the mock did not start: $(cat "$work/direct.out")"
"$here/run.py" --direct --base-url "http://127.0.0.1:$direct" --mock-port $((sink_direct - 1)) --work "$work/direct" \
    --json "$work/direct.json" "$@" >"$work/direct.table" || tail -n 40 "$work/direct.table" >&2

say "--- through the gateway"
"$here/run.py" "${kinds[@]}" --base-url "http://127.0.0.1:$listen" --key sk-acceptance --log-url "http://127.0.0.1:$mock" \
    --models "$models" --mock-port $((sink - 1)) --work "$work/gateway" --json "$work/gateway.json" "$@" || true

# The verdict: what passes directly passes through the gateway too, on every kind of upstream, and nothing is left out.
# A scenario may be skipped on another kind only (the client or the upstream has no such thing), or where the list of
# expected failures names it with a reason; what stands there and passes is a failure of the list.
python3 - "$work/direct.json" "$work/gateway.json" scripts/clients-expected.txt <<'PYTHON'
import collections, json, sys
direct, gateway = (json.load(open(path)) for path in sys.argv[1:3])
expected, reason = {}, ""
for line in open(sys.argv[3]):
    if line.strip() and not line.startswith("#"):
        run, said = line.strip().split(" | ")
        reason = reason if said == "the same" else said
        expected[tuple(run.split())] = reason
passed = {(r["client"], r["scenario"]): r["kind"] for r in direct if r["status"] == "PASS"}
seen = collections.defaultdict(list)
for r in gateway:
    seen[r["client"], r["scenario"]].append(r)
worse, excused, stale = 0, collections.Counter(), []
for key, native in passed.items():
    runs = seen[key]
    if not any(r["kind"] == native for r in runs):
        runs = [*runs, {"kind": native, "status": "FAIL", "detail": "was not run"}]
    for r in runs:
        why = expected.get((*key, r["kind"])) if r["kind"] != native else None
        if r["status"] == "PASS":
            if why:
                stale.append((*key, r["kind"]))
        elif why:
            excused[why] += 1
        elif r["kind"] == native or r["status"] != "SKIP":
            worse += 1
            print("only without the gateway:", *key, "on", r["kind"], "-", r["detail"][:300])
for why, times in excused.items():
    print(f"expected, {times} times: {why}")
for run in stale:
    print("passes, but scripts/clients-expected.txt says that it cannot:", *run)
runs = sum(r["status"] == "PASS" for r in gateway)
print(f"clients: {len(passed)} scenarios pass directly; through the gateway {runs} runs of them pass,",
      f"{sum(excused.values())} are expected not to, {worse} do not")
sys.exit(bool(worse or stale or not passed or any(r["status"] == "FAIL" for r in direct)))
PYTHON
