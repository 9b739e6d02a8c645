//! The learning rates of a run, as they are logged.

use crate::optim::Optimizer;

/// Each learning rate, before the schedule's factor, under the name that it is logged by: one
/// where all groups share it, and one for each group where they differ.
#[derive(Debug, Default)]
pub(super) struct LearningRates(Vec<(String, f64)>);

impl LearningRates {
    pub(super) fn of(optimizer: &dyn Optimizer) -> Self {
        let groups = optimizer.groups().iter();
        let rates = groups.filter_map(|group| Some((&group.name, group.options.learning_rate?)));
        let rates: Vec<(&String, f64)> = rates.collect();
        LearningRates(match rates.first() {
            Some((_, first)) if rates.iter().all(|(_, rate)| rate == first) => {
                vec![("learning_rate".to_owned(), *first)]
            }
            _ => {
                let named = |(group, rate)| (format!("learning_rate/{group}"), rate);
                rates.into_iter().map(named).collect()
            }
        })
    }

    /// The rates of a step with this factor.
    pub(super) fn at(&self, factor: f64) -> impl Iterator<Item = (&str, f64)> {
        let rates = self.0.iter();
        rates.map(move |(name, rate)| (name.as_str(), rate * factor))
    }
}
