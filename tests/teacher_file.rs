//! A teacher as a file: the same numbers as the teacher itself, for each example, however batches are
//! made; and what does not fit.

mod common;

#[path = "teacher_file_cases/going_on.rs"]
mod going_on;
#[path = "teacher_file_cases/heads.rs"]
mod heads;
#[path = "teacher_file_cases/misfits.rs"]
mod misfits;
#[path = "teacher_file_cases/reading.rs"]
mod reading;
#[path = "teacher_file_cases/samples.rs"]
mod samples;
#[path = "teacher_file_cases/training.rs"]
mod training;

use std::path::Path;

use common::tiny::fill;
use common::{device, elements};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::data::{ExampleLoader, pad_to_longest};
use textbrewer::teacher_file::{Recording, Stored};
use textbrewer::{AdaptorOutput, Batch, DataLoader, Ids, Model, Result, TeacherFile};

/// Token ids of one length.
#[derive(Debug, Batch)]
struct Sentences {
    ids: Ids,
    input_ids: Tensor,
    mask: Tensor,
}

const WORDS: i64 = 40;
const HIDDEN: i64 = 6;

/// Word vectors, a layer of attention of two heads, and a score of every word at each position.
#[derive(Debug)]
struct Words {
    variables: VarStore,
    vectors: nn::Embedding,
    layer: nn::Linear,
    head: nn::Linear,
}

struct Said {
    hidden: Vec<Tensor>,
    attention: Vec<Tensor>,
    /// `[batch, length, words]`
    logits: Tensor,
    /// `[batch, 2]`
    of_sentences: Tensor,
}

impl Words {
    fn new(seed: f64) -> Self {
        let variables = VarStore::new(device::device());
        let root = variables.root();
        let words = Words {
            vectors: nn::embedding(&root / "vectors", WORDS, HIDDEN, Default::default()),
            layer: nn::linear(&root / "layer", HIDDEN, HIDDEN, Default::default()),
            head: nn::linear(&root / "head", HIDDEN, WORDS, Default::default()),
            variables,
        };
        fill(&words.variables, seed);
        words
    }
}

impl Model<Sentences> for Words {
    type Output = Said;

    fn forward(&self, batch: &Sentences, _train: bool) -> Result<Said> {
        let states = self.vectors.forward(&batch.input_ids);
        let (count, length) = batch.input_ids.size2()?;
        let heads = states.view([count, length, 2, HIDDEN / 2]).transpose(1, 2);
        let padding = batch.mask.eq(0).view([count, 1, 1, length]);
        let scores = heads
            .matmul(&heads.transpose(2, 3))
            .masked_fill(&padding, -1e9);
        let attention = scores.softmax(-1, Kind::Float);
        let mixed = attention
            .matmul(&heads)
            .transpose(1, 2)
            .reshape([count, length, HIDDEN]);
        let states_after = self.layer.forward(&mixed).tanh();
        let logits = self.head.forward(&states_after);
        Ok(Said {
            of_sentences: logits.select(1, 0).narrow(1, 0, 2),
            hidden: vec![states, states_after],
            attention: vec![attention],
            logits,
        })
    }
}

/// Everything, with masks.
fn adapt(batch: &Sentences, said: &Said) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new()
        .logits(&said.logits)
        .logits_mask(&batch.mask)
        .inputs_mask(&batch.mask)
        .hidden(&said.hidden)
        .attention(&said.attention))
}

/// An id and words.
type Sentence = (u64, Vec<i64>);

/// Sentences of 2 to 8 words, with numbers that are no places.
fn sentences() -> Vec<Sentence> {
    let words = |place: u64| {
        (0..2 + place * 5 % 7).map(move |word| ((place * 11 + word * 7) % 39 + 1) as i64)
    };
    (0..23)
        .map(|place| (place * 1_000_003 + 5, words(place).collect()))
        .collect()
}

/// The sentences in batches, padded on the right or on the left.
fn loader(batch_size: usize, left: bool) -> impl DataLoader<Batch = Sentences> {
    loader_of(sentences(), batch_size, left)
}

fn loader_of(
    sentences: Vec<Sentence>,
    batch_size: usize,
    left: bool,
) -> ExampleLoader<Sentence, impl Fn(&[&Sentence]) -> Result<Sentences>> {
    ExampleLoader::new(sentences, batch_size, move |examples: &[&Sentence]| {
        let words: Vec<Vec<i64>> = examples
            .iter()
            .map(|(_, words)| match left {
                true => words.iter().rev().copied().collect(),
                false => words.clone(),
            })
            .collect();
        let (input_ids, mask) = pad_to_longest(&words, 0, None)?;
        // Twice the other way round is padding on the left.
        let turned = |tensor: &Tensor| match left {
            true => tensor.flip([1]),
            false => tensor.shallow_clone(),
        };
        Ok(Sentences {
            ids: examples.iter().map(|(id, _)| *id).collect(),
            input_ids: turned(&input_ids),
            mask: turned(&mask),
        })
    })
    .unwrap()
}

fn recording(folder: &Path) -> Recording {
    Recording::new(folder)
        .device(device::device())
        .progress(false)
}

/// All of it, in float32.
fn everything(folder: &Path) -> Recording {
    recording(folder)
        .logits(Stored::Float32)
        .feature("hidden", [0, -1], Stored::Float32)
        .attention("attention", [0], Stored::Float32)
        .shard_examples(5)
}

fn record(folder: &Path, teacher: &Words, batch_size: usize) -> TeacherFile {
    let mut loader = loader(batch_size, false);
    everything(folder).run(teacher, adapt, &mut loader).unwrap()
}

fn masks(batch: &Sentences) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new()
        .logits_mask(&batch.mask)
        .inputs_mask(&batch.mask))
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers = tensor
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .reshape([-1]);
    let numbers: Vec<f32> = Vec::try_from(&numbers).unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

fn largest_difference(one: &Tensor, other: &Tensor) -> f64 {
    let difference = (one - other).abs();
    elements(&difference).into_iter().fold(0.0, f64::max)
}
