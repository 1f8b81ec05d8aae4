#!/usr/bin/env bash
# Starts the demo on a free port and asks it once in every client format, whole and streamed: both must say the same.
# Uses the binary that is built already, or the one named by SUB2API. Takes seconds; ends what it started.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need python3 curl
gateway=${SUB2API:-$target/debug/sub2api}
[ -x "$gateway" ] || die "$gateway is not there; build it first: cargo build"

work=$(mktemp -d)
demo=
trap '[ -n "$demo" ] && stop "$demo"; rm -rf "$work"' EXIT
port=$(free_ports 1)
base=http://127.0.0.1:$port
# No provider key of the person who runs this may reach the demo: it would call the provider.
clean=(env -i PATH="$PATH" HOME="$work" TMPDIR="$work")
(cd "$work" && exec "${clean[@]}" "$gateway" demo --listen "127.0.0.1:$port") >"$work/out" 2>"$work/err" &
demo=$!
wait_for 20 "$demo" curl -sf --max-time 2 "$base/readyz" || die "the demo did not get ready:
$(cat "$work/out" "$work/err")"
key=$(grep -ohE 'sk-[A-Za-z0-9_-]+' "$work/out" "$work/err" | head -n1) || die "the demo printed no key"

curl_() { curl -sS --max-time 10 -H "content-type: application/json" "$@"; }

# first_model PREFIX: a model of the demo's list.
first_model() {
    curl_ -H "authorization: Bearer $key" "$base/v1/models" | python3 -c '
import json, sys
print(next((m["id"] for m in json.load(sys.stdin)["data"] if m["id"].startswith(sys.argv[1])), ""))' "$1"
}

# text_of FORMAT: the answer in a whole reply or a stream on standard input; fails where a stream lacks its end.
text_of() {
    python3 -c '
import json, sys
form, raw = sys.argv[1], sys.stdin.read()
streamed = not raw.startswith("{")
lines = [l[5:].strip() for l in raw.splitlines() if l.startswith("data:")] if streamed else [raw]
events = [json.loads(l) for l in lines if l != "[DONE]"]
def texts(e):
    if form == "chat":
        return [(c.get("delta") or c.get("message") or {}).get("content") or "" for c in e["choices"]]
    if form == "responses" and streamed:
        return [e["delta"]] if e["type"] == "response.output_text.delta" else []
    if form == "responses":
        return [p["text"] for o in e["output"] if o["type"] == "message" for p in o["content"]]
    if form == "anthropic" and streamed:
        return [e["delta"].get("text", "")] if e["type"] == "content_block_delta" else []
    if form == "anthropic":
        return [b.get("text", "") for b in e["content"]]
    return [p.get("text", "") for c in e["candidates"] for p in c.get("content", {}).get("parts", [])]
ended = {"chat": lambda: lines[-1] == "[DONE]",
         "responses": lambda: events[-1]["type"] == "response.completed",
         "anthropic": lambda: events[-1]["type"] == "message_stop",
         "gemini": lambda: "finishReason" in events[-1]["candidates"][0]}[form]
if streamed and not ended(): sys.exit("the stream has no end")
text = "".join(t for e in events for t in texts(e))
if not text: sys.exit("no text: " + raw[:300])
print(text)' "$1"
}

passed=0 failed=0
report() { # report NAME COMMAND…
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); say "ok    $name"; else failed=$((failed + 1)); say "FAIL  $name"; fi
}

# ask FORMAT STREAMED: prints the raw reply.
ask() {
    local prompt='Say one sentence about the sea.' model
    case $1 in chat | responses) model=$gpt ;; anthropic) model=$claude ;; gemini) model=$gemini ;; esac
    case $1 in
        chat) curl_ "$base/v1/chat/completions" -H "authorization: Bearer $key" \
            -d "{\"model\":\"$model\",\"stream\":$2,\"messages\":[{\"role\":\"user\",\"content\":\"$prompt\"}]}" ;;
        responses) curl_ "$base/v1/responses" -H "authorization: Bearer $key" \
            -d "{\"model\":\"$model\",\"stream\":$2,\"input\":\"$prompt\"}" ;;
        anthropic) curl_ "$base/v1/messages" -H "x-api-key: $key" -H 'anthropic-version: 2023-06-01' \
            -d "{\"model\":\"$model\",\"max_tokens\":200,\"stream\":$2,\"messages\":[{\"role\":\"user\",\"content\":\"$prompt\"}]}" ;;
        gemini)
            local call=generateContent
            [ "$2" = true ] && call='streamGenerateContent?alt=sse'
            curl_ "$base/v1beta/models/$model:$call" -H "x-goog-api-key: $key" \
                -d "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"$prompt\"}]}]}" ;;
    esac
}

same_both_ways() {
    local whole streamed
    whole=$(ask "$1" false | text_of "$1") && streamed=$(ask "$1" true | text_of "$1") || return 1
    [ "$whole" = "$streamed" ] || { say "whole:    $whole"; say "streamed: $streamed"; return 1; }
}

refuses_without_key() { [ "$(curl_ -o /dev/null -w '%{http_code}' "$base/v1/models")" = 401 ]; }

ends_when_told() {
    kill "$demo"
    local tries=100
    while kill -0 "$demo" 2>/dev/null && [ $((tries -= 1)) -gt 0 ]; do sleep 0.1; done
    [ $tries -gt 0 ] && wait "$demo"
}

gpt=$(first_model gpt-) claude=$(first_model claude-) gemini=$(first_model gemini-)
for format in chat responses anthropic gemini; do
    report "$format, whole and streamed" same_both_ways $format
done
report "no answer without a key" refuses_without_key
report "ends within 10 s of SIGTERM" ends_when_told

[ $failed -eq 0 ] || { say "--- the demo said:"; cat "$work/err" >&2; }
printf 'smoke: %d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
