//! Tensors that no loss is made for: undefined, without dimensions, with too many, empty, of
//! integers, of 16 bits. What a loss cannot take is an error that names it, never a panic.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::waves;
use tch::{Device, Kind, Tensor};
use textbrewer::logits::{FromHidden, Sample, TopK};
use textbrewer::losses::support::{
    ScalarOps, at_least_float32, at_temperature, fitting, mask_like, masked_mean,
};
use textbrewer::losses::{self, Temperature};
use textbrewer::{KdInput, Logits, Presets, Result, probability_shift, select_logits_with_mask};

type OnTwo = Box<dyn Fn(&Tensor, &Tensor) -> Result<Tensor>>;
/// How an error names the first tensor and the second.
type Names = [String; 2];

fn names(function: &str, arguments: [&str; 2]) -> Names {
    arguments.map(|argument| format!("{function}, {argument}"))
}

/// Every function of a student's tensor and a teacher's, and how an error begins that names one.
fn losses_on_two() -> Vec<(Names, OnTwo)> {
    let mut all: Vec<(Names, OnTwo)> = Vec::new();
    let mut add = |function: &str, on_two: OnTwo| {
        all.push((names(function, ["student", "teacher"]), on_two));
    };
    type OnLogits = fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor>;
    let on_logits: [(&str, OnLogits); 4] = [
        ("kd_ce", losses::kd_ce),
        ("kd_mse", losses::kd_mse),
        ("kd_kl", losses::kd_kl),
        ("kd_bce", losses::kd_bce),
    ];
    for (name, loss) in on_logits {
        add(name, Box::new(move |s, t| loss(s, t, &1.0.into())));
        let each = || Tensor::from_slice(&[1.0, 2.0]).into();
        add(name, Box::new(move |s, t| loss(s, t, &each())));
    }
    type OnFeatures = fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>;
    let on_features: [(&str, OnFeatures); 13] = [
        ("attention_mse", losses::attention_mse),
        ("attention_mse_sum", losses::attention_mse_sum),
        ("attention_ce", losses::attention_ce),
        ("attention_ce_mean", losses::attention_ce_mean),
        ("hidden_mse", losses::hidden_mse),
        ("cos", losses::cos),
        ("pkd", losses::pkd),
        ("rkd_distance", losses::rkd_distance),
        ("rkd_angle", losses::rkd_angle),
        ("pkt", losses::pkt),
        ("sp", losses::sp),
        ("cka", losses::cka),
        ("cka_unbiased", losses::cka_unbiased),
    ];
    for (name, loss) in on_features {
        add(name, Box::new(move |s, t| loss(s, t, None)));
        let mask = Tensor::from_slice2(&[[1i64, 1, 0], [1, 0, 0]]);
        add(name, Box::new(move |s, t| loss(s, t, Some(&mask))));
    }
    type OnSeveral = fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor>;
    let on_several: [(&str, OnSeveral); 2] = [("fsp", losses::fsp), ("mmd", losses::mmd)];
    for (name, loss) in on_several {
        let two = |state: &Tensor| [state.shallow_clone(), state.shallow_clone()];
        add(name, Box::new(move |s, t| loss(&two(s), &two(t), None)));
        let mask = Tensor::from_slice2(&[[1i64, 1, 0], [1, 0, 0]]);
        add(
            name,
            Box::new(move |s, t| loss(&two(s), &two(t), Some(&mask))),
        );
    }
    add("regression_mse", Box::new(losses::regression_mse));
    add("smooth_l1", Box::new(losses::smooth_l1));
    add("l", Box::new(|s, t| fitting("l", "one shape", s, t)));
    all
}

