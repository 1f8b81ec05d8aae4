//! The accounts of one configuration with their live state, which survives a reload.
//!
//! Brings the parts together: `index` finds candidates, `schedule` chooses among them, `health` says who may serve, `lease`
//! and `line` give the places out. Never touches the network. Its invariants: requests in flight never pass an account's cap,
//! an account that is away is never leased, and every lease gives back what it holds when it drops.

use super::{
    affinity::Affinity,
    claim::Claim,
    explain::{Explained, explain},
    health::{Operation, Sign, State},
    index::Index,
    lease::{Lease, Place, lease},
    line::{Line, LineFigures},
    live::Common,
};
pub use super::{
    candidate::{Candidate, Candidates, Demand},
    live::{Account, Live},
};
use crate::{
    clock::Moment,
    config::{self, AccountSettings, Config, Cooldown, ModelAlias},
    provider::{headroom::Headroom, verdict::Verdict},
};
use std::{collections::HashMap, sync::Arc};

/// Why no account can be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// All that could serve are at their concurrency limit, or being tested by another request: waiting helps.
    Busy {
        /// When one that is away comes back, if one does.
        until: Option<Moment>,
    },
    /// All that could serve are cooling, exhausted or suspended (or tried already); `until` is the earliest return.
    Cooling {
        /// When the first one comes back, if that is known.
        until: Option<Moment>,
    },
}

/// All accounts.
#[derive(Debug)]
pub struct Pool {
    accounts: Vec<Arc<Account>>,
    index: Index,
    line: Arc<Line>,
    common: Common,
    affinity: Arc<Affinity>,
    terms: Terms,
}

/// The parts of a configuration that a pool goes by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) cooldown: Cooldown,
    pub(super) affinity: config::Affinity,
    pub(super) bounds: config::Bounds,
}

impl Pool {
    /// The pool of a configuration; live state of accounts with the same name is taken over from `previous`, unless the
    /// key or the address is another: then it is another account in all but name.
    pub fn new(config: &Config, previous: Option<&Pool>, now: Moment) -> Pool {
        let terms = Terms { cooldown: config.cooldown, affinity: config.affinity, bounds: config.bounds };
        Pool::of((&config.accounts, &config.models), terms, previous, now)
    }

    pub(super) fn of(
        (settings, aliases): (&[Arc<AccountSettings>], &[Arc<ModelAlias>]),
        terms: Terms,
        previous: Option<&Pool>,
        now: Moment,
    ) -> Pool {
        let before: HashMap<&str, &Arc<Account>> =
            previous.into_iter().flat_map(Pool::accounts).map(|old| (old.settings.name.as_str(), old)).collect();
        let is_same = |old: &AccountSettings, new: &AccountSettings| {
            let is_owner = old.api_key == new.api_key && old.grant == new.grant;
            is_owner && old.base_url == new.base_url && old.provider.name() == new.provider.name()
        };
        let common =
            previous.map_or_else(|| Common::new(settings.len(), terms.bounds, now), |previous| previous.common.clone());
        let account = |settings: &Arc<AccountSettings>| {
            let old = before.get(settings.name.as_str()).filter(|old| is_same(&old.settings, settings));
            let live = old.map_or_else(|| Arc::new(Live::new(&common)), |old| old.live.clone());
            Arc::new(Account { settings: settings.clone(), live })
        };
        let accounts: Vec<_> = settings.iter().map(account).collect();
        let index = Index::new(&accounts, aliases, terms.bounds.model_names);
        index.prepare(&accounts, previous.map(|previous| &previous.index));
        let line = previous.map_or_else(Arc::default, |previous| previous.line.clone());
        let affinity = previous.map_or_else(Arc::default, |previous| previous.affinity.clone());
        Pool { accounts, index, line, common, affinity, terms }
    }

    /// The ways to serve a demand, unfiltered by state, in the order of target and priority; empty where no account knows
    /// the model or offers the call. A repeated question allocates nothing.
    pub fn candidates(&self, demand: &Demand<'_>) -> Arc<Candidates> {
        self.index.candidates(&self.accounts, demand)
    }

    /// Leases the best candidate that is not among `tried` (indices into `candidates`). Never waits; see
    /// [`Pool::line_up`] for that.
    pub fn lease(
        &self,
        candidates: &Candidates,
        tried: &[usize],
        draw: u64,
        now: Moment,
    ) -> Result<Lease, Unavailable> {
        lease(&self.line, (candidates, tried), (&Claim::default(), None), (draw, now))
    }

