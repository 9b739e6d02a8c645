//! Hugging Face's names for the variables of each model.

use tch::nn;

use super::ModelType;

/// Names inside a layer, with dots between their parts.
#[derive(Debug)]
pub(super) struct LayerNames {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) attention_output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) intermediate: &'static str,
    pub(super) output: &'static str,
    pub(super) norm: &'static str,
}

const BERT: LayerNames = LayerNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    norm: "output.LayerNorm",
};

const DISTILBERT: LayerNames = LayerNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    norm: "output_layer_norm",
};

impl ModelType {
    pub(super) fn layer_names(self) -> &'static LayerNames {
        match self {
            ModelType::DistilBert => &DISTILBERT,
            _ => &BERT,
        }
    }

    /// The stack of layers.
    pub(super) fn encoder_name(self) -> &'static str {
        match self {
            ModelType::DistilBert => "transformer",
            _ => "encoder",
        }
    }

    /// The model inside a model with a head.
    pub(super) fn base_name(self) -> &'static str {
        match self {
            ModelType::Bert => "bert",
            ModelType::Roberta | ModelType::XlmRoberta | ModelType::Camembert => "roberta",
            ModelType::Electra => "electra",
            ModelType::DistilBert => "distilbert",
        }
    }

    /// Prefixes of the names of the parts that every model of this type has, with and without
    /// the name of the model inside a model with a head.
    pub(super) fn core_prefixes(self) -> Vec<String> {
        let parts = ["embeddings", "embeddings_project", self.encoder_name()];
        let bases = [String::new(), format!("{}.", self.base_name())];
        let pairs = bases
            .iter()
            .flat_map(|base| parts.iter().map(move |part| format!("{base}{part}.")));
        pairs.collect()
    }
}

/// The path of the dotted name `name` below `path`.
pub(super) fn below<'a>(path: &nn::Path<'a>, name: &str) -> nn::Path<'a> {
    let parts = name.split('.');
    parts.fold(path.clone(), |path, part| path / part)
}
