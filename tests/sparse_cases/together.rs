//! With all that goes with a loss on logits: parts, masks, weights, storage, configurations.

use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::logits::{FromHidden, Sample, Tail, TopK};
use textbrewer::{AdaptorOutput, DistillationConfig, KdInput, Logits, Presets, StepInfo};

use crate::common::device::waves;
use crate::common::elements;
use crate::common::said::kd_loss_of;
use crate::common::waves as on_cpu;
use crate::{ALL, assert_near, ends_in_reverse, losses, value_and_gradient};

fn top() -> TopK {
    let top = TopK::of(&(waves(&[2, 17, 90], 5.0) * 4.0), 5, 3.0);
    top.unwrap()
}

fn sample() -> Sample {
    let top = top();
    let sample = Sample::new(top.indices(), &top.log_probabilities().exp());
    sample.unwrap().drawn_at(2.0).unwrap()
}

#[test]
fn in_parts_is_all_at_once() {
    let variable = |shape: &[i64], seed| (waves(shape, seed) * 2.0).set_requires_grad(true);
    let (hidden, weight) = (variable(&[2, 17, 4], 0.3), variable(&[90, 4], 0.8));
    let student = || {
        let made = FromHidden::new(&hidden, &weight).unwrap();
        // Seven positions at a time.
        made.bytes_at_once(7 * 90 * 8)
    };
    let weights = waves(&[2, 17], 0.2).abs();
    let of_top = losses()
        .into_iter()
        .flat_map(|spec| ALL.map(|tail| (spec.clone(), tail, true)));
    let of_sample =
        ["ce", "kl", "forward_kl"].map(|name| (PresetSpec::from(name), Tail::Bucket, false));
    for (spec, tail, is_top) in of_top.chain(of_sample) {
        if tail == Tail::Renormalized && ends_in_reverse(&spec) {
            continue;
        }
        for weighted in [false, true] {
            let loss = Presets::default()
                .find_kd_loss("kd_loss_type", &spec)
                .unwrap();
            let loss = loss.with_tail(tail);
            let value = |student: Logits| {
                let teacher: Logits = if is_top {
                    top().into()
                } else {
                    sample().into()
                };
                let input = KdInput::new(student, teacher, 2.0).unwrap();
                let input = match weighted {
                    true => input.with_weights(&weights),
                    false => input,
                };
                let value = loss.apply(&input).unwrap();
                value.backward();
                let gradients = [&hidden, &weight].map(|tensor| {
                    let gradient = elements(&tensor.grad());
                    let _ = tensor.grad().zero_();
                    gradient
                });
                (value.double_value(&[]), gradients.concat())
            };
            let whole = value(Logits::from(student()).whole().unwrap().into());
            let parts = value(student().into());
            let what = format!("{spec} {tail}, weighted: {weighted}");
            assert_near(&what, (parts.0, &parts.1), (whole.0, &whole.1), 1e-12);
        }
    }
}

/// By the configuration, through a distiller, under a mask.
#[test]
fn positions_that_are_left_out_do_not_count() {
    let step = StepInfo::new(0, 0, 10, 1);
    let mask = Tensor::from_slice2(&[[1i64, 0, 1], [0, 1, 0]]);
    let student = on_cpu(&[2, 3, 9], 0.3);
    let kept = |logits: &Tensor| {
        logits
            .view([6, 9])
            .index_select(0, &Tensor::from_slice(&[0i64, 2, 4]))
    };
    // What is left out may be anything.
    let (mut given, teacher) = (student.copy(), on_cpu(&[2, 3, 9], 5.0) * 4.0);
    let _ = given.masked_fill_(&mask.eq(0).unsqueeze(-1), f64::NAN);
    for tail in ALL {
        let config =
            format!(r#"{{"kd_loss_type": "forward_kl", "temperature": 2, "tail": "{tail}"}}"#);
        let config = DistillationConfig::from_json_str(&config).unwrap();
        assert_eq!(config.tail, tail);
        let output = |logits: Logits| AdaptorOutput::new().logits(logits).logits_mask(&mask);
        // Their temperature stays with them.
        let taught = TopK::of(&teacher, 2, 2.0).unwrap();
        let sides = (&output((&given).into()), &output(taught.into()));
        let loss = kd_loss_of(sides, config, Presets::default(), (&(), &step)).unwrap();
        let top = TopK::of(&kept(&teacher), 2, 2.0).unwrap();
        let expected = value_and_gradient(&"forward_kl".into(), tail, &kept(&student), top, 2.0);
        assert!(
            (loss.double_value(&[]) - expected.0).abs() < 1e-12,
            "{tail}"
        );
    }
}

#[test]
fn numbers_of_16_bits_are_widened() {
    let wide = top();
    let half = |tensor: &Tensor| tensor.to_kind(Kind::Half);
    let narrow = TopK::new(
        &wide.indices().to_kind(Kind::Int),
        &half(wide.log_probabilities()),
        &half(wide.log_tail()),
    );
    let narrow = narrow.unwrap().taken_at(3.0).unwrap();
    let student = waves(&[2, 17, 90], 0.3).to_kind(Kind::Float);
    let of = |top: TopK| {
        let (value, _) = value_and_gradient(&"kl".into(), Tail::Bucket, &student, top, 2.0);
        value
    };
    let (narrow, wide) = (of(narrow), of(wide));
    assert!((narrow / wide - 1.0).abs() < 2e-3, "{narrow} {wide}");
}
