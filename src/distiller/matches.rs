//! Losses between intermediate features of both models.

use std::collections::BTreeSet;

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::LossReport;
use crate::adaptor::AdaptorOutput;
use crate::config::{DistillationConfig, IntermediateMatch, Layers, ProjectionSpec};
use crate::error::{Error, Result, Side};
use crate::losses::at_least_float32;
use crate::optim::ParamGroup;
use crate::presets::{MatchLoss, Presets};
use crate::projection::Projection;
use crate::weights;

/// The configured intermediate matches, with their projections.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::distiller::Matches;
/// use textbrewer::{AdaptorOutput, DistillationConfig, IntermediateMatch, LossReport};
/// use textbrewer::{Presets, ProjectionSpec};
///
/// let projected = IntermediateMatch::hidden(1, 0)
///     .loss("hidden_mse")
///     .proj(ProjectionSpec::linear(2, 4).learning_rate(1e-3));
/// let config = DistillationConfig::default().intermediate_matches([projected]);
/// let matches = Matches::new(&config, &Presets::default(), Device::Cpu, 1)?;
///
/// let state = |size| Tensor::ones([1, 3, size], (Kind::Float, Device::Cpu));
/// let teacher = AdaptorOutput::new().hidden(&[state(4), state(4)]);
/// let student = AdaptorOutput::new().hidden(&[state(2)]);
/// let mut report = LossReport::new();
/// matches.add_to(&mut report, &[teacher], &student)?;
/// assert_eq!(report.terms()[0].name, "unweighted_hidden_hidden_mse_0_1");
/// // What the optimizer has to train besides the student.
/// let groups = matches.param_groups();
/// assert_eq!(groups[0].parameters.len(), 2);
/// assert_eq!(groups[0].options.learning_rate, Some(1e-3));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Matches {
    matches: Vec<Match>,
    projections: VarStore,
}

#[derive(Debug)]
struct Match {
    place: String,
    log_name: String,
    config: IntermediateMatch,
    loss: MatchLoss,
    projection: Option<Projection>,
}

impl Matches {
    /// Looks up losses and makes projections, with their parameters on `device`; `teachers`
    /// is how many teachers a match may choose from.
    ///
    /// # Errors
    /// When a name is unknown, a loss takes another number of layers, or a match names a
    /// teacher that is not there.
    pub fn new(
        config: &DistillationConfig,
        presets: &Presets,
        device: Device,
        teachers: usize,
    ) -> Result<Self> {
        let projections = VarStore::new(device);
        let root = projections.root().sub("projection");
        let mut names = BTreeSet::new();
        let matches = config
            .intermediate_matches
            .iter()
            .enumerate()
            .map(|(index, config)| {
                let place = format!("intermediate_matches[{index}]");
                let loss = presets.find_match_loss(&format!("{place}.loss"), &config.loss)?;
                check_layers(&place, &loss, config)?;
                if config.teacher >= teachers {
                    return Err(no_teacher(&place, config.teacher, teachers));
                }
                let build = |spec: &ProjectionSpec| {
                    let (field, path) = (format!("{place}.proj"), root.sub(index));
                    presets.make_projection(&field, &spec.name, &path, spec.dim_in, spec.dim_out)
                };
                let projection = config.proj.as_ref().map(build).transpose()?;
                Ok(Match {
                    log_name: unique(config.log_name(), index, &mut names),
                    config: config.clone(),
                    place,
                    loss,
                    projection,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Matches {
            matches,
            projections,
        })
    }

    /// Adds one term for each match, `unweighted_{feature}_{loss}_{student layer}_{teacher layer}`.
    /// `teachers` has what each teacher returned. Padding, as the student's `inputs_mask`
    /// tells it, is left out.
    ///
    /// # Errors
    /// When an adaptor did not return the feature or the layer, or shapes do not fit.
    pub fn add_to(
        &self,
        report: &mut LossReport,
        teachers: &[AdaptorOutput],
        student: &AdaptorOutput,
    ) -> Result<()> {
        for matched in &self.matches {
            let teacher = teachers.get(matched.config.teacher);
            let teacher = teacher.ok_or_else(|| {
                no_teacher(&matched.place, matched.config.teacher, teachers.len())
            })?;
            let loss = matched.loss_between(teacher, student)?;
            report.add(matched.log_name.clone(), loss, matched.config.weight);
        }
        Ok(())
    }

    /// The parameters of the projections, `projection.{index of the match}.weight` and so on.
    pub fn projections(&self) -> &VarStore {
        &self.projections
    }

    /// The projections as groups for the optimizer, each with the options of its match.
    pub fn param_groups(&self) -> Vec<ParamGroup> {
        let named = weights::state_dict(&self.projections);
        let of_match = |(index, matched): (usize, &Match)| {
            let options = matched.config.proj.as_ref()?.options.clone();
            let prefix = format!("projection.{index}.");
            let parameters = named
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix))
                // The student may have a variable of that name.
                .map(|(name, tensor)| (format!("distiller.{name}"), tensor.shallow_clone()))
                .collect();
            Some(ParamGroup::new(format!("projection.{index}"), parameters).options(options))
        };
        self.matches
            .iter()
            .enumerate()
            .filter_map(of_match)
            .collect()
    }
}

impl Match {
    fn loss_between(&self, teacher: &AdaptorOutput, student: &AdaptorOutput) -> Result<Tensor> {
        let from_teacher = self.pick(teacher, Side::Teacher, &self.config.layer_teacher)?;
        let mut from_student = self.pick(student, Side::Student, &self.config.layer_student)?;
        if let Some(projection) = &self.projection {
            for layer in &mut from_student {
                *layer = projection
                    .forward(layer)
                    .map_err(|error| error.at(&self.place))?;
            }
        }
        let mask = student.inputs_mask.as_ref();
        self.loss
            .apply(&from_student, &from_teacher, mask)
            .map_err(|error| error.at(&self.place))
    }

