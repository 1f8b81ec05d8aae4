//! Times a piece of work and counts its allocations.
//!
//! Each time is the least of many samples that are long enough for the clock: whatever else runs can only add to it.
//! Growing an allocation counts as one more.

use std::{hint::black_box, time::Instant};

/// Allocations are counted for the thread that makes them; the program's own allocator makes them.
#[global_allocator]
static ALLOCATOR: alloc_counter::AllocCounter<mimalloc::MiMalloc> = alloc_counter::AllocCounter(mimalloc::MiMalloc);

/// What a piece of work costs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Nanoseconds.
    pub(crate) nanos: f64,
    pub(crate) allocations: f64,
}

const SAMPLES: usize = 40;
const SAMPLE_NANOS: f64 = 2e6;

/// The cost of one run of `work`.
pub(crate) fn measure<T>(mut work: impl FnMut() -> T) -> Cost {
    let mut time = |runs: usize| {
        let begun = Instant::now();
        (0..runs).for_each(|_| drop(black_box(work())));
        begun.elapsed().as_nanos() as f64 / runs as f64
    };
    let rough = time(1).min(time(3)).max(1.0);
    let runs = ((SAMPLE_NANOS / rough) as usize).clamp(1, 200_000);
    let nanos = (0..SAMPLES).map(|_| time(runs)).fold(f64::INFINITY, f64::min);
    let ((made, grown, _), _) = alloc_counter::count_alloc(|| black_box(work()));
    Cost { nanos, allocations: (made + grown) as f64 }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
