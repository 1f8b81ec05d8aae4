//! The sections that only refine defaults.

use super::common::networks;
use crate::config::{
    Affinity, Bounds, BudgetSettings, ClientAddress, Cooldown, Explain, Failover, ForwardedHeader, HeaderRules,
    LogSettings, MetricBounds, Queue, ServerSettings, Streams, Timeouts, Translation,
    headers::{AllowList, DEFAULT_REQUEST, DEFAULT_RESPONSE},
    reader::Item,
};
use crate::limit::calendar::Zone;
use log::LevelFilter;
use std::{ops::RangeInclusive, path::Path, time::Duration};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const MONTH: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// A time to wait for somebody: more than none, and not for ever.
const WAIT: RangeInclusive<Duration> = MILLISECOND..=Duration::from_secs(24 * 60 * 60);
/// Such a time, or none at all.
const WAIT_OR_NONE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
/// Sizes of buffers.
const BUFFER: RangeInclusive<usize> = 1 << 10..=1 << 30;
/// Most of anything that is counted.
const MANY: u64 = 10_000_000;

/// `timeouts`, globally or of an account; `base` stands for the keys that are absent.
pub(super) fn timeouts(item: &Item<'_>, base: Timeouts) -> Option<Timeouts> {
    let mut section = item.section()?;
    let mut timeouts = base;
    section.set("connect", &mut timeouts.connect, |item| item.duration(MILLISECOND..=HOUR));
    section.set("first_byte", &mut timeouts.first_byte, |item| item.duration(WAIT));
    if timeouts.first_byte != base.first_byte {
        timeouts.whole = timeouts.first_byte;
    }
    section.set("whole", &mut timeouts.whole, |item| item.duration(WAIT));
    section.set("idle", &mut timeouts.idle, |item| item.duration(WAIT));
    section.set("total", &mut timeouts.total, |item| item.duration(WAIT));
    section.set("token", &mut timeouts.token, |item| item.duration(MILLISECOND..=HOUR));
    section.done();
    Some(timeouts)
}

/// `failover`.
pub(super) fn failover(item: &Item<'_>) -> Option<Failover> {
    let mut section = item.section()?;
    let mut failover = Failover::default();
    section.set("attempts", &mut failover.attempts, |item| item.count(1..=100));
    section.set("within", &mut failover.within, |item| item.duration(WAIT_OR_NONE));
    section.done();
    Some(failover)
}

/// `cooldown`.
pub(super) fn cooldown(item: &Item<'_>) -> Option<Cooldown> {
    let mut section = item.section()?;
    let mut cooldown = Cooldown::default();
    section.set("base", &mut cooldown.base, |item| item.duration(MILLISECOND..=HOUR));
    section.set("max", &mut cooldown.max, |item| item.duration(WAIT));
    section.set("told_max", &mut cooldown.told_max, |item| item.duration(MILLISECOND..=MONTH));
    section.set("money", &mut cooldown.money, |item| item.duration(MILLISECOND..=MONTH));
    let item = section.done();
    if cooldown.max < cooldown.base {
        item.fault("`max` is shorter than `base`");
    }
    Some(cooldown)
}

/// `streams`.
pub(super) fn streams(item: &Item<'_>) -> Option<Streams> {
    let mut section = item.section()?;
    let mut streams = Streams::default();
    section.set("ping", &mut streams.ping, |item| item.duration(WAIT_OR_NONE));
    section.set("hold_bytes", &mut streams.hold_bytes, |item| item.bytes(BUFFER));
    section.set("whole_hold_bytes", &mut streams.whole_hold_bytes, |item| item.bytes(0..=1 << 30));
    section.set("event_bytes", &mut streams.event_bytes, |item| item.bytes(BUFFER));
    section.done();
    Some(streams)
}

