//! Reads the configuration again on `SIGHUP`: validated first, swapped whole, the last good one kept.

use crate::{config::Config, live::Live};
use async_trait::async_trait;
use pingora::{server::ShutdownWatch, services::background::BackgroundService};
use std::{path::PathBuf, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// The service that waits for `SIGHUP`.
pub(super) struct OnHangup {
    live: Arc<Live>,
    file: PathBuf,
}

impl OnHangup {
    /// Reloads this file into this state.
    pub(super) fn new(live: Arc<Live>, file: PathBuf) -> OnHangup {
        OnHangup { live, file }
    }

    fn reload(&self) {
        match Config::load(&self.file) {
            Ok(loaded) => {
                let old = self.live.snapshot();
                for key in loaded.config.restart_needed(&old.config) {
                    log::warn!("reload: a change of `{key}` takes effect at the next start");
                }
                let accounts = loaded.config.accounts.len();
                self.live.reload(loaded.config);
                log::info!("reloaded {}: {accounts} accounts", self.file.display());
            }
            Err(faults) => log::error!("reload refused, the last good configuration stays in force:\n{faults}"),
        }
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
                    Some(()) => self.reload(),
                    None => return,
                },
            }
        }
    }
}
