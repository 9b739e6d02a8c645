//! The output matrix of masked language modelling, in files and against `transformers`.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::Model;
use textbrewer::models::{BertConfig, BertForMaskedLM, BertInputs, MaskedLM, ModelType};
use textbrewer::weights::{read, state_dict};

use crate::masked_lm::{batch, of};
use crate::{build, largest_difference, names};

const TYPES: [ModelType; 4] = [
    ModelType::Bert,
    ModelType::Roberta,
    ModelType::Electra,
    ModelType::DistilBert,
];

/// Tied, the matrix is saved once; untied, it has the name that it has in transformers.
#[test]
fn output_matrices_in_files() {
    for (model_type, name) in TYPES.into_iter().zip([
        "cls.predictions.decoder.weight",
        "lm_head.decoder.weight",
        "generator_lm_head.weight",
        "vocab_projector.weight",
    ]) {
        for tied in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (variables, model) = build::<MaskedLM>(&of(model_type, tied));
            model.save_pretrained(&variables, folder.path()).unwrap();
            let saved = read(folder.path().join("model.safetensors")).unwrap();
            let width = if model_type == ModelType::Electra {
                8
            } else {
                16
            };
            let matrices = saved
                .iter()
                .filter(|(_, tensor)| tensor.size() == [40, width]);
            assert_eq!(matrices.count(), if tied { 1 } else { 2 }, "{model_type}");
            assert_eq!(saved.contains_key(name), !tied, "{model_type}");

            let fresh = VarStore::new(Device::Cpu);
            let (again, report) = BertForMaskedLM::from_pretrained(&fresh, folder.path()).unwrap();
            assert_eq!(again.config().tie_word_embeddings, tied);
            assert_eq!(report.loaded, names(&variables));
            assert!(report.missing.is_empty() && report.unexpected.is_empty());
            let whole = |model: &BertForMaskedLM| {
                let output = model.forward(&batch(), false).unwrap();
                output.logits.whole().unwrap()
            };
            assert_eq!(whole(&model), whole(&again), "{model_type}");
        }
    }
}

/// Against `transformers`, with the numbers of `tests/reference/bert_family.py`.
#[test]
fn untied_models_of_transformers() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/bert_family");
    for model_type in TYPES {
        let reference = tests.join(model_type.to_string());
        let config = BertConfig::from_json_file(reference.join("config.json")).unwrap();
        let (variables, model) = build::<MaskedLM>(&config.tie_word_embeddings(false));
        let (inputs, mut expected) = {
            let cases = read(reference.join("cases.safetensors")).unwrap();
            let get = |name: &str| cases.get(name).map(Tensor::shallow_clone);
            let mut inputs = BertInputs::new(get("inputs.input_ids").unwrap());
            inputs.attention_mask = get("inputs.attention_mask");
            inputs.token_type_ids = get("inputs.token_type_ids");
            inputs.labels = get("inputs.masked.labels");
            (inputs, read(reference.join("untied.safetensors")).unwrap())
        };
        for (name, mut variable) in state_dict(&variables) {
            let weight = expected.remove(&format!("weights.{name}")).unwrap();
            let _no_grad = tch::no_grad_guard();
            variable.copy_(&weight);
        }
        let left = expected.keys().find(|name| name.starts_with("weights."));
        assert_eq!(left, None, "{model_type}");
        let output = model.forward(&inputs, false).unwrap();
        let close = |name: &str, got: &Tensor| {
            let difference = largest_difference(got, &expected[name]);
            assert!(difference < 1e-5, "{model_type} {name}: {difference}");
        };
        close("masked.logits", &output.logits.whole().unwrap());
        let loss = output.loss().unwrap().unwrap();
        close("masked.loss", &loss);
        loss.backward();
        let variables = variables.variables();
        let gradients = expected
            .keys()
            .filter_map(|name| name.strip_prefix("masked.gradient."));
        let mut checked = 0;
        for name in gradients {
            close(&format!("masked.gradient.{name}"), &variables[name].grad());
            checked += 1;
        }
        assert_eq!(checked, 7, "{model_type}");
    }
}
