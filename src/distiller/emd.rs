//! Every layer learns from every layer, by optimal transport.
//!
//! This file is also the model for a distiller of one's own: it uses public items of the crate
//! only. What it takes is a struct that holds the parts, `TryFrom<Parts>` (which gives it the
//! builder of the other distillers) and `Distiller`.

mod config;
mod layer_costs;
mod layer_weights;

pub use config::{EmdConfig, LayerWeights};

use std::collections::BTreeMap;
use std::slice;

use tch::Tensor;
use tch::nn::VarStore;

use self::layer_costs::{LayerCosts, MatchedFeature};
use self::layer_weights::Weights;
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::config::TrainingConfig;
use crate::distiller::{
    Distiller, DistillerBuilder, LossReport, OnePair, Pair, Parts, SharedLosses, StepInfo,
    TeacherCache, group_state, load_group_state,
};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::optim::ParamGroup;
use crate::presets::Presets;
use crate::projection::Projection;
use crate::transport::{self, TransportPlan};
use crate::weights::state_dict;

/// The names of the layers' weights among what has to be kept.
const TEACHER_WEIGHTS: &str = "layer_weights.teacher";
const STUDENT_WEIGHTS: &str = "layer_weights.student";

fn is_layer_weights(name: &str) -> bool {
    name == TEACHER_WEIGHTS || name == STUDENT_WEIGHTS
}

/// Every student layer learns from every teacher layer, as much as is cheap:
/// [BERT-EMD](https://arxiv.org/abs/2010.06133).
///
/// No layers have to be chosen. For each feature (hidden states, attentions) the losses `dᵢⱼ`
/// between teacher layer `i` and student layer `j` are the costs of a transportation problem
/// between the layers' weights; its solution `f` says how much `j` learns from `i`:
///
/// > EMD = Σᵢⱼ fᵢⱼ dᵢⱼ, where f minimises it subject to f ≥ 0, Σⱼ fᵢⱼ = wᵢ (teacher), Σᵢ fᵢⱼ = wⱼ (student)
///
/// > loss = w_kd · KD + Σ wᵢ · matchᵢ + w_hl · Σ mean(losses) + w_h · EMD(hidden) + w_a · EMD(attention)
///
/// Gradients flow through `d`, to the student and to the projection, and not through `f`. All
/// the costs are read from the device together, once a batch, and the problems are solved
/// exactly ([`transport::solve`]). Logits, labels and `intermediate_matches` are those of
/// [`GeneralDistiller`](crate::GeneralDistiller). Padding, as the student's `inputs_mask` tells
/// it, is left out.
///
/// # Weights of layers
/// They sum to 1 for each model, [uniform](LayerWeights::Uniform) or
/// [re-estimated](LayerWeights::Reestimated) after each batch, for teacher layers (and for
/// student layers with rows and columns exchanged) by
///
/// > Cᵢ = Σⱼ fᵢⱼ dᵢⱼ / wᵢ,  rᵢ = mean over features of Σₖ Cₖ / Cᵢ,  wᵢ ← exp(rᵢ / τ) / Σₖ exp(rₖ / τ)
///
/// This is the paper's cost attention as it is understood here: the unit cost of a layer, weights in
/// inverse proportion to it, one weight per layer for both features, a softmax with a
/// temperature. Choices of this crate: the features' ratios are
/// averaged before the softmax; a layer of weight 0 has the unit cost of its cheapest
/// cell; unit costs count as at least 10⁻⁶ of their sum, so that a layer which costs nothing
/// has a finite ratio. The authors' published program instead divides each feature's ratios by
/// their sum, without a softmax, and then averages. A new distiller starts from uniform weights,
/// a run that is resumed from those it had.
///
/// # Layers and sizes
/// All layers that the adaptors return take part, and the two models may return any numbers of
/// them. The paper matches the outputs of the transformer layers, so leave the output of the
/// embeddings out of `hidden`. The linear map from the student's hidden size to the teacher's
/// ([`EmdConfig::hidden_projection`]) is one for all layers, which is the default of the
/// published program.
///
/// # Logs
/// `unweighted_emd_hidden`, `unweighted_emd_attention`.
///
/// ```
/// use tch::{nn::VarStore, Device, Kind, Tensor};
/// use textbrewer::distiller::{EmdConfig, EmdDistiller, LayerWeights};
/// use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
/// use textbrewer::{AdamW, AdaptorOutput, Distiller, ProjectionSpec, TrainingConfig, VecLoader};
///
/// # let folder = tempfile::tempdir()?;
/// # let output_dir = folder.path();
/// let bert = |variables: &VarStore, layers, hidden| {
///     let config = BertConfig::default()
///         .vocab_size(50)
///         .num_hidden_layers(layers)
///         .hidden_size(hidden)
///         .num_attention_heads(2)
///         .intermediate_size(2 * hidden);
///     let model = BertForSequenceClassification::new(&variables.root(), &config)?;
///     textbrewer::Result::Ok(model.output_hidden_states(true).output_attentions(true))
/// };
/// let (teacher_vars, student_vars) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
/// let (teacher, student) = (bert(&teacher_vars, 4, 16)?, bert(&student_vars, 2, 8)?);
///
/// let mut distiller = EmdDistiller::builder(&teacher, &student, &student_vars)
///     .train_config(TrainingConfig::default().device(Device::Cpu).output_dir(output_dir))
///     .adaptor(|_batch, output| {
///         let layers = output.hidden_states.get(1..).unwrap_or_default();
///         Ok(AdaptorOutput::new()
///             .logits(&output.logits)
///             .hidden(layers)
///             .attention(&output.attentions))
///     })
///     .build()?
///     .emd_config(
///         EmdConfig::default()
///             .hidden_projection(ProjectionSpec::linear(8, 16))
///             .layer_weights(LayerWeights::Reestimated { temperature: 4.0 }),
///     )?;
///
/// let tokens = Tensor::randint(50, [3, 6], (Kind::Int64, Device::Cpu));
/// let mut loader = VecLoader::new(vec![BertInputs::new(tokens)])?;
/// distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(1e-3)).run()?;
///
/// let plan = distiller.hidden_plan().expect("two batches were matched");
/// assert_eq!(plan.flow.dim(), (4, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EmdDistiller<'a, B, S: ?Sized> {
    pair: Pair<'a, B, S>,
    config: TrainingConfig,
    shared: SharedLosses,
    presets: Presets,
    emd_config: EmdConfig,
    matched: Vec<MatchedFeature>,
    /// How the features of the last batch were matched, in the same order.
    plans: Vec<TransportPlan>,
    projection: Option<Projection>,
    projections: VarStore,
    weights: Option<Weights>,
}

