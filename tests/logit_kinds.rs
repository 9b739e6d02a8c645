//! Logits that are not a tensor of all classes: what they are made of, and what carries them.

mod common;
#[path = "logit_cases/from_hidden.rs"]
mod from_hidden;
#[path = "logit_cases/losses.rs"]
mod losses;

use std::cell::Cell;

use common::said::{Looking, Outputs, kd_loss_of, losses_of_outputs};
use common::waves;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::distiller::Said;
use textbrewer::logits::{FromHidden, Sample, TopK};
use textbrewer::{
    AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, Logits, Presets, Result,
    StepInfo, TrainingConfig, from_fn,
};

fn step() -> StepInfo {
    StepInfo::new(0, 0, 10, 1)
}

fn indices(shape: &[i64]) -> Tensor {
    (waves(shape, 0.3) * 10.0).abs().to_kind(Kind::Int64)
}

fn from_hidden() -> FromHidden {
    let logits = FromHidden::new(&waves(&[2, 3, 4], 0.1), &waves(&[5, 4], 0.6));
    logits.unwrap().bias(&waves(&[5], 0.8)).unwrap()
}

fn top_k() -> TopK {
    let (ids, logs) = (indices(&[2, 3, 2]), waves(&[2, 3, 2], 0.4) - 2.0);
    TopK::new(&ids, &logs, &(waves(&[2, 3], 0.9) - 4.0)).unwrap()
}

fn sample() -> Sample {
    Sample::new(&indices(&[2, 3, 7]), &waves(&[2, 3, 7], 0.2).abs()).unwrap()
}

fn all_kinds() -> [Logits; 4] {
    [
        waves(&[2, 3, 5], 0.1).into(),
        from_hidden().into(),
        top_k().into(),
        sample().into(),
    ]
}

fn assert_same(got: &Logits, expected: &Logits) {
    let same_kind = std::mem::discriminant(got) == std::mem::discriminant(expected);
    assert!(same_kind, "{got:?}, expected {expected:?}");
    let tensors: Vec<&Tensor> = got.tensors().collect();
    assert_eq!(tensors, expected.tensors().collect::<Vec<_>>());
}

#[test]
fn kinds_of_numbers_and_histories_go_for_every_kind_of_logits() {
    let half = |tensor: Tensor| tensor.to_kind(Kind::Half).set_requires_grad(true);
    let made = FromHidden::new(&half(waves(&[2, 3, 4], 0.1)), &half(waves(&[5, 4], 0.6)));
    let (ids, k) = (indices(&[2, 3, 2]), || half(waves(&[2, 3, 2], 0.4)));
    let halves: [Logits; 4] = [
        half(waves(&[2, 3, 5], 0.1)).into(),
        made.unwrap().bias(&half(waves(&[5], 0.8))).unwrap().into(),
        TopK::new(&ids, &k(), &half(waves(&[2, 3], 0.9)))
            .unwrap()
            .into(),
        Sample::new(&ids, &k()).unwrap().into(),
    ];
    for logits in halves {
        let wide = logits.at_least_float32().unwrap();
        for (tensor, given) in wide.tensors().zip(logits.tensors()) {
            let expected = match (given.kind(), &logits) {
                // `FromHidden` computes its logits in the numbers it has; `whole` widens them.
                (Kind::Half, Logits::FromHidden(_)) => Kind::Half,
                (Kind::Half, _) => Kind::Float,
                (other, _) => other,
            };
            assert_eq!(tensor.kind(), expected, "{wide:?}");
            assert_eq!(tensor.requires_grad(), tensor.is_floating_point());
        }
        if let Ok(whole) = wide.whole() {
            assert_eq!(whole.kind(), Kind::Float);
        }
        let detached = wide.detached().unwrap();
        assert!(detached.tensors().all(|tensor| !tensor.requires_grad()));
        assert_same(&logits.shallow_clone(), &logits);
        assert_same(&Logits::from(&logits), &logits);
    }
}

#[test]
fn a_mask_selects_positions_of_every_kind() {
    let mask = Tensor::from_slice2(&[[1i64, 0, 1], [0, 1, 0]]);
    for logits in all_kinds() {
        assert_eq!(logits.positions().unwrap(), [2, 3]);
        let selected = logits.select_with_mask(&mask).unwrap();
        assert_eq!(selected.positions().unwrap(), [3], "{selected:?}");
        for (got, from) in selected.tensors().zip(logits.tensors()) {
            let expected = match from.size().starts_with(&[2, 3]) {
                true => Tensor::stack(
                    &[from.get(0).get(0), from.get(0).get(2), from.get(1).get(1)],
                    0,
                ),
                // The output matrix and its bias.
                false => from.shallow_clone(),
            };
            assert_eq!(got, &expected);
        }
        let error = logits
            .select_with_mask(&Tensor::from_slice(&[1i64]))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("logits_mask: expected [batch, length] = [2, 3]")
        );
    }
}

