//! A thousand little worlds with limits, outages, resets, wrong clocks and quotas. What must hold at every moment is checked
//! by the world itself; here is what must hold of it as a whole.

use crate::{
    dice::Dice,
    traffic::{Ask, End, World},
    upstream::{Counts, Fault, Limit, Style, Upstream},
};

const SEEDS: u64 = 1_000;

fn between(dice: &mut Dice, low: f64, high: f64) -> f64 {
    low + (high - low) * (dice.below(10_000) as f64 / 10_000.0)
}

fn upstream(dice: &mut Dice) -> (Upstream, String) {
    let style = [Style::Anthropic, Style::Openai, Style::Silent][dice.below(3)];
    let mut limits = Vec::new();
    if !dice.once_in(4) {
        let (size, period) = (between(dice, 10.0, 120.0).floor(), [10.0, 30.0, 60.0][dice.below(3)]);
        limits.push(Limit::new(Counts::Requests, size, period, dice.once_in(2)));
    }
    if dice.once_in(2) {
        limits.push(Limit::new(Counts::Tokens, between(dice, 20_000.0, 400_000.0).floor(), 60.0, dice.once_in(2)));
    }
    let mut upstream = Upstream::new(style, limits);
    upstream.skew = if dice.once_in(3) { dice.below(14_400) as i64 - 7_200 } else { 0 };
    upstream.cap = dice.once_in(2).then(|| 1 + dice.below(8) as u32);
    for _ in 0..dice.below(3) {
        let from = between(dice, 0.0, 90.0);
        let fault = [Fault::Broken, Fault::Overloaded, Fault::QuotaGone, Fault::Broken][dice.below(4)];
        upstream.outages.push((from, from + between(dice, 0.5, 30.0), fault));
    }
    if dice.once_in(10) {
        upstream.outages.push((between(dice, 0.0, 60.0), f64::MAX, Fault::KeyRefused));
    }
    let rpm = if dice.once_in(5) { format!("rpm: {}", 10 + dice.below(100)) } else { String::new() };
    (upstream, rpm)
}

fn asks(dice: &mut Dice) -> Vec<Ask> {
    let (mut t, mut asks) = (0.0, Vec::new());
    let (apart, users) = (between(dice, 0.1, 0.8), 1 + dice.below(6) as u64);
    while t < 90.0 && asks.len() < 250 {
        t += between(dice, 0.0, 2.0 * apart);
        let user = dice.below(users as usize) as u64;
        asks.push(Ask {
            at: t,
            user,
            conversation: user * 100 + dice.below(4) as u64,
            input: 50 + dice.below(4_000) as u64,
            output: 10 + dice.below(800) as u64,
            takes: between(dice, 0.2, 6.0),
        });
    }
    asks
}

#[test]
fn in_a_thousand_worlds_what_must_hold_holds() {
    let (mut served, mut refused, mut at_home) = (0_u64, 0_u64, (0, 0));
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let (upstreams, settings): (Vec<_>, Vec<_>) = (0..2 + dice.below(5)).map(|_| upstream(&mut dice)).unzip();
        let mut world = World::new(upstreams, &settings, seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let asks = asks(&mut dice);
            let ends = world.run(asks);
            (ends, world.at_home)
        }));
        let (ends, home) = outcome.unwrap_or_else(|_| panic!("seed {seed}"));
        for end in ends {
            match end {
                // One wait in line for each attempt, and what follows a failure is bounded by the attempts.
                End::Served { waited, .. } | End::Refused { waited } => {
                    assert!(waited <= 30.0 * 6.0 + 1.0, "seed {seed}: waited {waited}");
                }
            }
            match end {
                End::Served { .. } => served += 1,
                End::Refused { .. } => refused += 1,
            }
        }
        at_home = (at_home.0 + home.0, at_home.1 + home.1);
    }
    println!(
        "{SEEDS} seeds: {served} served, {refused} refused; at home {} of {} turns that could be",
        at_home.1, at_home.0
    );
    assert!(served > 10 * refused, "{served} served, {refused} refused");
    // A look at the moment may find room for a small request where the last look, a moment ago, found none.
    assert!(
        at_home.1 * 1_000 >= at_home.0 * 999,
        "a conversation stays on its account while that is well: {at_home:?}"
    );
    assert!(at_home.0 > 50_000, "{at_home:?}");
}

#[test]
fn a_conversation_stays_where_it_is_in_a_calm_world() {
    for seed in 0..50 {
        let mut dice = Dice::new(seed);
        let upstreams = (0..5).map(|_| Upstream::new(Style::Openai, Vec::new())).collect();
        let mut world = World::new(upstreams, &vec![String::new(); 5], seed);
        let mut asks = asks(&mut dice);
        // One turn after the other, as people talk.
        let mut last = std::collections::HashMap::new();
        asks.retain(|ask| last.insert(ask.conversation, ask.at).is_none_or(|before| ask.at - before > 0.2));
        asks.iter_mut().for_each(|ask| ask.takes = 0.1);
        let talk: Vec<_> = asks.iter().map(|ask| ask.conversation).collect();
        let mut homes = std::collections::HashMap::new();
        for (conversation, end) in talk.iter().zip(world.run(asks)) {
            let End::Served { account, .. } = end else { panic!("seed {seed}: refused in a calm world") };
            assert_eq!(*homes.entry(*conversation).or_insert(account), account, "seed {seed}: {conversation} moved");
        }
    }
}
