//! An account as the pool knows it, and the part of it that outlives a configuration.
//!
//! Every change is noted among the [`Changes`] after it was made, so that whoever chooses sees it.

use super::{
    appetite::{Appetite, Need},
    changes::Changes,
    health::{Health, Probe, Standing, State},
    history::{Event, History},
    outlook::{LimitName, Outlook},
    quotas::Quotas,
    rates::{Rates, Taken},
    windows::{Figure, Origin, Tally, Tokens, Windows},
};
use crate::{
    clock::Moment,
    config::{AccountSettings, Bounds},
    limit::{
        budget,
        inflight::InFlight,
        terms::{self, Amounts},
        window::Window,
    },
    provider::headroom::Headroom,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// An account: settings of this configuration, state shared with the next.
#[derive(Debug)]
pub struct Account {
    /// What the configuration says.
    pub settings: Arc<AccountSettings>,
    /// What has happened, kept by name across reloads.
    pub live: Arc<Live>,
}

/// What all accounts of a process share, kept across reloads.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) changes: Arc<Changes>,
    pub(super) minute: Arc<Window>,
    bounds: Bounds,
}

impl Common {
    /// For so many accounts, about.
    pub(super) fn new(accounts: usize, bounds: Bounds, now: Moment) -> Common {
        // Two rates each.
        Common { changes: Arc::default(), minute: Arc::new(Window::new(2 * accounts, now)), bounds }
    }
}

/// The state of an account that outlives a configuration. What every request touches is one line of memory; the rest, which
/// is many, stands apart.
#[derive(Debug)]
#[repr(align(64))]
pub struct Live {
    number: u32,
    in_flight: InFlight,
    /// Whether `health` remembers anything: a success then changes nothing, and costs no lock.
    is_troubled: AtomicBool,
    /// Whether neither health nor windows are known, so that a look costs no lock.
    is_plain: AtomicBool,
    changes: Arc<Changes>,
    rest: Box<Rest>,
}

const _: () = assert!(size_of::<Live>() == 64);

#[derive(Debug)]
struct Rest {
    rates: Rates,
    quotas: Quotas,
    state: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    health: Health,
    windows: Windows,
    appetite: Appetite,
    history: History,
}

impl Inner {
    fn new(bounds: &Bounds) -> Inner {
        let models = bounds.account_models;
        let (health, windows) = (Health::new(models), Windows::new(models));
        Inner { health, windows, appetite: Appetite::default(), history: History::new(bounds.account_events) }
    }
}

/// A request that may be sent: what was taken for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Begun {
    pub(super) probe: Probe,
    pub(super) tally: Option<Tally>,
    taken: Taken,
    reserved: Amounts,
}

impl Begun {
    /// Whether nothing was taken that would have to be given back.
    fn is_free(&self) -> bool {
        self.taken.is_nothing() && self.reserved == Amounts::default()
    }
}

/// What a request took in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// Tokens, input of every kind and output.
    pub tokens: Tokens,
    /// Money, in nano-dollars.
    pub cost_nanos: u64,
}

/// Why a request may not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The account's health does not allow it.
    Health(Standing),
    /// A limit has no room for one of this size before that time, if ever.
    NoRoom(LimitName, Option<Moment>),
}

/// What is asked of an account: by a request of a model, under the account's settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) settings: &'a AccountSettings,
    pub(super) model: &'a str,
}

impl Live {
    pub(super) fn new(common: &Common) -> Live {
        let number = common.changes.new_number();
        let (rates, state) = (Rates::new(common.minute.clone(), number), Mutex::new(Inner::new(&common.bounds)));
        Live {
            number,
            in_flight: InFlight::default(),
            is_troubled: AtomicBool::new(false),
            is_plain: AtomicBool::new(true),
            changes: common.changes.clone(),
            rest: Box::new(Rest { rates, quotas: Quotas::default(), state }),
        }
    }

