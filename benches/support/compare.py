"""Compares the mock alone, nginx, a bare Pingora proxy and the gateway, in one run on one machine.

Called by scripts/bench.sh. Contenders take turns (A B C D, A B C D, ...), every figure is the median of its rounds,
and a run with one failed request is void: it is made again, and the whole comparison fails when that keeps happening.
CPU is user and system time of the contender's processes as the kernel counts it, per request.
Prints Markdown to standard output and progress to standard error. Everything stays on loopback.
"""
import argparse, copy, hashlib, json, os, pathlib, platform, signal, socket, statistics, subprocess, sys, time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
KEY = "sk-bench"
# What the gateway's access lines call a failure; the others' failures reach wrk.
FAILURES = (b"outcome=refused", b"outcome=broken", b"attempt failed")
TICK_MICROS = 1e6 / os.sysconf("SC_CLK_TCK")

# name, model, streamed, connections, what it is
CASES = [
    ("whole", "bench-whole", False, 32, "whole reply of 677 bytes to a request of 1 KB, 32 connections"),
    ("burst", "bench-burst-50", True, 32, "50 events at once, 32 connections"),
    ("paced", "bench-paced-50-5ms", True, 64, "50 events, one every 5 ms, fixed load of 64 streams"),
    ("whole-1", "bench-whole", False, 1, "whole reply, 1 connection"),
    ("burst-1", "bench-burst-50", True, 1, "50 events at once, 1 connection"),
]
# The same streams of the same upstream, through the gateway in both lanes: an OpenAI client, and an Anthropic client.
LANES = [
    ("translated", "bench-burst-50", True, 32, "50 events at once, 32 connections: the gateway's two lanes"),
    ("translated-paced", "bench-paced-50-5ms", True, 64, "50 events, one every 5 ms, 64 streams: the gateway's two lanes"),
]
# The gateway without its ledger and with it, in turns and with nothing between them: their difference is small.
LEDGER = [("ledger", "bench-whole", False, 32, "whole reply, 32 connections: without the ledger and with it")]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def note(*words):
    print(*words, file=sys.stderr, flush=True)


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    return [s.getsockname()[1] for s in held]


