//! Reads the configuration again on `SIGHUP`: validated first, swapped whole, the last good one kept.

use crate::live::Live;
use async_trait::async_trait;
use pingora::{server::ShutdownWatch, services::background::BackgroundService};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// The service that waits for `SIGHUP`.
pub(super) struct OnHangup {
    live: Arc<Live>,
}

impl OnHangup {
    /// Reloads the file of this state.
    pub(super) fn new(live: Arc<Live>) -> OnHangup {
        OnHangup { live }
    }
}

#[async_trait]
impl BackgroundService for OnHangup {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            log::error!("SIGHUP cannot be listened for: reload is off");
            return;
        };
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                came = hangup.recv() => match came {
                    Some(()) => drop(self.live.reload_file()),
                    None => return,
                },
            }
        }
    }
}
