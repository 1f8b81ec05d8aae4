//! Conversations of six turns through every pair of formats, against the mock's strict readers: parallel tool calls and
//! their results, images, and reasoning that has to come back signed. Every request is accepted.

use crate::{
    client::{self, Ask},
    formats::{FORMATS, Format},
    gateway::{Gateway, account},
};
use Format::{Anthropic, Chat, Gemini, Responses};
use serde_json::{Value, json};
use sub2api::mock::{Mock, MockHandle, Options};
use tokio::net::TcpListener;

const TURNS: usize = 6;
const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A model of the format's vendor that thinks.
fn thinker(format: Format) -> &'static str {
    match format {
        Chat | Responses => "gpt-5",
        Anthropic => "claude-sonnet-4-5",
        Gemini => "gemini-3-flash-preview",
    }
}

/// A conversation as its client's SDK keeps it.
struct Transcript {
    format: Format,
    list: Vec<Value>,
}

impl Transcript {
    fn user(&mut self, text: &str, with_image: bool) {
        let url = format!("data:image/png;base64,{IMAGE}");
        let mut parts = match self.format {
            Chat => vec![json!({"type": "text", "text": text})],
            Responses => vec![json!({"type": "input_text", "text": text})],
            Anthropic => vec![json!({"type": "text", "text": text})],
            Gemini => vec![json!({"text": text})],
        };
        if with_image {
            parts.insert(
                0,
                match self.format {
                    Chat => json!({"type": "image_url", "image_url": {"url": url}}),
                    Responses => json!({"type": "input_image", "image_url": url, "detail": "auto"}),
                    Anthropic => {
                        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}})
                    }
                    Gemini => json!({"inlineData": {"mimeType": "image/png", "data": IMAGE}}),
                },
            );
        }
        let key = if self.format == Gemini { "parts" } else { "content" };
        self.list.push(json!({"role": "user", key: parts}));
    }

    fn ask(&self, model: &str) -> Ask {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false});
        let (name, about) = ("get_weather", "The weather of a city");
        let body = match self.format {
            Chat => json!({"model": model, "messages": self.list, "reasoning_effort": "medium",
                "tools": [{"type": "function", "function": {"name": name, "description": about, "parameters": schema}}]}),
            Responses => {
                json!({"model": model, "input": self.list, "store": false, "include": ["reasoning.encrypted_content"],
                "reasoning": {"effort": "medium", "summary": "auto"},
                "tools": [{"type": "function", "name": name, "description": about, "parameters": schema, "strict": true}]})
            }
            Anthropic => json!({"model": model, "messages": self.list, "max_tokens": 20000,
                "thinking": {"type": "enabled", "budget_tokens": 4000},
                "tools": [{"name": name, "description": about, "input_schema": schema}]}),
            Gemini => {
                json!({"contents": self.list, "generationConfig": {"thinkingConfig": {"includeThoughts": true, "thinkingBudget": 4000}},
                "tools": [{"functionDeclarations": [{"name": name, "description": about, "parametersJsonSchema": schema}]}]})
            }
        };
        let ask = Ask::post(&self.format.path(crate::formats::Mode::Whole, model), body.to_string());
        if self.format == Anthropic { ask.header("anthropic-version", "2023-06-01") } else { ask }
    }

    /// Takes an answer over as an SDK does; gives its calls' cities, and answers them.
    fn take(&mut self, reply: &Value, weather: &str) -> Vec<String> {
        let city = |arguments: &Value| match arguments {
            Value::String(text) => serde_json::from_str::<Value>(text).unwrap()["city"].as_str().unwrap().to_owned(),
            object => object["city"].as_str().unwrap().to_owned(),
        };
        let told = |city: &str| format!("{weather} in {city}");
        let mut cities = Vec::new();
        match self.format {
            Chat => {
                let message = reply["choices"][0]["message"].clone();
                self.list.push(message.clone());
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    cities.push(city(&call["function"]["arguments"]));
                    let said = told(cities.last().unwrap());
                    self.list.push(json!({"role": "tool", "tool_call_id": call["id"], "content": said}));
                }
            }
            Responses => {
                let items = reply["output"].as_array().unwrap().clone();
                self.list.extend(items.clone());
                for call in items.iter().filter(|item| item["type"] == "function_call") {
                    cities.push(city(&call["arguments"]));
                    let said = told(cities.last().unwrap());
                    self.list.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": said}));
                }
            }
            Anthropic => {
                self.list.push(json!({"role": "assistant", "content": reply["content"]}));
                let mut results = Vec::new();
                for call in reply["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use") {
                    cities.push(city(&call["input"]));
                    let said = told(cities.last().unwrap());
                    results.push(json!({"type": "tool_result", "tool_use_id": call["id"], "content": said}));
                }
                if !results.is_empty() {
                    self.list.push(json!({"role": "user", "content": results}));
                }
            }
            Gemini => {
                let content = reply["candidates"][0]["content"].clone();
                let mut results = Vec::new();
                for call in content["parts"].as_array().unwrap().iter().filter_map(|part| part.get("functionCall")) {
                    cities.push(city(&call["args"]));
                    let mut result =
                        json!({"name": call["name"], "response": {"result": told(cities.last().unwrap())}});
                    if !call["id"].is_null() {
                        result["id"] = call["id"].clone();
                    }
                    results.push(json!({"functionResponse": result}));
                }
                self.list.push(content);
                if !results.is_empty() {
                    self.list.push(json!({"role": "user", "parts": results}));
                }
            }
        }
        cities
    }
}

async fn mock() -> MockHandle {
    Mock::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), Options::default()).unwrap()
}

/// An account that speaks this format only.
fn only(format: Format, url: &str) -> String {
    let spoken = match format {
        Chat => "formats: [openai_chat]",
        Responses => "formats: [openai_responses]",
        Anthropic | Gemini => "",
    };
    account("only", format.provider(), &format.base(url), spoken)
}

async fn converse(client: Format, provider: Format) {
    let mock = mock().await;
    let gateway = Gateway::start(&[only(provider, &mock.base_url())], "").await;
    let mut transcript = Transcript { format: client, list: Vec::new() };
    let pair = format!("{client:?} -> {provider:?}");
    for turn in 0..TURNS {
        transcript.user(&format!("CALL_PARALLEL number {turn}"), turn % 2 == 0);
        let reply = client::h1(gateway.address, &transcript.ask(thinker(provider))).await.unwrap();
        assert_eq!(reply.status, 200, "{pair}, turn {turn}: {}", reply.text());
        let weather = format!("sunny {turn}");
        let cities = transcript.take(&reply.json(), &weather);
        assert_eq!(cities, ["Paris", "London"], "{pair}, turn {turn}: {}", reply.text());
        let reply = client::h1(gateway.address, &transcript.ask(thinker(provider))).await.unwrap();
        assert_eq!(reply.status, 200, "{pair}, the results of turn {turn}: {}", reply.text());
        let want = format!("TOOL_RESULT: {weather} in Paris | {weather} in London");
        assert!(reply.text().contains(&want), "{pair}, the results of turn {turn}: {}", reply.text());
        assert!(transcript.take(&reply.json(), "").is_empty());
    }
    assert_eq!(mock.requests(), 2 * TURNS as u64, "{pair}: nothing was refused and asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_turns_with_tools_images_and_reasoning_are_accepted_through_every_pair() {
    for client in FORMATS {
        for provider in FORMATS {
            converse(client, provider).await;
        }
    }
}
