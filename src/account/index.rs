//! Finds the accounts that serve a model.
//!
//! Built once per configuration. The candidates of a model are worked out at its first request and remembered, so that
//! every later one gets them without allocating and without looking at all accounts. What is remembered is bounded, since
//! clients choose the names.

use super::{
    candidate::{Candidate, Candidates, Demand},
    live::Account,
};
use crate::{
    config::{Config, ModelAlias, ModelRule},
    provider::Call,
    wire::{Endpoint, translate::choose_lane},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

/// A longer model name is nobody's.
const LONGEST_NAME_BYTES: usize = 512;
/// A generation of remembered answers is full with so many names as are configured, or with so many candidates for each of
/// them on average.
const CANDIDATES_PER_NAME: usize = 100;
/// The calls for which the candidates of every known name are worked out beforehand.
const USUAL_CALLS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Messages,
    Endpoint::GenerateContent,
    Endpoint::StreamGenerateContent { sse: true },
];
/// How many names a client is offered for one that nobody knows.
const MOST_SUGGESTIONS: usize = 3;
/// How alike a suggested name must be (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.8;

/// Which account serves which model.
#[derive(Debug, Default)]
pub(super) struct Index {
    aliases: HashMap<String, Arc<ModelAlias>>,
    exact: HashMap<Box<str>, Vec<usize>>,
    prefixes: HashMap<Box<str>, Vec<usize>>,
    everything: Vec<usize>,
    names: Vec<String>,
    remembered: RwLock<Memory>,
}

impl Index {
    /// The index of a configuration, which remembers the candidates of twice so many names at most.
    pub(super) fn new(accounts: &[Arc<Account>], aliases: &[Arc<ModelAlias>], most_names: usize) -> Index {
        let remembered = RwLock::new(Memory { most_names: most_names.max(1), ..Memory::default() });
        let mut index = Index { remembered, ..Index::default() };
        let mut seen = HashSet::new();
        let mut names = aliases.iter().map(|alias| alias.name.clone()).collect::<Vec<_>>();
        for (at, account) in accounts.iter().enumerate() {
            if account.settings.models.is_empty() {
                index.everything.push(at);
            }
            for rule in &account.settings.models {
                match rule {
                    ModelRule::Exact(name) | ModelRule::Alias { name, .. } => {
                        index.exact.entry(name.as_str().into()).or_default().push(at);
                        names.push(name.clone());
                    }
                    ModelRule::Prefix(prefix) => {
                        index.prefixes.entry(prefix.as_str().into()).or_default().push(at);
                    }
                }
            }
        }
        names.retain(|name| seen.insert(name.clone()));
        index.names = names;
        index.aliases = aliases.iter().map(|alias| (alias.name.clone(), alias.clone())).collect();
        index
    }

    /// The ways to serve a demand: the targets in order, within a target by priority, then as configured.
    pub(super) fn candidates(&self, accounts: &[Arc<Account>], demand: &Demand<'_>) -> Arc<Candidates> {
        if demand.model.len() > LONGEST_NAME_BYTES {
            return Arc::default();
        }
        // The read lock ends with this line; the write lock below waits for it.
        let before = self.remembered.read().unwrap_or_else(PoisonError::into_inner).find(demand);
        if let Some((found, is_old)) = before {
            if is_old {
                self.remembered.write().unwrap_or_else(PoisonError::into_inner).put(demand, &found);
            }
            return found;
        }
        let found = self.build(accounts, demand);
        if !found.is_empty() {
            self.remembered.write().unwrap_or_else(PoisonError::into_inner).put(demand, &found);
        }
        found
    }

    /// Works out beforehand what will be asked for: what was remembered before a reload, then the names that the
    /// configuration spells out with the calls that most requests are.
    pub(super) fn prepare(&self, accounts: &[Arc<Account>], before: Option<&Index>) {
        let mut asked = before.map(Index::asked).unwrap_or_default();
        for name in &self.names {
            asked.extend(USUAL_CALLS.map(|endpoint| (name.as_str().into(), endpoint)));
        }
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        for (model, endpoint) in &asked {
            let demand = Demand { model, endpoint };
            if remembered.is_full(accounts.len()) {
                return;
            }
            if remembered.young.find(&demand).is_none() {
                let found = self.build(accounts, &demand);
                if !found.is_empty() {
                    remembered.put(&demand, &found);
                }
            }
        }
    }

