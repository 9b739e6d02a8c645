//! Losses between models whose tokenizers differ.

use serde_json::{Value, json};
use tch::Tensor;
use textbrewer::losses::{Temperature, alignment_groups, uld};

use super::case::{Case, Run};

pub fn known() -> Vec<(&'static str, Run)> {
    vec![("uld", universal), ("alignment_groups", groups)]
}

fn universal(case: &Case<'_>) {
    assert_eq!(case.arg("logits_used"), "predicting");
    let side = |side: &str| {
        let mut labels = case.input(&format!("{side}_labels"));
        if case.flag(&format!("skip_{side}_eos")) {
            labels = without_the_last(&labels);
        }
        let temperature = case.number(&format!("{side}_temperature"));
        let logits = case.input(&format!("{side}_logits"));
        (logits, labels, Temperature::Constant(temperature))
    };
    let (student, teacher) = (side("student"), side("teacher"));
    let loss = uld(
        (&student.0, &student.1, &student.2),
        (&teacher.0, &teacher.1, &teacher.2),
    );
    case.is(&(loss.unwrap() * case.number("weight")));
}

/// The last label of each row becomes −100.
fn without_the_last(labels: &Tensor) -> Tensor {
    let is_label = labels.ne(-100).to_kind(tch::Kind::Int64);
    let from_behind = is_label.flip([1]).cumsum(1, None).flip([1]);
    let mask = from_behind.eq(1).logical_and(&labels.ne(-100));
    labels.masked_fill(&mask, -100)
}

fn groups(case: &Case<'_>) {
    // Names of tokenizers, whose offsets are given.
    let _ = (case.arg("student"), case.arg("teacher"));
    let texts = case.json["data"].as_array().unwrap();
    let expected = case.json["expected"].as_array().unwrap();
    assert_eq!(texts.len(), expected.len());
    for (text, expected) in texts.iter().zip(expected) {
        let offsets = |key: &str| -> Vec<(usize, usize)> {
            serde_json::from_value(text[key].clone()).unwrap()
        };
        let found = alignment_groups(&offsets("student_offsets"), &offsets("teacher_offsets"));
        let (student, teacher): (Vec<Value>, Vec<Value>) = found
            .into_iter()
            .map(|(student, teacher)| {
                (
                    json!(student.collect::<Vec<_>>()),
                    json!(teacher.collect::<Vec<_>>()),
                )
            })
            .unzip();
        let found = json!({"student_groups": student, "teacher_groups": teacher});
        if found != *expected {
            case.note(format!("{found}, expected {expected}"));
        }
    }
}
