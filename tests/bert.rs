//! BERT against numbers that Python computed, against itself by another way, and in its
//! dealings with files and with inputs that do not fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Reduction, Tensor};
use textbrewer::models::{
    Activation, Bert, BertConfig, BertForMaskedLM, BertForQuestionAnswering,
    BertForSequenceClassification, BertInputs, BertModel, Head, MaskedLM, NoHead, ProblemType,
    QuestionAnswering, SequenceClassification, TokenClassification,
};
use textbrewer::weights::{load_into, read, read_metadata, save, state_dict, LoadOptions};
use textbrewer::{Batch, Error, Model};

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

// ---- Numbers of TextBrewer and transformers ---------------------------------------------

fn golden() -> PathBuf {
    std::env::var_os("TEXTBREWER_GOLDEN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
        PathBuf::from,
    )
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The part of `tensors` under `prefix`.
fn under(tensors: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    tensors
        .iter()
        .filter_map(|(name, tensor)| {
            let name = name.strip_prefix(prefix)?;
            Some((name.to_owned(), tensor.shallow_clone()))
        })
        .collect()
}

/// The model's loss on the first batch; every weight of the file must have found a place.
fn loss(
    task: &str,
    config: &BertConfig,
    weights: BTreeMap<String, Tensor>,
    batch: BertInputs,
) -> f64 {
    fn run<H: Head>(
        config: &BertConfig,
        weights: &BTreeMap<String, Tensor>,
        batch: &BertInputs,
        loss: impl Fn(H::Output) -> Option<Tensor>,
    ) -> f64 {
        let (variables, model) = build::<H>(config);
        load_into(&variables, weights, "golden", &LoadOptions::new()).unwrap();
        let output = model.forward(batch, true).unwrap();
        loss(output).unwrap().double_value(&[])
    }
    match task {
        "sequence_classification" => {
            run::<SequenceClassification>(config, &weights, &batch, |output| output.loss)
        }
        "token_classification" => {
            run::<TokenClassification>(config, &weights, &batch, |output| output.loss)
        }
        "question_answering" => {
            run::<QuestionAnswering>(config, &weights, &batch, |output| output.loss)
        }
        other => panic!("unknown task {other}"),
    }
}

#[test]
fn first_losses_are_those_of_the_original() {
    let mut checked: BTreeMap<String, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(golden().join("trainings")).unwrap() {
        let folder = entry.unwrap().path();
        let case = json(&folder.join("case.json"));
        let first = &json(&folder.join("expected.json"))["losses"][0];
        let expected = match case["distiller"].as_str().unwrap() {
            "trainer" => &first["total_loss"],
            _ => &first["unweighted_hard_label_loss"],
        };
        let Some(expected) = expected.as_f64() else {
            continue;
        };
        let tensors = read(folder.join("inputs.safetensors")).unwrap();
        let batch = match (&case["tasks"]["order"][0], &case["cache_order"][0][0]) {
            (Value::String(task), _) => format!("batch.{task}.0."),
            (_, Value::Number(index)) => format!("batch.{index}."),
            _ => "batch.0.".to_owned(),
        };
        let mut batch = under(&tensors, &batch);
        let mut inputs = BertInputs::new(batch.remove("input_ids").unwrap())
            .attention_mask(batch.remove("attention_mask").unwrap())
            .token_type_ids(batch.remove("token_type_ids").unwrap());
        inputs.labels = batch.remove("labels");
        inputs.start_positions = batch.remove("start_positions");
        inputs.end_positions = batch.remove("end_positions");
        assert!(batch.is_empty(), "{batch:?}");
        let config = BertConfig::from_json_str(&case["student"].to_string()).unwrap();
        let task = case["task"].as_str().unwrap();
        let got = loss(task, &config, under(&tensors, "student."), inputs);
        assert!(
            (got - expected).abs() <= 2e-5 * expected.abs() + 1e-6,
            "{}: {got}, expected {expected}",
            folder.display()
        );
        *checked.entry(task.to_owned()).or_default() += 1;
    }
    assert_eq!(checked.len(), 3, "{checked:?}");
}

// ---- The model against itself and against formulas --------------------------------------

#[test]
fn fused_attention_is_the_attention_that_is_shown() {
    let (_variables, model) = build::<NoHead>(&small());
    let causal = Tensor::ones([2, 6, 6], (Kind::Int64, Device::Cpu)).tril(0);
    let inputs: Vec<_> = [
        None,
        Some(mask()),
        Some(mask().to_kind(Kind::Bool)),
        Some(causal),
    ]
    .map(|attention_mask| {
        let mut inputs = BertInputs::new(ids());
        inputs.attention_mask = attention_mask;
        inputs
    })
    .into();
    let run = |model: &BertModel| -> Vec<_> {
        let outputs = inputs.iter().map(|i| model.forward(i, false).unwrap());
        outputs.collect()
    };
    let fused = run(&model);
    let shown = run(&model.output_attentions(true));
    for (fused, shown) in fused.iter().zip(&shown) {
        assert!(fused.attentions.is_empty() && fused.hidden_states.is_empty());
        assert_eq!(shown.attentions.len(), 3);
        let difference = largest_difference(&fused.last_hidden_state, &shown.last_hidden_state);
        assert!(difference < 1e-5, "{difference}");
    }
    // The masks matter.
    let difference = largest_difference(&fused[0].last_hidden_state, &fused[3].last_hidden_state);
    assert!(difference > 1e-2, "{difference}");
}

#[test]
fn states_are_all_there() {
    let config = small().output_hidden_states(true).output_attentions(true);
    let (_variables, model) = build::<SequenceClassification>(&config);
    let inputs = BertInputs::new(ids()).attention_mask(mask());
    let output = model.forward(&inputs, false).unwrap();
    assert_eq!(output.logits.size(), [2, 3]);
    assert_eq!(output.pooler_output.unwrap().size(), [2, 16]);
    assert!(output.loss.is_none());
    assert_eq!(output.hidden_states.len(), 4);
    assert_eq!(output.attentions.len(), 3);
    for hidden in &output.hidden_states {
        assert_eq!(hidden.size(), [2, 6, 16]);
    }
    for attention in &output.attentions {
        assert_eq!(attention.size(), [2, 4, 6, 6]);
        let sums = attention.sum_dim_intlist(-1, false, Kind::Float);
        assert!(largest_difference(&sums, &sums.ones_like()) < 1e-6);
        let padding = attention.get(1).narrow(-1, 4, 2);
        assert_eq!(padding.max().double_value(&[]), 0.0);
    }
    // The last hidden state is the last layer's, and layers differ.
    let (_variables, bare) = build::<NoHead>(&config);
    let output = bare.forward(&inputs, false).unwrap();
    assert_eq!(output.hidden_states[3], output.last_hidden_state);
    assert_ne!(output.hidden_states[2], output.last_hidden_state);
    let quiet = bare.output_hidden_states(false).output_attentions(false);
    let output = quiet.forward(&inputs, false).unwrap();
    assert!(output.hidden_states.is_empty() && output.attentions.is_empty());
}

#[test]
fn padding_changes_nothing_at_the_tokens() {
    for attentions in [false, true] {
        let (_variables, model) = build::<NoHead>(&small());
        let model = model.output_attentions(attentions);
        let padded = BertInputs::new(ids()).attention_mask(mask());
        let padded = model.forward(&padded, false).unwrap().last_hidden_state;
        let alone = BertInputs::new(ids().narrow(0, 1, 1).narrow(1, 0, 4));
        let alone = model.forward(&alone, false).unwrap().last_hidden_state;
        let tokens = padded.narrow(0, 1, 1).narrow(1, 0, 4);
        assert!(largest_difference(&tokens, &alone) < 1e-5);
    }
}

#[test]
fn a_sequence_of_padding_alone_is_no_nan() {
    for attentions in [false, true] {
        let (_variables, model) = build::<NoHead>(&small());
        let model = model.output_attentions(attentions);
        let inputs = BertInputs::new(ids()).attention_mask(mask().zeros_like());
        let output = model.forward(&inputs, false).unwrap();
        let finite = output.last_hidden_state.isfinite().all();
        assert!(bool::try_from(finite).unwrap());
        // As in transformers, it attends to all positions as if there were no scores.
        for attention in output.attentions {
            assert!(largest_difference(&attention, &attention.full_like(1.0 / 6.0)) < 1e-6);
        }
    }
}

#[test]
fn absent_inputs_are_zeros_and_counting() {
    let (_variables, model) = build::<NoHead>(&small());
    let implicit = model.forward(&BertInputs::new(ids()), false).unwrap();
    let positions = Tensor::arange(6, (Kind::Int64, Device::Cpu)).unsqueeze(0);
    let explicit = BertInputs::new(ids())
        .token_type_ids(ids().zeros_like())
        .position_ids(positions.expand([2, 6], false))
        .attention_mask(ids().ones_like());
    let explicit = model.forward(&explicit, false).unwrap();
    let difference = largest_difference(&implicit.last_hidden_state, &explicit.last_hidden_state);
    assert!(difference < 1e-6, "{difference}");
    for changed in [
        BertInputs::new(ids()).token_type_ids(ids().ones_like()),
        BertInputs::new(ids()).position_ids(positions.flip([1])),
    ] {
        let changed = model.forward(&changed, false).unwrap();
        assert!(largest_difference(&implicit.last_hidden_state, &changed.last_hidden_state) > 1e-2);
    }
}

#[test]
fn dropout_only_in_training() {
    let config = small()
        .attention_probs_dropout_prob(0.5)
        .output_attentions(true);
    let (_variables, model) = build::<SequenceClassification>(&config);
    let inputs = BertInputs::new(ids());
    let run = |train| model.forward(&inputs, train).unwrap();
    assert_eq!(run(false).logits, run(false).logits);
    assert_ne!(run(true).logits, run(true).logits);
    // As in transformers, what is returned is what was used: with holes, scaled up.
    let used = &run(true).attentions[0];
    let zeros = used.eq(0.0).sum(Kind::Int64).int64_value(&[]);
    assert!(zeros > 0 && zeros < used.numel() as i64);
    let none = small()
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0);
    let (_variables, model) = build::<SequenceClassification>(&none);
    let run = |train| model.forward(&inputs, train).unwrap().logits;
    assert_eq!(run(true), run(false));
    // The classifier's own dropout, with the others off.
    let (_variables, model) = build::<SequenceClassification>(&none.classifier_dropout(0.5));
    let run = |train| model.forward(&inputs, train).unwrap().logits;
    assert_ne!(run(true), run(true));
    assert_eq!(run(false), run(false));
}

