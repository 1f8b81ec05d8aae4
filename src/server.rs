//! Assembles the listeners, runs them, and ends them without cutting anything off.
//!
//! Pingora's server runs in a thread of its own; this side watches over its end, because Pingora would sleep out the whole
//! grace period even when the last stream has long finished.

mod connections;
mod reload;
mod roots;
mod signals;
mod traces;

use crate::{
    admin::Admin,
    clock::Clock,
    config::Config,
    gateway::{Gateway, Shared},
    ledger::{Ledger, LedgerError},
    live::Live,
};
use connections::Bounded;
use pingora::{
    apps::HttpServerOptions,
    listeners::tls::TlsSettings,
    protocols::http::v2::server::H2Options,
    server::{
        ExecutionPhase, RunArgs, Server,
        configuration::{Opt, ServerConf},
    },
    services::{background::background_service, listening::Service},
};
use pingora_proxy::HttpProxy;
use signals::Watch;
use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};
use tokio::sync::broadcast::{self, error::RecvError};

/// After the last request, HTTP/2 frames may still be on their way out.
const SETTLE: Duration = Duration::from_millis(500);
/// How far an HTTP/2 client may send ahead in one stream, in bytes; in all streams of its connection, four times as far.
/// The HTTP/2 library's own 64 KiB allow 1.3 MB/s at a distance of 50 ms, which is slow for a request with images.
const UPLOAD_WINDOW: u32 = 256 << 10;
/// What the frames of a connection that are not read yet may cost in memory, in bytes, before it is broken. The library's
/// own 25 KiB are used up by 130 small frames, be the client ever so well-meaning.
const SMALL_FRAMES: usize = 4 << 20;
/// Pingora waits this long for its grace period; we end it ourselves.
const FAR_AWAY_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        cause: std::io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("tls: {0}")]
    Tls(String),
    /// The root certificates of `server.ca_file` cannot be used.
    #[error("server.ca_file: {0}")]
    Roots(std::io::Error),
    /// The ledger's file cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The directory for state cannot be made.
    #[error("cannot create {path}: {cause}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
}

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take the listeners over from a running process.
    pub upgrade: bool,
    /// The file that `SIGHUP` reads again.
    pub config_file: Option<PathBuf>,
    /// Whether the process' signals end this server; false where it is embedded in another program.
    pub signals: bool,
}

