//! Ways to mistreat a server with HTTP/1.1 requests.

use crate::{dice::Dice, seeds::Seed};

/// What is sent in one case.
#[derive(Clone, Debug)]
pub(super) struct Abuse {
    pub(super) kind: &'static str,
    pub(super) bytes: Vec<u8>,
    /// Places at which the bytes are sent in pieces.
    pub(super) cuts: Vec<usize>,
    /// Whether the framing is sound, so that a reply must come.
    pub(super) sure: bool,
    /// Whether the reply has no body.
    pub(super) head_only: bool,
}

const METHODS: [&str; 12] =
    ["POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "M-SEARCH"];

const PATHS: [&str; 26] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/rerank",
    "/v1/models",
    "/v1beta/models",
    "/v1/models/gpt-4.1",
    "/livez",
    "/readyz",
    "/v1beta/models/gemini-2.5-flash:generateContent",
    "/v1beta/models/m:streamGenerateContent",
    "/v1/models/m:countTokens",
    "/v1beta/tunedModels/t:generateContent",
    "/openai/v1/chat/completions",
    "/gemini/v1beta/models/m:embedContent",
    "/anthropic/v1/messages",
    "/",
    "/v1/usage",
];

const HEADERS: [(&str, &str); 22] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("connection", "x-request-id, authorization"),
    ("te", "trailers, deflate;q=0.5"),
    ("expect", "100-continue"),
    ("expect", "a miracle"),
    ("content-encoding", "gzip"),
    ("accept-encoding", "br, gzip;q=0"),
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "a,b,,"),
    ("x-goog-api-client", "g/1"),
    ("proxy-authorization", "Basic x"),
    ("x-forwarded-for", "1.2.3.4, 5.6.7.8"),
    ("x-request-id", "a b"),
    ("x-request-id", "evil"),
    ("openai-beta", "x=1"),
    ("cookie", "a=b; c=d"),
    ("content-type", "application/json; charset=utf-16"),
    ("content-type", "multipart/form-data"),
    ("range", "bytes=0-1"),
    ("if-none-match", "*"),
    ("max-forwards", "0"),
];

/// The abuse of one case.
pub(super) fn of(dice: &mut Dice, seeds: &[Seed]) -> Abuse {
    match dice.below(100) {
        0..=49 => body(dice, seeds),
        50..=69 => head(dice, seeds),
        70..=79 => form(dice),
        80..=87 => raw(dice, seeds),
        88..=92 => chunks(dice, seeds),
        93..=95 => several(dice, seeds),
        _ => noise(dice),
    }
}

fn abuse(kind: &'static str, bytes: Vec<u8>, sure: bool) -> Abuse {
    Abuse { kind, bytes, cuts: Vec::new(), sure, head_only: false }
}

/// A request head; `more` are lines with their ends.
fn head_of(method: &str, target: &str, more: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer sk-test\r\n{more}\r\n")
        .into_bytes()
}

fn with_length(method: &str, target: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = head_of(method, target, &format!("{more}content-length: {}\r\n", body.len()));
    bytes.extend_from_slice(body);
    bytes
}

