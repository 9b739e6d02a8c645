//! The models that share BERT's layers: folders, names, dropout, and what does not fit.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{
    Bert, BertConfig, BertForSequenceClassification, BertInputs, BertModel, Head, MaskedLM,
    ModelType, NoHead, QuestionAnswering, SequenceClassification, TokenClassification,
};
use textbrewer::weights::{read, state_dict};
use textbrewer::Model;

use crate::{build, ids, json, mask, names};

const TYPES: [ModelType; 6] = [
    ModelType::Bert,
    ModelType::Roberta,
    ModelType::XlmRoberta,
    ModelType::Camembert,
    ModelType::Electra,
    ModelType::DistilBert,
];

fn small(model_type: ModelType) -> BertConfig {
    let config = BertConfig::new(model_type)
        .vocab_size(40)
        .hidden_size(16)
        .intermediate_size(24)
        .num_attention_heads(4)
        .num_hidden_layers(3)
        .max_position_embeddings(12)
        .initializer_range(0.3)
        .num_labels(2);
    match model_type {
        ModelType::Electra => config.embedding_size(6),
        _ => config,
    }
}

fn round_trip<H: Head>(model_type: ModelType, class: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (variables, model) = build::<H>(&small(model_type));
    model.save_pretrained(&variables, folder.path()).unwrap();
    let text = json(&folder.path().join("config.json"));
    let architecture = text["architectures"][0].as_str().unwrap();
    assert!(architecture.ends_with(class), "{architecture}");
    assert_eq!(
        architecture,
        H::ARCHITECTURE.replace("Bert", &model_type.to_string())
    );

    let fresh = VarStore::new(Device::Cpu);
    let (loaded, report) = Bert::<H>::from_pretrained(&fresh, folder.path()).unwrap();
    assert!(report.missing.is_empty() && report.unexpected.is_empty());
    assert_eq!(names(&fresh), names(&variables));
    let again = folder.path().join("again");
    loaded.save_pretrained(&fresh, &again).unwrap();
    for name in ["config.json", "model.safetensors"] {
        let bytes = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
        assert!(bytes(folder.path()) == bytes(&again), "{model_type} {name}");
    }
}

#[test]
fn folders_come_back_byte_for_byte() {
    for model_type in TYPES {
        round_trip::<NoHead>(model_type, "Model");
        round_trip::<SequenceClassification>(model_type, "ForSequenceClassification");
        round_trip::<TokenClassification>(model_type, "ForTokenClassification");
        round_trip::<QuestionAnswering>(model_type, "ForQuestionAnswering");
        round_trip::<MaskedLM>(model_type, "ForMaskedLM");
    }
}

/// The names of a layer and of the head, and configurations, as they are written.
#[test]
fn distilbert_has_names_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let config = small(ModelType::DistilBert).num_hidden_layers(1);
    let (variables, model) = build::<SequenceClassification>(&config);
    model.save_pretrained(&variables, folder.path()).unwrap();
    let saved = read(folder.path().join("model.safetensors")).unwrap();
    let stems: Vec<_> = saved
        .keys()
        .filter_map(|name| name.strip_suffix(".weight"))
        .collect();
    let layer = "distilbert.transformer.layer.0";
    let expected = [
        "classifier",
        "distilbert.embeddings.LayerNorm",
        "distilbert.embeddings.position_embeddings",
        "distilbert.embeddings.word_embeddings",
        &format!("{layer}.attention.k_lin"),
        &format!("{layer}.attention.out_lin"),
        &format!("{layer}.attention.q_lin"),
        &format!("{layer}.attention.v_lin"),
        &format!("{layer}.ffn.lin1"),
        &format!("{layer}.ffn.lin2"),
        &format!("{layer}.output_layer_norm"),
        &format!("{layer}.sa_layer_norm"),
        "pre_classifier",
    ];
    assert_eq!(stems, expected);
    let text = json(&folder.path().join("config.json"));
    for (key, expected) in [
        ("dim", 16),
        ("n_layers", 1),
        ("n_heads", 4),
        ("hidden_dim", 24),
    ] {
        assert_eq!(text[key], expected, "{key}");
    }
    assert_eq!(
        (&text["seq_classif_dropout"], &text["qa_dropout"]),
        (&0.2.into(), &0.1.into())
    );
    for key in [
        "hidden_size",
        "type_vocab_size",
        "layer_norm_eps",
        "embedding_size",
    ] {
        assert!(text.get(key).is_none(), "{key}");
    }
}

