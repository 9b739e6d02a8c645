//! The distances between the layers of both models, as a term of the loss.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::Tensor;
use tch::nn::VarStore;

use super::layer_costs::{LayerCosts, MatchedFeature};
use super::layer_weights::Weights;
use crate::config::{EmdConfig, LayerWeights, Needs, ProjectionSpec};
use crate::distiller::matches::parameters_of;
use crate::distiller::{LossReport, Said, Term};
use crate::error::{Error, Result};
use crate::optim::ParamGroup;
use crate::presets::Presets;
use crate::projection::Projection;
use crate::transport::{self, TransportPlan};

/// The names of the layers' weights in the state.
const TEACHER_WEIGHTS: &str = "layer_weights.teacher";
const STUDENT_WEIGHTS: &str = "layer_weights.student";

/// The distances between the layers of both models.
#[derive(Debug)]
pub(in crate::distiller) struct Emd {
    config: EmdConfig,
    matched: Vec<MatchedFeature>,
    projection: Option<Projection>,
    parameters: Vec<(String, Tensor)>,
    observed: Observed,
}

/// What the last batch showed, for the term and for those who look on.
#[derive(Debug, Clone, Default)]
pub(in crate::distiller) struct Observed(Rc<RefCell<LastBatch>>);

#[derive(Debug, Default)]
struct LastBatch {
    /// How each feature was matched.
    plans: Vec<(&'static str, TransportPlan)>,
    /// For the next batch.
    weights: Option<Weights>,
}

impl Observed {
    pub(super) fn plan_of(&self, feature: &str) -> Option<TransportPlan> {
        let last = self.0.borrow();
        let plan = last.plans.iter().find(|(of, _)| *of == feature);
        plan.map(|(_, plan)| plan.clone())
    }

    pub(super) fn layer_weights(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let weights = self.weights()?;
        Some((weights.teacher, weights.student))
    }

    fn weights(&self) -> Option<Weights> {
        self.0.borrow().weights.clone()
    }
}

impl Emd {
    /// Looks up losses and makes the projection, with its parameters in `projections`.
    ///
    /// # Errors
    /// When a name is unknown, or a loss takes lists of layers.
    pub(in crate::distiller) fn new(
        config: &EmdConfig,
        presets: &Presets,
        projections: &VarStore,
    ) -> Result<Self> {
        let find = |field: &str, name: &str| match presets.find_match_loss(field, name)? {
            loss if !loss.takes_lists() => Ok(loss),
            _ => {
                let reason =
                    format!("`{name}` takes lists of layers, needed is a loss on one layer");
                Err(Error::config(field, reason))
            }
        };
        let hidden = MatchedFeature {
            feature: "hidden",
            log_name: "unweighted_emd_hidden",
            weight: config.hidden_weight,
            loss: find("emd.hidden_loss", &config.hidden_loss)?,
        };
        let attention = MatchedFeature {
            feature: "attention",
            log_name: "unweighted_emd_attention",
            weight: config.attention_weight,
            loss: find("emd.attention_loss", &config.attention_loss)?,
        };
        let mut matched = vec![hidden, attention];
        matched.retain(|matched| matched.weight > 0.0);
        let path = projections.root().sub("emd_projection");
        let build = |spec: &ProjectionSpec| {
            let (from, to) = (spec.dim_in, spec.dim_out);
            presets.make_projection("emd.hidden_projection", &spec.name, &path, from, to)
        };
        Ok(Emd {
            projection: config.hidden_projection.as_ref().map(build).transpose()?,
            parameters: parameters_of(projections, "emd_projection."),
            config: config.clone(),
            matched,
            observed: Observed::default(),
        })
    }

