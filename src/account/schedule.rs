//! Chooses the account that serves a request.
//!
//! Pure: time and randomness are arguments, so every decision can be replayed from a seed.
//! Never waits and never touches the network. Reads each option at most once and allocates nothing.
//!
//! The order: first target of an alias before the next, lower priority before higher, the least load for its weight,
//! then a draw by weight.

use crate::clock::Moment;

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
    /// Which target of an alias it belongs to; lower first.
    pub target: u32,
    /// Lower first.
    pub priority: u32,
    /// Its share among equals.
    pub weight: u32,
    /// Its requests in flight.
    pub in_flight: u32,
    /// Whether it can take the request.
    pub readiness: Readiness,
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

/// Chooses among `options`, which are ordered by target and priority: what comes after the first tier that has an open
/// option is not even looked at.
pub fn select(options: impl IntoIterator<Item = Standing>, draw: u64) -> Choice {
    let mut best: Option<Best> = None;
    let mut is_any_full = false;
    let mut earliest: Option<Moment> = None;
    for (at, option) in options.into_iter().enumerate() {
        if best.as_ref().is_some_and(|best| best.tier != (option.target, option.priority)) {
            break;
        }
        match option.readiness {
            Readiness::Full => is_any_full = true,
            Readiness::Away(until) => earliest = earlier(earliest, until),
            Readiness::Open => match &mut best {
                Some(best) => best.challenge(at, &option, draw),
                None => best = Some(Best::new(at, &option)),
            },
        }
    }
    match best {
        Some(best) => Choice::Pick(best.at),
        None if is_any_full => Choice::Busy { until: earliest },
        None => Choice::Away { until: earliest },
    }
}

/// The best option so far, and the weight of all that are as good: a later equal replaces it with the chance of its
/// share, which gives every equal its share in the end.
struct Best {
    at: usize,
    tier: (u32, u32),
    weight: u32,
    in_flight: u32,
    equals: u64,
}

impl Best {
    fn new(at: usize, option: &Standing) -> Best {
        let weight = option.weight.max(1);
        Best {
            at,
            tier: (option.target, option.priority),
            weight,
            in_flight: option.in_flight,
            equals: u64::from(weight),
        }
    }

    fn challenge(&mut self, at: usize, option: &Standing, draw: u64) {
        let weight = option.weight.max(1);
        // Load per weight, compared without dividing.
        let load = u64::from(option.in_flight) * u64::from(self.weight);
        let best_load = u64::from(self.in_flight) * u64::from(weight);
        if load < best_load {
            *self = Best::new(at, option);
        } else if load == best_load {
            self.equals += u64::from(weight);
            if mix(draw, at as u64) % self.equals < u64::from(weight) {
                *self = Best { equals: self.equals, ..Best::new(at, option) };
            }
        }
    }
}

fn earlier(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.mono < a.mono { b } else { a }),
        (a, b) => a.or(b),
    }
}

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
    use std::time::Duration;

    const OPEN: Standing = Standing { target: 0, priority: 0, weight: 1, in_flight: 0, readiness: Readiness::Open };

    fn away(wait: u64) -> Standing {
        let until = ManualClock::new().now().plus(Duration::from_secs(wait));
        Standing { readiness: Readiness::Away(Some(until)), ..OPEN }
    }

    fn full() -> Standing {
        Standing { readiness: Readiness::Full, ..OPEN }
    }

    fn counts(options: &[Standing], draws: u64) -> Vec<u32> {
        let mut counts = vec![0; options.len()];
        for seed in 0..draws {
            match select(options.iter().copied(), mix(seed, 7)) {
                Choice::Pick(at) => counts[at] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts
    }

    #[test]
    fn a_cooling_account_is_never_chosen() {
        let options = [OPEN, away(30)];
        for seed in 0..200 {
            assert_eq!(select(options, seed), Choice::Pick(0), "seed {seed}");
        }
    }

    #[test]
    fn a_lower_priority_number_is_always_tried_first() {
        let options = [OPEN, Standing { priority: 1, weight: 1000, ..OPEN }];
        assert_eq!(counts(&options, 500), [500, 0]);
        let busy = [Standing { in_flight: 1_000_000, ..OPEN }, Standing { priority: 1, ..OPEN }];
        assert_eq!(counts(&busy, 500), [500, 0], "load does not outweigh priority");
        let full_first = [full(), Standing { priority: 1, ..OPEN }];
        assert_eq!(counts(&full_first, 500), [0, 500], "but a full tier makes way");
    }

    #[test]
    fn all_of_one_target_come_before_the_next() {
        let options = [Standing { priority: 9, ..OPEN }, Standing { target: 1, priority: 0, ..OPEN }];
        assert_eq!(counts(&options, 100), [100, 0]);
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
            assert_eq!(select(options, seed), select(options, seed));
        }
        assert!(counts(&options, 2_000).iter().all(|count| *count > 50), "and every equal has its turn");
    }

    #[test]
    fn busy_and_away_are_told_apart_with_the_earliest_return() {
        let (soon, late) = (away(5), away(50));
        let Readiness::Away(soonest) = soon.readiness else { unreachable!() };
        assert_eq!(select([late, soon], 0), Choice::Away { until: soonest });
        assert_eq!(select([late, full(), soon], 0), Choice::Busy { until: soonest });
        assert_eq!(select([Standing { readiness: Readiness::Away(None), ..OPEN }], 0), Choice::Away { until: None });
        assert_eq!(select([], 0), Choice::Away { until: None });
    }

    #[test]
    fn tiers_behind_the_first_open_one_are_not_looked_at() {
        let options = [OPEN, Standing { priority: 1, ..OPEN }, Standing { priority: 2, ..OPEN }];
        let mut looked = 0;
        select(options.into_iter().inspect(|_| looked += 1), 0);
        assert_eq!(looked, 2, "the second shows that the tier is over");
    }

    proptest! {
        #[test]
        fn the_choice_is_open_and_of_the_first_tier_that_has_an_open_one(
            options in prop::collection::vec((0_u32..3, 0_u32..3, 0_u32..4, 0_u32..4, 0_u8..3), 0..20), draw in any::<u64>()
        ) {
            let mut options: Vec<Standing> = options
                .into_iter()
                .map(|(target, priority, weight, in_flight, state)| {
                    let readiness = match state {
                        0 => Readiness::Open,
                        1 => Readiness::Full,
                        _ => Readiness::Away(None),
                    };
                    Standing { target, priority, weight, in_flight, readiness }
                })
                .collect();
            options.sort_by_key(|o| (o.target, o.priority));
            let first_open = options.iter().find(|o| o.readiness == Readiness::Open);
            match select(options.iter().copied(), draw) {
                Choice::Pick(at) => {
                    prop_assert_eq!(options[at].readiness, Readiness::Open);
                    let first = first_open.unwrap();
                    prop_assert_eq!((options[at].target, options[at].priority), (first.target, first.priority));
                }
                Choice::Busy { .. } => {
                    prop_assert!(first_open.is_none() && options.iter().any(|o| o.readiness == Readiness::Full));
                }
                Choice::Away { .. } => prop_assert!(options.iter().all(|o| matches!(o.readiness, Readiness::Away(_)))),
            }
        }
    }
}
