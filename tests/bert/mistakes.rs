//! What a user can get wrong, and what the error says.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::Model;
use textbrewer::models::{
    BertConfig, BertForQuestionAnswering, BertInputs, BertModel, NoHead, QuestionAnswering,
    SequenceClassification, TokenClassification,
};

use crate::{build, ids, mask, small};

#[test]
fn two_models_under_one_path() {
    let (variables, _model) = build::<NoHead>(&small());
    let error = BertModel::new(&variables.root(), &small()).unwrap_err();
    assert!(error.to_string().contains("a BERT here already"), "{error}");
}

#[test]
fn inputs_that_do_not_fit() {
    let (_variables, model) = build::<SequenceClassification>(&small());
    let long = Tensor::ones([2, 13], (Kind::Int64, Device::Cpu));
    let cases = [
        (
            BertInputs::new(ids().get(0)),
            "input_ids: expected [batch, length], got [6]",
        ),
        (
            BertInputs::new(ids().narrow(0, 0, 0)),
            "input_ids: expected [batch, length] with at least one example and one token, got \
             [0, 6]",
        ),
        (
            BertInputs::new(ids().narrow(1, 0, 0)),
            "input_ids: expected [batch, length] with at least one example and one token, got \
             [2, 0]",
        ),
        (
            BertInputs::new(long),
            "input_ids: expected at most 12 tokens",
        ),
        (
            BertInputs::new(ids().to_kind(Kind::Float)),
            "input_ids: expected integers",
        ),
        (
            BertInputs::new(ids() + 30),
            "input_ids must be in 0..40: index out of range",
        ),
        (
            BertInputs::new(ids() - 6),
            "input_ids must be in 0..40: index out of range",
        ),
        (
            BertInputs::new(ids()).token_type_ids(ids().ones_like() * 2),
            "token_type_ids must be in 0..2: index out of range",
        ),
        (
            BertInputs::new(ids()).position_ids(ids().ones_like() * 12),
            "position_ids must be in 0..12: index out of range",
        ),
        (
            BertInputs::new(ids()).token_type_ids(ids().narrow(1, 0, 5)),
            "token_type_ids: expected [2, 6], as input_ids, got [2, 5]",
        ),
        (
            BertInputs::new(ids()).attention_mask(mask().narrow(0, 0, 1)),
            "attention_mask: expected [2, 6], as input_ids, got [1, 6]",
        ),
        (
            BertInputs::new(ids()).labels(ids()),
            "labels: expected [2], as the logits need, got [2, 6]",
        ),
        (
            BertInputs::new(ids()).labels(Tensor::from_slice(&[0i64, 3])),
            "cross entropy: labels must be in 0..3, or -100: Target 3 is out of bounds",
        ),
    ];
    for (inputs, expected) in cases {
        let error = model.forward(&inputs, false).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{expected}\n{error}");
    }

    let (_variables, model) = build::<QuestionAnswering>(&small().num_labels(2));
    let mut inputs = BertInputs::new(ids());
    inputs.start_positions = Some(Tensor::from_slice(&[0i64, 1]));
    let error = model.forward(&inputs, false).unwrap_err().to_string();
    assert_eq!(error, "end_positions: needed together with start_positions");

    let truth = || Tensor::from_slice(&[true, false]);
    let inputs = BertInputs::new(ids()).answers(truth(), truth());
    let error = model.forward(&inputs, false).unwrap_err().to_string();
    assert_eq!(
        error,
        "start_positions: expected integers (Int64), got Bool"
    );

    let (_variables, model) = build::<TokenClassification>(&small());
    let labels = ids().to_kind(Kind::Float);
    let inputs = BertInputs::new(ids()).labels(labels);
    let error = model.forward(&inputs, false).unwrap_err().to_string();
    assert_eq!(error, "labels: expected integers (Int64), got Float");
    let inputs = BertInputs::new(ids()).labels(Tensor::from_slice(&[0i64, 1]));
    let error = model.forward(&inputs, false).unwrap_err().to_string();
    assert_eq!(
        error,
        "labels: expected [2, 6], as the logits need, got [2]"
    );
}

/// With and without the kernels for training.
#[test]
fn a_batch_of_nothing() {
    let (_variables, model) = build::<SequenceClassification>(&small());
    let none = Tensor::zeros([0, 6], (Kind::Int64, Device::Cpu));
    for train in [false, true] {
        let inputs = BertInputs::new(none.shallow_clone());
        assert!(model.forward(&inputs, train).is_err(), "{train}");
    }
}