    /// What it sees of each batch.
    pub(in crate::distiller) fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// The weights of each feature's layers in this batch.
    fn weights_for(&self, costs: &[LayerCosts]) -> Result<Vec<Weights>> {
        let counts = costs.iter().map(|costs| costs.layers);
        let shared = match (self.config.layer_weights, counts.clone().next()) {
            (LayerWeights::Reestimated { .. }, Some(first)) => {
                let weights = self.observed.weights();
                weights.unwrap_or_else(|| Weights::uniform(first))
            }
            _ => return Ok(counts.map(Weights::uniform).collect()),
        };
        let (teacher, student) = shared.layers();
        let of = |(matched, got): (&MatchedFeature, (usize, usize))| {
            if got == (teacher, student) {
                return Ok(shared.clone());
            }
            let feature = matched.feature;
            Err(Error::shape(
                format!("layers of `{feature}` that re-estimated weights are for"),
                format!(
                    "{teacher} of the teacher and {student} of the student, the same for all \
                     features and batches (leave the output of the embeddings out of `hidden`)"
                ),
                format!("{} and {}", got.0, got.1),
            ))
        };
        self.matched.iter().zip(counts).map(of).collect()
    }
}

impl<B> Term<B> for Emd {
    fn name(&self) -> &str {
        "emd"
    }

    fn needs(&self) -> Needs {
        self.config.needs()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        let costs_of = |matched: &MatchedFeature| {
            // Attentions have no width; only hidden states are projected.
            let projection = self.projection.as_ref();
            let projection = projection.filter(|_| matched.feature == "hidden");
            matched.costs(said, projection)
        };
        let costs = self.matched.iter().map(costs_of);
        let costs = costs.collect::<Result<Vec<_>>>()?;
        let values = LayerCosts::read(&costs)?;
        let weights = self.weights_for(&costs)?;
        let mut plans = Vec::with_capacity(costs.len());
        let features = self.matched.iter().zip(&costs);
        for ((matched, costs), (values, weights)) in features.zip(values.iter().zip(&weights)) {
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NonFiniteLoss {
                    term: matched.log_name.to_owned(),
                    step: said.step.forward_step,
                    value,
                    before: None,
                    optimizer_steps: said.step.global_step,
                });
            }
            let plan = transport::solve(&weights.teacher, &weights.student, values.view())?;
            report.add(matched.log_name, costs.distance(&plan)?, matched.weight);
            plans.push((matched.feature, plan));
        }
        let mut last = self.observed.0.borrow_mut();
        if let LayerWeights::Reestimated { temperature } = self.config.layer_weights {
            let flows = plans.iter().map(|(_, plan)| &plan.flow);
            let moved: Vec<_> = flows.zip(&values).collect();
            last.weights = Some(Weights::reestimated(&moved, temperature));
        }
        last.plans = plans;
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        let Some(spec) = &self.config.hidden_projection else {
            return Vec::new();
        };
        let parameters = self.parameters.iter();
        let parameters = parameters.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        let group = ParamGroup::new("emd_projection", parameters.collect());
        vec![group.options(spec.options.clone())]
    }

    /// Everything is in the configuration.
    fn description(&self) -> String {
        String::new()
    }

    /// The weights of layers, once there are some.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        if let Some(Weights { teacher, student }) = self.observed.weights() {
            state.insert(TEACHER_WEIGHTS.to_owned(), Tensor::f_from_slice(&teacher)?);
            state.insert(STUDENT_WEIGHTS.to_owned(), Tensor::f_from_slice(&student)?);
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let unknown = |name: &&String| ![TEACHER_WEIGHTS, STUDENT_WEIGHTS].contains(&name.as_str());
        if let Some(name) = state.keys().find(unknown) {
            return Err(Error::WeightsMismatch {
                origin: "the state of the distiller".to_owned(),
                differences: vec![format!("`emd.{name}`: unexpected")],
            });
        }
        let weights =
            Weights::from_tensors(state.get(TEACHER_WEIGHTS), state.get(STUDENT_WEIGHTS))?;
        self.observed.0.borrow_mut().weights = weights;
        Ok(())
    }
}
