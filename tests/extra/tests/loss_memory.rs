//! The memory that losses over a large vocabulary take besides their inputs, in units of one
//! tensor of logits, which is what decides the size of a batch.
//!
//! The numbers come from libtorch's allocator, and are the same on every machine. When a
//! change needs less, lower the number here.

#[path = "../../common/mod.rs"]
mod common;

use common::device::device;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::logits::FromHidden;
use textbrewer::losses::Temperature;
use textbrewer::models::{BertConfig, BertForMaskedLM, BertInputs};
use textbrewer::{KdInput, Logits, Model, Presets};
use torch_meter::measure;

/// Positions by vocabulary: BERT's, and that of a large language model.
const SIZES: [[i64; 2]; 2] = [[128, 30_522], [32, 151_936]];

/// Above a whole number of tensors are the sums of each position, and what is as small. Blocks
/// of CUDA's allocator can be 1 MB larger than what they are for.
fn small() -> f64 {
    match device() {
        Device::Cpu => 0.02,
        _ => 0.3,
    }
}

/// Peak of the forward pass, what is kept after it for the backward pass, and peak of both,
/// where the gradient of the student's logits is one unit that no loss can do without.
fn units(loss: &str, size: [i64; 2], temperature: &Temperature) -> [f64; 3] {
    let logits = || Tensor::randn(size, (Kind::Float, device()));
    let (student, teacher) = (logits().set_requires_grad(true), logits());
    let presets = Presets::default();
    let function = presets.find_kd_loss("kd_loss_type", loss).unwrap();
    let forward = || {
        let input = KdInput::new(&student, &teacher, temperature).unwrap();
        function.apply(&input).unwrap()
    };
    let backward = || Tensor::run_backward(&[forward()], &[&student], false, false);
    // On CUDA each thread gets its workspace of products at the first.
    drop(backward());
    let (_value, only_forward) = measure(forward);
    let (gradients, both) = measure(backward);
    assert_eq!(gradients[0].size(), size);
    let bytes = [
        only_forward.peak_bytes,
        only_forward.kept_bytes,
        both.peak_bytes,
    ];
    bytes.map(|bytes| bytes as f64 / (size[0] * size[1] * 4) as f64)
}

fn assert_units(loss: &str, temperature: impl Fn(i64) -> Temperature, most: [f64; 3]) {
    for size in SIZES {
        let units = units(loss, size, &temperature(size[0]));
        let fits = |(units, most): (&f64, f64)| *units <= most + small();
        assert!(
            units.iter().zip(most).all(fits),
            "{loss}, {size:?}: {units:.2?}, at most {most:?} are known"
        );
        // Nothing can have been measured otherwise.
        assert!(units[2] >= 1.0, "{loss}, {size:?}: {units:.2?}");
    }
}

const CONSTANT: fn(i64) -> Temperature = |_| Temperature::Constant(8.0);
const EACH: fn(i64) -> Temperature =
    |positions| Temperature::Each(Tensor::full([positions], 8.0, (Kind::Float, device())));

/// Probabilities, and logarithms of probabilities.
#[test]
fn cross_entropy() {
    for temperature in [CONSTANT, EACH] {
        assert_units("ce", temperature, [2.0, 2.0, 3.0]);
    }
}

#[test]
fn divergence() {
    for temperature in [CONSTANT, EACH] {
        assert_units("kl", temperature, [3.0, 2.0, 3.0]);
    }
}

#[test]
fn squared_error_of_logits() {
    assert_units("mse", CONSTANT, [2.0, 0.0, 2.0]);
    assert_units("mse", EACH, [3.0, 1.0, 5.0]);
}

#[test]
fn binary_cross_entropy() {
    assert_units("bce", CONSTANT, [4.0, 2.0, 4.0]);
}

/// libtorch's `mse_loss` and `smooth_l1_loss` keep a tensor of the inputs' size behind the one
/// number that they return, until that is dropped.
#[test]
fn errors_of_numbers() {
    for loss in ["regression_mse", "smooth_l1"] {
        assert_units(loss, CONSTANT, [2.0, 1.0, 2.0]);
    }
}

/// The bytes that the value of a match loss keeps, without a graph. It stays until the losses
/// are read; more than the one number is a tensor that `mse_loss` left behind it.
#[test]
fn the_value_of_a_match_loss_is_small() {
    let presets = Presets::default();
    let float = (Kind::Float, device());
    let mask = Tensor::ones([4, 16], (Kind::Int64, device()));
    let attention = || Tensor::rand([4, 2, 16, 16], float);
    let hidden = || Tensor::rand([4, 16, 64], float);
    type Make<'a> = &'a dyn Fn() -> Tensor;
    for (name, layers, make, without_mask) in [
        ("attention_mse", 1, &attention as Make, 8192),
        ("attention_mse_sum", 1, &attention, 4096),
        ("attention_ce", 1, &attention, 4),
        ("attention_ce_mean", 1, &attention, 4),
        ("hidden_mse", 1, &hidden, 16384),
        ("cos", 1, &hidden, 4),
        ("pkd", 1, &hidden, 4),
        ("fsp", 2, &hidden, 4),
        ("nst", 2, &hidden, 4),
    ] {
        let loss = presets.find_match_loss("loss", name).unwrap();
        let side = || (0..layers).map(|_| make()).collect::<Vec<_>>();
        let (student, teacher) = (side(), side());
        for (mask, most) in [(None, without_mask), (Some(&mask), 4)] {
            let apply = || loss.apply(&student, &teacher, mask).unwrap();
            drop(apply());
            let (value, usage) = measure(apply);
            assert_eq!(value.numel(), 1);
            let kept = usage.kept_bytes;
            let most = match device() {
                Device::Cpu => most,
                // CUDA's allocator gives no less than this.
                _ => most.max(512),
            };
            assert!((4..=most).contains(&kept), "{name}: {kept} of {most}");
        }
    }
}

