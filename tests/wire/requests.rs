//! Every recorded request is scanned and spliced.

use crate::traffic;
use bytes::Bytes;
use serde_json::Value;
use sub2api::wire::envelope::{scan, splice};

/// Where the recording itself names the model, in each place of the body that a call can have.
fn recorded_models(request: &Value) -> Vec<&str> {
    let mut models = vec![&request["model"], &request["generateContentRequest"]["model"]];
    models.extend(request["requests"].as_array().into_iter().flatten().map(|r| &r["model"]));
    models.into_iter().filter_map(Value::as_str).collect()
}

fn recorded_limit(request: &Value) -> Option<u64> {
    let plain = ["/max_tokens", "/max_completion_tokens", "/max_output_tokens"];
    let google = ["/generationConfig/maxOutputTokens", "/generationConfig/max_output_tokens"];
    plain.iter().chain(&google).filter_map(|place| request.pointer(place)?.as_u64()).max()
}

fn replace_models(value: &mut Value, new: &str) {
    let rename = |model: &mut Value| {
        if let Some(old) = model.as_str() {
            let prefix = if old.starts_with("models/") { "models/" } else { "" };
            *model = Value::String(format!("{prefix}{new}"));
        }
    };
    if let Some(object) = value.as_object_mut() {
        object.get_mut("model").map(rename);
        object.get_mut("generateContentRequest").and_then(|r| r.get_mut("model")).map(rename);
        for request in object.get_mut("requests").and_then(Value::as_array_mut).into_iter().flatten() {
            request.get_mut("model").map(rename);
        }
    }
}

#[test]
fn every_request_is_understood_and_only_its_model_is_replaced() {
    let Some(exchanges) = traffic::load("every_request_is_understood_and_only_its_model_is_replaced") else { return };
    let (mut passed, mut without_model, mut refused) = (0, Vec::new(), Vec::new());
    for exchange in exchanges.iter().filter(|e| !e.request.is_null()) {
        let Some(endpoint) = exchange.endpoint() else { continue };
        let body = Bytes::from(exchange.request_bytes());
        let models = recorded_models(&exchange.request);
        let envelope = match scan(&endpoint, Some("application/json"), &body) {
            Ok(envelope) => envelope,
            Err(fault) => {
                // Azure's own SDK names the deployment in the path only.
                assert!(models.is_empty() && exchange.path.contains("/deployments/"), "{}: {fault}", exchange.id);
                assert_eq!(fault.param.as_deref(), Some("model"));
                refused.push(&exchange.id);
                continue;
            }
        };
        let plain = models.first().map(|m| m.strip_prefix("models/").unwrap_or(m));
        assert_eq!(envelope.model.as_deref(), plain, "{}", exchange.id);
        assert_eq!(envelope.max_output_tokens, recorded_limit(&exchange.request), "{}", exchange.id);
        let streams = exchange.request["stream"] == true || exchange.path.contains(":streamGenerateContent");
        assert_eq!(envelope.stream, streams, "{}", exchange.id);
        if models.is_empty() {
            without_model.push(&exchange.id);
        }

        let mut expected = exchange.request.clone();
        replace_models(&mut expected, "another \"model\"");
        let out = splice(&body, &envelope, "another \"model\"");
        assert_eq!(out, serde_json::to_vec(&expected).unwrap(), "{}", exchange.id);
        if let Some(model) = plain {
            assert_eq!(splice(&body, &envelope, model).as_ptr(), body.as_ptr(), "{}", exchange.id);
        }
        passed += 1;
    }
    println!("requests: {passed} passed, of them {} name no model: {without_model:?}", without_model.len());
    println!("requests: {} refused, their model is in the path: {refused:?}", refused.len());
    assert!(passed > 0 && refused.len() <= 6);
}
