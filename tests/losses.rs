//! The losses where the golden vectors do not look: closed forms, masks, edges, errors.

mod common;

use std::path::Path;

use common::{assert_close, close, elements, read_json, waves};
use tch::{Device, Kind, Reduction, Tensor};
use textbrewer::losses::{
    Temperature, attention_ce, attention_ce_mean, attention_mse, attention_mse_sum, cos,
    cross_entropy, fsp, hidden_mse, kd_bce, kd_ce, kd_kl, kd_mse, mmd, pkd, regression_mse,
    smooth_l1,
};
use textbrewer::{Error, KdInput, Presets, Result};

fn number(loss: Result<Tensor>) -> f64 {
    loss.unwrap_or_else(|error| panic!("{error}"))
        .double_value(&[])
}

fn gradient(tensor: &Tensor, loss: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let leaf = tensor.copy().set_requires_grad(true);
    loss(&leaf).backward();
    leaf.grad()
}

fn mask() -> Tensor {
    Tensor::from_slice2(&[[1i64, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]])
}

/// Losses that no golden case looks at, and the test that computes them in another way.
const IN_ANOTHER_WAY: [(&str, fn()); 3] = [
    (
        "kl",
        kl_is_the_cross_entropy_without_the_teachers_entropy_times_the_temperature_squared,
    ),
    ("gram", second_names_are_the_same_losses),
    ("nst", second_names_are_the_same_losses),
];

#[test]
fn every_registered_loss_is_compared_with_something() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let golden = read_json(&folder.join("golden/losses.json"));
    let pytorchs = read_json(&folder.join("reference/kd_losses.json"));
    let modern = read_json(&folder.join("golden/modern_losses.json"));
    let cases = [&golden, &pytorchs["cases"], &modern].map(|cases| cases.as_array().unwrap());
    let compared: Vec<&str> = cases
        .into_iter()
        .flatten()
        .map(|case| case["loss"].as_str().unwrap())
        .map(|name| match name {
            "tvd" => "total_variation",
            // Its cases have distances and angles; those of `cka` have the unbiased one as well.
            "rkd" => "rkd_distance",
            name => name.strip_prefix("kd_").unwrap_or(name),
        })
        .chain(["rkd_angle", "cka_unbiased"])
        .chain(IN_ANOTHER_WAY.map(|(name, _)| name))
        .collect();
    let presets = Presets::default();
    for name in presets.kd_losses().chain(presets.match_losses()) {
        assert!(
            compared.contains(&name),
            "`{name}` has no golden case; add a test that computes it in another way to \
             IN_ANOTHER_WAY"
        );
    }
}

#[test]
fn second_names_are_the_same_losses() {
    let presets = Presets::default();
    for (one, other) in [("fsp", "gram"), ("mmd", "nst")] {
        let value = |name| {
            let loss = presets.find_match_loss("loss", name).unwrap();
            number(loss.apply(&two(&[2, 3, 4], 0.1), &two(&[2, 3, 4], 0.6), None))
        };
        assert_eq!(value(one), value(other));
    }
}

type MatchLoss = fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor>;

/// Every loss on features under one signature, with shapes of student and teacher.
fn match_losses() -> Vec<(&'static str, MatchLoss, Vec<i64>, Vec<i64>)> {
    let attention = || vec![3, 2, 4, 4];
    let hidden = || vec![3, 4, 6];
    vec![
        (
            "attention_mse",
            |s, t, m| attention_mse(&s[0], &t[0], m),
            attention(),
            attention(),
        ),
        (
            "attention_mse_sum",
            |s, t, m| attention_mse_sum(&s[0], &t[0], m),
            attention(),
            vec![3, 5, 4, 4],
        ),
        (
            "attention_ce",
            |s, t, m| attention_ce(&s[0], &t[0], m),
            attention(),
            attention(),
        ),
        (
            "attention_ce_mean",
            |s, t, m| attention_ce_mean(&s[0], &t[0], m),
            attention(),
            vec![3, 4, 4],
        ),
        (
            "hidden_mse",
            |s, t, m| hidden_mse(&s[0], &t[0], m),
            hidden(),
            hidden(),
        ),
        ("cos", |s, t, m| cos(&s[0], &t[0], m), hidden(), hidden()),
        ("fsp", fsp, hidden(), hidden()),
        ("mmd", mmd, hidden(), vec![3, 4, 9]),
    ]
}

