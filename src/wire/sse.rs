//! Server-sent events: where one ends, and what it says.
//!
//! Follows the WHATWG event-stream rules for line ends (LF, CRLF, CR, mixed) and fields; is laxer where real servers
//! are: spaces before a field name, and a bare JSON document between the events.

use memchr::{memchr, memchr2};

/// Finds where events end in a stream that comes in pieces.
///
/// Invariant: the ends found do not depend on how the stream was cut, but for the one byte between a CR and its LF: a
/// blank line's CR at the end of a piece ends the event at once, unless the stream has shown that its lines end in CRLF.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boundaries {
    at: At,
    crlf: bool,
}

/// What the last byte seen was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The end of a line, or nothing yet.
    #[default]
    LineStart,
    /// A byte inside a line.
    Line,
    /// A CR that ended a line with text.
    LineCr,
    /// A CR that ended a blank line; the event's end is still to be told.
    BlankCr,
    /// A CR that ended a blank line, and the event's end is told.
    ToldCr,
}

impl Boundaries {
    /// Whether the bytes so far ended with a whole line, and no CR is waiting for its LF. An event that comes whole, and
    /// ends with two LFs, leaves it like that.
    pub fn is_between(&self) -> bool {
        self.at == At::LineStart
    }

    /// How many bytes lie before the first event end in `piece`, the blank line included; `None` if no event ends here.
    /// Go on with the bytes behind it; a zero means that the event ended with the last byte of an earlier piece.
    pub fn next(&mut self, piece: &[u8]) -> Option<usize> {
        let first = *piece.first()?;
        let mut pos = 0;
        match self.at {
            At::LineStart | At::Line => {}
            At::LineCr | At::BlankCr | At::ToldCr => {
                let before = std::mem::replace(&mut self.at, At::LineStart);
                if first == b'\n' {
                    self.crlf = true;
                    pos = 1;
                }
                match before {
                    At::BlankCr => return Some(pos),
                    At::ToldCr if pos == 1 => return Some(1),
                    At::ToldCr | At::LineCr | At::LineStart | At::Line => {}
                }
            }
        }
        self.scan(piece, pos)
    }

    fn scan(&mut self, piece: &[u8], mut pos: usize) -> Option<usize> {
        loop {
            let rest = piece.get(pos..)?;
            // A blank line stands right behind the line before it.
            let is_blank = matches!(rest.first(), Some(b'\n' | b'\r'));
            let Some(found) = is_blank.then_some(0).or_else(|| memchr2(b'\n', b'\r', rest)) else {
                if !rest.is_empty() {
                    self.at = At::Line;
                }
                return None;
            };
            let blank = found == 0 && self.at == At::LineStart;
            let is_cr = rest.get(found) == Some(&b'\r');
            pos += found + 1;
            self.at = At::LineStart;
            if is_cr {
                match piece.get(pos) {
                    Some(b'\n') => {
                        self.crlf = true;
                        pos += 1;
                    }
                    Some(_) => {}
                    None => return self.cr_at_end(blank, pos),
                }
            }
            if blank {
                return Some(pos);
            }
        }
    }

    fn cr_at_end(&mut self, blank: bool, end: usize) -> Option<usize> {
        self.at = match (blank, self.crlf) {
            (false, _) => At::LineCr,
            (true, true) => At::BlankCr,
            (true, false) => At::ToldCr,
        };
        (self.at == At::ToldCr).then_some(end)
    }
}

/// What one event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of its `event:` line; empty if it has none.
    pub name: &'a [u8],
    /// Its data lines, joined with LF.
    pub data: &'a [u8],
}

/// Reads one whole event; `None` if it has no data (comments, blank lines, a lone `event:` or `id:` line).
///
/// Borrows from the event, or from `scratch` where the data takes several lines. A block without any field that looks
/// like a JSON document is taken as data: Google ends a failed stream that way.
pub fn read<'a>(event: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<Event<'a>> {
    if let Some(data) = lone_data(event) {
        return Some(Event { name: b"", data });
    }
    let mut name: &[u8] = b"";
    let mut data: Option<&[u8]> = None;
    let mut joined = false;
    for line in lines(event) {
        match field(line) {
            Some((b"data", value)) => match data {
                None => data = Some(value),
                Some(first) => {
                    if !joined {
                        scratch.clear();
                        scratch.extend_from_slice(first);
                        joined = true;
                    }
                    scratch.push(b'\n');
                    scratch.extend_from_slice(value);
                }
            },
            Some((b"event", value)) => name = value.trim_ascii_end(),
            Some(_) | None => {}
        }
    }
    match (data, joined) {
        (Some(data), false) => Some(Event { name, data }),
        (Some(_), true) => Some(Event { name, data: scratch }),
        (None, _) => bare_json(event).map(|data| Event { name, data }),
    }
}

/// The data of an event that is one line of it, as most of most providers are.
pub(crate) fn lone_data(event: &[u8]) -> Option<&[u8]> {
    let data = event.strip_prefix(b"data: ")?.strip_suffix(b"\n\n")?;
    memchr2(b'\n', b'\r', data).is_none().then_some(data)
}

