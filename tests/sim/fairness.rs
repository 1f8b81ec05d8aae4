//! Who waits is served in fair turns, and everybody is served.

use crate::{
    dice::Dice,
    traffic::{Ask, End, World},
    upstream::{Style, Upstream},
};

fn world(cap: u32, seed: u64) -> World {
    let mut upstream = Upstream::new(Style::Silent, Vec::new());
    upstream.cap = Some(cap);
    let mut world = World::new(vec![upstream], &[String::new()], seed);
    world.timeout = 1_000.0;
    world
}

fn ask(at: f64, user: u64, tokens: u64, takes: f64) -> Ask {
    Ask { at, user, conversation: user, input: tokens, output: tokens / 20, takes }
}

/// How many of a user's requests were served, and how long they waited on average.
fn of_user(asks: &[Ask], ends: &[End], user: u64) -> (usize, f64) {
    let mine = asks.iter().zip(ends).filter(|(ask, _)| ask.user == user);
    let waits: Vec<f64> = mine
        .filter_map(|(_, end)| match end {
            End::Served { waited, .. } => Some(*waited),
            End::Refused { .. } => None,
        })
        .collect();
    (waits.len(), waits.iter().sum::<f64>() / waits.len().max(1) as f64)
}

#[test]
fn a_crowd_of_one_user_does_not_keep_another_waiting() {
    // Two hundred at once of the first user; one now and then of the second.
    let crowd = (0..200).map(|n| ask(0.001 * n as f64, 1, 2_000, 1.0));
    let now_and_then = (0..20).map(|n| ask(1.0 + n as f64 * 2.0, 2, 2_000, 1.0));
    let asks: Vec<_> = crowd.chain(now_and_then).collect();
    let ends = world(4, 1).run(asks.clone());
    let ((many, long), (few, short)) = (of_user(&asks, &ends, 1), of_user(&asks, &ends, 2));
    assert_eq!((many, few), (200, 20), "nobody starves");
    assert!(short < 2.0 && long > 15.0, "the second user waited {short:.1} s, the first {long:.1} s");
}

#[test]
fn turns_are_counted_in_tokens_and_not_in_requests() {
    // The first user's requests are eight times as large. Both always have some in line.
    let mut dice = Dice::new(7);
    let mut asks = Vec::new();
    for n in 0..400 {
        let at = n as f64 * 0.001;
        asks.push(ask(at, 1, 16_000, 1.0));
        asks.push(ask(at, 2, 2_000, 1.0));
    }
    let mut world = world(4, dice.draw());
    world.timeout = 40.0;
    let ends = world.run(asks.clone());
    let tokens = |user, each: usize| of_user(&asks, &ends, user).0 * each;
    let (large, small) = (tokens(1, 16_000) as f64, tokens(2, 2_000) as f64);
    let ratio = large / small;
    assert!((0.75..1.35).contains(&ratio), "{large} tokens against {small}");
}

#[test]
fn within_one_user_who_came_first_is_served_first() {
    let asks: Vec<_> = (0..50).map(|n| ask(0.01 * n as f64, 1, 500 + 100 * (n % 7), 0.5)).collect();
    let ends = world(1, 3).run(asks);
    let waits: Vec<f64> = ends
        .iter()
        .map(|end| match end {
            End::Served { waited, .. } => *waited,
            End::Refused { .. } => panic!("refused"),
        })
        .collect();
    assert!(waits.windows(2).all(|two| two[1] > two[0]), "{waits:?}");
}
