//! From an answer to the writes that carry it, in order or with a fault.
//!
//! Frames events as the provider does (LF, Gemini CRLF, or Gemini's JSON array) and applies the faults that act on bytes
//! and connections. It decides nothing about content.

use super::{
    fault::{Effect, Fault, Wire},
    json,
    refusal::Dialect,
    reply::{Framing, Head, Reply, Step},
    write::{Event, Part},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use std::{io::Write as _, time::Duration};

/// The wait that lets bytes arrive before a reset overtakes them.
const SETTLE: Duration = Duration::from_millis(50);

/// What is sent besides the body.
pub(super) struct Envelope {
    pub(super) dialect: Dialect,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Whether the client said that it reads gzip.
    pub(super) accepts_gzip: bool,
    pub(super) fault: Option<Fault>,
}

/// A body that is there at once.
pub(super) struct Body {
    pub(super) content_type: &'static str,
    pub(super) data: Vec<u8>,
    /// Sent in chunks, without a length.
    pub(super) chunked: bool,
}

/// How events are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Sse,
    /// Gemini's stream without `alt=sse`.
    Array,
}

impl Envelope {
    fn wire(&self) -> Option<Wire> {
        match self.fault?.info.effect {
            Effect::Wire(wire) => Some(wire),
            Effect::Instead(_) | Effect::Events(_) => None,
        }
    }

    fn seconds(&self, default: u64) -> Duration {
        Duration::from_secs(self.fault.and_then(|fault| fault.argument).unwrap_or(default))
    }

    fn gzips(&self) -> bool {
        self.wire() == Some(Wire::GzipForce) || self.wire() == Some(Wire::Gzip) && self.accepts_gzip
    }

    fn head(&self, content_type: &str, framing: Framing) -> Step {
        let mut headers = self.headers.clone();
        headers.push(("content-type", content_type.to_owned()));
        if self.gzips() {
            headers.push(("content-encoding", "gzip".to_owned()));
        }
        Step::Head(Head { status: 200, headers, framing })
    }

    /// The steps after a break of this kind.
    fn break_off(&self, wire: Wire) -> Vec<Step> {
        match wire {
            Wire::Reset | Wire::PreReset => vec![Step::Pause(SETTLE), Step::Reset],
            Wire::Stall | Wire::PreStall => vec![Step::Pause(self.seconds(600)), Step::Close],
            Wire::Truncated | Wire::PreClose => vec![Step::Pause(SETTLE), Step::Close],
            _ => Vec::new(),
        }
    }

    /// A reply with a whole body.
    pub(super) fn whole(&self, body: Body) -> Reply {
        let wire = self.wire();
        let mut data = body.data;
        if wire == Some(Wire::BadJson) {
            data.truncate(data.len().saturating_sub(20));
            data.extend_from_slice(b",,}");
        }
        if self.gzips() {
            data = gzip_once(&data);
        }
        let framing = match (wire, body.chunked) {
            (Some(Wire::Http10), _) => Framing::UntilClose,
            (_, true) => Framing::Chunked,
            (_, false) => Framing::Length(data.len() as u64),
        };
        let data = Bytes::from(data);
        let half = data.slice(..data.len() / 2);
        let head = self.head(body.content_type, framing);
        let mut steps = vec![head];
        match wire {
            Some(wire @ (Wire::PreClose | Wire::PreReset | Wire::PreStall)) => steps.extend(self.break_off(wire)),
            Some(wire @ (Wire::Reset | Wire::Truncated | Wire::Stall)) => {
                steps.push(Step::Data(half, 0));
                steps.extend(self.break_off(wire));
            }
            Some(Wire::Bytes | Wire::Split) => steps.extend(parts(&data, if data.len() < 3000 { 1 } else { 97 })),
            _ if body.chunked => steps.extend(parts(&data, 4096)),
            _ => steps.push(Step::Data(data, 0)),
        }
        Reply { steps }
    }