fn chunked(dice: &mut Dice, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + dice.below(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn good(dice: &mut Dice, seeds: &[Seed]) -> Vec<u8> {
    let seed = dice.pick(seeds);
    with_length("POST", &seed.path, "content-type: application/json\r\n", &seed.request)
}

/// A damaged body in a sound frame.
fn body(dice: &mut Dice, seeds: &[Seed]) -> Abuse {
    let seed = dice.pick(seeds).clone();
    let mut body = seed.request;
    match dice.below(12) {
        0 => body = nested(dice),
        1 => body = dice.noise(300),
        2 => body.clear(),
        // Other text in the same JSON, so that most of these are good enough for the provider.
        3..=6 => {
            for _ in 0..dice.below(20) {
                let at = dice.below(body.len());
                if body.get(at).is_some_and(u8::is_ascii_alphabetic) {
                    body[at] = b'a' + dice.below(26) as u8;
                }
            }
        }
        _ => dice.mangle(&mut body),
    }
    let kind = "content-type: application/json\r\n";
    let bytes = if dice.once_in(4) {
        let mut bytes = head_of("POST", &seed.path, &format!("{kind}transfer-encoding: chunked\r\n"));
        bytes.extend(chunked(dice, &body));
        bytes
    } else {
        with_length("POST", &seed.path, kind, &body)
    };
    let mut cuts: Vec<usize> = (0..dice.below(4)).map(|_| dice.below(bytes.len())).collect();
    cuts.sort_unstable();
    Abuse { cuts, ..abuse("body", bytes, true) }
}

/// Something deep, or with very many members.
fn nested(dice: &mut Dice) -> Vec<u8> {
    let times = 1 + dice.below(3000);
    let inside = match dice.below(3) {
        0 => "[".repeat(times) + &"]".repeat(times),
        1 => r#"{"a":"#.repeat(times) + "1" + &"}".repeat(times),
        _ => format!("[{}0]", "0,".repeat(times)),
    };
    format!(r#"{{"model":"m","messages":{inside},"contents":{inside}}}"#).into_bytes()
}

/// A damaged head in a sound frame.
fn head(dice: &mut Dice, seeds: &[Seed]) -> Abuse {
    let method = *dice.pick(&METHODS);
    let mut path = dice.pick(&PATHS).as_bytes().to_vec();
    if !dice.once_in(3) {
        dice.mangle(&mut path);
    }
    if dice.once_in(3) {
        path.push(b'?');
        path.extend_from_slice(
            dice.pick(&[
                "alt=sse",
                "key=sk-test",
                "key=&key=x",
                "alt=sse&alt=json&%61lt=x",
                "a=%0d%0ahost:x",
                "&&&=&?",
            ])
            .as_bytes(),
        );
    }
    // Only what may stand in a target at all; the rest is another kind's business.
    path.retain(|byte| byte.is_ascii_graphic() && *byte != b'#');
    let target = format!("/{}", String::from_utf8_lossy(&path).trim_start_matches('/'));
    let mut more = String::new();
    for _ in 0..dice.below(6) {
        let (name, value) = *dice.pick(&HEADERS);
        let value = if dice.once_in(3) { dice.header_value(60) } else { value.to_owned() };
        more += &format!("{name}: {value}\r\n");
    }
    if dice.once_in(40) {
        more += &"x-filler: y\r\n".repeat(dice.below(150));
    }
    let body = dice.pick(seeds).request.clone();
    let bytes = with_length(method, &target, &more, &body);
    Abuse { head_only: method == "HEAD", ..abuse("head", bytes, true) }
}

/// A damaged multipart form in a sound frame.
fn form(dice: &mut Dice) -> Abuse {
    let target = *dice.pick(&[
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/images/edits",
        "/v1/images/variations",
    ]);
    let mut body = b"--XX\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--XX\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\nRIFF"
        .to_vec();
    body.extend(dice.noise(200));
    body.extend_from_slice(b"\r\n--XX\r\ncontent-disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--XX--\r\n");
    if !dice.once_in(6) {
        dice.mangle(&mut body);
    }
    let boundary = *dice.pick(&["XX", "XX", "XX", "XX", "\"XX\"", "", "\"", "YY", "XX; charset=utf-8", "X"]);
    let kind = format!("content-type: multipart/form-data; boundary={boundary}\r\n");
    abuse("form", with_length("POST", target, &kind, &body), true)
}

/// A request damaged anywhere.
fn raw(dice: &mut Dice, seeds: &[Seed]) -> Abuse {
    let mut bytes = good(dice, seeds);
    // Most damage to the head, which is the shorter part.
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let tail = bytes.split_off(if dice.once_in(3) { bytes.len() } else { head });
    dice.mangle(&mut bytes);
    bytes.extend(tail);
    abuse("raw", bytes, false)
}

/// Damaged chunks.
fn chunks(dice: &mut Dice, seeds: &[Seed]) -> Abuse {
    let seed = dice.pick(seeds).clone();
    let mut bytes = head_of("POST", &seed.path, "transfer-encoding: chunked\r\n");
    let mut body = chunked(dice, &seed.request);
    dice.mangle(&mut body);
    bytes.extend(body);
    abuse("chunks", bytes, false)
}

/// Several requests at once, the last one perhaps cut, one perhaps damaged.
fn several(dice: &mut Dice, seeds: &[Seed]) -> Abuse {
    let mut bytes = good(dice, seeds);
    for _ in 0..=dice.below(3) {
        let mut next = good(dice, seeds);
        if dice.once_in(3) {
            dice.mangle(&mut next);
        }
        let at = if dice.once_in(4) { dice.below(bytes.len()) } else { bytes.len() };
        drop(bytes.splice(at..at, next));
    }
    if dice.once_in(2) {
        bytes.truncate(dice.below(bytes.len()));
    }
    abuse("several", bytes, false)
}

fn noise(dice: &mut Dice) -> Abuse {
    let mut bytes = dice.noise(400);
    if dice.once_in(2) {
        const STARTS: [&[u8]; 6] = [
            b"POST ",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"PRI * HT",
            b"\r\n\r\n",
            b"GET / HTTP/0.9\r\n\r\n",
        ];
        drop(bytes.splice(0..0, dice.pick(&STARTS).iter().copied()));
    }
    abuse("noise", bytes, false)
}
