//! Models in and out of folders.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{
    Activation, Bert, BertConfig, BertForMaskedLM, BertForQuestionAnswering,
    BertForSequenceClassification, BertInputs, BertModel, Head, MaskedLM, NoHead, ProblemType,
    QuestionAnswering, SequenceClassification, TokenClassification,
};
use textbrewer::weights::{read, read_metadata, save, state_dict};
use textbrewer::{Error, Model};

use crate::{build, ids, json, largest_difference, mask, names, small};

fn round_trip<H: Head>(logits: impl Fn(H::Output) -> Tensor) {
    let folder = tempfile::tempdir().unwrap();
    let config = small()
        .labels(["PER", "LOC"])
        .hidden_act(Activation::GeluNew)
        .classifier_dropout(0.25)
        .problem_type(ProblemType::SingleLabelClassification);
    let (variables, model) = build::<H>(&config);
    model
        .save_pretrained(&variables, folder.path().join("new/folder"))
        .unwrap();
    let folder = folder.path().join("new/folder");
    let metadata = read_metadata(folder.join("model.safetensors")).unwrap();
    assert_eq!(metadata["format"], "pt");
    let text = json(&folder.join("config.json"));
    assert_eq!(text["model_type"], "bert");
    assert_eq!(text["architectures"][0], H::ARCHITECTURE);
    assert_eq!(text["id2label"]["1"], "LOC");
    assert_eq!(text["label2id"]["LOC"], 1);

    let fresh = VarStore::new(Device::Cpu);
    let (loaded, report) = Bert::<H>::from_pretrained(&fresh, &folder).unwrap();
    assert_eq!(report.loaded, names(&variables));
    assert!(report.missing.is_empty() && report.unexpected.is_empty());
    assert_eq!(loaded.config().label_count(), 2);
    assert_eq!(loaded.config().hidden_act, Activation::GeluNew);
    assert_eq!(loaded.config().classifier_dropout, Some(0.25));
    let inputs = BertInputs::new(ids()).attention_mask(mask());
    let run = |model: &Bert<H>| logits(model.forward(&inputs, false).unwrap());
    assert_eq!(run(&model), run(&loaded));
}

#[test]
fn every_model_comes_back_from_its_folder() {
    round_trip::<NoHead>(|output| output.last_hidden_state);
    round_trip::<SequenceClassification>(|output| output.logits);
    round_trip::<TokenClassification>(|output| output.logits);
    round_trip::<QuestionAnswering>(|output| output.start_logits);
    round_trip::<MaskedLM>(|output| output.logits.whole().unwrap());
}

#[test]
fn a_model_that_shares_its_store_is_saved_alone() {
    let folder = tempfile::tempdir().unwrap();
    let variables = VarStore::new(Device::Cpu);
    let root = variables.root();
    let config = small().num_labels(2);
    let student = BertForQuestionAnswering::new(&(&root / "student"), &config).unwrap();
    let _teacher = BertForQuestionAnswering::new(&(&root / "teacher"), &config).unwrap();
    student.save_pretrained(&variables, folder.path()).unwrap();
    let (alone, _) = build::<QuestionAnswering>(&small().num_labels(2));
    let saved = read(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(saved.into_keys().collect::<Vec<_>>(), names(&alone));
}

#[test]
fn a_bare_checkpoint_fits_a_task_model_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let (bare, model) = build::<NoHead>(&small());
    model.save_pretrained(&bare, folder.path()).unwrap();
    let variables = VarStore::new(Device::Cpu);
    let (_, report) =
        BertForSequenceClassification::from_pretrained(&variables, folder.path()).unwrap();
    assert_eq!(report.missing, ["classifier.bias", "classifier.weight"]);
    assert!(report.unexpected.is_empty());
    let task = variables.variables();
    for (name, tensor) in state_dict(&bare) {
        assert_eq!(task[&format!("bert.{name}")], tensor, "{name}");
    }

    // A head that the model lacks, and a pooler that the checkpoint lacks.
    let (variables, model) = build::<TokenClassification>(&small());
    model.save_pretrained(&variables, folder.path()).unwrap();
    let bare = VarStore::new(Device::Cpu);
    let (_, report) = BertModel::from_pretrained(&bare, folder.path()).unwrap();
    assert_eq!(report.missing, ["pooler.dense.bias", "pooler.dense.weight"]);
    assert_eq!(report.unexpected, ["classifier.bias", "classifier.weight"]);
    let name = "encoder.layer.2.output.dense.weight";
    assert_eq!(
        bare.variables()[name],
        variables.variables()[&format!("bert.{name}")]
    );

    let other = VarStore::new(Device::Cpu);
    let (_, report) = BertForMaskedLM::from_pretrained(&other, folder.path()).unwrap();
    assert_eq!(report.unexpected, ["classifier.bias", "classifier.weight"]);
    assert_eq!(report.missing.len(), 5);
}

