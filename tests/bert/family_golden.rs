//! Every model of the family under every head, against `transformers`. The numbers were made by
//! `tests/reference/bert_family.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::Model;
use textbrewer::models::{
    Bert, BertConfig, BertInputs, Head, LogitsOutput, MaskedLM, MaskedLMOutput, ModelType, NoHead,
    QuestionAnswering, QuestionAnsweringOutput, SequenceClassification, TokenClassification,
};
use textbrewer::weights::{read, save, state_dict};

use crate::{json, largest_difference};

const MODELS: [&str; 4] = ["bert", "roberta", "electra", "distilbert"];

type Tensors = BTreeMap<String, Tensor>;

/// One model's folder as `from_pretrained` wants it, and what Python computed.
struct Case {
    folder: tempfile::TempDir,
    tensors: Tensors,
}

fn reference(model: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    tests.join("reference/bert_family").join(model)
}

impl Case {
    fn new(model: &str) -> Self {
        Case::named(model, model)
    }

    /// The case of `model` under another `model_type`.
    fn named(model: &str, model_type: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = json(&reference(model).join("config.json"));
        assert_eq!(config["model_type"], model);
        config["model_type"] = model_type.into();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let tensors = read(reference(model).join("cases.safetensors")).unwrap();
        let weights: Vec<_> = tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("weights.")?, tensor)))
            .collect();
        let path = folder.path().join("model.safetensors");
        save(path, &weights, &BTreeMap::new()).unwrap();
        Case { folder, tensors }
    }

    fn get(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).map(Tensor::shallow_clone)
    }

    fn inputs(&self, head: &str) -> BertInputs {
        let of_head = |name| self.get(&format!("inputs.{head}.{name}"));
        let mut inputs = BertInputs::new(self.get("inputs.input_ids").unwrap());
        inputs.attention_mask = self.get("inputs.attention_mask");
        inputs.token_type_ids = self.get("inputs.token_type_ids");
        inputs.labels = of_head("labels");
        inputs.start_positions = of_head("start_positions");
        inputs.end_positions = of_head("end_positions");
        inputs
    }

    fn load<H: Head>(&self, labels: i64) -> (VarStore, Bert<H>) {
        let variables = VarStore::new(Device::Cpu);
        let config = BertConfig::from_json_file(self.folder.path().join("config.json")).unwrap();
        let config = config.num_labels(labels);
        let (model, report) =
            Bert::<H>::from_pretrained_with_config(&variables, self.folder.path(), &config)
                .unwrap();
        // Whatever the model has is under that name in transformers.
        assert!(report.missing.is_empty(), "{:?}", report.missing);
        (variables, model)
    }

    fn check(&self, what: &str, got: &Tensor) {
        let expected = &self.tensors[what];
        let difference = largest_difference(got, expected);
        assert!(
            difference < 1e-5,
            "{:?} {what}: {difference}",
            self.folder.path()
        );
    }

    fn check_states(&self, hidden: &[Tensor], attentions: &[Tensor]) {
        assert_eq!((hidden.len(), attentions.len()), (3, 2));
        for (index, hidden) in hidden.iter().enumerate() {
            self.check(&format!("model.hidden.{index}"), hidden);
        }
        for (index, attention) in attentions.iter().enumerate() {
            self.check(&format!("model.attention.{index}"), attention);
        }
    }

    /// Outputs and gradients of a model with a head, with attention shown and fused.
    fn check_head<H: Head>(&self, head: &str, labels: i64, outputs: impl Fn(H::Output) -> Outputs) {
        let (variables, model) = self.load::<H>(labels);
        let inputs = self.inputs(head);
        let fused = outputs(model.forward(&inputs, false).unwrap());
        let model = model.output_hidden_states(true).output_attentions(true);
        let shown = outputs(model.forward(&inputs, false).unwrap());
        self.check_states(&shown.hidden_states, &shown.attentions);
        for outputs in [fused, shown] {
            for (name, scores) in &outputs.scores {
                self.check(&format!("{head}.{name}"), scores);
            }
            let loss = outputs.loss.unwrap();
            self.check(&format!("{head}.loss"), &loss);
            for (_, mut variable) in state_dict(&variables) {
                variable.zero_grad();
            }
            loss.backward();
            let named: BTreeMap<_, _> = state_dict(&variables).into_iter().collect();
            let prefix = format!("{head}.gradient.");
            let mut checked = 0;
            for name in self.tensors.keys().filter_map(|n| n.strip_prefix(&prefix)) {
                self.check(&format!("{prefix}{name}"), &named[name].grad());
                checked += 1;
            }
            assert!(checked >= 7, "{head}: {checked} gradients");
        }
    }

    fn check_all(&self) {
        let (_variables, model) = self.load::<NoHead>(3);
        let model = model.output_hidden_states(true).output_attentions(true);
        let output = model.forward(&self.inputs("model"), false).unwrap();
        self.check_states(&output.hidden_states, &output.attentions);
        self.check("model.hidden.2", &output.last_hidden_state);
        match output.pooler_output {
            Some(pooled) => self.check("model.pooler_output", &pooled),
            None => assert!(!self.tensors.contains_key("model.pooler_output")),
        }
        self.check_head::<SequenceClassification>("sequence", 3, logits);
        self.check_head::<TokenClassification>("token", 3, logits);
        self.check_head::<MaskedLM>("masked", 3, words);
        self.check_head::<QuestionAnswering>("answer", 2, answers);
    }
}