/// A masked language model with 4 of 128 positions masked, in units of the logits of all.
#[test]
fn masked_lm_makes_logits_where_tokens_were_masked() {
    const VOCABULARY: i64 = 30_522;
    const WIDTH: i64 = 8;
    let config = BertConfig::default()
        .vocab_size(VOCABULARY)
        .hidden_size(WIDTH)
        .intermediate_size(WIDTH)
        .num_attention_heads(1)
        .num_hidden_layers(1);
    let variables = VarStore::new(device());
    let model = BertForMaskedLM::new(&variables.root(), &config).unwrap();
    let ids = Tensor::ones([2, 64], (Kind::Int64, device()));
    let labels = ids.full_like(-100);
    let _ = labels.narrow(1, 7, 2).fill_(5);
    let inputs = BertInputs::new(ids).labels(labels.shallow_clone());
    let (whole, matrix) = (128 * VOCABULARY * 4, VOCABULARY * WIDTH * 4);
    let units = |bytes: i64| bytes as f64 / whole as f64;

    let forward = || model.forward(&inputs, true).unwrap();
    drop(forward());
    let (output, usage) = measure(forward);
    assert!(
        units(usage.peak_bytes) < 0.05,
        "{}",
        units(usage.peak_bytes)
    );
    let (_loss, usage) = measure(|| output.loss().unwrap());
    // Logits, the logarithms of probabilities and their gradients, and the gradient of the matrix.
    let most = 4.0 * 4.0 / 128.0 + units(matrix) + small();
    assert!(
        units(usage.peak_bytes) < most,
        "{}",
        units(usage.peak_bytes)
    );

    // A distillation loss keeps the gradient of the output matrix, unless that is frozen.
    let presets = Presets::default();
    let loss = presets.find_kd_loss("kd_loss_type", "forward_kl").unwrap();
    let kept = || {
        let output = model.forward(&inputs, true).unwrap();
        let masked = Logits::from(&output.logits);
        let masked = masked.select_with_mask(&labels.ge(0)).unwrap();
        let teacher = masked.detached().unwrap();
        let input = KdInput::new(&masked, teacher, 1.0).unwrap();
        let (value, usage) = measure(|| loss.apply(&input).unwrap());
        assert!(value.requires_grad());
        usage.kept_bytes
    };
    let learned = kept();
    assert!(learned >= matrix, "{learned} of {matrix}");
    for name in [
        "bert.embeddings.word_embeddings.weight",
        "cls.predictions.bias",
    ] {
        let _ = variables.variables()[name].set_requires_grad(false);
    }
    let frozen = kept();
    assert!(frozen < matrix / 100, "{frozen} of {matrix}");
}

/// Logits in parts never take more than they may, which are those of both models at some positions,
/// and the gradients of hidden states and output matrix.
#[test]
fn logits_in_parts_take_what_they_may() {
    const POSITIONS: i64 = 64;
    const WIDTH: i64 = 8;
    let at_once: i64 = 12 << 20;
    let presets = Presets::default();
    for vocabulary in [30_522, 151_936] {
        let numbers = |rows| Tensor::randn([rows, WIDTH], (Kind::Float, device()));
        let (hidden, of_teacher) = (numbers(POSITIONS), numbers(POSITIONS));
        let (weight, matrix) = (numbers(vocabulary), numbers(vocabulary));
        let hidden = hidden.set_requires_grad(true);
        let gradients = (POSITIONS + vocabulary) * WIDTH * 4;
        for name in [
            "forward_kl",
            "reverse_kl",
            "generalized_jsd",
            "skew_kl",
            "total_variation",
        ] {
            let loss = presets.find_kd_loss("kd_loss_type", name).unwrap();
            let run = |weight: &Tensor| {
                let student = FromHidden::new(&hidden, weight).unwrap();
                let student = student.bytes_at_once(at_once as u64);
                let teacher = FromHidden::new(&of_teacher, &matrix).unwrap();
                let input = KdInput::new(student, teacher, 2.0).unwrap();
                loss.apply(&input).unwrap()
            };
            for is_frozen in [false, true] {
                let weight = weight.copy().set_requires_grad(!is_frozen);
                drop(run(&weight));
                let (_value, usage) = measure(|| run(&weight));
                let gradients = match is_frozen {
                    true => POSITIONS * WIDTH * 4,
                    false => gradients,
                };
                // On a device what is between logits and gradients takes room too.
                let most = match device() {
                    Device::Cpu => at_once + gradients + (1 << 16),
                    _ => 10 * at_once + gradients + (4 << 20),
                };
                let what = format!("{name}, {vocabulary}, frozen: {is_frozen}: {usage:?}");
                assert!(usage.peak_bytes <= most, "{what}, at most {most}");
                assert!(usage.kept_bytes <= gradients + (1 << 16), "{what}");
                assert!(usage.peak_bytes >= gradients, "{what}");
            }
        }
    }
}
