//! Masks belong to features: an encoder's padding is not a decoder's, and pooled features have
//! no positions.

mod common;

use common::tiny::{config, losses_of};
use common::{close, waves};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::{
    AdaptorOutput, DistillationConfig, Feature, GeneralDistiller, IntermediateMatch,
    ProjectionSpec, Result, from_fn,
};

const LENGTH: i64 = 3;
const WIDTH: i64 = 2;

/// Padding of the encoder's inputs, and of the decoder's, which are as long.
fn masks() -> (Tensor, Tensor) {
    let encoder = Tensor::from_slice2(&[[1, 1, 0], [1, 0, 0]]);
    let decoder = Tensor::from_slice2(&[[1, 0, 0], [1, 1, 1]]);
    (encoder, decoder)
}

fn states(seed: f64) -> Tensor {
    waves(&[2, LENGTH, WIDTH], seed).to_kind(Kind::Float)
}

/// The loss of one match on what the two adaptors return for the states of the student and of
/// the teacher.
fn loss(
    matched: IntermediateMatch,
    student_says: impl Fn(&Tensor) -> AdaptorOutput,
    teacher_says: impl Fn(&Tensor) -> AdaptorOutput,
) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let variables = VarStore::new(Device::Cpu);
    let bias = variables.root().zeros("bias", &[1]);
    let student = from_fn(|batch: &Tensor, _| Ok(batch.f_add(&bias)?));
    let teacher = from_fn(|batch: &Tensor, _| Ok(batch.f_neg()?));
    let name = matched.log_name();
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
        .train_config(config(folder.path()))
        .distill_config(DistillationConfig::default().intermediate_matches([matched]))
        .teacher_adaptor(|_, states| Ok(teacher_says(states)))
        .student_adaptor(|_, states| Ok(student_says(states)))
        .build()
        .unwrap();
    losses_of(&mut distiller, &states(0.3))[&name]
}

/// By definition: the mean over positions that count of the squared distance of `x` and `−x`.
fn expected(mask: Option<&Tensor>) -> f64 {
    let squares = (states(0.3) * 2.0)
        .square()
        .mean_dim([-1i64].as_slice(), false, Kind::Double);
    match mask {
        None => squares.mean(Kind::Double).double_value(&[]),
        Some(mask) => {
            let sum = (&squares * mask).sum(Kind::Double).double_value(&[]);
            sum / mask.sum(Kind::Double).double_value(&[])
        }
    }
}

fn decoder_match() -> IntermediateMatch {
    IntermediateMatch::new("decoder", 0, 0).loss("hidden_mse")
}

#[test]
fn a_mask_of_a_features_own_goes_before_that_of_the_inputs() {
    let (encoder, decoder) = masks();
    let layers = |states: &Tensor| [states.shallow_clone()];
    let with = |mask: Tensor, inputs: Tensor| {
        move |states: &Tensor| {
            let feature = Feature::new(&layers(states)).mask(&mask);
            AdaptorOutput::new()
                .inputs_mask(&inputs)
                .feature("decoder", feature)
        }
    };
    let without = |states: &Tensor| AdaptorOutput::new().feature("decoder", &layers(states));
    let own = loss(
        decoder_match(),
        with(decoder.copy(), encoder.copy()),
        without,
    );
    assert!(close(own, expected(Some(&decoder))), "{own}");
    // The teacher's, where the student has none, is not dropped without a word.
    let inputs_only = |states: &Tensor| without(states).inputs_mask(&encoder);
    let teachers = loss(
        decoder_match(),
        inputs_only,
        with(decoder.copy(), decoder.copy()),
    );
    assert!(close(teachers, expected(Some(&decoder))), "{teachers}");
    let inputs = loss(decoder_match(), inputs_only, without);
    assert!(close(inputs, expected(Some(&encoder))), "{inputs}");
    let unmasked = |states: &Tensor| {
        let feature = Feature::new(&layers(states)).unmasked();
        AdaptorOutput::new()
            .inputs_mask(&encoder)
            .feature("decoder", feature)
    };
    let all = loss(decoder_match(), unmasked, without);
    assert!(close(all, expected(None)), "{all}");
}

#[test]
fn pooled_features_work_beside_masked_sequences_with_projections_too() {
    let (encoder, _) = masks();
    let pooled = |states: &Tensor| -> Result<Tensor> {
        Ok(states.f_mean_dim([1i64].as_slice(), false, Kind::Float)?)
    };
    let says = |states: &Tensor| {
        AdaptorOutput::new()
            .inputs_mask(&encoder)
            .hidden(&[states.shallow_clone()])
            .feature("pooled", &[pooled(states).unwrap()])
    };
    let matched = || IntermediateMatch::new("pooled", 0, 0).loss("hidden_mse");
    let plain = loss(matched(), says, says);
    let squares = (pooled(&states(0.3)).unwrap() * 2.0).square();
    assert!(
        close(plain, squares.mean(Kind::Double).double_value(&[])),
        "{plain}"
    );
    let projected = loss(
        matched().proj(ProjectionSpec::linear(WIDTH, WIDTH)),
        says,
        says,
    );
    assert!(projected.is_finite());
    let masked = loss(IntermediateMatch::hidden(0, 0), says, says);
    assert!(close(masked, expected(Some(&encoder))), "{masked}");
}

/// A projection changes the width alone: which positions count stays.
#[test]
fn a_projection_leaves_the_mask_of_a_feature_alone() {
    let (encoder, decoder) = masks();
    let folder = tempfile::tempdir().unwrap();
    let variables = VarStore::new(Device::Cpu);
    let layer = nn::linear(variables.root(), WIDTH, WIDTH, Default::default());
    let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
    let teacher = from_fn(|batch: &Tensor, _| Ok(Tensor::f_cat(&[batch, batch], -1)?));
    let adaptor = |decoder: Tensor| {
        let encoder = encoder.copy();
        move |_: &Tensor, states: &Tensor| {
            let feature = Feature::new(&[states.shallow_clone()]).mask(&decoder);
            Ok(AdaptorOutput::new()
                .inputs_mask(&encoder)
                .feature("decoder", feature))
        }
    };
    let matched = decoder_match().proj(ProjectionSpec::linear(WIDTH, 2 * WIDTH));
    let name = matched.log_name();
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
        .train_config(config(folder.path()))
        .distill_config(DistillationConfig::default().intermediate_matches([matched]))
        .adaptor(adaptor(decoder.copy()))
        .build()
        .unwrap();
    let batch = states(0.3);
    // What stands at positions that do not count changes nothing.
    let changed = batch.copy();
    let _ = changed.get(0).narrow(0, 1, 2).fill_(7.0);
    let before = losses_of(&mut distiller, &batch)[&name];
    assert!(close(losses_of(&mut distiller, &changed)[&name], before));
    let _ = changed.get(1).fill_(7.0);
    assert!(!close(losses_of(&mut distiller, &changed)[&name], before));
}
