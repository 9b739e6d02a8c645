//! Whole training runs of tiny BERTs, in the order in which the original did them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::models::{
    BertConfig, BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification,
    BertInputs,
};
use textbrewer::optim::{GroupOptions, Optimizer, ParamGroup};
use textbrewer::schedule::{constant_with_warmup, cosine_with_warmup, linear_with_warmup};
use textbrewer::weights::{self, LoadOptions};
use textbrewer::{
    AdamW, AdaptorOutput, BasicDistiller, BasicTrainer, Batch, DistillationConfig, Distiller,
    GeneralDistiller, MemorySink, Model, Result, Run, TrainingConfig, VecLoader,
};

use crate::common::{close, golden_dir, read_json, read_tensors};

#[derive(Deserialize)]
struct Case {
    distiller: String,
    task: String,
    student: BertConfig,
    teachers: Vec<BertConfig>,
    train_config: TrainingConfig,
    #[serde(default)]
    distill_config: Option<DistillationConfig>,
    adaptor: AdaptorKeys,
    optimizer: OptimizerSpec,
    scheduler: Option<SchedulerSpec>,
    max_grad_norm: f64,
    num_epochs: Option<u64>,
    num_steps: Option<u64>,
    batches: serde_json::Value,
}

#[derive(Deserialize)]
struct AdaptorKeys {
    teacher: Vec<String>,
    student: Vec<String>,
}

#[derive(Deserialize)]
struct OptimizerSpec {
    lr: f64,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    no_decay: Vec<String>,
}

#[derive(Deserialize)]
struct SchedulerSpec {
    r#type: String,
    num_warmup_steps: u64,
    #[serde(default)]
    num_training_steps: u64,
}

#[derive(Deserialize)]
struct Expected {
    losses: Vec<BTreeMap<String, f64>>,
    learning_rates: Vec<Vec<f64>>,
    saved: Vec<String>,
    callback_steps: Vec<u64>,
}

/// What a run of the crate did, in the shape of `expected.json`.
struct Observed {
    losses: Vec<BTreeMap<String, f64>>,
    learning_rates: Vec<Vec<f64>>,
    saved: Vec<String>,
    callback_steps: Vec<u64>,
    finals: BTreeMap<String, Tensor>,
}

#[test]
fn every_training_run_is_the_originals() {
    let folder = golden_dir().join("trainings");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.json").exists())
        .collect();
    names.sort();
    let (mut ran, mut failures) = (0, Vec::new());
    for path in names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let raw = read_json(&path.join("case.json"));
        if let Some(reason) = unsupported(&raw) {
            println!("not supported: {name} ({reason})");
            continue;
        }
        ran += 1;
        if let Err(difference) = run_case(&path, raw) {
            failures.push(format!("{name}: {difference}"));
        }
    }
    assert!(ran > 0, "no case that can be run in {}", folder.display());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{ran} training runs");
}

fn unsupported(case: &serde_json::Value) -> Option<String> {
    let distiller = case["distiller"].as_str().unwrap_or_default();
    if !["trainer", "basic", "general"].contains(&distiller) {
        return Some(format!("distiller `{distiller}`"));
    }
    let caches = distiller == "basic" && case["distill_config"]["is_caching_logits"] == true;
    caches.then(|| "is_caching_logits".to_owned())
}

fn run_case(path: &Path, raw: serde_json::Value) -> std::result::Result<(), String> {
    let mut case: Case = serde_json::from_value(raw).map_err(|error| error.to_string())?;
    // The original's GeneralDistiller switches caching off without a word; that gives the
    // same losses, so a case that asks for it can be run.
    if let Some(config) = &mut case.distill_config {
        config.is_caching_logits = false;
    }
    let inputs = read_tensors(&path.join("inputs.safetensors"));
    let observed = match case.task.as_str() {
        "sequence_classification" => observe(&case, &inputs, BertForSequenceClassification::new),
        "token_classification" => observe(&case, &inputs, BertForTokenClassification::new),
        "question_answering" => observe(&case, &inputs, BertForQuestionAnswering::new),
        other => return Err(format!("unknown task `{other}`")),
    };
    let observed = observed.map_err(|error| error.to_string())?;
    let expected = serde_json::from_value(read_json(&path.join("expected.json"))).unwrap();
    compare(&observed, &expected, &read_tensors(&path.join("final.safetensors")))
}
