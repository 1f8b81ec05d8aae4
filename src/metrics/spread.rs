//! Shows a histogram that is kept where its values arise.

use crate::telemetry::spread::Spread;
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

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
        let buckets: Vec<_> = spread.buckets().collect();
        encoder.encode_histogram::<NoLabelSet>(spread.sum(), spread.count(), &buckets, None)
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
