//! Students that begin with weights of their teacher.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, ModelType};
use textbrewer::weights::{KeptReason, Names, Transfer, TransferReport, save, state_dict};
use textbrewer::{Error, Result};

fn config(layers: i64) -> BertConfig {
    BertConfig::default()
        .vocab_size(30)
        .hidden_size(8)
        .num_attention_heads(2)
        .intermediate_size(12)
        .max_position_embeddings(10)
        .num_labels(2)
        .num_hidden_layers(layers)
}

/// A BERT whose every weight is random, biases and norms too.
fn bert(config: &BertConfig) -> VarStore {
    let variables = VarStore::new(Device::Cpu);
    BertForSequenceClassification::new(&variables.root(), config).unwrap();
    tch::no_grad(|| {
        for (_, mut variable) in state_dict(&variables) {
            let _ = variable.uniform_(-1.0, 1.0);
        }
    });
    variables
}

fn values(variables: &VarStore) -> BTreeMap<String, Tensor> {
    let named = state_dict(variables);
    named
        .into_iter()
        .map(|(name, tensor)| (name, tensor.copy()))
        .collect()
}

fn kept(report: &TransferReport) -> Vec<(&str, &KeptReason)> {
    report
        .kept
        .iter()
        .map(|kept| (kept.name.as_str(), &kept.reason))
        .collect()
}

