//! BERT ([Devlin et al. 2019](https://arxiv.org/abs/1810.04805)) and the models that share its
//! layers.

mod attention;
mod config;
mod embeddings;
mod encoder;
mod head;
mod inputs;
mod mask;
mod masked_lm_output;
mod model_type;
mod names;
mod output;
mod pooler;
mod pretrained;

pub use config::{BertConfig, ProblemType};
pub use head::{
    Head, MaskedLM, NoHead, QuestionAnswering, SequenceClassification, TokenClassification,
};
pub use inputs::BertInputs;
pub use masked_lm_output::MaskedLMOutput;
pub use model_type::ModelType;
pub use output::{BertOutput, LogitsOutput, QuestionAnsweringOutput};

use tch::nn;

use embeddings::Embeddings;
use encoder::Encoder;
use output::StateSelection;
use pooler::Pooler;

use crate::config::LayerSelection;
use crate::error::{Error, Result};
use crate::model::Model;

/// BERT without a head.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{BertConfig, BertInputs, BertModel};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// let variables = VarStore::new(Device::Cpu);
/// let model = BertModel::new(&variables.root(), &config)?;
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]));
/// let output = model.forward(&inputs, false)?;
/// assert_eq!(output.last_hidden_state.size(), [1, 3, config.hidden_size]);
/// assert!(variables.variables().contains_key("encoder.layer.0.output.dense.bias"));
/// # textbrewer::Result::Ok(())
/// ```
pub type BertModel = Bert<NoHead>;
/// BERT for sequence classification.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{
///     BertConfig, BertForSequenceClassification, BertInputs, SequenceClassification,
/// };
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// let variables = VarStore::new(Device::Cpu);
/// let model = BertForSequenceClassification::new(&variables.root(), &config.num_labels(3))?;
/// let _head: &SequenceClassification = model.head();
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3], [4, 5, 6]]));
/// assert_eq!(model.forward(&inputs, false)?.logits.size(), [2, 3]);
/// # textbrewer::Result::Ok(())
/// ```
pub type BertForSequenceClassification = Bert<SequenceClassification>;
/// BERT for token classification.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{BertConfig, BertForTokenClassification, BertInputs};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// let variables = VarStore::new(Device::Cpu);
/// let model = BertForTokenClassification::new(&variables.root(), &config.num_labels(9))?;
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3], [4, 5, 6]]));
/// assert_eq!(model.forward(&inputs, false)?.logits.size(), [2, 3, 9]);
/// # textbrewer::Result::Ok(())
/// ```
pub type BertForTokenClassification = Bert<TokenClassification>;
/// BERT for extractive question answering.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{BertConfig, BertForQuestionAnswering, BertInputs};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// let variables = VarStore::new(Device::Cpu);
/// let model = BertForQuestionAnswering::new(&variables.root(), &config.num_labels(2))?;
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3], [4, 5, 6]]));
/// let output = model.forward(&inputs, false)?;
/// assert_eq!((output.start_logits.size(), output.end_logits.size()), (vec![2, 3], vec![2, 3]));
/// # textbrewer::Result::Ok(())
/// ```
pub type BertForQuestionAnswering = Bert<QuestionAnswering>;
/// BERT for masked language modelling.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{BertConfig, BertForMaskedLM, BertInputs};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// let variables = VarStore::new(Device::Cpu);
/// let model = BertForMaskedLM::new(&variables.root(), &config.vocab_size(50))?;
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3], [4, 5, 6]]));
/// assert_eq!(model.forward(&inputs, false)?.logits.whole()?.size(), [2, 3, 50]);
/// # textbrewer::Result::Ok(())
/// ```
pub type BertForMaskedLM = Bert<MaskedLM>;

/// BERT with a head, or a model that shares its layers: RoBERTa, XLM-RoBERTa, CamemBERT,
/// ELECTRA or DistilBERT, according to [`BertConfig::model_type`].
///
/// Most users want one of [`BertModel`], [`BertForSequenceClassification`],
/// [`BertForTokenClassification`], [`BertForQuestionAnswering`] and [`BertForMaskedLM`], which
/// are the same for the whole family. A [`Head`] of the user's own works as well.
///
/// ```
/// use tch::{nn, Device, Tensor};
/// use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
/// use textbrewer::Model;
///
/// let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
///     .num_attention_heads(2).num_hidden_layers(3).num_labels(4);
/// let variables = nn::VarStore::new(Device::Cpu);
/// let model = BertForSequenceClassification::new(&variables.root(), &config)?
///     .output_hidden_states(true);
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3], [4, 5, 6]]))
///     .labels(Tensor::from_slice(&[0i64, 3]));
/// let output = model.forward(&inputs, false)?;
/// assert_eq!(output.logits.size(), [2, 4]);
/// assert_eq!(output.hidden_states.len(), 4);
/// assert!(output.loss.is_some());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Bert<H> {
    embeddings: Embeddings,
    encoder: Encoder,
    pooler: Option<Pooler>,
    head: H,
    config: BertConfig,
    outputs: StateSelection,
    /// The path of the model in its variable store: empty, or with a dot at the end.
    scope: String,
}