    /// A place in the line of those who want one of `candidates` but not those among `tried`.
    pub fn line_up(&self, candidates: &Arc<Candidates>, tried: &[usize], claim: Claim, now: Moment) -> Place {
        let home = self.affinity.home(&claim, &self.terms.affinity, now);
        Place::new(self.line.clone(), candidates.clone(), tried.into(), (claim, home))
    }

    /// How each candidate stands, and why a request with this claim would or would not be served by it now.
    pub fn explain(&self, candidates: &Candidates, tried: &[usize], claim: &Claim, now: Moment) -> Vec<Explained> {
        let mut told = Vec::new();
        self.explain_behind(candidates, (tried, claim), now, &mut told);
        told
    }

    /// The same, behind what `told` holds already.
    pub(super) fn explain_behind(
        &self,
        candidates: &Candidates,
        (tried, claim): (&[usize], &Claim),
        now: Moment,
        told: &mut Vec<Explained>,
    ) {
        let home = self.affinity.home(claim, &self.terms.affinity, now);
        explain(candidates, tried, (claim, home), now, told);
    }

    /// How many requests wait in the line.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Books a failed attempt, and returns the new state if it changed (to be logged once).
    pub fn report_failure(&self, lease: &Lease, verdict: &Verdict, now: Moment) -> Option<String> {
        let candidate = &lease.candidate;
        if candidate.is_counting {
            return None;
        }
        let sign = Sign {
            class: verdict.class,
            told: verdict.retry_after,
            model_only: verdict.model_only,
            is_certain: verdict.is_certain,
            model: &candidate.upstream_model,
            begun: lease.begun,
            draw: lease.draw,
        };
        let change = candidate.account.live.change(|health| health.fail(&sign, &self.terms.cooldown, now))?;
        let change = format!("{change} ({}: {})", verdict.class.name(), verdict.reason);
        candidate.account.live.note(now, &change);
        Some(change)
    }

    /// Does what a person asks to the account of this name; returns its new state, `None` where there is no such account.
    pub fn operate(&self, name: &str, operation: Operation, now: Moment) -> Option<State> {
        let account = self.accounts.iter().find(|account| account.settings.name == name)?;
        let change = account.live.change(|health| health.operate(operation, now));
        account.live.note(now, &format!("{change} ({} by hand)", operation.name()));
        self.line.grant(&account.live, usize::MAX);
        Some(change.state)
    }

    /// Takes what a reply's header tells of the account's limits, be the reply good or bad.
    pub fn report_headers(&self, lease: &Lease, headers: &http::HeaderMap, now: Moment) {
        if !lease.candidate.is_counting {
            let told = Headroom::read(headers, now);
            lease.candidate.account.live.read(&lease.candidate.upstream_model, &told, lease.origin(), now);
        }
    }

    /// Remembers which account made a response that a later request may continue, by the same hash as in its claim.
    pub fn remember_response(&self, lease: &Lease, response: u64, now: Moment) {
        self.affinity.keep(response, lease.candidate.account.live.number(), &self.terms.affinity, now);
    }

    /// How many conversations and responses are remembered.
    pub fn remembered(&self) -> usize {
        self.affinity.len()
    }

    /// How the line stands.
    pub fn line(&self) -> LineFigures {
        self.line.figures()
    }

    /// Books an attempt that brought content, and returns the new state if it changed (to be logged once).
    pub fn report_success(&self, lease: &Lease, now: Moment) -> Option<String> {
        let (candidate, live) = (&lease.candidate, &lease.candidate.account.live);
        if let Some(arrival) = lease.arrival() {
            self.affinity.settle(arrival, live.number(), &self.terms.affinity, now);
        }
        if candidate.is_counting || !live.is_troubled() {
            return None;
        }
        let change = live.change(|health| health.succeed(&candidate.upstream_model, lease.begun, now))?;
        // Those who waited for the test need not wait one by one.
        self.line.grant(live, usize::MAX);
        let change = change.to_string();
        live.note(now, &change);
        Some(change)
    }

    #[cfg(test)]
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Every account, in the configuration's order.
    pub fn accounts(&self) -> &[Arc<Account>] {
        &self.accounts
    }

    /// Whether any account would take a request now, or once it has a free place.
    pub fn can_serve(&self, now: Moment) -> bool {
        self.accounts.iter().any(|account| {
            !account.live.is_troubled() || matches!(account.live.state(now), State::Ready | State::Probing)
        })
    }

    /// The known model names that look most like this one, best first; for "did you mean".
    pub fn nearest(&self, model: &str) -> Vec<String> {
        self.index.nearest(model)
    }

