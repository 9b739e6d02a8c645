//! Whole training runs of tiny BERTs, in the order in which the original did them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use tch::Tensor;
use tch::nn::VarStore;
use textbrewer::data::TaskLoader;
use textbrewer::distiller::Task;
use textbrewer::models::{
    Bert, BertConfig, BertInputs, Head, LogitsOutput, QuestionAnswering, QuestionAnsweringOutput,
    SequenceClassification, TokenClassification,
};
use textbrewer::optim::{Optimizer, ParamGroup, param_groups};
use textbrewer::schedule::{constant_with_warmup, cosine_with_warmup, linear_with_warmup};
use textbrewer::weights::{self, LoadOptions};
use textbrewer::{
    AdamW, AdaptorOutput, BasicDistiller, BasicTrainer, Batch, DataLoader, DistillationConfig,
    Distiller, Error, GeneralDistiller, MemorySink, Model, MultiTaskDistiller,
    MultiTeacherDistiller, Result, Run, TrainingConfig, VecLoader,
};

use super::compare::{Expected, Observed, compare, compare_finals, stem};
use crate::common::device::device;
use crate::common::{golden, read_json, read_tensors, record};

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
    scheduler: Option<PresetSpec>,
    max_grad_norm: f64,
    num_epochs: Option<u64>,
    num_steps: Option<u64>,
    batches: serde_json::Value,
    tasks: Option<Tasks>,
    cache_order: Option<Vec<Vec<usize>>>,
}

#[derive(Deserialize)]
struct Tasks {
    names: Vec<String>,
    order: Vec<String>,
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
struct PresetSpec {
    r#type: String,
    num_warmup_steps: u64,
    #[serde(default)]
    num_training_steps: u64,
}

#[test]
fn every_training_run_is_the_originals() {
    let Some(folder) = golden("trainings") else {
        return;
    };
    // On a busy machine, threads that wait for each other take a hundred times as long.
    tch::set_num_threads(1);
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
        ran += 1;
        if let Err(difference) = run_case(&path, raw) {
            failures.push(format!("{name}: {difference}"));
        }
    }
    assert!(ran > 0, "no case that can be run in {}", folder.display());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{ran} training runs");
}

fn run_case(path: &Path, raw: serde_json::Value) -> std::result::Result<(), String> {
    let case: Case = serde_json::from_value(raw).map_err(|error| error.to_string())?;
    let inputs: BTreeMap<String, Tensor> = read_tensors(&path.join("inputs.safetensors"))
        .into_iter()
        .collect();
    let observed = match case.task.as_str() {
        "sequence_classification" => observe::<SequenceClassification>(&case, &inputs),
        "token_classification" => observe::<TokenClassification>(&case, &inputs),
        "question_answering" => observe::<QuestionAnswering>(&case, &inputs),
        other => return Err(format!("unknown task `{other}`")),
    };
    let observed = observed.map_err(|error| error.to_string())?;
    note(path, &observed);
    let expected: Expected = serde_json::from_value(read_json(&path.join("expected.json")))
        .map_err(|error| error.to_string())?;
    compare(&observed, &expected)?;
    compare_finals(&observed.finals, &path.join("final.safetensors"))
}

/// For `tests/same_bytes.sh`.
fn note(path: &Path, observed: &Observed) {
    let name = stem(path);
    let losses = observed.losses.iter().flat_map(|losses| {
        let step = losses["step"] as u64;
        losses
            .iter()
            .map(move |(tag, value)| (tag.clone(), step, value.to_bits()))
    });
    record::losses(&name, losses);
    record::tensors(&name, &observed.finals);
}