#[test]
fn a_mask_does_not_pass_over_logits_of_more_dimensions() {
    let (logits, mask) = (
        waves(&[2, 3, 2, 2], 0.1),
        Tensor::from_slice2(&[[0i64, 0, 0]; 2]),
    );
    let says = || AdaptorOutput::new().logits(&logits).logits_mask(&mask);
    let (config, presets) = (DistillationConfig::default(), Presets::default());
    let loss = kd_loss_of((&says(), &says()), config, presets, (&(), &step()));
    assert_eq!(
        loss.unwrap_err().to_string(),
        "logits_mask: expected logits [batch, classes] or [batch, length, classes] beside a mask, \
         got [2, 3, 2] positions"
    );
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let (ids, logs, tail) = (indices(&[2, 3]), waves(&[2, 3], 0.1), waves(&[2], 0.1));
    let of_float32 = || {
        let [hidden, weight] = [[2, 4], [5, 4]].map(|size| waves(&size, 0.1).to_kind(Kind::Float));
        FromHidden::new(&hidden, &weight).unwrap()
    };
    let cases = [
        (
            FromHidden::new(&waves(&[2, 4], 0.1), &waves(&[4, 5], 0.1)).err(),
            "logits from hidden states: expected hidden states [.., size] and an output matrix \
             [classes, size], got [2, 4] and [4, 5]",
        ),
        (
            from_hidden().bias(&waves(&[4], 0.1)).err(),
            "bias of logits: expected [classes] = [5], got [4]",
        ),
        (
            from_hidden().soft_cap(0.0).err(),
            "soft cap of logits: must be a positive number, got 0",
        ),
        (
            from_hidden().scale(f64::NAN).err(),
            "scale of logits: must be finite, got NaN",
        ),
        (
            FromHidden::new(&Tensor::new(), &waves(&[5, 4], 0.1)).err(),
            "hidden states of logits: expected a tensor, got an undefined one",
        ),
        (
            FromHidden::new(&indices(&[2, 4]), &waves(&[5, 4], 0.1)).err(),
            "hidden states of logits: expected floating-point numbers, got Int64",
        ),
        (
            FromHidden::new(&waves(&[2, 4], 0.1), &indices(&[5, 4])).err(),
            "output matrix of logits: expected floating-point numbers, got Int64",
        ),
        (
            from_hidden().bias(&indices(&[5])).err(),
            "bias of logits: expected floating-point numbers, got Int64",
        ),
        (
            of_float32().bias(&waves(&[5], 0.1)).err(),
            "bias of logits: expected numbers that fit into logits of Float (convert with \
             `to_kind`), got Double",
        ),
        (
            TopK::new(&logs, &logs, &tail).err(),
            "indices of the top k: expected [.., k] of whole numbers, at least one for each \
             position, got [2, 3] of Double",
        ),
        (
            TopK::new(&ids, &waves(&[2, 2], 0.1), &tail).err(),
            "log-probabilities of the top k: expected [.., k], as the indices, = [2, 3], got [2, 2]",
        ),
        (
            TopK::new(&ids, &logs, &logs).err(),
            "tail of the top k: expected [..] = [2], got [2, 3]",
        ),
        (
            Sample::new(&ids, &ids).err(),
            "weights of a sample: expected floating-point numbers, got Int64",
        ),
        (
            Sample::new(&indices(&[2, 0]), &logs).err(),
            "indices of a sample: expected [.., n] of whole numbers, at least one for each \
             position, got [2, 0] of Int64",
        ),
        (
            Logits::from(top_k()).whole().err(),
            "logits: expected scores of all classes, got the 2 most likely ones alone (use a \
             loss that takes `Logits::TopK`, such as `forward_kl`)",
        ),
        (
            Logits::from(sample()).whole().err(),
            "logits: expected scores of all classes, got a sample of them (use a loss that \
             takes `Logits::Sample`, such as `forward_kl`)",
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(error.unwrap().to_string(), expected);
    }
}

#[test]
fn what_is_kept_of_a_teacher_is_copied_with_its_temperature() {
    let top = top_k().taken_at(3.0).unwrap();
    assert_same(&Logits::from(&top), &top_k().into());
    for same in [top.shallow_clone(), top.to_device(Device::Cpu).unwrap()] {
        assert_eq!(same.temperature(), 3.0);
        assert_same(&same.into(), &top_k().into());
    }
    let drawn = sample().drawn_at(2.0).unwrap();
    assert_same(&Logits::from(&drawn), &sample().into());
    for same in [drawn.shallow_clone(), drawn.to_device(Device::Cpu).unwrap()] {
        assert_eq!(same.temperature(), 2.0);
        assert_same(&same.into(), &sample().into());
    }
}

#[test]
fn a_cache_keeps_any_kind() {
    for dtype in [None, Some("fp16")] {
        let mut config = DistillationConfig::default().is_caching_logits(true);
        if let Some(dtype) = dtype {
            let json = format!(r#"{{"is_caching_logits": true, "cache_dtype": "{dtype}"}}"#);
            config = DistillationConfig::from_json_str(&json).unwrap();
        }
        let variables = VarStore::new(Device::Cpu);
        let model = from_fn(|_: &Tensor, _| Ok(()));
        let asked = Cell::new(0);
        let says_all_kinds = |_: &Tensor, (): &()| {
            asked.set(asked.get() + 1);
            let kinds = all_kinds().into_iter();
            Ok(kinds.fold(AdaptorOutput::new(), AdaptorOutput::logits))
        };
        let (looking, seen) = Looking::new(|said: &Said<'_, Tensor>| {
            let logits = said.teachers[0].logits.iter();
            logits.map(Logits::shallow_clone).collect::<Vec<_>>()
        });
        let mut distiller = GeneralDistiller::builder(&model, &model, &variables)
            .train_config(TrainingConfig::default().device(Device::Cpu))
            .distill_config(config)
            .teacher_adaptor(says_all_kinds)
            .student_adaptor(|_, ()| Ok(AdaptorOutput::new()))
            .term(looking)
            .build()
            .unwrap();
        let step = step().with_batch_id(Some(4));
        for _ in 0..2 {
            distiller.train_on_batch(&Tensor::from(0.0), &step).unwrap();
        }
        assert_eq!(asked.get(), 1);
        let kept = seen.borrow_mut().remove(1);
        let first = seen.borrow_mut().remove(0);
        let kept_bytes = distiller.core().cache_bytes();
        for ((first, kept), expected) in first.iter().zip(&kept).zip(all_kinds()) {
            assert_same(first, kept);
            for (kept, expected) in kept.tensors().zip(expected.tensors()) {
                assert_eq!(kept.kind(), expected.kind());
                let largest = (kept - expected).abs().max().double_value(&[]);
                assert!(
                    largest <= if dtype.is_some() { 1e-2 } else { 0.0 },
                    "{largest}"
                );
            }
        }
        // Whole 2·3·5, hidden 2·3·4, top 2·3·(2 + 1), sample 2·3·7, and indices 2·3·(2 + 7); the
        // output matrix is the model's own.
        let bytes = if dtype.is_some() { 2 } else { 8 };
        let numbers = 30 + 24 + 18 + 42;
        assert_eq!(kept_bytes, Some(numbers * bytes + 54 * 8));
    }
}

/// What the teachers who say this say together.
fn together(logits: Vec<Logits>) -> Result<Logits> {
    let logits = logits.into_iter();
    let outputs = Outputs {
        teachers: logits
            .map(|logits| AdaptorOutput::new().logits(logits))
            .collect(),
        student: AdaptorOutput::new(),
    };
    let (config, presets) = (DistillationConfig::default(), Presets::default());
    let look = |said: &Said<'_, ()>| said.ensemble.logits[0].shallow_clone();
    Ok(losses_of_outputs(outputs, config, presets, (&(), &step()), look)?.1)
}

#[test]
fn one_teacher_hands_any_kind_on_and_several_need_all_classes() {
    for logits in all_kinds() {
        assert_same(&together(vec![logits.shallow_clone()]).unwrap(), &logits);
    }
    let whole = || Logits::from(waves(&[2, 3, 5], 0.1));
    let together_said = together(vec![whole(), from_hidden().into()]).unwrap();
    let mean = (whole().whole().unwrap() + Logits::from(from_hidden()).whole().unwrap()) / 2.0;
    common::assert_close("mean", &together_said.whole().unwrap(), &mean);
    let error = together(vec![whole(), top_k().into()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the mean of several teachers, teacher 1: logits: expected scores of all classes, got \
         the 2 most likely ones alone (give whole logits)"
    );
}