class Contender:
    """A started program: its address, and what it has used so far."""

    def __init__(self, name, port, argv, work, env=None):
        self.name, self.address, self.path = name, f"127.0.0.1:{port}", CHAT
        self.log = work / f"{name.replace(' ', '-')}.log"
        self.process = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=open(self.log, "wb"), cwd=work, env={**os.environ, **(env or {})})

    def asked(self, name, path):
        """The same program, asked in another way."""
        other = copy.copy(self)
        other.name, other.path = name, path
        return other

    def pids(self):
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_micros(self):
        """User and system time of the process, its children, and those of them that have ended."""
        fields = (pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split() for p in self.pids())
        return sum(sum(map(int, f[11:15])) for f in fields) * TICK_MICROS

    def rss_mb(self):
        lines = (l for p in self.pids() for l in pathlib.Path(f"/proc/{p}/status").read_text().splitlines())
        return sum(int(l.split()[1]) for l in lines if l.startswith("VmRSS")) / 1024

    def ask(self, body):
        """The body of one reply; an error for anything but 200."""
        request = urllib.request.Request(f"http://{self.address}{self.path}", body.encode(), {
            "content-type": "application/json", "authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.read()

    def wait_ready(self, body):
        for _ in range(200):
            if self.process.poll() is not None:
                break
            try:
                return self.ask(body)
            except OSError:
                time.sleep(0.1)
        sys.exit(f"{self.name} did not get ready:\n{self.log.read_text(errors='replace')[-2000:]}")


def request_body(model, streamed, path=CHAT):
    """About 1 KB, as a short turn of a chat is."""
    system = "You answer briefly and say so when you do not know. " * 12
    user = {"role": "user", "content": "What does a gateway in front of many providers do? " * 4}
    said = {"messages": [{"role": "system", "content": system}, user]} if path == CHAT else {
        "system": system, "messages": [user]}
    return json.dumps({"model": model, "stream": streamed, "max_tokens": 512, "temperature": 0.2, **said})


def start(opt, work):
    """Starts all contenders; the mock is the first."""
    mock_port, *ports = free_ports(5)
    upstream = f"127.0.0.1:{mock_port}"
    contenders = [Contender("mock alone", mock_port, [opt.gateway, "mock", "--listen", upstream], work)]
    conf = (HERE / "nginx.conf").read_text()
    for word, value in {"LISTEN": f"127.0.0.1:{ports[0]}", "UPSTREAM": upstream, "WORK": str(work)}.items():
        conf = conf.replace(word, value)
    (work / "nginx.conf").write_text(conf)
    contenders.append(Contender("nginx", ports[0], ["nginx", "-c", str(work / "nginx.conf"), "-e", "stderr"], work))
    contenders.append(Contender("bare Pingora", ports[1], [opt.bare, f"127.0.0.1:{ports[1]}", upstream], work))
    for name, port, ledger in (("sub2api without its ledger", ports[2], "false"), ("sub2api", ports[3], "true")):
        contenders.append(Contender(name, port, [opt.gateway, "serve", "-c", str(HERE.parent / "bench.yaml")], work, {
            "BENCH_LISTEN": f"127.0.0.1:{port}", "BENCH_UPSTREAM": upstream, "BENCH_DATA": str(work / f"data-{ledger}"),
            "BENCH_LEDGER": ledger}))
    return contenders


def check_same_replies(contenders, cases):
    """Every contender must hand out the mock's own bytes, else the comparison means nothing."""
    for name, model, streamed, _, _ in cases:
        body = request_body(model, streamed)
        wanted = contenders[0].wait_ready(body)
        steady = wanted == contenders[0].ask(body)
        for contender in contenders[1:]:
            got = contender.wait_ready(body)
            if got != wanted and (steady or len(got) != len(wanted)):
                sys.exit(f"{name}: {contender.name} answers {len(got)} other bytes than the mock's {len(wanted)}:\n"
                         f"{got[:300]!r}\n{wanted[:300]!r}")
        events = wanted.count(b"data:")
        note(f"{name}: replies of {len(wanted)} bytes, {events} events, the same from all "
             f"({hashlib.sha256(wanted).hexdigest()[:8]}{'' if steady else ', but for ids'})")


def check_lanes(lanes, cases):
    """Both lanes must hand out every event's text."""
    for name, model, streamed, _, _ in cases:
        for lane, mark in zip(lanes, (b'"content":"word', b'"text_delta","text":"word')):
            got = lane.wait_ready(request_body(model, streamed, lane.path))
            if got.count(mark) != 50:
                sys.exit(f"{name}: {lane.name} answers {got.count(mark)} of 50 deltas:\n{got[:500]!r}")


def wrk(contender, model, streamed, connections, seconds):
    out = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "request.lua"),
         f"http://{contender.address}{contender.path}"],
        env={**os.environ, "BENCH_BODY": request_body(model, streamed, contender.path), "BENCH_KEY": KEY},
        capture_output=True, text=True, timeout=seconds + 60)
    lines = [l for l in out.stdout.splitlines() if l.startswith("{")]
    if not lines:
        sys.exit(f"wrk failed: {out.stdout}{out.stderr}")
    return json.loads(lines[0])


def measure(contender, case, seconds):
    """One run; None if a request failed."""
    _, model, streamed, connections, _ = case
    wrk(contender, model, streamed, connections, 1)
    logged, cpu = contender.log.stat().st_size, contender.cpu_micros()
    run = wrk(contender, model, streamed, connections, seconds)
    # Streams that wrk left unfinished are still being served; their cost is a thousandth of the run's.
    used = contender.cpu_micros() - cpu
    failures = failed_lines(contender.log, logged)
    if run["failed"] or not run["requests"] or failures:
        note(f"  void: {contender.name}: {run} {failures[:3]}")
        return None
    return {"rps": run["requests"] / run["micros"] * 1e6, "cpu": used / run["requests"], "rss": contender.rss_mb(),
            "p50": run["p50_micros"] / 1000, "p99": run["p99_micros"] / 1000}


