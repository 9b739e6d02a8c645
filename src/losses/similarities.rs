//! Losses between the similarities of a batch's examples.

use tch::Tensor;

use super::mean::mean;
use super::relations::examples;
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// Keeps quotients and logarithms of PKT finite.
const EPSILON: f64 = 1e-7;
/// The least length that is divided by.
const LEAST: f64 = 1e-12;

/// Probabilistic Knowledge Transfer ([Passalis and Tefas 2018](https://arxiv.org/abs/1803.10837)):
/// `mean over all pairs of P log(P/Q)`, with each example's similarities to all examples as
/// probabilities, P the teacher's and Q the student's.
///
/// An example is all its numbers in a row, and a similarity is (cosine + 1)/2. As in the authors' code this
/// is a mean over `batch²` pairs, where the paper has a sum, and 1e-7 is added to the lengths, to P and to Q.
/// Registered as `pkt`.
///
/// It **mixes examples**, and treats a mask as [`rkd_distance`](super::rkd_distance) does.
///
/// # Shape
/// As for [`rkd_distance`](super::rkd_distance).
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::pkt;
///
/// // Lengths do not matter, and neither does the width.
/// let student = Tensor::from_slice2(&[[1.0, 0.0], [1.0, 1.0]]);
/// let teacher = Tensor::from_slice2(&[[0.0, 5.0, 0.0], [0.0, 2.0, 2.0]]);
/// assert!(pkt(&student, &teacher, None)?.double_value(&[]).abs() < 1e-6);
/// # textbrewer::Result::Ok(())
/// ```
pub fn pkt(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (student, teacher) = examples("pkt", student, teacher, mask)?;
    let probabilities = |rows: &Tensor| -> Result<Tensor> {
        let directions = rows.f_div(&rows.length()?.plus(EPSILON)?)?;
        let similarities = gram(&directions)?.plus(1.0)?.over(2.0)?;
        let sums = similarities.f_sum_dim_intlist([1i64].as_slice(), true, None)?;
        Ok(similarities.f_div(&sums)?)
    };
    let (q, p) = (probabilities(&student)?, probabilities(&teacher)?);
    let logs = p.plus(EPSILON)?.f_div(&q.plus(EPSILON)?)?.f_log()?;
    mean(&p.f_mul(&logs)?)
}

/// Similarity-preserving distillation ([Tung and Mori 2019](https://arxiv.org/abs/1907.09682)): `mean over all
/// pairs of (G(S) − G(T))²`, G the products of all examples with each other, rows brought to length 1.
///
/// An example is all its numbers in a row. The length is the Euclidean, as in the paper; torchdistill's
/// divides by the sum. Registered as `sp`.
///
/// It **mixes examples**, and treats a mask as [`rkd_distance`](super::rkd_distance) does.
///
/// # Shape
/// As for [`rkd_distance`](super::rkd_distance).
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::sp;
///
/// // To the student the examples are not alike, to the teacher they are the same.
/// let student = Tensor::from_slice2(&[[1.0, 0.0], [0.0, 1.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]);
/// let half = 0.5f64.sqrt();
/// let expected = ((1.0 - half).powi(2) + half.powi(2)) / 2.0;
/// assert!((sp(&student, &teacher, None)?.double_value(&[]) - expected).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn sp(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (student, teacher) = examples("sp", student, teacher, mask)?;
    let directions = |rows: &Tensor| -> Result<Tensor> {
        let products = gram(rows)?;
        Ok(products.f_div(&products.length()?.at_least(LEAST)?)?)
    };
    let difference = directions(&student)?.f_sub(&directions(&teacher)?)?;
    mean(&difference.f_square()?)
}

