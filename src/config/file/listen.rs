//! Where the gateway listens, and who may come in: `listen`, `tls`, `admin`, `auth`.

use super::common::{secret, text_file};
use crate::config::{
    Admin, Tls,
    reader::{Item, Section},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// The client listener where the file names none: only this machine can reach it.
pub(crate) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The largest PEM file that is read.
const MAX_PEM_BYTES: u64 = 4 << 20;
/// The shortest admin key that is taken.
const MIN_ADMIN_KEY: usize = 16;

/// Whether callers need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// Every caller shows the key of a user.
    Keys,
    /// Nobody needs a key, and only this machine can connect.
    None,
    /// Nobody needs a key, wherever they connect from.
    NoneAnywhere,
}

/// The listeners of a configuration.
pub(super) struct Listeners {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) tls: Option<Tls>,
    pub(super) admin: Option<Admin>,
    pub(super) auth: Auth,
}

/// Reads the listeners from the top of the file.
pub(super) fn listeners(section: &mut Section<'_>) -> Listeners {
    let mut taken = Vec::new();
    let listen = match section.find("listen") {
        Some(item) => addresses(&item, &mut taken),
        None => {
            taken.push(DEFAULT_LISTEN);
            vec![DEFAULT_LISTEN]
        }
    };
    let tls = section.optional("tls", tls);
    let admin = section.optional("admin", |item| admin(item, &mut taken));
    let auth = section.optional("auth", |item| auth(item, &listen)).unwrap_or(Auth::Keys);
    Listeners { listen, tls, admin, auth }
}

fn addresses(item: &Item<'_>, taken: &mut Vec<SocketAddr>) -> Vec<SocketAddr> {
    let items = if item.is_list() { item.items().unwrap_or_default() } else { vec![item.clone()] };
    if items.is_empty() {
        item.fault("names no address; leave `listen` out to listen on 127.0.0.1:8080");
    }
    items.iter().filter_map(|item| address(item, taken)).collect()
}

/// An address and port that no other listener uses. Names are not resolved, but for `localhost`.
fn address(item: &Item<'_>, taken: &mut Vec<SocketAddr>) -> Option<SocketAddr> {
    let text = item.text()?;
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let Ok(address) = numeric.parse::<SocketAddr>() else {
        let example = "must be an IP address with a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or \"[::1]:8080\"";
        return item.refuse(format!("{example}, not {}", item.shown()));
    };
    if taken.iter().any(|other| collide(*other, address)) {
        return item.refuse("another listener has this address and port already");
    }
    taken.push(address);
    Some(address)
}

/// Whether two listeners cannot both be bound. Port 0 is a free port chosen by the system, another one each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip()
        || (one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    one.port() == other.port() && one.port() != 0 && same_ip
}

fn tls(item: &Item<'_>) -> Option<Tls> {
    let mut section = item.section()?;
    let cert = section.required("cert", |item| pem(item, "CERTIFICATE-----"));
    let key = section.required("key", |item| pem(item, "PRIVATE KEY-----"));
    section.done();
    Some(Tls { cert: cert?, key: key? })
}

/// The path of a PEM file that can be read and holds what it should.
pub(super) fn pem(item: &Item<'_>, label: &str) -> Option<PathBuf> {
    let path = item.path()?;
    let text = text_file(item, &path, MAX_PEM_BYTES)?;
    let holds = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(label));
    if holds { Some(path) } else { item.refuse(format!("the file holds no PEM block `-----BEGIN … {label}`")) }
}

fn admin(item: &Item<'_>, taken: &mut Vec<SocketAddr>) -> Option<Admin> {
    let mut section = item.section()?;
    let listen = section.required("listen", |item| {
        let listen = address(item, taken)?;
        if !listen.ip().is_loopback() {
            item.warn("other machines can reach the admin listener, whose key then travels unencrypted");
        }
        Some(listen)
    });
    let key = section.required("key", |item| {
        let key = secret(item)?;
        let long = key.expose().len() >= MIN_ADMIN_KEY;
        if long { Some(key) } else { item.refuse(format!("must be at least {MIN_ADMIN_KEY} characters long")) }
    });
    section.done();
    Some(Admin { listen: listen?, key: key? })
}

fn auth(item: &Item<'_>, listen: &[SocketAddr]) -> Option<Auth> {
    let words = [("keys", Auth::Keys), ("none", Auth::None), ("none-anywhere", Auth::NoneAnywhere)];
    let auth = item.choice(&words)?;
    let exposed = listen.iter().find(|address| !address.ip().is_loopback());
    match (auth, exposed) {
        (Auth::None, Some(address)) => item.fault(format!(
            "`auth: none` would let everyone who can reach {address} spend on the accounts: listen on 127.0.0.1, \
             or add users, or write `auth: none-anywhere` if that is what you mean"
        )),
        (Auth::NoneAnywhere, Some(address)) => {
            item.warn(format!("everyone who can reach {address} can spend on the accounts"));
        }
        (Auth::None | Auth::NoneAnywhere, None) | (Auth::Keys, _) => {}
    }
    Some(auth)
}