def failed_lines(log, offset):
    """What the log tells of failures since `offset`, whatever the client saw."""
    with open(log, "rb") as lines:
        lines.seek(offset)
        return [l for l in lines if any(sign in l for sign in FAILURES)]


def compare(contenders, case, opt):
    """Medians of each contender for one case."""
    runs = {c.name: [] for c in contenders}
    for turn in range(opt.rounds):
        for contender in contenders:
            for _ in range(3):
                if run := measure(contender, case, opt.seconds):
                    break
            else:
                sys.exit(f"{case[0]}: three void runs of {contender.name} in a row; see {contender.log}")
            runs[contender.name].append(run)
        note(f"  {case[0]}: round {turn + 1} of {opt.rounds}")
    return {n: {k: statistics.median(r[k] for r in rs) for k in rs[0]} | {
        "spread": (min(r["cpu"] for r in rs), max(r["cpu"] for r in rs))} for n, rs in runs.items()}


def table(case, medians, against="bare Pingora"):
    print(f"\n**{case[4]}**\n\n| | requests/s | p50 ms | p99 ms | CPU µs/request (least–most) | CPU against {against} | RSS MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    yardstick = medians[against]["cpu"]
    for name, m in medians.items():
        low, high = m["spread"]
        ratio = "–" if name == "mock alone" else f"{m['cpu'] / yardstick:.2f}×"
        print(f"| {name} | {m['rps']:,.0f} | {m['p50']:.2f} | {m['p99']:.2f} | {m['cpu']:.0f} ({low:.0f}–{high:.0f}) "
              f"| {ratio} | {m['rss']:.0f} |")
    sys.stdout.flush()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--gateway", required=True, help="the sub2api binary, release profile")
    ap.add_argument("--bare", required=True, help="the bare Pingora binary, same profile")
    ap.add_argument("--work", required=True, help="an empty folder for configurations, logs and data")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=int, default=4, help="length of one run")
    ap.add_argument("--cases", default=",".join(c[0] for c in CASES + LANES + LEDGER))
    opt = ap.parse_args()
    cases, lane_cases, ledger_cases = (
        [c for c in all if c[0] in opt.cases.split(",")] for all in (CASES, LANES, LEDGER))
    work = pathlib.Path(opt.work)
    load = os.getloadavg()[0]
    if load > 0.5:
        note(f"The machine is not quiet (load {load:.1f}); compare CPU per request rather than requests/s.")
    contenders = []
    try:
        contenders = start(opt, work)
        check_same_replies(contenders, cases + ledger_cases)
        gateway = contenders[-1]
        lanes = [gateway.asked("byte lane", CHAT), gateway.asked("translate lane", MESSAGES)]
        check_lanes(lanes, lane_cases)
        print(f"{os.cpu_count()} cores, Linux {platform.release()}; medians of {opt.rounds} rounds of {opt.seconds} s, "
              f"contenders in turn; load before {load:.1f}; load generator and mock on the same machine.")
        for case in cases:
            table(case, compare(contenders, case, opt))
        for case in lane_cases:
            table(case, compare(lanes, case, opt), "byte lane")
        for case in ledger_cases:
            table(case, compare(contenders[-2:], case, opt), contenders[-2].name)
    finally:
        for contender in contenders:
            contender.process.send_signal(signal.SIGTERM)
        for contender in contenders:
            try:
                contender.process.wait(10)
            except subprocess.TimeoutExpired:
                contender.process.kill()


if __name__ == "__main__":
    main()
