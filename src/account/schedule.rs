//! Chooses the account that serves a request.
//!
//! Pure: time and randomness are arguments, so every decision can be replayed from a seed. Never waits and never touches
//! the network. Its invariant: the choice is an open option of the first tier that has one, and in it one of those with the
//! most headroom and the least load for its weight.
//!
//! A tournament: each option is a leaf, and what stands above several holds the best of them, so that the root is the
//! answer (`tree`). One option's change and one choice cost a walk between leaf and root, whatever the number of options,
//! and allocate nothing. The tree also knows the earliest time at which an option changes by itself.

use super::tree::{FULL, NEVER, Node, Tree};
use crate::clock::Moment;
use std::time::Duration;

/// Whether an option can take the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Open,
    /// Not at this moment, but the end of another request will make room.
    Full,
    /// Not before this time, if it is known.
    Away(Option<Moment>),
}

/// What the choice looks at in one option.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The rank of its target and priority; lower first. Below 65,536.
    pub tier: u32,
    /// How little headroom is left, in steps from 0 for plenty.
    pub scarcity: u8,
    /// Its share among equals.
    pub weight: u32,
    /// Its requests in flight.
    pub in_flight: u32,
    /// Whether it can take the request.
    pub readiness: Readiness,
    /// When this may be another standing without anything having happened.
    pub review: Option<Moment>,
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The option at this position.
    Pick(usize),
    /// All that could serve are full; `until` is when one that is away comes back, if one does.
    Busy {
        /// The earliest return.
        until: Option<Moment>,
    },
    /// None can serve; `until` is the earliest return.
    Away {
        /// The earliest return.
        until: Option<Moment>,
    },
}

/// Whether an option may be taken although it is not the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// As good as any: of the tier whose turn it is, neither scarce while another is not, nor far more loaded.
    Fit,
    /// Far more loaded than the best.
    Crowded,
    /// It can be chosen, but there are others of an earlier tier, or it is almost used up and others are not.
    Spared,
    /// At its limit of requests at the same time.
    Full,
    /// It cannot be chosen.
    Unfit,
}

const LOAD_BITS: u32 = 40;
const SCARCITY_BITS: u32 = 8;
/// The last tier: whatever is configured behind it shares it.
const LAST_TIER: u32 = (1 << 16) - 2;
/// A larger weight counts as this one, so that the sum of many does not overflow.
const MOST_WEIGHT: u32 = 1 << 16;

/// What decides among those that can be chosen: tier, then scarcity, then load. Lower is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u64);

impl Rank {
    /// The rank of one that can be chosen.
    pub fn of(standing: &Standing) -> Rank {
        let tier = u64::from(standing.tier.min(LAST_TIER));
        let above = tier << SCARCITY_BITS | u64::from(standing.scarcity);
        Rank(above << LOAD_BITS | load(standing.in_flight, standing.weight))
    }

    /// Its tier.
    pub fn tier(self) -> u64 {
        self.0 >> (LOAD_BITS + SCARCITY_BITS)
    }

    /// Its scarcity.
    pub fn scarcity(self) -> u64 {
        (self.0 >> LOAD_BITS) & ((1 << SCARCITY_BITS) - 1)
    }

    fn load(self) -> u64 {
        self.0 & ((1 << LOAD_BITS) - 1)
    }

    /// Whether it may be taken where another is the best.
    pub fn beside(self, best: Rank) -> Fitness {
        if self.tier() != best.tier() || (self.scarcity() >= ALMOST_USED_UP && self.scarcity() > best.scarcity()) {
            return Fitness::Spared;
        }
        let is_crowded = self.load() > 2 * best.load() + CROWD;
        if is_crowded { Fitness::Crowded } else { Fitness::Fit }
    }
}

/// Load for its weight, in fractions fine enough that equal shares are equal numbers.
fn load(in_flight: u32, weight: u32) -> u64 {
    ((u64::from(in_flight) << 20) / u64::from(weight.max(1))).min((1 << LOAD_BITS) - 1)
}

/// The standings of a fixed number of options.
#[derive(Debug)]
pub struct Schedule {
    tree: Tree,
    began: Moment,
    /// A larger weight counts as this one, so that the sum of all does not overflow.
    most_weight: u32,
}

impl Schedule {
    /// A schedule in which no option can be chosen yet.
    pub fn new(options: usize, began: Moment) -> Schedule {
        let share = u32::MAX / u32::try_from(options).unwrap_or(u32::MAX).max(1);
        Schedule { tree: Tree::new(options), began, most_weight: share.clamp(1, MOST_WEIGHT) }
    }