impl<H: Head> Bert<H> {
    /// Makes the variables of a model under `path`, with fresh values: normally
    /// distributed weights, zero biases.
    ///
    /// With the root of a variable store as `path` the names are those of `transformers`,
    /// as [`from_pretrained`](Self::from_pretrained) needs it.
    ///
    /// # Errors
    /// When `config` is invalid, or there is already a BERT under `path`.
    pub fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        config.validate()?;
        let model = config.model_type;
        let base = match H::BASE {
            "" => path.clone(),
            "bert" => path / model.base_name(),
            base => path / base,
        };
        // A second variable of the same name would silently be renamed.
        let words = &base / "embeddings" / "word_embeddings";
        if words.get("weight").is_some() {
            return Err(Error::config(
                "path",
                "there is a BERT here already; give each model its own VarStore or sub-path",
            ));
        }
        let embeddings = Embeddings::new(&base, config)?;
        let encoder = Encoder::new(&(&base / model.encoder_name()), config)?;
        let pooler = match H::has_pooler(model) {
            true => Some(Pooler::new(&(&base / "pooler"), config)?),
            false => None,
        };
        let head = H::new(path, config, embeddings.word_embeddings())?;
        let scope = path.components().map(|part| format!("{part}."));
        Ok(Bert {
            embeddings,
            encoder,
            pooler,
            head,
            config: config.clone(),
            outputs: StateSelection {
                hidden_states: config.output_hidden_states.into(),
                attentions: config.output_attentions.into(),
                qkv: LayerSelection::None,
            },
            scope: scope.collect(),
        })
    }

    /// Sets which hidden states are returned: all (`true`), none, or some by their positions,
    /// where 0 is the embeddings' output and −1 the last layer's. Those left out are
    /// undefined tensors in the list.
    ///
    /// [`DistillationConfig::layers`](crate::DistillationConfig::layers) returns the layers that
    /// a distillation needs.
    ///
    /// ```
    /// use tch::{nn::VarStore, Device, Tensor};
    /// use textbrewer::models::{BertConfig, BertInputs, BertModel};
    /// use textbrewer::Model;
    ///
    /// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
    /// #     .num_attention_heads(2).num_hidden_layers(3);
    /// let variables = VarStore::new(Device::Cpu);
    /// let model = BertModel::new(&variables.root(), &config)?.output_hidden_states([0, -1]);
    /// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]));
    /// let states = model.forward(&inputs, false)?.hidden_states;
    /// let kept: Vec<bool> = states.iter().map(Tensor::defined).collect();
    /// assert_eq!(kept, [true, false, false, true]);
    /// # textbrewer::Result::Ok(())
    /// ```
    #[must_use]
    pub fn output_hidden_states(mut self, layers: impl Into<LayerSelection>) -> Self {
        self.outputs.hidden_states = layers.into();
        self
    }

    /// Sets which layers' attention probabilities are returned, as
    /// [`output_hidden_states`](Self::output_hidden_states) does; 0 is the first layer's. The
    /// other layers use a faster, fused kernel that does not store them.
    #[must_use]
    pub fn output_attentions(mut self, layers: impl Into<LayerSelection>) -> Self {
        self.outputs.attentions = layers.into();
        self
    }

    /// Sets which layers' queries, keys and values are returned, as
    /// [`output_hidden_states`](Self::output_hidden_states) does; 0 is the first layer's. The losses
    /// `minilm` and `minilmv2` compare them.
    ///
    /// ```
    /// use tch::{nn::VarStore, Device, Tensor};
    /// use textbrewer::models::{BertConfig, BertInputs, BertModel};
    /// use textbrewer::{DistillationConfig, Model, Side};
    ///
    /// let config = DistillationConfig::from_json_str(r#"{"intermediate_matches": [{
    ///     "feature": "qkv", "layer_T": 11, "layer_S": -1, "loss": "minilmv2", "weight": 1
    /// }]}"#)?;
    /// # let shape = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
    /// #     .num_attention_heads(2).num_hidden_layers(3);
    /// let variables = VarStore::new(Device::Cpu);
    /// let student = BertModel::new(&variables.root(), &shape)?
    ///     .output_qkv(config.layers(Side::Student, "qkv"));
    /// // Its adaptor returns `.feature("qkv", &output.qkv)`.
    /// let output = student.forward(&BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]])), false)?;
    /// assert_eq!(output.qkv[2].size(), [1, 3, 3, 8]);
    /// assert!(!output.qkv[0].defined());
    /// # textbrewer::Result::Ok(())
    /// ```
    #[must_use]
    pub fn output_qkv(mut self, layers: impl Into<LayerSelection>) -> Self {
        self.outputs.qkv = layers.into();
        self
    }

    /// The model's shape.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The head.
    pub fn head(&self) -> &H {
        &self.head
    }
}

impl<H: Head> Model<BertInputs> for Bert<H> {
    type Output = H::Output;

    /// # Errors
    /// [`Error::Shape`] for inputs that do not fit the model or each other, and
    /// [`Error::Torch`] for ids out of range (on the CPU; CUDA finds them later).
    fn forward(&self, inputs: &BertInputs, train: bool) -> Result<H::Output> {
        inputs.validate(&self.config)?;
        let embedded = self.embeddings.forward(inputs, train)?;
        let mask = match &inputs.attention_mask {
            Some(mask) => Some(mask::additive(mask, embedded.f_kind()?)?),
            None => None,
        };
        let mut encoded = self
            .encoder
            .forward(embedded, mask.as_ref(), &self.outputs, train)?;
        if let Some(pooler) = &self.pooler {
            encoded.pooler_output = Some(pooler.forward(&encoded.last_hidden_state)?);
        }
        self.head.forward(encoded, inputs, train)
    }
}