impl<'a, B, S: Model<B> + ?Sized> EmdDistiller<'a, B, S> {
    /// Starts with the models and the student's variables. What is built matches hidden states
    /// and attentions of one size; [`emd_config`](Self::emd_config) changes that.
    pub fn builder<T: Model<B> + 'a>(
        teacher: T,
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<OnePair<'a, B, T, S, Self>> {
        DistillerBuilder::new(teacher, student, variables)
    }
}

impl<'a, B, S: ?Sized> TryFrom<Parts<'a, B, S>> for EmdDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(parts: Parts<'a, B, S>) -> Result<Self> {
        let (config, device) = (&parts.distill_config, parts.train_config.device);
        if config.is_caching_logits && !config.cache_features {
            let reason = "it keeps logits only, but EmdDistiller needs the teacher's layers at \
                          every step; set `cache_features` as well, which takes more memory, or \
                          leave caching off";
            return Err(Error::config("is_caching_logits", reason));
        }
        let distiller = EmdDistiller {
            shared: SharedLosses::new(config, &parts.presets, device, 1)?,
            pair: parts.pair,
            config: parts.train_config,
            presets: parts.presets,
            emd_config: EmdConfig::default(),
            matched: Vec::new(),
            plans: Vec::new(),
            projection: None,
            projections: VarStore::new(device),
            weights: None,
        };
        distiller.emd_config(EmdConfig::default())
    }
}