fn two(shape: &[i64], seed: f64) -> [Tensor; 2] {
    [waves(shape, seed), waves(shape, seed + 0.3)]
}

#[test]
fn kl_is_the_cross_entropy_without_the_teachers_entropy_times_the_temperature_squared() {
    let (student, teacher) = (waves(&[3, 4, 5], 0.1) * 4.0, waves(&[3, 4, 5], 0.5) * 4.0);
    let temperature = Temperature::Constant(3.0);
    let entropy = number(kd_ce(&teacher, &teacher, &temperature));
    let cross_entropy = number(kd_ce(&student, &teacher, &temperature));
    let kl = number(kd_kl(&student, &teacher, &temperature));
    assert!((kl - 9.0 * (cross_entropy - entropy)).abs() < 1e-12);

    let of_kl = gradient(&student, |s| kd_kl(s, &teacher, &temperature).unwrap());
    let of_ce = gradient(&student, |s| kd_ce(s, &teacher, &temperature).unwrap());
    assert_close("gradient", &of_kl, &(of_ce * 9.0));
    assert!(number(kd_kl(&teacher, &teacher, &temperature)).abs() < 1e-12);
}

#[test]
fn each_position_has_its_own_temperature() {
    let (student, teacher) = (waves(&[2, 3, 5], 0.1) * 4.0, waves(&[2, 3, 5], 0.5) * 4.0);
    let values = waves(&[2, 3], 0.2) + 3.0;
    let temperature = Temperature::Each(values.copy());
    for loss in [kd_ce, kd_mse, kd_kl] {
        let mut sum = 0.0;
        for batch in 0..2 {
            for position in 0..3 {
                let only = |logits: &Tensor| logits.get(batch).get(position).unsqueeze(0);
                let value = values.double_value(&[batch, position]);
                sum += number(loss(&only(&student), &only(&teacher), &value.into()));
            }
        }
        let got = number(loss(&student, &teacher, &temperature));
        assert!((got - sum / 6.0).abs() < 1e-12, "{got}");
    }
}

#[test]
fn a_temperature_for_each_example_holds_for_all_its_positions() {
    let (student, teacher) = (waves(&[2, 3, 5], 0.1), waves(&[2, 3, 5], 0.5));
    let values = Tensor::from_slice(&[2.0, 5.0]);
    let spread = values.unsqueeze(1).expand([2, 3], false);
    for loss in [kd_ce, kd_mse, kd_kl] {
        let by_example = number(loss(&student, &teacher, &values.copy().into()));
        let by_position = number(loss(&student, &teacher, &spread.copy().into()));
        assert_eq!(by_example, by_position);
        let single = number(loss(&student, &teacher, &Tensor::from(4.0).into()));
        let constant = number(loss(&student, &teacher, &4.0.into()));
        assert!((single - constant).abs() < 1e-12);
    }
}

#[test]
fn a_temperature_must_fit_the_logits() {
    let logits = waves(&[2, 3, 5], 0.1);
    for loss in [kd_ce, kd_mse, kd_kl] {
        let error = loss(&logits, &logits, &waves(&[3], 0.1).into()).unwrap_err();
        assert!(
            error.to_string().ends_with(
                ", temperature: expected one for each example or position, [2, 3], \
                 or a single number, got [3]"
            ),
            "{error}"
        );
    }
}

