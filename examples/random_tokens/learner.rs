//! A model that learns.

use std::fmt;
use std::time::Duration;

use tch::nn::VarStore;
use textbrewer::models::{BertConfig, BertForSequenceClassification};
use textbrewer::{Result, TrainingConfig};

use crate::options::Options;
use crate::report::Row;
use crate::sequences::{LENGTH, VOCABULARY};

/// The size of a BERT, and how fast it learns: the smaller, the faster.
#[derive(Clone, Copy)]
pub struct Size {
    pub layers: i64,
    pub width: i64,
    pub learning_rate: f64,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers × {}", self.layers, self.width)
    }
}

/// A model, and how it is trained.
pub struct Learner {
    pub model: BertForSequenceClassification,
    pub variables: VarStore,
    pub config: TrainingConfig,
    pub learning_rate: f64,
    /// How long it was trained.
    pub training: Duration,
}

impl Learner {
    /// A BERT with random weights, whose files are in the folder `name`.
    pub fn new(name: &str, size: Size, options: &Options) -> Result<Self> {
        let config = options.training(name);
        let variables = VarStore::new(config.device);
        let bert = BertConfig::default()
            .vocab_size(VOCABULARY)
            .max_position_embeddings(LENGTH)
            .num_hidden_layers(size.layers)
            .hidden_size(size.width)
            .num_attention_heads(size.width / 32)
            .intermediate_size(4 * size.width)
            .num_labels(2);
        let model = BertForSequenceClassification::new(&variables.root(), &bert)?;
        Ok(Learner {
            model: model.output_hidden_states(true),
            variables,
            config,
            learning_rate: options.learning_rate(size.learning_rate),
            training: Duration::ZERO,
        })
    }

    /// Its row in a table.
    pub fn row<'a>(&'a self, name: &'a str) -> Row<'a> {
        Row {
            name,
            model: &self.model,
            variables: &self.variables,
            training: self.training,
        }
    }
}
