//! The file's schema: from a marked tree to a [`Config`], with every fault noted on the way.
//!
//! Which keys there are is said by this code alone: a section is asked for each, and refuses the rest.

mod account;
mod alias;
mod common;
mod credentials;
mod ledger;
mod links;
pub(super) mod listen;
mod prices;
pub(super) use prices::{built_in as built_in_prices, table as price_table};
mod traces;
mod tuning;
mod user;

use super::{
    Config, Timeouts,
    interpolate::Environment,
    reader::{Item, Reader, Section},
    tree::Node,
};
use account::ReadAccount;
use alias::ReadAlias;
use links::Links;
use listen::{Auth, Listeners};
use std::{path::PathBuf, sync::Arc};
use user::ReadUser;

/// Reads the whole file. The result is good only if the reader noted no fault.
pub(super) fn config<'r>(reader: &'r Reader<'r>, root: &'r Node) -> Option<Config> {
    let mut section = Item::root(reader, root).section()?;
    let Listeners { listen, tls, admin, auth } = listen::listeners(&mut section);
    let data_dir = data_dir(&mut section);
    let timeouts = section.optional("timeouts", |item| tuning::timeouts(item, Timeouts::default())).unwrap_or_default();
    let accounts = accounts(&mut section, timeouts);
    let aliases = section.list("models", alias::alias);
    let users = users(&mut section, auth);
    let config = Config {
        listen,
        tls,
        admin,
        accounts: accounts.iter().filter_map(|account| account.settings.clone()).map(Arc::new).collect(),
        models: aliases.iter().filter_map(ReadAlias::settings).map(Arc::new).collect(),
        open: auth != Auth::Keys,
        users: users.iter().filter_map(|user| user.settings.clone()).map(Arc::new).collect(),
        timeouts,
        failover: section.optional("failover", tuning::failover).unwrap_or_default(),
        cooldown: section.optional("cooldown", tuning::cooldown).unwrap_or_default(),
        streams: section.optional("streams", tuning::streams).unwrap_or_default(),
        bounds: section.optional("bounds", tuning::bounds).unwrap_or_default(),
        budgets: section.optional("budgets", tuning::budgets).unwrap_or_default(),
        client_address: section.optional("client_address", tuning::client_address).unwrap_or_default(),
        queue: section.optional("queue", tuning::queue).unwrap_or_default(),
        affinity: section.optional("affinity", tuning::affinity).unwrap_or_default(),
        headers: section.optional("headers", tuning::headers).unwrap_or_default(),
        server: tuning::server(section.find("server"), &data_dir)?,
        translation: section.optional("translation", tuning::translation).unwrap_or_default(),
        prices: section.optional("prices", prices::prices).unwrap_or_else(prices::built_in),
        ledger: section.optional("ledger", ledger::ledger).unwrap_or_default(),
        log: section.optional("log", tuning::log).unwrap_or_default(),
        metrics: section.optional("metrics", tuning::metrics).unwrap_or_default(),
        explain: section.optional("explain", tuning::explain).unwrap_or_default(),
        traces: section.optional("traces", traces::traces),
        data_dir,
    };
    section.done();
    Links { accounts: &accounts, aliases: &aliases, users: &users, listen: &config.listen }.check();
    Some(config)
}

/// Where state is kept: as written, else where systemd says, else `./data`.
fn data_dir(section: &mut Section<'_>) -> PathBuf {
    let environment = section.item().reader.surroundings.environment;
    let Some(item) = section.find("data_dir") else { return default_data_dir(environment) };
    let path = item.path().unwrap_or_default();
    if path.exists() && !path.is_dir() {
        item.fault("is there, but is not a directory");
    }
    path
}

/// systemd's `StateDirectory=`, where the unit has one, else `./data`.
pub(super) fn default_data_dir(environment: &Environment<'_>) -> PathBuf {
    let given = environment("STATE_DIRECTORY").and_then(|list| list.split(':').next().map(PathBuf::from));
    given.filter(|path| path.is_absolute()).unwrap_or_else(|| PathBuf::from("./data"))
}

fn accounts<'r>(section: &mut Section<'r>, timeouts: Timeouts) -> Vec<ReadAccount<'r>> {
    let Some(items) = section.required("accounts", Item::items) else { return Vec::new() };
    if items.is_empty() {
        section.item().fault("`accounts` is empty; the gateway needs at least one");
    }
    items.iter().filter_map(|item| account::account(item, timeouts)).collect()
}

fn users<'r>(section: &mut Section<'r>, auth: Auth) -> Vec<ReadUser<'r>> {
    let items = section.optional("users", Item::items);
    let present = section.has_value("users");
    match (auth, items.as_ref().is_some_and(|items| !items.is_empty())) {
        (Auth::Keys, false) if items.is_some() || !present => section.item().fault(
            "there are no users: add some under `users`, each with a key (`sub2api key new` makes one), \
             or write `auth: none` for a gateway that only this machine can reach",
        ),
        (Auth::None | Auth::NoneAnywhere, true) => section.item().warn("`users` has no effect with `auth: none`"),
        (Auth::Keys, _) | (Auth::None | Auth::NoneAnywhere, false) => {}
    }
    let mut seen = user::SeenKeys::new();
    items.unwrap_or_default().iter().filter_map(|item| user::user(item, &mut seen)).collect()
}
