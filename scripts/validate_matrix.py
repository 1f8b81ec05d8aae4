"""Validates lines of {"id", "api", "kind", "body"} strictly and prints a table; exit status 1 when one is invalid."""
import collections
import json
import os
import sys

traffic, out = sys.argv[1:3]
sys.path.insert(0, traffic)
import validate  # noqa: E402

# Findings that the recording itself brings about, by output id and rule, each with its reason.
# An error event is the only honest end of a stream that broke; the validator warns of every error inside a stream.
EXPECTED_RULES = {"C11": "an error object inside a chat stream: the upstream reported or broke off"}

EXPECTED_IDS = {
    "responses.openai.s.45a0e38cf9": "the recorded call is cut off by the token limit, its arguments are broken JSON",
    "messages.anthropic.s.0e9ffea479": "the recorded call is cut off by the token limit, its arguments are broken JSON",
    "messages.anthropic.s.d2d1ed9f84": "the recording starts its message twice inside a call; it ends with an error",
    "messages.anthropic.s.2888a39730": "the recorded request answers a call that it does not hold",
}

table = collections.defaultdict(lambda: [0, 0, 0])
failures = []
for line in open(out, encoding="utf8"):
    item = json.loads(line)
    findings = validate.validate(item["api"], item["kind"], item["body"], strict=True)
    real = [f for f in findings if f[1] not in EXPECTED_RULES and item["id"] not in EXPECTED_IDS]
    row = table[(item["api"], item["kind"])]
    row[0] += 1
    row[1] += not real
    row[2] += bool(findings) and not real
    if real:
        failures.append((item["id"], item["api"], item["kind"], real[0][1], real[0][2]))

print(f'{"api":26}{"kind":10}{"checked":>9}{"valid":>8}{"excused":>9}')
for (api, kind), (checked, valid, excused) in sorted(table.items()):
    print(f"{api:26}{kind:10}{checked:9}{valid:8}{excused:9}")
for failure in failures[: int(os.environ.get("SHOW", "40"))]:
    print("FAIL", *(str(part)[:260] for part in failure))
print(f"{len(failures)} invalid")
sys.exit(1 if failures else 0)
