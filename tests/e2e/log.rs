//! The gateway's access lines, by request id; and a place where a test can make a filter panic.

use crate::panics;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};
use sub2api::telemetry;
use tokio::time::{Instant, sleep};

static LINES: Mutex<Option<HashMap<String, Value>>> = Mutex::new(None);

/// What a request's id begins with if its line is to be kept; fuzzing would fill the memory otherwise.
pub(crate) const KEPT: &str = "e2e-";

struct Lines;

fn lines() -> MutexGuard<'static, Option<HashMap<String, Value>>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("sub2api")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        panics::blow(&text);
        if record.target() != telemetry::ACCESS {
            return;
        }
        let line: Value = serde_json::from_str(&text).unwrap();
        let id = line["request"].as_str().unwrap_or_default().to_owned();
        if id.starts_with(KEPT) {
            lines().get_or_insert_default().insert(id, line);
        }
    }

    fn flush(&self) {}
}

/// Keeps the access lines from now on.
pub(crate) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        telemetry::set_json(true);
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// The line of this request. It is written when the client has its answer, so that it may have to be waited for.
pub(crate) async fn line(id: &str) -> Value {
    let asked = Instant::now();
    loop {
        if let Some(line) = lines().as_ref().and_then(|lines| lines.get(id).cloned()) {
            return line;
        }
        assert!(asked.elapsed() < Duration::from_secs(5), "no access line for {id}");
        sleep(Duration::from_millis(2)).await;
    }
}