    /// What is remembered now.
    fn asked(&self) -> Vec<(Box<str>, Endpoint)> {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let answers = remembered.young.answers.iter().chain(&remembered.old.answers);
        answers.flat_map(|(model, calls)| calls.iter().map(|(call, _)| (model.clone(), call.clone()))).collect()
    }

    /// The names that are known from the configuration: those of our own first, then the accounts'. Models behind a
    /// pattern are not among them.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The known names that look most like this one.
    pub(super) fn nearest(&self, model: &str) -> Vec<String> {
        let asked: String = model.chars().take(LONGEST_NAME_BYTES).flat_map(char::to_lowercase).collect();
        let mut near: Vec<_> = self
            .names
            .iter()
            .map(|name| (strsim::jaro_winkler(&asked, &name.to_lowercase()), name))
            .filter(|(alike, _)| *alike >= ALIKE)
            .collect();
        near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        near.into_iter().take(MOST_SUGGESTIONS).map(|(_, name)| name.clone()).collect()
    }

    fn build(&self, accounts: &[Arc<Account>], demand: &Demand<'_>) -> Arc<Candidates> {
        let mut found = Vec::new();
        match self.aliases.get(demand.model) {
            Some(alias) => {
                for (at, target) in (0..).zip(&alias.targets) {
                    self.collect(accounts, &target.model, target.account.as_deref(), (at, demand.endpoint), &mut found);
                }
                // The same account under the same name twice would only fail twice.
                let mut seen = HashSet::new();
                found.retain(|c| seen.insert((Arc::as_ptr(&c.account), c.upstream_model.clone())));
            }
            None => self.collect(accounts, demand.model, None, (0, demand.endpoint), &mut found),
        }
        found.sort_by_key(|candidate| (candidate.target, candidate.account.settings.priority));
        Arc::new(Candidates::new(found))
    }

    fn collect(
        &self,
        accounts: &[Arc<Account>],
        model: &str,
        only: Option<&str>,
        (target, endpoint): (u32, &Endpoint),
        found: &mut Vec<Candidate>,
    ) {
        let own_name: Arc<str> = model.into();
        let begun = found.len();
        let mut guesses = Vec::new();
        for account in self.serving(accounts, model).into_iter().filter_map(|at| accounts.get(at)) {
            let settings = &account.settings;
            // A request without a model names none to the provider either, and only one of its own format can fill it in.
            let upstream = if model.is_empty() { Some(model) } else { Config::upstream_name(settings, model) };
            let Some(upstream) = upstream else { continue };
            let offers = |there: &Endpoint| {
                let call = Call { endpoint: there, model: upstream, stream: false, version: None, query: None };
                settings.provider.path(&settings.base_url, &call).is_some()
            };
            let Some(format) = choose_lane(endpoint, &settings.formats, offers) else { continue };
            let is_foreign = format != endpoint.format();
            if only.is_some_and(|name| name != settings.name) || (model.is_empty() && is_foreign) {
                continue;
            }
            let upstream_model = if upstream == model { own_name.clone() } else { upstream.into() };
            let is_counting = endpoint.is_counting();
            let candidate = Candidate { account: account.clone(), upstream_model, format, target, is_counting };
            // An account that names no models may well lack this one, the more so where its vendor speaks otherwise.
            let is_guess = settings.models.is_empty() && is_foreign;
            if is_guess { &mut guesses } else { &mut *found }.push(candidate);
        }
        if found.len() == begun {
            found.append(&mut guesses);
        }
    }

