//! A model of a task, and its folder.

use std::path::Path;

use serde::Deserialize;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::models::{Bert, BertConfig, BertInputs, Head, ModelType};
use textbrewer::weights::{self, Transfer};
use textbrewer::{LayerSelection, display_parameters};

use super::labels::{check_labels, order_of, reorder, with_labels};
use super::{BiGru, BiGruConfig, Shape};
use crate::{Error, Result, disk};

/// A transformer of BERT's family, or a GRU, with a head.
#[derive(Debug)]
#[non_exhaustive]
pub enum Network<H> {
    /// BERT and those that share its layers.
    Bert(Box<Bert<H>>),
    /// A bidirectional GRU.
    BiGru(BiGru<H>),
}

impl<H: Head> textbrewer::Model<BertInputs> for Network<H> {
    type Output = H::Output;

    fn forward(&self, inputs: &BertInputs, train: bool) -> textbrewer::Result<H::Output> {
        match self {
            // BERT's tokenizer makes two segments of a pair also for a model that knows one.
            Network::Bert(bert) if !self.has_segments() && inputs.token_type_ids.is_some() => {
                bert.forward(&without_segments(inputs), train)
            }
            Network::Bert(bert) => bert.forward(inputs, train),
            Network::BiGru(gru) => gru.forward(inputs, train),
        }
    }
}

impl<H: Head> Network<H> {
    /// Whether the model tells a second text from the first by its segment.
    pub fn has_segments(&self) -> bool {
        match self {
            Network::Bert(bert) => {
                let config = bert.config();
                config.model_type != ModelType::DistilBert && config.type_vocab_size > 1
            }
            Network::BiGru(_) => false,
        }
    }
}

/// The same inputs, whose texts are all of one segment.
fn without_segments(inputs: &BertInputs) -> BertInputs {
    let share = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
    let mut plain = BertInputs::new(inputs.input_ids.shallow_clone());
    plain.attention_mask = share(&inputs.attention_mask);
    plain.position_ids = share(&inputs.position_ids);
    plain.labels = share(&inputs.labels);
    plain.start_positions = share(&inputs.start_positions);
    plain.end_positions = share(&inputs.end_positions);
    plain.ids = inputs.ids.clone();
    plain
}

/// A model and its variables.
#[derive(Debug)]
pub struct Model<H> {
    /// The model.
    pub network: Network<H>,
    /// Its variables.
    pub variables: VarStore,
}

impl<H: Head> Model<H> {
    /// A pretrained encoder with a head for this number of outputs. The head is new unless the
    /// folder has one for this task, whose outputs are put into the order of `labels`.
    ///
    /// # Errors
    /// When the folder holds no such model.
    pub fn from_encoder(
        folder: &Path,
        labels: &[String],
        outputs: usize,
        device: Device,
    ) -> Result<Self> {
        if is_bigru(folder)? {
            return Self::trained(folder, labels, outputs, device);
        }
        let config = BertConfig::from_json_file(folder.join("config.json"))?;
        let names = config.id2label.clone();
        let config = with_labels(config, labels, outputs);
        let variables = VarStore::new(device);
        let (bert, report) = Bert::from_pretrained_with_config(&variables, folder, &config)?;
        if report.missing.is_empty() {
            // The head's outputs are put into the task's order.
            if let Some(order) = order_of(folder, names.as_ref(), labels) {
                reorder(&variables, &order)?;
            }
        } else {
            log::info!(
                "{}: new are {}",
                folder.display(),
                report.missing.join(", ")
            );
        }
        Ok(Model {
            network: Network::Bert(Box::new(bert)),
            variables,
        })
    }

    /// A model that was trained for this task before. If it has the same labels in another order,
    /// its outputs are put into the order of `labels`.
    ///
    /// # Errors
    /// When the folder holds no such model, or one of another task.
    pub fn trained(
        folder: &Path,
        labels: &[String],
        outputs: usize,
        device: Device,
    ) -> Result<Self> {
        let variables = VarStore::new(device);
        if is_bigru(folder)? {
            let gru = BiGru::load(&variables, folder)?;
            check_labels(folder, gru.config().num_labels, outputs)?;
            return Ok(Model {
                network: Network::BiGru(gru),
                variables,
            });
        }
        let loaded = Bert::<H>::from_pretrained(&variables, folder);
        let (bert, report) = loaded.map_err(|error| Error::model(folder, error))?;
        if let Some(name) = report.missing.first() {
            let reason = format!(
                "no `{name}` in it: not a model of this task; train one from it first (`train \
                 --encoder …`)"
            );
            return Err(Error::file(folder, reason));
        }
        check_labels(folder, bert.config().label_count(), outputs)?;
        if let Some(order) = order_of(folder, bert.config().id2label.as_ref(), labels) {
            let config = with_labels(bert.config().clone(), labels, outputs);
            let variables = VarStore::new(device);
            let (bert, _) = Bert::from_pretrained_with_config(&variables, folder, &config)?;
            reorder(&variables, &order)?;
            return Ok(Model {
                network: Network::Bert(Box::new(bert)),
                variables,
            });
        }
        Ok(Model {
            network: Network::Bert(Box::new(bert)),
            variables,
        })
    }

