//! Every layer learns from every layer, by optimal transport.

mod layer_costs;
mod layer_weights;
mod term;

pub(super) use term::{Emd, Observed};

use tch::nn::VarStore;

use super::builder::{DistillerBuilder, OnePair};
use super::{AnyCore, Core, Distiller, LossReport};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::step::StepInfo;
use crate::transport::TransportPlan;

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
/// exactly ([`transport::solve`](crate::transport::solve)). Logits, labels and `intermediate_matches` are those of
/// [`GeneralDistiller`](crate::GeneralDistiller), which with the key `emd` of a
/// [`DistillationConfig`](crate::DistillationConfig) is the same. Padding, as the student's
/// `inputs_mask` tells it, is left out.
///
/// # Weights of layers
/// They sum to 1 for each model, [uniform](crate::LayerWeights::Uniform) or
/// [re-estimated](crate::LayerWeights::Reestimated) after each batch, for teacher layers (and for
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
/// ([`EmdConfig::hidden_projection`](crate::EmdConfig)) is one for all layers, which is the default of the
/// published program.
///
/// # Logs
/// `unweighted_emd_hidden`, `unweighted_emd_attention`.
///
/// ```
/// use tch::{nn::VarStore, Device, Kind, Tensor};
/// use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
/// use textbrewer::{AdamW, AdaptorOutput, DistillationConfig, Distiller, EmdConfig, EmdDistiller};
/// use textbrewer::{LayerWeights, ProjectionSpec, TrainingConfig, VecLoader};
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
/// let emd = EmdConfig::default()
///     .hidden_projection(ProjectionSpec::linear(8, 16))
///     .layer_weights(LayerWeights::Reestimated { temperature: 4.0 });
/// let mut distiller = EmdDistiller::builder(&teacher, &student, &student_vars)
///     .distill_config(DistillationConfig::default().emd(emd))
///     .train_config(TrainingConfig::default().device(Device::Cpu).output_dir(output_dir))
///     .adaptor(|_batch, output| {
///         let layers = output.hidden_states.get(1..).unwrap_or_default();
///         Ok(AdaptorOutput::new()
///             .logits(&output.logits)
///             .hidden(layers)
///             .attention(&output.attentions))
///     })
///     .build()?;
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
    core: Core<'a, B, S>,
    observed: Observed,
}

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> EmdDistiller<'a, B, S> {
    /// Starts with the models and the student's variables. What is matched is the key `emd` of
    /// the configuration; without it, hidden states and attentions of one size.
    pub fn builder<T: Model<B, Output: 'a> + 'a>(
        teacher: T,
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<'a, B, OnePair<'a, B, T, S>, Self> {
        DistillerBuilder::new(teacher, student, variables).with_emd()
    }
}

impl<'a, B, S: ?Sized> TryFrom<Core<'a, B, S>> for EmdDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(core: Core<'a, B, S>) -> Result<Self> {
        let missing = || Error::config("emd", "is not configured: nothing to match");
        let observed = core.emd().ok_or_else(missing)?.clone();
        let core = core.without_tasks("EmdDistiller")?;
        Ok(EmdDistiller { core, observed })
    }
}

impl<B, S: ?Sized> EmdDistiller<'_, B, S> {
    /// How the hidden states of the last batch were matched: teacher layers are rows, student
    /// layers are columns.
    pub fn hidden_plan(&self) -> Option<TransportPlan> {
        self.observed.plan_of("hidden")
    }

    /// How the attentions of the last batch were matched.
    pub fn attention_plan(&self) -> Option<TransportPlan> {
        self.observed.plan_of("attention")
    }

    /// The weights of the teacher's and of the student's layers for the next batch; none
    /// unless they are re-estimated and a batch has been matched.
    pub fn layer_weights(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        self.observed.layer_weights()
    }
}

impl<B: Batch, S: ?Sized> Distiller for EmdDistiller<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn core(&self) -> &dyn AnyCore<S> {
        &self.core
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<S> {
        &mut self.core
    }

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        self.core.report(batch, step)
    }
}