/// Everything else that takes two tensors.
fn others_on_two() -> Vec<(Names, OnTwo)> {
    let logits = || waves(&[2, 3, 5], 0.1);
    let on_two: [([&str; 2], OnTwo); 13] = [
        (
            ["l, what the mask is for", "l, mask"],
            Box::new(|like, mask| mask_like("l", mask, &[2, 3], like)),
        ),
        (
            ["l, values", "l, mask"],
            Box::new(|values, mask| masked_mean("l", values, mask)),
        ),
        (
            ["l, logits", "l, temperature"],
            Box::new(|logits, each| at_temperature("l", logits, &each.shallow_clone().into())),
        ),
        (
            ["kd_ce, student", "kd_ce, temperature"],
            Box::new(|logits, each| losses::kd_ce(logits, logits, &each.shallow_clone().into())),
        ),
        (
            ["probability_shift, logits", "probability_shift, labels"],
            Box::new(probability_shift),
        ),
        (
            ["logits[0]", "logits_mask"],
            Box::new(|logits, mask| {
                let mut selected =
                    select_logits_with_mask(&[logits.shallow_clone()], &[mask.shallow_clone()])?;
                Ok(selected.remove(0))
            }),
        ),
        (
            ["logits", "logits_mask"],
            Box::new(|logits, mask| Logits::from(logits).select_with_mask(mask)?.whole()),
        ),
        (
            ["hidden states of logits", "output matrix of logits"],
            Box::new(|hidden, weight| Logits::from(FromHidden::new(hidden, weight)?).whole()),
        ),
        (
            ["bias of logits", "bias of logits"],
            Box::new(|one, other| {
                let made = FromHidden::new(&waves(&[2, 4], 0.1), &waves(&[3, 4], 0.6))?;
                Logits::from(made.bias(one)?.bias(other)?).whole()
            }),
        ),
        (
            ["indices of the top k", "log-probabilities of the top k"],
            Box::new(|ids, logs| {
                let top = TopK::new(ids, logs, logs)?;
                Ok(top.log_tail().shallow_clone())
            }),
        ),
        (
            ["indices of a sample", "weights of a sample"],
            Box::new(|ids, weights| Ok(Sample::new(ids, weights)?.weights().shallow_clone())),
        ),
        (
            ["labels of logits", "logits_weights"],
            Box::new(move |labels, weights| {
                let presets = Presets::empty().kd_loss_with_labels("labels", |input| {
                    Ok(input.student.whole()?.f_select(-1, 0)?)
                });
                let input = KdInput::new(logits(), logits(), 1.0)?;
                let input = input.with_labels(labels).with_weights(weights);
                presets
                    .find_kd_loss("kd_loss_type", "labels")?
                    .apply(&input)
            }),
        ),
        (
            ["losses at the positions of logits"; 2],
            Box::new(move |one, other| {
                let given = [one.shallow_clone(), other.shallow_clone()];
                let defined = given.iter().all(Tensor::defined);
                let presets = Presets::empty().kd_loss_per_position("own", move |_| {
                    Ok(match defined {
                        true => given[0].shallow_clone(),
                        false => Tensor::new(),
                    })
                });
                let input = KdInput::new(logits(), logits(), 1.0)?;
                presets.find_kd_loss("kd_loss_type", "own")?.apply(&input)
            }),
        ),
    ];
    let on_two = on_two.into_iter();
    let named = on_two.map(|(names, function)| (names.map(str::to_owned), function));
    let mut all: Vec<_> = named.collect();
    for name in Presets::default().kd_losses() {
        let loss = Presets::default()
            .find_kd_loss("kd_loss_type", name)
            .unwrap();
        all.push((
            ["student: logits", "teacher: logits"].map(str::to_owned),
            Box::new(move |s, t| loss.apply(&KdInput::new(s, t, 1.0)?)),
        ));
    }
    all
}

fn odd() -> Vec<Tensor> {
    let number = |kind| (kind, Device::Cpu);
    let shapes: [&[i64]; 9] = [
        &[],
        &[0],
        &[2],
        &[2, 3],
        &[2, 0],
        &[2, 3, 5],
        &[0, 3, 5],
        &[2, 4, 3, 3],
        &[2, 4, 3, 3, 1],
    ];
    let kinds = [
        Kind::Half,
        Kind::BFloat16,
        Kind::Float,
        Kind::Double,
        Kind::Int64,
        Kind::Bool,
        Kind::ComplexFloat,
    ];
    let all = shapes
        .iter()
        .flat_map(|shape| kinds.map(|kind| Tensor::ones(*shape, number(kind))));
    all.chain([Tensor::new()]).collect()
}

