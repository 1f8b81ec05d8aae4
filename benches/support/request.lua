-- What wrk sends and what it prints: one line of JSON. Everything comes from the environment.

wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. os.getenv("BENCH_KEY")

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"micros":%d,"bytes":%d,"failed":%d,"p50_micros":%.0f,"p99_micros":%.0f}\n',
        summary.requests, summary.duration, summary.bytes,
        e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