/// `torch.nn.functional.cosine_embedding_loss` on the positions that the mask selects.
fn reference_cos(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let hidden = student.size()[2];
    let rows = |state: &Tensor| {
        let rows = state.reshape([-1, hidden]);
        match mask {
            None => rows,
            Some(mask) => rows.index(&[Some(mask.reshape([-1]).to_kind(Kind::Bool))]),
        }
    };
    let (student, teacher) = (rows(student), rows(teacher));
    let target = Tensor::ones([student.size()[0]], (student.kind(), Device::Cpu));
    Tensor::cosine_embedding_loss(&student, &teacher, &target, 0.0, Reduction::Mean)
}

#[test]
fn cos_is_libtorchs_cosine_embedding_loss() {
    for kind in [Kind::Float, Kind::Double] {
        let student = waves(&[3, 4, 6], 0.1).to_kind(kind);
        let teacher = waves(&[3, 4, 6], 0.5).to_kind(kind);
        // Kept and masked positions with vectors of length 0, on either side and on both.
        for (position, side) in [([0, 0], 0), ([0, 1], 1), ([0, 2], 2), ([1, 3], 0)] {
            if side != 1 {
                let _ = student.get(position[0]).get(position[1]).zero_();
            }
            if side != 0 {
                let _ = teacher.get(position[0]).get(position[1]).zero_();
            }
        }
        let fractions = mask().to_kind(kind) * 0.3;
        for mask in [None, Some(&mask()), Some(&fractions)] {
            let got = number(cos(&student, &teacher, mask));
            let wanted = reference_cos(&student, &teacher, mask);
            assert!(close(got, wanted.double_value(&[])), "{got}, not {wanted}");
            let got = gradient(&student, |s| cos(s, &teacher, mask).unwrap());
            let wanted = gradient(&student, |s| reference_cos(s, &teacher, mask));
            assert!(elements(&wanted).iter().all(|value| value.is_finite()));
            assert_close("gradient", &got, &wanted);
        }
    }
}

#[test]
fn what_is_masked_does_not_count() {
    let mask = mask();
    for (name, loss, student, teacher) in match_losses() {
        let (student, teacher) = (two(&student, 0.1), two(&teacher, 0.5));
        let keep = mask.to_kind(Kind::Double);
        let keep = match name {
            // The softmax sees masked columns before they are left out.
            "attention_ce" | "attention_ce_mean" => keep.unsqueeze(2),
            "attention_mse" | "attention_mse_sum" => keep.unsqueeze(1) * keep.unsqueeze(2),
            _ => keep.unsqueeze(2),
        };
        let elsewhere = |tensor: &Tensor| {
            let keep = match tensor.dim() {
                4 => keep.unsqueeze(1),
                _ => keep.shallow_clone(),
            };
            tensor * &keep + (1.0 - keep) * 0.77
        };
        let before = number(loss(&student, &teacher, Some(&mask)));
        let after = number(loss(
            &[elsewhere(&student[0]), elsewhere(&student[1])],
            &[elsewhere(&teacher[0]), elsewhere(&teacher[1])],
            Some(&mask),
        ));
        assert!((before - after).abs() < 1e-12, "{name}: {before}, {after}");
        let unmasked = number(loss(&student, &teacher, None));
        assert!(
            (before - unmasked).abs() > 1e-6,
            "{name}: the mask did nothing"
        );
    }
}

#[test]
fn masks_may_be_of_any_kind() {
    for (name, loss, student, teacher) in match_losses() {
        let (student, teacher) = (two(&student, 0.1), two(&teacher, 0.5));
        let expected = number(loss(&student, &teacher, Some(&mask())));
        for kind in [Kind::Bool, Kind::Uint8, Kind::Float] {
            let mask = mask().to_kind(kind);
            let got = number(loss(&student, &teacher, Some(&mask)));
            assert_eq!(got, expected, "{name}, {kind:?}");
        }
    }
}