/// Runs the case.
fn observe<H: Head + 'static>(case: &Case, inputs: &BTreeMap<String, Tensor>) -> Result<Observed>
where
    Bert<H>: Model<BertInputs, Output: Outputs>,
{
    let folder = tempfile::tempdir().expect("a folder");
    let (student, student_vars) = model::<H>(&case.student, "student.", inputs)?;
    let train_config = case
        .train_config
        .clone()
        .device(device())
        .output_dir(folder.path());
    let student_keys = case.adaptor.student.clone();
    let student_adaptor =
        move |batch: &BertInputs, output: &_| Ok(adapt(&student_keys, batch, output));
    let teacher_keys = case.adaptor.teacher.clone();
    let teacher_adaptor =
        move |batch: &BertInputs, output: &_| Ok(adapt(&teacher_keys, batch, output));
    let teachers = case.teachers.iter().enumerate();
    let teachers = teachers.map(|(i, config)| model::<H>(config, &format!("teacher.{i}."), inputs));
    let teachers = teachers.collect::<Result<Vec<_>>>()?;
    let distill_config = || {
        let mut config = case.distill_config.clone().unwrap_or_default();
        if ["general", "multi_task"].contains(&case.distiller.as_str()) {
            // These of the original switch caching off without a word.
            config.is_caching_logits = false;
        }
        config
    };

    if let Some(tasks) = &case.tasks {
        let mut builder = MultiTaskDistiller::builder(&student, &student_vars)
            .train_config(train_config)
            .distill_config(distill_config());
        let mut loader = TaskLoader::new().order(tasks.order.clone());
        for (name, (teacher, _)) in tasks.names.iter().zip(&teachers) {
            let task = Task::new()
                .teacher(teacher, teacher_adaptor.clone())
                .student_adaptor(student_adaptor.clone());
            builder = builder.task(name, task);
            let count = case.batches[name].as_u64().expect("a number of batches");
            let prefix = format!("batch.{name}");
            loader = loader.task(name, VecLoader::new(batches(inputs, &prefix, count))?);
        }
        let mut distiller = builder.build()?;
        let projections = load_projections(distiller.projections(), inputs)?;
        return train(
            &mut distiller,
            case,
            &mut loader,
            &student_vars,
            projections,
        );
    }

    let count = case.batches.as_u64().expect("a number of batches");
    let mut loader = Recorded {
        batches: batches(inputs, "batch", count),
        order: case.cache_order.clone().unwrap_or_default(),
        rest: Vec::new(),
        last: None,
    };
    match case.distiller.as_str() {
        "trainer" => {
            let mut trainer = BasicTrainer::builder(&student, &student_vars)
                .train_config(train_config)
                .adaptor(student_adaptor)
                .build()?;
            train(&mut trainer, case, &mut loader, &student_vars, Vec::new())
        }
        "basic" => {
            let (teacher, _) = teachers.first().expect("a teacher");
            let mut distiller = BasicDistiller::builder(teacher, &student, &student_vars)
                .train_config(train_config)
                .distill_config(distill_config())
                .teacher_adaptor(teacher_adaptor)
                .student_adaptor(student_adaptor)
                .build()?;
            train(&mut distiller, case, &mut loader, &student_vars, Vec::new())
        }
        "general" => {
            let (teacher, _) = teachers.first().expect("a teacher");
            let mut distiller = GeneralDistiller::builder(teacher, &student, &student_vars)
                .train_config(train_config)
                .distill_config(distill_config())
                .teacher_adaptor(teacher_adaptor)
                .student_adaptor(student_adaptor)
                .build()?;
            let projections = load_projections(distiller.projections(), inputs)?;
            train(
                &mut distiller,
                case,
                &mut loader,
                &student_vars,
                projections,
            )
        }
        "multi_teacher" => {
            let mut distiller = MultiTeacherDistiller::builder(&student, &student_vars)
                .teachers(teachers.iter().map(|(teacher, _)| teacher), teacher_adaptor)
                .student_adaptor(student_adaptor)
                .train_config(train_config)
                .distill_config(distill_config())
                .build()?;
            train(&mut distiller, case, &mut loader, &student_vars, Vec::new())
        }
        other => Err(Error::other(format!("unknown distiller `{other}`"))),
    }
}

/// Sets the projections to those of the case, and returns them by name.
fn load_projections(
    projections: &VarStore,
    inputs: &BTreeMap<String, Tensor>,
) -> Result<Vec<(String, Tensor)>> {
    let given = inputs
        .iter()
        .filter(|(name, _)| name.starts_with("projection."))
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
        .collect();
    weights::load_into(projections, &given, "inputs", &LoadOptions::new())?;
    Ok(weights::state_dict(projections))
}

