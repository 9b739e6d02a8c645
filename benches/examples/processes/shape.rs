//! The models, data and matches that are measured.

use clap::ValueEnum;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
use textbrewer::{IntermediateMatch, ProjectionSpec, Result};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Shape {
    /// That of the example `random_tokens`: 4 layers × 96 into 2 × 32, 32 × 15 tokens.
    RandomTokens,
    /// BERT-base into three of its layers, 32 × 128 tokens.
    BertBase,
}

impl Shape {
    pub fn teacher(self, variables: &VarStore) -> Result<BertForSequenceClassification> {
        match self {
            Shape::RandomTokens => model(variables, small(4, 96)),
            Shape::BertBase => model(variables, BertConfig::default()),
        }
    }

    pub fn student(self, variables: &VarStore) -> Result<BertForSequenceClassification> {
        match self {
            Shape::RandomTokens => model(variables, small(2, 32)),
            Shape::BertBase => model(variables, BertConfig::default().num_hidden_layers(3)),
        }
    }

    pub fn matches(self) -> Vec<IntermediateMatch> {
        let hidden = |teacher: i64, student: i64| {
            let matched = IntermediateMatch::hidden(teacher, student).loss("hidden_mse");
            match self {
                Shape::RandomTokens => matched.proj(ProjectionSpec::linear(32, 96)),
                Shape::BertBase => matched,
            }
        };
        match self {
            Shape::RandomTokens => vec![hidden(0, 0), hidden(2, 1), hidden(4, 2)],
            Shape::BertBase => vec![hidden(0, 0), hidden(8, 2)],
        }
    }

    /// The numbers in its projections.
    pub fn projections(self) -> f64 {
        match self {
            Shape::RandomTokens => 3.0 * (32.0 + 1.0) * 96.0,
            Shape::BertBase => 0.0,
        }
    }

    /// The batches of an epoch of all processes, in main memory: as many as the example has.
    pub fn batches(self, batch: Option<i64>) -> Result<Vec<BertInputs>> {
        let (words, default_batch, length) = match self {
            Shape::RandomTokens => (100, 32, 15),
            Shape::BertBase => (30_522, 32, 128),
        };
        let size = [batch.unwrap_or(default_batch), length];
        let inputs = |_| {
            let ids = Tensor::f_randint(words, size, (Kind::Int64, Device::Cpu))?;
            Ok(BertInputs::new(ids))
        };
        (0..160).map(inputs).collect()
    }
}

fn small(layers: i64, width: i64) -> BertConfig {
    BertConfig::default()
        .vocab_size(100)
        .max_position_embeddings(15)
        .num_hidden_layers(layers)
        .hidden_size(width)
        .num_attention_heads(width / 32)
        .intermediate_size(4 * width)
}

fn model(variables: &VarStore, config: BertConfig) -> Result<BertForSequenceClassification> {
    let model = BertForSequenceClassification::new(&variables.root(), &config.num_labels(2))?;
    Ok(model.output_hidden_states(true))
}
