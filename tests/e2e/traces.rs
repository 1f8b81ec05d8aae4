//! Spans, as an OpenTelemetry collector gets them.

use crate::{
    client::{self, Ask},
    failover::good,
    formats::Format::Anthropic,
    gateway::{Gateway, account},
    upstream::{Upstream, whole},
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// All spans that the collector got, once there are so many.
async fn spans(collector: &Upstream, count: usize) -> Vec<Value> {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let bodies: Vec<Value> =
            collector.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
        let of =
            |body: &Value| body.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap().clone();
        let spans: Vec<Value> = bodies.iter().flat_map(of).collect();
        if spans.len() >= count {
            return spans;
        }
        assert!(Instant::now() < patience, "only {} spans came", spans.len());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_over_is_one_span_with_one_below_it_for_each_attempt() {
    let collector = Upstream::always(whole(200, "application/json", "{}")).await;
    let sick = Upstream::always(whole(529, "application/json", "{}")).await;
    let well = Upstream::always(good(Anthropic)).await;
    let accounts = [
        account("sick", "anthropic", &format!("http://{}", sick.address), "priority: 1"),
        account("well", "anthropic", &format!("http://{}", well.address), "priority: 2"),
    ];
    let traces = format!(
        "traces: {{ endpoint: \"http://{}\", service: edge, headers: {{ x-scope: one }} }}\n",
        collector.address
    );
    let gateway = Gateway::start(&accounts, &traces).await;
    let body = r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Ask::post("/v1/messages", body).header("traceparent", parent);
    assert_eq!(client::h1(gateway.address, &request).await.unwrap().status, 200);
    let spans = spans(&collector, 3).await;
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"));
    let (request, attempts) = (&spans[0], &spans[1..]);
    assert_eq!(
        (request["parentSpanId"].as_str(), request["name"].as_str()),
        (Some("00f067aa0ba902b7"), Some("chat claude-x"))
    );
    assert!(attempts.iter().all(|attempt| attempt["parentSpanId"] == request["spanId"]));
    let told = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().unwrap();
        all.iter().find(|a| a["key"] == key).map(|a| a["value"]["stringValue"].as_str().unwrap_or_default().to_owned())
    };
    let accounts: Vec<_> = attempts.iter().map(|attempt| told(attempt, "sub2api.account").unwrap()).collect();
    assert_eq!(accounts, ["sick", "well"]);
    let errors: Vec<_> = attempts.iter().map(|attempt| told(attempt, "error.type")).collect();
    assert_eq!(errors, [Some("overload".to_owned()), None]);
    let first = collector.seen().swap_remove(0);
    assert_eq!((first.path(), first.header("x-scope")), ("/v1/traces", Some("one")));
    let all = String::from_utf8_lossy(&first.body).into_owned();
    assert!(!all.contains("sk-") && !all.contains("\"Hi\""), "{all}");
}
