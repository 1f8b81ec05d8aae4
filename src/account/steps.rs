//! How many values fell into each of a few steps: a histogram as a plain value; who keeps it locks it.

/// The most borders between steps.
const MOST_BORDERS: usize = 15;

/// How many values fell at or below each border, and what they sum up to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    borders: &'static [f64],
    counts: [u64; MOST_BORDERS + 1],
    sum: f64,
}

impl Steps {
    /// Nothing yet, with these rising borders; those beyond the fifteenth are not there.
    pub(super) const fn new(borders: &'static [f64]) -> Steps {
        Steps { borders, counts: [0; MOST_BORDERS + 1], sum: 0.0 }
    }

    /// One value more.
    pub(super) fn observe(&mut self, value: f64) {
        let at = self.borders.iter().take(MOST_BORDERS).take_while(|border| value > **border).count();
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum += value;
    }

    /// Each step's upper border with the values in it and not in the one before; the last one has no border.
    pub fn each(&self) -> impl Iterator<Item = (f64, u64)> {
        let borders = self.borders.iter().take(MOST_BORDERS).copied().chain([f64::INFINITY]);
        borders.zip(self.counts)
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they sum up to.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_falls_into_the_step_whose_border_it_does_not_pass() {
        let mut steps = Steps::new(&[1.0, 2.0, 5.0]);
        [1.0, 2.0, 3.0, 5.0, 100.0].into_iter().for_each(|value| steps.observe(value));
        let each: Vec<_> = steps.each().collect();
        assert_eq!(each, [(1.0, 1), (2.0, 1), (5.0, 2), (f64::INFINITY, 1)]);
        assert_eq!((steps.count(), steps.sum()), (5, 111.0));
    }
}