/// One minus the linear centred kernel alignment
/// ([Kornblith et al. 2019](https://arxiv.org/abs/1905.00414)): `1 − ⟨K, L⟩/(‖K‖‖L‖)`, where K and L are the products
/// of all examples with each other, of the student and the teacher, centred.
///
/// An example is all its numbers in a row. The loss is between 0 and 1, and does not change when a side is
/// turned, scaled or moved. Of a small batch it is too small, see [`cka_unbiased`]. Where a side has one
/// example, or all its examples are equal, the loss is 1 without a gradient. Registered as `cka`.
///
/// It **mixes examples**, and treats a mask as [`rkd_distance`](super::rkd_distance) does.
///
/// # Shape
/// As for [`rkd_distance`](super::rkd_distance).
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::cka;
///
/// let student = Tensor::from_slice2(&[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]);
/// // Turned, three times as large and moved.
/// let teacher = Tensor::from_slice2(&[[1.0, 1.0], [1.0, 4.0], [-5.0, 1.0]]);
/// assert!(cka(&student, &teacher, None)?.double_value(&[]).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn cka(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (student, teacher) = examples("cka", student, teacher, mask)?;
    one_minus_alignment(&gram(&centred(&student)?)?, &gram(&centred(&teacher)?)?)
}

/// [`cka`] without the bias of small batches ([Nguyen et al. 2021](https://arxiv.org/abs/2010.15327)): an example's
/// product with itself does not count.
///
/// K and L have zeros on their diagonals and are centred so that all their rows have the sum 0. For
/// features that have nothing to do with each other the loss is 1 on average, and it can be above 1.
/// Registered as `cka_unbiased`.
///
/// It **mixes examples**, and treats a mask as [`rkd_distance`](super::rkd_distance) does.
///
/// # Shape
/// As for [`rkd_distance`](super::rkd_distance); at least 4 examples.
///
/// # Errors
/// When the shapes do not fit, or there are fewer than 4 examples.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::cka_unbiased;
///
/// let student = Tensor::from_slice2(&[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]);
/// assert!(cka_unbiased(&student, &student, None)?.double_value(&[]).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn cka_unbiased(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (student, teacher) = examples("cka_unbiased", student, teacher, mask)?;
    let (batch, _) = student.size2()?;
    if batch < 4 {
        return Err(Error::shape(
            "cka_unbiased",
            "at least 4 examples in a batch (use `cka`, or leave the last batch out)",
            format!("{batch}"),
        ));
    }
    one_minus_alignment(&unbiased_products(&student)?, &unbiased_products(&teacher)?)
}

/// The products of all rows with each other, but for those of a row with itself, centred so that
/// the rows and the columns of the products have the sum 0. There are more than two rows.
pub(crate) fn unbiased_products(rows: &Tensor) -> Result<Tensor> {
    let (batch, _) = rows.size2()?;
    let options = (rows.f_kind()?, rows.device());
    let others = Tensor::f_ones([batch, batch], options)?.f_sub(&Tensor::f_eye(batch, options)?)?;
    let count = batch as f64;
    // Moving all examples changes nothing but the rounding.
    let products = gram(&centred(rows)?)?.f_mul(&others)?;
    let sums = |dimension: i64| -> Result<Tensor> {
        let sums = products.f_sum_dim_intlist([dimension].as_slice(), true, None)?;
        Ok(sums.over(count - 2.0)?)
    };
    let sum = products.f_sum(None)?.over((count - 1.0) * (count - 2.0))?;
    let centred = products.f_sub(&sums(1)?)?.f_sub(&sums(0)?)?.f_add(&sum)?;
    Ok(centred.f_mul(&others)?)
}

/// Each product is divided by its own size first: the square of a large one would be infinite.
fn one_minus_alignment(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let direction = |products: &Tensor| -> Result<Tensor> {
        let flat = products.f_reshape([1, products.numel() as i64])?;
        Ok(flat.f_div(&flat.length()?.at_least(LEAST)?)?)
    };
    let alignment = direction(student)?
        .f_mul(&direction(teacher)?)?
        .f_sum(None)?;
    Ok(alignment.f_neg()?.plus(1.0)?)
}

fn centred(rows: &Tensor) -> Result<Tensor> {
    Ok(rows.f_sub(&rows.f_mean_dim([0i64].as_slice(), true, None)?)?)
}

fn gram(rows: &Tensor) -> Result<Tensor> {
    Ok(rows.f_mm(&rows.f_tr()?)?)
}
