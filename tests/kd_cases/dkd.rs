//! A loss of a user's own, that sees labels, and what to try it on.

use crate::common::said::kd_loss_of;
use crate::common::{elements, waves};
use tch::Tensor;
use textbrewer::losses::Temperature;
use textbrewer::losses::support::{ScalarOps, at_temperature};
use textbrewer::{AdaptorOutput, DistillationConfig, KdInput, Presets, Result, StepInfo};

pub const ALPHA: f64 = 1.0;
pub const BETA: f64 = 8.0;
pub const TAU: f64 = 2.0;

pub fn step() -> StepInfo {
    StepInfo::new(6, 3, 12, 2)
}

/// Decoupled knowledge distillation ([Zhao et al. 2022](https://arxiv.org/abs/2203.08679)):
/// `τ² (α KL(true class or not) + β KL(among the other classes))`.
pub fn dkd(input: &KdInput<'_>) -> Result<Tensor> {
    let Temperature::Constant(tau) = input.temperature else {
        return Err(textbrewer::Error::other("dkd: one temperature for all"));
    };
    let labels = input.labels()?.f_unsqueeze(-1)?;
    let student = input.student.whole()?;
    let label = student
        .f_zeros_like()?
        .f_scatter(-1, &labels, &student.f_ones_like()?)?;
    let label = label.is_above(0.0)?;
    // Of the true class, of all others together, and of each among the others.
    let logs = |logits: &Tensor| -> Result<[Tensor; 3]> {
        let logits = at_temperature("dkd", logits, &input.temperature)?;
        let true_class = logits
            .f_log_softmax(-1, None)?
            .f_gather(-1, &labels, false)?;
        let others = logits.filled(&label, f64::NEG_INFINITY)?;
        let sums = [&others, &logits].map(|z| z.f_logsumexp([-1i64].as_slice(), true));
        let [others_sum, sum] = sums;
        let among = others.f_log_softmax(-1, None)?.filled(&label, 0.0)?;
        Ok([true_class, others_sum?.f_sub(&sum?)?, among])
    };
    let (p, q) = (logs(&input.teacher.whole()?)?, logs(&student)?);
    let divergence = |of: usize| -> Result<Tensor> {
        let each = p[of].f_exp()?.f_mul(&p[of].f_sub(&q[of])?)?;
        Ok(each.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
    };
    let binary = divergence(0)?.f_add(&divergence(1)?)?;
    let loss = binary.times(ALPHA)?.f_add(&divergence(2)?.times(BETA)?)?;
    Ok(loss.times(tau * tau)?)
}

/// The same of one position, in plain numbers.
pub fn dkd_of(student: &[f64], teacher: &[f64], label: usize) -> f64 {
    let softmax = |logits: &[f64]| -> Vec<f64> {
        let e: Vec<f64> = logits.iter().map(|z| (z / TAU).exp()).collect();
        e.iter().map(|x| x / e.iter().sum::<f64>()).collect()
    };
    let kl =
        |p: &[f64], q: &[f64]| -> f64 { p.iter().zip(q).map(|(p, q)| p * (p.ln() - q.ln())).sum() };
    let without = |logits: &[f64]| {
        let mut others = logits.to_vec();
        others.remove(label);
        softmax(&others)
    };
    let (p, q) = (softmax(teacher)[label], softmax(student)[label]);
    let binary = kl(&[p, 1.0 - p], &[q, 1.0 - q]);
    TAU * TAU * (ALPHA * binary + BETA * kl(&without(teacher), &without(student)))
}

pub fn presets() -> Presets {
    Presets::default().kd_loss_with_labels("dkd", dkd)
}

/// What the distillers do with the outputs of two adaptors.
pub fn loss(name: &str, student: &AdaptorOutput, teacher: &AdaptorOutput) -> Result<Tensor> {
    let config = DistillationConfig::default()
        .kd_loss_type(name)
        .temperature(TAU);
    kd_loss_of((student, teacher), config, presets(), (&(), &step()))
}

/// The losses that have a value at each position, and of these the ones that ask for no labels.
pub fn at_positions(presets: &Presets) -> (Vec<String>, Vec<String>) {
    let all = presets.kd_losses().filter(|name| *name != "dist");
    let all: Vec<String> = all.map(str::to_owned).collect();
    let plain = all
        .iter()
        .filter(|name| !["dkd", "nkd"].contains(&name.as_str()));
    (all.clone(), plain.cloned().collect())
}

pub fn number(loss: Result<Tensor>) -> f64 {
    loss.unwrap_or_else(|error| panic!("{error}"))
        .double_value(&[])
}

pub fn output(logits: &Tensor) -> AdaptorOutput {
    AdaptorOutput::new().logits(logits)
}

pub fn assert_near(what: &str, got: f64, expected: f64) {
    let near = (got - expected).abs() <= 1e-12 * expected.abs().max(1.0);
    assert!(near, "{what}: {got}, expected {expected}");
}

/// Labels of −100 where the mask is 0.
pub struct Tokens {
    pub student: Tensor,
    pub teacher: Tensor,
    pub mask: Tensor,
    pub labels: Tensor,
    /// The mean of the plain numbers where the mask is 1.
    pub expected: f64,
}

pub fn tokens() -> Tokens {
    let (student, teacher) = (waves(&[2, 3, 4], 0.1) * 3.0, waves(&[2, 3, 4], 0.5) * 3.0);
    let labels = [1i64, -100, 3, 0, 2, -100];
    let mask = labels.map(|label| (label >= 0) as i64);
    let (s, t) = (elements(&student), elements(&teacher));
    let kept = labels.iter().enumerate().filter(|(_, label)| **label >= 0);
    let sum: f64 = kept
        .map(|(i, &label)| dkd_of(&s[4 * i..4 * i + 4], &t[4 * i..4 * i + 4], label as usize))
        .sum();
    Tokens {
        student,
        teacher,
        mask: Tensor::from_slice(&mask).view([2, 3]),
        labels: Tensor::from_slice(&labels).view([2, 3]),
        expected: sum / 4.0,
    }
}

impl Tokens {
    /// The loss with these labels, and its gradient with respect to the student's logits; under a
    /// mask of both sides, with weights.
    pub fn gradient(
        &self,
        labels: &Tensor,
        mask_of_both: Option<&Tensor>,
        weights: Option<&Tensor>,
    ) -> (f64, Vec<f64>) {
        let leaf = self.student.copy().set_requires_grad(true);
        let (mut s, mut t) = (output(&leaf).labels(labels), output(&self.teacher));
        if let Some(mask) = mask_of_both {
            (s, t) = (s.logits_mask(mask), t.logits_mask(mask));
        }
        if let Some(weights) = weights {
            s = s.logits_weights(weights);
        }
        let loss = loss("dkd", &s, &t).unwrap();
        loss.backward();
        (loss.double_value(&[]), elements(&leaf.grad()))
    }
}