/// That a loss and its gradient are 0.
fn assert_nothing(name: &str, students: &[Tensor], loss: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let copies = students.iter().map(|s| s.copy().set_requires_grad(true));
    let copies: Vec<Tensor> = copies.collect();
    let loss = loss(&copies).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(loss.double_value(&[]), 0.0, "{name}");
    loss.backward();
    for gradient in copies.iter().map(Tensor::grad).filter(Tensor::defined) {
        let zeros = elements(&gradient).into_iter().all(|value| value == 0.0);
        assert!(zeros, "{name}: {gradient:?}");
    }
}

#[test]
fn a_mask_that_keeps_nothing_gives_zero_and_no_gradient() {
    let nothing = Tensor::zeros([3, 4], (Kind::Int64, Device::Cpu));
    for (name, loss, student, teacher) in match_losses() {
        let (student, teacher) = (two(&student, 0.1), two(&teacher, 0.5));
        assert_nothing(name, &student, |s| loss(s, &teacher, Some(&nothing)));
    }
}

#[test]
fn an_example_of_padding_alone_changes_none_of_the_others() {
    let last_is_padding = Tensor::from_slice2(&[[1i64, 1, 1, 1], [1, 1, 0, 0], [0; 4]]);
    for (name, loss, student, teacher) in match_losses() {
        let (student, teacher) = (two(&student, 0.1), two(&teacher, 0.5));
        let got = number(loss(&student, &teacher, Some(&last_is_padding)));
        let first = |of: &[Tensor; 2]| of.each_ref().map(|state| state.narrow(0, 0, 2));
        let mask = last_is_padding.narrow(0, 0, 2);
        let alone = number(loss(&first(&student), &first(&teacher), Some(&mask)));
        // `fsp` alone is a mean over examples.
        let expected = if name == "fsp" {
            alone * 2.0 / 3.0
        } else {
            alone
        };
        assert!(close(got, expected), "{name}: {got}, {expected}");
    }
}

#[test]
fn losses_of_no_example_are_zero() {
    let empty =
        |size: &[i64]| Tensor::zeros([&[0], &size[1..]].concat(), (Kind::Double, Device::Cpu));
    for (name, loss, student, teacher) in match_losses() {
        let (student, teacher) = (empty(&student), empty(&teacher));
        let [student, teacher] = [student, teacher].map(|t| [t.copy(), t]);
        assert_nothing(name, &student, |s| loss(s, &teacher, None));
    }
    let logits = empty(&[1, 4]);
    for name in Presets::default().kd_losses() {
        let loss = Presets::default().find_kd_loss("loss", name).unwrap();
        for temperature in [Temperature::Constant(2.0), Temperature::Each(empty(&[1]))] {
            assert_nothing(name, &[logits.copy()], |s| {
                let labels = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
                let input = KdInput::new(&s[0], &logits, &temperature)?;
                loss.apply(&input.with_labels(&labels))
            });
        }
    }
    let constant = Temperature::Constant(2.0);
    let each = Temperature::Each(empty(&[1]));
    for temperature in [&constant, &each] {
        for loss in [kd_ce, kd_kl, kd_mse, kd_bce] {
            assert_nothing("kd", &[logits.copy()], |s| {
                loss(&s[0], &logits, temperature)
            });
        }
    }
    for loss in [regression_mse, smooth_l1] {
        assert_nothing("numbers", &[logits.copy()], |s| loss(&s[0], &logits));
    }
    assert_nothing("pkd", &[empty(&[1, 3, 4])], |s| {
        pkd(&s[0], &empty(&[1, 3, 4]), None)
    });
}