    /// A student of a teacher, initialised with these layers of the teacher, or with evenly spaced
    /// ones for `None`. Weights are copied from the teacher where shapes allow.
    ///
    /// # Errors
    /// When the teacher does not have enough layers.
    pub fn student(
        &self,
        shape: Shape,
        layers: Option<&[usize]>,
        labels: &[String],
        outputs: usize,
    ) -> Result<Self> {
        let Network::Bert(teacher) = &self.network else {
            return Err(Error::invalid("a BiGRU has no students"));
        };
        let teacher = teacher.config();
        let device = self.variables.device();
        let variables = VarStore::new(device);
        let Some(config) = shape.config(teacher) else {
            return match layers {
                None => self.gru(teacher, outputs),
                Some(_) => Err(Error::invalid("layers: a BiGRU has none")),
            };
        };
        let config = with_labels(config, labels, outputs);
        let count = config.num_hidden_layers as usize;
        let own = teacher.num_hidden_layers as usize;
        if shape.starts_from_teacher() && count > own {
            let reason =
                format!("a {shape} needs {count} layers to start from, the teacher has {own}");
            return Err(Error::invalid(reason));
        }
        let bert = Bert::<H>::new(&variables.root(), &config)?;
        if fits(&config, teacher) && count <= own {
            let even: Vec<usize> = (0..count).map(|layer| layer * own / count).collect();
            let layers = layers.unwrap_or(&even);
            if layers.len() != count || layers.iter().any(|layer| *layer >= own) {
                let reason = format!(
                    "layers: expected {count} of 0 to {}, got {layers:?}",
                    own - 1
                );
                return Err(Error::invalid(reason));
            }
            let report =
                Transfer::layers(layers.iter().copied()).copy(&self.variables, &variables)?;
            log::info!("the student starts from layers {layers:?} of the teacher: {report}");
        } else if layers.is_some() {
            let reason = format!(
                "layers: those of a {shape} have another shape than this teacher's; it starts \
                 from random values"
            );
            return Err(Error::invalid(reason));
        }
        Ok(Model {
            network: Network::Bert(Box::new(bert)),
            variables,
        })
    }

    fn gru(&self, teacher: &BertConfig, outputs: usize) -> Result<Self> {
        let config = BiGruConfig {
            model_type: BiGruConfig::MODEL_TYPE.to_owned(),
            vocab_size: teacher.vocab_size,
            embedding_size: teacher.hidden_size,
            hidden_size: 768,
            dropout: teacher.hidden_dropout_prob,
            num_labels: outputs as i64,
        };
        let variables = VarStore::new(self.variables.device());
        let gru = BiGru::new(&variables.root(), &config)?;
        let words = "embeddings.word_embeddings.weight";
        let of_teacher = weights::state_dict(&self.variables)
            .into_iter()
            .find(|(name, _)| name.ends_with(words));
        if let (Some((_, source)), Some(mut target)) =
            (of_teacher, variables.variables().remove(words))
            && source.size() == target.size()
        {
            let _guard = tch::no_grad_guard();
            target.f_copy_(&source)?;
        }
        Ok(Model {
            network: Network::BiGru(gru),
            variables,
        })
    }

    /// The same model, which returns these states besides its result.
    #[must_use]
    pub fn showing(
        mut self,
        hidden: impl Into<LayerSelection>,
        attention: impl Into<LayerSelection>,
    ) -> Self {
        self.network = match self.network {
            Network::Bert(bert) => Network::Bert(Box::new(
                bert.output_hidden_states(hidden)
                    .output_attentions(attention),
            )),
            other => other,
        };
        self
    }

    /// How many layers a transformer has.
    pub fn layers(&self) -> Option<usize> {
        match &self.network {
            Network::Bert(bert) => Some(bert.config().num_hidden_layers as usize),
            Network::BiGru(_) => None,
        }
    }

    /// The width of its states.
    pub fn width(&self) -> i64 {
        match &self.network {
            Network::Bert(bert) => bert.config().hidden_size,
            Network::BiGru(gru) => 2 * gru.config().hidden_size,
        }
    }

    /// The number of layers and the width of their states; `None` for a GRU.
    pub fn shape(&self) -> (usize, i64) {
        (self.layers().unwrap_or(0), self.width())
    }

    /// The number of pieces in the vocabulary.
    pub fn vocabulary(&self) -> i64 {
        match &self.network {
            Network::Bert(bert) => bert.config().vocab_size,
            Network::BiGru(gru) => gru.config().vocab_size,
        }
    }

    /// The longest input; `None` for a GRU, which has no limit.
    pub fn longest(&self) -> Option<i64> {
        match &self.network {
            Network::Bert(bert) => Some(bert.config().max_length()),
            Network::BiGru(_) => None,
        }
    }

    /// The number of parameters.
    pub fn parameters(&self) -> u64 {
        display_parameters(&self.variables, Some(0)).root.count
    }

    /// Writes a folder that [`trained`](Self::trained) can read, and for a BERT also
    /// `transformers`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        match &self.network {
            Network::Bert(bert) => Ok(bert.save_pretrained(&self.variables, folder)?),
            Network::BiGru(gru) => gru.save(&self.variables, folder),
        }
    }
}

/// Whether the layers of both configurations have the same shape.
fn fits(student: &BertConfig, teacher: &BertConfig) -> bool {
    let of = |config: &BertConfig| {
        (
            config.hidden_size,
            config.intermediate_size,
            config.num_attention_heads,
        )
    };
    of(student) == of(teacher)
}

fn is_bigru(folder: &Path) -> Result<bool> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: Option<String>,
    }
    let path = folder.join("config.json");
    // What is wrong with the text the library says better.
    let kind = serde_json::from_str::<Kind>(&disk::read(&path)?).ok();
    let kind = kind.and_then(|kind| kind.model_type);
    Ok(kind.as_deref() == Some(BiGruConfig::MODEL_TYPE))
}