    /// Says how an option stands.
    pub fn set(&mut self, option: usize, standing: &Standing) {
        let node = match standing.readiness {
            Readiness::Open => {
                let Rank(key) = Rank::of(standing);
                Node { key, due: self.nanos(standing.review), weight: standing.weight.clamp(1, self.most_weight) }
            }
            // The end of a request makes it known again.
            Readiness::Full => Node { key: FULL, ..Node::NONE },
            Readiness::Away(until) => Node { due: self.nanos(until), ..Node::NONE },
        };
        self.tree.put(option, node);
    }

    /// Chooses among all options but the `left_out` ones. Draws among equals by `draw`, which is any number with like chances.
    pub fn choose(&mut self, left_out: &[usize], draw: u64) -> Choice {
        self.without(left_out, |schedule| schedule.best(draw))
    }

    /// Whether an option may be taken although it is not the best.
    pub fn fitness(&mut self, option: usize, left_out: &[usize]) -> Fitness {
        let own = self.tree.leaf(option).filter(|_| !left_out.contains(&option));
        let Some(own) = own else { return Fitness::Unfit };
        if !own.is_open() {
            return if own.key == FULL { Fitness::Full } else { Fitness::Unfit };
        }
        let best = self.without(left_out, |schedule| schedule.tree.root());
        Rank(own.key).beside(Rank(best.key))
    }

    /// Whether there is anything to choose.
    pub fn is_any_open(&self) -> bool {
        self.tree.root().is_open()
    }

    /// An option whose review is due.
    pub fn due(&self, now: Moment) -> Option<usize> {
        self.tree.first_due(self.nanos(Some(now)))
    }

    fn best(&self, draw: u64) -> Choice {
        let root = self.tree.root();
        if root.is_open() {
            return Choice::Pick(self.tree.draw(draw));
        }
        // Where none is open, whatever is due is away.
        let until = (root.due != NEVER).then(|| self.began.plus(Duration::from_nanos(root.due)));
        if root.key == FULL { Choice::Busy { until } } else { Choice::Away { until } }
    }

    /// Does something as if some options could not be chosen. Those that are away still come back.
    fn without<T>(&mut self, left_out: &[usize], act: impl FnOnce(&Schedule) -> T) -> T {
        if left_out.is_empty() {
            return act(self);
        }
        let mut kept = [None; MOST_LEFT_OUT];
        for (option, kept) in left_out.iter().zip(&mut kept) {
            let Some(node) = self.tree.leaf(*option) else { continue };
            *kept = Some((*option, node));
            let due = if node.is_open() { NEVER } else { node.due };
            self.tree.put(*option, Node { due, ..Node::NONE });
        }
        let outcome = act(self);
        // Backwards, so that one that was named twice gets its first standing again.
        for (option, node) in kept.into_iter().rev().flatten() {
            self.tree.put(option, node);
        }
        outcome
    }

    fn nanos(&self, moment: Option<Moment>) -> u64 {
        moment.map_or(NEVER, |moment| u64::try_from(moment.since(self.began).as_nanos()).unwrap_or(NEVER))
    }
}

/// The most options that one choice leaves out.
pub const MOST_LEFT_OUT: usize = 128;

/// Options that a choice leaves out: those of a list, then others, without allocating. What does not fit is forgotten.
#[derive(Clone, Debug)]
pub struct LeftOut {
    options: [usize; MOST_LEFT_OUT],
    count: usize,
}

impl LeftOut {
    /// Those of a list.
    pub fn of(list: &[usize]) -> LeftOut {
        let mut left_out = LeftOut { options: [0; MOST_LEFT_OUT], count: 0 };
        list.iter().for_each(|option| left_out.add(*option));
        left_out
    }

