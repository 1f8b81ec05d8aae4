//! Streams that pause, and events that are long: keep-alives in each format's own way, what is held, what passes in pieces.

use crate::{
    anthropic,
    client::{self, Reply},
    client_h2::H2,
    formats::{
        Format::{self, Anthropic, Chat, Gemini, Responses},
        Mode::{self, Array, Stream, Whole},
        said,
    },
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, end, stream, stream_head},
};
use std::{net::SocketAddr, time::Duration};
use sub2api::error::Reason::UpstreamFailed;
use tokio::task::JoinSet;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Every kind of stream.
const STREAMS: [(Format, Mode); 5] =
    [(Chat, Stream), (Responses, Stream), (Anthropic, Stream), (Gemini, Stream), (Gemini, Array)];

/// A short answer in each kind of stream: what comes before the content, two pieces of it, and the end.
fn pieces(format: Format, mode: Mode, first: &str, second: &str) -> [String; 4] {
    match (format, mode) {
        (Chat, _) => {
            let event = |delta: &str, finish: &str| {
                format!(
                    "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
                )
            };
            [
                event(r#"{"role":"assistant","content":""}"#, "null"),
                event(&format!(r#"{{"content":"{first}"}}"#), "null"),
                event(&format!(r#"{{"content":"{second}"}}"#), "null"),
                event("{}", "\"stop\"") + "data: [DONE]\n\n",
            ]
        }
        (Responses, _) => {
            let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{rest}}}\n\n");
            let delta = |n: u32, text: &str| {
                event("response.output_text.delta", &format!(r#""sequence_number":{n},"item_id":"i","delta":"{text}""#))
            };
            let response = |status: &str| format!(r#""response":{{"id":"r","object":"response","status":"{status}"}}"#);
            [
                event("response.created", &format!(r#""sequence_number":0,{}"#, response("in_progress"))),
                delta(1, first),
                delta(2, second),
                event("response.completed", &format!(r#""sequence_number":3,{}"#, response("completed"))),
            ]
        }
        (Anthropic, _) => {
            [anthropic::preamble("m"), anthropic::delta(first), anthropic::delta(second), anthropic::ending()]
        }
        (Gemini, _) => {
            let chunk = |text: &str, finish: &str| {
                format!(
                    "{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}}{finish}}}]}}"
                )
            };
            let usage = "{\"usageMetadata\":{\"promptTokenCount\":3}}".to_owned();
            let all = [usage, chunk(first, ""), chunk(second, ""), chunk("", ",\"finishReason\":\"STOP\"")];
            if mode == Array {
                let [a, b, c, d] = all;
                return [format!("[{a}"), format!(",\r\n{b}"), format!(",\r\n{c}"), format!(",\r\n{d}]")];
            }
            all.map(|json| format!("data: {json}\r\n\r\n"))
        }
    }
}

/// Cuts a text in its middle.
fn halves(text: &str) -> (&str, &str) {
    text.split_at(text.len() / 2)
}

/// The head of a stream of this kind.
fn head(mode: Mode) -> Act {
    match mode {
        Array => Act::Send(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\ntransfer-encoding: chunked\r\n\r\n"
                .into(),
        ),
        Whole | Stream => stream_head(),
    }
}

async fn gateway(format: Format, acts: Vec<Act>, more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::always(acts).await;
    let accounts = [account("only", format.provider(), &format.base(&upstream.url()), "")];
    (Gateway::start(&accounts, more).await, upstream)
}

async fn both(address: SocketAddr, format: Format, mode: Mode) -> [(&'static str, Reply); 2] {
    let ask = format.ask(mode, "m", "hi");
    let (h1, h2) = tokio::join!(client::h1(address, &ask), client::h2(address, &ask));
    [("h1", h1.unwrap()), ("h2", h2.unwrap())]
}

/// Takes the keep-alives out, and counts them.
fn without_pings(format: Format, mode: Mode, text: &str) -> (String, usize) {
    let ping = match (format, mode) {
        (Chat | Responses, _) => ": keep-alive\n\n",
        (Anthropic, _) => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        // A comment breaks Google's SDKs: they read every line as data.
        (Gemini, Stream) => "data: {}\r\n\r\n",
        // White space between two elements of an array.
        (Gemini, _) => "\n",
    };
    let kept = text.replace(ping, "");
    // A line feed also stands in what separates two elements.
    let own = if mode == Array { 3 } else { 0 };
    (if mode == Array { text.replace(['\n', '\r'], "") } else { kept }, text.matches(ping).count() - own)
}

/// Whether every line is what the format's own SDK reads.
fn is_in_grammar(format: Format, mode: Mode, text: &str) -> Result<(), String> {
    if mode == Array {
        let list: Result<Vec<serde_json::Value>, _> = serde_json::from_str(text);
        return list.map(|_| ()).map_err(|error| format!("{error}: {text}"));
    }
    let separator = if format == Gemini { "\r\n\r\n" } else { "\n\n" };
    for event in text.split(separator).filter(|event| !event.is_empty()) {
        let lines: Vec<&str> = event.lines().collect();
        let data = lines.last().and_then(|line| line.strip_prefix("data: "));
        let is_json = data.is_some_and(|data| serde_json::from_str::<serde_json::Value>(data).is_ok());
        let is_right = match format {
            Gemini => lines.len() == 1 && is_json,
            Chat => lines.len() == 1 && (is_json || data == Some("[DONE]") || event == ": keep-alive"),
            Responses => event == ": keep-alive" || (lines.len() == 2 && lines[0].starts_with("event: ") && is_json),
            Anthropic => lines.len() == 2 && lines[0].starts_with("event: ") && is_json,
        };
        if !is_right {
            return Err(format!("`{event}` is no event of this format"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_is_kept_alive_in_its_formats_own_way() {
    let mut running = JoinSet::new();
    for (format, mode) in STREAMS {
        for (ping, least, most) in [("200ms", 4, 12), ("0s", 0, 0)] {
            running.spawn(async move {
                let [before, first, second, ending] = pieces(format, mode, "one", "two");
                // Half of an event waits in the gateway, and a keep-alive never lands inside it.
                let (half, rest) = halves(&second);
                let acts = vec![
                    head(mode),
                    chunk(&before),
                    chunk(&first),
                    Act::Sleep(millis(700)),
                    chunk(half),
                    Act::Sleep(millis(700)),
                    chunk(rest),
                    chunk(&ending),
                    end(),
                ];
                let (gateway, _upstream) = gateway(format, acts, &format!("streams: {{ ping: {ping} }}\n")).await;
                for (version, reply) in both(gateway.address, format, mode).await {
                    let (name, text) = (format!("{format:?} {mode:?} {ping} {version}"), reply.text());
                    let (kept, pings) = without_pings(format, mode, &text);
                    let all = [before.clone(), first.clone(), second.clone(), ending.clone()].concat();
                    assert_eq!(kept, if mode == Array { all.replace("\r\n", "") } else { all }, "{name}");
                    assert!((least..=most).contains(&pings), "{name}: {pings} keep-alives in {text}");
                    is_in_grammar(format, mode, &text).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
                    assert_eq!(said(format, mode, &text), "onetwo", "{name}");
                    assert!(reply.complete, "{name}");
                }
            });
        }
    }
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_while_another_account_may_still_have_to_answer() {
    let mut running = JoinSet::new();
    for (format, mode) in STREAMS {
        running.spawn(async move {
            let [before, first, second, ending] = pieces(format, mode, "one", "two");
            let slow = Upstream::always(vec![head(mode), chunk(&before), Act::Sleep(millis(600)), Act::Close]).await;
            let mut acts = vec![head(mode)];
            acts.extend([&before, &first, &second, &ending].map(chunk));
            acts.push(end());
            let good = Upstream::always(acts).await;
            let accounts = [("slow", &slow, "priority: 1"), ("good", &good, "priority: 2")]
                .map(|(name, upstream, more)| account(name, format.provider(), &format.base(&upstream.url()), more));
            let gateway = Gateway::start(&accounts, "streams: { ping: 100ms }\n").await;
            for (version, reply) in both(gateway.address, format, mode).await {
                let all = [before.clone(), first.clone(), second.clone(), ending.clone()].concat();
                assert_eq!(reply.text(), all, "{format:?} {mode:?} {version}");
            }
            assert_eq!((slow.seen().len(), good.seen().len()), (2, 2), "{format:?} {mode:?}");
        });
    }
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_no_stream_gets_no_keep_alive() {
    for (format, body) in [
        (
            Anthropic,
            r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn"}"#,
        ),
        (
            Gemini,
            r#"{"candidates":[{"content":{"parts":[{"text":"ok"}],"role":"model"},"finishReason":"STOP","index":0}]}"#,
        ),
    ] {
        let (half, rest) = halves(body);
        let acts = vec![
            Act::Send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".into()),
            chunk(half),
            Act::Sleep(millis(500)),
            chunk(rest),
            end(),
        ];
        let (gateway, _upstream) = gateway(format, acts, "streams: { ping: 100ms, whole_hold_bytes: 0 }\n").await;
        for (version, reply) in both(gateway.address, format, Whole).await {
            assert_eq!((reply.status, reply.text().as_str()), (200, body), "{format:?} {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preamble_is_held_up_to_its_bound_and_then_goes_out() {
    let filler = "event: ping\ndata: {\"type\":\"ping\"}\n\n".repeat(100);
    for (times, is_held) in [(1, true), (4, false)] {
        let start = anthropic::preamble("m") + &filler.repeat(times);
        let acts = vec![stream_head(), chunk(&start), Act::Sleep(millis(500)), chunk(anthropic::overloaded()), end()];
        let first = Upstream::always(acts).await;
        let second = Upstream::always(stream(&[anthropic::answer("good")])).await;
        let accounts = [("first", &first, "priority: 1"), ("second", &second, "priority: 2")]
            .map(|(name, upstream, more)| account(name, "anthropic", &upstream.url(), more));
        let gateway =
            Gateway::start(&accounts, "streams: { hold_bytes: 8KiB }\ncooldown: { base: 1ms, max: 1ms }\n").await;
        for reply in [
            client::h1(gateway.address, &Anthropic.ask(Stream, "m", "hi")).await.unwrap(),
            client::h2(gateway.address, &Anthropic.ask(Stream, "m", "hi")).await.unwrap(),
        ] {
            let text = reply.text();
            if is_held {
                assert_eq!(text, anthropic::answer("good"), "{times}");
            } else {
                assert_eq!(text, start.clone() + &anthropic::overloaded(), "{times}");
                assert!(reply.first_byte < millis(400), "it waited for {:?}", reply.first_byte);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_event_passes_in_pieces_and_is_not_waited_for() {
    let mut running = JoinSet::new();
    for (format, mode) in STREAMS {
        running.spawn(async move {
            let long = "word ".repeat(20_000);
            let [before, first, second, ending] = pieces(format, mode, &long, "two");
            let (half, rest) = halves(&first);
            let mut acts = vec![head(mode), chunk(&before), chunk(half), Act::Sleep(millis(900)), chunk(rest)];
            acts.extend([chunk(&second), chunk(&ending), end()]);
            let more = "streams: { event_bytes: 16KiB, hold_bytes: 16KiB, ping: 100ms }\n";
            let (gateway, _upstream) = gateway(format, acts, more).await;
            for (version, reply) in both(gateway.address, format, mode).await {
                let name = format!("{format:?} {mode:?} {version}");
                let all = [before.clone(), first.clone(), second.clone(), ending.clone()].concat();
                // Nothing may be put inside the event, however long it pauses.
                assert!(reply.text() == all, "{name}: other bytes came");
                assert!(reply.complete, "{name}");
                assert!(reply.first_byte < millis(800), "{name}: the first byte came after {:?}", reply.first_byte);
            }
        });
    }
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_inside_a_long_event_breaks_the_connection() {
    let mut running = JoinSet::new();
    for (format, mode) in STREAMS {
        for (death, acts) in [
            ("reset", vec![Act::Sleep(millis(50)), Act::Reset]),
            ("close", vec![Act::Sleep(millis(50)), Act::Close]),
            ("clean end", vec![Act::Sleep(millis(50)), end()]),
            ("silence", vec![Act::Sleep(Duration::from_secs(20))]),
        ] {
            running.spawn(async move {
                let [before, first, ..] = pieces(format, mode, &"word ".repeat(20_000), "two");
                let (half, _) = halves(&first);
                let acts = [vec![head(mode), chunk(&before), chunk(half)], acts].concat();
                let more = "streams: { event_bytes: 16KiB, hold_bytes: 16KiB }\ntimeouts: { idle: 400ms }\n";
                let (gateway, _upstream) = gateway(format, acts, more).await;
                let ask = format.ask(mode, "m", "hi");
                let (h1, h2) = tokio::join!(client::h1(gateway.address, &ask), client::h2(gateway.address, &ask));
                // A reset overtakes what HTTP/2 has not sent yet, be it the header.
                for (version, reply) in [("h1", h1.unwrap()), ("h2", h2.unwrap_or_default())] {
                    let name = format!("{format:?} {mode:?} {death} {version}");
                    if reply.status == 502 {
                        // It died before anything was on the wire.
                        format.check_refusal(&reply, UpstreamFailed).unwrap();
                        continue;
                    }
                    assert!(!reply.complete, "{name}: a clean end");
                    assert!(
                        version == "h2" || reply.status == 200 && reply.text().contains("word"),
                        "{name}: {reply:?}"
                    );
                    let sent = before.clone() + half;
                    assert!(sent.starts_with(&reply.text()), "{name}: something was put into the event");
                }
                assert_eq!(gateway.left_over().await, [""; 0], "{format:?} {mode:?} {death}");
            });
        }
    }
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_behind_the_streams_own_end_breaks_nothing() {
    let mut running = JoinSet::new();
    for (format, mode) in STREAMS {
        for death in [Act::Reset, Act::Close, Act::Sleep(Duration::from_secs(20))] {
            running.spawn(async move {
                let [before, first, second, ending] = pieces(format, mode, "one", "two");
                let all = [before.clone(), first.clone(), second.clone(), ending.clone()].concat();
                let mut acts = vec![head(mode)];
                acts.extend([&before, &first, &second, &ending].map(chunk));
                acts.extend([Act::Sleep(millis(60)), death.clone()]);
                let (gateway, _upstream) = gateway(format, acts, "timeouts: { idle: 500ms }\n").await;
                for (version, reply) in both(gateway.address, format, mode).await {
                    let name = format!("{format:?} {mode:?} {death:?} {version}");
                    assert_eq!((reply.status, reply.text()), (200, all.clone()), "{name}");
                    assert!(reply.complete, "{name}: the answer was whole");
                }
            });
        }
    }
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_one_by_one_over_http2_too() {
    let acts = vec![
        stream_head(),
        chunk(anthropic::preamble("m") + &anthropic::delta("one")),
        Act::Sleep(millis(300)),
        chunk(anthropic::delta("two")),
        Act::Sleep(millis(300)),
        chunk(anthropic::ending()),
        end(),
    ];
    let (gateway, _upstream) = gateway(Anthropic, acts, "").await;
    let connection = H2::open(gateway.address).await.unwrap();
    let mut arriving = connection.send(&Anthropic.ask(Stream, "m", "hi")).await.unwrap().arrives().await.unwrap();
    let mut seen = String::new();
    for (word, then) in [("one", "two"), ("two", "message_stop")] {
        while !seen.contains(word) {
            seen += &String::from_utf8_lossy(&arriving.piece().await.unwrap());
        }
        assert!(!seen.contains(then), "`{then}` came together with `{word}`");
    }
    assert!(arriving.finish().await.text().contains("message_stop"));
}
