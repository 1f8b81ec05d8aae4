//! The ways to serve a demand, and how each stands.

use super::{
    appetite::Need,
    board::{Board, Chosen, Fixed, Wish},
    health::Standing,
    live::{Account, Asked, Begun, Live, Refused},
    outlook::Outlook,
    schedule::{self, Choice, Readiness},
    windows::scarcity,
};
use crate::{
    clock::Moment,
    ledger::{Price, PriceTable},
    wire::{Endpoint, WireFormat},
};
use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

/// What a request needs from an account.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The model as the client asked for it; empty where the request leaves the choice to the provider.
    pub model: &'a str,
    /// The call.
    pub endpoint: &'a Endpoint,
}

/// One possible way to serve a demand: an account, and what it calls the model.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The account.
    pub account: Arc<Account>,
    /// The upstream's name for the model.
    pub upstream_model: Arc<str>,
    /// The wire format that the account is spoken to in: the caller's own where it can be.
    pub format: WireFormat,
    /// 0 for the alias' first target, 1 for its second, …; all of one are tried before the next.
    pub target: u32,
    /// Whether the call only counts tokens, so that its outcome says nothing about the account.
    pub is_counting: bool,
}

impl Candidate {
    /// How it stands now, in the tier of that rank.
    pub(super) fn standing(&self, tier: u32, now: Moment) -> schedule::Standing {
        let (settings, live) = (&self.account.settings, &*self.account.live);
        let in_flight = live.in_flight();
        let (health, limits) = match self.is_counting {
            true => (live.standing(&self.upstream_model, now), Outlook::CLEAR),
            false => live.look(&self.asked(), now),
        };
        let readiness = match health {
            Standing::Away(until) => Readiness::Away(until),
            Standing::Open | Standing::Testing if limits.blocked.is_some() => {
                Readiness::Away(limits.blocked.and_then(|(_, until)| until))
            }
            Standing::Testing if !self.is_counting => Readiness::Full,
            Standing::Open | Standing::Testing => match settings.limits.concurrency {
                Some(cap) if in_flight >= cap => Readiness::Full,
                Some(_) | None => Readiness::Open,
            },
        };
        let scarcity = scarcity(limits.share);
        schedule::Standing { tier, scarcity, weight: settings.weight, in_flight, readiness, review: limits.review }
    }

    /// Asks health and limits for leave, and takes what the request needs. A call that only counts takes nothing: it
    /// would answer no test, and providers count it apart.
    pub(super) fn begin(&self, need: Need, now: Moment) -> Result<Begun, Refused> {
        let live = &self.account.live;
        if !self.is_counting {
            return live.begin(&self.asked(), need, now);
        }
        match live.standing(&self.upstream_model, now) {
            Standing::Open | Standing::Testing => Ok(Begun::default()),
            away @ Standing::Away(_) => Err(Refused::Health(away)),
        }
    }

    /// What its model costs there.
    pub fn price<'t>(&self, table: &'t PriceTable) -> Option<&'t Price> {
        table.find(self.account.settings.provider.name(), &self.upstream_model)
    }

    fn is_priced_as(&self, other: &Candidate) -> bool {
        let provider = |candidate: &Candidate| candidate.account.settings.provider.name();
        provider(self) == provider(other) && self.upstream_model == other.upstream_model
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked { settings: &self.account.settings, model: &self.upstream_model }
    }
}

/// The ways to serve a demand, in the order of target and priority, with a board that keeps how they stand.
#[derive(Debug, Default)]
pub struct Candidates {
    list: Box<[Candidate]>,
    board: OnceLock<Board>,
    prices: OnceLock<Box<[Option<Arc<Price>>]>>,
}

/// The prices of so many candidates are kept; those that come first are the likelier ones.
const MOST_PRICED: usize = 64;

impl Candidates {
    /// Candidates in the order of target and priority.
    pub fn new(list: Vec<Candidate>) -> Candidates {
        Candidates { list: list.into(), board: OnceLock::new(), prices: OnceLock::new() }
    }

    /// Chooses among them; `stale` is one whose standing turned out to be another than the board knew.
    pub(super) fn choose(&self, wish: &Wish<'_>, stale: Option<usize>) -> Chosen {
        let Some(first) = self.list.first() else {
            return Chosen { choice: Choice::Away { until: None }, moves: false };
        };
        let board = || Board::new(&self.list, first.account.live.changes().clone(), wish.now);
        self.board.get_or_init(board).choose(&self.list, wish, stale)
    }

    /// What most leases need to know of a candidate that was chosen.
    pub(super) fn fixed(&self, index: usize) -> Option<&Fixed> {
        self.board.get()?.fixed(index)
    }

    /// The prices of the candidates that come first, by the table of their configuration: every request asks twice.
    pub fn prices(&self, table: &PriceTable) -> &[Option<Arc<Price>>] {
        self.prices.get_or_init(|| {
            let mut prices: Vec<Option<Arc<Price>>> = Vec::new();
            let mut before = None;
            for candidate in self.list.iter().take(MOST_PRICED) {
                // Most candidates are accounts of the same provider: those side by side share a price.
                let known = prices.last().filter(|_| before.is_some_and(|other| candidate.is_priced_as(other)));
                prices.push(known.cloned().unwrap_or_else(|| candidate.price(table).cloned().map(Arc::new)));
                before = Some(candidate);
            }
            prices.into()
        })
    }

    /// The first of the candidates that is this account and not among `left_out`.
    pub(super) fn position(&self, live: &Arc<Live>, left_out: &[usize]) -> Option<usize> {
        match self.board.get() {
            Some(board) => board.places(live.number()).find(|at| !left_out.contains(at)),
            None => {
                let is_it =
                    |(at, c): &(usize, &Candidate)| Arc::ptr_eq(&c.account.live, live) && !left_out.contains(at);
                self.list.iter().enumerate().find(is_it).map(|(at, _)| at)
            }
        }
    }
}

impl Deref for Candidates {
    type Target = [Candidate];

    fn deref(&self) -> &[Candidate] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::testing::{account, pool},
        ledger::{Unpriced, price::PriceRule},
    };

    #[test]
    fn each_candidate_has_the_price_of_its_own_provider() {
        let accounts =
            [("a", "anthropic"), ("b", "anthropic"), ("c", "openai")].map(|(name, of)| account(name, of).model("m"));
        let pool = pool(&accounts, &[]);
        let candidates = pool.candidates(&Demand { model: "m", endpoint: &Endpoint::ChatCompletions });
        let price = Price { image: 7, ..Price::default() };
        let rule = PriceRule { models: vec!["m".to_owned()], providers: vec!["anthropic"], price };
        let table = PriceTable::new(vec![vec![rule]], Unpriced::TokensOnly);
        for _ in 0..2 {
            let found: Vec<_> = candidates.prices(&table).iter().map(|price| price.as_ref().map(|p| p.image)).collect();
            let expected: Vec<_> = candidates.iter().map(|c| c.price(&table).map(|p| p.image)).collect();
            assert_eq!(found, expected);
        }
        assert_eq!(candidates.prices(&table).iter().flatten().count(), 2);
    }
}
