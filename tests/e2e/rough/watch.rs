//! What a rough run watches: panics anywhere in the process, and what is left behind when it is over.

use crate::gateway::Gateway;
use std::{
    panic,
    sync::{Mutex, Once, PoisonError, atomic::Ordering},
    time::Duration,
};

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes every panic from now on, but for those of failing tests.
pub(super) fn panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            if !place.starts_with("tests/") {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
            }
            before(info);
        }));
    });
}

/// The panics noted so far.
pub(super) fn noted() -> Vec<String> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What is still held, as numbers: requests, body bytes, waiting, in flight at accounts.
fn held(gateway: &Gateway) -> [usize; 4] {
    let live = gateway.running.as_ref().unwrap().live();
    let counters = &live.counters;
    let in_flight = live.snapshot().pool.accounts().iter().map(|account| account.live.in_flight() as usize).sum();
    let [requests, bytes, waiting] =
        [&counters.requests, &counters.body_bytes, &counters.waiting].map(|counter| counter.load(Ordering::SeqCst));
    [requests, bytes, waiting, in_flight]
}

/// Waits until everything has been given back; returns what was not.
pub(super) async fn left_behind(gateway: &Gateway) -> Option<[usize; 4]> {
    for _ in 0..400 {
        if held(gateway) == [0; 4] {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Some(held(gateway))
}
