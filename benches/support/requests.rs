//! Requests of any size in each format, as a coding agent sends them: a system prompt, tools with schemas, and turns of
//! text, calls and results. The larger the request, the longer are its prompt and its list of tools; results are source
//! code of up to three KB, with an escape in every eleven bytes.

use serde_json::json;
use sub2api::wire::{
    WireFormat::{self, OpenaiChat},
    translate::{Options, translate_request},
};

const CODE: &str = "fn main() {\n    println!(\"quoted \u{2014} {}\", name);\n}\n";

/// A request of about so many bytes.
pub(crate) fn request(format: WireFormat, bytes: usize) -> Vec<u8> {
    let mut low = 0;
    let mut high = 1;
    while sized(format, high).len() < bytes {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        *(if sized(format, middle).len() < bytes { &mut low } else { &mut high }) = middle;
    }
    sized(format, high)
}

/// A request with so many steps: written as a chat request, then translated, so that all formats say the same.
fn sized(format: WireFormat, steps: usize) -> Vec<u8> {
    let chat = serde_json::to_vec(&chat(steps)).expect("a value that can be written");
    if format == OpenaiChat {
        return chat;
    }
    let options = Options { model: "claude-sonnet-4-5", ..Options::default() };
    translate_request(OpenaiChat, format, &chat, &options).expect("a request that can be translated").body
}

fn chat(steps: usize) -> serde_json::Value {
    let tool = |name: String| {
        let schema = json!({"type": "object", "properties": {"path": {"type": "string", "description": "Where the file lies"}, "lines": {"type": "array", "items": {"type": "integer"}}}, "required": ["path"]});
        json!({"type": "function", "function": {"name": name, "description": "Reads a file and answers its lines, from where it is told to begin. ".repeat(6), "parameters": schema}})
    };
    let mut messages = vec![
        json!({"role": "system", "content": "You are a careful engineer, and say what you do not know. ".repeat(1 + steps.min(100))}),
    ];
    for step in 0..steps {
        match step % 4 {
            0 => messages.push(json!({"role": "user", "content": CODE.repeat(1 + step % 5)})),
            1 => messages.push(json!({"role": "assistant", "content": "I read the file first.", "tool_calls": [{"id": format!("call_{step}"), "type": "function", "function": {"name": "read_0", "arguments": format!("{{\"path\": \"src/{step}.rs\", \"lines\": [1, {step}]}}")}}]})),
            2 => messages.push(json!({"role": "tool", "tool_call_id": format!("call_{}", step - 1), "content": CODE.repeat(4 + step * 7 % 57)})),
            _ => messages.push(json!({"role": "assistant", "content": "It prints a quoted name, as it should.\n".repeat(1 + step % 5)})),
        }
    }
    messages.push(json!({"role": "user", "content": "go on"}));
    let tools: Vec<_> = (0..(steps / 4).clamp(1, 20)).map(|n| tool(format!("read_{n}"))).collect();
    json!({"model": "claude-sonnet-4-5", "stream": true, "max_tokens": 4096, "temperature": 0.2, "tools": tools, "messages": messages})
}