struct Outputs {
    scores: Vec<(&'static str, Tensor)>,
    loss: Option<Tensor>,
    hidden_states: Vec<Tensor>,
    attentions: Vec<Tensor>,
}

fn logits(output: LogitsOutput) -> Outputs {
    Outputs {
        scores: vec![("logits", output.logits)],
        loss: output.loss,
        hidden_states: output.hidden_states,
        attentions: output.attentions,
    }
}

fn words(output: MaskedLMOutput) -> Outputs {
    Outputs {
        scores: vec![("logits", output.logits.whole().unwrap())],
        loss: output.loss().unwrap(),
        hidden_states: output.hidden_states,
        attentions: output.attentions,
    }
}

fn answers(output: QuestionAnsweringOutput) -> Outputs {
    Outputs {
        scores: vec![
            ("start_logits", output.start_logits),
            ("end_logits", output.end_logits),
        ],
        loss: output.loss,
        hidden_states: output.hidden_states,
        attentions: output.attentions,
    }
}

#[test]
fn states_scores_losses_and_gradients() {
    for model in MODELS {
        Case::new(model).check_all();
    }
}

/// XLM-RoBERTa and CamemBERT are RoBERTa under other names.
#[test]
fn the_other_names_of_roberta() {
    for (model_type, expected) in [
        ("xlm-roberta", ModelType::XlmRoberta),
        ("camembert", ModelType::Camembert),
    ] {
        let case = Case::named("roberta", model_type);
        let (_variables, model) = case.load::<NoHead>(3);
        assert_eq!(model.config().model_type, expected);
        case.check_all();
    }
}

/// The head's weights and the layers' come from the folder, the others in it are told of.
#[test]
fn weights_of_other_heads_are_passed_over() {
    for model in MODELS {
        let case = Case::new(model);
        let variables = VarStore::new(Device::Cpu);
        let (_, report) =
            Bert::<TokenClassification>::from_pretrained(&variables, case.folder.path()).unwrap();
        assert!(report.missing.is_empty(), "{model}: {:?}", report.missing);
        let is_answer = |name: &String| name == "qa_outputs.weight";
        assert!(report.unexpected.iter().any(is_answer), "{report:?}");
    }
}

#[test]
fn sinusoidal_positions() {
    let case = Case::new("distilbert");
    let mut config = BertConfig::from_json_file(case.folder.path().join("config.json")).unwrap();
    config.sinusoidal_pos_embds = true;
    let variables = VarStore::new(Device::Cpu);
    let model = Bert::<SequenceClassification>::new(&variables.root(), &config).unwrap();
    let positions = &variables.variables()["distilbert.embeddings.position_embeddings.weight"];
    case.check("sinusoidal", positions);
    assert!(!positions.requires_grad());
    let output = model.forward(&case.inputs("sequence"), true).unwrap();
    output.loss.unwrap().backward();
    assert!(!positions.grad().defined());
}
