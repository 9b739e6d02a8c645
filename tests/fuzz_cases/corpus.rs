//! What mutations begin with: good files, with every key and form that the parsers know.

use std::collections::BTreeMap;
use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, ModelType};
use textbrewer::weights::save;

pub const TRAINING: &[&str] = &[
    "{}",
    r#"{"gradient_accumulation_steps": 2, "ckpt_frequency": 3, "ckpt_epoch_frequency": 2,
        "ckpt_steps": 100, "log_dir": "logs", "output_dir": "models/one", "device": "cpu",
        "fp16": false, "fp16_opt_level": "O1", "data_parallel": false, "local_rank": -1,
        "clip_projections": true, "step_on_remainder": true, "log_interval": 7}"#,
    r#"{"ckpt_steps": null, "log_dir": null, "device": "cpu", "log_interval": null,
        "precision": "bf16", "teacher_precision": "float32", "weigh_by_positions": true}"#,
    r#"{"device": "cpu", "fp16": true, "fp16_opt_level": "O2"}"#,
];

pub const DISTILLATION: &[&str] = &[
    "{}",
    r#"{"temperature": 8, "temperature_scheduler": ["flsw", 1, 2], "hard_label_weight": 0.5,
        "hard_label_weight_scheduler": "linear_growth", "kd_loss_type": "mse",
        "kd_loss_weight": 1e-3, "kd_loss_weight_scheduler": "linear_decay",
        "probability_shift": true, "diagnostics": 10, "is_caching_logits": true, "cache_features": true,
        "cache_dtype": "bf16", "cache_limit_mb": 100, "intermediate_matches": null}"#,
    r#"{"temperature_scheduler": ["cwsm", {"beta": 1, "gamma": 2}], "intermediate_matches": [
        {"layer_T": 0, "layer_S": -1, "feature": "hidden", "loss": "hidden_mse", "weight": 1,
         "proj": ["linear", 4, 8]},
        {"layer_T": [1, 2], "layer_S": [0, 1], "feature": "hidden", "loss": "nst", "weight": 0.1,
         "proj": ["tanh", 4, 8, {"lr": 1e-3, "weight_decay": 0, "betas": [0.9, 0.99], "eps": 1e-8}],
         "teacher": 1},
        {"layer_T": 11, "layer_S": -1, "feature": "qkv", "loss": ["minilmv2", 64], "weight": 1},
        {"layer_T": 0, "layer_S": 0, "feature": "pooled", "loss": ["crd", {"temperature": 0.1}],
         "weight": 0.8},
        "L3_attention_mse"]}"#,
    r#"{"intermediate_matches": "small_hidden_smmd", "temperature_scheduler": "none"}"#,
];

pub const EMD: &[&str] = &[
    "{}",
    r#"{"hidden_weight": 1, "attention_weight": 0.5, "hidden_loss": "hidden_mse",
        "attention_loss": "attention_mse_sum", "hidden_projection": ["relu", 4, 8, {"lr": 1}],
        "layer_weights": {"reestimated": {"temperature": 2.0}}}"#,
    r#"{"layer_weights": "uniform", "hidden_projection": null}"#,
];

pub const BERT: &[&str] = &[
    "{}",
    r#"{"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": false, "hidden_act": "gelu_new", "hidden_dropout_prob": 0.1,
        "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "transformers_version": "4.6.0",
        "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522}"#,
    r#"{"hidden_size": 4, "num_attention_heads": 2, "vocab_size": 10, "classifier_dropout": null,
        "id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1},
        "problem_type": "single_label_classification", "output_hidden_states": true,
        "output_attentions": true, "tie_word_embeddings": true, "is_decoder": false}"#,
    r#"{"num_labels": 3, "classifier_dropout": 0.5, "pad_token_id": null}"#,
    r#"{"model_type": "roberta", "vocab_size": 10, "max_position_embeddings": 6, "pad_token_id": 1,
        "type_vocab_size": 1, "layer_norm_eps": 1e-5, "bos_token_id": 0}"#,
    r#"{"model_type": "electra", "embedding_size": 2, "hidden_size": 4, "num_attention_heads": 2,
        "summary_last_dropout": 0.1, "num_hidden_layers": 1}"#,
    r#"{"model_type": "distilbert", "dim": 4, "n_layers": 1, "n_heads": 2, "hidden_dim": 6,
        "dropout": 0.1, "attention_dropout": 0, "activation": "relu", "seq_classif_dropout": 0.2,
        "qa_dropout": 0.1, "sinusoidal_pos_embds": true, "tie_weights_": true}"#,
];

/// Good safetensors files: of many types, with names that the loader rewrites, of nothing.
pub fn weights(folder: &Path) -> Vec<Vec<u8>> {
    let path = folder.join("corpus.safetensors");
    let floats = Tensor::arange(6, (Kind::Float, Device::Cpu)).reshape([2, 3]);
    let kinds = [
        Kind::Bool,
        Kind::Int8,
        Kind::Int64,
        Kind::Half,
        Kind::Double,
        Kind::Float8e5m2,
    ];
    let many: Vec<_> = kinds
        .iter()
        .map(|&kind| (format!("{kind:?}"), floats.to_kind(kind)))
        .collect();
    let pair = || Tensor::from_slice(&[1f32, 2.0]);
    let named = vec![
        ("a".to_owned(), floats.shallow_clone()),
        ("bert.encoder.layer.0.bias".to_owned(), pair()),
        ("encoder.layer.1.LayerNorm.gamma".to_owned(), pair()),
        (
            "bert.embeddings.position_ids".to_owned(),
            pair().to_kind(Kind::Int64),
        ),
    ];
    let odd = vec![
        ("scalar".to_owned(), Tensor::from(1f32)),
        (
            "empty".to_owned(),
            Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)),
        ),
    ];
    let text = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut files = Vec::new();
    for (tensors, metadata) in [(many, BTreeMap::new()), (named, text.clone()), (odd, text)] {
        save(&path, &tensors, &metadata).unwrap();
        files.push(std::fs::read(&path).unwrap());
    }
    std::fs::remove_file(&path).unwrap();
    files
}

/// The two files of a tiny model.
pub fn folder(folder: &Path, model_type: ModelType) -> (String, Vec<u8>) {
    let mut config = BertConfig::new(model_type)
        .vocab_size(6)
        .hidden_size(2)
        .num_attention_heads(1)
        .intermediate_size(2)
        .num_hidden_layers(1)
        .max_position_embeddings(3);
    config.embedding_size = config.embedding_size.map(|_| 1);
    let variables = VarStore::new(Device::Cpu);
    let model = BertForSequenceClassification::new(&variables.root(), &config).unwrap();
    model.save_pretrained(&variables, folder).unwrap();
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    (
        config,
        std::fs::read(folder.join("model.safetensors")).unwrap(),
    )
}