/// Something that nothing is wrong with, for each function that takes two.
fn sound() -> Vec<Tensor> {
    let mut sound = Vec::new();
    for shape in [
        &[2i64, 3][..],
        &[2, 3, 5],
        &[2, 4, 3, 3],
        &[2, 4],
        &[3],
        &[],
    ] {
        let tensor = waves(shape, 0.1) + 2.0;
        sound.extend([tensor.to_kind(Kind::Int64), tensor]);
    }
    sound
}

fn without_panic(what: &str, function: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|_| panic!("{what}: a panic"))
}

#[test]
fn odd_tensors_are_no_panic() {
    let (odd, sound) = (odd(), sound());
    for (names, function) in losses_on_two().into_iter().chain(others_on_two()) {
        for tensor in &odd {
            for other in sound.iter().chain([tensor]) {
                for (one, other) in [(tensor, other), (other, tensor)] {
                    let what = format!("{names:?} of {one:?} and {other:?}");
                    let _ = without_panic(&what, || function(one, other));
                }
            }
        }
    }
}

#[test]
fn undefined_tensors_are_named() {
    let (undefined, sound) = (Tensor::new(), sound());
    for (names, function) in losses_on_two().into_iter().chain(others_on_two()) {
        let named = names.each_ref().map(|name| {
            let expected = format!("{name}: expected a tensor, got an undefined one");
            move |result: Result<Tensor>| result.is_err_and(|error| error.to_string() == expected)
        });
        // Beside one that lets it come so far.
        let first = sound
            .iter()
            .any(|other| named[0](function(&undefined, other)));
        let second = sound
            .iter()
            .any(|other| named[1](function(other, &undefined)));
        assert!(first && second, "{names:?}: {first}, {second}");
    }
    let message = at_least_float32(&undefined).unwrap_err().to_string();
    assert_eq!(message, "numbers: expected a tensor, got an undefined one");
    let logits = Logits::from(Tensor::new());
    let message = "logits: expected a tensor, got an undefined one";
    for error in [
        logits.whole().err(),
        logits.positions().err(),
        logits.device().err(),
        logits.at_least_float32().err(),
        logits.detached().and_then(|logits| logits.whole()).err(),
        logits.shallow_clone().whole().err(),
    ] {
        assert_eq!(error.unwrap().to_string(), message);
    }
    assert_eq!(logits.tensors().count(), 1);
}

#[test]
fn a_mask_that_is_undefined_is_named() {
    let state = || waves(&[2, 3, 4], 0.1);
    let message = losses::hidden_mse(&state(), &state(), Some(&Tensor::new()));
    assert_eq!(
        message.unwrap_err().to_string(),
        "hidden_mse, mask: expected a tensor, got an undefined one"
    );
}

#[test]
fn operations_with_a_number_take_odd_tensors() {
    type OnOne = fn(&Tensor) -> std::result::Result<Tensor, tch::TchError>;
    let operations: [OnOne; 12] = [
        |x| x.plus(1.0),
        |x| x.minus(1),
        |x| x.times(2.0),
        |x| x.over(2),
        |x| x.power(2.0),
        |x| x.power(0.5),
        |x| x.length(),
        |x| x.at_least(0.0),
        |x| x.at_most(0),
        |x| x.is_not(0.0),
        |x| x.filled(&Tensor::new(), 0.0),
        |x| {
            let mut copy = x.f_add(x)?;
            copy.over_(2.0).map(|()| copy)
        },
    ];
    for (index, operation) in operations.iter().enumerate() {
        for tensor in odd() {
            let what = format!("{index} of {tensor:?}");
            let result = without_panic(&what, || Ok(operation(&tensor)?));
            assert!(tensor.defined() || result.is_err(), "{what}");
        }
    }
}
