//! Losses of a teacher that says only some classes.

use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::logits::{Tail, TopK};
use textbrewer::{KdInput, Logits, Presets};

use super::case::{Case, Run};
use super::on_logits::{divisor, weights};

pub fn known() -> Vec<(&'static str, Run)> {
    vec![
        ("topk_kl", |case| distillkit(case, "forward_kl".into())),
        ("topk_jsd", |case| {
            distillkit(case, ("generalized_jsd", [0.5]).into());
        }),
        ("topk_tvd", |case| {
            distillkit(case, "total_variation".into());
        }),
        ("topk_generalized_jsd", |case| {
            let k = case.number("k") as i64;
            let [student, teacher] = ["student_logits", "teacher_logits"].map(|name| {
                let best = case.input(name).topk(k, -1, true, true).1;
                best.to_kind(Kind::Int64)
            });
            let beta = case.number("beta");
            on_support(
                case,
                match beta {
                    0.0 => teacher,
                    1.0 => student,
                    _ => Tensor::cat(&[teacher, student], -1),
                },
            );
        }),
        ("topk_student_support", |case| {
            let k = case.number("k") as i64;
            let best = case.input("student_logits").topk(k, -1, true, true).1;
            on_support(case, best);
        }),
        ("topk_forward_kl", |case| {
            case.number("k");
            let values = case.input("teacher_values");
            let spec = "forward_kl".into();
            among(case, spec, &case.input("teacher_ids"), &values);
        }),
        ("top1_jsd", top1_jsd),
    ]
}

/// The mean over the positions that count, in the reference's way of dividing.
fn mean(case: &Case<'_>, spec: PresetSpec, tail: Tail, student: Tensor, teacher: Logits) -> Tensor {
    let loss = Presets::default()
        .find_kd_loss("kd_loss_type", spec)
        .unwrap();
    let loss = match case.flag("temperature_squared") {
        true => loss.times_tau_squared().unwrap(),
        false => loss,
    };
    let mut input = KdInput::new(student, teacher, case.number("temperature")).unwrap();
    let (weights, count) = weights(case);
    if let Some(weights) = &weights {
        input = input.with_weights(weights);
    }
    loss.with_tail(tail).apply(&input).unwrap() * (count / divisor(case, count))
}

/// What is left of 1.
fn log_tail(values: &Tensor) -> Tensor {
    let kept = values
        .exp()
        .sum_dim_intlist([-1i64].as_slice(), false, None);
    (-kept).log1p().nan_to_num(f64::NEG_INFINITY, None, None)
}

/// The teacher's own k, at a temperature that need not be that of the loss.
fn distillkit(case: &Case<'_>, spec: PresetSpec) {
    // They are all taken together.
    case.arg("chunk_length");
    case.arg("k");
    let values = case.input("teacher_values");
    let tail = match case.arg("tail").as_str() {
        Some("zero") => Tail::Renormalized,
        Some("symmetric_uniform") => Tail::Bucket,
        other => panic!("tail {other:?}"),
    };
    let of_tail = match case.arg("teacher_values").as_str() {
        Some("logits") => values
            .amax([-1i64].as_slice(), false)
            .full_like(f64::NEG_INFINITY),
        Some("log_probabilities") => log_tail(&values),
        other => panic!("teacher_values {other:?}"),
    };
    let top = TopK::new(&case.input("teacher_ids"), &values, &of_tail).unwrap();
    let top = top.taken_at(case.number("teacher_values_temperature"));
    let student = case.input("student_logits");
    case.is(&mean(case, spec, tail, student, top.unwrap().into()));
}

/// Both models' probabilities of these classes; a class that comes twice counts once.
fn on_support(case: &Case<'_>, ids: Tensor) {
    let temperature = case.number("temperature");
    let teacher = (case.input("teacher_logits") / temperature).log_softmax(-1, None);
    let values = teacher.gather(-1, &ids, false);
    let spec = ("generalized_jsd", [case.number("beta")]).into();
    among(case, spec, &ids, &without_repeats(&ids, &values));
}

/// −∞ where the same class came before.
fn without_repeats(ids: &Tensor, values: &Tensor) -> Tensor {
    let same = ids.unsqueeze(-1).eq_tensor(&ids.unsqueeze(-2)).tril(-1);
    values.masked_fill(&same.any_dim(-1, false), f64::NEG_INFINITY)
}

/// The teacher's best class and the sampled one, or the latter alone.
fn top1_jsd(case: &Case<'_>) {
    let beta = case.number("beta");
    let pair = |best: &str, sampled: &str| {
        let sampled = case.input(sampled).unsqueeze(-1);
        let best = case.input(best).view_as(&sampled);
        match beta == 1.0 {
            true => sampled,
            false => Tensor::cat(&[best, sampled], -1),
        }
    };
    let ids = pair("teacher_top1_ids", "sampled_ids");
    let values = pair("teacher_top1_values", "teacher_sampled_values");
    let spec = ("generalized_jsd", [beta]).into();
    among(case, spec, &ids, &without_repeats(&ids, &values));
}

/// The loss among classes of which the teacher says these log-probabilities at the temperature of the
/// loss: with all others as one class more, or as if there were no others.
fn among(case: &Case<'_>, spec: PresetSpec, ids: &Tensor, values: &Tensor) {
    let student = case.input("student_logits");
    let temperature = case.number("temperature");
    let loss = match case.arg("tail").as_str() {
        Some("bucket") => {
            let top = TopK::new(ids, values, &log_tail(values)).unwrap();
            let top = top.taken_at(temperature).unwrap();
            mean(case, spec, Tail::Bucket, student, top.into())
        }
        Some("renormalize") => {
            let masked = values.eq(f64::NEG_INFINITY);
            let student = student.gather(-1, ids, false);
            let student = student.masked_fill(&masked, f64::NEG_INFINITY);
            let teacher = values * temperature;
            mean(case, spec, Tail::Bucket, student, teacher.into())
        }
        other => panic!("tail {other:?}"),
    };
    case.is(&loss);
}
