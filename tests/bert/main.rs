//! BERT and the models that share its layers: against numbers that Python computed, against
//! itself by another way, and in dealings with files and with inputs that do not fit.

mod family;
mod family_golden;
mod family_mistakes;
mod family_training;
mod folders;
mod forward;
mod golden;
mod losses;
mod masked_lm;
mod mistakes;
mod output_matrix;
mod outputs;

use std::path::Path;

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::models::{Bert, BertConfig, Head};
use textbrewer::weights::state_dict;

fn small() -> BertConfig {
    BertConfig::default()
        .vocab_size(40)
        .hidden_size(16)
        .intermediate_size(24)
        .num_attention_heads(4)
        .num_hidden_layers(3)
        .max_position_embeddings(12)
        // Large weights let small mistakes show.
        .initializer_range(0.3)
        .num_labels(3)
}

fn build<H: Head>(config: &BertConfig) -> (VarStore, Bert<H>) {
    let variables = VarStore::new(Device::Cpu);
    let model = Bert::new(&variables.root(), config).unwrap();
    (variables, model)
}

fn ids() -> Tensor {
    Tensor::from_slice2(&[[5i64, 6, 7, 8, 9, 10], [11, 12, 13, 14, 0, 0]])
}

fn mask() -> Tensor {
    Tensor::from_slice2(&[[1i64, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

fn names(variables: &VarStore) -> Vec<String> {
    state_dict(variables).into_iter().map(|(n, _)| n).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
