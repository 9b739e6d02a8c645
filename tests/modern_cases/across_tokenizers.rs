//! Losses between models whose tokenizers differ.

use serde_json::{Value, json};
use tch::Tensor;
use textbrewer::losses::{
    Temperature, alignment_groups, byte_offsets, cross_entropy, gold, gold_hybrid, uld,
};

use super::case::{Case, Run};

type Offsets = Vec<(usize, usize)>;

pub fn known() -> Vec<(&'static str, Run)> {
    vec![
        ("uld", universal),
        ("gold_uld", of_groups),
        ("alignment_groups", groups),
        ("byte_offsets", offsets_of_tokens),
    ]
}

/// Logits, labels and temperature of a side.
fn side(case: &Case<'_>, side: &str) -> (Tensor, Tensor, Temperature) {
    let mut labels = case.input(&format!("{side}_labels"));
    if case.flag(&format!("skip_{side}_eos")) {
        labels = without_the_last(&labels);
    }
    let temperature = case.number(&format!("{side}_temperature"));
    let logits = case.input(&format!("{side}_logits"));
    (logits, labels, Temperature::Constant(temperature))
}

fn universal(case: &Case<'_>) {
    assert_eq!(case.arg("logits_used"), "predicting");
    let (student, teacher) = (side(case, "student"), side(case, "teacher"));
    let loss = uld(
        (&student.0, &student.1, &student.2),
        (&teacher.0, &teacher.1, &teacher.2),
    );
    case.is(&(loss.unwrap() * case.number("weight")));
}

fn of_groups(case: &Case<'_>) {
    assert_eq!(case.arg("token_merge_strategy"), "bayesian");
    assert_eq!(case.arg("logits_used"), "predicting");
    let (student, teacher) = (side(case, "student"), side(case, "teacher"));
    let offsets = answers(&case.input("student_offsets"), &student.1);
    let of_teacher = answers(&case.input("teacher_offsets"), &teacher.1);
    let align = |(student, teacher): (&Offsets, &Offsets)| match case.flag("use_extended_uld") {
        true => alignment_groups(student, teacher),
        false => (0..student.len().min(teacher.len()))
            .map(|at| (at..at + 1, at..at + 1))
            .collect(),
    };
    let groups: Vec<_> = offsets.iter().zip(&of_teacher).map(align).collect();
    let (student, teacher) = (
        (&student.0, &student.1, &student.2),
        (&teacher.0, &teacher.1, &teacher.2),
    );
    let (matched, unmatched) = (
        case.arg("hybrid_matched_weight").as_f64(),
        case.arg("hybrid_unmatched_weight").as_f64(),
    );
    let beta = case.number("beta");
    let loss = match case.flag("use_hybrid_loss") {
        true => {
            let ids: Vec<(i64, i64)> =
                serde_json::from_value(case.arg("vocabulary_map").clone()).unwrap();
            let shared: Vec<_> = ids
                .into_iter()
                .map(|(teacher, own)| (own, teacher))
                .collect();
            let weights = matched.zip(unmatched);
            gold_hybrid(student, teacher, &groups, &shared, beta, weights)
        }
        false => gold(student, teacher, &groups),
    };
    let mut loss = loss.unwrap() * case.number("distillation_weight");
    let weight = case.number("crossentropy_weight");
    if weight > 0.0 {
        let (logits, labels) = (student.0, case.input("student_labels"));
        let length = logits.size()[1] - 1;
        let of_labels = cross_entropy(&logits.narrow(1, 0, length), &labels.narrow(1, 1, length));
        loss += of_labels.unwrap() * weight;
    }
    case.is(&loss);
}

/// The offsets `[batch, length, 2]` of the tokens that have a label, by example.
fn answers(offsets: &Tensor, labels: &Tensor) -> Vec<Offsets> {
    let number = |at: &[i64]| offsets.int64_value(at) as usize;
    let answer = |example: i64| {
        let is_answer = move |at: &i64| labels.int64_value(&[example, *at]) != -100;
        let tokens = (0..labels.size()[1]).filter(is_answer);
        tokens
            .map(|at| (number(&[example, at, 0]), number(&[example, at, 1])))
            .collect()
    };
    (0..labels.size()[0]).map(answer).collect()
}

/// From the tokens' strings. That a tokenizer gives these is tried in examples/tasks, which has one.
fn offsets_of_tokens(case: &Case<'_>) {
    for text in case.json["expected"].as_array().unwrap() {
        let tokens: Vec<String> = serde_json::from_value(text["tokens"].clone()).unwrap();
        match byte_offsets(text["text"].as_str().unwrap(), &tokens) {
            Ok(found) if json!(found) == text["byte_offsets"] => {}
            other => case.note(format!("{other:?}, expected {}", text["byte_offsets"])),
        }
    }
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
        let offsets = |key: &str| -> Offsets { serde_json::from_value(text[key].clone()).unwrap() };
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