    /// The allowed ones of the model names that the configuration spells out: its own first, then the accounts'. What is
    /// behind a pattern is not among them.
    pub fn static_models(&self, allowed: impl Fn(&str) -> bool) -> Vec<&str> {
        self.index.names().iter().map(String::as_str).filter(|name| allowed(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        health::Standing,
        testing::{account, alias, pool, reloaded},
    };
    use super::*;
    use crate::{
        clock::ManualClock,
        provider::verdict::{FailureClass, judge},
        wire::Endpoint,
    };
    use proptest::prelude::*;
    use std::{collections::HashSet, time::Duration};

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn messages(pool: &Pool, model: &str) -> Arc<Candidates> {
        pool.candidates(&Demand { model, endpoint: &Endpoint::Messages })
    }

    fn name(lease: &Lease) -> &str {
        &lease.candidate.account.settings.name
    }

    fn failed(class: FailureClass, told: Option<u64>) -> Verdict {
        Verdict { class, retry_after: told.map(secs), ..Verdict::fault("test") }
    }

    #[test]
    fn a_short_429_takes_the_account_out_until_its_time_and_not_longer() {
        let clock = ManualClock::new();
        let pool = pool(&[account("a", "anthropic"), account("b", "anthropic").priority(1)], &[]);
        let candidates = messages(&pool, "m");
        let first = pool.lease(&candidates, &[], 0, clock.now()).unwrap();
        assert_eq!(name(&first), "a");
        let headers = [(http::header::RETRY_AFTER, http::HeaderValue::from_static("2"))].into_iter().collect();
        let verdict = judge(429, &headers, None, clock.now());
        let change = pool.report_failure(&first, &verdict, clock.now()).unwrap();
        assert_eq!(change, "cooling for 2.0s (rate: 429)");
        for (pass, expected) in [(0, "b"), (1, "b"), (1, "a")] {
            clock.advance(secs(pass));
            assert_eq!(name(&pool.lease(&candidates, &[], 0, clock.now()).unwrap()), expected);
        }
    }

    #[test]
    fn a_failed_fallback_is_cooled_like_any_other() {
        let clock = ManualClock::new();
        let accounts = [account("a", "anthropic").model("m1"), account("b", "anthropic").model("m2")];
        let pool = pool(&accounts, &[alias("smart", &[(None, "m1"), (None, "m2")])]);
        let candidates = messages(&pool, "smart");
        let fallback = pool.lease(&candidates, &[0], 0, clock.now()).unwrap();
        assert_eq!((name(&fallback), fallback.index), ("b", 1));
        pool.report_failure(&fallback, &failed(FailureClass::Rate, Some(9)), clock.now());
        let Err(Unavailable::Cooling { until: Some(until) }) = pool.lease(&candidates, &[0], 0, clock.now()) else {
            panic!("the fallback was leased again");
        };
        assert_eq!(until.since(clock.now()), secs(9));
    }

    #[test]
    fn an_overload_of_one_model_leaves_the_account_to_the_others() {
        let clock = ManualClock::new();
        let pool = pool(&[account("a", "anthropic")], &[]);
        let lease = pool.lease(&messages(&pool, "big"), &[], 0, clock.now()).unwrap();
        let change = pool.report_failure(&lease, &judge(529, &http::HeaderMap::new(), None, clock.now()), clock.now());
        assert!(change.unwrap().starts_with("model big cooling"));
        assert!(pool.lease(&messages(&pool, "big"), &[], 0, clock.now()).is_err());
        assert!(pool.lease(&messages(&pool, "small"), &[], 0, clock.now()).is_ok());
        assert!(pool.can_serve(clock.now()));
    }

    #[test]
    fn counting_tokens_never_touches_the_account() {
        let clock = ManualClock::new();
        let pool = pool(&[account("a", "anthropic")], &[]);
        let counting = pool.candidates(&Demand { model: "m", endpoint: &Endpoint::CountTokens });
        for class in [FailureClass::Rate, FailureClass::AuthDead, FailureClass::MoneyGone, FailureClass::Fault] {
            for _ in 0..5 {
                let lease = pool.lease(&counting, &[], 0, clock.now()).unwrap();
                assert_eq!(pool.report_failure(&lease, &failed(class, Some(600)), clock.now()), None);
            }
        }
        let lease = pool.lease(&messages(&pool, "m"), &[], 0, clock.now()).unwrap();
        pool.report_failure(&lease, &failed(FailureClass::Rate, None), clock.now());
        clock.advance(secs(1));
        let count = pool.lease(&counting, &[], 0, clock.now()).unwrap();
        assert_eq!(pool.report_success(&count, clock.now()), None, "nor is it a test of one that is coming back");
        assert!(pool.lease(&messages(&pool, "m"), &[], 0, clock.now()).is_ok(), "and it takes no test's place");
    }

    #[test]
    fn priority_is_kept_and_equals_share_by_weight() {
        let now = ManualClock::new().now();
        let accounts = [
            account("a", "anthropic").weight(3),
            account("b", "anthropic").weight(1),
            account("later", "anthropic").weight(100).priority(1),
        ];
        let pool = pool(&accounts, &[]);
        let candidates = messages(&pool, "m");
        let mut counts = HashMap::new();
        for draw in 0..4_000 {
            let lease = pool.lease(&candidates, &[], draw, now).unwrap();
            *counts.entry(name(&lease).to_owned()).or_insert(0_u32) += 1;
        }
        assert!(counts["a"].abs_diff(3_000) < 150 && counts["b"].abs_diff(1_000) < 150, "{counts:?}");
        let held: Vec<_> = (0..400).map(|draw| pool.lease(&candidates, &[], draw, now).unwrap()).collect();
        let on_a = held.iter().filter(|lease| name(lease) == "a").count();
        assert_eq!(on_a, 300, "what is in flight is shared by weight exactly");
    }

    #[test]
    fn a_full_account_makes_way_and_a_full_pool_is_busy() {
        let now = ManualClock::new().now();
        let accounts = [account("a", "anthropic").cap(1), account("b", "anthropic").priority(1).cap(2)];
        let pool = pool(&accounts, &[]);
        let candidates = messages(&pool, "m");
        let held: Vec<_> = (0..3).map(|draw| pool.lease(&candidates, &[], draw, now).unwrap()).collect();
        assert_eq!(held.iter().map(name).collect::<Vec<_>>(), ["a", "b", "b"]);
        assert!(matches!(pool.lease(&candidates, &[], 0, now), Err(Unavailable::Busy { until: None })));
        assert!(pool.can_serve(now), "busy is not sick");
        drop(held);
        assert!(pool.accounts().iter().all(|account| account.live.in_flight() == 0));
    }

    #[test]
    fn a_lease_that_dies_in_a_panic_gives_its_place_back() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("a", "anthropic").cap(1)], &[]);
        let candidates = messages(&pool, "m");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _lease = pool.lease(&candidates, &[], 0, now).unwrap();
            panic!("a filter fails");
        }));
        assert!(outcome.is_err());
        assert!(pool.lease(&candidates, &[], 0, now).is_ok());
    }

    #[test]
    fn tried_candidates_are_left_out_and_do_not_count_as_busy() {
        let now = ManualClock::new().now();
        let pool = pool(&[account("a", "anthropic").cap(1), account("b", "anthropic")], &[]);
        let candidates = messages(&pool, "m");
        for draw in 0..50 {
            assert_eq!(name(&pool.lease(&candidates, &[0], draw, now).unwrap()), "b");
        }
        let all_tried = pool.lease(&candidates, &[0, 1], 0, now);
        assert!(matches!(all_tried, Err(Unavailable::Cooling { until: None })));
    }

    #[test]
    fn a_reload_keeps_state_by_name_and_forgets_it_with_another_key() {
        let clock = ManualClock::new();
        let accounts = [account("a", "anthropic"), account("b", "anthropic"), account("c", "anthropic")];
        let old = pool(&accounts, &[]);
        let candidates = messages(&old, "m");
        let leases: Vec<_> = [[1, 2], [0, 2], [0, 1]]
            .iter()
            .map(|others| old.lease(&candidates, others, 0, clock.now()).unwrap())
            .collect();
        for lease in &leases {
            old.report_failure(lease, &failed(FailureClass::Rate, Some(60)), clock.now());
        }
        assert!(!old.can_serve(clock.now()));
        let changed =
            [account("a", "anthropic").priority(7), account("b", "anthropic").key("new"), account("d", "anthropic")];
        let new = reloaded(&changed, &[], Some(&old));
        let states: Vec<_> = new.accounts().iter().map(|account| account.live.state(clock.now()).name()).collect();
        assert_eq!(states, ["cooling", "ready", "ready"]);
        assert_eq!(new.accounts()[0].live.in_flight(), 1, "the lease of before still counts");
        drop(leases);
        assert_eq!(new.accounts()[0].live.in_flight(), 0);
    }

    #[test]
    fn an_empty_pool_serves_nobody() {
        let pool = pool(&[], &[]);
        assert!(!pool.can_serve(ManualClock::new().now()));
        assert!(messages(&pool, "m").is_empty());
    }

    #[test]
    fn many_threads_never_pass_a_cap_and_return_every_lease() {
        let clock = ManualClock::new();
        let accounts =
            [account("a", "anthropic").cap(3), account("b", "anthropic").cap(1), account("c", "anthropic").cap(2)];
        let pool = pool(&accounts, &[]);
        let candidates = messages(&pool, "m");
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (pool, candidates, clock) = (&pool, &candidates, &clock);
                scope.spawn(move || {
                    for round in 0..3_000_u64 {
                        let Ok(lease) = pool.lease(candidates, &[], thread << 32 | round, clock.now()) else {
                            continue;
                        };
                        let account = &lease.candidate.account;
                        assert!(account.live.in_flight() <= account.settings.limits.concurrency.unwrap());
                        if round % 7 == 0 {
                            pool.report_failure(&lease, &failed(FailureClass::Fault, None), clock.now());
                        } else {
                            pool.report_success(&lease, clock.now());
                        }
                        clock.advance(Duration::from_millis(3));
                    }
                });
            }
        });
        assert!(pool.accounts().iter().all(|account| account.live.in_flight() == 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Lease(u64, Vec<usize>),
        Fail(usize, FailureClass, Option<u64>, bool),
        Succeed(usize),
        Drop(usize),
        Pass(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let class = prop_oneof![
            Just(FailureClass::Rate),
            Just(FailureClass::Overload),
            Just(FailureClass::MoneyGone),
            Just(FailureClass::AuthDead),
            Just(FailureClass::Fault),
            Just(FailureClass::NotHere),
            Just(FailureClass::Client),
        ];
        prop_oneof![
            6 => (any::<u64>(), prop::collection::vec(0_usize..4, 0..3)).prop_map(|(draw, tried)| Step::Lease(draw, tried)),
            3 => (any::<usize>(), class, prop::option::of(0_u64..100), any::<bool>())
                .prop_map(|(at, class, told, model_only)| Step::Fail(at, class, told, model_only)),
            2 => any::<usize>().prop_map(Step::Succeed),
            3 => any::<usize>().prop_map(Step::Drop),
            2 => (0_u64..30_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_caps_hold_and_who_is_away_is_not_leased(steps in prop::collection::vec(any_step(), 1..120)) {
            let clock = ManualClock::new();
            let accounts = [
                account("a", "anthropic").cap(2),
                account("b", "anthropic").cap(1).weight(3),
                account("c", "anthropic").priority(1),
                account("d", "anthropic").priority(1).cap(4),
            ];
            let pool = pool(&accounts, &[]);
            let candidates = messages(&pool, "m");
            let mut held: Vec<Lease> = Vec::new();
            for step in steps {
                let now = clock.now();
                match step {
                    Step::Lease(draw, tried) => {
                        let standings: Vec<_> = candidates.iter().map(|c| c.account.live.standing(&c.upstream_model, now)).collect();
                        if let Ok(lease) = pool.lease(&candidates, &tried, draw, now) {
                            prop_assert_eq!(standings[lease.index], Standing::Open);
                            prop_assert!(!tried.contains(&lease.index));
                            held.push(lease);
                        }
                    }
                    Step::Fail(at, class, told, model_only) if !held.is_empty() => {
                        let verdict = Verdict { model_only, ..failed(class, told) };
                        pool.report_failure(&held[at % held.len()], &verdict, now);
                    }
                    Step::Succeed(at) if !held.is_empty() => drop(pool.report_success(&held[at % held.len()], now)),
                    Step::Drop(at) if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                    Step::Pass(millis) => clock.advance(Duration::from_millis(millis)),
                    Step::Fail(..) | Step::Succeed(_) | Step::Drop(_) => {}
                }
                for (at, candidate) in candidates.iter().enumerate() {
                    let out = held.iter().filter(|lease| lease.index == at).count() as u32;
                    prop_assert_eq!(candidate.account.live.in_flight(), out);
                    prop_assert!(candidate.account.settings.limits.concurrency.is_none_or(|cap| out <= cap));
                }
            }
            drop(held);
            prop_assert!(candidates.iter().all(|c| c.account.live.in_flight() == 0));
            // Nothing leaks: after any history, an account that no person must help comes back.
            clock.advance(secs(4_000));
            let alive = candidates.iter().filter(|c| c.account.live.state(clock.now()) != State::Suspended);
            let back: HashSet<_> = alive.map(|c| c.account.settings.name.as_str()).collect();
            for (at, candidate) in candidates.iter().enumerate() {
                let others: Vec<_> = (0..4).filter(|other| *other != at).collect();
                let lease = pool.lease(&candidates, &others, 0, clock.now());
                prop_assert_eq!(lease.is_ok(), back.contains(candidate.account.settings.name.as_str()));
            }
        }
    }
}
