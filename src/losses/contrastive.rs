//! Contrastive distillation.

use tch::{Kind, Tensor};

use super::check::{fitting, in_students_kind, mismatch, sizes};
use super::support::at_least_float32;
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// Keeps the shares of the authors' code below 1.
const EPSILON: f64 = 1e-7;

/// Contrastive representation distillation (CRD, [Tian et al. 2020](https://arxiv.org/abs/1910.10699)), one side of it: whether
/// an embedding is told from others as the other model's of the same example.
/// `−1/B Σ [log(o_0/(o_0 + c)) + Σ_k≥1 log(c/(o_k + c))]` with `o = exp(x·y/τ)/Z` and c the number of other
/// candidates by `samples`, 1e-7 added below the lines.
///
/// The first candidate of each row is the other model's embedding of that example, all others are its embeddings of
/// other examples: of the batch ([`crd_in_batch`]), or of a memory of all `samples` examples, as the authors'. They have
/// length 1, after a layer of each side that is trained. The whole loss adds both sides, with the roles exchanged.
/// Z is `normalizer`, or else the mean of the exponentials times `samples`, without gradient; the authors keep that of the
/// first batch. The paper's τ is 0.07 and its weight 0.8.
///
/// # Shape
/// Embeddings: `[batch, width]`; candidates: `[batch, candidates, width]`, two of them or more.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::crd;
///
/// let embeddings = Tensor::from_slice2(&[[1.0, 0.0]]);
/// let candidates = |values: [f64; 4]| Tensor::from_slice(&values).f_view([1, 2, 2]);
/// let loss = |candidates| crd(&embeddings, &candidates, 0.5, 2.0, None);
/// let (told, confused) = (candidates([1.0, 0.0, 0.0, 1.0])?, candidates([0.0, 1.0, 1.0, 0.0])?);
/// assert!(loss(told)?.double_value(&[]) < loss(confused)?.double_value(&[]));
/// # textbrewer::Result::Ok(())
/// ```
pub fn crd(
    embeddings: &Tensor,
    candidates: &Tensor,
    temperature: f64,
    samples: f64,
    normalizer: Option<f64>,
) -> Result<Tensor> {
    let (size, others) = sizes("crd", embeddings, candidates)?;
    let count = match (size.as_slice(), others.as_slice()) {
        ([batch, width], [batch_of_others, count, width_of_others])
            if (batch, width) == (batch_of_others, width_of_others) && *count > 1 && *batch > 0 =>
        {
            *count
        }
        _ => {
            let wanted = "embeddings [batch, width] and candidates [batch, 2 or more, width]";
            return Err(mismatch("crd", wanted, &size, &others));
        }
    };
    let candidates = at_least_float32(&in_students_kind("crd", embeddings, candidates)?)?;
    let scores = candidates
        .f_matmul(&at_least_float32(embeddings)?.f_unsqueeze(2)?)?
        .f_squeeze_dim(2)?
        .over(temperature)?;
    let log_z = match normalizer {
        Some(normalizer) => Tensor::from(normalizer.ln()).f_to_device(scores.device())?,
        None => {
            let sum = scores
                .f_detach()?
                .f_logsumexp([0i64, 1].as_slice(), false)?;
            sum.plus((samples / scores.numel() as f64).ln())?
        }
    };
    let logs = scores.f_sub(&log_z.f_to_kind(scores.f_kind()?)?)?;
    let share = (count - 1) as f64 / samples;
    // log(o + c), which an o of any size comes through.
    let below = logs.f_logaddexp(&logs.f_zeros_like()?.plus((share + EPSILON).ln())?)?;
    let own = logs.f_narrow(1, 0, 1)?.f_sum(None)?;
    let sum = below.f_sum(None)?.f_sub(&own)?;
    let batch = size.first().copied().unwrap_or(1) as f64;
    Ok(sum.over(batch)?.minus((count - 1) as f64 * share.ln())?)
}

