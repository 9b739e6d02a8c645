//! Teacher outputs that are kept: the same numbers as without, one call of the teacher for
//! each batch, and what is refused.

mod common;

#[path = "cache_cases/limits.rs"]
mod limits;
#[path = "cache_cases/numbers.rs"]
mod numbers;

use common::tiny::{Counted, Net};
use textbrewer::{
    DataLoader, DistillationConfig, Distiller, IntermediateMatch, MemorySink, ProjectionSpec,
    Result, Run, Sgd, TrainSummary,
};

#[derive(Debug, Clone, Copy)]
enum Length {
    Epochs(u64),
    Steps(u64),
}
use Length::{Epochs, Steps};

/// Tag, value and step of everything that was logged.
type Scalars = Vec<(String, f64, u64)>;

/// A run with momentum, so that every step leaves its trace in the final weights.
fn run<D: Distiller>(
    distiller: &mut D,
    loader: &mut dyn DataLoader<Batch = D::Batch>,
    length: Length,
    change: impl for<'a> FnOnce(Run<'a, D>) -> Run<'a, D>,
) -> Result<(TrainSummary, Scalars)> {
    let sink = MemorySink::new();
    let run = distiller.train(loader).log_sink(sink.clone());
    let run = change(run.optimizer(Sgd::new(0.3).momentum(0.9)));
    let summary = match length {
        Epochs(epochs) => run.epochs(epochs).run(),
        Steps(steps) => run.steps(steps).run(),
    }?;
    Ok((summary, sink.scalars()))
}

fn logits_only(cached: bool) -> DistillationConfig {
    DistillationConfig::default()
        .temperature(2.0)
        .is_caching_logits(cached)
}

/// Two layers of four, one counted from the end; the first and the third are not kept.
fn with_features(cached: bool) -> DistillationConfig {
    let proj = || ProjectionSpec::linear(4, 5);
    logits_only(cached)
        .cache_features(cached)
        .intermediate_matches([
            IntermediateMatch::hidden(-1, 1).proj(proj()),
            IntermediateMatch::hidden(1, 0).proj(proj()).weight(0.5),
        ])
}

fn nets() -> (Counted, Net) {
    (Counted::new(4, 5, 0.1), Net::new(2, 4, 0.2))
}
