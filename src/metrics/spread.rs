//! A histogram that is kept where its values arise, and shown when it is asked for.

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// How many values fell into each step, and what they sum up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Each step's upper border, rising, with the values in it alone; the last one is infinite.
    pub steps: Vec<(f64, u64)>,
    /// The sum of all values.
    pub sum: f64,
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
        let spread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = spread.steps.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(spread.sum, count, &spread.steps, None)
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
    fn each_value_counts_below_every_border_from_its_own_step_on() {
        let spread = Spread { steps: vec![(1.0, 1), (2.0, 1), (5.0, 1), (f64::INFINITY, 1)], sum: 106.0 };
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