#[test]
fn a_bare_checkpoint_fits_a_task_model_and_the_other_way_round() {
    for model_type in TYPES {
        let folder = tempfile::tempdir().unwrap();
        let (bare, model) = build::<NoHead>(&small(model_type));
        model.save_pretrained(&bare, folder.path()).unwrap();
        let variables = VarStore::new(Device::Cpu);
        let (_, report) =
            BertForSequenceClassification::from_pretrained(&variables, folder.path()).unwrap();
        assert!(
            report
                .missing
                .iter()
                .all(|name| name.contains("classifier.")),
            "{:?}",
            report.missing
        );
        let task: BTreeMap<_, _> = state_dict(&variables).into_iter().collect();
        let base = task
            .keys()
            .find(|name| name.contains("embeddings"))
            .unwrap();
        let base = base.split('.').next().unwrap();
        for (name, tensor) in state_dict(&bare) {
            // RoBERTa's pooler is not in its classifier.
            match task.get(&format!("{base}.{name}")) {
                Some(in_task) => assert_eq!(in_task, &tensor, "{model_type} {name}"),
                None => assert!(report.unexpected.contains(&name), "{model_type} {name}"),
            }
        }

        let (variables, model) = build::<QuestionAnswering>(&small(model_type));
        model.save_pretrained(&variables, folder.path()).unwrap();
        let bare = VarStore::new(Device::Cpu);
        let (_, report) = BertModel::from_pretrained(&bare, folder.path()).unwrap();
        assert_eq!(report.unexpected, ["qa_outputs.bias", "qa_outputs.weight"]);
        assert!(report
            .missing
            .iter()
            .all(|name| name.starts_with("pooler.")));
    }
}

/// Each kind of dropout alone changes what a model gives in training, and nothing does else.
#[test]
fn each_dropout_is_where_it_is_said_to_be() {
    fn changes<H: Head>(config: &BertConfig, scores: impl Fn(H::Output) -> Tensor) -> bool {
        let (_variables, model) = build::<H>(config);
        let inputs = BertInputs::new(ids()).attention_mask(mask());
        let run = |train| scores(model.forward(&inputs, train).unwrap());
        assert_eq!(run(false), run(false));
        run(true) != run(true)
    }
    for model_type in TYPES {
        let mut none = small(model_type)
            .hidden_dropout_prob(0.0)
            .attention_probs_dropout_prob(0.0)
            .classifier_dropout(0.0);
        none.qa_dropout = None;
        let is_distilbert = model_type == ModelType::DistilBert;
        let run = |config: &BertConfig| {
            [
                changes::<SequenceClassification>(config, |output| output.logits),
                changes::<TokenClassification>(config, |output| output.logits),
                changes::<QuestionAnswering>(config, |output| output.start_logits),
            ]
        };
        assert_eq!(run(&none), [false; 3], "{model_type}");
        let with = |config: BertConfig| run(&config);
        assert_eq!(with(none.clone().hidden_dropout_prob(0.5)), [true; 3]);
        assert_eq!(
            with(none.clone().attention_probs_dropout_prob(0.5)),
            [true; 3]
        );
        let classifier = with(none.clone().classifier_dropout(0.5));
        assert_eq!(classifier, [true, !is_distilbert, false], "{model_type}");
        if is_distilbert {
            assert_eq!(with(none.qa_dropout(0.5)), [false, false, true]);
        }
    }
}

#[test]
fn layers_by_choice() {
    for model_type in TYPES {
        let (_variables, model) = build::<NoHead>(&small(model_type));
        let model = model.output_hidden_states([0, -1]).output_attentions([1]);
        let output = model.forward(&BertInputs::new(ids()), false).unwrap();
        let kept = |states: &[Tensor]| states.iter().map(Tensor::defined).collect::<Vec<_>>();
        assert_eq!(kept(&output.hidden_states), [true, false, false, true]);
        assert_eq!(kept(&output.attentions), [false, true, false]);
        assert_eq!(output.hidden_states[0].size(), [2, 6, 16]);
        assert_eq!(output.hidden_states[3], output.last_hidden_state);
    }
}

#[test]
fn given_positions_are_taken_as_they_are() {
    let (_variables, model) = build::<NoHead>(&small(ModelType::Roberta));
    let run = |inputs: BertInputs| model.forward(&inputs, false).unwrap().last_hidden_state;
    let counted = run(BertInputs::new(ids()));
    let positions = Tensor::from_slice2(&[[2i64, 3, 4, 5, 6, 7]]);
    assert_eq!(
        counted,
        run(BertInputs::new(ids()).position_ids(positions.shallow_clone()))
    );
    let others = positions - 1;
    assert_ne!(counted, run(BertInputs::new(ids()).position_ids(others)));
}

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
            BertInputs::new(ids()).token_type_ids(ids().zeros_like()),
            "token_type_ids: DistilBERT has no token types; leave them out",
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
            "pad_token_id: must be there: Roberta counts positions from it",
        ),
        (
            r#"{"model_type": "camembert", "pad_token_id": 600}"#,
            "max_position_embeddings: 512 must be at least 602: Camembert counts",
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
            "qa_dropout: only DistilBERT has it, Bert does not",
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

#[test]
fn configurations_come_back_through_serde() {
    for model_type in TYPES {
        let config = small(model_type)
            .labels(["no", "yes"])
            .hidden_dropout_prob(0.25)
            .classifier_dropout(0.125)
            .output_attentions(true);
        let text = serde_json::to_string(&config).unwrap();
        let again: BertConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(again, config, "{text}");
    }
}