fn differences(result: Result<TransferReport>) -> Vec<String> {
    match result {
        Err(Error::WeightsMismatch { differences, .. }) => differences,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_layer_comes_from_the_chosen_one_and_the_rest_by_name() {
    let (teacher, student) = (bert(&config(6)), bert(&config(3)));
    let (from, before) = (values(&teacher), values(&student));
    let chosen = [4, 0, 2];
    let report = Transfer::layers(chosen)
        .strict(true)
        .copy(&teacher, &student)
        .unwrap();
    let after = values(&student);
    assert!(report.kept.is_empty(), "{report}");
    assert_eq!(report.copied.len(), after.len());
    for (copied, (name, value)) in report.copied.iter().zip(&after) {
        assert_eq!(&copied.to, name);
        let mut wanted = name.clone();
        for (student, teacher) in chosen.iter().enumerate() {
            let layer = |n: usize| format!("bert.encoder.layer.{n}.");
            if name.starts_with(&layer(student)) {
                wanted = name.replace(&layer(student), &layer(*teacher));
            }
        }
        assert_eq!(copied.from, wanted);
        assert_eq!(value, &from[&wanted], "{name}");
        assert_ne!(value, &before[name], "{name}");
    }
    assert_eq!(values(&teacher), from, "the teacher stays as it is");
    assert!(
        state_dict(&student)
            .iter()
            .all(|(_, tensor)| tensor.requires_grad())
    );
}

/// Whatever the layers of a model are called, they are found without being told how.
#[test]
fn layers_of_every_model_of_the_family() {
    for model_type in [
        ModelType::Roberta,
        ModelType::XlmRoberta,
        ModelType::Electra,
        ModelType::DistilBert,
    ] {
        let config = |layers| {
            let mut config = config(layers);
            config.model_type = model_type;
            config
        };
        let (teacher, student) = (bert(&config(4)), bert(&config(2)));
        let from = values(&teacher);
        let transfer = Transfer::layers([3, 1]).strict(true);
        let report = transfer.copy(&teacher, &student).unwrap();
        assert!(report.kept.is_empty(), "{report}");
        let mut in_layers = 0;
        for (name, value) in values(&student) {
            let wanted = name.replace(".layer.0.", ".layer.3.");
            in_layers += usize::from(name.contains(".layer."));
            assert_eq!(value, from[&wanted], "{name}");
        }
        assert_eq!(in_layers, 2 * 16, "{model_type}");
    }
}

#[test]
fn a_file_is_as_good_as_the_model() {
    let (teacher, student) = (bert(&config(4)), bert(&config(2)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    // Names and dtype of an old checkpoint.
    let renamed = state_dict(&teacher).into_iter().map(|(name, tensor)| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        let name = name.replace("LayerNorm.bias", "LayerNorm.beta");
        (name, tensor.to_kind(Kind::Double))
    });
    save(&path, &renamed.collect::<Vec<_>>(), &BTreeMap::new()).unwrap();

    let transfer = Transfer::layers([1, 3]).strict(true);
    let report = transfer.copy_file(&path, &student).unwrap();
    let by_file = values(&student);
    let norm = "bert.encoder.layer.1.output.LayerNorm.";
    let norm = report
        .copied
        .iter()
        .find(|copied| copied.to == format!("{norm}weight"));
    assert_eq!(
        norm.unwrap().from,
        "bert.encoder.layer.3.output.LayerNorm.gamma"
    );

    let other = bert(&config(2));
    transfer.copy(&teacher, &other).unwrap();
    assert_eq!(by_file, values(&other));
    assert!(by_file.values().all(|tensor| tensor.kind() == Kind::Float));

    let missing = folder.path().join("none.safetensors");
    assert!(matches!(
        transfer.copy_file(missing, &other),
        Err(Error::Io { .. })
    ));
}

#[test]
fn what_does_not_fit_keeps_its_values_and_is_reported() {
    let teacher = bert(&config(4));
    // Another vocabulary, a narrower middle, more labels, and one layer too many.
    let student = config(3).vocab_size(20).intermediate_size(6).num_labels(3);
    let student = bert(&student);
    let (from, before) = (values(&teacher), values(&student));
    let report = Transfer::layers([1, 3]).copy(&teacher, &student).unwrap();
    let after = values(&student);

    let shape = |name: &str| KeptReason::Shape {
        teacher: from[name].size(),
        student: before[name].size(),
    };
    let mut expected: Vec<(String, KeptReason)> = Vec::new();
    for name in [
        "bert.embeddings.word_embeddings.weight",
        "classifier.bias",
        "classifier.weight",
    ] {
        expected.push((name.to_owned(), shape(name)));
    }
    for layer in 0..2 {
        for name in [
            "intermediate.dense.bias",
            "intermediate.dense.weight",
            "output.dense.weight",
        ] {
            let name = format!("bert.encoder.layer.{layer}.{name}");
            let reason = shape(&name);
            expected.push((name, reason));
        }
    }
    for name in before
        .keys()
        .filter(|name| name.starts_with("bert.encoder.layer.2."))
    {
        expected.push((name.clone(), KeptReason::LayerNotChosen(2)));
    }
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, reason)| (name.as_str(), reason))
        .collect();
    assert_eq!(kept(&report), expected);
    assert_eq!(report.copied.len() + report.kept.len(), before.len());
    for (name, _) in kept(&report) {
        assert_eq!(after[name], before[name], "{name}");
    }
    for copied in &report.copied {
        assert_eq!(after[&copied.to], from[&copied.from], "{}", copied.to);
    }

    let shown = report.to_string();
    let lines: Vec<_> = shown.lines().collect();
    let (copied, total) = (report.copied.len(), before.len());
    assert_eq!(lines[0], format!("{copied} of {total} weights were copied"));
    assert_eq!(lines.len(), total + 2);
    let row = |start: &str| {
        *lines
            .iter()
            .find(|line| line.trim().starts_with(start))
            .unwrap()
    };
    let query = row("bert.encoder.layer.0.attention.self.query.bias ");
    assert!(
        query.ends_with(" <- bert.encoder.layer.1.attention.self.query.bias"),
        "{query}"
    );
    let words = row("bert.embeddings.word_embeddings.weight ");
    assert!(
        words.ends_with("  shape [20, 8], the teacher's is [30, 8]"),
        "{words}"
    );
    assert!(
        shown.contains("no layer was chosen for the student's layer 2"),
        "{shown}"
    );
}

#[test]
fn a_student_narrower_all_over_keeps_its_embeddings() {
    let (teacher, student) = (bert(&config(4)), bert(&config(2).hidden_size(4)));
    let before = values(&student);
    let report = Transfer::layers([1, 3]).copy(&teacher, &student).unwrap();
    // Of its shapes only those without the hidden size are the teacher's.
    let copied: Vec<_> = report
        .copied
        .iter()
        .map(|copied| copied.to.as_str())
        .collect();
    let bias = |layer| format!("bert.encoder.layer.{layer}.intermediate.dense.bias");
    assert_eq!(copied, [&bias(0), &bias(1), "classifier.bias"]);
    let embeddings: Vec<_> = kept(&report)
        .into_iter()
        .filter(|(name, _)| name.starts_with("bert.embeddings."))
        .collect();
    assert_eq!(embeddings.len(), 5, "{report}");
    for (name, reason) in embeddings {
        assert!(
            matches!(reason, KeptReason::Shape { .. }),
            "{name}: {reason}"
        );
        assert_eq!(values(&student)[name], before[name]);
    }
}

#[test]
fn strict_refuses_with_everything_and_changes_nothing() {
    let (teacher, student) = (bert(&config(4)), bert(&config(3).vocab_size(20)));
    let before = values(&student);
    let transfer = Transfer::layers([0, 3]).strict(true);
    let shown = differences(transfer.copy(&teacher, &student));
    let layer = before
        .keys()
        .filter(|name| name.contains("layer.2."))
        .count();
    assert_eq!(shown.len(), 1 + layer, "{shown:#?}");
    assert_eq!(
        shown[0],
        "`bert.embeddings.word_embeddings.weight`: shape [20, 8], the teacher's is [30, 8]"
    );
    assert_eq!(values(&student), before);

    // What is excepted may stay.
    let names = ["bert.embeddings.word_embeddings", "bert.encoder.layer.2."];
    let transfer = transfer.except(Names::starting_with(names));
    let report = transfer.copy(&teacher, &student).unwrap();
    assert_eq!(report.kept.len(), 1 + layer);
    assert!(
        report
            .kept
            .iter()
            .all(|kept| kept.reason == KeptReason::Excepted)
    );
}

#[test]
fn layers_that_are_not_there_are_named() {
    let (teacher, student) = (bert(&config(4)), bert(&config(2)));
    let before = values(&student);
    let shown = |transfer: Transfer| transfer.copy(&teacher, &student).unwrap_err().to_string();
    assert_eq!(
        shown(Transfer::layers([0, 7])),
        "Transfer::layers[1] = 7: the teacher has no layer 7 (`encoder.layer.7.`); it has 0, 1, 2, 3"
    );
    assert_eq!(
        shown(Transfer::layers([0, 1, 3])),
        "Transfer::layers[2] = 3: the student has no layer 2 (`encoder.layer.2.`); it has 0, 1"
    );
    assert_eq!(
        shown(Transfer::layers([1]).layer_pattern("transformer.h.{}.")),
        "Transfer::layers[0] = 1: the teacher has no layer 1 (`transformer.h.1.`); no weight of \
         it is named `transformer.h.{}.`; set `layer_pattern`"
    );
    assert_eq!(
        shown(Transfer::layers([1]).layer_pattern("encoder.layer.")),
        "layer_pattern: must have `{}` once, where the number of the layer is, as in \
         `encoder.layer.{}.`; is `encoder.layer.`"
    );
    assert_eq!(values(&student), before);
}

fn map<const N: usize>(tensors: [(&str, Tensor); N]) -> BTreeMap<String, Tensor> {
    tensors
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into()
}

fn all(value: f32) -> Tensor {
    Tensor::full([2], f64::from(value), (Kind::Float, Device::Cpu))
}

#[test]
fn other_names_and_prefixes() {
    let teacher = map([
        ("gpt.h.0.bias", all(1.0)),
        ("gpt.h.1.bias", all(2.0)),
        ("gpt.words", all(3.0)),
        ("steps", Tensor::from_slice(&[1i64, 2])),
    ]);
    let student = map([
        ("h.0.bias", all(0.0)),
        ("h.0.scale", all(0.0)),
        ("steps", all(0.0)),
        ("words", all(0.0)),
    ]);
    let transfer = Transfer::layers([1]).layer_pattern("h.{}.");
    let report = transfer
        .clone()
        .base_prefix("gpt")
        .copy_tensors(&teacher, &student)
        .unwrap();
    assert_eq!(student["h.0.bias"], all(2.0));
    assert_eq!(student["words"], all(3.0));
    let absent = KeptReason::Absent("h.1.scale".to_owned());
    let dtype = KeptReason::Dtype {
        teacher: Kind::Int64,
        student: Kind::Float,
    };
    assert_eq!(kept(&report), [("h.0.scale", &absent), ("steps", &dtype)]);

    // Without the prefix nothing fits, which cannot be what was meant.
    let shown = differences(transfer.copy_tensors(&teacher, &student));
    assert_eq!(shown.len(), 4);
    assert_eq!(shown[0], "`h.0.bias`: the teacher has no `h.1.bias`");
    let shown = differences(transfer.except(Names::All).copy_tensors(&teacher, &student));
    assert_eq!(shown[3], "`words`: excepted");
}

#[test]
fn a_model_can_be_its_own_teacher() {
    let layers = map([
        ("encoder.layer.0.bias", all(1.0)),
        ("encoder.layer.1.bias", all(2.0)),
    ]);
    Transfer::layers([1, 0])
        .copy_tensors(&layers, &layers)
        .unwrap();
    assert_eq!(layers["encoder.layer.0.bias"], all(2.0));
    assert_eq!(layers["encoder.layer.1.bias"], all(1.0));
}

/// A teacher that was compiled before it was saved.
#[test]
fn a_prefix_before_the_names_of_the_teacher_is_left_out() {
    let (teacher, student) = (bert(&config(6)), bert(&config(3)));
    let compiled: BTreeMap<_, _> = values(&teacher)
        .into_iter()
        .map(|(name, tensor)| (format!("_orig_mod.{name}"), tensor))
        .collect();
    let into = state_dict(&student).into_iter().collect();
    let report = Transfer::layers([1, 3, 5])
        .copy_tensors(&compiled, &into)
        .unwrap();
    assert!(report.kept.is_empty(), "{report}");
    let copied = |to: &str| report.copied.iter().find(|copied| copied.to == to).unwrap();
    let (name, chosen) = (
        "bert.encoder.layer.1.output.dense.bias",
        "bert.encoder.layer.3.output.dense.bias",
    );
    assert_eq!(copied(name).from, format!("_orig_mod.{chosen}"));
    assert_eq!(values(&student)[name], values(&teacher)[chosen]);
}
