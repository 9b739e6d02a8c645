//! Losses on embeddings of whole texts, and what sentence encoders do with them.

use tch::Tensor;

use super::check::{fitting, in_students_kind, mismatch, size_of, sizes};
use super::mean::{mean, mean_of};
use super::support::at_least_float32;
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// The least length that is divided by; a shorter vector has no direction.
const LEAST: f64 = 1e-8;
const WANTED: &str =
    "embeddings of one shape (a projection brings the student's to the teacher's width)";

/// Mean squared error of embeddings: `mean (s − t)²`
/// ([Reimers and Gurevych 2020](https://arxiv.org/abs/2004.09813)).
///
/// For several texts of an example, such as a sentence and its translation, stack them: the mean over all
/// is sentence-transformers' mean over columns.
///
/// # Shape
/// Both: `[batch, width]`, `[batch, texts, width]` or any other shape, the same.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::embedding_mse;
///
/// let student = Tensor::from_slice2(&[[1.0, 0.0]]);
/// let teacher = Tensor::from_slice2(&[[4.0, 4.0]]);
/// assert_eq!(embedding_mse(&student, &teacher)?.double_value(&[]), (9.0 + 16.0) / 2.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn embedding_mse(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = embeddings("embedding_mse", student, teacher)?;
    Ok(student.f_mse_loss(&teacher, mean_of(&student))?)
}

/// Mean distance of embeddings: `mean over texts of ‖s − t‖`
/// ([Kim et al. 2023](https://arxiv.org/abs/2301.12005)).
///
/// Where both are equal the gradient is 0.
///
/// # Shape
/// As for [`embedding_mse`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::embedding_l2;
///
/// let student = Tensor::from_slice2(&[[1.0, 0.0]]);
/// let teacher = Tensor::from_slice2(&[[4.0, 4.0]]);
/// assert_eq!(embedding_l2(&student, &teacher)?.double_value(&[]), 5.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn embedding_l2(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = embeddings("embedding_l2", student, teacher)?;
    mean(&student.f_sub(&teacher)?.length()?)
}

/// One minus the cosine of embeddings, as a mean over texts.
///
/// An embedding of length 0 has the cosine 0 with any other, and no gradient.
///
/// # Shape
/// As for [`embedding_mse`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::embedding_cosine;
///
/// let student = Tensor::from_slice2(&[[1.0, 0.0]]);
/// let teacher = Tensor::from_slice2(&[[3.0, 4.0]]);
/// assert!((embedding_cosine(&student, &teacher)?.double_value(&[]) - 0.4).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn embedding_cosine(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = embeddings("embedding_cosine", student, teacher)?;
    mean(&cosines(&student, &teacher)?.f_neg()?.plus(1.0)?)
}

