//! Hands out the events of a streamed reply one by one, whatever way its bytes are cut.
//!
//! `sse` and `elements` tell where events end; here what is cut is put together. Bounded: an event beyond the limit is an
//! error, not memory.

use super::{
    elements::{self, Elements},
    sse::{self, Boundaries},
};

/// The most bytes of one event.
pub(crate) const MAX_EVENT_BYTES: usize = 32 << 20;

/// The stream holds an event larger than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventTooLarge;

/// Reads server-sent events.
#[derive(Debug, Default)]
pub(crate) struct SseReader {
    boundaries: Boundaries,
    /// The event that is not yet whole.
    open: Vec<u8>,
    scratch: Vec<u8>,
}

impl SseReader {
    /// Whether the bytes so far ended with a whole event, and with nothing that waits for more.
    pub(crate) fn is_between(&self) -> bool {
        self.open.is_empty() && self.boundaries.is_between()
    }

    /// Takes the next bytes; `each` gets the name and the data of every whole event.
    pub(crate) fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EventTooLarge> {
        if self.is_between()
            && let Some(data) = sse::lone_data(bytes)
        {
            each(b"", data);
            return Ok(());
        }
        let mut rest = bytes;
        while let Some(end) = self.boundaries.next(rest) {
            let (event, tail) = rest.split_at(end.min(rest.len()));
            rest = tail;
            if self.open.is_empty() {
                give(event, &mut self.scratch, each);
            } else {
                self.open.extend_from_slice(event);
                give(&self.open, &mut self.scratch, each);
                self.open.clear();
            }
        }
        self.open.extend_from_slice(rest);
        if self.open.len() > MAX_EVENT_BYTES { Err(EventTooLarge) } else { Ok(()) }
    }

    /// The stream ended: what is left may be a last event without its blank line.
    pub(crate) fn finish(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) {
        let open = std::mem::take(&mut self.open);
        give(&open, &mut self.scratch, each);
    }
}

fn give(event: &[u8], scratch: &mut Vec<u8>, each: &mut dyn FnMut(&[u8], &[u8])) {
    if let Some(event) = sse::read(event, scratch) {
        each(event.name, event.data);
    }
}

/// Reads the elements of one JSON array, as Gemini streams without `alt=sse`.
#[derive(Debug, Default)]
pub(crate) struct ArrayReader {
    elements: Elements,
    open: Vec<u8>,
    /// Whether the array's end has come.
    is_over: bool,
}

impl ArrayReader {
    /// Takes the next bytes; `each` gets every whole element. What comes behind the end of the array is not read: it has
    /// no ends of its own, so that it would depend on how it was cut.
    pub(crate) fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EventTooLarge> {
        let mut rest = bytes;
        while let Some(end) = self.elements.next(rest).filter(|_| !self.is_over) {
            let (element, tail) = rest.split_at(end.min(rest.len()));
            rest = tail;
            self.is_over = self.elements.is_closed();
            self.open.extend_from_slice(element);
            if let Some(element) = elements::read(&self.open) {
                each(b"", element);
            }
            self.open.clear();
        }
        if !self.is_over {
            self.open.extend_from_slice(rest);
        }
        if self.open.len() > MAX_EVENT_BYTES { Err(EventTooLarge) } else { Ok(()) }
    }

    /// Whether the stream stopped inside an element.
    pub(crate) fn is_open(&self) -> bool {
        elements::read(&self.open).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8], chunk: usize) -> Vec<(String, String)> {
        let mut reader = SseReader::default();
        let mut seen = Vec::new();
        let mut each = |n: &[u8], d: &[u8]| {
            seen.push((String::from_utf8_lossy(n).into_owned(), String::from_utf8_lossy(d).into_owned()));
        };
        for part in stream.chunks(chunk) {
            reader.feed(part, &mut each).unwrap();
        }
        reader.finish(&mut each);
        seen
    }

    #[test]
    fn any_split_and_any_line_end_give_the_same_events() {
        let lf = "\u{feff}: hello\nevent: a\ndata: {\"x\":\"é\"}\n\n data:y\ndata: z\n\nid: 4\n\ndata: [DONE]";
        let want = [("a", "{\"x\":\"é\"}"), ("", "y\nz"), ("", "[DONE]")].map(|(n, d)| (n.to_owned(), d.to_owned()));
        for stream in [lf.to_owned(), lf.replace('\n', "\r\n"), lf.replace('\n', "\r")] {
            for chunk in [1, 2, 3, 5, 1000] {
                assert_eq!(events(stream.as_bytes(), chunk), want, "{stream:?} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn array_elements_are_found_in_any_split() {
        let stream = br#"[{"a":"]}\"\\"},
{"b":[1,{"c":2}]}]"#;
        for chunk in [1, 2, 7, 100] {
            let mut reader = ArrayReader::default();
            let mut seen = Vec::new();
            for part in stream.chunks(chunk) {
                reader.feed(part, &mut |_, d| seen.push(String::from_utf8_lossy(d).into_owned())).unwrap();
            }
            assert_eq!(seen, [r#"{"a":"]}\"\\"}"#, r#"{"b":[1,{"c":2}]}"#]);
            assert!(!reader.is_open());
        }
    }

    #[test]
    fn what_comes_behind_an_array_is_not_read_however_it_is_cut() {
        let stream = br#"[{"a":1}],"b":"c",{"d":2}"#;
        for chunk in [1, 3, 9, 10, 11, 100] {
            let mut reader = ArrayReader::default();
            let mut seen = Vec::new();
            for part in stream.chunks(chunk) {
                reader.feed(part, &mut |_, d| seen.push(String::from_utf8_lossy(d).into_owned())).unwrap();
            }
            assert_eq!(seen, [r#"{"a":1}"#], "in chunks of {chunk}");
            assert!(!reader.is_open());
        }
    }
}