    /// A streamed reply, with a wait after each event unless `pace` is zero.
    pub(super) fn stream(&self, events: &[Event], style: Style, pace: Duration) -> Reply {
        let wire = self.wire();
        let framing = if wire == Some(Wire::Http10) { Framing::UntilClose } else { Framing::Chunked };
        let mut steps = vec![self.head(self.stream_type(style), framing)];
        if wire == Some(Wire::SlowHead) {
            steps.push(Step::Pause(self.seconds(3)));
        }
        let framed = self.framed(events, style);
        match wire {
            Some(Wire::Merge) => steps.push(Step::Data(framed.concat().into(), events.len() as u32)),
            Some(Wire::Split) => framed.into_iter().for_each(|event| split(event, &mut steps)),
            Some(Wire::Bytes) => framed.into_iter().for_each(|event| one_by_one(event, &mut steps)),
            Some(wire @ (Wire::Reset | Wire::Stall | Wire::Truncated | Wire::CutEvent)) => {
                self.cut(framed, wire, &mut steps);
                return Reply { steps };
            }
            Some(wire @ (Wire::PreClose | Wire::PreReset | Wire::PreStall)) => {
                let preamble = events.iter().take_while(|event| event.part == Part::Preamble).count();
                steps.extend(framed.into_iter().take(preamble).map(|event| Step::Data(event, 1)));
                steps.extend(self.break_off(wire));
                return Reply { steps };
            }
            _ => {
                for event in framed {
                    steps.push(Step::Data(event, 1));
                    if !pace.is_zero() {
                        steps.push(Step::Pause(pace));
                    }
                }
            }
        }
        Reply { steps }
    }

    fn stream_type(&self, style: Style) -> &'static str {
        match (style, self.dialect) {
            (Style::Array, _) => "application/json; charset=UTF-8",
            (Style::Sse, _) if self.wire() == Some(Wire::WrongType) => "application/json; charset=UTF-8",
            (Style::Sse, Dialect::Gemini) => "text/event-stream",
            (Style::Sse, Dialect::Chat | Dialect::Responses | Dialect::Anthropic) => "text/event-stream; charset=utf-8",
        }
    }

    /// Half of the middle event, and then the break.
    fn cut(&self, framed: Vec<Bytes>, wire: Wire, steps: &mut Vec<Step>) {
        let middle = (framed.len() / 2).max(1).min(framed.len().saturating_sub(1));
        for (n, event) in framed.into_iter().enumerate().take(middle + 1) {
            if n < middle {
                steps.push(Step::Data(event, 1));
                continue;
            }
            let half = event.slice(..event.len() / 2);
            steps.push(if wire == Wire::Truncated { Step::Torn(half) } else { Step::Data(half, 0) });
        }
        steps.extend(self.break_off(wire));
    }

    /// Every event as the bytes of its own write; the last may be what only closes the stream.
    fn framed(&self, events: &[Event], style: Style) -> Vec<Bytes> {
        let mut texts: Vec<String> = match style {
            Style::Sse => events.iter().enumerate().map(|(n, event)| self.sse(n, events.len(), event)).collect(),
            Style::Array => events.iter().enumerate().map(|(n, event)| self.element(n, event)).collect(),
        };
        if style == Style::Array {
            texts.push(if events.is_empty() { "[\r\n]".into() } else { "\r\n]".into() });
        }
        if self.gzips() {
            return gzip_each(&texts);
        }
        texts.into_iter().map(Bytes::from).collect()
    }

    fn element(&self, n: usize, event: &Event) -> String {
        let text = json::indented(&self.hardened(event.data.clone()), 2);
        format!("{}{text}", if n == 0 { "[" } else { ",\r\n" })
    }

    fn hardened(&self, data: String) -> String {
        if self.wire() == Some(Wire::RawSeparators) {
            data
        } else {
            json::hardened(data, self.dialect == Dialect::Gemini)
        }
    }

    fn sse(&self, n: usize, count: usize, event: &Event) -> String {
        let wire = self.wire();
        let line = match (wire, self.dialect) {
            (Some(Wire::Crlf), _) => "\r\n",
            (Some(Wire::Cr), _) => "\r",
            (Some(Wire::Lf), _) => "\n",
            (_, Dialect::Gemini) => "\r\n",
            (_, Dialect::Chat | Dialect::Responses | Dialect::Anthropic) => "\n",
        };
        let mut data = self.hardened(event.data.clone());
        if wire == Some(Wire::BadJson) && n == (count / 2).max(1) {
            data.truncate(data.len().saturating_sub(2));
            data.push_str(",,");
        }
        let mut text = String::with_capacity(data.len() + 64);
        if wire == Some(Wire::Bom) && n == 0 {
            text.push('\u{feff}');
        }
        if wire == Some(Wire::Comments) {
            text.push_str(&format!(": keep-alive{line}{line}"));
        }
        if let Some(name) = event.name.filter(|_| wire != Some(Wire::NoEvent)) {
            text.push_str(&format!("event: {name}{line}"));
        }
        let field = if wire == Some(Wire::NoSpace) { "data:" } else { "data: " };
        if wire == Some(Wire::MultiLine) && data.starts_with('{') {
            data = json::indented(&data, 1).replace('\n', &format!("{line}{field}"));
        }
        text.push_str(&format!("{field}{data}{line}{line}"));
        if wire == Some(Wire::Comments) {
            text.push_str(&format!(":{line}{line}"));
        }
        text
    }
}

