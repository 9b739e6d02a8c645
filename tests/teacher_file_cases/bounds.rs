//! How many bytes a token takes, of what is on disk.

use tch::{Device, Kind, Tensor};
use textbrewer::teacher_file::Recording;
use textbrewer::{AdaptorOutput, TeacherFile};

use super::folder;
use super::forge::Forged;

const EXAMPLES: u64 = 10;
const TOKENS: i64 = 12;

/// The bytes of a column for each token, and those of the index for each example.
fn bytes_of(recording: Recording, column: &str, classes: i64) -> (f64, f64, TeacherFile) {
    let mut recorder = recording.device(Device::Cpu).begin().unwrap();
    for id in 0..EXAMPLES {
        let said = AdaptorOutput::new().logits(zipf(classes).unsqueeze(0));
        recorder.add(&[id], &said).unwrap();
    }
    let file = recorder.finish().unwrap();
    let forged = Forged::read(&file.folder().join("shard-00000.safetensors"));
    let of = |is_column: bool| -> usize {
        let parts = forged
            .tensors
            .iter()
            .filter(|part| (part.name == column) == is_column);
        parts.map(|part| part.bytes.len()).sum()
    };
    // And one header a shard.
    assert_eq!(
        file.bytes() as usize,
        forged.header().len() + padding(&forged) + of(true) + of(false)
    );
    let tokens = EXAMPLES as f64 * TOKENS as f64;
    (
        of(true) as f64 / tokens,
        of(false) as f64 / EXAMPLES as f64,
        file,
    )
}

/// The header ends at a multiple of eight bytes.
fn padding(forged: &Forged) -> usize {
    forged.header().len().next_multiple_of(8) - forged.header().len()
}

/// Logits of a teacher whose n-th class has a probability of n to the power of -1.8, in an
/// order without a pattern: about 12 classes come of 50 draws.
fn zipf(classes: i64) -> Tensor {
    let ranks = Tensor::arange(classes, (Kind::Float, Device::Cpu)) + 1.0;
    let places = Tensor::arange(TOKENS * classes, (Kind::Int64, Device::Cpu));
    // 7919 is prime to both numbers of classes.
    let order = (places * 7919).remainder(classes);
    (ranks.log() * -1.8)
        .index_select(0, &order)
        .view([TOKENS, classes])
}

#[test]
fn sixteen_classes_of_151936_and_the_rest_take_70_bytes() {
    let folder = folder();
    let recording = Recording::new(folder.path()).top_k(16, 1.0);
    let (bytes, index, file) = bytes_of(recording, "logits.0.top16", 151_936);
    assert_eq!(bytes, 70.0);
    // Of each example the id, its checksum, and how many positions it has.
    assert_eq!(index, 16.0);
    file.verify().unwrap();
}

#[test]
fn fifty_draws_of_128256_take_36_bytes() {
    let folder = folder();
    let recording = Recording::new(folder.path()).sample(50, 1.0, 7);
    let (bytes, index, file) = bytes_of(recording, "logits.0.draws50", 128_256);
    let said = file.read(&(0..EXAMPLES).collect::<Vec<_>>()).unwrap();
    let [_, weights] = said.logits[0].tensors().collect::<Vec<_>>()[..] else {
        panic!("no sample")
    };
    let drawn =
        weights.gt(0.0).sum(Kind::Float).double_value(&[]) / (EXAMPLES as f64 * TOKENS as f64);
    assert!((11.0..=13.0).contains(&drawn), "{drawn} classes");
    // Of each position how many, and of each class its number and how often: 6, 17 and 6 bits. The
    // bytes of an example begin anew.
    let bits = 6.0 + drawn * 23.0;
    assert!(
        bytes >= bits / 8.0 && bytes <= bits / 8.0 + 1.0 / TOKENS as f64,
        "{bytes}"
    );
    assert!(bytes <= 36.0, "{bytes} bytes for {drawn} classes");
    // And how many bytes an example has.
    assert_eq!(index, 20.0);
}

/// Classes that a teacher excludes have a probability of 0, which float16 has no logarithm of.
#[test]
fn classes_that_a_teacher_excludes() {
    let folder = folder();
    let mut recorder = Recording::new(folder.path()).top_k(3, 1.0).begin().unwrap();
    let logits = Tensor::from_slice2(&[
        [1.0f32, -1e9, -1e9, 0.0],
        [f32::MIN, f32::MIN, 5.0, f32::MIN],
    ]);
    recorder
        .add(&[0, 1], &AdaptorOutput::new().logits(&logits))
        .unwrap();
    let said = recorder.finish().unwrap().read(&[0, 1]).unwrap();
    let [classes, logs, tail] = said.logits[0].tensors().collect::<Vec<_>>()[..] else {
        panic!("no top k")
    };
    assert_eq!(
        (classes.int64_value(&[0, 0]), classes.int64_value(&[0, 1])),
        (0, 3)
    );
    assert_eq!(
        (classes.int64_value(&[1, 0]), logs.double_value(&[1, 0])),
        (2, 0.0)
    );
    assert_eq!(logs.double_value(&[0, 2]), f64::NEG_INFINITY);
    assert!(tail.exp().sum(Kind::Float).double_value(&[]) < 1e-6);
    assert!((logs.exp().sum(Kind::Float).double_value(&[]) - 2.0).abs() < 1e-3);
}