#[test]
fn configurations_that_cannot_work() {
    let cases = [
        (
            r#"{"hidden_size": 770}"#,
            "hidden_size: 770 is no multiple of num_attention_heads, 12",
        ),
        (
            r#"{"num_hidden_layers": 0}"#,
            "num_hidden_layers: 0 must be at least 1",
        ),
        (r#"{"vocab_size": -5}"#, "vocab_size: -5 must be at least 1"),
        (r#"{"num_labels": 0}"#, "num_labels: 0 must be at least 1"),
        (r#"{"id2label": {}}"#, "num_labels: 0 must be at least 1"),
        (
            r#"{"hidden_size": "768"}"#,
            "JSON text: hidden_size: invalid type: string",
        ),
        (
            r#"{"hidden_act": "gelo"}"#,
            "JSON text: hidden_act: unknown variant `gelo`, expected one of `gelu`",
        ),
        (
            r#"{"hidden_dropout_prob": 1.5}"#,
            "hidden_dropout_prob: must be at least 0",
        ),
        (
            r#"{"layer_norm_eps": 0}"#,
            "layer_norm_eps: must be positive",
        ),
        (
            r#"{"pad_token_id": 30522}"#,
            "pad_token_id: 30522 must be in 0..30522",
        ),
        (
            r#"{"model_type": "gpt2"}"#,
            "JSON text: model_type: unknown variant `gpt2`, expected one of `bert`, `roberta`, \
             `xlm-roberta`, `camembert`, `electra`, `distilbert`",
        ),
        (
            r#"{"position_embedding_type": "relative_key"}"#,
            "position_embedding_type `relative_key`",
        ),
        (r#"{"is_decoder": true}"#, "is_decoder is not supported yet"),
        (r#"{"hidden_size": 768"#, "JSON text: the JSON is cut short"),
        (r#"{} {}"#, "JSON text: not valid JSON: trailing characters"),
    ];
    for (text, expected) in cases {
        let error = BertConfig::from_json_str(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}\n{expected}\n{error}");
    }
    let variables = VarStore::new(Device::Cpu);
    let error = BertModel::new(&variables.root(), &small().num_attention_heads(3)).unwrap_err();
    assert!(error.to_string().starts_with("hidden_size: 16"), "{error}");
    let other = VarStore::new(Device::Cpu);
    let error = BertForQuestionAnswering::new(&other.root(), &small()).unwrap_err();
    assert!(
        error.to_string().starts_with("num_labels: 3, but question"),
        "{error}"
    );
}

/// The line of the key, not that of the end of the file.
#[test]
fn a_value_is_named_with_its_line() {
    for (text, line, expected) in [
        (
            "{\n  \"vocab_size\": 9,\n  \"hidden_act\": \"glue\",\n  \"x\": [\n  ]\n}\n",
            "3",
            "JSON text: hidden_act: unknown variant `glue`, expected one of",
        ),
        (
            "{\n  \"id2label\": {\n\"0\": \"a\"},\n  \"num_attention_heads\": \"2\"\n}",
            "4",
            "JSON text: num_attention_heads: invalid type: string \"2\", expected a whole number",
        ),
        (
            "{\"x\": {\"hidden_size\": 1},\n\"model_type\": \"bert\",\n\n\"hidden_size\":\n null}",
            "4",
            "JSON text: hidden_size: invalid type: null, expected a whole number",
        ),
        (
            "{\n\n\"dim\": true,\n  \"model_type\": \"distilbert\"\n}",
            "3",
            "JSON text: dim: invalid type: boolean `true`, expected a whole number",
        ),
        (
            "{\n\"x\": 1,\n\"model_type\": 3\n}",
            "3",
            "JSON text: model_type: ",
        ),
    ] {
        let error = BertConfig::from_json_str(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{expected}\n{error}");
        let place = error.rsplit_once(" at line ").map(|(_, place)| place);
        assert_eq!(place, Some(line), "{error}");
    }
    // What is wrong with the JSON itself keeps line and column.
    let error = BertConfig::from_json_str("{\n\"a\": 1\n\"b\": 2}").unwrap_err();
    assert!(error.to_string().ends_with("at line 3 column 1"), "{error}");
}
