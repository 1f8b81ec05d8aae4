//! How many requests without a good key came from an address, so that guessing and flooding end at a bound.
//!
//! Addresses are anybody's choice and without number, so only an estimate is kept: two sketches of fixed size, of this
//! minute and the one before, weighed by how much of it is still within the last sixty seconds. It can be too high where
//! addresses collide; callers with a good key are never asked. An IPv6 caller has a whole /64, which counts as one.

use crate::clock::Moment;
use pingora_limits::estimator::Estimator;
use std::{
    net::IpAddr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

const MINUTE_MILLIS: u64 = 60_000;
const HASHES: usize = 4;
const SLOTS_PER_ADDRESS: usize = 8;

/// The floods of the last minute. Takes no memory before the first request without a good key.
pub struct Floods {
    slots: usize,
    began: Moment,
    minutes: OnceLock<[Estimator; 2]>,
    /// The number of the minute that is counted now, which the sketches take in turn.
    minute: AtomicU64,
}

impl Floods {
    /// Nothing counted yet; sized for this many addresses within a minute.
    pub fn new(addresses: usize, now: Moment) -> Floods {
        let slots = addresses.clamp(64, 1 << 20).saturating_mul(SLOTS_PER_ADDRESS).next_power_of_two();
        Floods { slots, began: now, minutes: OnceLock::new(), minute: AtomicU64::new(0) }
    }

    /// Counts one more request from this address; whether it is within `limit` per minute.
    pub fn count(&self, address: IpAddr, limit: u64, now: Moment) -> bool {
        let millis = u64::try_from(now.since(self.began).as_millis()).unwrap_or(u64::MAX);
        let (minute, into) = (millis / MINUTE_MILLIS, millis % MINUTE_MILLIS);
        let [even, odd] = self.minutes.get_or_init(|| [0, 1].map(|_| Estimator::new(HASHES, self.slots)));
        let (current, before) = if minute.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let counted = self.minute.swap(minute, Ordering::AcqRel);
        if counted != minute {
            current.reset();
            if counted + 1 != minute {
                before.reset();
            }
        }
        let key = network(address);
        let this = u64::try_from(current.incr(key, 1)).unwrap_or(u64::MAX);
        let last = u64::try_from(before.get(key)).unwrap_or(0);
        this.saturating_add(last.saturating_mul(MINUTE_MILLIS - into) / MINUTE_MILLIS) <= limit
    }
}

impl std::fmt::Debug for Floods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Floods").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// What one caller can choose its address from.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::Duration;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_in_a_minute_and_others_are_not_its_affair() {
        let clock = ManualClock::new();
        let floods = Floods::new(10_000, clock.now());
        let passed = (0..1_000).filter(|_| floods.count(address("10.0.0.1"), 60, clock.now())).count();
        assert_eq!(passed, 60);
        assert!(floods.count(address("10.0.0.2"), 60, clock.now()));
        clock.advance(Duration::from_secs(180));
        assert!(floods.count(address("10.0.0.1"), 60, clock.now()));
    }

    #[test]
    fn no_burst_passes_at_the_border_of_two_minutes() {
        let clock = ManualClock::new();
        let floods = Floods::new(64, clock.now());
        clock.advance(Duration::from_secs(59));
        assert!((0..60).all(|_| floods.count(address("10.0.0.1"), 60, clock.now())));
        clock.advance(Duration::from_secs(2));
        let passed = (0..60).filter(|_| floods.count(address("10.0.0.1"), 60, clock.now())).count();
        assert!(passed <= 1, "{passed}");
    }

    #[test]
    fn an_ipv6_caller_cannot_help_itself_to_its_whole_network() {
        let clock = ManualClock::new();
        let floods = Floods::new(64, clock.now());
        let from = |host: u16| IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, host));
        let passed = (0..1_000).filter(|host| floods.count(from(*host), 30, clock.now())).count();
        assert_eq!(passed, 30);
        assert!(floods.count(address("2001:db8:1:3::1"), 30, clock.now()));
        assert!(floods.count(address("::ffff:10.1.1.1"), 30, clock.now()));
    }

    #[test]
    fn ten_thousand_addresses_leave_a_quiet_one_alone() {
        let clock = ManualClock::new();
        let floods = Floods::new(10_000, clock.now());
        for host in 0..10_000_u32 {
            assert!((0..20).all(|_| floods.count(IpAddr::V4((0x0a00_0000 + host).into()), 60, clock.now())));
        }
        assert!(floods.count(address("192.0.2.1"), 60, clock.now()));
    }
}
