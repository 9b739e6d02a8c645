//! Optimizer steps on tensors that lie in memory in their own ways. The kernels that take
//! them walk through memory without regard to strides; each element must still get its own
//! gradient. The expected values are those of the same steps on contiguous tensors, which
//! `tests/optim.rs` holds against PyTorch.

use tch::{Device, Kind, Tensor};
use textbrewer::Error;
use textbrewer::optim::{Adam, AdamW, Optimizer, ParamGroup, Sgd, clip_grad_norm};

fn optimizers() -> [Box<dyn Optimizer>; 4] {
    [
        Box::new(AdamW::new(0.1)),
        Box::new(Adam::new(0.1).weight_decay(0.1)),
        Box::new(Sgd::new(0.1).momentum(0.9)),
        Box::new(Sgd::new(0.1).weight_decay(0.1)),
    ]
}

fn all(tensor: &Tensor) -> ParamGroup {
    ParamGroup::new("all", vec![("w".into(), tensor.shallow_clone())])
}

/// As a parameter and as gradients: values that differ everywhere and over the steps.
fn values(step: usize) -> Tensor {
    let count = Tensor::arange(35, (Kind::Float, Device::Cpu)) + step as f64;
    count.sin().view([5, 7])
}

/// Three steps; `lay` says how a gradient lies in memory.
fn train(optimizer: &mut dyn Optimizer, weight: &Tensor, lay: fn(&Tensor) -> Tensor) {
    for step in 1..4 {
        optimizer.zero_grad().unwrap();
        assert!(!weight.grad().defined());
        let gradient = values(step).to_kind(weight.kind());
        (weight * &gradient).sum(None).backward();
        let laid = lay(&gradient);
        assert_eq!(laid, gradient);
        weight.grad().set_data(&laid);
        assert_eq!(weight.grad().stride(), laid.stride());
        optimizer.step(1.0).unwrap();
    }
}

fn contiguous(gradient: &Tensor) -> Tensor {
    gradient.contiguous()
}

fn transposed(gradient: &Tensor) -> Tensor {
    gradient.tr().contiguous().tr()
}

/// Every second element of a longer row.
fn spread(gradient: &Tensor) -> Tensor {
    let wide = Tensor::zeros([5, 14], (gradient.kind(), Device::Cpu));
    let narrow = wide.slice(1, 1, 14, 2);
    narrow.shallow_clone().copy_(gradient);
    narrow
}

