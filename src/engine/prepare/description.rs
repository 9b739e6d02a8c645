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

/// The steps at which the factors of two schedules are compared.
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
    /// A schedule that cannot work is told before anything is trained, as far as it is looked at.
    fn check_factors(&self, factors: &[f64]) -> Result<()> {
        let total_steps = self.total_steps;
        let mut of_steps = SCHEDULE_AT.iter().zip(factors);
        let bad = of_steps.find(|(step, factor)| **step < total_steps && !factor.is_finite());
        let Some((step, factor)) = bad else {
            return Ok(());
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
        let factor = |schedule: &dyn LrSchedule, step| schedule.factor(step, self.total_steps);
        let factors = schedule.map(|schedule| SCHEDULE_AT.map(|step| factor(schedule, step)));
        self.check_factors(&factors.unwrap_or_default())?;
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