/// `bounds`.
pub(super) fn bounds(item: &Item<'_>) -> Option<Bounds> {
    let mut section = item.section()?;
    let mut bounds = Bounds::default();
    let size = |item: &Item<'_>| item.bytes(1 << 10..=1 << 40);
    section.set("body_bytes", &mut bounds.body_bytes, size);
    section.set("bodies_in_flight_bytes", &mut bounds.bodies_in_flight_bytes, size);
    section.set("header_bytes", &mut bounds.header_bytes, |item| item.bytes(1 << 10..=1 << 20));
    section.set("header_count", &mut bounds.header_count, |item| item.count(10..=256));
    section.set("connections", &mut bounds.connections, |item| item.count(1..=MANY));
    section.set("requests", &mut bounds.requests, |item| item.count(1..=MANY));
    section.set("streams_per_connection", &mut bounds.streams_per_connection, |item| item.count(1..=10_000));
    section.set("unauthenticated", &mut bounds.unauthenticated, |item| item.count(0..=MANY));
    section.set("flood_addresses", &mut bounds.flood_addresses, |item| item.count(64..=1_000_000));
    section.set("rate_owners", &mut bounds.rate_owners, |item| item.count(1..=1_000_000));
    section.set("account_models", &mut bounds.account_models, |item| item.count(1..=10_000));
    section.set("account_events", &mut bounds.account_events, |item| item.count(1..=10_000));
    section.set("model_names", &mut bounds.model_names, |item| item.count(1..=1_000_000));
    section.set("client_read", &mut bounds.client_read, |item| item.duration(WAIT));
    section.set("client_write", &mut bounds.client_write, |item| item.duration(WAIT));
    section.set("client_head", &mut bounds.client_head, |item| item.duration(WAIT));
    section.set("client_idle", &mut bounds.client_idle, |item| item.duration(WAIT));
    let item = section.done();
    if bounds.bodies_in_flight_bytes < bounds.body_bytes {
        item.fault("`bodies_in_flight_bytes` is less than `body_bytes`, so that the largest body could never be taken");
    }
    Some(bounds)
}

/// `budgets`, at the top.
pub(super) fn budgets(item: &Item<'_>) -> Option<BudgetSettings> {
    let mut section = item.section()?;
    let mut budgets = BudgetSettings::default();
    section.set("time_zone", &mut budgets.zone, |item| {
        let zone = Zone::find(item.text()?);
        zone.or_else(|| item.refuse(format!("must be a time zone such as Europe/Berlin or UTC, not {}", item.shown())))
    });
    section.set("reserve_output", &mut budgets.reserve_output, |item| item.count(1..=MANY));
    section.set("end_streams", &mut budgets.end_streams, Item::boolean);
    section.done();
    Some(budgets)
}

/// `client_address`.
pub(super) fn client_address(item: &Item<'_>) -> Option<ClientAddress> {
    const HEADERS: [(&str, ForwardedHeader); 2] =
        [("x-forwarded-for", ForwardedHeader::XForwardedFor), ("forwarded", ForwardedHeader::Forwarded)];
    let mut section = item.section()?;
    let mut settings = ClientAddress::default();
    section.set("trusted_proxies", &mut settings.trusted_proxies, networks);
    section.set("header", &mut settings.header, |item| item.choice(&HEADERS));
    section.done();
    Some(settings)
}

/// `translation`, globally or of a user.
pub(super) fn translation(item: &Item<'_>) -> Option<Translation> {
    item.choice(&[("lossy", Translation::Lossy), ("strict", Translation::Strict)])
}

/// `queue`.
pub(super) fn queue(item: &Item<'_>) -> Option<Queue> {
    let mut section = item.section()?;
    let mut queue = Queue::default();
    section.set("length", &mut queue.length, |item| item.count(0..=MANY));
    section.set("timeout", &mut queue.timeout, |item| item.duration(WAIT_OR_NONE));
    section.set("cooldown", &mut queue.cooldown, |item| item.duration(WAIT_OR_NONE));
    section.done();
    Some(queue)
}

/// `affinity`.
pub(super) fn affinity(item: &Item<'_>) -> Option<Affinity> {
    let mut section = item.section()?;
    let mut affinity = Affinity::default();
    section.set("entries", &mut affinity.entries, |item| item.count(0..=MANY));
    section.set("expiry", &mut affinity.expiry, |item| item.duration(WAIT));
    section.done();
    Some(affinity)
}

