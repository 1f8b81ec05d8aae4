//! Scans a `multipart/form-data` body (RFC 7578): audio and image calls.
//!
//! Strict, so that the provider cannot read another model than we do: CRLF line ends, nothing before the first boundary,
//! a closing boundary, each field that matters at most once. Files are skipped, never copied.

use super::{Envelope, Malformed};
use memchr::memmem::{self, Finder};
use std::ops::Range;

/// The most parts of a form.
const MAX_PARTS: usize = 1_000;
/// The longest header section of a part.
const MAX_PART_HEADERS: usize = 8 * 1024;
/// The longest value of a field that matters.
const MAX_VALUE: usize = super::document::MAX_MODEL;

/// Whether the header names a form.
pub(super) fn is_form(content_type: &str) -> bool {
    content_type.get(..19).is_some_and(|start| start.eq_ignore_ascii_case("multipart/form-data"))
}

/// Scans a form.
pub(super) fn scan(content_type: &str, body: &[u8]) -> Result<Envelope, Malformed> {
    let boundary = boundary(content_type)?;
    let mut parts = Parts::new(boundary, body)?;
    let mut envelope = Envelope::default();
    let mut streams = None;
    while let Some(part) = parts.next()? {
        match part.name.as_str() {
            "model" => {
                let model = value(body, &part)?;
                if envelope.model.replace(model.to_owned()).is_some() {
                    return Err(twice("model"));
                }
                envelope.model_spans.push(part.content);
            }
            "stream" => {
                let stream = value(body, &part)?.eq_ignore_ascii_case("true");
                if streams.replace(stream).is_some() {
                    return Err(twice("stream"));
                }
            }
            _ => {}
        }
    }
    envelope.stream = streams.unwrap_or(false);
    Ok(envelope)
}

fn twice(name: &str) -> Malformed {
    Malformed::at(name, format!("the form has the field `{name}` twice"))
}

/// A field's value, which has to be short printable text.
fn value<'a>(body: &'a [u8], part: &Part) -> Result<&'a str, Malformed> {
    let name = &part.name;
    let raw = body.get(part.content.clone()).unwrap_or_default();
    let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= MAX_VALUE);
    match text.map(|text| (text, text.trim().is_empty())) {
        None => Err(Malformed::at(name, format!("the form field `{name}` must be short text"))),
        Some((_, true)) => Err(Malformed::at(name, format!("the form field `{name}` is empty"))),
        Some((text, false)) if text.contains(|c: char| c.is_control() || c == '"') => {
            Err(Malformed::at(name, format!("the form field `{name}` has a character that cannot be part of it")))
        }
        Some((text, false)) => Ok(text),
    }
}

/// The boundary that the header names.
fn boundary(content_type: &str) -> Result<String, Malformed> {
    let missing = || Malformed::new("the content-type of the form names no valid `boundary`");
    let parameters = content_type.split_once(';').map(|(_, rest)| rest).ok_or_else(missing)?;
    let boundary = parameter(parameters, "boundary").map_err(|()| missing())?.ok_or_else(missing)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    let valid = (1..=70).contains(&boundary.len()) && boundary.bytes().all(allowed) && !boundary.ends_with(' ');
    if valid { Ok(boundary) } else { Err(missing()) }
}

/// A part: its name and where its content stands.
struct Part {
    name: String,
    content: Range<usize>,
}

/// Walks over the parts.
struct Parts<'a> {
    body: &'a [u8],
    /// CRLF, two dashes and the boundary: what ends a part.
    delimiter: Finder<'static>,
    /// The byte behind the last delimiter.
    at: usize,
    count: usize,
}

impl<'a> Parts<'a> {
    fn new(boundary: String, body: &'a [u8]) -> Result<Self, Malformed> {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first one has no line before it.
        let first = delimiter.get(2..).unwrap_or_default();
        if !body.starts_with(first) {
            return Err(Malformed::new("the form does not begin with its boundary"));
        }
        Ok(Parts { body, at: first.len(), delimiter: Finder::new(&delimiter).into_owned(), count: 0 })
    }

    fn next(&mut self) -> Result<Option<Part>, Malformed> {
        let rest = self.rest(self.at);
        if rest.starts_with(b"--") {
            return Ok(None);
        }
        if !rest.starts_with(b"\r\n") {
            return Err(self.broken("a boundary is not followed by a line end"));
        }
        self.count += 1;
        if self.count > MAX_PARTS {
            return Err(Malformed::new(format!("the form has more than {MAX_PARTS} parts")));
        }
        let window = rest.get(..rest.len().min(MAX_PART_HEADERS)).unwrap_or(rest);
        let Some(headers_end) = memmem::find(window, b"\r\n\r\n") else {
            return Err(self.broken("a part has no end of its headers, or too long ones"));
        };
        let headers = rest.get(2..headers_end).unwrap_or_default();
        let name = self.part_name(headers)?;
        let start = self.at + headers_end + 4;
        let Some(length) = self.delimiter.find(self.rest(start)) else {
            return Err(self.broken("a part is not ended by the boundary"));
        };
        self.at = start + length + self.delimiter.needle().len();
        Ok(Some(Part { name, content: start..start + length }))
    }

