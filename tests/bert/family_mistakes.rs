//! What a user can get wrong with the models that share BERT's layers.

use tch::{Device, Kind, Tensor};
use textbrewer::Model;
use textbrewer::models::{BertConfig, BertInputs, ModelType, NoHead};

use crate::family::small;
use crate::{build, ids};

#[test]
fn inputs_that_do_not_fit() {
    let ones = |length| Tensor::ones([2, length], (Kind::Int64, Device::Cpu));
    let fail = |model_type, inputs: BertInputs| {
        let (_variables, model) = build::<NoHead>(&small(model_type).type_vocab_size(1));
        let error = model.forward(&inputs, false).unwrap_err();
        error.to_string()
    };
    let cases = [
        (
            ModelType::Roberta,
            BertInputs::new(ones(11)),
            "input_ids: expected at most 10 tokens (max_position_embeddings, less 2), got 11",
        ),
        (
            ModelType::DistilBert,
            BertInputs::new(ones(13)),
            "input_ids: expected at most 12 tokens (max_position_embeddings), got 13",
        ),
        (
            ModelType::Roberta,
            BertInputs::new(ids()).token_type_ids(ids().ones_like()),
            "token_type_ids must be in 0..1: index out of range",
        ),
        (
            ModelType::DistilBert,
            BertInputs::new(ids()).token_type_ids(ids().narrow(1, 0, 5)),
            "token_type_ids: expected [2, 6], as input_ids, got [2, 5]",
        ),
    ];
    for (model_type, inputs, expected) in cases {
        let error = fail(model_type, inputs);
        assert!(error.starts_with(expected), "{expected}\n{error}");
    }
    // The longest inputs that fit.
    for (model_type, length) in [(ModelType::Roberta, 10), (ModelType::DistilBert, 12)] {
        let (_variables, model) = build::<NoHead>(&small(model_type));
        let long = BertInputs::new(ones(length) * 5);
        model.forward(&long, false).unwrap();
    }
}

#[test]
fn configurations_that_cannot_work() {
    let cases = [
        (
            r#"{"model_type": "deberta-v2"}"#,
            "JSON text: model_type: unknown variant `deberta-v2`, expected one of `bert`, ",
        ),
        (
            r#"{"model_type": "distilbert", "dim": 100}"#,
            "dim: 100 is no multiple of n_heads, 12",
        ),
        (
            r#"{"model_type": "distilbert", "n_layers": 0}"#,
            "n_layers: 0 must be at least 1",
        ),
        (
            r#"{"model_type": "distilbert", "dropout": 1}"#,
            "dropout: must be at least 0",
        ),
        (
            r#"{"model_type": "distilbert", "seq_classif_dropout": -1}"#,
            "seq_classif_dropout: must be at least 0",
        ),
        (
            r#"{"model_type": "distilbert", "activation": "gelo"}"#,
            "JSON text: activation: unknown variant `gelo`",
        ),
        (
            r#"{"model_type": "distilbert", "dim": null}"#,
            "JSON text: dim: invalid type: null, expected a whole number",
        ),
        (
            r#"{"model_type": "electra", "embedding_size": 0}"#,
            "embedding_size: 0 must be at least 1",
        ),
        (
            r#"{"model_type": "roberta", "pad_token_id": null}"#,
            "pad_token_id: must be there: roberta counts positions from it",
        ),
        (
            r#"{"model_type": "camembert", "pad_token_id": 600}"#,
            "max_position_embeddings: 512 must be at least 602: camembert counts",
        ),
        (
            r#"{"model_type": "electra", "is_decoder": true}"#,
            "is_decoder is not supported yet",
        ),
    ];
    for (text, expected) in cases {
        let error = BertConfig::from_json_str(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}\n{expected}\n{error}");
    }
    let bert = BertConfig::default;
    let distilbert = || BertConfig::new(ModelType::DistilBert);
    for (config, expected) in [
        (
            bert().embedding_size(128),
            "embedding_size: 128 is not hidden_size, 768",
        ),
        (
            bert().qa_dropout(0.1),
            "qa_dropout: only DistilBERT has it, bert does not",
        ),
        (
            distilbert().layer_norm_eps(1e-5),
            "layer_norm_eps: 0.00001 must be 1e-12",
        ),
        (
            distilbert().qa_dropout(1.0),
            "qa_dropout: must be at least 0",
        ),
    ] {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{expected}\n{error}");
    }
}

/// A key that another model of the family has is a stranger's like any other.
#[test]
fn keys_of_other_models_are_passed_over() {
    let text = r#"{"dim": "wide", "dropout": null, "embedding_size": 3, "qa_dropout": 2,
        "sinusoidal_pos_embds": true, "model_type": null}"#;
    assert_eq!(
        BertConfig::from_json_str(text).unwrap(),
        BertConfig::default()
    );
    let text = r#"{"model_type": "distilbert", "layer_norm_eps": 1, "type_vocab_size": 0}"#;
    let expected = BertConfig::new(ModelType::DistilBert);
    assert_eq!(BertConfig::from_json_str(text).unwrap(), expected);
}