#[test]
fn each_element_gets_its_own_gradient_however_they_lie_in_memory() {
    let layouts: [fn(&Tensor) -> Tensor; 3] = [contiguous, transposed, spread];
    for (which, of_gradient) in layouts.into_iter().enumerate() {
        for (other, of_parameter) in layouts.into_iter().enumerate() {
            for (kind, [mut plain, mut odd]) in [Kind::Float, Kind::Double, Kind::BFloat16]
                .into_iter()
                .flat_map(|kind| {
                    let pairs = optimizers().into_iter().zip(optimizers());
                    pairs.map(move |(plain, odd)| (kind, [plain, odd]))
                })
            {
                let begin = values(0).to_kind(kind);
                let expected = begin.copy().set_requires_grad(true);
                plain.add_group(all(&expected)).unwrap();
                train(&mut plain, &expected, contiguous);

                let weight = of_parameter(&begin.copy()).detach().set_requires_grad(true);
                odd.add_group(all(&weight)).unwrap();
                train(&mut odd, &weight, of_gradient);
                let place = format!("gradient {which}, parameter {other}, {kind:?}");
                // The last elements of a row of memory are computed one by one, the others
                // together, so which they are can change a value in its last digit.
                let tolerance = match kind {
                    Kind::BFloat16 => 1e-2,
                    Kind::Float => 1e-6,
                    _ => 1e-14,
                };
                assert!(
                    weight.allclose(&expected, tolerance, tolerance, false),
                    "{place}"
                );
                assert!(!weight.allclose(&begin, 0.05, 0.05, false), "{place}");
                // So it is with what is remembered.
                let (left, right) = (plain.state().unwrap(), odd.state().unwrap());
                assert_eq!(left.len(), right.len());
                for (key, value) in &left {
                    assert!(
                        right[key].allclose(value, tolerance, tolerance, false),
                        "{place}, {key}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_lies_between_the_elements_of_a_parameter_is_left_alone() {
    let memory = Tensor::full([5, 14], 7.0, (Kind::Float, Device::Cpu));
    let weight = memory.slice(1, 0, 14, 2).detach().set_requires_grad(true);
    assert!(!weight.is_contiguous());
    let mut optimizer = Sgd::new(1.0);
    optimizer.add_group(all(&weight)).unwrap();
    weight.sum(None).backward();
    optimizer.step(1.0).unwrap();
    let row = Vec::<f32>::try_from(memory.get(3)).unwrap();
    assert_eq!(row, [6.0, 7.0].repeat(7));
}

#[test]
fn a_state_restored_into_another_layout_goes_on_as_before() {
    for (mut first, mut second) in optimizers().into_iter().zip(optimizers()) {
        let weight = values(0).set_requires_grad(true);
        first.add_group(all(&weight)).unwrap();
        train(&mut first, &weight, contiguous);
        let resumed = transposed(&weight.detach()).set_requires_grad(true);
        second.add_group(all(&resumed)).unwrap();
        second.load_state(&first.state().unwrap()).unwrap();
        train(&mut first, &weight, contiguous);
        train(&mut second, &resumed, spread);
        assert!(resumed.allclose(&weight, 1e-6, 1e-6, false));
    }
}

#[test]
fn elements_that_share_their_memory_are_an_error() {
    for mut optimizer in optimizers() {
        let weight = Tensor::ones([1], (Kind::Float, Device::Cpu))
            .expand([3], false)
            .detach()
            .set_requires_grad(true);
        optimizer.add_group(all(&weight)).unwrap();
        weight.sum(None).backward();
        let error = optimizer.step(1.0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "optimizer step, group `all`, `w`: has elements that share their memory; make it \
             contiguous"
        );
        assert_eq!(weight.double_value(&[0]), 1.0);
    }
}

#[test]
fn a_kind_that_no_step_can_take_is_an_error_before_anything_changes() {
    for mut optimizer in optimizers() {
        let real = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let complex = Tensor::ones([2], (Kind::ComplexFloat, Device::Cpu)).set_requires_grad(true);
        let group = ParamGroup::new(
            "all",
            vec![
                ("r".into(), real.shallow_clone()),
                ("c".into(), complex.shallow_clone()),
            ],
        );
        optimizer.add_group(group).unwrap();
        (complex.real().sum(None) + real.sum(None)).backward();
        let error = optimizer.step(1.0).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "optimizer step, group `all`, `c`: is of kind ComplexFloat; this optimizer takes \
             Float, Double, Half and BFloat16"
        );
        assert_eq!(real.double_value(&[0]), 1.0);
    }
}

#[test]
fn low_precision_is_rounded_once_a_step() {
    for kind in [Kind::Half, Kind::BFloat16] {
        for (mut low, mut float) in optimizers().into_iter().zip(optimizers()) {
            let begin = values(0).to_kind(kind);
            let weight = begin.copy().set_requires_grad(true);
            let reference = begin.to_kind(Kind::Float).set_requires_grad(true);
            low.add_group(all(&weight)).unwrap();
            float.add_group(all(&reference)).unwrap();
            let gradient = values(1).to_kind(kind);
            (&weight * &gradient).sum(None).backward();
            (&reference * gradient.to_kind(Kind::Float))
                .sum(None)
                .backward();
            low.step(1.0).unwrap();
            float.step(1.0).unwrap();
            assert_eq!(
                weight.detach(),
                reference.detach().to_kind(kind),
                "{kind:?}"
            );
            for (key, value) in low.state().unwrap() {
                let expected = float.state().unwrap()[&key].to_kind(value.kind());
                assert_eq!(value, expected, "{kind:?}, {key}");
            }
        }
    }
}

#[test]
fn a_gradient_unlike_its_parameter_is_an_error_that_names_it() {
    for mut optimizer in optimizers() {
        let [first, second] = [(); 2].map(|()| values(0).set_requires_grad(true));
        let group = ParamGroup::new(
            "all",
            vec![
                ("a".into(), first.shallow_clone()),
                ("b".into(), second.shallow_clone()),
            ],
        );
        optimizer.add_group(group).unwrap();
        (first.sum(None) + second.sum(None)).backward();
        second
            .grad()
            .set_data(&Tensor::ones([2, 2], (Kind::Float, Device::Cpu)));
        let error = optimizer.step(1.0).unwrap_err().to_string();
        assert!(
            error.starts_with("optimizer step, group `all`, `b`: the parameter is Float [5, 7] on cpu and its gradient is Float [2, 2] on cpu"),
            "{error}"
        );
        assert_eq!(first.detach(), values(0));
    }
}

#[test]
fn the_norm_is_of_all_kinds_and_layouts_together() {
    let float = Tensor::ones([5, 7], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let double = Tensor::ones([2], (Kind::Double, Device::Cpu)).set_requires_grad(true);
    let half = Tensor::ones([1], (Kind::Half, Device::Cpu)).set_requires_grad(true);
    let none = Tensor::ones([4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    (float.sum(None) + double.sum(None) * 6.0 + half.sum(None)).backward();
    float.grad().set_data(&spread(&float.grad()));
    // 35 + 2 · 36 + 1 = 108
    let norm = clip_grad_norm([&float, &none, &double, &half], 1.0).unwrap();
    assert!((norm.double_value(&[]) - 108f64.sqrt()).abs() < 1e-6);
    assert!((float.grad().double_value(&[4, 6]) - 108f64.sqrt().recip()).abs() < 1e-6);
    assert!((double.grad().double_value(&[1]) - 6.0 * 108f64.sqrt().recip()).abs() < 1e-6);
    assert!((half.grad().double_value(&[0]) - 108f64.sqrt().recip()).abs() < 1e-4);
    assert_eq!(half.grad().kind(), Kind::Half);
}