/// The dot products of embeddings of one model, such as those of a query and its documents.
///
/// For [`margin_mse`](super::margin_mse), [`listwise_kl`](super::listwise_kl) and
/// [`cosent`](super::cosent), which take similarities from anywhere.
///
/// # Shape
/// `[batch, width]` and `[batch, width]` give `[batch]`; `[batch, width]` and `[batch, documents, width]` give
/// `[batch, documents]`.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::dot_products;
///
/// let query = Tensor::from_slice2(&[[1.0, 2.0]]);
/// let documents = Tensor::from_slice(&[3.0, 0.0, 0.0, 1.0]).f_view([1, 2, 2])?;
/// assert_eq!(dot_products(&query, &documents)?, Tensor::from_slice2(&[[3.0, 2.0]]));
/// # textbrewer::Result::Ok(())
/// ```
pub fn dot_products(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    let (one, other) = pair("dot_products", one, other)?;
    let products = one.f_mul(&other)?;
    Ok(products.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
}

/// The cosines of embeddings of one model; see [`dot_products`].
///
/// An embedding of length 0 has the cosine 0 with any other, and no gradient. The mean squared error to a
/// teacher's similarities, sentence-transformers' `CosineSimilarityLoss`, is
/// [`regression_mse`](super::regression_mse) of them.
///
/// # Shape
/// As for [`dot_products`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{cosines, regression_mse};
///
/// let (one, other) = (Tensor::from_slice2(&[[1.0, 0.0]]), Tensor::from_slice2(&[[5.0, 0.0]]));
/// let similarities = cosines(&one, &other)?;
/// assert_eq!(similarities, Tensor::from_slice(&[1.0]));
/// let loss = regression_mse(&similarities, &Tensor::from_slice(&[0.5]))?;
/// assert_eq!(loss.double_value(&[]), 0.25);
/// # textbrewer::Result::Ok(())
/// ```
pub fn cosines(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    let (one, other) = pair("cosines", one, other)?;
    let products = directions(&one)?.f_mul(&directions(&other)?)?;
    Ok(products.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
}

/// A loss on the first numbers of embeddings, which makes them embeddings by themselves (Matryoshka,
/// [Kusupati et al. 2022](https://arxiv.org/abs/2205.13147)): `Σ_d w_d · loss(first d numbers, at length 1)`.
///
/// `loss` gets all embeddings cut to `d` numbers and brought to length 1, also where `d` is their whole width,
/// and `d`. It can be any loss of the student's embeddings. The teacher's embeddings it has to cut itself;
/// sentence-transformers does so too and does not bring them to length 1.
///
/// # Shape
/// Embeddings: `[.., width]` each.
///
/// # Errors
/// When a `d` is less than 1 or more than a width, and what `loss` returns.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{embedding_mse, matryoshka};
///
/// let student = Tensor::from_slice2(&[[3.0, 4.0, 1.0, 0.0]]);
/// let teacher = Tensor::from_slice2(&[[0.6, 0.8, 0.0, 0.0]]);
/// let sizes_and_weights = [(4, 1.0), (2, 0.5)];
/// let loss = matryoshka(&[student], &sizes_and_weights, |embeddings, size| {
///     let student = Tensor::f_cat(embeddings, 0)?;
///     embedding_mse(&student, &teacher.f_narrow(-1, 0, size)?)
/// })?;
/// assert!(loss.double_value(&[]) > 0.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn matryoshka(
    embeddings: &[Tensor],
    sizes: &[(i64, f64)],
    mut loss: impl FnMut(&[Tensor], i64) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut total: Option<Tensor> = None;
    for &(size, weight) in sizes {
        let cut = embeddings.iter().map(|embedding| first(embedding, size));
        let of_size = loss(&cut.collect::<Result<Vec<_>>>()?, size)?.times(weight)?;
        total = Some(match total {
            None => of_size,
            Some(total) => total.f_add(&of_size)?,
        });
    }
    let nothing = || {
        let wanted = "at least one size, with its weight";
        Error::shape("matryoshka, sizes", wanted, "none")
    };
    total.ok_or_else(nothing)
}

/// The first numbers, at length 1.
fn first(embedding: &Tensor, size: i64) -> Result<Tensor> {
    let given = size_of("matryoshka", "embeddings", embedding)?;
    let width = given.last().copied().unwrap_or(0);
    if !(1..=width).contains(&size) {
        return Err(Error::shape(
            "matryoshka, sizes",
            format!("1 to {width}, the width of the embeddings {given:?}"),
            format!("{size}"),
        ));
    }
    directions(&at_least_float32(&embedding.f_narrow(-1, 0, size)?)?)
}

fn directions(vectors: &Tensor) -> Result<Tensor> {
    let lengths = vectors.length()?;
    Ok(vectors
        .f_div(&lengths.at_least(LEAST)?)?
        .f_mul(&lengths.is_above(LEAST)?)?)
}

fn embeddings(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<(Tensor, Tensor)> {
    let teacher = fitting(loss, WANTED, student, teacher)?;
    if student.dim() == 0 {
        return Err(mismatch(loss, "[batch, width]", &[], &[]));
    }
    Ok((at_least_float32(student)?, at_least_float32(&teacher)?))
}

/// Two tensors whose last dimensions can be multiplied.
fn pair(what: &str, one: &Tensor, other: &Tensor) -> Result<(Tensor, Tensor)> {
    let (size, other_size) = sizes(what, one, other)?;
    let other = at_least_float32(&in_students_kind(what, one, other)?)?;
    let one = at_least_float32(one)?;
    if size == other_size && !size.is_empty() {
        return Ok((one, other));
    }
    match (size.as_slice(), other_size.as_slice()) {
        ([batch, width], [batch_of_other, _, width_of_other])
            if (batch, width) == (batch_of_other, width_of_other) =>
        {
            Ok((one.f_unsqueeze(1)?, other))
        }
        _ => Err(Error::shape(
            what,
            "embeddings of one shape, or [batch, width] and [batch, documents, width]",
            format!("{size:?} and {other_size:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn vectors_of_length_0_have_no_gradient_and_no_nan() {
        let zeros = || Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let teacher = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        let student = zeros().set_requires_grad(true);
        let loss = embedding_cosine(&student, &teacher).unwrap();
        loss.backward();
        assert_eq!(loss.double_value(&[]), 1.0);
        assert_eq!(student.grad(), zeros());

        let student = zeros().set_requires_grad(true);
        let loss = embedding_l2(&student, &zeros()).unwrap();
        loss.backward();
        assert_eq!(loss.double_value(&[]), 0.0);
        assert_eq!(student.grad(), zeros());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |size: &[i64]| Tensor::ones(size, (Kind::Float, Device::Cpu));
        let said = |result: Result<Tensor>| result.unwrap_err().to_string();
        let error = said(embedding_mse(&of(&[2, 3]), &of(&[2, 4])));
        assert!(error.starts_with("embedding_mse: expected embeddings of one shape"));
        assert!(embedding_cosine(&of(&[]), &of(&[])).is_err());
        assert_eq!(
            said(cosines(&of(&[2, 3]), &of(&[3, 2, 3]))),
            "cosines: expected embeddings of one shape, or [batch, width] and [batch, documents, width], \
             got [2, 3] and [3, 2, 3]"
        );
        let cut = |size| matryoshka(&[of(&[2, 3])], &[(size, 1.0)], |cut, _| mean(&cut[0]));
        for size in [-1, 0, 4] {
            assert_eq!(
                said(cut(size)),
                format!(
                    "matryoshka, sizes: expected 1 to 3, the width of the embeddings [2, 3], got {size}"
                )
            );
        }
        assert!(cut(3).is_ok());
        assert!(matryoshka(&[of(&[2, 3])], &[], |cut, _| mean(&cut[0])).is_err());
    }
}
