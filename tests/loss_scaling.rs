//! Dynamic loss scaling against PyTorch. `tests/reference/loss_scaling.json` was made by
//! `tests/reference/loss_scaling.py` with `torch.amp.GradScaler`, on the same slopes.

mod common;

use std::collections::BTreeMap;

use common::plain::Plain;
use tch::{Device, Kind, Tensor};
use textbrewer::Error;
use textbrewer::optim::{Adam, AdamW, LossScaling, Optimizer, ParamGroup, Sgd};

type Row = (f64, i64, f64, f64, f64);

fn reference() -> BTreeMap<String, Vec<Row>> {
    serde_json::from_str(include_str!("reference/loss_scaling.json")).unwrap()
}

fn optimizer(name: &str) -> Box<dyn Optimizer> {
    match name {
        "adamw" => Box::new(AdamW::new(0.1)),
        "adam" => Box::new(Adam::new(0.1).weight_decay(0.1)),
        _ => Box::new(Sgd::new(0.1).momentum(0.9)),
    }
}

fn weight() -> Tensor {
    Tensor::from_slice(&[1f32, -2.0, 0.5]).set_requires_grad(true)
}

fn all(weight: &Tensor) -> ParamGroup {
    ParamGroup::new("all", vec![("w".into(), weight.shallow_clone())])
}

fn slope(step: usize) -> Tensor {
    let mut slope = [0.1f32, 0.2, -0.3].map(|x| x * (step + 1) as f32);
    match step {
        1 => slope[1] = f32::INFINITY,
        2 => slope[0] = f32::NAN,
        7 => slope[2] = f32::NEG_INFINITY,
        _ => {}
    }
    Tensor::from_slice(&slope)
}

fn step(step: usize, weight: &Tensor, optimizer: &mut dyn Optimizer, scaling: &mut LossScaling) {
    optimizer.zero_grad().unwrap();
    let loss = (weight * slope(step)).sum(None);
    scaling.scale(&loss).unwrap().backward();
    let found_infinity = scaling.unscale([weight]).unwrap();
    optimizer.step_unless(1.0, &found_infinity).unwrap();
    scaling.update(&found_infinity).unwrap();
}

fn check(name: &str, row: &Row, weight: &Tensor, scaling: &LossScaling) {
    let state = scaling.state().unwrap();
    assert_eq!(
        (
            state["scale"].double_value(&[]),
            state["growth_tracker"].int64_value(&[])
        ),
        (row.0, row.1),
        "{name}"
    );
    let values = Vec::<f32>::try_from(weight.detach()).unwrap();
    for (got, expected) in values.into_iter().zip([row.2, row.3, row.4]) {
        let bound = 2e-6 * expected.abs().max(1.0);
        assert!(
            (f64::from(got) - expected).abs() <= bound,
            "{name}: {got} and not {expected}"
        );
    }
}

#[test]
fn scale_and_parameters_are_those_of_pytorch_step_by_step() {
    for (name, rows) in reference() {
        for plain in [false, true] {
            let weight = weight();
            let mut optimizer = optimizer(&name);
            if plain {
                optimizer = Box::new(Plain(optimizer));
            }
            optimizer.add_group(all(&weight)).unwrap();
            let mut scaling = LossScaling::new().initial_scale(1024.0).growth_interval(2);
            for (number, row) in rows.iter().enumerate() {
                step(number, &weight, &mut optimizer, &mut scaling);
                check(&format!("{name}, step {number}"), row, &weight, &scaling);
            }
            // Three of nine were skipped.
            assert_eq!(optimizer.state().unwrap()["w.step"].int64_value(&[]), 6);
        }
    }
}

#[test]
fn restored_in_the_middle_it_goes_on_as_before() {
    for (name, rows) in reference() {
        for stop in [2, 4] {
            let (first, second) = (weight(), weight());
            let mut optimizers = [optimizer(&name), optimizer(&name)];
            optimizers[0].add_group(all(&first)).unwrap();
            optimizers[1].add_group(all(&second)).unwrap();
            let mut scaling = LossScaling::new().initial_scale(1024.0).growth_interval(2);
            for number in 0..stop {
                step(number, &first, &mut optimizers[0], &mut scaling);
            }
            tch::no_grad(|| second.shallow_clone().copy_(&first));
            let state = optimizers[0].state().unwrap();
            optimizers[1].load_state(&state).unwrap();
            let mut restored = LossScaling::new().growth_interval(2);
            restored.load_state(&scaling.state().unwrap()).unwrap();
            for (number, row) in rows.iter().enumerate().skip(stop) {
                step(number, &second, &mut optimizers[1], &mut restored);
                check(&format!("{name}, step {number}"), row, &second, &restored);
            }
        }
    }
}