#[test]
fn fresh_weights() {
    let config = small().hidden_size(64).initializer_range(0.02);
    let (variables, model) = build::<MaskedLM>(&config);
    for (name, tensor) in state_dict(&variables) {
        assert!(tensor.requires_grad(), "{name}");
        if name.ends_with("LayerNorm.weight") {
            assert_eq!(tensor, tensor.ones_like(), "{name}");
        } else if name.ends_with("bias") {
            assert_eq!(tensor, tensor.zeros_like(), "{name}");
        } else {
            // The smallest matrix has 128 elements: 5 standard errors of the deviation.
            let tolerance = 5.0 / (2.0 * tensor.numel() as f64).sqrt();
            let ratio = tensor.std(false).double_value(&[]) / 0.02;
            assert!((ratio - 1.0).abs() < tolerance + 0.02, "{name}: {ratio}");
        }
    }
    let words = &variables.variables()["bert.embeddings.word_embeddings.weight"];
    assert_eq!(words.get(0), words.get(0).zeros_like());
    // The embedding of padding is not trained by the embedding layer.
    let bare = build::<NoHead>(&config);
    let output = bare.1.forward(&BertInputs::new(ids()), false).unwrap();
    output
        .last_hidden_state
        .pow_tensor_scalar(2)
        .narrow(-1, 0, 3)
        .sum(Kind::Float)
        .backward();
    let gradient = bare.0.variables()["embeddings.word_embeddings.weight"].grad();
    let row = |i: i64| gradient.get(i).abs().sum(Kind::Float).double_value(&[]);
    assert_eq!(row(0), 0.0);
    assert!(row(5) > 0.0);
    drop(model);
}

