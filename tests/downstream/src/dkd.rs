//! A loss of one's own that sees the labels: decoupled knowledge distillation
//! ([Zhao et al. 2022](https://arxiv.org/abs/2203.08679)).

use tch::Tensor;
use textbrewer::losses::support::{ScalarOps, at_temperature};
use textbrewer::{KdInput, Result};

/// `KL(true class or not) + 8 KL(among the other classes)`, for each position; τ² is left out.
pub fn dkd(input: &KdInput<'_>) -> Result<Tensor> {
    let labels = input.labels()?.f_unsqueeze(-1)?;
    let student = Parts::of(&input.student.whole()?, &labels, input)?;
    let teacher = Parts::of(&input.teacher.whole()?, &labels, input)?;
    let binary = teacher.binary.f_exp()?.f_mul(&teacher.binary.f_sub(&student.binary)?)?;
    let others = teacher.others.f_exp()?.f_mul(&teacher.others.f_sub(&student.others)?)?;
    let sum = |parts: &Tensor| parts.f_sum_dim_intlist([-1i64].as_slice(), false, None);
    Ok(sum(&binary)?.f_add(&sum(&others)?.times(8.0)?)?)
}

/// Log-probabilities of the true class and of all others together, and of each among the others.
struct Parts {
    binary: Tensor,
    others: Tensor,
}

impl Parts {
    fn of(logits: &Tensor, labels: &Tensor, input: &KdInput<'_>) -> Result<Self> {
        let logs = at_temperature("dkd", logits, &input.temperature)?.f_log_softmax(-1, None)?;
        let truth = logs.f_gather(-1, labels, false)?;
        // Far down, but finite: 0 times infinity is no number.
        let down = truth.f_zeros_like()?.minus(1e4)?;
        let others = logs.f_scatter_add(-1, labels, &down)?;
        let together = others.f_logsumexp([-1i64].as_slice(), true)?;
        Ok(Parts {
            binary: Tensor::f_cat(&[&truth, &together], -1)?,
            others: others.f_log_softmax(-1, None)?,
        })
    }
}
