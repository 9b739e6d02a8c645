//! Optimizers and clipping against PyTorch. `tests/reference/optim.json` was made by
//! `tests/reference/optim.py`, which computes the same losses.

use std::collections::BTreeMap;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use textbrewer::optim::{Adam, AdamW, GroupOptions, Optimizer, ParamGroup, Sgd, clip_grad_norm};
use textbrewer::{Error, Result};

const STEPS: usize = 10;
const CLIP: f64 = 0.5;

#[derive(Deserialize)]
struct Case {
    defaults: GroupOptions,
    options: GroupOptions,
    values: Vec<Vec<f64>>,
    norms: Vec<f64>,
}

/// The three parameters of the reference; `c` gets a gradient at every second step only.
struct Parameters {
    a: Tensor,
    b: Tensor,
    c: Tensor,
}

impl Parameters {
    fn new(kind: Kind) -> Self {
        let arange = |n: i64| Tensor::arange(n, (Kind::Double, Device::Cpu));
        let leaf = |tensor: Tensor| tensor.to_kind(kind).set_requires_grad(true);
        Parameters {
            a: leaf(arange(6).reshape([2, 3]) * 0.3 - 0.7),
            b: leaf(arange(3) * 0.2 - 0.1),
            c: leaf(Tensor::from_slice(&[0.4, -0.6])),
        }
    }

    fn groups(&self, options: &GroupOptions) -> [ParamGroup; 2] {
        let named = |name: &str, tensor: &Tensor| (name.to_owned(), tensor.shallow_clone());
        [
            ParamGroup::new("first", vec![named("a", &self.a), named("c", &self.c)]),
            ParamGroup::new("second", vec![named("b", &self.b)]).options(options.clone()),
        ]
    }

    fn loss(&self, step: usize) -> Tensor {
        let x = Tensor::arange(6, (self.a.kind(), Device::Cpu)).reshape([2, 3]);
        let x = x * 0.1 * (step + 1) as f64;
        let mut loss = (&self.a * x).sin().sum(None);
        loss += (&self.a + &self.b).square().sum(None) * 0.1;
        if step.is_multiple_of(2) {
            loss += self.c.pow_tensor_scalar(3).sum(None);
        }
        loss
    }

    fn train(
        &self,
        optimizer: &mut dyn Optimizer,
        steps: std::ops::Range<usize>,
        clip: bool,
    ) -> Vec<f64> {
        let mut norms = Vec::new();
        for step in steps {
            optimizer.zero_grad().unwrap();
            self.loss(step).backward();
            if clip {
                let norm = clip_grad_norm([&self.a, &self.b, &self.c], CLIP).unwrap();
                norms.push(norm.double_value(&[]));
            }
            optimizer.step(1.0 - step as f64 / STEPS as f64).unwrap();
        }
        norms
    }

    fn values(&self) -> Vec<f64> {
        [&self.a, &self.b, &self.c]
            .into_iter()
            .flat_map(|tensor| {
                Vec::try_from(tensor.detach().flatten(0, -1).to_kind(Kind::Double)).unwrap()
            })
            .collect::<Vec<f64>>()
    }
}

fn build(name: &str, defaults: &GroupOptions) -> Box<dyn Optimizer> {
    let lr = defaults.learning_rate.unwrap();
    match name.split('_').next().unwrap() {
        "adamw" => {
            let mut optimizer = AdamW::new(lr);
            if let Some(decay) = defaults.weight_decay {
                optimizer = optimizer.weight_decay(decay);
            }
            if let Some((beta1, beta2)) = defaults.betas {
                optimizer = optimizer.betas(beta1, beta2);
            }
            if let Some(eps) = defaults.eps {
                optimizer = optimizer.eps(eps);
            }
            Box::new(optimizer)
        }
        "adam" => Box::new(Adam::new(lr).weight_decay(defaults.weight_decay.unwrap_or(0.0))),
        "sgd" => Box::new(
            Sgd::new(lr)
                .momentum(defaults.momentum.unwrap_or(0.0))
                .weight_decay(defaults.weight_decay.unwrap_or(0.0)),
        ),
        other => panic!("unknown optimizer {other}"),
    }
}

fn cases() -> BTreeMap<String, Case> {
    serde_json::from_str(include_str!("reference/optim.json")).unwrap()
}

fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, place: &str) {
    assert_eq!(got.len(), expected.len(), "{place}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let bound = tolerance * expected.abs().max(1.0);
        assert!(
            (got - expected).abs() <= bound,
            "{place}, value {i}: {got} and not {expected}"
        );
    }
}