// ---- Losses -----------------------------------------------------------------------------

#[test]
fn sequence_losses() {
    // Each against the formula, from the model's own logits.
    let inputs = |labels| BertInputs::new(ids()).labels(labels);
    let (_variables, model) = build::<SequenceClassification>(&small());
    let output = model
        .forward(&inputs(Tensor::from_slice(&[2i64, 0])), false)
        .unwrap();
    let log = output.logits.log_softmax(-1, Kind::Float);
    let expected = -(log.double_value(&[0, 2]) + log.double_value(&[1, 0])) / 2.0;
    assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-6);

    let labels = Tensor::from_slice2(&[[1f32, 0.0, 1.0], [0.0, 0.0, 1.0]]);
    let output = model
        .forward(&inputs(labels.shallow_clone()), false)
        .unwrap();
    let p = output.logits.sigmoid();
    let right: Tensor = &labels * &p + (1 - &labels) * (1 - &p);
    let expected = -right.log().mean(Kind::Float);
    assert!(largest_difference(&output.loss.unwrap(), &expected) < 1e-5);

    let (_variables, model) = build::<SequenceClassification>(&small().num_labels(1));
    for labels in [
        Tensor::from_slice(&[0.5f32, -2.0]),
        Tensor::from_slice2(&[[0.5f32], [-2.0]]),
    ] {
        let output = model.forward(&inputs(labels), false).unwrap();
        let [a, b] = [0, 1].map(|i| output.logits.double_value(&[i, 0]));
        let expected = ((a - 0.5).powi(2) + (b + 2.0).powi(2)) / 2.0;
        assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-5);
    }
}