#[test]
fn a_first_step_that_is_skipped_leaves_no_trace() {
    for name in ["adamw", "adam", "sgd"] {
        let weight = weight();
        let mut optimizer = optimizer(name);
        optimizer.add_group(all(&weight)).unwrap();
        weight.sum(None).backward();
        for found in [1.0, f64::NAN, f64::INFINITY] {
            optimizer.step_unless(1.0, &Tensor::from(found)).unwrap();
        }
        assert!(optimizer.state().unwrap().is_empty(), "{name}");
        assert_eq!(
            Vec::<f32>::try_from(weight.detach()).unwrap(),
            [1.0, -2.0, 0.5]
        );
    }
}

#[test]
fn gradients_of_all_kinds_and_layouts_are_scaled_back() {
    let float = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let double = Tensor::ones([2], (Kind::Double, Device::Cpu)).set_requires_grad(true);
    let bfloat = Tensor::ones([2], (Kind::BFloat16, Device::Cpu)).set_requires_grad(true);
    let table = Tensor::ones([3, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let none = Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let rows = Tensor::embedding(&table, &Tensor::from_slice(&[0i64, 2]), -1, false, true);
    let slopes = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
    let loss = (&float * &slopes).sum(None)
        + double.sum(None) * 2.0
        + bfloat.sum(None) * 3.0
        + rows.sum(Kind::Float) * 4.0;
    let mut scaling = LossScaling::new();
    scaling.scale(&loss).unwrap().backward();
    let scaled = &slopes * 65536.0;
    float.grad().set_data(&scaled.tr().contiguous().tr());
    assert!(!float.grad().is_contiguous());
    let all = [&float, &double, &bfloat, &table, &none];
    let found = scaling.unscale(all).unwrap();
    assert_eq!((found.size().len(), found.double_value(&[])), (0, 0.0));
    assert_eq!(float.grad(), slopes);
    assert_eq!(double.grad(), Tensor::from_slice(&[2f64, 2.0]));
    assert_eq!(bfloat.grad().double_value(&[1]), 3.0);
    assert_eq!(
        table.grad().to_dense(None, false).double_value(&[2, 1]),
        4.0
    );
    for bad in [f32::NAN, f32::INFINITY] {
        let _ = float.grad().get(1).get(2).fill_(f64::from(bad));
        assert_eq!(scaling.unscale(all).unwrap().double_value(&[]), 1.0);
    }
    assert_eq!(scaling.unscale([&none]).unwrap().double_value(&[]), 0.0);
}

#[test]
fn what_cannot_work_is_an_error() {
    let loss = Tensor::from(1f32);
    for (mut scaling, message) in [
        (
            LossScaling::new().initial_scale(0.0),
            "scale: must be positive and finite in float32, is 0",
        ),
        (
            LossScaling::new().initial_scale(1e39),
            "scale: must be positive and finite in float32, is 1000000000000000000000000000000000000000",
        ),
        (
            LossScaling::new().growth_factor(0.5),
            "growth_factor: must be a finite number, at least 1, is 0.5",
        ),
        (
            LossScaling::new().backoff_factor(f64::NAN),
            "backoff_factor: must be more than 0 and at most 1, is NaN",
        ),
        (
            LossScaling::new().growth_interval(0),
            "growth_interval: must be at least 1 and less than 2³¹, is 0",
        ),
    ] {
        let error = scaling.scale(&loss).unwrap_err();
        assert_eq!(error.to_string(), format!("loss scaling: {message}"));
    }

    let mut scaling = LossScaling::new();
    let weight = weight();
    for error in [
        scaling.unscale([&weight]).unwrap_err(),
        scaling.update(&loss).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "loss scaling: no loss was scaled yet; call `scale` before the backward pass"
        );
    }
    let half = weight.detach().to_kind(Kind::Half).set_requires_grad(true);
    let error = scaling.unscale([&half]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "loss scaling: a parameter of shape [3] is of kind Half, whose gradients cannot be \
         scaled back; keep parameters in Float"
    );

    let before = scaling.state().unwrap();
    let wrong = |name: &str, value: Option<Tensor>| {
        let others = before.iter().filter(|(key, _)| *key != name);
        let mut state: BTreeMap<String, Tensor> = others
            .map(|(key, tensor)| (key.clone(), tensor.shallow_clone()))
            .collect();
        state.extend(value.map(|value| (name.to_owned(), value)));
        state
    };
    for (state, message) in [
        (
            wrong("growth_tracker", Some(Tensor::from(-1))),
            "growth_tracker: must be at least 0 and less than 2³¹, is -1",
        ),
        (
            wrong("scale", None),
            "the state has no `scale`; give what `state` returned",
        ),
        (
            wrong("scale", Some(Tensor::from_slice(&[1f32, 2.0]))),
            "reading the state",
        ),
    ] {
        let error = scaling.load_state(&state).unwrap_err().to_string();
        let start = format!("loss scaling: {message}");
        assert!(error.starts_with(&start), "{error}");
    }
    assert_eq!(scaling.state().unwrap(), before);
}
