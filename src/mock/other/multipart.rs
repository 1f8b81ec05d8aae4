//! Reads `multipart/form-data` bodies, strictly: RFC 7578, with every part named.

use crate::mock::refusal::{Checked, Refusal, ensure};
use memchr::memmem;

const MAX_PARTS: usize = 100;

/// One part of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mock) struct FormPart<'a> {
    pub(in crate::mock) name: &'a str,
    pub(in crate::mock) filename: Option<&'a str>,
    pub(in crate::mock) data: &'a [u8],
}

fn broken(what: &str) -> Refusal {
    Refusal::bad(format!("Could not parse multipart form: {what}")).kind("invalid_request_error")
}

/// The parts of a body with this content type.
pub(in crate::mock) fn parts<'a>(content_type: &str, body: &'a [u8]) -> Checked<Vec<FormPart<'a>>> {
    ensure!(content_type.starts_with("multipart/form-data"), broken("the content type is not multipart/form-data"));
    let boundary = content_type.split(';').find_map(|field| field.trim().strip_prefix("boundary="));
    let boundary =
        boundary.map(|b| b.trim_matches('"')).filter(|b| !b.is_empty()).ok_or_else(|| broken("no boundary"))?;
    let opening = format!("--{boundary}");
    let delimiter = format!("\r\n--{boundary}");
    let mut rest =
        body.strip_prefix(opening.as_bytes()).ok_or_else(|| broken("the body does not start with the boundary"))?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        rest = rest.strip_prefix(b"\r\n").ok_or_else(|| broken("a boundary is not followed by a line end"))?;
        let end = memmem::find(rest, delimiter.as_bytes()).ok_or_else(|| broken("the closing boundary is missing"))?;
        ensure!(parts.len() < MAX_PARTS, broken("too many parts"));
        parts.push(part(rest.get(..end).unwrap_or_default())?);
        rest = rest.get(end + delimiter.len()..).unwrap_or_default();
    }
}

fn part(text: &[u8]) -> Checked<FormPart<'_>> {
    let end = memmem::find(text, b"\r\n\r\n").ok_or_else(|| broken("a part has no head"))?;
    let head =
        std::str::from_utf8(text.get(..end).unwrap_or_default()).map_err(|_| broken("a part's head is not UTF-8"))?;
    let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"));
    let field = |wanted: &str| {
        let fields = disposition?.split(';').filter_map(|field| field.trim().split_once('='));
        fields.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.trim_matches('"'))
    };
    let name = field("name").ok_or_else(|| broken("a part has no name"))?;
    Ok(FormPart { name, filename: field("filename"), data: text.get(end + 4..).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_their_bytes() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\ncontent-disposition: form-data; \
                     name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\0\r\n--x\xff\r\n--b--\r\n";
        let parts = parts("multipart/form-data; boundary=b", body).unwrap();
        assert_eq!(parts[0], FormPart { name: "model", filename: None, data: b"m" });
        assert_eq!(parts[1], FormPart { name: "file", filename: Some("a.wav"), data: b"\0\r\n--x\xff" });
    }

    #[test]
    fn broken_forms_are_refused() {
        for body in ["", "--b", "--b\r\n", "--b\r\nx\r\n--b--", "--b\r\nA: b\r\n\r\nx\r\n--b--", "--b\r\n\r\n\r\nx"] {
            assert!(parts("multipart/form-data; boundary=b", body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(parts("application/json", b"{}").is_err());
        assert!(parts("multipart/form-data", b"--b--").is_err());
    }
}