/// Weights of a model that was compiled, or was a part of another module.
#[test]
fn weights_of_a_wrapped_model_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (variables, model) = build::<TokenClassification>(&small());
    model.save_pretrained(&variables, folder.path()).unwrap();
    for prefix in ["_orig_mod.", "_orig_mod.module.", "model."] {
        let state = state_dict(&variables).into_iter();
        let state: Vec<_> = state
            .map(|(name, t)| (format!("{prefix}{name}"), t))
            .collect();
        save(&path, &state, &BTreeMap::new()).unwrap();
        let fresh = VarStore::new(Device::Cpu);
        let (_, report) = Bert::<TokenClassification>::from_pretrained(&fresh, &folder).unwrap();
        assert_eq!(report.prefix.as_deref(), Some(prefix));
        assert_eq!(state_dict(&fresh), state_dict(&variables));
        // A layer too many is found under its prefix too.
        let config = serde_json::to_string(&small().num_hidden_layers(2)).unwrap();
        let whole = std::fs::read(folder.path().join("config.json")).unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let fresh = VarStore::new(Device::Cpu);
        let error = Bert::<TokenClassification>::from_pretrained(&fresh, &folder).unwrap_err();
        let Error::WeightsMismatch { differences, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(differences.len(), 16);
        std::fs::write(folder.path().join("config.json"), whole).unwrap();
    }
}

#[test]
fn layers_must_fit_unless_fewer_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (variables, model) = build::<NoHead>(&small());
    model.save_pretrained(&variables, folder.path()).unwrap();
    let load = |config: &BertConfig| {
        let fresh = VarStore::new(Device::Cpu);
        BertModel::from_pretrained_with_config(&fresh, folder.path(), config)
    };
    let (_, report) = load(&small().num_hidden_layers(1)).unwrap();
    assert_eq!(report.unexpected.len(), 2 * 16);
    let error = load(&small().num_hidden_layers(4)).unwrap_err();
    let Error::WeightsMismatch { differences, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(differences.len(), 16, "{differences:?}");
    assert!(
        differences
            .iter()
            .all(|line| line.contains("encoder.layer.3."))
    );

    // Read from the folder itself, a layer that config.json does not count is an error.
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"),
    )
    .unwrap();
    let fresh = VarStore::new(Device::Cpu);
    let error = BertModel::from_pretrained(&fresh, folder.path()).unwrap_err();
    assert!(error.to_string().contains("16 difference(s)"), "{error}");
}

#[test]
fn half_precision_checkpoints_are_converted() {
    let folder = tempfile::tempdir().unwrap();
    let (variables, model) = build::<NoHead>(&small());
    model.save_pretrained(&variables, folder.path()).unwrap();
    let halves: Vec<_> = state_dict(&variables)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_kind(Kind::Half)))
        .collect();
    save(
        folder.path().join("model.safetensors"),
        &halves,
        &BTreeMap::new(),
    )
    .unwrap();
    let fresh = VarStore::new(Device::Cpu);
    BertModel::from_pretrained(&fresh, folder.path()).unwrap();
    for (name, tensor) in state_dict(&fresh) {
        assert_eq!(tensor.kind(), Kind::Float);
        assert!(
            largest_difference(&tensor, &variables.variables()[&name]) < 1e-3,
            "{name}"
        );
    }
}

#[test]
fn folders_that_cannot_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let fail = || {
        let fresh = VarStore::new(Device::Cpu);
        let error = BertModel::from_pretrained(&fresh, folder.path()).unwrap_err();
        error.to_string()
    };
    assert!(fail().contains("config.json"), "{}", fail());
    let (variables, model) = build::<NoHead>(&small());
    model.save_pretrained(&variables, folder.path()).unwrap();
    let weights = folder.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    assert!(fail().contains("cut short"), "{}", fail());
    std::fs::remove_file(&weights).unwrap();
    assert!(fail().contains("model.safetensors"), "{}", fail());
    std::fs::write(folder.path().join("pytorch_model.bin"), b"").unwrap();
    assert!(fail().contains("only pytorch_model.bin"), "{}", fail());
    std::fs::write(&weights, whole).unwrap();
    let error = BertModel::from_pretrained(&variables, folder.path()).unwrap_err();
    assert!(error.to_string().contains("VarStore of its own"), "{error}");
}

#[test]
fn configurations_as_they_are_found() {
    let config = BertConfig::from_json_str(
        r#"{"architectures": ["BertForTokenClassification"], "model_type": "bert",
            "transformers_version": "4.1", "gradient_checkpointing": false,
            "classifier_dropout": null, "pad_token_id": null, "hidden_dropout_prob": 0,
            "hidden_act": "gelu_pytorch_tanh", "num_labels": 7,
            "id2label": {"0": "O", "1": "B", "10": "I"}}"#,
    )
    .unwrap();
    assert_eq!(config.label_count(), 3);
    assert_eq!(config.hidden_act, Activation::GeluNew);
    assert_eq!(
        (config.pad_token_id, config.classifier_dropout),
        (None, None)
    );
    assert_eq!(config.hidden_size, 768);
    assert_eq!(
        BertConfig::from_json_str("{}").unwrap(),
        BertConfig::default()
    );
    assert_eq!(BertConfig::default().label_count(), 2);
    assert_eq!(config.num_labels(5).label_count(), 5);
}