/// A server that runs in the background.
pub struct Running {
    live: Arc<Live>,
    stop: Arc<tokio::sync::Notify>,
    phases: broadcast::Receiver<ExecutionPhase>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Starts a server.
pub fn start(config: Config, options: Options) -> Result<Running, StartError> {
    prepare(&config, &options)?;
    let ledger = match config.ledger.enabled {
        true => Some(Arc::new(Ledger::open(&config.data_dir, config.ledger, Clock::System)?)),
        false => None,
    };
    let live = Live::new(config, ledger, Clock::System);
    if let Some(file) = &options.config_file {
        live.keep_file(file.clone());
    }
    let stop = Arc::new(tokio::sync::Notify::new());
    let server = assemble(&live, &options)?;
    let phases = server.watch_execution_phase();
    let watch =
        Watch::new((live.clone(), stop.clone()), options.signals, live.snapshot().config.server.upgrade_socket.clone());
    let thread = thread::spawn(move || server.run(RunArgs { shutdown_signal: Box::new(watch) }));
    Ok(Running { live, stop, phases, thread: Some(thread) })
}

/// Reports what can be known beforehand in words; Pingora would panic.
fn prepare(config: &Config, options: &Options) -> Result<(), StartError> {
    let path = config.data_dir.clone();
    std::fs::create_dir_all(&path).map_err(|cause| StartError::DataDir { path, cause })?;
    if options.upgrade {
        return Ok(());
    }
    let admin = config.admin.as_ref().map(|admin| admin.listen);
    for address in config.listen.iter().copied().chain(admin) {
        TcpListener::bind(address).map_err(|cause| StartError::Listen { address, cause })?;
    }
    Ok(())
}

fn assemble(live: &Arc<Live>, options: &Options) -> Result<Server, StartError> {
    let snapshot = live.snapshot();
    let config = &snapshot.config;
    let opt = Opt { upgrade: options.upgrade, ..Opt::default() };
    let roots = roots::file(config).map_err(StartError::Roots)?;
    let mut server = Server::new_with_opt_and_conf(opt, server_conf(config, roots.as_deref()));
    server.bootstrap();
    let mut proxy = HttpProxy::new(Gateway::new(Shared::new(live.clone(), roots)), server.configuration.clone());
    proxy.handle_init_modules();
    let bounds = config.bounds;
    let mut http = HttpServerOptions::default();
    http.h2c = true;
    http.h2_idle_timeout = Some(bounds.client_idle);
    proxy.server_options = Some(http);
    let mut h2 = H2Options::new();
    h2.max_concurrent_streams(config.bounds.streams_per_connection)
        .max_header_list_size(u32::try_from(config.bounds.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(UPLOAD_WINDOW)
        .initial_connection_window_size(4 * UPLOAD_WINDOW)
        .data_frame_budget(SMALL_FRAMES);
    proxy.h2_options = Some(h2);
    let mut service = Service::new("gateway".to_owned(), Bounded::new(proxy, &bounds));
    for address in &config.listen {
        match &config.tls {
            None => service.add_tcp(&address.to_string()),
            Some(tls) => {
                let fault = |error: Box<pingora::Error>| StartError::Tls(error.to_string());
                let mut settings = TlsSettings::intermediate(&tls.cert.to_string_lossy(), &tls.key.to_string_lossy())
                    .map_err(fault)?;
                settings.enable_h2();
                service.add_tls_with_settings(&address.to_string(), None, settings);
            }
        }
    }
    server.add_service(service);
    if let Some(admin) = &config.admin {
        let mut service = Service::new("admin".to_owned(), Admin::new(live.clone()));
        service.threads = Some(1);
        service.add_tcp(&admin.listen.to_string());
        server.add_service(service);
    }
    if let Some(settings) = &config.traces {
        server.add_service(background_service("traces", traces::Exporter::new(live.clone(), settings.clone())));
    }
    if live.keeps_file() && options.signals {
        server.add_service(background_service("reload", reload::OnHangup::new(live.clone())));
    }
    Ok(server)
}

fn server_conf(config: &Config, roots: Option<&Path>) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        upgrade_sock: config.server.upgrade_socket.to_string_lossy().into_owned(),
        upstream_keepalive_pool_size: config.server.upstream_keepalive,
        ca_file: roots.map(|path| path.to_string_lossy().into_owned()),
        // Attempts are counted by the failover settings; connections retried within one attempt are bounded there too.
        max_retries: 10_000,
        // Pingora's own timers stay in memory until they would be due, and its thread looks at each of them then.
        fast_timeout_to_tokio_threshold_seconds: Some(0),
        grace_period_seconds: Some(FAR_AWAY_SECONDS),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

impl Running {
    /// The state of the running gateway.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Waits until the listeners accept.
    pub fn wait_ready(&self) -> bool {
        let snapshot = self.live.snapshot();
        let admin = snapshot.config.admin.as_ref().map(|admin| admin.listen);
        let addresses: Vec<SocketAddr> = snapshot.config.listen.iter().copied().chain(admin).collect();
        let give_up = Clock::System.now().mono + Duration::from_secs(20);
        while Clock::System.now().mono < give_up {
            if addresses.iter().all(|address| std::net::TcpStream::connect(address).is_ok()) {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Ends the server at once.
    pub fn stop(mut self) {
        self.stop_now();
    }

    fn stop_now(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.close_ledger();
    }

    /// Writes down what is left to be written.
    fn close_ledger(&self) {
        if let Some(ledger) = &self.live.ledger {
            ledger.close();
        }
    }

    /// Runs until the process is told to end, then until the last request has ended, the configured drain time has passed,
    /// or a second signal comes.
    pub fn wait(mut self) {
        loop {
            match self.phases.blocking_recv() {
                Ok(
                    ExecutionPhase::GracefulTerminate
                    | ExecutionPhase::GracefulUpgradeTransferringFds
                    | ExecutionPhase::GracefulUpgradeCloseTimeout,
                ) => self.live.counters.draining.store(true, Ordering::Relaxed),
                Ok(
                    ExecutionPhase::ShutdownGracePeriod | ExecutionPhase::ShutdownRuntimes | ExecutionPhase::Terminated,
                )
                | Err(RecvError::Closed) => break,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        self.live.counters.draining.store(true, Ordering::Relaxed);
        let drain = self.live.snapshot().config.server.drain;
        let started = Clock::System.now().mono;
        let mut quiet_since = started;
        let again = signals::SecondSignal::listen();
        log::info!("draining: {} requests in flight", self.live.counters.requests.load(Ordering::Relaxed));
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            let now = Clock::System.now().mono;
            if self.live.counters.requests.load(Ordering::Relaxed) > 0 {
                quiet_since = now;
            } else if now - quiet_since >= SETTLE {
                break;
            }
            if now - started >= drain || again.came() {
                let left = self.live.counters.requests.load(Ordering::Relaxed);
                log::warn!("ending with {left} requests in flight");
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Pingora's thread sleeps on; it ends with the process.
        self.thread = None;
        self.close_ledger();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop_now();
        }
    }
}
