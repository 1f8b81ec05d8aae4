//! The signals that end the process.
//!
//! `SIGTERM` drains, `SIGINT` ends at once, `SIGQUIT` hands the listeners to a new process that waits for them.

use crate::live::Live;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

/// What Pingora waits for.
pub(super) struct Watch {
    live: Arc<Live>,
    stop: Arc<Notify>,
    signals: bool,
    upgrade_socket: PathBuf,
}

impl Watch {
    /// Waits for `stop`, for the admin listener's word, and for the process' signals if they are meant for this server.
    pub(super) fn new((live, stop): (Arc<Live>, Arc<Notify>), signals: bool, upgrade_socket: PathBuf) -> Watch {
        Watch { live, stop, signals, upgrade_socket }
    }
}

async fn came(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

#[async_trait]
impl ShutdownSignalWatch for Watch {
    async fn recv(&self) -> ShutdownSignal {
        let listen = |kind| if self.signals { signal(kind).ok() } else { None };
        let mut terminate = listen(SignalKind::terminate());
        let mut interrupt = listen(SignalKind::interrupt());
        let mut quit = listen(SignalKind::quit());
        loop {
            tokio::select! {
                () = self.stop.notified() => return ShutdownSignal::FastShutdown,
                () = self.live.drained() => return ShutdownSignal::GracefulTerminate,
                () = came(&mut terminate) => return ShutdownSignal::GracefulTerminate,
                () = came(&mut interrupt) => return ShutdownSignal::FastShutdown,
                () = came(&mut quit) => {
                    // Without a taker the listeners would be closed and nobody would serve.
                    if self.upgrade_socket.exists() {
                        return ShutdownSignal::GracefulUpgrade;
                    }
                    log::error!(
                        "SIGQUIT ignored: no process waits at {} (start one with `serve --upgrade` first)",
                        self.upgrade_socket.display()
                    );
                }
            }
        }
    }
}

/// A further signal while the process drains.
pub(super) struct SecondSignal(Arc<AtomicBool>);

impl SecondSignal {
    /// Listens from now on.
    pub(super) fn listen() -> SecondSignal {
        let came = Arc::new(AtomicBool::new(false));
        let flag = came.clone();
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                flag.store(true, Ordering::Relaxed);
            });
        });
        SecondSignal(came)
    }

    /// Whether one came.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