/// Writes of so many bytes each.
fn parts(data: &Bytes, size: usize) -> Vec<Step> {
    let starts = (0..data.len()).step_by(size);
    starts.map(|at| Step::Data(data.slice(at..data.len().min(at + size)), 0)).collect()
}

fn one_by_one(event: Bytes, steps: &mut Vec<Step>) {
    let last = event.len().saturating_sub(1);
    steps.extend((0..event.len()).map(|at| Step::Data(event.slice(at..=at), u32::from(at == last))));
}

/// Writes cut inside `data:`, between the two line ends, and before each byte that continues a character.
fn split(event: Bytes, steps: &mut Vec<Step>) {
    let mut cuts: Vec<usize> = Vec::new();
    for (at, window) in event.windows(5).enumerate() {
        if window == b"data:" {
            cuts.extend([at + 2, at + 5]);
        }
    }
    let continues = event.iter().enumerate().filter(|(_, byte)| (0x80..0xc0).contains(*byte)).map(|(at, _)| at);
    cuts.extend(continues.take(60));
    cuts.push(event.len().saturating_sub(1));
    cuts.retain(|at| (1..event.len()).contains(at));
    cuts.sort_unstable();
    cuts.dedup();
    let mut from = 0;
    for at in cuts {
        steps.push(Step::Data(event.slice(from..at), 0));
        // Long enough for the network to send each piece by itself.
        steps.push(Step::Pause(Duration::from_micros(500)));
        from = at;
    }
    steps.push(Step::Data(event.slice(from..), 1));
}

fn gzip_once(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail.
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}

