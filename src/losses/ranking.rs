//! Losses on similarities: of queries and documents, or of pairs of texts.

use tch::Tensor;

use super::check::{fitting, mask_like};
use super::log_probabilities::{LOG_OF_ZERO, LogProbabilities, divergence};
use super::mean::{mean, per_count};
use super::support::at_least_float32;
use super::temperature::{Temperature, times_square};
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

const SCORES: &str = "scores [batch, documents] of one shape";

/// How far the first document is ahead of the others (MarginMSE,
/// [Hofstätter et al. 2020](https://arxiv.org/abs/2010.02666)):
/// `mean over rows and other documents of ((s_0 − s_i) − (t_0 − t_i))²`.
///
/// The first document is the one that belongs to the query. Scores are from anywhere: a cross-encoder's, or
/// [`dot_products`](super::dot_products) of embeddings. A teacher's margins in place of scores: give 0
/// for the first document and minus the margin for each other.
///
/// With a mask documents are left out, for lists of different lengths; a row of which the first is left out is
/// left out whole.
///
/// # Shape
/// Student and teacher: `[batch, documents]`, at least two of them; mask: the same.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::margin_mse;
///
/// // The margins are 2 and 3, and 1 and 3.
/// let student = Tensor::from_slice2(&[[9.0, 7.0, 6.0]]);
/// let teacher = Tensor::from_slice2(&[[4.0, 3.0, 1.0]]);
/// assert_eq!(margin_mse(&student, &teacher, None)?.double_value(&[]), 0.5);
/// let mask = Tensor::from_slice2(&[[1, 0, 1]]);
/// assert_eq!(margin_mse(&student, &teacher, Some(&mask))?.double_value(&[]), 0.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn margin_mse(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (student, teacher) = scores("margin_mse", student, teacher)?;
    let (_, documents) = student.size2()?;
    if documents < 2 {
        return Err(Error::shape(
            "margin_mse",
            "scores [batch, documents] of two documents or more",
            format!("{:?}", student.size()),
        ));
    }
    let ahead = |values: &Tensor| -> Result<(Tensor, Tensor)> {
        let first = values.f_narrow(1, 0, 1)?;
        Ok((first, values.f_narrow(1, 1, documents - 1)?))
    };
    // One difference of both models for each document: its distance from the first one's.
    let (first, others) = ahead(&student.f_sub(&teacher)?)?;
    let squares = first.f_sub(&others)?.f_square()?;
    let Some(mask) = mask else {
        return mean(&squares);
    };
    let kept = kept("margin_mse", mask, &student)?;
    let (first, others) = ahead(&kept)?;
    let kept = first.f_mul(&others)?;
    per_count(&squares.f_mul(&kept)?.f_sum(None)?, &kept.f_sum(None)?)
}

/// Divergence of the student's ranking from the teacher's, over the documents of a query
/// ([Lin et al. 2020](https://arxiv.org/abs/2010.11386)):
/// `τ² · mean over rows of KL(softmax(t/τ)‖softmax(s/τ))`.
///
/// sentence-transformers' `DistillKLDivLoss`. Without a mask it is [`kd_kl`](super::kd_kl) of the scores.
/// With one, documents are left out, for lists of different lengths; a row that keeps none is left out.
/// Scores are from anywhere, as for [`margin_mse`].
///
/// # Shape
/// Student and teacher: `[batch, documents]`; mask: the same.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{listwise_kl, Temperature};
///
/// // Scores may be moved, and what is left out does not count.
/// let student = Tensor::from_slice2(&[[9.0, 7.0, 6.0]]);
/// let teacher = Tensor::from_slice2(&[[4.0, 2.0, 50.0]]);
/// let mask = Tensor::from_slice2(&[[1, 1, 0]]);
/// let loss = listwise_kl(&student, &teacher, &Temperature::Constant(2.0), Some(&mask))?;
/// assert!(loss.double_value(&[]).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn listwise_kl(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (student, teacher) = scores("listwise_kl", student, teacher)?;
    let kept = match mask {
        None => None,
        Some(mask) => Some(kept("listwise_kl", mask, &student)?),
    };
    let of_kept = |scores: &Tensor| match &kept {
        None => Ok(scores.shallow_clone()),
        Some(kept) => scores.filled(&kept.f_logical_not()?, LOG_OF_ZERO),
    };
    let (student, teacher) = (of_kept(&student)?, of_kept(&teacher)?);
    let logs = LogProbabilities::of("listwise_kl", &student, &teacher, temperature)?;
    let losses = divergence(&logs.teacher, &logs.student)?;
    let losses = times_square("listwise_kl", &losses, temperature)?;
    let Some(kept) = kept else {
        return mean(&losses);
    };
    // A row that keeps nothing is the same for both sides, so 0.
    let rows = kept.f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
    let rows = rows.is_above(0.0)?.f_to_kind(losses.f_kind()?)?;
    per_count(&losses.f_sum(None)?, &rows.f_sum(None)?)
}

