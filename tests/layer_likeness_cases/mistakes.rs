//! What does not fit is named.

use tch::{Device, Kind, Tensor};
use textbrewer::{AdaptorOutput, BoxError, Error, LayerLikeness, from_fn};

use crate::common::waves;
use crate::{Said, each, layers, likeness_of};

fn message(batches: Vec<Said>, mask: Option<&Tensor>) -> String {
    likeness_of(batches, mask).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_is_named() {
    let said = || layers(&[2, 4], 1);
    assert_eq!(
        message(vec![], None),
        "LayerLikeness, batches: there is none; give at least one"
    );
    assert_eq!(
        message(vec![layers(&[3], 1), layers(&[2], 1)], None),
        "LayerLikeness, batches: none of 2 has 4 examples that count (positions, or rows of a \
         feature without positions); give larger ones"
    );
    let (teacher, mut student) = said();
    student.truncate(1);
    assert_eq!(
        message(vec![(teacher, student)], None),
        "LayerLikeness, `hidden` of the student: expected the embeddings and one layer or more, \
         got 1 tensor(s)"
    );
    let (mut teacher, student) = said();
    teacher[2] = waves(&[2, 5, 7], 0.1);
    assert_eq!(
        message(vec![(teacher, student)], None),
        "LayerLikeness, teacher layer 2 of `hidden`: expected [2, 4, size], the examples of \
         LayerLikeness, student layer 0 of `hidden`, got [2, 5, 7]"
    );
    let (mut teacher, student) = said();
    teacher[1] = Tensor::new();
    assert!(matches!(
        likeness_of(vec![(teacher, student)], None).unwrap_err(),
        Error::LayerNotKept { index: 1, .. }
    ));
    let attentions = each(&said(), |layer| layer.unsqueeze(1));
    assert_eq!(
        message(vec![attentions], None),
        "LayerLikeness, student layer 0 of `hidden`: expected [batch, length, size] or [batch, \
         size], got [2, 1, 4, 4]"
    );
    let whole = each(&said(), |layer| layer.to_kind(Kind::Int64));
    assert_eq!(
        message(vec![whole], None),
        "LayerLikeness, student layer 0 of `hidden`: expected floating-point numbers, got Int64"
    );
    let mask = Tensor::from_slice2(&[[1i64, 1, 0]]);
    assert_eq!(
        message(vec![said()], Some(&mask)),
        "LayerLikeness, `hidden`, mask: expected [batch, length] = [2, 4], one number for each \
         position, got [1, 3]"
    );
    let (mut teacher, student) = said();
    teacher[1] = &teacher[1] / 0.0;
    assert_eq!(
        message(vec![(teacher, student)], None),
        "LayerLikeness, teacher layer 1 of `hidden`: expected finite numbers, got NaN, infinite \
         ones, or such whose squares are"
    );
    let (mut teacher, student) = said();
    teacher.truncate(2);
    assert_eq!(
        message(vec![said(), (teacher, student)], None),
        "LayerLikeness, `hidden` of batch 2: expected 3 tensors of the teacher and 2 of the \
         student, as before, got 2 tensors of the teacher and 2 of the student"
    );
}

#[test]
fn a_missing_feature_and_a_failing_batch_are_told() {
    let model = from_fn(|batch: &Tensor, _train| Ok(batch.shallow_clone()));
    let without = |_: &Tensor, _: &Tensor| Ok(AdaptorOutput::new());
    let batch = || Tensor::zeros([4, 2], (Kind::Float, Device::Cpu));
    let error = LayerLikeness::between(&model, without, &model, without, [Ok(batch())]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the teacher adaptor returned no `hidden`, which LayerLikeness needs"
    );
    let failing = [Err(Error::from(BoxError::from("no such file")))];
    let error = LayerLikeness::between(&model, without, &model, without, failing);
    assert_eq!(error.unwrap_err().to_string(), "no such file");
}