impl<B, S: ?Sized> EmdDistiller<'_, B, S> {
    /// Says what to match, and starts anew with its projection and weights of layers.
    ///
    /// # Errors
    /// A value that cannot work, an unknown name, a loss that takes lists of layers.
    pub fn emd_config(mut self, config: EmdConfig) -> Result<Self> {
        config.validate()?;
        let find = |field: &str, name: &str| match self.presets.find_match_loss(field, name)? {
            loss if !loss.takes_lists() => Ok(loss),
            _ => Err(Error::config(
                field,
                format!("`{name}` takes lists of layers, needed is a loss on one layer"),
            )),
        };
        let (hidden_weight, attention_weight) = (config.hidden_weight, config.attention_weight);
        let hidden = MatchedFeature {
            feature: "hidden",
            log_name: "unweighted_emd_hidden",
            weight: hidden_weight,
            loss: find("hidden_loss", &config.hidden_loss)?,
        };
        let attention = MatchedFeature {
            feature: "attention",
            log_name: "unweighted_emd_attention",
            weight: attention_weight,
            loss: find("attention_loss", &config.attention_loss)?,
        };
        self.matched = vec![hidden, attention];
        self.matched.retain(|matched| matched.weight > 0.0);
        if let Some(cache) = self.pair.teacher_cache() {
            cache.keep_features(self.matched.iter().map(|matched| matched.feature));
        }
        self.projections = VarStore::new(self.config.device);
        let path = self.projections.root().sub("emd_projection");
        let spec = config.hidden_projection.as_ref();
        let projection = spec.map(|spec| {
            let (from, to) = (spec.dim_in, spec.dim_out);
            self.presets
                .make_projection("hidden_projection", &spec.name, &path, from, to)
        });
        self.projection = projection.transpose()?;
        self.emd_config = config;
        self.plans.clear();
        self.weights = None;
        Ok(self)
    }

    /// How the hidden states of the last batch were matched: teacher layers are rows, student
    /// layers are columns.
    pub fn hidden_plan(&self) -> Option<&TransportPlan> {
        self.plan_of("hidden")
    }

    /// How the attentions of the last batch were matched.
    pub fn attention_plan(&self) -> Option<&TransportPlan> {
        self.plan_of("attention")
    }

    /// The weights of the teacher's and of the student's layers for the next batch; none
    /// unless they are re-estimated and a batch has been matched.
    pub fn layer_weights(&self) -> Option<(&[f64], &[f64])> {
        let weights = self.weights.as_ref()?;
        Some((&weights.teacher, &weights.student))
    }

    /// The parameters of the projection of hidden states, `emd_projection.weight` and so on.
    pub fn projections(&self) -> &VarStore {
        &self.projections
    }

    fn plan_of(&self, feature: &str) -> Option<&TransportPlan> {
        let mut matched = self.matched.iter().zip(&self.plans);
        matched.find_map(|(matched, plan)| (matched.feature == feature).then_some(plan))
    }

    fn add_distances(
        &mut self,
        report: &mut LossReport,
        teacher: &AdaptorOutput,
        student: &AdaptorOutput,
        step: &StepInfo,
    ) -> Result<()> {
        let costs_of = |matched: &MatchedFeature| {
            // Attentions have no width; only hidden states are projected.
            let projection = self.projection.as_ref();
            let projection = projection.filter(|_| matched.feature == "hidden");
            matched.costs(teacher, student, projection)
        };
        let costs = self.matched.iter().map(costs_of);
        let costs = costs.collect::<Result<Vec<_>>>()?;
        let values = LayerCosts::read(&costs)?;
        let weights = self.weights_for(&costs)?;
        let mut plans = Vec::with_capacity(costs.len());
        let features = self
            .matched
            .iter()
            .zip(&costs)
            .zip(values.iter().zip(&weights));
        for ((matched, costs), (values, weights)) in features {
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NonFiniteLoss {
                    term: matched.log_name.to_owned(),
                    step: step.forward_step,
                    value,
                });
            }
            let plan = transport::solve(&weights.teacher, &weights.student, values.view())?;
            report.add(matched.log_name, costs.distance(&plan)?, matched.weight);
            plans.push(plan);
        }
        if let LayerWeights::Reestimated { temperature } = self.emd_config.layer_weights {
            let flows = plans.iter().map(|plan| &plan.flow);
            let moved: Vec<_> = flows.zip(&values).collect();
            self.weights = Some(Weights::reestimated(&moved, temperature));
        }
        self.plans = plans;
        Ok(())
    }

    /// The weights of each feature's layers in this batch.
    fn weights_for(&self, costs: &[LayerCosts]) -> Result<Vec<Weights>> {
        let counts = costs.iter().map(|costs| costs.layers);
        let shared = match (self.emd_config.layer_weights, counts.clone().next()) {
            (LayerWeights::Reestimated { .. }, Some(first)) => {
                let first = || Weights::uniform(first);
                self.weights.clone().unwrap_or_else(first)
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

impl<B: Batch, S: ?Sized> Distiller for EmdDistiller<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let teacher = self.pair.run_teacher(batch, step)?;
        let student = self.pair.run_student(batch)?;
        let each = slice::from_ref(&teacher);
        let mut report = self.shared.report(&teacher, each, &student, batch, step)?;
        self.add_distances(&mut report, &teacher, &student, step)?;
        Ok(report)
    }

    fn config(&self) -> &TrainingConfig {
        &self.config
    }

    fn student(&self) -> &S {
        self.pair.student()
    }

    fn variables(&self) -> &VarStore {
        self.pair.variables()
    }

    fn extra_groups(&self) -> Vec<ParamGroup> {
        let mut groups = self.shared.matches().param_groups();
        if let Some(spec) = &self.emd_config.hidden_projection {
            let parameters = state_dict(&self.projections);
            groups
                .push(ParamGroup::new("emd_projection", parameters).options(spec.options.clone()));
        }
        groups
    }

    fn description(&self) -> BTreeMap<String, String> {
        let mut description = self.shared.description();
        let config = serde_json::to_string(&self.emd_config);
        let config = config.unwrap_or_else(|_| format!("{:?}", self.emd_config));
        description.insert("emd_config".to_owned(), config);
        description
    }

    /// The projections, and the weights of layers once there are some.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = group_state(&self.extra_groups());
        if let Some((teacher, student)) = self.layer_weights() {
            state.insert(TEACHER_WEIGHTS.to_owned(), Tensor::f_from_slice(teacher)?);
            state.insert(STUDENT_WEIGHTS.to_owned(), Tensor::f_from_slice(student)?);
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let of_groups = state.iter().filter(|(name, _)| !is_layer_weights(name));
        let of_groups = of_groups.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        let weights =
            Weights::from_tensors(state.get(TEACHER_WEIGHTS), state.get(STUDENT_WEIGHTS))?;
        load_group_state(&self.extra_groups(), &of_groups.collect())?;
        self.weights = weights;
        Ok(())
    }

    fn teacher_cache(&self) -> Option<&TeacherCache> {
        self.pair.teacher_cache()
    }
}