    /// Tells it from every other account, also of earlier configurations.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.count()
    }

    /// Takes a place if fewer than `cap` are taken.
    #[must_use]
    pub(super) fn enter(&self, cap: Option<u32>) -> bool {
        self.in_flight.enter(cap)
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.in_flight.leave();
        self.changes.note(self.number);
    }

    /// The account's state as a whole.
    pub fn state(&self, now: Moment) -> State {
        self.inner().health.state(now)
    }

    /// The models of the account that are not ready, with their states.
    pub fn models(&self, now: Moment) -> Vec<(String, State)> {
        self.inner().health.models(now).map(|(model, state)| (model.to_owned(), state)).collect()
    }

    /// The windows that the provider told of, each with its model where it is one model's.
    pub fn headroom(&self, now: Moment) -> Vec<(Option<String>, Figure)> {
        self.inner().windows.figures(now)
    }

    /// The last changes of state, oldest first.
    pub fn history(&self) -> Vec<Event> {
        self.inner().history.events().cloned().collect()
    }

    /// Whether its health and its limits let a small request go now.
    pub(super) fn look(&self, asked: &Asked<'_>, now: Moment) -> (Standing, Outlook) {
        let has_limits = asked.settings.limits.rpm.is_some()
            || asked.settings.limits.tpm.is_some()
            || !asked.settings.quotas.is_empty();
        if !has_limits && self.is_plain() {
            return (Standing::Open, Outlook::CLEAR);
        }
        let inner = self.inner();
        // A small request may still fit where a usual one does not; the one that asks is measured when it is let in.
        let small = inner.appetite.usual().quarter();
        self.look_at(inner, asked, small, now)
    }

    /// Whether its health and its limits let a request of this size go now.
    pub(super) fn look_for(&self, asked: &Asked<'_>, need: Need, now: Moment) -> (Standing, Outlook) {
        let inner = self.inner();
        let tokens = inner.appetite.of(need);
        self.look_at(inner, asked, tokens, now)
    }

    fn look_at(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        asked: &Asked<'_>,
        tokens: Tokens,
        now: Moment,
    ) -> (Standing, Outlook) {
        let standing = inner.health.standing(asked.model, now);
        let told =
            if inner.windows.is_silent() { Outlook::CLEAR } else { inner.windows.outlook(asked.model, tokens, now) };
        drop(inner);
        let rates = self.rest.rates.outlook(&asked.settings.limits, tokens.total(), now);
        (standing, told.and(rates).and(self.rest.quotas.outlook(&asked.settings.quotas, now)))
    }

    /// Only its health, for what no limit counts.
    pub(super) fn standing(&self, model: &str, now: Moment) -> Standing {
        if self.is_troubled() { self.inner().health.standing(model, now) } else { Standing::Open }
    }

    /// Lets a request of an account without limits of its own go where nothing is known that could keep it away.
    pub(super) fn begin_plain(&self) -> Option<Begun> {
        self.is_plain().then(|| {
            self.changes.note(self.number);
            Begun::default()
        })
    }

    /// Lets a request go if health and limits allow it, and takes what it needs of them.
    pub(super) fn begin(&self, asked: &Asked<'_>, need: Need, now: Moment) -> Result<Begun, Refused> {
        let mut inner = self.inner();
        match inner.health.standing(asked.model, now) {
            Standing::Open => {}
            refused @ (Standing::Testing | Standing::Away(_)) => return Err(Refused::Health(refused)),
        }
        let tokens = inner.appetite.of(need);
        if let Some((limit, until)) = inner.windows.outlook(asked.model, tokens, now).blocked {
            return Err(Refused::NoRoom(limit, until));
        }
        let no_room = |(limit, until)| Refused::NoRoom(limit, until);
        let want = Amounts { tokens: tokens.total(), requests: 1, cost_nanos: 0 };
        let reserved = self.rest.quotas.reserve(&asked.settings.quotas, want, now).map_err(no_room)?;
        let taken = self.rest.rates.take(&asked.settings.limits, tokens.total(), now);
        let taken = taken.inspect_err(|_| self.rest.quotas.release(reserved)).map_err(no_room)?;
        let tally = inner.windows.send(asked.model, tokens);
        let probe = inner.health.admit(asked.model, now).unwrap_or_default();
        drop(inner);
        self.changes.note(self.number);
        Ok(Begun { probe, tally, taken, reserved })
    }

    /// Takes what a reply tells of the windows.
    pub(super) fn read(&self, model: &str, told: &Headroom, origin: Origin, now: Moment) {
        if told.is_empty() {
            return;
        }
        let others = self.in_flight().saturating_sub(1);
        let mut inner = self.inner();
        let usual = inner.appetite.usual();
        inner.windows.read(model, told, origin, (others, usual), now);
        self.is_plain.store(false, Ordering::SeqCst);
        drop(inner);
        self.changes.note(self.number);
    }

    /// Sets right what was taken for a request that has ended, and learns from it.
    pub(super) fn settle(&self, asked: &Asked<'_>, (need, begun): (Need, &Begun), took: &Took, sent: Moment) {
        if *took == Took::default() && begun.is_free() {
            return;
        }
        self.rest.rates.settle(&asked.settings.limits, begun.taken, took.tokens.total(), sent);
        let requests = u64::from(took.tokens.total() > 0 || took.cost_nanos > 0);
        let used = Amounts { tokens: took.tokens.total(), requests, cost_nanos: took.cost_nanos };
        self.rest.quotas.settle(begun.reserved, used, sent.unix_millis());
        if requests > 0 {
            self.inner().appetite.learn(need, took.tokens);
        }
    }

    /// Books in one window what was used at a time (milliseconds since 1970) by requests of an earlier process; called in
    /// the order of time.
    pub fn restore(&self, window: terms::Window, used: Amounts, at: u64) {
        self.rest.quotas.begin(window, used, at);
        self.changes.note(self.number);
    }

    /// How the account's quotas stand.
    pub fn quotas(&self, settings: &AccountSettings, now: Moment) -> Vec<budget::Standing> {
        self.rest.quotas.standing(&settings.quotas, now)
    }

    /// Takes the tests back that a request carried out.
    pub(super) fn release(&self, model: &str, probe: Probe) {
        if probe.is_any() {
            self.change(|health| health.release(model, probe));
        }
    }

    /// Whether nothing is known of it that could keep a request away but what is configured.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain.load(Ordering::SeqCst)
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.is_troubled.load(Ordering::SeqCst)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut inner = self.inner();
        let outcome = change(&mut inner.health);
        let is_calm = inner.health.is_calm();
        self.is_troubled.store(!is_calm, Ordering::SeqCst);
        self.is_plain.store(is_calm && inner.windows.is_silent(), Ordering::SeqCst);
        drop(inner);
        self.changes.note(self.number);
        outcome
    }

    /// Remembers a change of state.
    pub(super) fn note(&self, at: Moment, what: &str) {
        self.inner().history.note(at, what.to_owned());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.rest.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
