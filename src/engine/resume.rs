//! Going on from a checkpoint.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::plan::Plan;
use super::survival::Begin;
use crate::checkpoint::{Description, GroupDescription, Newest, Store, TensorDescription};
use crate::config::TrainingConfig;
use crate::distiller::Distiller;
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::schedule::LrSchedule;
use crate::weights::{self, LoadOptions};

/// The steps at which the factors of two schedules are compared.
const SCHEDULE_AT: [u64; 9] = [0, 1, 2, 5, 10, 100, 1000, 10_000, 100_000];

/// The parts of a run's description that are not the distiller's.
#[derive(Debug)]
pub(super) struct About {
    pub(super) in_epochs: bool,
    pub(super) max_grad_norm: Option<f64>,
    /// How the loss is scaled, if it is. The scale itself is part of the progress.
    pub(super) loss_scaling: Option<Value>,
    pub(super) seed: u64,
    pub(super) postprocesses: bool,
    pub(super) batches: Option<u64>,
}

impl About {
    /// What the run is made of.
    pub(super) fn describe<D: Distiller + ?Sized>(
        &self,
        distiller: &D,
        optimizer: &dyn Optimizer,
        schedule: Option<&(dyn LrSchedule + '_)>,
    ) -> Result<Description> {
        let length = if self.in_epochs { "epochs" } else { "steps" };
        let factors = schedule.map(|schedule| SCHEDULE_AT.map(|step| schedule.factor(step)));
        let run = BTreeMap::from([
            ("length".to_owned(), json!(length)),
            ("max_grad_norm".to_owned(), json!(self.max_grad_norm)),
            ("loss_scaling".to_owned(), json!(self.loss_scaling)),
            ("seed".to_owned(), json!(self.seed)),
            ("batch_postprocessor".to_owned(), json!(self.postprocesses)),
            ("schedule".to_owned(), json!(factors)),
        ]);
        let mut variables = BTreeMap::new();
        for (name, tensor) in weights::state_dict(distiller.variables()) {
            variables.insert(name, TensorDescription::new(&tensor)?);
        }
        let mut state = BTreeMap::new();
        for group in distiller.extra_groups() {
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
            config: config_of(distiller.config())?,
            distiller: distiller.description(),
            run,
            variables,
            state,
            groups: groups.collect(),
            batches: self.batches,
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

/// The checkpoint that the run is to go on from, if it is to.
pub(super) fn find(begin: &Begin, config: &TrainingConfig) -> Result<Option<Newest>> {
    let (folder, must) = match begin {
        Begin::Anew => return Ok(None),
        Begin::From(folder) => (folder.as_path(), true),
        Begin::FromAny => (config.output_dir.as_path(), false),
    };
    let newest = Store::new(folder).newest()?;
    let Some(newest) = newest else {
        if must {
            let reason = format!(
                "there is no checkpoint in {}; give the `output_dir` of the run, or use \
                 `resume_or_start`",
                folder.display()
            );
            return Err(Error::config("resume", reason));
        }
        return Ok(None);
    };
    for error in &newest.damaged {
        log::warn!(
            "a newer checkpoint is damaged, that of step {} is used: {error}",
            newest.loaded.progress.global_step
        );
    }
    Ok(Some(newest))
}

/// That the run can be where the checkpoint says that it was. The description, which is compared
/// before, says whether the loss is scaled; a progress that says otherwise was changed.
fn check_progress(newest: &Newest, plan: &Plan, is_scaled: bool) -> Result<()> {
    let progress = &newest.loaded.progress;
    let reason = if !plan.has_position(progress) {
        format!(
            "`progress.json` has a position that such a run is never at: batch {} of epoch {}, \
             {} batches and {} steps in all; resume from another folder",
            progress.batch, progress.epoch, progress.forward_step, progress.global_step
        )
    } else if progress.scaling.is_some() != is_scaled {
        let state = if is_scaled { "no" } else { "a" };
        format!(
            "is damaged: it has {state} state of loss scaling, and its description says otherwise"
        )
    } else {
        return Ok(());
    };
    let path = newest.loaded.path.clone();
    Err(Error::Checkpoint { path, reason })
}

/// Puts the tensors of a checkpoint where they were, once the run was found to be the same.
pub(super) fn load<D: Distiller + ?Sized>(
    newest: &Newest,
    now: &Description,
    plan: &Plan,
    distiller: &mut D,
    optimizer: &mut dyn Optimizer,
) -> Result<()> {
    let loaded = &newest.loaded;
    let differences = loaded.manifest.description.differences(now)?;
    if !differences.is_empty() {
        return Err(Error::ResumeMismatch {
            path: loaded.path.clone(),
            differences,
        });
    }
    let is_scaled = now
        .run
        .get("loss_scaling")
        .is_some_and(|rule| !rule.is_null());
    check_progress(newest, plan, is_scaled)?;
    let origin = loaded.path.display().to_string();
    // First what can be refused: a distiller of the user's own, or files that do not fit though
    // their checksums are right. The student, found to fit, is changed last.
    weights::check_fit(distiller.variables(), &loaded.student, &origin)?;
    distiller.load_state(&loaded.distiller)?;
    optimizer.load_state(&loaded.optimizer)?;
    weights::load_into(
        distiller.variables(),
        &loaded.student,
        &origin,
        &LoadOptions::new(),
    )?;
    log::info!("resumed from {origin}");
    Ok(())
}
