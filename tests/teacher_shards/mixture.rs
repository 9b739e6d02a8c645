//! A recording of everything that can be kept, of a teacher whose numbers come from a table: those of an
//! example are the same in every batch.

// Each test crate uses its own part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use textbrewer::data::{Shard, TensorLoader, WithIds};
use textbrewer::teacher_file::{Recording, Stored};
use textbrewer::{AdaptorOutput, Ids, Result, TeacherFile, from_fn};

pub type Batch = (Ids, Vec<Tensor>);

pub const WORDS: i64 = 30;
const HIDDEN: i64 = 6;
const LENGTH: i64 = 5;

/// Numbers without a pattern, of their place and a seed alone.
fn numbers(size: &[i64], seed: f64) -> Tensor {
    let count: i64 = size.iter().product();
    let places = Tensor::arange(count, (Kind::Double, Device::Cpu));
    let waves = (&places * 1.37 + seed).sin() * 2.0 + (&places * 0.11 * seed).cos();
    waves.to_kind(Kind::Float).reshape(size)
}

/// Examples of 1 to 5 words, shuffled.
pub fn loader(examples: i64, batch_size: usize) -> WithIds<TensorLoader> {
    use textbrewer::DataLoader;
    let places = Tensor::arange(examples * LENGTH, (Kind::Int64, Device::Cpu));
    let words = (&places * 7 + 3).remainder(WORDS).view([examples, LENGTH]);
    let lengths = (Tensor::arange(examples, (Kind::Int64, Device::Cpu)) * 3).remainder(LENGTH) + 1;
    let places = Tensor::arange(LENGTH, (Kind::Int64, Device::Cpu));
    let mask = places
        .lt_tensor(&lengths.unsqueeze(-1))
        .to_kind(Kind::Int64);
    let loader = TensorLoader::new(vec![words, mask], batch_size).unwrap();
    loader.shuffle(5).with_ids()
}

/// What a teacher of this seed says of words `[batch, length]`.
fn say(words: &Tensor, mask: &Tensor, seed: f64) -> AdaptorOutput {
    let size = words.size();
    let of_words = |width: i64, seed: f64| {
        let table = numbers(&[WORDS, width], seed);
        let rows = table.index_select(0, &words.reshape([-1]));
        rows.view([size[0], size[1], width])
    };
    let hidden = of_words(HIDDEN, seed + 1.0);
    let scores = of_words(2, seed + 2.0).transpose(1, 2);
    let attention = scores.unsqueeze(-1) * scores.unsqueeze(-2);
    AdaptorOutput::new()
        .logits(of_words(WORDS, seed))
        .logits_mask(mask)
        .inputs_mask(mask)
        .feature("pooled", &[hidden.select(1, 0)])
        .hidden(&[hidden])
        .attention(&[attention])
}

/// Several shards of all forms; three columns of one kind are three recordings of it.
pub fn mixture(folder: &Path) -> Recording {
    Recording::new(folder)
        .logits(Stored::Float32)
        .probabilities(Stored::Float16)
        .top_k(4, 2.0)
        .sample(9, 1.0, 11)
        .feature("hidden", [0], Stored::Int8)
        .feature("pooled", [0], Stored::BFloat16)
        .attention("attention", [0], Stored::Float32)
        .fact("teacher", "a table")
        .labels((0..WORDS).map(|word| format!("word {word}")))
        .shard_examples(5)
        .device(Device::Cpu)
        .progress(false)
}

/// Records; `before` is called before each batch.
pub fn record(
    recording: Recording,
    seed: f64,
    loader: &mut WithIds<TensorLoader>,
    before: impl Fn(&Ids),
) -> Result<TeacherFile> {
    let teacher = from_fn(|(ids, columns): &Batch, _| {
        before(ids);
        Ok(say(&columns[0], &columns[1], seed))
    });
    recording.run(&teacher, |_, said| Ok(said.shallow_clone()), loader)
}

/// A part of it, for one of several processes.
pub fn record_share(folder: &Path, (rank, ranks): (usize, usize), examples: i64) -> Result<()> {
    let share = Shard::new(rank, ranks)?;
    share_of(mixture(folder), share, examples)
}

/// What one process does.
pub fn share_of(recording: Recording, share: Shard, examples: i64) -> Result<()> {
    let teacher = from_fn(|(_, columns): &Batch, _| Ok(say(&columns[0], &columns[1], 0.5)));
    let adaptor = |_: &Batch, said: &AdaptorOutput| Ok(said.shallow_clone());
    recording.run_share(share, &teacher, adaptor, &mut loader(examples, 4))
}

/// The whole, undisturbed.
pub fn recorded(folder: &Path, seed: f64, examples: i64) -> TeacherFile {
    record(mixture(folder), seed, &mut loader(examples, 4), |_| {}).unwrap()
}

/// All numbers that a file has of an example, as bits.
pub fn bits(file: &TeacherFile, id: u64) -> Result<Vec<u32>> {
    let said = file.read(&[id])?;
    let of_logits = said.logits.iter().flat_map(textbrewer::Logits::tensors);
    let of_layers = said.features.values().flat_map(|feature| &feature.layers);
    let mut bits = Vec::new();
    for tensor in of_logits.chain(of_layers) {
        bits.extend(tensor.size().iter().map(|&size| size as u32));
        let numbers = Vec::<f32>::try_from(&tensor.to_kind(Kind::Float).reshape([-1])).unwrap();
        bits.extend(numbers.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

/// The names and bytes of all files in a folder.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    let entries = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    });
    entries.collect()
}
