//! Spans as OTLP over HTTP takes them in JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use super::{AttemptTrace, RequestTrace};
use crate::clock::Moment;
use serde::Serialize;
use std::time::SystemTime;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Export<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    status: Status<'a>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Serialize)]
enum Value<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    /// OTLP writes 64-bit numbers as text.
    #[serde(rename = "intValue")]
    Number(String),
    #[serde(rename = "arrayValue")]
    List(List<'a>),
}

#[derive(Serialize)]
struct List<'a> {
    values: Vec<Value<'a>>,
}

/// A span of work that somebody else asked for.
const SERVER: u8 = 2;
/// A span of work that is asked of somebody else.
const CLIENT: u8 = 3;
const OK: Status<'static> = Status { code: 0, message: "" };

fn text<'a>(key: &'static str, value: &'a str) -> Attribute<'a> {
    Attribute { key, value: Value::Text(value) }
}

fn number<'a>(key: &'static str, value: u64) -> Attribute<'a> {
    Attribute { key, value: Value::Number(value.to_string()) }
}

fn nanos(moment: Moment) -> String {
    moment.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}

/// The body of one export.
pub fn export(service: &str, traces: &[RequestTrace]) -> Vec<u8> {
    let spans = traces.iter().flat_map(|trace| {
        std::iter::once(request(trace)).chain(trace.attempts.iter().map(move |attempt| self::attempt(trace, attempt)))
    });
    let scope = Scope { name: "sub2api", version: env!("CARGO_PKG_VERSION") };
    let scope_spans = [ScopeSpans { scope, spans: spans.collect() }];
    let attributes = vec![text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))];
    let export = Export { resource_spans: [ResourceSpans { resource: Resource { attributes }, scope_spans }] };
    serde_json::to_vec(&export).unwrap_or_default()
}

fn request(trace: &RequestTrace) -> Span<'_> {
    let mut attributes = vec![
        text("gen_ai.operation.name", trace.operation),
        text("gen_ai.request.model", &trace.model),
        number("http.response.status_code", u64::from(trace.status)),
        text("sub2api.request_id", &trace.request_id),
        text("sub2api.call", trace.call),
        text("sub2api.user", &trace.user),
        text("sub2api.outcome", trace.outcome),
        number("sub2api.attempts", trace.attempts.len() as u64),
    ];
    let good = trace.outcome == "served" && trace.status < 400;
    if !good {
        attributes.push(text("error.type", trace.outcome));
    }
    Span {
        trace_id: format!("{:032x}", trace.context.trace),
        span_id: format!("{:016x}", trace.context.span),
        parent_span_id: if trace.context.parent == 0 {
            String::new()
        } else {
            format!("{:016x}", trace.context.parent)
        },
        name: format!("{} {}", trace.operation, trace.model),
        kind: SERVER,
        start_time_unix_nano: nanos(trace.time.0),
        end_time_unix_nano: nanos(trace.time.1),
        attributes,
        status: if good { OK } else { Status { code: 2, message: trace.outcome } },
    }
}

fn attempt<'a>(trace: &'a RequestTrace, attempt: &'a AttemptTrace) -> Span<'a> {
    let mut attributes = vec![
        text("gen_ai.operation.name", trace.operation),
        text("gen_ai.provider.name", attempt.provider),
        text("gen_ai.request.model", &attempt.model),
        text("sub2api.account", &attempt.account),
    ];
    if attempt.status != 0 {
        attributes.push(number("http.response.status_code", u64::from(attempt.status)));
    }
    let usage = &attempt.usage;
    if !usage.is_empty() {
        attributes.push(number("gen_ai.usage.input_tokens", usage.total_input()));
        attributes.extend(usage.output.map(|output| number("gen_ai.usage.output_tokens", output)));
        attributes.extend(usage.cache_read.map(|read| number("gen_ai.usage.cache_read.input_tokens", read)));
    }
    if let Some(finish) = &attempt.finish {
        let values = vec![Value::Text(finish)];
        attributes.push(Attribute { key: "gen_ai.response.finish_reasons", value: Value::List(List { values }) });
    }
    let status = match &attempt.failed {
        Some((class, reason)) => {
            attributes.push(text("error.type", class));
            Status { code: 2, message: reason }
        }
        None => OK,
    };
    Span {
        trace_id: format!("{:032x}", trace.context.trace),
        span_id: format!("{:016x}", attempt.span),
        parent_span_id: format!("{:016x}", trace.context.span),
        name: format!("{} {}", trace.operation, attempt.model),
        kind: CLIENT,
        start_time_unix_nano: nanos(attempt.time.0),
        end_time_unix_nano: nanos(attempt.time.1),
        attributes,
        status,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Context, *};
    use crate::{clock::ManualClock, wire::Usage};
    use serde_json::Value as Json;

    #[test]
    fn attempts_are_children_of_their_request_with_what_came_of_them() {
        let clock = ManualClock::new();
        let begun = clock.now();
        clock.advance(std::time::Duration::from_millis(5));
        let attempt = |span, failed, usage| AttemptTrace {
            span,
            account: "a".into(),
            provider: "openai",
            model: "gpt".into(),
            status: 429,
            failed,
            usage,
            finish: Some("stop".into()),
            time: (begun, clock.now()),
        };
        let usage = Usage { input: Some(3), cache_read: Some(4), output: Some(5), ..Usage::default() };
        let trace = RequestTrace {
            context: Context { trace: 0xabc, parent: 7, span: 8 },
            request_id: "req".into(),
            call: "messages",
            operation: "chat",
            user: "ada".into(),
            model: "smart".into(),
            status: 200,
            outcome: "served",
            time: (begun, clock.now()),
            attempts: vec![attempt(9, Some(("rate", "429".into())), Usage::default()), attempt(10, None, usage)],
        };
        let json: Json = serde_json::from_slice(&export("edge", &[trace])).unwrap();
        let spans = json.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap();
        let ids: Vec<_> =
            spans.iter().map(|s| (s["spanId"].as_str().unwrap(), s["parentSpanId"].as_str().unwrap())).collect();
        let (request, first, second) = ("0000000000000008", "0000000000000009", "000000000000000a");
        assert_eq!(ids, [(request, "0000000000000007"), (first, request), (second, request)]);
        assert!(spans.iter().all(|span| span["traceId"] == "00000000000000000000000000000abc"));
        assert_eq!((spans[0]["kind"].as_u64(), spans[1]["status"]["code"].as_u64()), (Some(2), Some(2)));
        let told = spans[2]["attributes"].as_array().unwrap();
        let value = |key: &str| told.iter().find(|a| a["key"] == key).map(|a| a["value"].clone()).unwrap();
        assert_eq!(value("gen_ai.usage.input_tokens")["intValue"], "7");
        assert_eq!(value("gen_ai.response.finish_reasons")["arrayValue"]["values"][0]["stringValue"], "stop");
        let length = |span: &Json| {
            let at = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
            at("endTimeUnixNano") - at("startTimeUnixNano")
        };
        assert_eq!(length(&spans[0]), 5_000_000);
    }
}
