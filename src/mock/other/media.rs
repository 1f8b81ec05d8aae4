//! Images and audio: tiny, deterministic files, and proof of what was uploaded.

use super::{Ready, multipart};
use crate::mock::{
    ask::tokens,
    damage::Body,
    json,
    read::{self, given, invalid, missing, stranger, text},
    refusal::Checked,
    seal,
    write::CREATED,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A PNG of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[rustfmt::skip]
const IMAGE_FIELDS: &[&str] = &[
    "model", "prompt", "n", "size", "quality", "response_format", "style", "user", "background", "moderation",
    "output_format", "output_compression", "partial_images", "stream", "input_fidelity",
];

/// `POST /v1/images/generations`.
pub(in crate::mock) fn generate(body: &Value) -> Checked<Ready> {
    let body = read::object(body)?;
    if let Some(name) = stranger(body, IMAGE_FIELDS) {
        return Err(read::unknown(name));
    }
    let model = text(body, "model").unwrap_or("dall-e-2");
    let prompt = text(body, "prompt").filter(|prompt| !prompt.is_empty()).ok_or_else(|| missing("prompt"))?;
    let count = read::limit(body, "n", 1)?.unwrap_or(1).min(10);
    let as_url = match (text(body, "response_format"), model.starts_with("gpt-image")) {
        (Some(_), true) => return Err(read::unknown("response_format")),
        (Some("b64_json"), false) | (None, true) => false,
        (Some(_) | None, _) => true,
    };
    let reply = images(model, prompt, count, as_url);
    Ok(Ready::json(model, prompt.to_owned(), tokens(prompt), reply))
}

fn images(model: &str, prompt: &str, count: u64, as_url: bool) -> String {
    json::object(|o| {
        o.number("created", CREATED).list("data", |l| {
            for n in 0..count {
                l.object(|i| {
                    let id = seal::id(&[model, prompt, &n.to_string()], 12);
                    if as_url {
                        i.text("url", &format!("https://images.example/{id}.png")).text("revised_prompt", prompt);
                    } else {
                        i.text("b64_json", PIXEL);
                    }
                });
            }
        });
        if model.starts_with("gpt-image") {
            let (input, output) = (tokens(prompt), 272 * count);
            o.text("background", "opaque")
                .text("output_format", "png")
                .text("quality", "low")
                .text("size", "1024x1024");
            o.object("usage", |u| {
                u.number("input_tokens", input).object("input_tokens_details", |d| {
                    d.number("image_tokens", 0).number("text_tokens", input);
                });
                u.number("output_tokens", output).number("total_tokens", input + output);
            });
        }
    })
}

/// `POST /v1/images/edits` and `/variations`.
pub(in crate::mock) fn edit(content_type: &str, body: &[u8]) -> Checked<Ready> {
    let parts = multipart::parts(content_type, body)?;
    let field = |name: &str| {
        let part = parts.iter().find(|part| part.name == name)?;
        std::str::from_utf8(part.data).ok()
    };
    let image = parts.iter().find(|part| matches!(part.name, "image" | "image[]"));
    let image = image.ok_or_else(|| missing("image"))?;
    let model = field("model").unwrap_or("dall-e-2");
    let prompt = field("prompt").unwrap_or_default();
    let proof = format!("{prompt} [{} bytes, sha256 {}]", image.data.len(), seal::sha256(image.data, 8));
    let reply = images(model, &proof, 1, !model.starts_with("gpt-image"));
    Ok(Ready { text: proof, ..Ready::json(model, prompt.to_owned(), tokens(prompt), reply) })
}

/// `POST /v1/audio/speech`: bytes made from the text, sent in chunks as the real API does.
pub(in crate::mock) fn speech(body: &Value) -> Checked<Ready> {
    let body = read::object(body)?;
    let known = ["model", "input", "voice", "response_format", "speed", "instructions", "stream_format"];
    if let Some(name) = stranger(body, &known) {
        return Err(read::unknown(name));
    }
    let model = text(body, "model").ok_or_else(|| missing("model"))?;
    let input = text(body, "input").filter(|input| !input.is_empty()).ok_or_else(|| missing("input"))?;
    given(body, "voice").ok_or_else(|| missing("voice"))?;
    let formats = ["mp3", "opus", "aac", "flac", "wav", "pcm"];
    let content_type = match text(body, "response_format").unwrap_or("mp3") {
        "mp3" => "audio/mpeg",
        "opus" => "audio/opus",
        "aac" => "audio/aac",
        "flac" => "audio/flac",
        "wav" => "audio/wav",
        "pcm" => "audio/pcm",
        other => return Err(read::unsupported(other, "response_format", &formats)),
    };
    let seed = Sha256::digest(input.as_bytes());
    let size = (input.len() * 64).clamp(1024, 1 << 20);
    let data: Vec<u8> = seed.iter().cycle().zip(0..size).map(|(byte, n)| byte.wrapping_add((n / 32) as u8)).collect();
    let ready = Ready::json(model, input.to_owned(), tokens(input), String::new());
    Ok(Ready { body: Body { content_type, data, chunked: true }, ..ready })
}

/// `POST /v1/audio/transcriptions` and `/translations`: what was uploaded, in words.
pub(in crate::mock) fn transcribe(content_type: &str, body: &[u8]) -> Checked<Ready> {
    let parts = multipart::parts(content_type, body)?;
    let field = |name: &str| {
        let part = parts.iter().find(|part| part.name == name)?;
        std::str::from_utf8(part.data).ok()
    };
    let file = parts.iter().find(|part| part.name == "file").ok_or_else(|| missing("file"))?;
    let model = field("model").ok_or_else(|| missing("model"))?;
    let name =
        file.filename.ok_or_else(|| invalid("Invalid 'file': expected a file upload with a name.").at("file"))?;
    let said = format!("ECHO: {name} {} bytes sha256 {}", file.data.len(), seal::sha256(file.data, 8));
    let plain = matches!(field("response_format"), Some("text" | "srt" | "vtt"));
    let reply = json::object(|o| {
        o.text("text", &said).object("usage", |u| {
            u.text("type", "tokens").number("input_tokens", 14).number("output_tokens", tokens(&said));
            u.number("total_tokens", 14 + tokens(&said)).object("input_token_details", |d| {
                d.number("text_tokens", 0).number("audio_tokens", 14);
            });
        });
    });
    let prompt = field("prompt").unwrap_or_default().to_owned();
    let mut ready = Ready { text: said.clone(), ..Ready::json(model, prompt, 14, reply) };
    if plain {
        ready.body =
            Body { content_type: "text/plain; charset=utf-8", data: format!("{said}\n").into_bytes(), chunked: false };
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_come_as_the_model_gives_them() {
        let image = |body: Value| serde_json::from_slice::<Value>(&generate(&body).unwrap().body.data).unwrap();
        let gpt = image(json!({"model": "gpt-image-1", "prompt": "x", "n": 2}));
        assert!(gpt["data"][1]["b64_json"].is_string() && gpt["usage"]["output_tokens"] == 544, "{gpt}");
        assert!(image(json!({"prompt": "x"}))["data"][0]["url"].is_string());
        assert!(generate(&json!({"model": "gpt-image-1", "prompt": "x", "response_format": "url"})).is_err());
    }

    #[test]
    fn speech_is_binary_and_a_voice_is_required() {
        let ready =
            speech(&json!({"model": "tts-1", "input": "hello", "voice": "alloy", "response_format": "wav"})).unwrap();
        assert!(ready.body.content_type == "audio/wav" && ready.body.data.len() >= 1024 && ready.body.chunked);
        assert!(speech(&json!({"model": "tts-1", "input": "hello"})).is_err());
    }

    #[test]
    fn a_transcription_proves_what_was_uploaded() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nabc\r\n--b--\r\n";
        let ready = transcribe("multipart/form-data; boundary=b", body).unwrap();
        assert!(ready.text.starts_with("ECHO: a.wav 3 bytes sha256 ba7816bf"), "{}", ready.text);
    }
}