fn check_case(name: &str, case: &Case, kind: Kind, tolerance: f64) {
    let parameters = Parameters::new(kind);
    let mut optimizer = build(name, &case.defaults);
    for group in parameters.groups(&case.options) {
        optimizer.add_group(group).unwrap();
    }
    let clip = !case.norms.is_empty();
    for step in 0..STEPS {
        let place = format!("{name}, step {step}");
        let norms = parameters.train(&mut optimizer, step..step + 1, clip);
        if clip {
            assert_close(
                &norms,
                &case.norms[step..step + 1],
                tolerance,
                &format!("{place}, norm"),
            );
        }
        assert_close(&parameters.values(), &case.values[step], tolerance, &place);
    }
}

#[test]
fn ten_steps_are_those_of_pytorch() {
    let cases = cases();
    assert_eq!(cases.len(), 8);
    for (name, case) in &cases {
        check_case(name, case, Kind::Double, 1e-13);
        check_case(name, case, Kind::Float, 2e-6);
    }
}

#[test]
fn a_restored_state_goes_on_exactly_as_before() {
    for (name, case) in cases() {
        let whole = Parameters::new(Kind::Float);
        let mut optimizer = build(&name, &case.defaults);
        for group in whole.groups(&case.options) {
            optimizer.add_group(group).unwrap();
        }
        whole.train(&mut optimizer, 0..5, false);

        let resumed = Parameters::new(Kind::Float);
        tch::no_grad(|| {
            for (to, from) in [
                (&resumed.a, &whole.a),
                (&resumed.b, &whole.b),
                (&resumed.c, &whole.c),
            ] {
                to.shallow_clone().copy_(from);
            }
        });
        let mut other = build(&name, &case.defaults);
        for group in resumed.groups(&case.options) {
            other.add_group(group).unwrap();
        }
        other.load_state(&optimizer.state().unwrap()).unwrap();
        // What was loaded is a copy: steps of the first must not reach the second.
        whole.train(&mut optimizer, 5..STEPS, false);
        resumed.train(&mut other, 5..STEPS, false);
        assert_eq!(whole.values(), resumed.values(), "{name}");
        assert_eq!(
            optimizer.state().unwrap().len(),
            other.state().unwrap().len(),
            "{name}"
        );
    }
}

#[test]
fn steps_are_counted_per_parameter_and_named_in_the_state() {
    let parameters = Parameters::new(Kind::Float);
    let mut optimizer = AdamW::new(0.1);
    for group in parameters.groups(&GroupOptions::default()) {
        optimizer.add_group(group).unwrap();
    }
    assert!(optimizer.state().unwrap().is_empty());
    parameters.train(&mut optimizer, 0..3, false);
    let state = optimizer.state().unwrap();
    let names: Vec<_> = state.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "a.exp_avg",
            "a.exp_avg_sq",
            "a.step",
            "b.exp_avg",
            "b.exp_avg_sq",
            "b.step",
            "c.exp_avg",
            "c.exp_avg_sq",
            "c.step"
        ]
    );
    assert_eq!(state["a.step"].int64_value(&[]), 3);
    assert_eq!(state["c.step"].int64_value(&[]), 2);
}

fn variable() -> Tensor {
    Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true)
}

fn group(name: &str, parameter: &str, tensor: &Tensor) -> ParamGroup {
    ParamGroup::new(name, vec![(parameter.to_owned(), tensor.shallow_clone())])
}

fn options(json: &str) -> GroupOptions {
    serde_json::from_str(json).unwrap()
}

#[test]
fn options_built_are_those_of_json() {
    let built = GroupOptions::new()
        .learning_rate(1e-3)
        .weight_decay(0.2)
        .betas(0.8, 0.9)
        .eps(1e-6)
        .momentum(0.7);
    let read = options(
        r#"{"lr": 1e-3, "weight_decay": 0.2, "betas": [0.8, 0.9], "eps": 1e-6, "momentum": 0.7}"#,
    );
    assert_eq!(built, read);
    assert_eq!(GroupOptions::new(), options("{}"));
}

#[test]
fn a_state_is_not_changed_by_later_steps() {
    let weight = variable();
    let mut optimizer = AdamW::new(0.1);
    optimizer.add_group(group("all", "w", &weight)).unwrap();
    weight.square().sum(None).backward();
    optimizer.step(1.0).unwrap();
    let state = optimizer.state().unwrap();
    let before = Vec::<f32>::try_from(&state["w.exp_avg"]).unwrap();
    optimizer.step(1.0).unwrap();
    assert_eq!(Vec::<f32>::try_from(&state["w.exp_avg"]).unwrap(), before);
    let now = optimizer.state().unwrap();
    assert_ne!(Vec::<f32>::try_from(&now["w.exp_avg"]).unwrap(), before);
}

