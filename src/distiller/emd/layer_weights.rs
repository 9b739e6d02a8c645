//! How much each layer has to give or to take, and how that is re-estimated.

use ndarray::{Array2, ArrayView2};
use tch::Tensor;

use crate::error::{Error, Result};

/// Unit costs count as at least this part of their sum.
const LEAST_PART: f64 = 1e-6;

/// The weights of both models' layers; each list sums to 1.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) teacher: Vec<f64>,
    pub(super) student: Vec<f64>,
}

impl Weights {
    pub(super) fn uniform((teacher, student): (usize, usize)) -> Self {
        Weights {
            teacher: vec![1.0 / teacher as f64; teacher],
            student: vec![1.0 / student as f64; student],
        }
    }

    pub(super) fn layers(&self) -> (usize, usize) {
        (self.teacher.len(), self.student.len())
    }

    /// As they were kept; none when there were none.
    pub(super) fn from_tensors(
        teacher: Option<&Tensor>,
        student: Option<&Tensor>,
    ) -> Result<Option<Self>> {
        let (teacher, student) = match (teacher, student) {
            (Some(teacher), Some(student)) => (teacher, student),
            (None, None) => return Ok(None),
            _ => {
                let wanted = "those of the teacher's layers and of the student's";
                return Err(Error::shape(
                    "kept weights of layers",
                    wanted,
                    "one of the two",
                ));
            }
        };
        let numbers = |model: &str, tensor: &Tensor| {
            let what = || format!("kept weights of the {model}'s layers");
            let numbers = Vec::<f64>::try_from(tensor).map_err(|_| {
                let found = format!("{:?} {:?}", tensor.kind(), tensor.size());
                Error::shape(what(), "a list of doubles", found)
            })?;
            let are_weights = numbers.iter().all(|number| (0.0..=1.0).contains(number));
            if !are_weights || (numbers.iter().sum::<f64>() - 1.0).abs() > 1e-6 {
                return Err(Error::shape(
                    what(),
                    "numbers that sum to 1",
                    format!("{numbers:?}"),
                ));
            }
            Ok(numbers)
        };
        Ok(Some(Weights {
            teacher: numbers("teacher", teacher)?,
            student: numbers("student", student)?,
        }))
    }

    /// From the flows and the costs of each feature.
    pub(super) fn reestimated(features: &[(&Array2<f64>, &Array2<f64>)], temperature: f64) -> Self {
        let rows =
            |&(flow, cost): &(&Array2<f64>, &Array2<f64>)| unit_costs(flow.view(), cost.view());
        let columns = |&(flow, cost): &(&Array2<f64>, &Array2<f64>)| unit_costs(flow.t(), cost.t());
        let of_teacher: Vec<_> = features.iter().map(rows).collect();
        let of_student: Vec<_> = features.iter().map(columns).collect();
        Weights {
            teacher: inverse_softmax(&of_teacher, temperature),
            student: inverse_softmax(&of_student, temperature),
        }
    }
}

/// What a unit of each row cost; of a row that moved nothing, what its cheapest cell costs.
fn unit_costs(flow: ArrayView2<'_, f64>, cost: ArrayView2<'_, f64>) -> Vec<f64> {
    let mut unit_costs = Vec::with_capacity(flow.nrows());
    for (flow, cost) in flow.rows().into_iter().zip(cost.rows()) {
        let moved = flow.sum();
        unit_costs.push(if moved > 0.0 {
            flow.dot(&cost) / moved
        } else {
            cost.iter()
                .fold(f64::INFINITY, |least, &cost| least.min(cost))
        });
    }
    unit_costs
}

/// The softmax, at a temperature, of how many times cheaper each layer is than all together;
/// of several features the mean.
fn inverse_softmax(unit_costs: &[Vec<f64>], temperature: f64) -> Vec<f64> {
    let mut ratios = vec![0.0; unit_costs.first().map_or(0, Vec::len)];
    for costs in unit_costs {
        let sum: f64 = costs.iter().sum();
        for (ratio, cost) in ratios.iter_mut().zip(costs) {
            // When nothing costs anything, all layers are as good.
            let part = if sum > 0.0 { cost / sum } else { 1.0 };
            *ratio += 1.0 / part.max(LEAST_PART) / unit_costs.len() as f64;
        }
    }
    let largest = ratios.iter().fold(0.0, |a: f64, &ratio| a.max(ratio));
    let powers: Vec<f64> = ratios
        .iter()
        .map(|ratio| ((ratio - largest) / temperature).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");
        }
    }

    #[test]
    fn the_formula_by_hand() {
        let flow = array![[0.5, 0.0], [0.1, 0.4]];
        let cost = array![[1.0, 9.0], [2.0, 4.0]];
        // Unit costs 1 and (0.2 + 1.6) / 0.5 = 3.6; of the columns 0.7 / 0.6 and 4.
        let weights = Weights::reestimated(&[(&flow, &cost)], 2.0);
        let softmax = |a: f64, b: f64| [1.0 / (1.0 + (b - a).exp()), 1.0 / (1.0 + (a - b).exp())];
        assert_close(&weights.teacher, &softmax(4.6 / 2.0, 4.6 / 3.6 / 2.0));
        let (a, b) = (0.7 / 0.6, 4.0);
        assert_close(
            &weights.student,
            &softmax((a + b) / a / 2.0, (a + b) / b / 2.0),
        );
    }

    #[test]
    fn ratios_of_two_features_are_averaged() {
        // Ratios 4 and 4/3 in one feature, 4/3 and 4 in the other.
        let both = [vec![1.0, 3.0], vec![6.0, 2.0]];
        assert_close(&inverse_softmax(&both, 0.1), &[0.5, 0.5]);
    }

    #[test]
    fn layers_that_cost_or_move_nothing_are_no_exception() {
        assert_close(&inverse_softmax(&[vec![0.0, 0.0]], 1.0), &[0.5, 0.5]);
        assert_close(&inverse_softmax(&[vec![0.0, 1.0]], 1.0), &[1.0, 0.0]);
        let (flow, cost) = (
            array![[0.0, 0.0], [0.5, 0.5]],
            array![[3.0, 2.0], [4.0, 4.0]],
        );
        assert_close(&unit_costs(flow.view(), cost.view()), &[2.0, 4.0]);
    }
}