#[test]
fn token_losses_leave_out_minus_100() {
    let labels = Tensor::from_slice2(&[
        [-100i64, 2, -100, -100, 0, -100],
        [-100, -100, -100, -100, -100, -100],
    ]);
    let (_variables, model) = build::<TokenClassification>(&small());
    let inputs = BertInputs::new(ids()).labels(labels.shallow_clone());
    let output = model.forward(&inputs, false).unwrap();
    assert!(output.pooler_output.is_none());
    let log = output.logits.log_softmax(-1, Kind::Float);
    let expected = -(log.double_value(&[0, 1, 2]) + log.double_value(&[0, 4, 0])) / 2.0;
    assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-6);

    let (_variables, model) = build::<MaskedLM>(&small());
    let output = model.forward(&inputs, false).unwrap();
    assert_eq!(output.logits.size(), [2, 6, 40]);
    let log = output.logits.log_softmax(-1, Kind::Float);
    let expected = -(log.double_value(&[0, 1, 2]) + log.double_value(&[0, 4, 0])) / 2.0;
    assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-5);
}

#[test]
fn answers_beyond_the_input_do_not_count() {
    let (_variables, model) = build::<QuestionAnswering>(&small().num_labels(2));
    let run = |start: [i64; 2], end: [i64; 2]| {
        let positions = (Tensor::from_slice(&start), Tensor::from_slice(&end));
        let inputs = BertInputs::new(ids()).answers(positions.0, positions.1);
        model.forward(&inputs, false).unwrap()
    };
    let output = run([1, 6], [3, 99]);
    let start = output
        .start_logits
        .log_softmax(-1, Kind::Float)
        .double_value(&[0, 1]);
    let end = output
        .end_logits
        .log_softmax(-1, Kind::Float)
        .double_value(&[0, 3]);
    let expected = -(start + end) / 2.0;
    assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-6);
    // Negative positions count as the first, as in transformers.
    let loss = |start, end| run(start, end).loss.unwrap().double_value(&[]);
    assert_eq!(loss([-1, 2], [3, 4]), loss([0, 2], [3, 4]));
}

