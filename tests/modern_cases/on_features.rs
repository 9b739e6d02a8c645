//! Losses on features.

use tch::Tensor;
use textbrewer::Presets;
use textbrewer::losses::{
    cka, cka_unbiased, minilm, minilmv2, pkt, rkd_angle, rkd_distance, self_relation, sp,
};

use super::case::{Case, Run};

pub fn known() -> Vec<(&'static str, Run)> {
    vec![
        ("rkd", rkd),
        ("pkt", |case| {
            assert_eq!(case.number("eps"), 1e-7);
            let (student, teacher) = sides(case);
            case.is(&pkt(&student, &teacher, None).unwrap());
        }),
        ("sp", |case| {
            let (student, teacher) = sides(case);
            case.is(&sp(&student, &teacher, None).unwrap());
        }),
        ("cka", |case| {
            let (student, teacher) = sides(case);
            let loss = match case.flag("unbiased") {
                true => cka_unbiased,
                false => cka,
            };
            case.is(&loss(&student, &teacher, None).unwrap());
        }),
        ("minilm", relations),
        ("minilmv2", relations),
    ]
}

fn sides(case: &Case<'_>) -> (Tensor, Tensor) {
    (case.input("student"), case.input("teacher"))
}

fn rkd(case: &Case<'_>) {
    let (student, teacher) = sides(case);
    let distance = rkd_distance(&student, &teacher, None).unwrap();
    let angle = rkd_angle(&student, &teacher, None).unwrap();
    let [of_distance, of_angle] = ["distance_weight", "angle_weight"].map(|name| case.number(name));
    case.is(&(distance * of_distance + angle * of_angle));
}

/// Weighted relations, each by itself; the sums that have a name by that as well.
fn relations(case: &Case<'_>) {
    let side = |name: &str| [0, 1, 2].map(|index| case.input(&format!("{name}.{index}")));
    let (student, teacher) = (side("student"), side("teacher"));
    let width = |side: &[Tensor; 3]| *side[0].size().last().unwrap() as f64;
    assert_eq!(width(&student), case.number("student_size"));
    assert_eq!(width(&teacher), case.number("teacher_size"));
    let heads = case.number("relation_heads") as i64;
    let mask = case.input("mask");
    let index = |name: &serde_json::Value| match name.as_str().unwrap() {
        "query" => 0,
        "key" => 1,
        "value" => 2,
        other => panic!("relation of `{other}`"),
    };
    let wanted: Vec<(usize, usize, f64)> = case
        .arg("relations")
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (index(&one[0]), index(&one[1]), one[2].as_f64().unwrap()))
        .collect();
    let loss = match wanted.as_slice() {
        [(0, 1, 1.0), (2, 2, 1.0)] => minilm(refs(&student), refs(&teacher), heads, Some(&mask)),
        [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0)] => {
            minilmv2(refs(&student), refs(&teacher), heads, Some(&mask))
        }
        _ => Ok(wanted
            .iter()
            .map(|&(one, other, weight)| {
                let pair = |side: &[Tensor; 3]| [one, other].map(|at| side[at].shallow_clone());
                let (student, teacher) = (pair(&student), pair(&teacher));
                let [pair, teachers] = [&student, &teacher].map(|[one, other]| [one, other]);
                self_relation(pair, teachers, heads, Some(&mask)).unwrap() * weight
            })
            .sum()),
    };
    let loss = loss.unwrap();
    let by_name = match wanted.as_slice() {
        [(0, 1, 1.0), (2, 2, 1.0)] => Some("minilm"),
        [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0)] => Some("minilmv2"),
        _ => None,
    };
    if let Some(name) = by_name {
        let named = Presets::default().find_match_loss("loss", (name, [heads as f64]));
        let [of_student, of_teacher] = [&student, &teacher].map(|side| [Tensor::stack(side, 1)]);
        let named = named.unwrap().apply(&of_student, &of_teacher, Some(&mask));
        assert_eq!(named.unwrap(), loss, "{name}");
    }
    case.is(&(loss + nothing_of(&student)));
}

/// 0, with a gradient of 0 for what a loss does not look at.
fn nothing_of(inputs: &[Tensor]) -> Tensor {
    inputs
        .iter()
        .map(|input| input.sum(input.kind()) * 0.0)
        .sum()
}

fn refs(side: &[Tensor; 3]) -> [&Tensor; 3] {
    side.each_ref()
}
