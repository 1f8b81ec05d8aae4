//! Checks across sections: whether what one names is there in another.

use super::{account::ReadAccount, alias::ReadAlias, alias::ReadTarget, common::Unique, user::ReadUser};
use crate::config::{ModelRule, reader::Item};
use std::net::{IpAddr, SocketAddr};

/// All entries of the file that name each other.
pub(super) struct Links<'l, 'r> {
    pub(super) accounts: &'l [ReadAccount<'r>],
    pub(super) aliases: &'l [ReadAlias<'r>],
    pub(super) users: &'l [ReadUser<'r>],
    pub(super) listen: &'l [SocketAddr],
}

impl<'r> Links<'_, 'r> {
    /// Notes every fault and warning.
    pub(super) fn check(&self) {
        unique(self.accounts.iter().filter_map(|account| account.name.as_ref()));
        unique(self.aliases.iter().filter_map(|alias| alias.name.as_ref()));
        unique(self.users.iter().filter_map(|user| user.name.as_ref()));
        for target in self.aliases.iter().flat_map(|alias| &alias.targets) {
            self.check_target(target);
        }
        for alias in self.aliases {
            self.check_shadow(alias);
        }
        for (item, pattern) in self.users.iter().flat_map(|user| &user.models) {
            self.check_user_model(item, pattern);
        }
        for (item, base_url) in self.accounts.iter().filter_map(|account| account.base_url.as_ref()) {
            if let Some(listen) = self.listen.iter().find(|listen| is_same(**listen, &base_url.host, base_url.port)) {
                item.fault(format!(
                    "its calls would arrive at {listen}, this gateway's own listener, and go round in circles: \
                     change `base_url` or `listen`"
                ));
            }
        }
    }

    fn check_target(&self, target: &ReadTarget<'r>) {
        let (item, model) = &target.model;
        match &target.account {
            Some((account_item, name)) => {
                let mut named =
                    self.accounts.iter().filter(|account| account.name.as_ref().is_some_and(|(_, n)| n == name));
                match named.next() {
                    None => self.unknown_account(account_item),
                    Some(account) if !account.may_serve(model) => {
                        let near = item.suggestion(known_models(std::slice::from_ref(account)));
                        item.fault(format!("the account of this target does not serve {}{near}", item.shown()));
                    }
                    Some(_) => {}
                }
            }
            None if !self.accounts.iter().any(|account| account.may_serve(model)) => self.unserved(item, model),
            None => {}
        }
    }

    fn unknown_account(&self, item: &Item<'_>) {
        let names = self.accounts.iter().filter_map(|account| account.name.as_ref()).map(|(_, name)| *name);
        item.fault(format!("no account is called {}{}", item.shown(), item.suggestion(names)));
    }

    fn unserved(&self, item: &Item<'_>, model: &str) {
        if self.aliases.iter().any(|alias| alias.name.as_ref().is_some_and(|(_, name)| *name == model)) {
            item.fault(format!(
                "{} is itself a name of `models`; a target must be a model that an account serves",
                item.shown()
            ));
        } else {
            let near = item.suggestion(known_models(self.accounts));
            item.fault(format!("no account serves {}{near}", item.shown()));
        }
    }

    /// A name of our own that hides an account's model is meant only where the model is one of its targets.
    fn check_shadow(&self, alias: &ReadAlias<'_>) {
        let Some((item, name)) = &alias.name else { return };
        let hidden = known_models(self.accounts).any(|model| model == *name);
        if hidden && !alias.targets.iter().any(|target| target.model.1 == *name) {
            item.warn("hides the model of the same name that an account serves; it is none of the targets");
        }
    }

    fn check_user_model(&self, item: &Item<'_>, pattern: &str) {
        let reachable =
            self.aliases.iter().filter_map(|alias| alias.name.as_ref()).any(|(_, name)| overlap(pattern, name))
                || self.accounts.iter().any(|account| match &account.rules {
                    Some(rules) => rules.is_empty() || rules.iter().any(|rule| overlaps_rule(pattern, rule)),
                    None => true,
                });
        if !reachable {
            let names = self.aliases.iter().filter_map(|alias| alias.name.as_ref()).map(|(_, name)| *name);
            let near = item.suggestion(known_models(self.accounts).chain(names));
            item.warn(format!("no account serves {}{near}", item.shown()));
        }
    }
}

fn unique<'l, 'r: 'l>(names: impl Iterator<Item = &'l (Item<'r>, &'r str)>) {
    let mut unique = Unique::default();
    for (item, name) in names {
        unique.check(item, name);
    }
}

/// The models that accounts name in full.
fn known_models<'l>(accounts: &'l [ReadAccount<'_>]) -> impl Iterator<Item = &'l str> {
    let rules = accounts.iter().filter_map(|account| account.rules.as_ref()).flatten();
    rules.filter_map(|rule| match rule {
        ModelRule::Exact(name) | ModelRule::Alias { name, .. } => Some(name.as_str()),
        ModelRule::Prefix(_) => None,
    })
}

fn overlaps_rule(pattern: &str, rule: &ModelRule) -> bool {
    match rule {
        ModelRule::Exact(name) | ModelRule::Alias { name, .. } => overlap(pattern, name),
        ModelRule::Prefix(prefix) => match pattern.strip_suffix('*') {
            Some(beginning) => beginning.starts_with(prefix.as_str()) || prefix.starts_with(beginning),
            None => pattern.starts_with(prefix.as_str()),
        },
    }
}

/// Whether a pattern covers a name.
fn overlap(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

/// Whether calls to a host and port would arrive at a listener.
fn is_same(listen: SocketAddr, host: &str, port: u16) -> bool {
    let Ok(ip) = (if host == "localhost" { "127.0.0.1" } else { host }).parse::<IpAddr>() else { return false };
    let wildcard = listen.ip().is_unspecified() && ip.is_loopback();
    port != 0 && port == listen.port() && (ip == listen.ip() || wildcard)
}
