//! The learning rates of a run, as they are logged.

use std::collections::BTreeSet;

use crate::optim::Optimizer;

/// Each learning rate, before the schedule's factor, under the name that it is logged by: one
/// where all groups share it, and one for each group where they differ. Of several groups of one
/// name, as a `Split` has them, the second is logged as `name_2`.
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
                let mut taken = BTreeSet::new();
                let named = |(group, rate): (&String, f64)| {
                    (format!("learning_rate/{}", free(group, &mut taken)), rate)
                };
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

/// The name, numbered if it is taken.
fn free(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut free = name.to_owned();
    let mut number = 1;
    while !taken.insert(free.clone()) {
        number += 1;
        free = format!("{name}_{number}");
    }
    free
}
