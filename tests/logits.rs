//! Probability shift, and the selection of logits by a mask.

mod common;

use common::waves;
use tch::{Kind, Tensor};
use textbrewer::{probability_shift, select_logits_with_mask};

#[test]
fn the_label_gets_the_largest_logit() {
    let teacher = Tensor::from_slice2(&[[1.0, 5.0, 3.0], [7.0, 2.0, 4.0]]);
    let shifted = probability_shift(&teacher, &Tensor::from_slice(&[2i64, 0])).unwrap();
    assert_eq!(
        shifted,
        Tensor::from_slice2(&[[1.0, 3.0, 5.0], [7.0, 2.0, 4.0]])
    );
    assert_eq!(
        teacher,
        Tensor::from_slice2(&[[1.0, 5.0, 3.0], [7.0, 2.0, 4.0]])
    );
}

#[test]
fn of_several_largest_logits_the_first_is_swapped() {
    let teacher = Tensor::from_slice2(&[[5.0, 5.0, 1.0]]);
    let shifted = probability_shift(&teacher, &Tensor::from_slice(&[2i64])).unwrap();
    assert_eq!(shifted, Tensor::from_slice2(&[[1.0, 5.0, 5.0]]));
}

#[test]
fn negative_labels() {
    let teacher = Tensor::from_slice2(&[[1.0, 5.0, 3.0], [7.0, 2.0, 4.0]]);
    // By position: nothing is changed.
    let labels = Tensor::from_slice2(&[[-1i64, -100]]);
    let by_position = teacher.unsqueeze(0);
    let shifted = probability_shift(&by_position, &labels).unwrap();
    assert_eq!(shifted, by_position);
    // By example: −1 is the last class, −100 is none.
    let shifted = probability_shift(&teacher, &Tensor::from_slice(&[-1i64, -100])).unwrap();
    assert_eq!(
        shifted,
        Tensor::from_slice2(&[[1.0, 3.0, 5.0], [7.0, 2.0, 4.0]])
    );
}

#[test]
fn labels_by_position_may_be_flattened_and_of_any_integer_kind() {
    let teacher = waves(&[2, 3, 4], 0.2);
    let labels = Tensor::from_slice2(&[[0i64, 3, -100], [2, 1, 0]]);
    let expected = probability_shift(&teacher, &labels).unwrap();
    assert_ne!(expected, teacher);
    let flat = probability_shift(&teacher, &labels.reshape([6])).unwrap();
    assert_eq!(flat, expected);
    let small = probability_shift(&teacher, &labels.to_kind(Kind::Int)).unwrap();
    assert_eq!(small, expected);
}

#[test]
fn labels_that_do_not_fit_are_errors() {
    let shift = |shape: &[i64], labels: &Tensor| {
        let error = probability_shift(&waves(shape, 0.1), labels).unwrap_err();
        error.to_string()
    };
    let labels = Tensor::from_slice(&[0i64, 1, 3]);
    assert_eq!(
        shift(&[2, 3], &labels),
        "probability_shift, labels: expected [2], got [3]"
    );
    assert_eq!(
        shift(&[3], &labels),
        "probability_shift, logits: expected [batch, classes] or [batch, length, classes], got [3]"
    );
    let message = shift(&[3, 3], &labels);
    assert!(
        message.starts_with(
            "probability_shift, a label outside the 3 classes: index 3 is out of bounds"
        ),
        "{message}"
    );
}

#[test]
fn one_mask_selects_from_several_logits() {
    let start = waves(&[2, 3, 4], 0.1);
    let end = waves(&[2, 3, 5], 0.6);
    let pooled = waves(&[2, 4], 0.3);
    let mask = Tensor::from_slice2(&[[1i64, 0, 1], [0, 1, 0]]);
    let logits = [start.copy(), pooled.copy(), end.copy()];
    let rows = |logits: &Tensor| {
        Tensor::stack(
            &[
                logits.get(0).get(0),
                logits.get(0).get(2),
                logits.get(1).get(1),
            ],
            0,
        )
    };
    let selected = select_logits_with_mask(&logits, &[mask.copy()]).unwrap();
    assert_eq!(selected, [rows(&start), pooled, rows(&end)]);
    // As many masks as logits: each its own.
    let all = mask.ones_like();
    let masks = [mask.to_kind(Kind::Bool), all.copy(), all];
    let selected = select_logits_with_mask(&logits, &masks).unwrap();
    assert_eq!(selected[0], rows(&start));
    assert_eq!(selected[2], end.view([6, 5]));
}

#[test]
fn gradients_flow_to_the_selected_positions_only() {
    let logits = waves(&[2, 3, 4], 0.1).set_requires_grad(true);
    let mask = Tensor::from_slice2(&[[1i64, 0, 1], [0, 1, 0]]);
    let selected =
        select_logits_with_mask(&[logits.shallow_clone()], &[mask.shallow_clone()]).unwrap();
    selected[0].sum(None).backward();
    let expected = mask
        .to_kind(Kind::Double)
        .unsqueeze(2)
        .expand([2, 3, 4], false);
    assert_eq!(logits.grad(), expected);
}

#[test]
fn masks_that_do_not_fit_are_errors() {
    let select = |masks: &[Tensor]| {
        let logits = [1.0, 2.0, 3.0].map(|seed| waves(&[2, 3, 4], seed));
        let error = select_logits_with_mask(&logits, masks).unwrap_err();
        error.to_string()
    };
    let mask = || waves(&[2, 3], 0.1);
    assert_eq!(
        select(&[mask(), mask()]),
        "logits_mask: expected one mask, or one for each of the 3 tensors of logits, got 2 masks"
    );
    assert_eq!(
        select(&[waves(&[2, 4], 0.1)]),
        "logits_mask: expected [batch, length] = [2, 3] of the logits, got [2, 4]"
    );
}
