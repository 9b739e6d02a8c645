//! How the logits of several teachers become one.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::adaptor::AdaptorOutput;
use crate::error::{Error, Result};
use crate::logits::Logits;
use crate::scalar::ScalarOps;

/// How the logits of several teachers become one.
///
/// Below, `zᵢ` are the logits of teacher `i` of `n`, which have to be whole. Those of a single
/// teacher are handed on as they are, of whatever kind.
///
/// ```
/// use tch::{nn, Device, Tensor};
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::distiller::Ensemble;
/// use textbrewer::{from_fn, AdaptorOutput, MultiTeacherDistiller, TrainingConfig};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 3, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// let sure = from_fn(|batch: &Tensor, _| Ok(batch.times(9.0)?));
/// let unsure = from_fn(|batch: &Tensor, _| Ok(batch.times(0.1)?));
/// let built = |ensemble| {
///     MultiTeacherDistiller::builder(&student, &variables)
///         .teacher(&sure, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///         .teacher(&unsure, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///         .ensemble(ensemble)
///         .student_adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
///         .train_config(TrainingConfig::default().device(Device::Cpu))
///         .build()
/// };
/// assert!(built(Ensemble::Weighted(vec![3.0, 1.0])).is_ok());
/// assert!(built(Ensemble::Weighted(vec![1.0])).is_err());
/// let softened: Ensemble = serde_json::from_str(r#"{"mean_probabilities": {"temperature": 8}}"#)?;
/// assert_eq!(softened, Ensemble::MeanProbabilities { temperature: 8.0 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ensemble {
    /// `Σ zᵢ / n`, as in TextBrewer.
    #[default]
    MeanLogits,
    /// `τ · log(Σ softmax(zᵢ / τ) / n)`: at the temperature `τ`, which should be the one of
    /// the loss, the softmax of this is the mean of the softened probabilities
    /// ([Hinton et al. 2015](https://arxiv.org/abs/1503.02531)).
    MeanProbabilities {
        /// The temperature `τ`.
        temperature: f64,
    },
    /// `Σ wᵢ zᵢ / Σ wᵢ` with fixed weights.
    Weighted(Vec<f64>),
    /// `Σ cᵢ zᵢ / Σ cᵢ`, where `cᵢ` is the largest probability of teacher `i`, for each
    /// example and position: whoever is surer counts more.
    Confidence,
}

impl Ensemble {
    /// Fails unless it works with this many teachers.
    pub(super) fn check(&self, teachers: usize) -> Result<()> {
        if teachers == 0 {
            return Err(no_teacher());
        }
        match self {
            Ensemble::MeanProbabilities { temperature } if !is_positive(*temperature) => {
                let reason = format!("the temperature must be positive, got {temperature}");
                Err(Error::config("ensemble", reason))
            }
            Ensemble::Weighted(weights) if weights.len() != teachers => {
                let reason = format!(
                    "needs a weight for each of the {teachers} teacher(s), got {}",
                    weights.len()
                );
                Err(Error::config("ensemble", reason))
            }
            Ensemble::Weighted(weights)
                if weights.iter().any(|weight| *weight < 0.0)
                    || !is_positive(weights.iter().sum()) =>
            {
                let reason =
                    format!("weights must be finite, 0 or more, and not all 0, got {weights:?}");
                Err(Error::config("ensemble", reason))
            }
            _ => Ok(()),
        }
    }

    /// One output that has the logits of all, and the first teacher's mask.
    pub(super) fn combine(&self, each: &[AdaptorOutput]) -> Result<AdaptorOutput> {
        let mut together = AdaptorOutput::new();
        let Some(first) = each.first() else {
            return Ok(together);
        };
        for (teacher, output) in each.iter().enumerate() {
            if output.logits.len() != first.logits.len() {
                return Err(Error::shape(
                    format!("logits of teacher {teacher}"),
                    format!("as many as of teacher 0 ({})", first.logits.len()),
                    output.logits.len().to_string(),
                ));
            }
        }
        let masks = first.logits_mask.iter();
        together.logits_mask = masks.map(Tensor::shallow_clone).collect();
        if let [only] = each {
            let logits = only.logits.iter().map(Logits::at_least_float32);
            together.logits = logits.collect::<Result<_>>()?;
            return Ok(together);
        }
        for index in 0..first.logits.len() {
            let mut of_each: Vec<Tensor> = Vec::with_capacity(each.len());
            for (teacher, output) in each.iter().enumerate() {
                let Some(logits) = output.logits.get(index) else {
                    continue;
                };
                let place = || format!("the mean of several teachers, teacher {teacher}");
                let logits = logits.at_least_float32()?.whole_or("give whole logits");
                let logits = logits.map_err(|error| error.at(place()))?;
                if let Some(first) = of_each.first()
                    && logits.size() != first.size()
                {
                    return Err(Error::shape(
                        format!("logits of teacher {teacher}"),
                        format!("{:?}, as of teacher 0", first.size()),
                        format!("{:?}", logits.size()),
                    ));
                }
                of_each.push(logits);
            }
            together.logits.push(self.mean(&of_each)?.into());
        }
        Ok(together)
    }