/// Whether pairs of texts are in the order of their labels (CoSENT, Su 2022):
/// `log(1 + Σ exp(scale · (s_i − s_j)))` over all pairs i, j with `y_i < y_j`.
///
/// `labels` are a teacher's similarities or a person's; equal ones make no pair. A usual scale is 20, for
/// cosines. Similarities are those of two texts by the student, as from [`cosines`](super::cosines).
///
/// It **mixes examples**, and it is a sum over their pairs: the mean over two halves of a batch is not the loss
/// of the batch, so it is not the same with gradient accumulation or several processes.
///
/// # Shape
/// Similarities and labels: `[batch]`.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::cosent;
///
/// let labels = Tensor::from_slice(&[0.1, 0.9, 0.9]);
/// let in_order = cosent(&Tensor::from_slice(&[0.0, 0.7, 0.8]), &labels, 20.0)?;
/// let turned = cosent(&Tensor::from_slice(&[0.8, 0.7, 0.0]), &labels, 20.0)?;
/// assert!(in_order.double_value(&[]) < 1e-5 && turned.double_value(&[]) > 16.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn cosent(similarities: &Tensor, labels: &Tensor, scale: f64) -> Result<Tensor> {
    let wanted = "similarities and labels [batch] of one shape";
    let labels = fitting("cosent", wanted, similarities, labels)?;
    if similarities.dim() != 1 {
        let got = format!("{:?}", similarities.size());
        return Err(Error::shape("cosent", wanted, got));
    }
    let similarities = at_least_float32(similarities)?.times(scale)?;
    let of_pairs = |values: &Tensor, compare: fn(&Tensor, &Tensor) -> Result<Tensor>| {
        compare(&values.f_unsqueeze(1)?, &values.f_unsqueeze(0)?)
    };
    let differences = of_pairs(&similarities, |one, other| Ok(one.f_sub(other)?))?;
    let no_pair = of_pairs(&labels, |one, other| Ok(one.f_ge_tensor(other)?))?;
    let exponents = differences
        .filled(&no_pair, LOG_OF_ZERO)?
        .f_reshape([-1i64])?;
    let one = Tensor::f_zeros([1], (exponents.f_kind()?, exponents.device()))?;
    Ok(Tensor::f_cat(&[one, exponents], 0)?.f_logsumexp([0i64].as_slice(), false)?)
}

