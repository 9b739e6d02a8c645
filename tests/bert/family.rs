//! The models that share BERT's layers: folders, names and dropout.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::Model;
use textbrewer::models::{
    Bert, BertConfig, BertForSequenceClassification, BertInputs, BertModel, Head, MaskedLM,
    ModelType, NoHead, QuestionAnswering, SequenceClassification, TokenClassification,
};
use textbrewer::weights::{read, state_dict};

use crate::{build, ids, json, mask, names};

const TYPES: [ModelType; 6] = [
    ModelType::Bert,
    ModelType::Roberta,
    ModelType::XlmRoberta,
    ModelType::Camembert,
    ModelType::Electra,
    ModelType::DistilBert,
];

pub fn small(model_type: ModelType) -> BertConfig {
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

fn round_trip<H: Head>(model_type: ModelType) {
    let folder = tempfile::tempdir().unwrap();
    let (variables, model) = build::<H>(&small(model_type));
    model.save_pretrained(&variables, folder.path()).unwrap();
    let text = json(&folder.path().join("config.json"));
    let class = match model_type {
        ModelType::XlmRoberta => "XLMRoberta",
        ModelType::DistilBert => "DistilBert",
        ModelType::Roberta => "Roberta",
        ModelType::Camembert => "Camembert",
        ModelType::Electra => "Electra",
        _ => "Bert",
    };
    assert_eq!(text["model_type"], model_type.to_string());
    let expected = H::ARCHITECTURE.replace("Bert", class);
    assert_eq!(text["architectures"][0], expected.as_str());

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
        round_trip::<NoHead>(model_type);
        round_trip::<SequenceClassification>(model_type);
        round_trip::<TokenClassification>(model_type);
        round_trip::<QuestionAnswering>(model_type);
        round_trip::<MaskedLM>(model_type);
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
        assert!(
            report
                .missing
                .iter()
                .all(|name| name.starts_with("pooler."))
        );
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

/// A batch for a BERT teacher serves a DistilBERT beside it.
#[test]
fn distilbert_does_not_look_at_token_types() {
    let (_variables, model) = build::<NoHead>(&small(ModelType::DistilBert));
    let run = |inputs: BertInputs| model.forward(&inputs, false).unwrap().last_hidden_state;
    let with = run(BertInputs::new(ids()).token_type_ids(ids().ones_like()));
    assert_eq!(with, run(BertInputs::new(ids())));
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
