//! One training, by several processes and by one with as many batches in a step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Tensor;
use textbrewer::distributed::ProcessGroup;
use textbrewer::logging::LogAxis;
use textbrewer::{BasicTrainer, DataLoader, Distiller, MemorySink, Run, TrainingConfig};

use crate::common::ranks::in_processes;
use crate::common::tiny::{
    self, Net, difference, fill_projections, numbers, projected_numbers, square,
};

/// What a training came to, as bits where text would lose some.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Trained {
    pub weights: Vec<u64>,
    /// By tag, with the step.
    pub losses: Vec<(String, u64, u64)>,
    pub steps: u64,
}

/// Who trains: one of several processes, or one alone.
pub struct Process<'a> {
    pub group: Option<&'a ProcessGroup>,
    /// How many batches this process has in a step.
    pub of_a_step: u64,
    pub folder: PathBuf,
}

/// What is trained, and how.
pub type Case = (&'static str, fn(&Process<'_>) -> Trained);

impl Process<'_> {
    pub fn rank(&self) -> usize {
        self.group.map_or(0, ProcessGroup::rank)
    }

    pub fn config(&self) -> TrainingConfig {
        tiny::config(&self.folder).gradient_accumulation_steps(self.of_a_step)
    }

    /// A student, of which that of the first process is the one that counts.
    pub fn student(&self) -> Net {
        Net::new(2, 4, 0.25 + self.rank() as f64)
    }

    /// A trainer of it, whose loss is the square of what it says.
    pub fn trainer<'a>(&self, student: &'a Net) -> BasicTrainer<'a, Tensor, Net> {
        BasicTrainer::builder(student, &student.variables)
            .train_config(self.config())
            .adaptor(square)
            .build()
            .unwrap()
    }

    /// Trains, and returns what came of it.
    pub fn train<D: Distiller>(
        &self,
        mut distiller: D,
        loader: &mut dyn DataLoader<Batch = D::Batch>,
        with: impl for<'a> FnOnce(Run<'a, D>) -> Run<'a, D>,
    ) -> Trained {
        let sink = MemorySink::new();
        if self.rank() == 0 {
            fill_projections(&distiller);
        }
        let mut run = distiller
            .train(loader)
            .log_axis(LogAxis::OptimizerStep)
            .log_sink(sink.clone())
            .progress(false);
        if let Some(group) = self.group {
            run = run.process_group(group);
        }
        let summary = with(run).run().unwrap();
        let mut weights = numbers(distiller.core().variables());
        weights.extend(projected_numbers(&distiller));
        let mut losses = sink.scalars();
        losses.retain(|(tag, ..)| !tag.contains("per_second"));
        let bits = |(tag, value, step): (String, f64, u64)| (tag, value.to_bits(), step);
        Trained {
            weights: weights.into_iter().map(f64::to_bits).collect(),
            losses: losses.into_iter().map(bits).collect(),
            steps: summary.global_steps,
        }
    }
}

/// Trains each case in so many processes with this many batches each in a step, one after the
/// other in the same processes; then alone with all of these. In the processes themselves it
/// returns nothing.
fn train(
    test: &str,
    world_size: usize,
    of_a_step: u64,
    cases: &[Case],
) -> Option<Vec<(&'static str, Vec<Trained>, Trained)>> {
    let folder = in_processes(test, world_size, |group, folder| {
        let train = |(name, case): &Case| {
            let process = Process {
                group: Some(group),
                of_a_step,
                folder: folder.join(name),
            };
            ((*name).to_owned(), case(&process))
        };
        let trained: BTreeMap<String, Trained> = cases.iter().map(train).collect();
        leave(folder, group, &trained);
    })?;
    let by_rank: Vec<BTreeMap<String, Trained>> = found(folder.path(), world_size);
    let of_case = |(name, case): &Case| {
        let together = by_rank.iter().map(|trained| trained[*name].clone());
        let alone = case(&Process {
            group: None,
            of_a_step: of_a_step * world_size as u64,
            folder: folder.path().join(format!("{name} alone")),
        });
        (*name, together.collect(), alone)
    };
    Some(cases.iter().map(of_case).collect())
}

/// Leaves what this process has found for the test.
pub fn leave(folder: &Path, group: &ProcessGroup, found: &impl serde::Serialize) {
    let path = folder.join(format!("{}.json", group.rank()));
    std::fs::write(path, serde_json::to_string(found).unwrap()).unwrap();
}

/// What each process has left.
pub fn found<T: serde::de::DeserializeOwned>(folder: &Path, world_size: usize) -> Vec<T> {
    let of = |rank: usize| {
        let text = std::fs::read_to_string(folder.join(format!("{rank}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    (0..world_size).map(of).collect()
}

/// Two processes with a batch each come to what one comes to with two, to the bit.
pub fn two_are_one(test: &str, cases: &[Case]) {
    are_one(test, (2, 1), cases);
}

/// So many processes with so many batches each come to the bits of one with all of them.
pub fn are_one(test: &str, (world_size, of_a_step): (usize, u64), cases: &[Case]) {
    let Some(all) = train(test, world_size, of_a_step, cases) else {
        return;
    };
    for (name, together, alone) in all {
        for (rank, trained) in together.iter().enumerate() {
            assert_eq!(trained.weights, alone.weights, "{name}, process {rank}");
            assert_eq!(trained.steps, alone.steps, "{name}, process {rank}");
            assert_eq!(trained.losses.is_empty(), rank > 0, "{name}: one voice");
        }
        // Names that one process of a step does not have may be in another order.
        let sorted = |mut losses: Vec<_>| {
            losses.sort();
            losses
        };
        let losses = sorted(together[0].losses.clone());
        assert_eq!(losses, sorted(alone.losses.clone()), "{name}");
    }
}

/// More of them come close: sums are made in another order.
pub fn several_are_close_to_one(test: &str, (world_size, of_a_step): (usize, u64), cases: &[Case]) {
    let Some(all) = train(test, world_size, of_a_step, cases) else {
        return;
    };
    let numbers = |bits: &[u64]| -> Vec<f64> { bits.iter().copied().map(f64::from_bits).collect() };
    for (name, together, alone) in all {
        for trained in &together {
            assert_eq!(trained.weights, together[0].weights, "{name}");
        }
        let apart = difference(&numbers(&together[0].weights), &numbers(&alone.weights));
        assert!(apart < 1e-6, "{name}: {apart}");
        let values = |trained: &Trained| -> BTreeMap<(String, u64), f64> {
            let losses = trained.losses.iter().cloned();
            losses
                .map(|(tag, bits, step)| ((tag, step), f64::from_bits(bits)))
                .collect()
        };
        let (got, expected) = (values(&together[0]), values(&alone));
        assert!(got.keys().eq(expected.keys()), "{name}");
        for (place, value) in &got {
            let apart = (value - expected[place]).abs();
            assert!(
                apart < 1e-6 * (1.0 + value.abs()),
                "{name}, {place:?}: {apart}"
            );
        }
    }
}
