//! The status page: three files that are part of the program. They hold no data; what they show they ask the API for, with
//! the key that the operator gives them.

use super::{answer::Answer, route::Ask};

/// `GET /`
pub(super) fn index(_ask: &Ask) -> Answer {
    Answer::text("text/html; charset=utf-8", include_str!("page/index.html").to_owned())
}

/// `GET /page.js`
pub(super) fn script(_ask: &Ask) -> Answer {
    Answer::text("text/javascript; charset=utf-8", include_str!("page/page.js").to_owned())
}

/// `GET /page.css`
pub(super) fn style(_ask: &Ask) -> Answer {
    Answer::text("text/css; charset=utf-8", include_str!("page/page.css").to_owned())
}

/// `GET /openapi.json`
pub(super) fn openapi(_ask: &Ask) -> Answer {
    Answer::text("application/json", include_str!("openapi.json").to_owned())
}
