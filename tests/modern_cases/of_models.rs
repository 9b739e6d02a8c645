//! What DistilBERT and TinyBERT train with, made of losses of this crate.

use serde_json::Value;
use tch::Tensor;
use textbrewer::losses::support::ScalarOps;
use textbrewer::losses::{
    Temperature, cos, cross_entropy, hidden_mse, kd_ce, kd_kl, regression_mse,
};

use super::case::{Case, Run};

pub fn known() -> Vec<(&'static str, Run)> {
    vec![
        ("distilbert", distilbert),
        ("tinybert_layers", tinybert_layers),
        ("tinybert_prediction", tinybert_prediction),
    ]
}

fn distilbert(case: &Case<'_>) {
    let [student, teacher, hidden, teacher_hidden, mask, labels] = [
        "student_logits",
        "teacher_logits",
        "student_hidden",
        "teacher_hidden",
        "mask",
        "labels",
    ]
    .map(|name| case.input(name));
    let chosen = match case.flag("ce_on_labels_only") {
        true => labels.ne(-100),
        false => mask.ne(0),
    };
    let rows = |logits: &Tensor| logits.index(&[Some(&chosen)]);
    let (student_rows, teacher_rows) = (rows(&student), rows(&teacher));
    let tau = Temperature::Constant(case.number("temperature"));
    let (length, classes) = (student.size()[1], student.size()[2]);
    let ce = kd_kl(&student_rows, &teacher_rows, &tau);
    let mlm = cross_entropy(&student, &labels);
    let clm = cross_entropy(
        &student.narrow(1, 0, length - 1),
        &labels.narrow(1, 1, length - 1),
    );
    // A sum over the vocabulary.
    let mse = regression_mse(&student_rows, &teacher_rows).map(|mean| mean * classes as f64);
    let cos = cos(&hidden, &teacher_hidden, Some(&mask));
    let terms = [
        ("ce", ce),
        ("mlm", mlm),
        ("clm", clm),
        ("mse", mse),
        ("cos", cos),
    ];
    let loss = terms
        .into_iter()
        .map(|(name, loss)| loss.unwrap() * case.number(name))
        .sum();
    case.is(&loss);
}

fn tinybert_layers(case: &Case<'_>) {
    let given = case.arg("attention_is").as_str().unwrap();
    assert_eq!(given, "scores before softmax, -10000 where padded");
    let all = |name: &str| -> Vec<Tensor> {
        (0..case.count(name))
            .map(|index| case.input(&format!("{name}.{index}")))
            .collect()
    };
    let (student, teacher) = (all("student_attentions"), all("teacher_attentions"));
    let ratio = teacher.len() / student.len();
    // Padding counts, as 0 on both sides; `attention_mse` with a mask leaves it out.
    let scores = |scores: &Tensor| scores.filled(&scores.is_at_most(-100.0).unwrap(), 0.0);
    let attentions: Tensor = student
        .iter()
        .zip(teacher.iter().skip(ratio - 1).step_by(ratio))
        .map(|(student, teacher)| {
            regression_mse(&scores(student).unwrap(), &scores(teacher).unwrap()).unwrap()
        })
        .sum();
    let (student, teacher) = (all("student_hidden"), all("teacher_hidden"));
    let hidden: Tensor = student
        .iter()
        .zip(teacher.iter().step_by(ratio))
        .map(|(student, teacher)| hidden_mse(student, teacher, None).unwrap())
        .sum();
    case.output_is("attention_loss", &attentions);
    case.output_is("hidden_loss", &hidden);
    case.is(&(attentions + hidden));
}

fn tinybert_prediction(case: &Case<'_>) {
    let student = case.input("student_logits");
    if case.arg("regression") != &Value::Null {
        let loss = regression_mse(&student.view([-1]), &case.input("labels"));
        case.is(&loss.unwrap());
        return;
    }
    assert!(!case.flag("temperature_squared") && !case.flag("entropy_term"));
    assert_eq!(case.arg("divide_by"), "rows_times_classes");
    let classes = *student.size().last().unwrap() as f64;
    let tau = Temperature::Constant(case.number("temperature"));
    let loss = kd_ce(&student, &case.input("teacher_logits"), &tau);
    case.is(&(loss.unwrap() / classes));
}