/// Gives batches in the order in which the original used them.
struct Recorded {
    batches: Vec<BertInputs>,
    order: Vec<Vec<usize>>,
    rest: Vec<usize>,
    last: Option<u64>,
}

impl DataLoader for Recorded {
    type Batch = BertInputs;

    fn num_batches(&self) -> Option<usize> {
        Some(self.batches.len())
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        let recorded = self.order.get(epoch as usize - 1).cloned();
        self.rest = recorded.unwrap_or_else(|| (0..self.batches.len()).collect());
        self.rest.reverse();
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<BertInputs>> {
        let index = self.rest.pop();
        self.last = index.map(|index| index as u64);
        index
            .map(|index| self.batches[index].to_device(device()))
            .transpose()
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn batch_id(&self) -> Option<u64> {
        self.last
    }
}

fn model<H: Head>(
    config: &BertConfig,
    prefix: &str,
    inputs: &BTreeMap<String, Tensor>,
) -> Result<(Bert<H>, VarStore)> {
    let variables = VarStore::new(device());
    let model = Bert::<H>::new(&variables.root(), config)?
        .output_hidden_states(true)
        .output_attentions(true);
    let given = inputs
        .iter()
        .filter_map(|(name, tensor)| {
            Some((
                name.strip_prefix(prefix)?.to_owned(),
                tensor.shallow_clone(),
            ))
        })
        .collect();
    weights::load_into(&variables, &given, prefix, &LoadOptions::new())?;
    Ok((model, variables))
}

fn batches(inputs: &BTreeMap<String, Tensor>, prefix: &str, count: u64) -> Vec<BertInputs> {
    let batch = |index: u64| {
        let get = |key: &str| {
            let tensor = inputs.get(&format!("{prefix}.{index}.{key}"))?;
            Some(tensor.shallow_clone())
        };
        let mut batch = BertInputs::new(get("input_ids").expect("input_ids"));
        batch.attention_mask = get("attention_mask");
        batch.token_type_ids = get("token_type_ids");
        batch.labels = get("labels");
        batch.start_positions = get("start_positions");
        batch.end_positions = get("end_positions");
        batch
    };
    (0..count).map(batch).collect()
}

/// What every head's output has.
trait Outputs {
    fn logits(&self) -> Vec<&Tensor>;
    fn loss(&self) -> Option<&Tensor>;
    fn hidden(&self) -> &[Tensor];
    fn attention(&self) -> &[Tensor];
}

impl Outputs for LogitsOutput {
    fn logits(&self) -> Vec<&Tensor> {
        vec![&self.logits]
    }
    fn loss(&self) -> Option<&Tensor> {
        self.loss.as_ref()
    }
    fn hidden(&self) -> &[Tensor] {
        &self.hidden_states
    }
    fn attention(&self) -> &[Tensor] {
        &self.attentions
    }
}

impl Outputs for QuestionAnsweringOutput {
    fn logits(&self) -> Vec<&Tensor> {
        vec![&self.start_logits, &self.end_logits]
    }
    fn loss(&self) -> Option<&Tensor> {
        self.loss.as_ref()
    }
    fn hidden(&self) -> &[Tensor] {
        &self.hidden_states
    }
    fn attention(&self) -> &[Tensor] {
        &self.attentions
    }
}

fn adapt(keys: &[String], batch: &BertInputs, output: &impl Outputs) -> AdaptorOutput {
    let mut adapted = AdaptorOutput::new();
    let mask = || batch.attention_mask.as_ref().expect("an attention mask");
    for key in keys {
        adapted = match key.as_str() {
            "logits" => output
                .logits()
                .into_iter()
                .fold(adapted, |adapted, logits| adapted.logits(logits)),
            "losses" => adapted.losses(output.loss().expect("a loss")),
            "hidden" => adapted.hidden(output.hidden()),
            "attention" => adapted.attention(output.attention()),
            "inputs_mask" => adapted.inputs_mask(mask()),
            "logits_mask" => adapted.logits_mask(mask()),
            "labels" => [&batch.labels, &batch.start_positions, &batch.end_positions]
                .into_iter()
                .flatten()
                .fold(adapted, |adapted, labels| adapted.labels(labels)),
            other => panic!("unknown adaptor key `{other}`"),
        };
    }
    adapted
}

fn train<B: Batch + 'static, S: 'static>(
    distiller: &mut dyn Distiller<Batch = B, Student = S>,
    case: &Case,
    loader: &mut dyn DataLoader<Batch = B>,
    variables: &VarStore,
    projections: Vec<(String, Tensor)>,
) -> Result<Observed> {
    let rates = Rc::new(RefCell::new(Vec::new()));
    let sink = MemorySink::new();
    let mut callback_steps = Vec::new();
    let no_decay: Vec<&str> = case.optimizer.no_decay.iter().map(String::as_str).collect();
    let spec = &case.optimizer;
    let mut optimizer = AdamW::new(spec.lr)
        .betas(spec.betas.0, spec.betas.1)
        .eps(spec.eps)
        .weight_decay(spec.weight_decay);
    for group in param_groups(variables, &no_decay) {
        optimizer.add_group(group)?;
    }
    let optimizer = Recording {
        inner: optimizer,
        rates: Rc::clone(&rates),
    };
    let mut run = Run::new(distiller, loader)
        .optimizer(optimizer)
        .max_grad_norm(case.max_grad_norm)
        .log_sink(sink.clone())
        .progress(false)
        .callback(|_, info| {
            callback_steps.push(info.global_step);
            Ok(())
        });
    if let Some(spec) = &case.scheduler {
        let (warmup, total) = (spec.num_warmup_steps, spec.num_training_steps);
        run = match spec.r#type.as_str() {
            "linear_with_warmup" => run.schedule(linear_with_warmup(warmup, total)),
            "cosine_with_warmup" => run.schedule(cosine_with_warmup(warmup, total)),
            "constant_with_warmup" => run.schedule(constant_with_warmup(warmup)),
            other => panic!("unknown scheduler `{other}`"),
        };
    }
    run = match (case.num_steps, case.num_epochs) {
        (Some(steps), _) => run.steps(steps),
        (None, Some(epochs)) => run.epochs(epochs),
        (None, None) => panic!("neither num_steps nor num_epochs"),
    };
    let summary = run.run()?;

    let saved = summary.checkpoints.iter().map(|path| stem(path)).collect();
    let mut finals: BTreeMap<String, Tensor> = weights::state_dict(variables)
        .into_iter()
        .map(|(name, tensor)| (format!("student.{name}"), tensor))
        .collect();
    finals.extend(projections);
    let learning_rates = rates.borrow().clone();
    Ok(Observed {
        losses: logged(&sink),
        learning_rates,
        saved,
        callback_steps,
        finals,
    })
}

/// The logged scalars, step by step, without the `scalar/` of their tags.
fn logged(sink: &MemorySink) -> Vec<BTreeMap<String, f64>> {
    let mut steps: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
    for (tag, value, step) in sink.scalars() {
        let name = tag.strip_prefix("scalar/").expect("TextBrewer's prefix");
        if name.starts_with("learning_rate") || name == "grad_norm" || name == "metric" {
            continue; // TextBrewer logs losses.
        }
        steps
            .entry(step)
            .or_default()
            .insert(name.to_owned(), value);
    }
    let with_step = |(step, mut losses): (u64, BTreeMap<String, f64>)| {
        losses.insert("step".to_owned(), step as f64);
        losses
    };
    steps.into_iter().map(with_step).collect()
}

/// Notes every group's learning rate at every step.
struct Recording {
    inner: AdamW,
    rates: Rc<RefCell<Vec<Vec<f64>>>>,
}

impl Optimizer for Recording {
    fn add_group(&mut self, group: ParamGroup) -> Result<()> {
        self.inner.add_group(group)
    }
    fn groups(&self) -> &[ParamGroup] {
        self.inner.groups()
    }
    fn zero_grad(&mut self) -> Result<()> {
        self.inner.zero_grad()
    }
    fn step(&mut self, factor: f64) -> Result<()> {
        let rate = |group: &ParamGroup| group.options.learning_rate.expect("filled in") * factor;
        let rates = self.inner.groups().iter().map(rate).collect();
        self.rates.borrow_mut().push(rates);
        self.inner.step(factor)
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.inner.state()
    }
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.inner.load_state(state)
    }
}
