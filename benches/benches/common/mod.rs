//! What the benches share.
#![allow(dead_code)] // each bench uses a part

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};

/// Few samples: each is long, and a bench is to be over in a minute.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

/// A group of benches in which each sample has as many iterations as the others.
pub fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
) -> criterion::BenchmarkGroup<'a, criterion::measurement::WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// Whether this is `cargo bench`; `cargo test --benches` only sees whether a bench works.
pub fn measures() -> bool {
    let mut arguments = std::env::args().skip(1);
    arguments.any(|argument| argument == "--bench")
}

/// The median seconds of two things done in turn, so that both meet the same machine.
pub fn in_turn(rounds: usize, mut first: impl FnMut(), mut second: impl FnMut()) -> [f64; 2] {
    first();
    second();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let start = Instant::now();
        first();
        let middle = Instant::now();
        second();
        times[0].push((middle - start).as_secs_f64());
        times[1].push(middle.elapsed().as_secs_f64());
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}
