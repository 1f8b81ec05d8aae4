//! How values are spread: a histogram that is kept where they arise. A plain value: who keeps it locks it.

/// The most borders that a histogram has.
const MOST_BORDERS: usize = 15;

/// How many values fell at or below each border, and what they sum up to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    borders: &'static [f64],
    /// Those between a border and the one before it; the last of all are beyond every border.
    counts: [u64; MOST_BORDERS + 1],
    sum: f64,
}

impl Spread {
    /// Nothing yet, with these rising borders; those beyond the fifteenth are not there.
    pub const fn new(borders: &'static [f64]) -> Spread {
        Spread { borders, counts: [0; MOST_BORDERS + 1], sum: 0.0 }
    }

    /// One value more.
    pub fn observe(&mut self, value: f64) {
        let borders = self.borders.iter().take(MOST_BORDERS);
        let at = borders.take_while(|border| value > **border).count();
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum += value;
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each border with how many values fell between it and the one before it; the last border is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        self.borders.iter().take(MOST_BORDERS).copied().chain([f64::INFINITY]).zip(self.counts)
    }

    /// What they sum up to.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

impl Default for Spread {
    fn default() -> Spread {
        Spread::new(&[])
    }
}