#[test]
fn a_sparse_gradient_is_an_error_and_nothing_changes() {
    let optimizers: [Box<dyn Optimizer>; 3] = [
        Box::new(AdamW::new(0.1)),
        Box::new(Adam::new(0.1).weight_decay(0.1)),
        Box::new(Sgd::new(0.1).momentum(0.9)),
    ];
    for mut optimizer in optimizers {
        let dense = variable();
        let table = Tensor::ones([3, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        optimizer.add_group(group("all", "w", &dense)).unwrap();
        optimizer
            .add_group(group("words", "table", &table))
            .unwrap();
        let rows = Tensor::embedding(&table, &Tensor::from_slice(&[0i64, 2]), -1, false, true);
        (rows.sum(None) + dense.sum(None)).backward();
        // Clipping comes first in a training, and must not hide the error.
        let norm = clip_grad_norm([&dense, &table], 1.0).unwrap();
        assert!((norm.double_value(&[]) - 6f64.sqrt()).abs() < 1e-6);
        let error = optimizer.step(1.0).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "optimizer step, group `words`, `table`: has a sparse gradient, which this optimizer \
             does not support; make its embedding with `sparse: false`"
        );
        assert_eq!(Vec::<f32>::try_from(dense.detach()).unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn a_store_that_changed_its_kind_between_steps_is_an_error() {
    let store = tch::nn::VarStore::new(Device::Cpu);
    let weight = store.root().ones("w", &[2]);
    let mut optimizer = AdamW::new(0.1);
    optimizer.add_group(group("all", "w", &weight)).unwrap();
    weight.sum(None).backward();
    optimizer.step(1.0).unwrap();
    let mut store = store;
    store.double();
    optimizer.zero_grad().unwrap();
    weight.sum(None).backward();
    let error = optimizer.step(1.0).unwrap_err().to_string();
    assert!(
        error.starts_with("optimizer step, group `all`, `w`: "),
        "{error}"
    );
}

#[test]
fn groups_show_every_option_filled_in() {
    let mut optimizer = AdamW::new(1e-4).weight_decay(0.2);
    let own = options(r#"{"lr": 1e-3, "momentum": 0.9}"#);
    optimizer
        .add_group(group("all", "w", &variable()).options(own))
        .unwrap();
    let filled = &optimizer.groups()[0].options;
    let expected =
        options(r#"{"lr": 1e-3, "weight_decay": 0.2, "betas": [0.9, 0.999], "eps": 1e-8}"#);
    assert_eq!(filled, &expected);
}

#[test]
fn options_that_cannot_work_name_group_and_option() {
    let optimizers: [fn() -> Box<dyn Optimizer>; 3] = [
        || Box::new(AdamW::new(0.1)),
        || Box::new(Adam::new(0.1)),
        || Box::new(Sgd::new(0.1).momentum(0.9)),
    ];
    let nan = GroupOptions::new().learning_rate(f64::NAN);
    let infinite = GroupOptions::new().weight_decay(f64::INFINITY);
    for (which, options, message) in [
        (
            0,
            options(r#"{"lr": -1.0}"#),
            "lr: must be a finite number, at least 0, is -1",
        ),
        (1, nan, "lr: must be a finite number, at least 0, is NaN"),
        (
            2,
            infinite,
            "weight_decay: must be a finite number, at least 0, is inf",
        ),
        (
            0,
            options(r#"{"eps": -1e-8}"#),
            "eps: must be a finite number, at least 0, is -0.00000001",
        ),
        (
            0,
            options(r#"{"betas": [1.0, 0.9]}"#),
            "betas[0]: must be at least 0 and less than 1, is 1",
        ),
        (
            1,
            options(r#"{"betas": [0.9, -0.1]}"#),
            "betas[1]: must be at least 0 and less than 1, is -0.1",
        ),
        (
            2,
            options(r#"{"momentum": -0.5}"#),
            "momentum: must be a finite number, at least 0, is -0.5",
        ),
    ] {
        let mut optimizer = optimizers[which]();
        let error = optimizer
            .add_group(group("proj", "w", &variable()).options(options))
            .unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("optimizer group `proj`: {message}")
        );
        assert!(optimizer.groups().is_empty());
    }
    let error = Adam::new(f64::NAN)
        .add_group(group("all", "w", &variable()))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("optimizer group `all`: lr: must"),
        "{error}"
    );
}

#[test]
fn a_parameter_cannot_be_in_two_groups() {
    let (one, two) = (variable(), variable());
    let mut optimizer = Sgd::new(0.1);
    optimizer.add_group(group("first", "w", &one)).unwrap();
    let error = optimizer.add_group(group("second", "w", &two)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "optimizer group `second`: `w`: a parameter of this name is in group `first` already"
    );
    let error = optimizer
        .add_group(group("second", "tied", &one))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "optimizer group `second`: `tied`: is the same tensor as `w`, list it once"
    );
    let error = optimizer
        .add_group(group("second", "x", &(&one * 2)))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("only variables can be optimized"),
        "{error}"
    );
    let error = optimizer
        .add_group(group("second", "x", &Tensor::new()))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`x`: is not an ordinary dense tensor"),
        "{error}"
    );
    // A refused group leaves nothing behind.
    optimizer.add_group(group("second", "x", &two)).unwrap();
    assert_eq!(optimizer.groups().len(), 2);
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let weight = variable();
    let mut optimizer = AdamW::new(0.1);
    optimizer.add_group(group("all", "w", &weight)).unwrap();
    weight.square().sum(None).backward();
    optimizer.step(1.0).unwrap();
    let before = Vec::<f32>::try_from(&optimizer.state().unwrap()["w.exp_avg"]).unwrap();

    let wrong = BTreeMap::from([
        (
            "w.exp_avg".to_owned(),
            Tensor::zeros([2], (Kind::Float, Device::Cpu)),
        ),
        (
            "w.exp_avg_sq".to_owned(),
            Tensor::zeros([3], (Kind::Float, Device::Cpu)),
        ),
        ("w.step".to_owned(), Tensor::from(1.5)),
        ("v.step".to_owned(), Tensor::from(1i64)),
    ]);
    let error = optimizer.load_state(&wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the optimizer's state does not fit the model; nothing was loaded. 3 difference(s):\n  \
         `w.step` is not one whole number of type Int64\n  \
         `w.exp_avg_sq`: expected Float [2], got Float [3]\n  \
         `v.step` belongs to no parameter of this optimizer"
    );
    let missing = BTreeMap::from([("w.step".to_owned(), Tensor::from(1i64))]);
    let error = optimizer.load_state(&missing).unwrap_err().to_string();
    assert!(
        error.contains("`w.exp_avg` is missing\n  `w.exp_avg_sq` is missing"),
        "{error}"
    );
    let after = Vec::<f32>::try_from(&optimizer.state().unwrap()["w.exp_avg"]).unwrap();
    assert_eq!(before, after);
    assert_eq!(optimizer.state().unwrap()["w.step"].int64_value(&[]), 1);
}

#[test]
fn a_factor_that_is_no_number_is_refused() {
    let mut optimizer = Sgd::new(0.1);
    let error = optimizer.step(f64::NAN).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "learning rate: the schedule's factor is NaN, not a finite number"
    );
}

#[test]
fn lent_and_boxed_optimizers_are_optimizers() -> Result<()> {
    fn use_up(mut optimizer: impl Optimizer, tensor: &Tensor) -> Result<()> {
        optimizer.add_group(group("all", "w", tensor))?;
        optimizer.zero_grad()?;
        tensor.sum(None).backward();
        optimizer.step(1.0)
    }
    let weight = variable();
    let mut kept: Box<dyn Optimizer> = Box::new(Sgd::new(0.5));
    use_up(&mut kept, &weight)?;
    assert_eq!(kept.groups().len(), 1);
    assert_eq!(Vec::<f32>::try_from(weight.detach()).unwrap(), [0.5, 1.5]);
    Ok(())
}

#[test]
fn clipping_without_gradients_is_a_norm_of_zero() {
    let norm = clip_grad_norm([&variable()], 1.0).unwrap();
    assert_eq!(norm.double_value(&[]), 0.0);
    assert_eq!(clip_grad_norm([], 1.0).unwrap().double_value(&[]), 0.0);
}

#[test]
fn clipping_leaves_small_gradients_alone() {
    let weight = variable();
    weight.sum(None).backward();
    let norm = clip_grad_norm([&weight], f64::INFINITY).unwrap();
    assert!((norm.double_value(&[]) - 2f64.sqrt()).abs() < 1e-6);
    assert_eq!(Vec::<f32>::try_from(weight.grad()).unwrap(), [1.0, 1.0]);
    let _ = clip_grad_norm([&weight], 0.0).unwrap();
    assert_eq!(Vec::<f32>::try_from(weight.grad()).unwrap(), [0.0, 0.0]);
    for wrong in [-1.0, f64::NAN] {
        let error = clip_grad_norm([&weight], wrong).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("max_grad_norm: must be at least 0, got {wrong}")
        );
    }
}