    fn pick(&self, output: &AdaptorOutput, side: Side, layers: &Layers) -> Result<Vec<Tensor>> {
        let feature = &self.config.feature;
        let needed_by = || format!("{} (`{}`)", self.place, self.config.loss);
        let Some(available) = output.features.get(feature) else {
            return Err(Error::missing(side, feature, needed_by()));
        };
        let pick_one = |&index: &i64| {
            let len = available.len();
            let position = if index < 0 { index + len as i64 } else { index };
            let position = usize::try_from(position).ok();
            match position.and_then(|position| available.get(position)) {
                Some(layer) if layer.defined() => at_least_float32(layer),
                Some(_) => Err(Error::LayerNotKept {
                    side,
                    feature: feature.clone(),
                    index,
                    needed_by: needed_by(),
                }),
                None => Err(Error::LayerOutOfRange {
                    side,
                    feature: feature.clone(),
                    index,
                    len,
                    needed_by: needed_by(),
                }),
            }
        };
        layers.as_slice().iter().map(pick_one).collect()
    }
}

/// `teachers` is how many there are.
pub(super) fn no_teacher(place: &str, teacher: usize, teachers: usize) -> Error {
    let reason = match teachers.checked_sub(1) {
        Some(last) => format!("there is no teacher {teacher}; the last is {last}, counted from 0"),
        None => "there is no teacher at all".to_owned(),
    };
    Error::config(format!("{place}.teacher"), reason)
}

/// Two matches may differ in their projections alone; each is to have its own curve.
fn unique(name: String, index: usize, known: &mut BTreeSet<String>) -> String {
    let name = match known.contains(&name) {
        true => format!("{name}_match{index}"),
        false => name,
    };
    known.insert(name.clone());
    name
}

/// A loss on one layer cannot take a list, and the other way round.
fn check_layers(place: &str, loss: &MatchLoss, config: &IntermediateMatch) -> Result<()> {
    let sides = [
        ("layer_T", &config.layer_teacher),
        ("layer_S", &config.layer_student),
    ];
    for (key, layers) in sides {
        let is_list = matches!(layers, Layers::Many(_));
        let wanted = match (loss.takes_lists(), loss.layers()) {
            (false, _) if is_list => "one layer, not a list".to_owned(),
            (true, None) if !is_list => "a list of layers".to_owned(),
            (true, Some(count)) if !is_list || layers.as_slice().len() != count => {
                format!("a list of {count} layers")
            }
            _ => continue,
        };
        let reason = format!("the loss `{}` takes {wanted}", config.loss);
        return Err(Error::config(format!("{place}.{key}"), reason));
    }
    Ok(())
}
