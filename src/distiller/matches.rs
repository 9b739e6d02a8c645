//! Losses between intermediate features of both models.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;
use tch::nn::VarStore;

use super::said::no_teacher;
use super::{LossReport, Needs, Said, Term};
use crate::config::{DistillationConfig, IntermediateMatch, Layers, ProjectionSpec};
use crate::error::{Error, Result};
use crate::optim::ParamGroup;
use crate::presets::{MatchLoss, Presets};
use crate::projection::Projection;
use crate::weights;

/// The configured intermediate matches, with their projections.
#[derive(Debug)]
pub(super) struct Matches {
    matches: Vec<Match>,
}

#[derive(Debug)]
struct Match {
    place: String,
    log_name: String,
    config: IntermediateMatch,
    loss: MatchLoss,
    projection: Option<Projection>,
    /// The parameters of the projection, by the names of the checkpoint.
    parameters: Vec<(String, Tensor)>,
}

impl Matches {
    /// Looks up losses and makes projections, with their parameters in `projections`;
    /// `teachers` is how many teachers a match may choose from.
    ///
    /// # Errors
    /// When a name is unknown, a loss takes another number of layers, or a match names a
    /// teacher that is not there.
    pub(super) fn new(
        config: &DistillationConfig,
        presets: &Presets,
        projections: &VarStore,
        teachers: usize,
    ) -> Result<Self> {
        let root = projections.root().sub("projection");
        let mut names = BTreeSet::new();
        let mut matches = Vec::with_capacity(config.intermediate_matches.len());
        for (index, config) in config.intermediate_matches.iter().enumerate() {
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
            matches.push(Match {
                log_name: unique(config.log_name(), index, &mut names),
                parameters: parameters_of(projections, &format!("projection.{index}.")),
                config: config.clone(),
                place,
                loss,
                projection,
            });
        }
        Ok(Matches { matches })
    }
}

/// The parameters below a path. The student may have variables of their names.
pub(super) fn parameters_of(projections: &VarStore, prefix: &str) -> Vec<(String, Tensor)> {
    let named = weights::state_dict(projections).into_iter();
    named
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, tensor)| (format!("distiller.{name}"), tensor))
        .collect()
}

impl<B> Term<B> for Matches {
    fn name(&self) -> &str {
        "intermediate_matches"
    }

    fn needs(&self) -> Needs {
        let needs = self.matches.iter().map(|matched| matched.config.needs());
        needs.fold(Needs::new(), Needs::and)
    }

    /// Adds a loss for each match, `unweighted_{feature}_{loss}_{student layer}_{teacher layer}`.
    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        for matched in &self.matches {
            let loss = matched.loss(said)?;
            report.add(matched.log_name.clone(), loss, matched.config.weight);
        }
        Ok(())
    }

    /// The projections as groups for the optimizer, each with the options of its match.
    fn param_groups(&self) -> Vec<ParamGroup> {
        let of_match = |(index, matched): (usize, &Match)| {
            let options = matched.config.proj.as_ref()?.options.clone();
            let parameters = matched.parameters.iter();
            let parameters =
                parameters.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            let group = ParamGroup::new(format!("projection.{index}"), parameters.collect());
            Some(group.options(options))
        };
        self.matches
            .iter()
            .enumerate()
            .filter_map(of_match)
            .collect()
    }

    fn description(&self) -> String {
        String::new()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }

    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}

impl Match {
    fn loss<B>(&self, said: &Said<'_, B>) -> Result<Tensor> {
        let (feature, teacher) = (&self.config.feature, self.config.teacher);
        let needed_by = format!("{} (`{}`)", self.place, self.config.loss.name);
        let layers = self.config.layer_teacher.as_slice().iter();
        let from_teacher = layers
            .map(|&layer| said.teacher_layer_for(&needed_by, teacher, feature, layer))
            .collect::<Result<Vec<_>>>()?;
        let layers = self.config.layer_student.as_slice().iter();
        let mut from_student = layers
            .map(|&layer| said.student_layer_for(&needed_by, feature, layer))
            .collect::<Result<Vec<_>>>()?;
        let at_place = |error: Error| error.at(&self.place);
        if let Some(projection) = &self.projection {
            for layer in &mut from_student {
                *layer = projection.forward(layer).map_err(at_place)?;
            }
        }
        let mask = said.mask(teacher, feature, &from_student.iter().collect::<Vec<_>>());
        let loss = self.loss.apply(&from_student, &from_teacher, mask);
        loss.map_err(|error| at_place(about_masks(error)))
    }
}

/// Where the mask comes from is known only here.
fn about_masks(error: Error) -> Error {
    match error {
        Error::Shape {
            what,
            expected,
            got,
        } if what.ends_with(", mask") => {
            let remedy = "a feature without a mask of its own (`Feature::mask`, `unmasked`) has \
                          `inputs_mask`";
            Error::shape(what, format!("{expected}; {remedy}"), got)
        }
        other => other,
    }
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
        let reason = format!("the loss `{}` takes {wanted}", config.loss.name);
        return Err(Error::config(format!("{place}.{key}"), reason));
    }
    Ok(())
}
