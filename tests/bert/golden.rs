//! The first loss of every golden training, as Python computed it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::Tensor;
use textbrewer::Model;
use textbrewer::models::{
    BertConfig, BertInputs, Head, QuestionAnswering, SequenceClassification, TokenClassification,
};
use textbrewer::weights::{LoadOptions, load_into, read};

use crate::{build, json};

fn golden() -> PathBuf {
    std::env::var_os("TEXTBREWER_GOLDEN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
        PathBuf::from,
    )
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
    // Vectors from elsewhere may have fewer tasks, but not none.
    let own = std::env::var_os("TEXTBREWER_GOLDEN_DIR").is_none();
    assert!(checked.len() >= if own { 3 } else { 1 }, "{checked:?}");
}