    fn rest(&self, from: usize) -> &'a [u8] {
        self.body.get(from..).unwrap_or_default()
    }

    fn broken(&self, what: &str) -> Malformed {
        Malformed::new(format!("the form is broken near byte {}: {what}", self.at))
    }

    fn part_name(&self, headers: &[u8]) -> Result<String, Malformed> {
        let text = std::str::from_utf8(headers).map_err(|_| self.broken("a part's headers are not UTF-8"))?;
        let mut disposition = None;
        for line in text.split("\r\n") {
            if line.contains(['\r', '\n', '\0']) || line.starts_with([' ', '\t']) {
                return Err(self.broken("a part's header is folded or has a stray line end"));
            }
            let Some((header, value)) = line.split_once(':') else {
                return Err(self.broken("a part's header has no colon"));
            };
            if header.trim().eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
                return Err(self.broken("a part has two content-dispositions"));
            }
        }
        let form_data = disposition
            .and_then(|value| value.split_once(';'))
            .filter(|(kind, _)| kind.trim().eq_ignore_ascii_case("form-data"));
        let name = form_data.and_then(|(_, parameters)| parameter(parameters, "name").ok().flatten());
        name.ok_or_else(|| self.broken("a part has no name"))
    }
}

/// The value of a header parameter; an error if it stands there twice or the list cannot be read.
fn parameter(list: &str, wanted: &str) -> Result<Option<String>, ()> {
    let mut found = None;
    let mut rest = list.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(())?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after.get(..end).unwrap_or_default().trim().to_owned(), after.get(end..).unwrap_or_default())
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(());
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(';') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return Err(()),
        };
    }
    Ok(found)
}

/// The value behind an opening quote, and what follows the closing one.
fn quoted_value(text: &str) -> Result<(String, &str), ()> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => value.push(chars.next().ok_or(())?.1),
            c => value.push(c),
        }
    }
    Err(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::splice;
    use bytes::Bytes;

    const TYPE: &str = "multipart/form-data; boundary=\"b1\"";

    fn form(parts: &[(&str, &str)]) -> String {
        let mut out = String::new();
        for (disposition, content) in parts {
            out += &format!("--b1\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n");
        }
        out + "--b1--\r\n"
    }

    #[test]
    fn the_model_is_found_among_files_and_spliced() {
        let body = form(&[
            ("name=\"file\"; filename=\"a;name=model.wav\"", "\r\n--b\r\nname=\"model\"\r\n\r\nno"),
            ("name=\"model\"", "whisper-1"),
            ("name=stream", "True"),
        ]);
        let envelope = scan(TYPE, body.as_bytes()).unwrap();
        assert_eq!(envelope.model.as_deref(), Some("whisper-1"));
        assert!(envelope.stream);
        let out = splice(&Bytes::from(body.clone()), &envelope, "other");
        assert_eq!(out, body.replace("whisper-1", "other"));
    }

    #[test]
    fn a_form_without_a_model_names_none() {
        assert_eq!(
            scan(TYPE, form(&[("name=\"prompt\"", "x"), ("name=\"empty\"", "")]).as_bytes()).unwrap(),
            Envelope::default()
        );
        assert_eq!(scan(TYPE, b"--b1--\r\n").unwrap(), Envelope::default());
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let model = "name=\"model\"";
        for (body, why) in [
            (form(&[(model, "a"), (model, "b")]), "twice"),
            (form(&[("name=\"stream\"", "true"), ("name=\"stream\"", "false")]), "twice"),
            (form(&[(model, "")]), "empty"),
            (form(&[(model, "a\r\nb")]), "character"),
            (form(&[(model, "\"a\"")]), "character"),
            (form(&[(model, &"a".repeat(2_000))]), "short text"),
            (form(&[("name=\"a\"; name=\"model\"", "x")]), "no name"),
            (form(&[("filename=\"model\"", "x")]), "no name"),
            (form(&[(model, "a")]).replace("--b1--", ""), "not ended"),
            (form(&[(model, "a")]).replace("\r\n", "\n"), "line end"),
            (format!("preamble\r\n{}", form(&[(model, "a")])), "begin"),
            (form(&[(model, "a")]).replace("form-data; ", "form-data;\r\n "), "folded"),
            (form(&[(&format!("{model}; x=\"{}\"", "h".repeat(9_000)), "a")]), "too long"),
        ] {
            let fault = scan(TYPE, body.as_bytes()).unwrap_err();
            assert!(fault.message.contains(why), "{why}: {fault}");
        }
    }

    #[test]
    fn a_boundary_is_needed_and_checked() {
        for content_type in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a\"b",
            "multipart/form-data; boundary=a; boundary=b",
        ] {
            assert!(scan(content_type, b"--a--").unwrap_err().message.contains("boundary"), "{content_type}");
        }
        assert!(scan("multipart/form-data;charset=utf-8; boundary=a", b"--a--").is_ok());
        assert!(is_form("Multipart/Form-Data; boundary=x") && !is_form("application/json") && !is_form("é"));
    }

    #[test]
    fn the_number_of_parts_is_bounded() {
        let many = form(&vec![("name=x", "y"); MAX_PARTS + 1]);
        assert!(scan(TYPE, many.as_bytes()).unwrap_err().message.contains("parts"));
    }
}
