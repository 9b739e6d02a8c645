//! Models of a few numbers, the same in every run, and what goes with them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use tch::nn::{self, Module, VarStore};
use tch::{Kind, Tensor};
use textbrewer::{
    AdaptorOutput, Batch, DistillationConfig, Distiller, GeneralDistiller, Model, Result, StepInfo,
    TrainingConfig, VecLoader, weights,
};

use super::device::device;
use super::{elements, waves};

/// The last dimension of the batches, which are `[2, 3, INPUT]`.
pub const INPUT: i64 = 3;

/// Layers of tanh over the positions, and two classes for each example.
#[derive(Debug)]
pub struct Net {
    pub variables: VarStore,
    layers: Vec<nn::Linear>,
    head: nn::Linear,
}

/// What a [`Net`] says of a batch.
#[derive(Debug)]
pub struct Output {
    /// `[batch, 2]`
    pub logits: Tensor,
    /// As many `[batch, length, hidden]` as there are layers.
    pub hidden: Vec<Tensor>,
}

impl Net {
    pub fn new(layers: i64, hidden: i64, seed: f64) -> Self {
        let variables = VarStore::new(device());
        let root = variables.root();
        let layer = |index: i64| {
            let input = if index == 0 { INPUT } else { hidden };
            let path = root.sub("layers").sub(index);
            nn::linear(path, input, hidden, Default::default())
        };
        let layers = (0..layers).map(layer).collect();
        let head = nn::linear(root.sub("head"), hidden, 2, Default::default());
        fill(&variables, seed);
        Net {
            variables,
            layers,
            head,
        }
    }
}

impl Model<Tensor> for Net {
    type Output = Output;

    fn forward(&self, batch: &Tensor, _train: bool) -> Result<Output> {
        // A test that runs no engine has it on the CPU.
        let batch = &Batch::to_device(batch, self.variables.device())?;
        let mut hidden: Vec<Tensor> = Vec::new();
        for layer in &self.layers {
            let below = hidden.last().unwrap_or(batch);
            hidden.push(layer.forward(below).tanh());
        }
        let top = hidden.last().unwrap_or(batch);
        let mean = top.mean_dim([1i64].as_slice(), false, Kind::Float);
        Ok(Output {
            logits: self.head.forward(&mean),
            hidden,
        })
    }
}

/// Gives every variable values that depend on its place and the seed alone.
pub fn fill(variables: &VarStore, seed: f64) {
    let _guard = tch::no_grad_guard();
    for (index, (_, mut tensor)) in weights::state_dict(variables).into_iter().enumerate() {
        let values = waves(&tensor.size(), seed + index as f64) * 0.5;
        tensor.copy_(&values);
    }
}

/// Logits and hidden states.
pub fn adapt(_batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new()
        .logits(&output.logits)
        .hidden(&output.hidden))
}

/// The mean square of the logits as a loss on the ground truth.
pub fn square(_batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new().losses(&output.logits.square()))
}

/// A batch `[2, 3, INPUT]`.
pub fn batch(seed: i64) -> Tensor {
    waves(&[2, 3, INPUT], seed as f64 * 0.7).to_kind(Kind::Float)
}

/// The batches 0, 1 and so on.
pub fn batches(count: i64) -> Vec<Tensor> {
    (0..count).map(batch).collect()
}

pub fn loader(count: i64) -> VecLoader<Tensor> {
    VecLoader::new(batches(count)).expect("a batch")
}

/// On the device of the tests, with checkpoints in `folder`.
pub fn config(folder: &Path) -> TrainingConfig {
    TrainingConfig::default()
        .device(device())
        .output_dir(folder)
}

pub fn general<'a>(
    teacher: &'a Net,
    student: &'a Net,
    config: TrainingConfig,
    distill_config: DistillationConfig,
) -> Result<GeneralDistiller<'a, Tensor, Net>> {
    GeneralDistiller::builder(teacher, student, &student.variables)
        .train_config(config)
        .distill_config(distill_config)
        .adaptor(adapt)
        .build()
}

/// All numbers of all variables, by name.
pub fn numbers(variables: &VarStore) -> Vec<f64> {
    let state = weights::state_dict(variables);
    state
        .iter()
        .flat_map(|(_, tensor)| elements(tensor))
        .collect()
}

/// The largest difference between two lists of numbers of one length.
pub fn difference(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let differences = left.iter().zip(right).map(|(a, b)| (a - b).abs());
    // `max` would pass over NaN.
    differences.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// The Euclidean distance between two lists of numbers of one length.
pub fn distance(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let squares = left.iter().zip(right).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// The names of the files in a folder, sorted; what a run needs to go on is in a folder of
/// its own beside them.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let is_file = entry.file_type().expect("a type").is_file();
        is_file.then(|| entry.file_name().to_string_lossy().into_owned())
    };
    let mut names: Vec<_> = entries.filter_map(name).collect();
    names.sort();
    names
}

/// The first line of an error's message; no error is a failure.
pub fn first_line<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("there is no error"),
        Err(error) => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// A [`Net`] that counts how often it is asked.
#[derive(Debug)]
pub struct Counted {
    pub net: Net,
    calls: Cell<usize>,
}

impl Counted {
    pub fn new(layers: i64, hidden: i64, seed: f64) -> Self {
        Counted {
            net: Net::new(layers, hidden, seed),
            calls: Cell::new(0),
        }
    }

    pub fn calls(&self) -> usize {
        self.calls.get()
    }
}

impl Model<Tensor> for Counted {
    type Output = Output;

    fn forward(&self, batch: &Tensor, train: bool) -> Result<Output> {
        self.calls.set(self.calls.get() + 1);
        self.net.forward(batch, train)
    }
}

/// Gives the projections of a distiller values that depend on their place alone.
pub fn fill_projections<D: Distiller>(distiller: &D) {
    let _guard = tch::no_grad_guard();
    for group in distiller.core().param_groups() {
        for (index, (_, mut tensor)) in group.parameters.into_iter().enumerate() {
            let values = waves(&tensor.size(), 0.5 + index as f64) * 0.5;
            tensor.copy_(&values);
        }
    }
}

/// All numbers of all projections.
pub fn projected_numbers<D: Distiller>(distiller: &D) -> Vec<f64> {
    let groups = distiller.core().param_groups().into_iter();
    let tensors = groups.flat_map(|group| group.parameters);
    tensors.flat_map(|(_, tensor)| elements(&tensor)).collect()
}

/// The losses of one batch by name, unweighted, and their weighted sum as `total`.
pub fn losses_of<D: Distiller>(distiller: &mut D, batch: &D::Batch) -> BTreeMap<String, f64> {
    let step = StepInfo::new(0, 0, 1, 0);
    let report = distiller.train_on_batch(batch, &step).expect("losses");
    let terms = report.losses().iter();
    let mut losses: BTreeMap<_, _> = terms
        .map(|term| (term.name.clone(), term.loss.double_value(&[])))
        .collect();
    let total = report.total().expect("a sum").double_value(&[]);
    losses.insert("total".to_owned(), total);
    losses
}

/// A folder for one test: in memory where the system has a place for that. Each checkpoint is
/// flushed to the disk many times, on which tests of hundreds of runs would only wait.
pub fn folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}
