"""Validates lines of {"id", "api", "kind", "body"} strictly and prints a table; exit status 1 when one is invalid.

Lines that hold their `source` and its `losses`, too, are checked for what vanished in silence (see
matrix_losses) and for what their citations stand for (see matrix_citations)."""
import collections
import json
import os
import sys

import matrix_citations
import matrix_losses

traffic, out = sys.argv[1:3]
sys.path.insert(0, traffic)
import validate  # noqa: E402

# Outputs that the recording itself keeps from being valid, by id and target, each with its reason.
EXPECTED = {
    "responses.openai.s.45a0e38cf9": "the recorded call is cut off by the token limit: its arguments are broken JSON, and a stream passes them as they come",
    "messages.anthropic.s.0e9ffea479": "the same",
    "messages.anthropic.s.d2d1ed9f84": "the recording starts its message twice inside a call; it ends with an error there",
    "messages.anthropic.s.2888a39730": "the recorded request answers a call that it does not hold",
}
# The validator warns of every error inside a chat stream; a recording that broke off or reported one has no other end.
ERROR_IN_STREAM = "C11"

table = collections.defaultdict(lambda: [0, 0, 0])
failures, excused = [], []
silent = collections.defaultdict(lambda: [0, 0])
cited = collections.Counter()
for line in open(out, encoding="utf8"):
    item = json.loads(line)
    findings = validate.validate(item["api"], item["kind"], item["body"], strict=True)
    row = table[(item["api"], item["kind"])]
    row[0] += 1
    real = [f for f in findings if f[1] != ERROR_IN_STREAM]
    if real and item["id"] in EXPECTED:
        excused.append((item["id"], item["api"], item["kind"], EXPECTED[item["id"]]))
        real = []
    elif findings and not real:
        excused.append((item["id"], item["api"], item["kind"], "an error inside the stream, as the recording has one"))
    row[1] += not real
    row[2] += bool(findings) and not real
    if real:
        failures.append((item["id"], item["api"], item["kind"], real[0][1], real[0][2]))
    if "source" in item:
        counts = silent[(item["id"].split(".")[0], item["api"], item["kind"])]
        counts[0] += 1
        found = matrix_losses.check(item)
        counts[1] += not found
        compared, misplaced = matrix_citations.check(item)
        cited[(item["id"].split(".")[0], item["api"])] += compared
        failures += [(item["id"], item["api"], item["kind"], *finding) for finding in found + misplaced]

print(f'{"api":26}{"kind":10}{"checked":>9}{"valid":>8}{"excused":>9}')
for (api, kind), (checked, valid, forgiven) in sorted(table.items()):
    print(f"{api:26}{kind:10}{checked:9}{valid:8}{forgiven:9}")
print(f'\n{"from":12}{"to":26}{"kind":10}{"checked":>9}{"all values there or listed":>28}')
for (origin, api, kind), (checked, told) in sorted(silent.items()):
    print(f"{origin:12}{api:26}{kind:10}{checked:9}{told:28}")
print(f'\n{"from":12}{"to":26}{"citations of the same words":>29}')
for (origin, api), compared in sorted(cited.items()):
    if compared:
        print(f"{origin:12}{api:26}{compared:29}")
print()
for what in excused:
    print("excused", *what)
for failure in failures[: int(os.environ.get("SHOW", "40"))]:
    print("FAIL", *(str(part)[:260] for part in failure))
print(f"{len(failures)} invalid, {len(excused)} excused")
sys.exit(1 if failures else 0)
