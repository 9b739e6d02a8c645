//! Random samples of a teacher's classes: of each example the same in any batch, and unbiased.

use tch::{Kind, Tensor};
use textbrewer::{AdaptorOutput, Logits, TeacherFile};

use super::recording;

const CLASSES: i64 = 8;

/// Two examples of three positions each.
fn logits() -> Tensor {
    let numbers: Vec<f32> = (0..2 * 3 * CLASSES)
        .map(|n| (n as f32 * 1.3).sin() * 3.0)
        .collect();
    Tensor::from_slice(&numbers).view([2, 3, CLASSES])
}

fn sampled(ids: &[u64], logits: &Tensor, draws: i64, seed: u64) -> Tensor {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = recording(folder.path())
        .sample(draws, 1.0, seed)
        .begin()
        .unwrap();
    for (place, id) in ids.iter().enumerate() {
        let one = logits.narrow(0, place as i64, 1);
        recorder
            .add(&[*id], &AdaptorOutput::new().logits(one))
            .unwrap();
    }
    dense(&recorder.finish().unwrap(), ids)
}

/// The weight of every class.
fn dense(file: &TeacherFile, ids: &[u64]) -> Tensor {
    let said = file.read(ids).unwrap();
    let Logits::Sample(sample) = &said.logits[0] else {
        panic!("{said:?}")
    };
    let (count, length) = (ids.len() as i64, 3);
    let zeros = Tensor::zeros([count, length, CLASSES], (Kind::Float, tch::Device::Cpu));
    zeros.scatter_add(-1, sample.indices(), sample.weights())
}

#[test]
fn the_mean_over_seeds_tends_to_the_probabilities() {
    let (logits, draws, seeds) = (logits(), 16, 400);
    let mut sum = Tensor::zeros([2, 3, CLASSES], (Kind::Float, tch::Device::Cpu));
    for seed in 0..seeds {
        sum += sampled(&[7, 9], &logits, draws, seed);
    }
    let mean = sum / seeds as f64;
    let right = logits.softmax(-1, Kind::Float);
    // A class of probability p comes in a share of all draws with this standard deviation.
    let variance: Tensor = &right * (1.0 - &right);
    let deviation = (variance / (draws * seeds as i64) as f64).sqrt();
    let beyond = (mean - &right).abs() - deviation * 4.5;
    assert!(beyond.max().double_value(&[]) <= 1e-6);
}

#[test]
fn what_is_drawn_follows_from_seed_id_and_position_alone() {
    let logits = logits();
    let both = sampled(&[7, 9], &logits, 50, 1);
    let turned = logits.flip([0]);
    assert_eq!(sampled(&[9, 7], &turned, 50, 1).flip([0]), both);
    // In one batch.
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = recording(folder.path()).sample(50, 1.0, 1).begin().unwrap();
    recorder
        .add(&[7, 9], &AdaptorOutput::new().logits(&logits))
        .unwrap();
    assert_eq!(dense(&recorder.finish().unwrap(), &[7, 9]), both);
    // Another seed, another id: other draws.
    assert_ne!(sampled(&[7, 9], &logits, 50, 2), both);
    assert_ne!(sampled(&[8, 9], &logits, 50, 1), both);
    let sums = both.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    assert!(sums.allclose(&sums.ones_like(), 1e-6, 0.0, false));
}

#[test]
fn classes_without_probability_are_never_drawn() {
    let ninf = f32::NEG_INFINITY;
    let logits = Tensor::from_slice(&[ninf, 1.0, ninf, ninf, 2.0, ninf, ninf, ninf]);
    let drawn = sampled(
        &[3],
        &logits.view([1, 1, CLASSES]).expand([1, 3, CLASSES], false),
        200,
        5,
    );
    let of_all = drawn.sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Float);
    for class in [0, 2, 3, 5, 6, 7] {
        assert_eq!(of_all.double_value(&[class]), 0.0);
    }
    assert!(of_all.double_value(&[1]) > 0.0);
}

#[test]
fn the_draws_of_several_logits_differ() {
    let folder = tempfile::tempdir().unwrap();
    let logits = Tensor::zeros([1, 3, CLASSES], (Kind::Float, tch::Device::Cpu));
    let mut recorder = recording(folder.path()).sample(20, 1.0, 1).begin().unwrap();
    let said = AdaptorOutput::new().logits(&logits).logits(&logits);
    recorder.add(&[7], &said).unwrap();
    let said = recorder.finish().unwrap().read(&[7]).unwrap();
    let [Logits::Sample(first), Logits::Sample(second)] = &said.logits[..] else {
        panic!("{said:?}")
    };
    assert_ne!(first.weights().size(), [0]);
    assert!(first.indices() != second.indices() || first.weights() != second.weights());
}