/// `headers`: lists that replace the built-in ones; the word `default` in a list stands for the built-in one.
pub(super) fn headers(item: &Item<'_>) -> Option<HeaderRules> {
    let mut section = item.section()?;
    let mut rules = HeaderRules::default();
    section.set("request", &mut rules.request, |item| allow_list(item, &DEFAULT_REQUEST));
    section.set("response", &mut rules.response, |item| allow_list(item, &DEFAULT_RESPONSE));
    section.done();
    Some(rules)
}

fn allow_list(item: &Item<'_>, built_in: &[&str]) -> Option<AllowList> {
    let mut list = item.items()?.iter().filter_map(header_pattern).collect::<Vec<_>>();
    if list.iter().any(|name| name == "default") {
        list.retain(|name| name != "default");
        list.extend(built_in.iter().map(|name| (*name).to_owned()));
    }
    Some(list.into_iter().collect())
}

fn header_pattern(item: &Item<'_>) -> Option<String> {
    let name = item.text()?.to_ascii_lowercase();
    let word = name.strip_suffix('*').unwrap_or(&name);
    if !word.is_empty() && http::HeaderName::from_bytes(word.as_bytes()).is_err() {
        return item.refuse("must be a header's name, or the beginning of names with a `*` at its end");
    }
    if HeaderRules::is_forbidden(&name) {
        return item.refuse(
            "never crosses the gateway: it is a credential, belongs to one connection, or is set by the gateway itself",
        );
    }
    Some(name)
}

/// `server`; the default upgrade socket stands in the data directory.
pub(super) fn server(item: Option<Item<'_>>, data_dir: &Path) -> Option<ServerSettings> {
    let mut server = ServerSettings { upgrade_socket: data_dir.join("upgrade.sock"), ..ServerSettings::default() };
    let Some(item) = item else { return Some(server) };
    let mut section = item.section()?;
    section.set("threads", &mut server.threads, |item| item.count(1..=1_024));
    section.set("upstream_keepalive", &mut server.upstream_keepalive, |item| item.count(0..=MANY));
    section.set("upgrade_socket", &mut server.upgrade_socket, |item| {
        // The kernel's limit for the address of a Unix socket, its end mark included, is 108 bytes.
        let path = item.path()?;
        if path.as_os_str().len() < 108 { Some(path) } else { item.refuse("must be shorter than 108 bytes") }
    });
    section.set("drain", &mut server.drain, |item| item.duration(WAIT_OR_NONE));
    server.ca_file = section.optional("ca_file", |item| super::listen::pem(item, "CERTIFICATE-----"));
    section.done();
    Some(server)
}

/// `log`.
pub(super) fn log(item: &Item<'_>) -> Option<LogSettings> {
    const LEVELS: [(&str, LevelFilter); 6] = [
        ("off", LevelFilter::Off),
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
        ("trace", LevelFilter::Trace),
    ];
    let mut section = item.section()?;
    let mut log = LogSettings::default();
    section.set("format", &mut log.json, |item| item.choice(&[("text", false), ("json", true)]));
    section.set("level", &mut log.level, |item| item.choice(&LEVELS));
    section.set("hold", &mut log.hold, |item| item.duration(Duration::ZERO..=Duration::from_secs(10)));
    section.set("hold_bytes", &mut log.hold_bytes, |item| item.bytes(BUFFER));
    section.done();
    Some(log)
}

/// `explain`.
pub(super) fn explain(item: &Item<'_>) -> Option<Explain> {
    let mut section = item.section()?;
    let mut explain = Explain::default();
    section.set("requests", &mut explain.requests, |item| item.count(0..=1_000_000));
    section.set("candidates", &mut explain.candidates, |item| item.count(0..=10_000));
    section.done();
    Some(explain)
}

/// `metrics`.
pub(super) fn metrics(item: &Item<'_>) -> Option<MetricBounds> {
    let mut section = item.section()?;
    let mut bounds = MetricBounds::default();
    section.set("models", &mut bounds.models, |item| item.count(1..=10_000));
    section.set("fields", &mut bounds.fields, |item| item.count(1..=10_000));
    section.done();
    Some(bounds)
}
