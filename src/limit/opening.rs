//! What users, keys and accounts had spent before the process started, by the ledger: where their budgets begin.
//!
//! Days, weeks, months and totals are exact. Five hours begin with their first use, which is known to the hour.

use super::{
    budget::Budgets,
    calendar::Zone,
    owner::Whose,
    terms::{Amounts, Window},
};
use crate::{
    clock::Moment,
    ledger::{
        Group, LedgerError, Reader, Spent,
        query::{Filter, Page},
    },
};
use std::{collections::HashMap, time::Duration};

/// How far back the chain of five-hour windows is followed.
const CHAIN: Duration = Duration::from_secs(25 * 60 * 60);

/// What was spent, by owner: in which window, when, how much.
#[derive(Debug, Default)]
pub struct Opening(HashMap<(Group, String), Vec<Use>>);

/// In which window, when (milliseconds since 1970), how much.
pub type Use = (Window, u64, Amounts);

impl Opening {
    /// Reads the ledger.
    pub fn read(reader: &Reader, zone: &Zone, now: Moment) -> Result<Opening, LedgerError> {
        let mut opening = Opening::default();
        let utc = Zone::default();
        for (group, zone) in [(Group::User, zone), (Group::Key, zone), (Group::Account, &utc)] {
            for window in [Window::Day, Window::Week, Window::Month, Window::Total] {
                let since = zone.period(window, now.unix_millis()).start;
                for (name, spent) in reader.spent(group, since)? {
                    opening.0.entry((group, name)).or_default().push((window, now.unix_millis(), amounts(&spent)));
                }
            }
            opening.chain(reader, group, now)?;
        }
        Ok(opening)
    }

    fn chain(&mut self, reader: &Reader, group: Group, now: Moment) -> Result<(), LedgerError> {
        let from = now.unix_millis().saturating_sub(CHAIN.as_millis() as u64);
        let filter = Filter { from: Some(from), ..Filter::default() };
        for line in reader.sums(&filter, &[Group::Hour, group], Page::default())? {
            let [hour, name] = line.groups.as_slice() else { continue };
            let Ok(at) = hour.replace(":00Z", ":00:00Z").parse::<jiff::Timestamp>() else { continue };
            let at = u64::try_from(at.as_millisecond()).unwrap_or(0);
            let (tokens, requests) = (line.sums.tokens(), line.sums.requests);
            let used = Amounts { tokens, requests, cost_nanos: line.sums.cost_nanos };
            self.0.entry((group, name.clone())).or_default().push((Window::FiveHours, at, used));
        }
        Ok(())
    }

    /// Books it with an owner that begins.
    pub fn book(&self, whose: Whose, name: &str, budgets: &Budgets) {
        let group = match whose {
            Whose::User => Group::User,
            Whose::Key => Group::Key,
        };
        for (window, at, used) in self.of(group, name) {
            budgets.begin(*window, *used, *at);
        }
    }
}

impl Opening {
    /// What an account had used; its windows are UTC's.
    pub fn account(&self, name: &str) -> &[Use] {
        self.of(Group::Account, name)
    }

    fn of(&self, group: Group, name: &str) -> &[Use] {
        self.0.get(&(group, name.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }
}

fn amounts(spent: &Spent) -> Amounts {
    Amounts { tokens: spent.tokens, requests: spent.requests, cost_nanos: spent.cost_nanos }
}
