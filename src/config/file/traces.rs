//! Where spans are sent: `traces`.

use super::account::extra_headers;
use crate::{
    config::{TraceSettings, reader::Item},
    provider::{self, BaseUrl},
};

/// The path that the protocol has for traces.
const PATH: &str = "/v1/traces";

pub(super) fn traces(item: &Item<'_>) -> Option<TraceSettings> {
    let mut section = item.section()?;
    let endpoint = section.required("endpoint", endpoint);
    let mut queue = 2_048;
    section.set("queue", &mut queue, |item| item.count(1..=1_000_000));
    let service = section.optional("service", |item| super::common::name(item).map(str::to_owned));
    let headers = section.optional("headers", extra_headers).unwrap_or_default();
    section.done();
    Some(TraceSettings {
        endpoint: endpoint?,
        service: service.unwrap_or_else(|| "sub2api".to_owned()),
        queue,
        headers,
    })
}

/// A collector's address; without a path it gets the one that the protocol has for traces.
fn endpoint(item: &Item<'_>) -> Option<BaseUrl> {
    match provider::plain_url(item.text()?) {
        Ok(url) if url.prefix.is_empty() => Some(BaseUrl { prefix: PATH.to_owned(), ..url }),
        Ok(url) => Some(url),
        Err(fault) => item.refuse(fault),
    }
}