#[test]
fn cross_entropy_is_libtorchs_and_zero_without_a_label() {
    let logits = waves(&[2, 3, 5], 0.3) * 4.0;
    let labels = Tensor::from_slice2(&[[0i64, -100, 4], [2, 2, -100]]);
    let rows = labels.ne(-100).view([-1]).nonzero().squeeze_dim(-1);
    let selected = logits.view([6, 5]).index_select(0, &rows);
    let of_each = selected.log_softmax(-1, Kind::Double);
    let kept = labels.view([-1]).index_select(0, &rows).unsqueeze(1);
    let expected = -of_each.gather(1, &kept, false).mean(Kind::Double);
    let got = cross_entropy(&logits, &labels).unwrap();
    assert_close("cross_entropy", &got, &expected);
    // To the bit what libtorch's own mean is, and its gradient.
    let single = logits.to_kind(Kind::Float);
    let own = |s: &Tensor| {
        let (flat, labels) = (s.reshape([6, 5]), labels.reshape([6]));
        flat.cross_entropy_loss(&labels, None::<Tensor>, Reduction::Mean, -100, 0.0)
    };
    assert_eq!(cross_entropy(&single, &labels).unwrap(), own(&single));
    let ours = |s: &Tensor| cross_entropy(s, &labels).unwrap();
    assert_eq!(gradient(&single, ours), gradient(&single, own));
    // 16 bits are widened.
    let narrow = single.to_kind(Kind::BFloat16);
    let wide = narrow.to_kind(Kind::Float);
    assert_eq!(cross_entropy(&narrow, &labels).unwrap(), own(&wide));

    let nothing = Tensor::full([2, 3], -100, (Kind::Int64, Device::Cpu));
    assert_nothing("cross_entropy", &[single], |s| {
        cross_entropy(&s[0], &nothing)
    });
    let error = message(cross_entropy(&logits, &labels.narrow(1, 0, 2)));
    assert_eq!(
        error,
        "labels: expected [2, 3], as the logits need, got [2, 2]"
    );
    let error = cross_entropy(&logits, &(labels + 9))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cross entropy: labels must be in 0..5, or -100"),
        "{error}"
    );
    for (kind, size) in [(Kind::Int64, [2, 3]), (Kind::Float, [2, 0])] {
        let odd = Tensor::zeros(size, (kind, Device::Cpu));
        let error = message(cross_entropy(&odd, &Tensor::from_slice(&[0i64, 1])));
        let expected = format!(
            "cross entropy: logits: expected floating-point numbers [.., classes] of at least one \
             class, got {size:?} of {kind:?}"
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn without_a_mask_small_attentions_are_taken_for_padding() {
    let student = Tensor::from_slice(&[0.5, -10_000.0, -2e-3, -5e-4]).view([1, 1, 2, 2]);
    let teacher = Tensor::from_slice(&[-0.3, -9_000.0, 0.0, -5e-4]).view([1, 1, 2, 2]);
    assert_eq!(
        number(attention_mse(&student, &teacher, None)),
        0.5 * 0.5 / 4.0
    );
    let gradient = gradient(&student, |s| attention_mse(s, &teacher, None).unwrap());
    assert_eq!(elements(&gradient), [0.25, 0.0, 0.0, 0.0]);

    // Both scores of the first row are padding for the teacher: nothing is left of it.
    let log_half = -(2f64.ln());
    let student = Tensor::zeros([1, 1, 2, 2], (Kind::Double, Device::Cpu));
    let teacher = Tensor::from_slice(&[-1.0, -1.0, 0.0, 0.0]).view([1, 1, 2, 2]);
    let got = number(attention_ce(&student, &teacher, None));
    assert!((got + log_half / 2.0).abs() < 1e-15, "{got}");
    let mask = Tensor::from_slice2(&[[1, 1]]);
    let got = number(attention_ce(&student, &teacher, Some(&mask)));
    assert!((got + log_half).abs() < 1e-15, "{got}");
}

#[test]
fn attentions_of_different_numbers_of_heads_are_compared_without_them() {
    let (student, teacher) = (waves(&[3, 2, 4, 4], 0.1), waves(&[3, 6, 4, 4], 0.5));
    let sum = |attention: &Tensor| attention.sum_dim_intlist([1i64].as_slice(), false, None);
    let mean = |attention: &Tensor| attention.mean_dim([1i64].as_slice(), false, None);
    for mask in [None, Some(&mask())] {
        assert_eq!(
            number(attention_mse_sum(&student, &teacher, mask)),
            number(attention_mse_sum(&sum(&student), &sum(&teacher), mask)),
        );
        assert_eq!(
            number(attention_ce_mean(&student, &teacher, mask)),
            number(attention_ce_mean(&student, &mean(&teacher), mask)),
        );
    }
}

#[test]
fn pkd_looks_at_the_first_position_only() {
    let (student, teacher) = (waves(&[3, 4, 6], 0.1), waves(&[3, 7, 6], 0.5));
    let first = |state: &Tensor| state.select(1, 0);
    let of_states = number(pkd(&student, &teacher, Some(&mask())));
    let of_pooled = number(pkd(&first(&student), &(first(&teacher) * 5.0), None));
    assert!((of_states - of_pooled).abs() < 1e-12);
    // Opposite directions are at a distance of 2.
    assert!((number(pkd(&student, &(&student * -3.0), None)) - 4.0).abs() < 1e-12);
}

#[test]
fn a_teacher_without_gradient_gets_none() {
    for (name, loss, student, teacher) in match_losses() {
        let student = two(&student, 0.1).map(|tensor| tensor.set_requires_grad(true));
        let teacher = two(&teacher, 0.5);
        for mask in [None, Some(&mask())] {
            loss(&student, &teacher, mask).unwrap().backward();
            assert!(!teacher[0].grad().defined(), "{name}");
            assert!(student[0].grad().defined(), "{name}");
        }
    }
}

fn message(loss: Result<Tensor>) -> String {
    match loss {
        Err(error @ Error::Shape { .. }) => error.to_string(),
        other => panic!("no error of shapes: {other:?}"),
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let (hidden, wide) = (zeros(&[3, 4, 6]), zeros(&[3, 4, 8]));
    let pair = |shape: &[i64]| [zeros(shape), zeros(shape)];
    let extended = zeros(&[3, 1, 1, 4]);
    let one = Temperature::Constant(1.0);
    let cases = [
        (
            kd_ce(&zeros(&[3, 2]), &zeros(&[3, 1]), &one),
            "kd_ce: expected logits of one shape, [batch, classes] or [batch, length, classes], \
             got student [3, 2] and teacher [3, 1]",
        ),
        (
            hidden_mse(&hidden, &wide, None),
            "hidden_mse: expected student and teacher of one hidden size (add `proj` to the \
             match), got student [3, 4, 6] and teacher [3, 4, 8]",
        ),
        (
            cos(&hidden, &zeros(&[3, 1, 6]), None),
            "cos: expected student and teacher of one shape, got student [3, 4, 6] and teacher \
             [3, 1, 6]",
        ),
        (
            hidden_mse(&hidden, &hidden, Some(&extended)),
            "hidden_mse, mask: expected [batch, length] = [3, 4], one number for each position, \
             got [3, 1, 1, 4]",
        ),
        (
            cos(&hidden, &hidden, Some(&zeros(&[1, 4]))),
            "cos, mask: expected [batch, length] = [3, 4], one number for each position, got \
             [1, 4]",
        ),
        (
            pkd(&hidden, &zeros(&[3, 8]), None),
            "pkd: expected student and teacher of one batch and hidden size (add `proj` to the \
             match where hidden sizes differ), got student [3, 4, 6] and teacher [3, 8]",
        ),
        (
            pkd(&zeros(&[3]), &hidden, None),
            "pkd: expected [batch, length, hidden] or [batch, hidden], got student [3] and \
             teacher [3, 4, 6]",
        ),
        (
            attention_mse(&zeros(&[3, 2, 4, 4]), &zeros(&[3, 1, 4, 4]), None),
            "attention_mse: expected student and teacher with as many heads (or use \
             `attention_mse_sum`), got student [3, 2, 4, 4] and teacher [3, 1, 4, 4]",
        ),
        (
            attention_ce(&zeros(&[3, 2, 4, 4]), &zeros(&[3, 2, 5, 5]), None),
            "attention_ce: expected student and teacher of one shape, [batch, heads, length, \
             length], got student [3, 2, 4, 4] and teacher [3, 2, 5, 5]",
        ),
        (
            attention_ce_mean(&zeros(&[3, 2, 4, 4]), &zeros(&[3, 5, 5]), None),
            "attention_ce_mean: expected without their heads, student and teacher of one shape \
             [batch, length, length], got student [3, 4, 4] and teacher [3, 5, 5]",
        ),
        (
            attention_mse(
                &zeros(&[3, 2, 4, 4]),
                &zeros(&[3, 2, 4, 4]),
                Some(&zeros(&[3, 5])),
            ),
            "attention_mse, mask: expected [batch, length] = [3, 4], one number for each \
             position, got [3, 5]",
        ),
        (
            fsp(&pair(&[3, 4, 6])[..1], &pair(&[3, 4, 6]), None),
            "fsp, student: expected two states (name two layers a side, as in `\"layer_S\": \
             [0, 2]`), got 1",
        ),
        (
            fsp(&pair(&[3, 4, 6]), &pair(&[3, 4, 8]), None),
            "fsp: expected student and teacher of one batch and hidden size (add `proj` to the \
             match), got student [3, 4, 6] and teacher [3, 4, 8]",
        ),
        (
            fsp(&pair(&[3, 4, 6]), &pair(&[3, 5, 6]), Some(&zeros(&[3, 4]))),
            "fsp: expected with a mask, student and teacher of one length, got student \
             [3, 4, 6] and teacher [3, 5, 6]",
        ),
        (
            mmd(&pair(&[3, 4, 6]), &pair(&[3, 5, 6]), None),
            "mmd: expected student and teacher of one batch and length, got student [3, 4, 6] \
             and teacher [3, 5, 6]",
        ),
        (
            mmd(
                &[zeros(&[3, 4, 6]), zeros(&[3, 4, 8])],
                &pair(&[3, 4, 6]),
                None,
            ),
            "mmd: expected two layers of one hidden size on each side, got student [3, 4, 6] \
             with [3, 4, 8] and teacher [3, 4, 6]",
        ),
        (
            mmd(
                &pair(&[3, 4, 6]),
                &[zeros(&[3, 4, 6]), zeros(&[3, 6])],
                None,
            ),
            "mmd, teacher: expected two states [batch, length, hidden] of one batch and length, \
             got [3, 4, 6] and [3, 6]",
        ),
    ];
    for (loss, expected) in cases {
        assert_eq!(message(loss), expected);
    }
}

type Loss = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Every loss without a mask; those on two layers a side get the same one twice.
fn all_losses() -> Vec<(&'static str, &'static [i64], Loss)> {
    use textbrewer::losses::*;
    const LOGITS: &[i64] = &[2, 5];
    const HIDDEN: &[i64] = &[2, 3, 4];
    const ATTENTION: &[i64] = &[2, 2, 3, 3];
    fn twice(state: &Tensor) -> [Tensor; 2] {
        [state.shallow_clone(), state.shallow_clone()]
    }
    vec![
        ("kd_mse", LOGITS, |s, t| kd_mse(s, t, &2.0.into())),
        ("kd_ce", LOGITS, |s, t| kd_ce(s, t, &2.0.into())),
        ("kd_kl", LOGITS, |s, t| kd_kl(s, t, &2.0.into())),
        ("kd_bce", LOGITS, |s, t| kd_bce(s, t, &2.0.into())),
        ("regression_mse", LOGITS, regression_mse),
        ("smooth_l1", LOGITS, smooth_l1),
        ("hidden_mse", HIDDEN, |s, t| hidden_mse(s, t, None)),
        ("cos", HIDDEN, |s, t| cos(s, t, None)),
        ("pkd", HIDDEN, |s, t| pkd(s, t, None)),
        ("rkd_distance", HIDDEN, |s, t| rkd_distance(s, t, None)),
        ("rkd_angle", HIDDEN, |s, t| rkd_angle(s, t, None)),
        ("pkt", HIDDEN, |s, t| pkt(s, t, None)),
        ("sp", HIDDEN, |s, t| sp(s, t, None)),
        ("cka", HIDDEN, |s, t| cka(s, t, None)),
        ("fsp", HIDDEN, |s, t| fsp(&twice(s), &twice(t), None)),
        ("mmd", HIDDEN, |s, t| mmd(&twice(s), &twice(t), None)),
        ("attention_mse", ATTENTION, |s, t| attention_mse(s, t, None)),
        ("attention_mse_sum", ATTENTION, |s, t| {
            attention_mse_sum(s, t, None)
        }),
        ("attention_ce", ATTENTION, |s, t| attention_ce(s, t, None)),
        ("attention_ce_mean", ATTENTION, |s, t| {
            attention_ce_mean(s, t, None)
        }),
    ]
}

#[test]
fn a_teacher_in_another_floating_point_kind_is_converted() {
    for (name, shape, loss) in all_losses() {
        let student = waves(shape, 0.1).to_kind(Kind::Float);
        for kind in [Kind::Half, Kind::BFloat16, Kind::Double] {
            let teacher = waves(shape, 0.7).to_kind(kind);
            let got = loss(&student, &teacher).unwrap();
            let expected = loss(&student, &teacher.to_kind(Kind::Float)).unwrap();
            assert_eq!(got.kind(), Kind::Float, "{name}");
            assert_eq!(got, expected, "{name}, {kind:?}");
        }
    }
}

#[test]
fn integers_are_refused_by_name() {
    for (name, shape, loss) in all_losses() {
        let student = waves(shape, 0.1).to_kind(Kind::Float);
        let teacher = waves(shape, 0.7).to_kind(Kind::Int64);
        for (student, teacher, got) in [
            (&student, &teacher, "student Float and teacher Int64"),
            (&teacher, &student, "student Int64 and teacher Float"),
            (&teacher, &teacher, "student Int64 and teacher Int64"),
        ] {
            assert_eq!(
                loss(student, teacher).unwrap_err().to_string(),
                format!(
                    "{name}: expected floating-point numbers on both sides (convert with \
                     `to_kind`), got {got}"
                )
            );
        }
    }
}

#[test]
fn logits_are_left_as_they_are() {
    let (student, teacher) = (waves(&[3, 5], 0.3), waves(&[3, 5], 1.1));
    let (before, also_before) = (student.copy(), teacher.copy());
    for temperature in [1.0, 8.0] {
        let temperature = Temperature::Constant(temperature);
        for loss in [kd_ce, kd_kl] {
            let alone = loss(&student, &teacher, &temperature).unwrap();
            // A teacher with a history takes another way to the same number.
            let trained = teacher.copy().set_requires_grad(true);
            let with_history = loss(&student, &trained, &temperature).unwrap();
            let difference = alone.double_value(&[]) - with_history.double_value(&[]);
            assert!(difference.abs() < 1e-12, "{difference}");
            with_history.backward();
            assert!(trained.grad().defined());
            assert_eq!((&student, &teacher), (&before, &also_before));
        }
    }
}

/// Such a tensor has no memory to be asked for.
#[test]
fn sparse_logits_are_an_error() {
    let student = waves(&[3, 5], 0.3);
    let teacher = waves(&[3, 5], 1.1).to_sparse_sparse_dim(2);
    for temperature in [1.0, 8.0] {
        let temperature = Temperature::Constant(temperature);
        assert!(kd_ce(&student, &teacher, &temperature).is_err());
    }
}