#[test]
fn the_output_matrix_of_masked_lm_is_the_word_embeddings() {
    let (variables, model) = build::<MaskedLM>(&small());
    let all = names(&variables);
    assert!(!all
        .iter()
        .any(|name| name.contains("decoder") || name.contains("pooler")));
    for name in [
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.LayerNorm.bias",
    ] {
        assert!(all.iter().any(|n| n == name), "{name}: {all:?}");
    }
    // A token that is not in the input gets a gradient through the output matrix only.
    let words = &variables.variables()["bert.embeddings.word_embeddings.weight"];
    let inputs =
        BertInputs::new(ids()).labels(Tensor::full([2, 6], 39, (Kind::Int64, Device::Cpu)));
    let before = model.forward(&inputs, false).unwrap();
    before.loss.unwrap().backward();
    assert!(
        words
            .grad()
            .get(39)
            .abs()
            .sum(Kind::Float)
            .double_value(&[])
            > 0.0
    );
    {
        let _no_grad = tch::no_grad_guard();
        let _ = words.get(39).fill_(0.0);
    }
    let logits = model.forward(&inputs, false).unwrap().logits;
    assert_eq!(logits.select(-1, 39).abs().max().double_value(&[]), 0.0);
}

// ---- Folders ----------------------------------------------------------------------------

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
    round_trip::<MaskedLM>(|output| output.logits);
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
    assert!(differences
        .iter()
        .all(|line| line.contains("encoder.layer.3.")));

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

// ---- What a user can get wrong ----------------------------------------------------------

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
            r#"{"model_type": "roberta"}"#,
            "model_type `roberta` is not supported yet",
        ),
        (
            r#"{"position_embedding_type": "relative_key"}"#,
            "position_embedding_type `relative_key`",
        ),
        (r#"{"is_decoder": true}"#, "is_decoder is not supported yet"),
        (r#"{"hidden_size": 768"#, "JSON text: EOF"),
        (r#"{} {}"#, "JSON text: trailing characters"),
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
    let untied = BertConfig::from_json_str(r#"{"tie_word_embeddings": false}"#).unwrap();
    let untied = untied.num_hidden_layers(1).vocab_size(9).hidden_size(12);
    let other = VarStore::new(Device::Cpu);
    let error = BertForMaskedLM::new(&other.root(), &untied).unwrap_err();
    assert!(
        error.to_string().starts_with("tie_word_embeddings"),
        "{error}"
    );
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

#[test]
fn batches_move_whole() {
    let all = BertInputs::new(ids())
        .attention_mask(mask())
        .token_type_ids(ids().zeros_like())
        .position_ids(ids().ones_like())
        .labels(Tensor::from_slice(&[1i64, 2]))
        .answers(
            Tensor::from_slice(&[3i64, 4]),
            Tensor::from_slice(&[5i64, 6]),
        );
    let moved = all.to_device(Device::Cpu).unwrap();
    assert_eq!(format!("{moved:?}"), format!("{all:?}"));
    assert_eq!(moved.end_positions.unwrap(), Tensor::from_slice(&[5i64, 6]));
}

#[test]
fn gradients_reach_every_weight() {
    fn check<H: Head>(inputs: BertInputs, loss: impl Fn(H::Output) -> Option<Tensor>) {
        for attentions in [false, true] {
            let (variables, model) = build::<H>(&small().num_labels(2));
            let model = model.output_attentions(attentions);
            loss(model.forward(&inputs, true).unwrap())
                .unwrap()
                .backward();
            for (name, tensor) in state_dict(&variables) {
                assert!(tensor.grad().defined(), "{}: {name}", H::ARCHITECTURE);
                let finite = tensor.grad().isfinite().all();
                assert!(
                    bool::try_from(finite).unwrap(),
                    "{}: {name}",
                    H::ARCHITECTURE
                );
            }
        }
    }
    let inputs = || BertInputs::new(ids()).attention_mask(mask());
    let tokens = || Tensor::ones([2, 6], (Kind::Int64, Device::Cpu));
    let sentences = || Tensor::from_slice(&[0i64, 1]);
    check::<SequenceClassification>(inputs().labels(sentences()), |output| output.loss);
    check::<TokenClassification>(inputs().labels(tokens()), |output| output.loss);
    check::<MaskedLM>(inputs().labels(tokens()), |output| output.loss);
    let answers = inputs().answers(sentences(), sentences());
    check::<QuestionAnswering>(answers, |output| output.loss);
    let target = Tensor::zeros([2, 16], (Kind::Float, Device::Cpu));
    check::<NoHead>(inputs(), |output| {
        Some(output.pooler_output?.mse_loss(&target, Reduction::Mean))
    });
}
