//! Losses on logits of all classes.

use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::losses::{self, Temperature};
use textbrewer::schedule::TaidSchedule;
use textbrewer::{KdInput, Presets};

use super::case::{Case, Run};
use crate::common::device::device;

pub fn known() -> Vec<(&'static str, Run)> {
    vec![
        ("forward_kl", |case| divergence(case, "forward_kl".into())),
        ("reverse_kl", |case| divergence(case, "reverse_kl".into())),
        ("tvd", |case| divergence(case, "total_variation".into())),
        ("generalized_jsd", |case| {
            divergence(case, ("generalized_jsd", [case.number("beta")]).into());
        }),
        ("skew_kl", |case| {
            divergence(case, ("skew_kl", [case.number("skew")]).into());
        }),
        ("skew_reverse_kl", |case| {
            divergence(case, ("skew_reverse_kl", [case.number("skew")]).into());
        }),
        ("adaptive_kl", |case| {
            divergence(case, ("adaptive_kl", [case.number("mu")]).into());
        }),
        ("dkd", |case| {
            let arguments = [case.number("alpha"), case.number("beta")];
            at_targets(case, ("dkd", arguments).into());
        }),
        ("nkd", |case| {
            at_targets(case, ("nkd", [case.number("gamma")]).into())
        }),
        ("dist", dist),
        ("taid", taid),
        ("logit_standardization", logit_standardization),
    ]
}

/// The positions that count, as weights, and their number.
pub fn weights(case: &Case<'_>) -> (Option<Tensor>, f64) {
    let logits = case.input("student_logits");
    let classes = logits.size().last().copied().unwrap_or(1);
    let all = logits.numel() as f64 / classes as f64;
    let weights = if case.has_input("labels") {
        case.input("labels").ne(-100)
    } else if case.has_input("mask") {
        case.input("mask").ne(0)
    } else {
        return (None, all);
    };
    let weights = weights.to_kind(case.kind);
    let count = weights.sum(Kind::Double).double_value(&[]);
    (Some(weights), count)
}

/// What the sum over positions is divided by.
pub fn divisor(case: &Case<'_>, count: f64) -> f64 {
    let size = case.input("student_logits").size();
    let (rows, classes) = (size[0] as f64, *size.last().unwrap() as f64);
    match case.arg("divide_by").as_str() {
        Some("rows") => rows,
        Some("valid_tokens") => count.max(1.0),
        Some("one") => 1.0,
        Some("valid_tokens_times_vocabulary") => count.max(1.0) * classes,
        Some("rows_times_classes") => rows * classes,
        Some(other) => panic!("divide_by `{other}`"),
        None => case.number("divide_by"),
    }
}

fn loss_of(case: &Case<'_>, spec: PresetSpec, input: &KdInput<'_>) -> Tensor {
    let loss = Presets::default()
        .find_kd_loss("kd_loss_type", spec)
        .unwrap();
    let loss = match case.flag("temperature_squared") {
        true => loss.times_tau_squared().unwrap(),
        false => loss,
    };
    loss.apply(input).unwrap()
}

fn input(case: &Case<'_>) -> KdInput<'static> {
    let (student, teacher) = (case.input("student_logits"), case.input("teacher_logits"));
    KdInput::new(&student, &teacher, case.number("temperature")).unwrap()
}

/// A mean over the positions that count, in the reference's way of dividing.
fn divergence(case: &Case<'_>, spec: PresetSpec) {
    let (weights, count) = weights(case);
    let mut input = input(case);
    if let Some(weights) = &weights {
        input = input.with_weights(weights);
    }
    let mean = loss_of(case, spec, &input);
    let mut loss = mean * (count / divisor(case, count));
    // A cross entropy: the divergence and the teacher's entropy.
    if case.arg("entropy_term").as_bool() == Some(false) {
        loss += case.output("teacher_entropy").unwrap().to_kind(case.kind);
    }
    case.is(&loss);
}

/// Losses that have the square of the temperature by their definition, at the true classes.
fn at_targets(case: &Case<'_>, spec: PresetSpec) {
    assert!(case.flag("temperature_squared"));
    let input = input(case).with_labels(&case.input("target"));
    let loss = Presets::default()
        .find_kd_loss("kd_loss_type", spec)
        .unwrap();
    let loss = match case.flag("standardize") {
        true => loss.on_standardized_logits(),
        false => loss,
    };
    let count = case.input("target").numel() as f64;
    case.is(&(loss.apply(&input).unwrap() * (count / divisor(case, count))));
}

fn dist(case: &Case<'_>) {
    assert!(case.flag("temperature_squared"));
    // Two rules for it differ by less than the tolerance.
    case.arg("eps");
    let arguments = [case.number("beta"), case.number("gamma")];
    let loss = Presets::default()
        .find_kd_loss("kd_loss_type", ("dist", arguments))
        .unwrap();
    case.is(&loss.apply(&input(case)).unwrap());
}

/// One step after the other, each with the `t` that those before it have led to.
fn taid(case: &Case<'_>) {
    assert_eq!(case.arg("divide_by"), "valid_tokens");
    assert_eq!(case.arg("entropy_term"), false);
    let number = |name| case.number(name);
    let schedule = TaidSchedule::new(
        number("t_start"),
        number("t_end"),
        number("alpha"),
        number("beta"),
    );
    let mut schedule = match case.flag("disable_adaptive") {
        true => schedule.unwrap().without_adaptation(),
        false => schedule.unwrap(),
    };
    schedule.move_to(device()).unwrap();
    let temperature = Temperature::Constant(number("temperature"));
    let (student, teacher) = (case.input("student_logits"), case.input("teacher_logits"));
    let (first, total) = (number("first_step"), number("total_steps"));
    let [mut losses, mut used, mut after, mut momentum] = [(); 4].map(|()| Vec::new());
    for step in 0..student.size()[0] {
        let logits = [&student, &teacher].map(|logits| logits.get(step));
        let [student, teacher] = match case.has_input("labels") {
            true => {
                let rows = case.input("labels").get(step).ne(-100);
                logits.map(|logits| logits.index(&[Some(&rows)]))
            }
            false => logits,
        };
        used.push(schedule.t().shallow_clone());
        let loss = losses::taid(&student, &teacher, &temperature, schedule.t()).unwrap();
        let progress = (first + step as f64) / total;
        schedule.advance(&loss, progress).unwrap();
        losses.push(loss);
        after.push(schedule.t().shallow_clone());
        momentum.push(schedule.state()["taid.momentum"].shallow_clone());
    }
    for (name, got) in [
        ("losses", &losses),
        ("t_used", &used),
        ("t_after", &after),
        ("momentum", &momentum),
    ] {
        case.output_is(name, &Tensor::stack(got, 0));
    }
    case.is(&Tensor::stack(&losses, 0).sum(case.kind));
}

fn logit_standardization(case: &Case<'_>) {
    let soft = Presets::default()
        .find_kd_loss("kd_loss_type", "forward_kl")
        .unwrap();
    let soft = soft.on_standardized_logits();
    let soft = match case.flag("temperature_squared") {
        true => soft.times_tau_squared().unwrap(),
        false => soft,
    };
    let rows = divisor(case, 1.0);
    let count = case.input("student_logits").size()[0] as f64;
    let mut loss = soft.apply(&input(case)).unwrap() * (case.number("soft_weight") * count / rows);
    let hard_weight = case.number("hard_weight");
    if case.has_input("target") {
        let student = case.input("student_logits");
        let hard = textbrewer::losses::cross_entropy(&student, &case.input("target")).unwrap();
        loss += hard * hard_weight;
    }
    case.is(&loss);
}
