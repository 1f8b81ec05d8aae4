#!/usr/bin/env bash
# Opens the admin listener's status page in headless Chromium, in front of mock providers that have served some requests and
# failed one, and looks for what it must show. Installs Chromium where it is missing (Debian). `--screenshot FILE` keeps a picture.
# Uses the binary that is built already, or the one named by SUB2API.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

picture=
if [ "${1:-}" = --screenshot ]; then picture=$(realpath -m "$2"); fi
need curl chromium
gateway=${SUB2API:-$target/debug/sub2api}
[ -x "$gateway" ] || die "$gateway is not there; build it first: cargo build"

work=$(mktemp -d)
started=()
trap 'stop "${started[@]}"; rm -rf "$work"' EXIT
read -r mock listen admin <<<"$(free_ports 3)"
key=admin-key-of-the-page
"$gateway" mock --listen "127.0.0.1:$mock" >"$work/mock.log" 2>&1 &
started+=($!)
cat >"$work/page.yaml" <<YAML
listen: ["127.0.0.1:$listen"]
auth: none
admin: { listen: "127.0.0.1:$admin", key: $key }
data_dir: "$work/data"
accounts:
  - { name: anthropic-one, provider: anthropic, base_url: "http://127.0.0.1:$mock", credentials: { api_key: k1 }, models: ["claude-*"], quotas: [{ window: day, requests: 10 }] }
  - { name: openai-two, provider: openai, base_url: "http://127.0.0.1:$mock/v1", credentials: { api_key: k2 }, models: ["gpt-*"] }
YAML
"$gateway" serve -c "$work/page.yaml" >"$work/gateway.log" 2>&1 &
started+=($!)
wait_for 20 $! curl -sf "http://127.0.0.1:$listen/readyz" || die "the gateway did not get ready: $(tail -n 20 "$work/gateway.log")"

ask() { # ask MODEL
    curl -sS --max-time 10 -o /dev/null "http://127.0.0.1:$listen/v1/messages" -H "anthropic-version: 2023-06-01" \
        -H "content-type: application/json" -d "{\"model\":\"$1\",\"max_tokens\":50,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"
}
for _ in 1 2 3; do ask claude-sonnet-4-5; done
ask gpt-4.1-mini
curl -sf -X POST -H "authorization: Bearer $key" "http://127.0.0.1:$admin/api/v1/accounts/openai-two/suspend" >/dev/null

# The part behind `#` stays in the browser. Loopback only: no background traffic of Chromium's own.
browser() {
    timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync \
        --disable-background-networking --disable-component-update --user-data-dir="$work/chromium" --window-size=1100,1300 \
        --virtual-time-budget=4000 "$@" "http://127.0.0.1:$admin/#key=$key" 2>"$work/chromium.log"
}
browser --dump-dom >"$work/page.html" || die "Chromium failed: $(tail -n 5 "$work/chromium.log")"
if [ -n "$picture" ]; then browser --screenshot="$picture" >/dev/null; fi

passed=0 failed=0
shows() { # shows WHAT PATTERN
    if grep -qE -- "$2" "$work/page.html"; then passed=$((passed + 1)); else failed=$((failed + 1)); say "FAIL  the page does not show $1"; fi
}
shows "the first account as ready" '<td>anthropic-one</td>.*state ready'
shows "the second as suspended, with the reason" 'state suspended.*by hand'
shows "what is left of the quota" 'requests per day.*70 %'
shows "a bar for the requests of this hour" '<rect[^>]*class="one"[^>]*><title>[^<]*: 4 requests'
shows "the model used most" '<td>claude-sonnet-4-5</td><td>3</td>'
shows "that no failure happened" 'id="failures".*none'
shows "no form for the key" '<form id="login" hidden'
[ $failed -eq 0 ] || { sed -n '1,400p' "$work/page.html" >&2; tail -n 5 "$work/chromium.log" >&2; }
printf 'page: %d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