/// One gzip stream, flushed after each text so that each can be read as it comes.
fn gzip_each(texts: &[String]) -> Vec<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut pieces = Vec::with_capacity(texts.len() + 1);
    for text in texts {
        let _ = encoder.write_all(text.as_bytes()).and_then(|()| encoder.flush());
        pieces.push(Bytes::from(std::mem::take(encoder.get_mut())));
    }
    pieces.push(encoder.finish().unwrap_or_default().into());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    fn envelope(dialect: Dialect, fault: &str) -> Envelope {
        Envelope { dialect, headers: Vec::new(), accepts_gzip: false, fault: Fault::named(fault) }
    }

    fn events() -> Vec<Event> {
        let text = |part, data: &str| Event { name: Some("delta"), data: data.into(), part };
        vec![
            text(Part::Preamble, r#"{"start":true}"#),
            text(Part::Content, "{\"text\":\"é漢\u{2028}\"}"),
            text(Part::Content, r#"{"text":"two"}"#),
            Event::new(Part::End, "[DONE]".into()),
        ]
    }

    fn sent(reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        for step in &reply.steps {
            match step {
                Step::Data(data, _) | Step::Torn(data) => out.extend_from_slice(data),
                Step::Burst(list) => list.iter().for_each(|data| out.extend_from_slice(data)),
                Step::Head(_) | Step::Pause(_) | Step::Until(_) | Step::Reset | Step::Close => {}
            }
        }
        out
    }

    fn stream(dialect: Dialect, fault: &str) -> Reply {
        envelope(dialect, fault).stream(&events(), Style::Sse, Duration::ZERO)
    }

    fn text(dialect: Dialect, fault: &str) -> String {
        String::from_utf8(sent(&stream(dialect, fault))).unwrap()
    }

    #[test]
    fn events_are_framed_as_the_provider_frames_them() {
        assert!(text(Dialect::Anthropic, "").starts_with("event: delta\ndata: {\"start\":true}\n\n"));
        assert!(text(Dialect::Gemini, "").contains("data: {\"start\":true}\r\n\r\n"));
        assert!(text(Dialect::Chat, "").contains("\\u2028") && text(Dialect::Chat, "rawsep").contains('\u{2028}'));
        let array = envelope(Dialect::Gemini, "").stream(&events()[..3], Style::Array, Duration::ZERO);
        let list: serde_json::Value = serde_json::from_slice(&sent(&array)).unwrap();
        assert_eq!(list.as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn the_same_bytes_arrive_however_they_are_cut() {
        let whole = text(Dialect::Chat, "");
        for fault in ["split", "bytes", "merge"] {
            assert_eq!(text(Dialect::Chat, fault), whole, "{fault}");
        }
        let cut_inside_a_character = stream(Dialect::Chat, "split").steps.iter().any(|step| match step {
            Step::Data(data, _) => std::str::from_utf8(data).is_err(),
            _ => false,
        });
        assert!(cut_inside_a_character);
    }

    #[test]
    fn line_faults_change_the_lines_alone() {
        assert!(text(Dialect::Chat, "cr").contains("\r\r") && !text(Dialect::Chat, "cr").contains('\n'));
        assert!(text(Dialect::Chat, "nospace").contains("data:{"));
        assert!(text(Dialect::Chat, "bom").starts_with('\u{feff}'));
        assert!(!text(Dialect::Anthropic, "noevent").contains("event:"));
        assert!(text(Dialect::Anthropic, "comments").contains(": keep-alive\n\n"));
        assert!(text(Dialect::Anthropic, "multiline").contains("\ndata:  \"start\": true\n"));
        assert!(text(Dialect::Anthropic, "badjson").contains(",,\n"));
    }

    #[test]
    fn breaks_end_as_their_name_says() {
        let end = |fault: &str| stream(Dialect::Chat, fault).steps.last().cloned();
        assert_eq!(end("reset"), Some(Step::Reset));
        assert_eq!(end("truncated"), Some(Step::Close));
        assert_eq!(end("prereset"), Some(Step::Reset));
        assert!(matches!(end("cutevent"), Some(Step::Data(_, 0))));
        let pre = stream(Dialect::Chat, "preclose");
        assert_eq!(String::from_utf8(sent(&pre)).unwrap(), "event: delta\ndata: {\"start\":true}\n\n");
        assert!(stream(Dialect::Chat, "stall-2").steps.contains(&Step::Pause(Duration::from_secs(2))));
    }

    #[test]
    fn gzip_is_one_stream_with_every_event_readable_as_it_comes() {
        let plain = text(Dialect::Chat, "");
        assert_eq!(text(Dialect::Chat, "gzip"), plain, "not accepted, so not compressed");
        let packed = sent(&stream(Dialect::Chat, "gzipforce"));
        let mut back = String::new();
        GzDecoder::new(packed.as_slice()).read_to_string(&mut back).unwrap();
        assert_eq!(back, plain);
    }

    #[test]
    fn a_whole_body_breaks_after_its_head_or_half_of_it() {
        let body = || Body {
            content_type: "application/json",
            data: b"{\"a\":\"0123456789012345678901234\"}".to_vec(),
            chunked: false,
        };
        let half = envelope(Dialect::Chat, "reset").whole(body());
        assert_eq!(sent(&half).len(), body().data.len() / 2);
        assert!(sent(&envelope(Dialect::Chat, "preclose").whole(body())).is_empty());
        assert!(
            serde_json::from_slice::<serde_json::Value>(&sent(&envelope(Dialect::Chat, "badjson").whole(body())))
                .is_err()
        );
        assert_eq!(sent(&envelope(Dialect::Chat, "bytes").whole(body())), body().data);
    }
}