/// [`crd`] among the examples of a batch, both sides added, without a memory.
///
/// It **mixes examples**: all others of the batch are what an example is told from, so the batch should be large,
/// and gradient accumulation or several processes change the loss. Registered as `crd`, with the argument
/// `temperature`, 0.07 by default.
///
/// # Shape
/// Student and teacher: `[batch, width]`, the same, of two examples or more; they are brought to length 1.
///
/// # Errors
/// When the shapes do not fit, or there is one example only.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::crd_in_batch;
///
/// let teacher = Tensor::from_slice2(&[[1.0, 0.0], [0.0, 1.0]]);
/// let turned = Tensor::from_slice2(&[[0.0, 1.0], [1.0, 0.0]]);
/// let loss = |student| crd_in_batch(student, &teacher, 0.5);
/// assert!(loss(&teacher)?.double_value(&[]) < loss(&turned)?.double_value(&[]));
/// # textbrewer::Result::Ok(())
/// ```
pub fn crd_in_batch(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let wanted = "embeddings [batch, width] of one shape";
    let teacher = fitting("crd_in_batch", wanted, student, teacher)?;
    let &[batch, width] = student.size().as_slice() else {
        let got = format!("{:?}", student.size());
        return Err(Error::shape("crd_in_batch", wanted, got));
    };
    if batch < 2 {
        let wanted = "at least 2 examples in a batch (leave the last batch out)";
        return Err(Error::shape("crd_in_batch", wanted, format!("{batch}")));
    }
    let direction = |rows: &Tensor| -> Result<Tensor> {
        let rows = at_least_float32(rows)?;
        Ok(rows.f_div(&rows.length()?.at_least(1e-12)?)?)
    };
    let (student, teacher) = (direction(student)?, direction(&teacher)?);
    // Row i begins with i: i, i + 1, … and around.
    let rows = Tensor::f_arange(batch, (Kind::Int64, student.device()))?;
    let order = rows.f_unsqueeze(1)?.f_add(&rows.f_unsqueeze(0)?)?;
    let size = Tensor::from(batch).f_to_device(student.device())?;
    let order = order.f_remainder_tensor(&size)?.f_reshape([-1i64])?;
    let candidates = |side: &Tensor| -> Result<Tensor> {
        Ok(side
            .f_index_select(0, &order)?
            .f_reshape([batch, batch, width])?)
    };
    let samples = batch as f64;
    let of_student = crd(&student, &candidates(&teacher)?, temperature, samples, None)?;
    let of_teacher = crd(&teacher, &candidates(&student)?, temperature, samples, None)?;
    Ok(of_student.f_add(&of_teacher)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_batch_it_is_the_formula() {
        let student = [[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]];
        let teacher = [[0.8, 0.6], [-1.0, 0.0], [0.6, -0.8]];
        let temperature = 0.5;
        let one_side = |own: [[f64; 2]; 3], others: [[f64; 2]; 3]| {
            let exp = |i: usize, k: usize| {
                let product = own[i][0] * others[k][0] + own[i][1] * others[k][1];
                (product / temperature).exp()
            };
            let pairs = || (0..3).flat_map(|i| (0..3).map(move |k| (i, k)));
            let z = pairs().map(|(i, k)| exp(i, k)).sum::<f64>() / 9.0 * 3.0;
            let share = 2.0 / 3.0;
            let log = |(i, k)| {
                let o = exp(i, k) / z;
                let above = if i == k { o } else { share };
                (above / (o + share + EPSILON)).ln()
            };
            -pairs().map(log).sum::<f64>() / 3.0
        };
        let expected = one_side(student, teacher) + one_side(teacher, student);
        // Lengths do not matter.
        let student = Tensor::from_slice2(&student) * 3.0;
        let got = crd_in_batch(&student, &Tensor::from_slice2(&teacher), temperature).unwrap();
        assert!((got.double_value(&[]) - expected).abs() < 1e-12);
    }

    #[test]
    fn low_temperatures_stay_finite() {
        let rows = Tensor::from_slice2(&[[1f32, 0.0], [0.0, 1.0]]).set_requires_grad(true);
        let loss = crd_in_batch(&rows, &rows.detach(), 0.001).unwrap();
        loss.backward();
        assert!(loss.double_value(&[]).is_finite());
        assert!(rows.grad().isfinite().all().int64_value(&[]) == 1);
    }
}
