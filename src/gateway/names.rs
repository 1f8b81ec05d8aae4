//! Names of headers that every request is asked for. Made once: a name in a string is checked anew at each look-up.

use http::HeaderName;

pub(super) static ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
pub(super) static API_KEY: HeaderName = HeaderName::from_static("api-key");
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) static TRANSLATION: HeaderName = HeaderName::from_static("x-sub2api-translation");
pub(super) static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(super) static X_GOOG_API_CLIENT: HeaderName = HeaderName::from_static("x-goog-api-client");
pub(super) static X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