    /// The accounts whose rules cover the model, in the configuration's order; all of them where none is named.
    fn serving(&self, accounts: &[Arc<Account>], model: &str) -> Vec<usize> {
        if model.is_empty() {
            return (0..accounts.len()).collect();
        }
        let mut found = self.everything.clone();
        found.extend(self.exact.get(model).into_iter().flatten());
        let beginnings = model.char_indices().map(|(at, _)| at).chain([model.len()]);
        let beginnings = beginnings.filter_map(|end| model.get(..end));
        found.extend(beginnings.filter_map(|prefix| self.prefixes.get(prefix)).flatten());
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// What was worked out before, in two generations: when the young one is full, it becomes the old one, and what of that
/// is asked for again returns to the young one.
#[derive(Debug, Default)]
struct Memory {
    young: Generation,
    old: Generation,
    most_names: usize,
}

/// What is known of one model name, call by call.
type Answers = Vec<(Endpoint, Arc<Candidates>)>;

#[derive(Debug, Default)]
struct Generation {
    answers: HashMap<Box<str>, Answers>,
    candidates: usize,
}

impl Memory {
    /// Whether so many more candidates are too many for the young generation.
    fn is_full(&self, more: usize) -> bool {
        let most_candidates = self.most_names.saturating_mul(CANDIDATES_PER_NAME);
        self.young.answers.len() >= self.most_names || self.young.candidates + more > most_candidates
    }

    /// The answer, and whether it is of the old generation.
    fn find(&self, demand: &Demand<'_>) -> Option<(Arc<Candidates>, bool)> {
        let young = self.young.find(demand).map(|found| (found, false));
        young.or_else(|| self.old.find(demand).map(|found| (found, true)))
    }

    fn put(&mut self, demand: &Demand<'_>, found: &Arc<Candidates>) {
        if self.young.find(demand).is_some() {
            return;
        }
        if self.is_full(found.len()) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.candidates += found.len();
        let answers = self.young.answers.entry(demand.model.into()).or_default();
        answers.push((demand.endpoint.clone(), found.clone()));
    }
}

impl Generation {
    fn find(&self, demand: &Demand<'_>) -> Option<Arc<Candidates>> {
        let answers = self.answers.get(demand.model)?;
        answers.iter().find(|(endpoint, _)| endpoint == demand.endpoint).map(|(_, found)| found.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{account, alias, pool};
    use super::*;

    fn served(pool: &super::super::Pool, model: &str, endpoint: Endpoint) -> Vec<String> {
        let found = pool.candidates(&Demand { model, endpoint: &endpoint });
        found.iter().map(|c| format!("{}:{}@{}", c.account.settings.name, c.upstream_model, c.target)).collect()
    }

    #[test]
    fn exact_names_patterns_aliases_and_accounts_for_everything_all_serve() {
        let pool = pool(
            &[
                account("exact", "openai").model("gpt-5"),
                account("pattern", "openai").model("gpt-*"),
                account("renamed", "openai").renamed("gpt-5", "gpt-5-2026"),
                account("all", "openai"),
                account("other", "openai").model("o3"),
            ],
            &[],
        );
        let found = served(&pool, "gpt-5", Endpoint::ChatCompletions);
        assert_eq!(found, ["exact:gpt-5@0", "pattern:gpt-5@0", "renamed:gpt-5-2026@0", "all:gpt-5@0"]);
        assert_eq!(served(&pool, "gpt", Endpoint::ChatCompletions), ["all:gpt@0"]);
        assert_eq!(served(&pool, &"x".repeat(513), Endpoint::ChatCompletions), [""; 0]);
    }

    #[test]
    fn where_no_model_is_named_every_account_with_the_call_serves_and_is_told_none() {
        let accounts = [account("o", "openai").model("gpt-5"), account("a", "anthropic"), account("d", "deepseek")];
        let pool = pool(&accounts, &[]);
        assert_eq!(served(&pool, "", Endpoint::Moderations), ["o:@0"]);
        assert_eq!(served(&pool, "", Endpoint::Responses), ["o:@0"]);
    }

    #[test]
    fn an_alias_is_its_targets_in_order_and_a_named_account_only_that_one() {
        let accounts = [
            account("c", "openai").model("gpt-*").priority(5),
            account("a", "openai").model("gpt-*"),
            account("d", "openai").model("o3"),
        ];
        let smart = alias("smart", &[(None, "o3"), (Some("c"), "gpt-4.1"), (None, "gpt-4.1")]);
        let pool = pool(&accounts, &[smart]);
        let found = served(&pool, "smart", Endpoint::ChatCompletions);
        assert_eq!(found, ["d:o3@0", "c:gpt-4.1@1", "a:gpt-4.1@2"], "c is not asked the same twice");
    }

    #[test]
    fn within_a_target_lower_priority_comes_first() {
        let accounts =
            [account("last", "openai").priority(9), account("first", "openai").priority(1), account("mid", "openai")];
        let pool = pool(&accounts, &[]);
        assert_eq!(served(&pool, "m", Endpoint::Responses), ["mid:m@0", "first:m@0", "last:m@0"]);
    }

    #[test]
    fn only_accounts_that_offer_the_call_are_candidates_and_guesses_only_where_there_is_nothing_better() {
        let accounts =
            [account("a", "anthropic"), account("o", "openai"), account("g", "gemini"), account("d", "deepseek")];
        let pool = pool(&accounts, &[]);
        assert_eq!(served(&pool, "m", Endpoint::Messages), ["a:m@0"]);
        assert_eq!(served(&pool, "m", Endpoint::GenerateContent), ["g:m@0"]);
        assert_eq!(served(&pool, "m", Endpoint::ChatCompletions), ["o:m@0", "d:m@0"]);
        assert_eq!(served(&pool, "m", Endpoint::Embeddings), ["o:m@0"]);
        assert_eq!(served(&pool, "m", Endpoint::Responses), ["o:m@0"]);
        assert_eq!(served(&pool, "m", Endpoint::Rerank), [""; 0]);
        let pool = super::super::testing::pool(&[account("a", "anthropic"), account("o", "openai")], &[]);
        assert_eq!(served(&pool, "m", Endpoint::GenerateContent), ["a:m@0", "o:m@0"]);
        let named = [account("a", "anthropic"), account("o", "openai").model("m")];
        let pool = super::super::testing::pool(&named, &[]);
        assert_eq!(served(&pool, "m", Endpoint::Messages), ["a:m@0", "o:m@0"]);
    }

    #[test]
    fn names_are_listed_once_and_the_nearest_are_suggested() {
        let accounts = [
            account("a", "anthropic").model("claude-sonnet-4-5").model("claude-opus-4-1"),
            account("b", "anthropic").model("claude-sonnet-4-5").model("claude-*"),
        ];
        let pool = pool(&accounts, &[alias("smart", &[(None, "claude-sonnet-4-5")])]);
        assert_eq!(pool.static_models(|_| true), ["smart", "claude-sonnet-4-5", "claude-opus-4-1"]);
        assert_eq!(pool.static_models(|name| name.starts_with("claude-o")), ["claude-opus-4-1"]);
        assert_eq!(pool.nearest("Claude-sonet-4-5").first().map(String::as_str), Some("claude-sonnet-4-5"));
        assert!(pool.nearest("zzz").is_empty());
    }

    #[test]
    fn a_repeated_question_gets_the_very_same_answer() {
        let pool = pool(&[account("a", "openai")], &[]);
        let ask = |model| pool.candidates(&Demand { model, endpoint: &Endpoint::ChatCompletions });
        assert!(Arc::ptr_eq(&ask("m"), &ask("m")));
        let other = pool.candidates(&Demand { model: "m", endpoint: &Endpoint::Embeddings });
        assert!(!Arc::ptr_eq(&ask("m"), &other));
    }

    #[test]
    fn known_names_and_those_of_before_a_reload_are_worked_out_beforehand() {
        let accounts = [account("a", "openai").model("m"), account("b", "openai")];
        let remembered = |pool: &super::super::Pool, model: &str| {
            let memory = pool.index().remembered.read().unwrap();
            let demand = Demand { model, endpoint: &Endpoint::ChatCompletions };
            memory.young.find(&demand).map(|found| found.len())
        };
        let before = pool(&accounts, &[]);
        assert_eq!(remembered(&before, "m"), Some(2));
        assert_eq!(remembered(&before, "other"), None);
        served(&before, "other", Endpoint::ChatCompletions);
        let after = super::super::testing::reloaded(&accounts[1..], &[], Some(&before));
        assert_eq!((remembered(&after, "other"), remembered(&after, "m")), (Some(1), Some(1)));
    }

    #[test]
    fn what_clients_make_up_is_not_remembered_without_bound() {
        const MOST_NAMES: usize = 50;
        let names: Vec<_> = (0..MOST_NAMES * 5).map(|n| format!("made-up-{n}")).collect();
        let accounts = [account("a", "openai").into_account()];
        let index = Index::new(&accounts, &[], MOST_NAMES);
        let kept = "asked-for-often";
        let demand = |model| Demand { model, endpoint: &Endpoint::ChatCompletions };
        let first = index.candidates(&accounts, &demand(kept));
        for name in &names {
            index.candidates(&accounts, &demand(name));
            assert!(Arc::ptr_eq(&first, &index.candidates(&accounts, &demand(kept))));
        }
        let memory = index.remembered.read().unwrap();
        assert!(memory.young.answers.len() <= MOST_NAMES && memory.old.answers.len() <= MOST_NAMES);
    }
}
