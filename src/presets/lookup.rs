//! Finding a preset by its name.

use std::collections::BTreeMap;
use std::rc::Rc;

use tch::nn::Path;

use super::{KdLoss, MatchLoss, Presets, TemperatureSchedule, WeightFunction};
use crate::config::PresetSpec;
use crate::error::{Error, Result};
use crate::projection::{Projection, ProjectionBuilder};

impl Presets {
    /// The names of the losses on logits, in alphabetical order, as for all names.
    ///
    /// ```
    /// use textbrewer::Presets;
    ///
    /// let presets = Presets::empty().kd_loss("mine", textbrewer::losses::kd_ce);
    /// assert_eq!(presets.kd_losses().collect::<Vec<_>>(), ["mine"]);
    /// ```
    pub fn kd_losses(&self) -> impl Iterator<Item = &str> {
        names(&self.kd_losses)
    }

    /// The names of the losses on features.
    pub fn match_losses(&self) -> impl Iterator<Item = &str> {
        names(&self.match_losses)
    }

    /// The names of the projections.
    pub fn projections(&self) -> impl Iterator<Item = &str> {
        names(&self.projections)
    }

    /// The names of the weight schedulers.
    pub fn weight_schedulers(&self) -> impl Iterator<Item = &str> {
        names(&self.weight_schedulers)
    }

    /// The names of the temperature schedulers.
    pub fn temperature_schedulers(&self) -> impl Iterator<Item = &str> {
        names(&self.temperature_schedulers)
    }

    /// The loss on logits of this name, made with these arguments; `field` is the key that named
    /// it.
    ///
    /// ```
    /// use textbrewer::Presets;
    ///
    /// let presets = Presets::default();
    /// presets.find_kd_loss("kd_loss_type", "ce")?;
    /// presets.find_kd_loss("kd_loss_type", ("generalized_jsd", [0.5]))?;
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] with the names that are known, as for all lookups;
    /// [`Error::Config`] when the arguments are not those that it takes.
    pub fn find_kd_loss(&self, field: &str, loss: impl Into<PresetSpec>) -> Result<KdLoss> {
        let PresetSpec { name, arguments } = loss.into();
        find(&self.kd_losses, field, "KD loss", &name)?.make(field, &name, &arguments)
    }

    /// The loss on features of this name, made with these arguments; `field` is the key that named
    /// it.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] with the names that are known; [`Error::Config`] when the arguments
    /// are not those that it takes.
    pub fn find_match_loss(&self, field: &str, loss: impl Into<PresetSpec>) -> Result<MatchLoss> {
        let PresetSpec { name, arguments } = loss.into();
        find(&self.match_losses, field, "match loss", &name)?.make(field, &name, &arguments)
    }

    /// The builder of projections of this name; `field` is the key that named it.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] with the names that are known.
    pub fn find_projection(&self, field: &str, name: &str) -> Result<ProjectionBuilder> {
        find(&self.projections, field, "projection", name).cloned()
    }

    /// A new projection of this name, with variables under `path`.
    ///
    /// # Errors
    /// When the name is not known, a size is not positive, or the builder fails.
    pub fn make_projection(
        &self,
        field: &str,
        name: &str,
        path: &Path<'_>,
        dim_in: i64,
        dim_out: i64,
    ) -> Result<Projection> {
        let build = self.find_projection(field, name)?;
        if dim_in <= 0 || dim_out <= 0 {
            return Err(Error::config(
                field,
                format!("`{name}` needs positive sizes, got {dim_in} and {dim_out}"),
            ));
        }
        let forward = build(path, dim_in, dim_out)?;
        Ok(Projection::new(name, dim_in, dim_out, forward))
    }

    /// The weight scheduler of this name, if there is one; `field` is the key that named it.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] with the names that are known.
    pub fn find_weight_scheduler(
        &self,
        field: &str,
        spec: Option<&PresetSpec>,
    ) -> Result<Option<WeightFunction>> {
        let Some(spec) = spec else {
            return Ok(None);
        };
        let schedule = find(
            &self.weight_schedulers,
            field,
            "weight scheduler",
            &spec.name,
        )?;
        if !spec.arguments.is_empty() {
            let reason = format!("`{}` takes no arguments", spec.name);
            return Err(Error::config(field, reason));
        }
        Ok(Some(Rc::clone(schedule)))
    }

    /// The temperature scheduler of this name, made with these arguments, if there is one;
    /// `field` is the key that named it.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] with the names that are known, or [`Error::Config`] when
    /// the arguments are not those that it takes.
    pub fn find_temperature_scheduler(
        &self,
        field: &str,
        spec: Option<&PresetSpec>,
    ) -> Result<Option<TemperatureSchedule>> {
        let Some(spec) = spec else {
            return Ok(None);
        };
        let kind = "temperature scheduler";
        let preset = find(&self.temperature_schedulers, field, kind, &spec.name)?;
        preset.make(field, &spec.name, &spec.arguments).map(Some)
    }
}

fn names<T>(known: &BTreeMap<String, T>) -> impl Iterator<Item = &str> {
    known.keys().map(String::as_str)
}

fn find<'a, T>(
    known: &'a BTreeMap<String, T>,
    field: &str,
    kind: &'static str,
    name: &str,
) -> Result<&'a T> {
    known.get(name).ok_or_else(|| Error::UnknownPreset {
        field: field.to_owned(),
        kind,
        name: name.to_owned(),
        known: known.keys().cloned().collect(),
    })
}