    fn mean(&self, logits: &[Tensor]) -> Result<Tensor> {
        let count = logits.len() as f64;
        match self {
            Ensemble::MeanLogits => {
                Ok(sum(logits.iter().map(|z| Ok(z.shallow_clone())))?.over(count)?)
            }
            Ensemble::MeanProbabilities { temperature } => {
                // In logarithms, where small probabilities do not vanish.
                let softened = logits.iter().map(|z| {
                    let scaled = z.over(*temperature)?;
                    Ok(scaled.f_log_softmax(-1, None::<Kind>)?)
                });
                let stacked = Tensor::f_stack(&softened.collect::<Result<Vec<_>>>()?, 0)?;
                let log_sum = stacked.f_logsumexp(&[0i64][..], false)?;
                Ok(log_sum.minus(count.ln())?.times(*temperature)?)
            }
            Ensemble::Weighted(weights) => {
                let weighted = logits.iter().zip(weights).map(|(z, w)| Ok(z.times(*w)?));
                Ok(sum(weighted)?.over(weights.iter().sum::<f64>())?)
            }
            Ensemble::Confidence => {
                let confidence = |z: &Tensor| -> Result<Tensor> {
                    Ok(z.f_softmax(-1, None::<Kind>)?.f_amax(&[-1i64][..], true)?)
                };
                let confidences = logits.iter().map(confidence);
                let confidences = confidences.collect::<Result<Vec<_>>>()?;
                let weighted = logits
                    .iter()
                    .zip(&confidences)
                    .map(|(z, c)| Ok(z.f_mul(c)?));
                let total = sum(confidences.iter().map(|c| Ok(c.shallow_clone())))?;
                Ok(sum(weighted)?.f_div(&total)?)
            }
        }
    }
}

fn sum(tensors: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    super::report::sum(tensors)?.ok_or_else(no_teacher)
}

fn no_teacher() -> Error {
    Error::config(
        "teachers",
        "none was given; add at least one with `teacher`",
    )
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(ensemble: &Ensemble) -> Vec<f64> {
        let each = [[1.0f64, 3.0], [2.0, -2.0]].map(|z| {
            let logits = Tensor::from_slice(&z).reshape([1, 2]);
            AdaptorOutput::new().logits(&logits)
        });
        let combined = ensemble.combine(&each).unwrap();
        let logits = combined.logits[0].whole().unwrap();
        Vec::try_from(logits.view([-1])).unwrap()
    }

    fn assert_close(got: &[f64], expected: [f64; 2]) {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
        assert!(
            got.iter().zip(&expected).all(close),
            "{got:?}, expected {expected:?}"
        );
    }

    #[test]
    fn means_are_those_of_the_formulas() {
        assert_close(&combined(&Ensemble::MeanLogits), [1.5, 0.5]);
        assert_close(&combined(&Ensemble::Weighted(vec![3.0, 1.0])), [1.25, 1.75]);

        // The largest probabilities of two logits are sigmoids of their distance.
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (first, second) = (sigmoid(2.0), sigmoid(4.0));
        let expected = [first + 2.0 * second, 3.0 * first - 2.0 * second];
        let expected = expected.map(|z| z / (first + second));
        assert_close(&combined(&Ensemble::Confidence), expected);

        let temperature = 2.0;
        let mean = (sigmoid(-1.0) + sigmoid(2.0)) / 2.0;
        let expected = [mean, 1.0 - mean].map(|p: f64| temperature * p.ln());
        assert_close(
            &combined(&Ensemble::MeanProbabilities { temperature }),
            expected,
        );
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        for weights in [
            vec![1.0],
            vec![1.0, -1.0],
            vec![0.0, 0.0],
            vec![1.0, f64::NAN],
        ] {
            let error = Ensemble::Weighted(weights).check(2).unwrap_err();
            assert!(error.to_string().starts_with("ensemble: "), "{error}");
        }
        assert!(Ensemble::MeanLogits.check(0).is_err());
    }
}
