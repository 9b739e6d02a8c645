//! What a teacher file takes of each token, and how fast it is written and read.
//!
//! For each form a table row: bytes a token, the tokens recorded in a second (without the teacher), the
//! tokens read in a second in batches of a random order, and how long reading takes beside reading the same
//! bytes as one tensor of a safetensors file.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use clap::Parser;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tch::{Device, Kind, Tensor};
use textbrewer::teacher_file::{Recording, Stored};
use textbrewer::{AdaptorOutput, Ids, Model, weights};

/// Writes and reads files of teachers.
#[derive(Debug, Parser)]
struct Options {
    /// Examples of each file.
    #[arg(long, default_value_t = 256)]
    examples: u64,
    /// Tokens of the longest example; the shortest has half as many.
    #[arg(long, default_value_t = 128)]
    length: i64,
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// How often the whole file is read.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

type Keep = fn(Recording) -> Recording;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    println!(
        "{:<12} {:>9} {:>9} {:>13} {:>13} {:>12} {:>13}",
        "kept", "classes", "bytes", "recorded/s", "read/s", "safetensors", "read / whole"
    );
    let forms: [(&str, &[i64], Keep); 6] = [
        ("float32", &[2, 9, 30_522], |r| r.logits(Stored::Float32)),
        ("bfloat16", &[30_522], |r| r.logits(Stored::BFloat16)),
        ("top 16", &[30_522, 128_256, 151_936], |r| r.top_k(16, 1.0)),
        ("50 draws", &[30_522, 128_256, 151_936], |r| {
            r.sample(50, 1.0, 7)
        }),
        ("hidden bf16", &[768], |r| {
            r.feature("hidden", [0], Stored::BFloat16)
        }),
        ("hidden int8", &[768], |r| {
            r.feature("hidden", [0], Stored::Int8)
        }),
    ];
    for (name, widths, keep) in forms {
        for &width in widths {
            measure(&options, (name, width), keep)?;
        }
    }
    Ok(())
}

/// Likely classes are few, as those of a language model: about 12 in 50 draws.
fn scores(positions: i64, width: i64, generator: &mut StdRng) -> Result<Tensor, Box<dyn Error>> {
    let ranks = Tensor::f_arange_start(1, width + 1, (Kind::Float, Device::Cpu))?;
    let of_rank = ranks.f_log()?.f_mul(&Tensor::from(-1.8f32))?;
    let shifts: Vec<i64> = (0..positions)
        .map(|_| generator.random_range(0..width))
        .collect();
    let rows = shifts.iter().map(|shift| of_rank.f_roll([*shift], [0i64]));
    Ok(Tensor::f_stack(&rows.collect::<Result<Vec<_>, _>>()?, 0)?)
}

fn measure(
    options: &Options,
    (name, width): (&str, i64),
    keep: Keep,
) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut generator = StdRng::seed_from_u64(3);
    let length = options.length;
    // Of large vocabularies fewer tokens: it is rates that are compared.
    let examples = match width > 1000 {
        true => (options.examples / 8).max(4),
        false => options.examples,
    };
    let mut lengths = BTreeMap::new();
    let mut recorder = keep(Recording::new(folder.path())).begin()?;
    let (mut tokens, mut recorded) = (0, 0.0);
    for id in 0..examples {
        let of_one = generator.random_range(length / 2..=length);
        lengths.insert(id, of_one);
        tokens += of_one;
        let scores = scores(of_one, width, &mut generator)?.f_unsqueeze(0)?;
        let mask = Tensor::f_ones([1, of_one], (Kind::Int64, Device::Cpu))?;
        let said = AdaptorOutput::new()
            .logits_mask(&mask)
            .inputs_mask(&mask)
            .hidden(&[scores.shallow_clone()])
            .logits(scores);
        let start = Instant::now();
        recorder.add(&[id], &said)?;
        recorded += start.elapsed().as_secs_f64();
    }
    let start = Instant::now();
    let file = recorder.finish()?;
    recorded += start.elapsed().as_secs_f64();

    // The same bytes as one tensor.
    let whole = folder.path().join("whole.safetensors");
    let bytes: u64 = file.bytes();
    let data = Tensor::f_zeros([bytes as i64 / 4], (Kind::Int, Device::Cpu))?;
    weights::save(&whole, &[("data", &data)], &BTreeMap::new())?;

    let mut ids: Vec<u64> = (0..examples).collect();
    let teacher = file.teacher(|(_, mask): &(Ids, Tensor)| {
        Ok(AdaptorOutput::new().logits_mask(mask).inputs_mask(mask))
    });
    let (mut read, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        ids.shuffle(&mut generator);
        let mut seconds = 0.0;
        for ids in ids.chunks(options.batch_size) {
            let ends: Vec<i64> = ids.iter().map(|id| lengths[id]).collect();
            let longest = ends.iter().copied().max().unwrap_or(0);
            let places = Tensor::f_arange(longest, (Kind::Int64, Device::Cpu))?;
            let mask = places.f_lt_tensor(&Tensor::f_from_slice(&ends)?.f_unsqueeze(-1)?)?;
            let batch = (Ids::from(ids.to_vec()), mask);
            let start = Instant::now();
            teacher.forward(&batch, false)?;
            seconds += start.elapsed().as_secs_f64();
        }
        read.push(seconds);
        let start = Instant::now();
        weights::read(&whole)?;
        plain.push(start.elapsed().as_secs_f64());
    }
    let (read, plain) = (median(&mut read), median(&mut plain));
    println!(
        "{name:<12} {width:>9} {:>9.1} {:>13.0} {:>13.0} {:>10.2} ms {:>13.2}",
        bytes as f64 / tokens as f64,
        tokens as f64 / recorded,
        tokens as f64 / read,
        plain * 1e3,
        read / plain
    );
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