    /// One more.
    pub fn add(&mut self, option: usize) {
        if let Some(place) = self.options.get_mut(self.count) {
            *place = option;
            self.count += 1;
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[usize] {
        self.options.get(..self.count).unwrap_or_default()
    }
}

/// From this scarcity on an option is spared for those who have no other.
const ALMOST_USED_UP: u64 = 7;
/// So much load more than twice the best's is a crowd: four requests in flight at weight 1.
const CROWD: u64 = 4 << 20;

/// Another random number out of `draw`: SplitMix64's finaliser.
pub fn mix(draw: u64, salt: u64) -> u64 {
    let mut x = draw.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use proptest::prelude::*;

    const OPEN: Standing =
        Standing { tier: 0, scarcity: 0, weight: 1, in_flight: 0, readiness: Readiness::Open, review: None };
    const FULL_ONE: Standing = Standing { readiness: Readiness::Full, ..OPEN };

    fn away(wait: u64, now: Moment) -> Standing {
        Standing { readiness: Readiness::Away(Some(now.plus(Duration::from_secs(wait)))), ..OPEN }
    }

    fn schedule(standings: &[Standing], now: Moment) -> Schedule {
        let mut schedule = Schedule::new(standings.len(), now);
        standings.iter().enumerate().for_each(|(at, standing)| schedule.set(at, standing));
        schedule
    }

    fn of(standings: &[Standing]) -> Schedule {
        schedule(standings, ManualClock::new().now())
    }

    fn counts(standings: &[Standing], draws: u64) -> Vec<u32> {
        let (mut schedule, mut counts) = (of(standings), vec![0; standings.len()]);
        for seed in 0..draws {
            match schedule.choose(&[], mix(seed, 7)) {
                Choice::Pick(at) => counts[at] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts
    }

    #[test]
    fn a_cooling_account_is_never_chosen() {
        let now = ManualClock::new().now();
        let mut schedule = schedule(&[OPEN, away(30, now)], now);
        for seed in 0..200 {
            assert_eq!(schedule.choose(&[], seed), Choice::Pick(0), "seed {seed}");
        }
    }

    #[test]
    fn a_lower_priority_number_is_always_tried_first() {
        let options = [OPEN, Standing { tier: 1, weight: 1000, ..OPEN }];
        assert_eq!(counts(&options, 500), [500, 0]);
        let busy = [Standing { in_flight: 1_000_000, scarcity: 8, ..OPEN }, Standing { tier: 1, ..OPEN }];
        assert_eq!(counts(&busy, 500), [500, 0], "neither load nor scarcity outweighs priority");
        let full_first = [FULL_ONE, Standing { tier: 1, ..OPEN }];
        assert_eq!(counts(&full_first, 500), [0, 500], "but a full tier makes way");
    }

    #[test]
    fn the_most_headroom_comes_before_the_least_load() {
        let options = [
            Standing { scarcity: 3, ..OPEN },
            Standing { scarcity: 2, in_flight: 50, ..OPEN },
            Standing { scarcity: 8, ..OPEN },
        ];
        assert_eq!(counts(&options, 100), [0, 100, 0]);
    }

    #[test]
    fn the_least_loaded_for_its_weight_goes_first() {
        let options = [
            Standing { in_flight: 4, weight: 2, ..OPEN },
            Standing { in_flight: 1, weight: 1, ..OPEN },
            Standing { in_flight: 9, weight: 3, ..OPEN },
        ];
        assert_eq!(counts(&options, 100), [0, 100, 0]);
    }

    #[test]
    fn equals_are_drawn_by_weight() {
        let options = [Standing { weight: 1, ..OPEN }, Standing { weight: 2, ..OPEN }, Standing { weight: 5, ..OPEN }];
        let counts = counts(&options, 80_000);
        for (count, share) in counts.iter().zip([10_000, 20_000, 50_000_u32]) {
            assert!(count.abs_diff(share) < 1_000, "{counts:?}");
        }
    }

    #[test]
    fn the_same_draw_gives_the_same_choice() {
        let options = [OPEN; 20];
        for seed in 0..100 {
            assert_eq!(of(&options).choose(&[], seed), of(&options).choose(&[], seed));
        }
        assert!(counts(&options, 2_000).iter().all(|count| *count > 50), "and every equal has its turn");
    }

    #[test]
    fn busy_and_away_are_told_apart_with_the_earliest_return() {
        let now = ManualClock::new().now();
        let soonest = Some(now.plus(Duration::from_secs(5)));
        let (soon, late) = (away(5, now), away(50, now));
        assert_eq!(schedule(&[late, soon], now).choose(&[], 0), Choice::Away { until: soonest });
        assert_eq!(schedule(&[late, FULL_ONE, soon], now).choose(&[], 0), Choice::Busy { until: soonest });
        let lost = Standing { readiness: Readiness::Away(None), ..OPEN };
        assert_eq!(schedule(&[lost], now).choose(&[], 0), Choice::Away { until: None });
        assert_eq!(schedule(&[], now).choose(&[], 0), Choice::Away { until: None });
    }

    #[test]
    fn what_is_left_out_counts_neither_as_open_nor_as_full_and_is_there_again_afterwards() {
        let now = ManualClock::new().now();
        let mut schedule = schedule(&[OPEN, FULL_ONE, away(9, now)], now);
        let back = Some(now.plus(Duration::from_secs(9)));
        assert_eq!(schedule.choose(&[0, 1, 0], 0), Choice::Away { until: back });
        assert_eq!(schedule.choose(&[0, 7], 0), Choice::Busy { until: back });
        assert_eq!(schedule.choose(&[], 0), Choice::Pick(0));
    }

    #[test]
    fn an_option_is_due_when_it_comes_back_or_asked_for_a_review() {
        let clock = ManualClock::new();
        let review = Some(clock.now().plus(Duration::from_secs(2)));
        let mut schedule = schedule(&[Standing { review, ..OPEN }, away(4, clock.now()), OPEN], clock.now());
        assert_eq!(schedule.due(clock.now()), None);
        clock.advance(Duration::from_secs(2));
        assert_eq!(schedule.due(clock.now()), Some(0));
        schedule.set(0, &OPEN);
        assert_eq!(schedule.due(clock.now()), None);
        clock.advance(Duration::from_secs(2));
        assert_eq!(schedule.due(clock.now()), Some(1));
    }

    #[test]
    fn one_that_is_not_the_best_is_fit_within_reason() {
        let with = |standing| of(&[OPEN, standing]).fitness(1, &[]);
        assert_eq!(with(Standing { in_flight: 4, scarcity: 3, ..OPEN }), Fitness::Fit);
        assert_eq!(with(Standing { in_flight: 5, ..OPEN }), Fitness::Crowded);
        assert_eq!(with(Standing { scarcity: 8, ..OPEN }), Fitness::Spared, "nearly used up");
        assert_eq!(with(Standing { tier: 1, ..OPEN }), Fitness::Spared, "of a later tier");
        assert_eq!(with(FULL_ONE), Fitness::Full);
        assert_eq!(with(Standing { readiness: Readiness::Away(None), ..OPEN }), Fitness::Unfit);
        let scarce = Standing { scarcity: 8, ..OPEN };
        assert_eq!(of(&[scarce, scarce]).fitness(1, &[]), Fitness::Fit, "where all are, none is spared");
        assert_eq!(of(&[OPEN, OPEN]).fitness(1, &[1]), Fitness::Unfit);
    }

    /// The choice as it is defined: by looking at all.
    fn defined(standings: &[Standing], left_out: &[usize]) -> Vec<usize> {
        let open = |at: &usize| standings[*at].readiness == Readiness::Open && !left_out.contains(at);
        let key = |s: &Standing| (s.tier, s.scarcity, load(s.in_flight, s.weight));
        let best = (0..standings.len()).filter(open).map(|at| key(&standings[at])).min();
        (0..standings.len()).filter(open).filter(|at| Some(key(&standings[*at])) == best).collect()
    }

    proptest! {
        #[test]
        fn the_tournament_chooses_what_a_look_at_all_would(
            changes in prop::collection::vec((0_usize..200, 0_u32..3, 0_u8..3, 1_u32..4, 0_u32..4, 0_u8..4), 1..60),
            left_out in prop::collection::vec(0_usize..13, 0..4), options in 1_usize..100, draw in any::<u64>()
        ) {
            let now = ManualClock::new().now();
            let closed = Standing { readiness: Readiness::Away(None), ..OPEN };
            let mut standings = vec![closed; options];
            let mut schedule = schedule(&standings, now);
            for (at, tier, scarcity, weight, in_flight, state) in changes {
                let readiness = match state {
                    0 => Readiness::Full,
                    1 => Readiness::Away(Some(now.plus(Duration::from_secs(in_flight.into())))),
                    _ => Readiness::Open,
                };
                let at = at % options;
                standings[at] = Standing { tier, scarcity, weight, in_flight, readiness, review: None };
                schedule.set(at, &standings[at]);
                let best = defined(&standings, &left_out);
                let returns = standings.iter().filter_map(|s| match s.readiness {
                    Readiness::Away(until) => until.map(|until| until.mono),
                    Readiness::Open | Readiness::Full => None,
                });
                let soonest = returns.min();
                let full = (0..options).any(|at| standings[at].readiness == Readiness::Full && !left_out.contains(&at));
                match schedule.choose(&left_out, draw) {
                    Choice::Pick(at) => prop_assert!(best.contains(&at)),
                    Choice::Busy { until } => prop_assert!(best.is_empty() && full && until.map(|u| u.mono) == soonest),
                    Choice::Away { until } => prop_assert!(best.is_empty() && !full && until.map(|u| u.mono) == soonest),
                }
            }
        }
    }
}
