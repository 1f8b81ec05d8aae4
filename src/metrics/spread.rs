//! A histogram that is kept where its values arise, and shown when it is asked for. A plain value: who keeps it locks it.

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

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

/// A histogram as it stood when it was set last.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<Mutex<Spread>>);

impl Shown {
    pub(super) fn set(&self, spread: Spread) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = spread;
    }
}

impl EncodeMetric for Shown {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let spread = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let borders = spread.borders.iter().take(MOST_BORDERS).copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = borders.zip(spread.counts).collect();
        encoder.encode_histogram::<NoLabelSet>(spread.sum, spread.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::prometheus_text, registry::Registry};

    #[test]
    fn each_value_counts_below_every_border_that_it_does_not_pass() {
        let mut spread = Spread::new(&[1.0, 2.0, 5.0]);
        [1.0, 2.0, 3.0, 100.0].into_iter().for_each(|value| spread.observe(value));
        let (shown, mut registry, mut text) = (Shown::default(), Registry::default(), String::new());
        registry.register("x", "y", shown.clone());
        shown.set(spread);
        prometheus_text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE x histogram",
            r#"x_bucket{le="1"} 1"#,
            r#"x_bucket{le="2"} 2"#,
            r#"x_bucket{le="5"} 3"#,
            r#"x_bucket{le="+Inf"} 4"#,
            "x_sum 106.0",
            "x_count 4",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} in\n{text}");
        }
    }
}