fn bare_json(event: &[u8]) -> Option<&[u8]> {
    let text = without_bom(event).trim_ascii();
    matches!(text.first(), Some(b'{' | b'[')).then_some(text)
}

fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// A line's field name and value; `None` for blank lines and comments.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_start();
    let colon = match memchr(b':', line) {
        Some(0) => return None,
        Some(at) => at,
        None if line.is_empty() => return None,
        None => return Some((line, b"")),
    };
    let value = line.get(colon + 1..)?;
    Some((line.get(..colon)?, value.strip_prefix(b" ").unwrap_or(value)))
}

fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = without_bom(event);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = rest.get(..end)?;
        rest = rest.get(end..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
        Some(line)
    })
}

/// May stand before everything.
const BOM: &[u8] = b"\xEF\xBB\xBF";
/// How the lines of an event stream begin.
const FIELDS: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];

/// Whether a body begins like an event stream. Some servers label one as JSON.
pub fn looks_like_events(body: &[u8]) -> bool {
    let start = without_bom(body).trim_ascii_start();
    FIELDS.iter().any(|field| start.starts_with(field))
}

/// Whether so little has come of a body that it may yet begin like one: nothing but space, or a part of a field's name.
pub fn may_look_like_events(body: &[u8]) -> bool {
    let start = without_bom(body).trim_ascii_start();
    [BOM].iter().chain(&FIELDS).any(|mark| mark.len() > start.len() && mark.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The events of a stream that comes in the given pieces, and the bytes behind the last one.
    fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut boundaries, mut events, mut open) = (Boundaries::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while let Some(end) = boundaries.next(rest) {
                open.extend_from_slice(&rest[..end]);
                events.push(std::mem::take(&mut open));
                rest = &rest[end..];
            }
            open.extend_from_slice(rest);
        }
        (events, open)
    }

    fn said(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (events, _) = split(pieces);
        events.iter().filter_map(|event| read(event, &mut Vec::new()).map(|e| (text(e.name), text(e.data)))).collect()
    }

    fn pair(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn every_line_end_is_understood_also_mixed() {
        for nl in ["\n", "\r\n", "\r"] {
            let stream = format!("event: a{nl}data: 1{nl}{nl}data: 2{nl}{nl}");
            assert_eq!(said(&[stream.as_bytes()]), [pair("a", "1"), pair("", "2")], "{nl:?}");
        }
        assert_eq!(said(&[b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\rdata: 4\n\n"]).len(), 4);
    }

    #[test]
    fn data_is_read_with_and_without_a_space_over_several_lines_and_after_leading_spaces() {
        assert_eq!(said(&[b"data:{\"a\":1}\n\n"]), [pair("", "{\"a\":1}")]);
        assert_eq!(said(&[b"data: {\ndata:  \"a\": 1\ndata: }\n\n"]), [pair("", "{\n \"a\": 1\n}")]);
        assert_eq!(said(&[b" data: x\n\n"]), [pair("", "x")]);
        assert_eq!(said(&[b"data\n\n"]), [pair("", "")]);
    }

    #[test]
    fn comments_blank_lines_and_a_byte_order_mark_say_nothing() {
        assert_eq!(
            said(&["\u{feff}data: 1\n\n: ping\n\n\n\nevent: x\n\nid: 3\nretry: 5\n\n".as_bytes()]),
            [pair("", "1")]
        );
    }

    #[test]
    fn a_bare_json_document_between_events_is_data() {
        assert_eq!(said(&[b"{\n  \"error\": {}\n}\n\n"]), [pair("", "{\n  \"error\": {}\n}")]);
    }

    #[test]
    fn a_known_crlf_is_never_torn_apart() {
        let (events, open) = split(&[b"data: 1\r\n\r", b"\ndata: 2\r\n\r\n"]);
        assert_eq!(events, [b"data: 1\r\n\r\n".to_vec(), b"data: 2\r\n\r\n".to_vec()]);
        assert!(open.is_empty());
    }

    #[test]
    fn a_stream_of_bare_crs_does_not_lag_behind() {
        let mut boundaries = Boundaries::default();
        assert_eq!(boundaries.next(b"data: 1\r\r"), Some(9));
    }

    #[test]
    fn an_event_stream_is_told_from_json() {
        for stream in ["data: 1", "event:x", ": c", "\u{feff}\n\ndata:1", "id:1", "retry: 1"] {
            assert!(looks_like_events(stream.as_bytes()), "{stream}");
        }
        for other in ["{\"data\":1}", "[1]", "<html>", "", "database"] {
            assert!(!looks_like_events(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(text in "(data:? ?[a-z]{0,3}|event: x|: c|\n|\r\n|\r|\u{feff}| ){0,40}", cuts in prop::collection::vec(0usize..200, 0..12)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c <= bytes.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(said(&pieces), said(&[bytes]));
            let (events, open) = split(&pieces);
            prop_assert_eq!([events.concat(), open].concat(), bytes);
        }
    }
}
