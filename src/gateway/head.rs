//! Heads made from a map: Pingora's own setters look each name up again for the spelling that it is written in.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, uri::PathAndQuery};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};

/// The head of a request to this path.
pub(super) fn request(method: Method, path: &str, version: Version, headers: HeaderMap) -> Result<RequestHeader> {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    parts.version = version;
    parts.headers = headers;
    match PathAndQuery::try_from(path) {
        Ok(path) => {
            parts.uri = Uri::from(path);
            Ok(RequestHeader::from(parts))
        }
        Err(_) => {
            let mut head = RequestHeader::from(parts);
            head.set_raw_path(path.as_bytes())?;
            Ok(head)
        }
    }
}

/// The head of an answer.
pub(super) fn answer(status: StatusCode, headers: HeaderMap) -> ResponseHeader {
    let mut parts = Response::new(()).into_parts().0;
    parts.status = status;
    parts.headers = headers;
    ResponseHeader::from(parts)
}

/// A text of our own as a header's value. Ours hold nothing that a header may not; what does is left empty.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
