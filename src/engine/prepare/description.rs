//! The description of a run, by which a resumed run is compared with the one before.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::checkpoint::{Description, GroupDescription, TensorDescription};
use crate::config::TrainingConfig;
use crate::distiller::Distiller;
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::schedule::LrSchedule;
use crate::weights;

/// The key of the schedule's factors.
pub(super) const SCHEDULE: &str = "schedule";

/// The steps at which the factors of two schedules are compared, as far as a run has them.
const SCHEDULE_AT: [u64; 9] = [0, 1, 2, 5, 10, 100, 1000, 10_000, 100_000];

/// The run's own part of its description, without that of distiller and optimizer.
#[derive(Debug)]
pub(super) struct RunDescription {
    pub(super) in_epochs: bool,
    pub(super) total_steps: u64,
    pub(super) max_grad_norm: Option<f64>,
    /// How the loss is scaled, if it is. The scale itself is part of the saved position.
    pub(super) loss_scaling: Option<Value>,
    pub(super) seed: u64,
    pub(super) postprocesses: bool,
    /// The names of the hooks, in their order.
    pub(super) hooks: Vec<String>,
    pub(super) batches: Option<u64>,
}

impl RunDescription {
    /// The schedule's factors at the steps of [`SCHEDULE_AT`] that the run has: a schedule may
    /// know of no others.
    ///
    /// A schedule that cannot work is told before anything is trained, as far as it is looked at.
    fn factors(&self, schedule: &(dyn LrSchedule + '_)) -> Result<Vec<f64>> {
        let total_steps = self.total_steps;
        let steps = SCHEDULE_AT.into_iter().filter(|step| *step < total_steps);
        let factors = steps.map(|step| (step, schedule.factor(step, total_steps)));
        let factors: Vec<_> = factors.collect();
        let Some((step, factor)) = factors.iter().find(|(_, factor)| !factor.is_finite()) else {
            return Ok(factors.into_iter().map(|(_, factor)| factor).collect());
        };
        let reason = format!(
            "its factor at step {step} of {total_steps} is {factor}, which must be a finite \
             number; a warm-up as a fraction is from 0 to 1"
        );
        Err(Error::config(SCHEDULE, reason))
    }

    /// The whole description.
    pub(super) fn describe<D: Distiller + ?Sized>(
        &self,
        distiller: &D,
        optimizer: &dyn Optimizer,
        schedule: Option<&(dyn LrSchedule + '_)>,
    ) -> Result<Description> {
        let length = if self.in_epochs { "epochs" } else { "steps" };
        let factors = schedule
            .map(|schedule| self.factors(schedule))
            .transpose()?;
        let run = BTreeMap::from([
            ("length".to_owned(), json!(length)),
            ("max_grad_norm".to_owned(), json!(self.max_grad_norm)),
            ("loss_scaling".to_owned(), json!(self.loss_scaling)),
            ("seed".to_owned(), json!(self.seed)),
            ("batch_postprocessor".to_owned(), json!(self.postprocesses)),
            (SCHEDULE.to_owned(), json!(factors)),
        ]);
        let mut variables = BTreeMap::new();
        for (name, tensor) in weights::state_dict(distiller.core().variables()) {
            variables.insert(name, TensorDescription::new(&tensor)?);
        }
        let mut state = BTreeMap::new();
        for group in distiller.core().param_groups() {
            for (name, tensor) in &group.parameters {
                state.insert(name.clone(), TensorDescription::new(tensor)?);
            }
        }
        let groups = optimizer.groups().iter().map(|group| GroupDescription {
            name: group.name.clone(),
            options: group.options.clone(),
            parameters: group
                .parameters
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
        });
        Ok(Description {
            config: config_of(distiller.core().config())?,
            distiller: distiller.core().description(),
            run,
            variables,
            state,
            groups: groups.collect(),
            batches: self.batches,
            hooks: self.hooks.clone(),
        })
    }
}

fn config_of(config: &TrainingConfig) -> Result<Value> {
    serde_json::to_value(config).map_err(|source| Error::Json {
        place: "the training configuration".to_owned(),
        reason: source.to_string(),
        source,
    })
}