fn scores(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<(Tensor, Tensor)> {
    let teacher = fitting(loss, SCORES, student, teacher)?;
    if student.dim() != 2 {
        return Err(Error::shape(loss, SCORES, format!("{:?}", student.size())));
    }
    Ok((at_least_float32(student)?, at_least_float32(&teacher)?))
}

/// 1 for each document that the mask keeps, 0 for others.
fn kept(loss: &str, mask: &Tensor, scores: &Tensor) -> Result<Tensor> {
    let mask = mask_like(loss, mask, &scores.size(), scores)?;
    Ok(mask.is_not(0.0)?.f_to_kind(scores.f_kind()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Three documents, and two with something that does not count between them.
    fn lists() -> [(Tensor, Tensor, Tensor); 2] {
        let scores = |values: &[f64]| Tensor::from_slice(values).view([1, -1]);
        let (student, teacher) = (scores(&[2.0, 1.0, -1.0]), scores(&[1.0, 3.0, 0.5]));
        let full = Tensor::ones([1, 3], (Kind::Int64, Device::Cpu));
        let (padded, teachers) = (
            scores(&[2.0, 77.0, 1.0, -1.0, 5.0]),
            scores(&[1.0, -9.0, 3.0, 0.5, 88.0]),
        );
        let mask = Tensor::from_slice2(&[[1i64, 0, 1, 1, 0]]);
        [(student, teacher, full), (padded, teachers, mask)]
    }

    #[test]
    fn documents_that_are_left_out_do_not_count() {
        let tau = Temperature::Constant(2.0);
        let with_nothing_below = |tensor: &Tensor| {
            let below = Tensor::full_like(tensor, 0);
            Tensor::cat(&[tensor.shallow_clone(), below], 0)
        };
        for loss in [
            |s: &Tensor, t: &Tensor, _: &Temperature, m: Option<&Tensor>| margin_mse(s, t, m),
            listwise_kl,
        ] {
            let [(student, teacher, _), _] = lists();
            let expected = loss(&student, &teacher, &tau, None).unwrap();
            for (student, teacher, mask) in lists() {
                // A row that keeps nothing is left out.
                let student = with_nothing_below(&student).set_requires_grad(true);
                let mask = with_nothing_below(&mask);
                let teacher = with_nothing_below(&teacher);
                let got = loss(&student, &teacher, &tau, Some(&mask)).unwrap();
                assert!((got.double_value(&[]) - expected.double_value(&[])).abs() < 1e-12);
                got.backward();
                let unkept = (student.grad() * mask.logical_not()).abs();
                assert_eq!(unkept.max().double_value(&[]), 0.0);
            }
            let nothing = Tensor::zeros([1, 3], (Kind::Int64, Device::Cpu));
            let got = loss(&student, &teacher, &tau, Some(&nothing)).unwrap();
            assert_eq!(got.double_value(&[]), 0.0);
        }
    }

    #[test]
    fn without_its_first_document_a_row_has_no_margins() {
        let scores = |values: [[f64; 3]; 2]| Tensor::from_slice2(&values);
        let student = scores([[2.0, 1.0, -1.0], [9.0, 4.0, 3.0]]);
        let teacher = scores([[1.0, 3.0, 0.5], [0.0, 7.0, 1.0]]);
        let mask = Tensor::from_slice2(&[[1i64, 1, 1], [0, 1, 1]]);
        let got = margin_mse(&student, &teacher, Some(&mask)).unwrap();
        let first = |scores: &Tensor| scores.narrow(0, 0, 1);
        let expected = margin_mse(&first(&student), &first(&teacher), None).unwrap();
        assert_eq!(got, expected);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |size: &[i64]| Tensor::ones(size, (Kind::Float, Device::Cpu));
        let said = |result: Result<Tensor>| result.unwrap_err().to_string();
        assert_eq!(
            said(margin_mse(&of(&[2, 1]), &of(&[2, 1]), None)),
            "margin_mse: expected scores [batch, documents] of two documents or more, got [2, 1]"
        );
        assert!(said(margin_mse(&of(&[2]), &of(&[2]), None)).contains(SCORES));
        assert!(said(cosent(&of(&[2, 2]), &of(&[2, 2]), 1.0)).starts_with("cosent: expected"));
        assert!(said(cosent(&of(&[2]), &of(&[3]), 1.0)).starts_with("cosent: expected"));
    }
}
