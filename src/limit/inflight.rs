//! Counts what is in flight, and never lets it pass a cap.
//!
//! Lock-free. Every successful [`InFlight::enter`] is answered by exactly one [`InFlight::leave`]; the guard that owns
//! the place (a lease, a permit) calls it when it drops, so a panic gives the place back too.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many are inside.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU32);

impl InFlight {
    /// Takes a place if fewer than `cap` are taken; without a cap, always.
    #[must_use]
    pub fn enter(&self, cap: Option<u32>) -> bool {
        let cap = cap.unwrap_or(u32::MAX);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |inside| (inside < cap).then(|| inside + 1)).is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        let before = self.0.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "a place was given back twice");
    }

    /// How many are inside now.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn the_cap_is_the_last_place_that_is_given() {
        let places = InFlight::default();
        assert!(places.enter(Some(2)) && places.enter(Some(2)));
        assert!(!places.enter(Some(2)));
        places.leave();
        assert!(places.enter(Some(2)));
        assert_eq!(places.count(), 2);
    }

    #[test]
    fn a_cap_of_zero_lets_nobody_in_and_no_cap_lets_all_in() {
        let places = InFlight::default();
        assert!(!places.enter(Some(0)));
        assert!((0..1000).all(|_| places.enter(None)));
    }

    #[test]
    fn many_threads_never_pass_the_cap_together() {
        let (places, broken) = (InFlight::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        if places.enter(Some(3)) {
                            broken.fetch_or(places.count() > 3, Ordering::Relaxed);
                            places.leave();
                        }
                    }
                });
            }
        });
        assert!(!broken.into_inner());
        assert_eq!(places.count(), 0);
    }
}
