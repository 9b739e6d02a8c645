//! The trainings: on labels, and on what teachers say.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tch::nn::VarStore;
use textbrewer::checkpoint::{Keep, Mode};
use textbrewer::models::{BertInputs, Head};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::weights::{load_file, LoadOptions};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DataLoader, Distiller, EmdConfig, EmdDistiller,
    GeneralDistiller, MultiTeacherDistiller, ProjectionSpec, Side, TrainingConfig,
};

use crate::data::{Bench, Data};
use crate::evaluate::evaluate;
use crate::models::{Model, Network};
use crate::outcome::Outcome;
use crate::outputs::Answers;
use crate::recipe::{DistillerKind, Kept, PROJECTION_RATE};
use crate::task::Task;
use crate::{disk, Error, Result};

/// Parameters that are not drawn to zero, as the models call them.
const NO_DECAY: [&str; 3] = ["bias", "LayerNorm.weight", "layer_norm.weight"];

/// Those of the names that there are.
fn no_decay(variables: &VarStore) -> Vec<&'static str> {
    let names = variables.variables();
    let there = |part: &&str| names.keys().any(|name| name.contains(*part));
    NO_DECAY.into_iter().filter(there).collect()
}

/// A training that is about to begin.
#[derive(Debug)]
pub struct Training<'a, T: Task> {
    /// The task, tokenizer and recipe.
    pub bench: Bench<'a, T>,
    /// What is trained on.
    pub train: Data<T>,
    /// What is trained on besides.
    pub more: Vec<Data<T>>,
    /// What is evaluated on after every epoch.
    pub dev: Data<T>,
    /// The folder of the model, its checkpoints and what came of it.
    pub folder: &'a Path,
    /// Files and folders, each with a hash of what is in it.
    pub inputs: Map<String, Value>,
    /// Whether a training that was interrupted goes on.
    pub resume: bool,
    /// Whether what an earlier training left in the folder is replaced.
    pub overwrite: bool,
}

impl<T: Task> Training<'_, T> {
    /// Trains a model on the labels.
    ///
    /// # Errors
    /// Those of training, and of writing the model.
    pub fn on_labels(&self, model: &Model<T::Head>) -> Result<Outcome> {
        let trainer = BasicTrainer::builder(&model.network, &model.variables)
            .train_config(self.config())
            .adaptor(adapt::<T>)
            .build()?;
        self.run(trainer, model, true)
    }

    /// Trains a student on what teachers say.
    ///
    /// # Errors
    /// Those of training, and of writing the model.
    pub fn distill(
        &self,
        teachers: Vec<Model<T::Head>>,
        student: Model<T::Head>,
    ) -> Result<Outcome> {
        if self.bench.recipe.distiller == DistillerKind::Emd {
            return self.distill_emd(teachers, student);
        }
        let recipe = self.bench.recipe;
        let first = teachers.first().ok_or_else(no_teacher)?;
        let config = if student.layers().is_some() {
            recipe.distill_config(first.shape(), student.shape())?
        } else {
            if !recipe.hidden_matches.is_empty() {
                println!("a BiGRU has no layers: `hidden_matches` of the recipe are left out");
            }
            recipe.distillation.clone()
        };
        let showing = |model: Model<T::Head>, side| {
            let layers = |feature| config.layers(side, feature);
            model.showing(layers("hidden"), layers("attention"))
        };
        let student = showing(student, Side::Student);
        let teachers: Vec<_> = teachers
            .into_iter()
            .map(|model| showing(model, Side::Teacher))
            .collect();
        if let [teacher] = &teachers[..] {
            let builder =
                GeneralDistiller::builder(&teacher.network, &student.network, &student.variables);
            let distiller = builder
                .train_config(self.config())
                .distill_config(config)
                .adaptor(adapt::<T>)
                .build()?;
            return self.run(distiller, &student, recipe.learns_labels());
        }
        let networks = teachers.iter().map(|teacher| &teacher.network);
        let distiller = MultiTeacherDistiller::builder(&student.network, &student.variables)
            .train_config(self.config())
            .distill_config(config)
            .teachers(networks, adapt::<T>)
            .student_adaptor(adapt::<T>)
            .build()?;
        self.run(distiller, &student, recipe.learns_labels())
    }

    /// Layers matched by earth mover's distance: none are chosen.
    fn distill_emd(
        &self,
        teachers: Vec<Model<T::Head>>,
        student: Model<T::Head>,
    ) -> Result<Outcome> {
        let recipe = self.bench.recipe;
        let Ok([teacher]) = <[_; 1]>::try_from(teachers) else {
            return Err(Error::invalid("distiller `emd` takes one teacher"));
        };
        if !recipe.hidden_matches.is_empty() || student.layers().is_none() {
            let reason = "distiller `emd` matches all layers by itself: leave `hidden_matches` \
                          out, and take a student that has layers";
            return Err(Error::invalid(reason));
        }
        let mut config = EmdConfig::default().attention_weight(100.0);
        if student.width() != teacher.width() {
            let projection = ProjectionSpec::linear(student.width(), teacher.width());
            config = config.hidden_projection(projection.learning_rate(PROJECTION_RATE));
        }
        let (teacher, student) = (teacher.showing(true, true), student.showing(true, true));
        let distiller =
            EmdDistiller::builder(&teacher.network, &student.network, &student.variables)
                .train_config(self.config())
                .distill_config(recipe.distillation.clone())
                .adaptor(adapt_layers::<T>)
                .build()?
                .emd_config(config)?;
        self.run(distiller, &student, recipe.learns_labels())
    }

    /// What is trained on, batch by batch; with `labels` only what has the truth.
    ///
    /// # Errors
    /// When there is nothing to train on.
    pub fn loader(&self, labels: bool) -> Result<impl DataLoader<Batch = BertInputs> + use<'_, T>> {
        self.bench.training(&self.train, &self.more, labels)
    }

    /// Runs a training, evaluates after every epoch, and saves the model and what came of it.
    fn run<D>(&self, mut distiller: D, model: &Model<T::Head>, labels: bool) -> Result<Outcome>
    where
        D: Distiller<Batch = BertInputs, Student = Network<T::Head>>,
    {
        let recipe = self.bench.recipe;
        let device = recipe.training.device;
        // Every training draws the same dropout whatever was done before it.
        tch::manual_seed(recipe.seed as i64);
        let mut loader = self.loader(labels)?;
        self.compare_inputs()?;
        let batches = loader.num_batches().unwrap_or_default() as u64;
        let steps = steps_per_epoch(batches, &recipe.training).checked_mul(recipe.epochs);
        let steps = steps.ok_or_else(|| Error::invalid("epochs: too many to count"))?;
        let warmup = (recipe.warmup * steps as f64) as u64;

        let curve = RefCell::new(Vec::new());
        let mut evaluation = Duration::ZERO;
        let start = Instant::now();
        let run = distiller
            .train(&mut loader)
            .epochs(recipe.epochs)
            .optimizer(AdamW::new(recipe.learning_rate).weight_decay(recipe.weight_decay))
            .no_decay(no_decay(&model.variables))
            .schedule(linear_with_warmup(warmup, steps))
            .max_grad_norm(recipe.max_grad_norm)
            .seed(recipe.seed)
            .metric_mode(Mode::Max)
            .keep(Keep::last(1))
            .handle_interrupts()
            .callback(|network, checkpoint| {
                let start = Instant::now();
                let metrics = evaluate(&self.bench, network, device, &self.dev)?;
                evaluation += start.elapsed();
                let (epoch, step) = (checkpoint.epoch, checkpoint.global_step);
                println!("epoch {epoch:>3}  step {step:>6}  {metrics}");
                let main = metrics.main();
                curve.borrow_mut().push((step, metrics));
                Ok(main)
            });
        let run = if self.resume {
            run.resume_or_start()
        } else {
            run.overwrite(self.overwrite)
        };
        let summary = run.run()?;
        let seconds = (start.elapsed() - evaluation).as_secs_f64();

        let curve = curve.into_inner();
        let metrics = match summary.interrupted {
            // Whoever ends a training does not want to wait for an evaluation.
            true => None,
            false => {
                if let (Kept::Best, Some(best)) = (recipe.keep, &summary.best_path) {
                    load_file(&model.variables, best, &LoadOptions::new())?;
                }
                let last = curve.last();
                let last = last.filter(|(step, _)| *step == summary.global_steps);
                Some(match (recipe.keep, last) {
                    (Kept::Last, Some((_, metrics))) => metrics.clone(),
                    _ => evaluate(&self.bench, &model.network, device, &self.dev)?,
                })
            }
        };
        let steps = summary.global_steps - summary.resumed_from.unwrap_or(0);
        let mut outcome = Outcome {
            metrics,
            curve,
            curve_before: Vec::new(),
            parameters: model.parameters(),
            steps: summary.global_steps,
            seconds,
            steps_per_second: steps as f64 / seconds,
            interrupted: summary.interrupted,
        };
        if summary.resumed_from.is_some() {
            outcome.go_on_from(&self.results());
        }
        // Half a model must not be taken for a whole one.
        if !outcome.interrupted {
            model.save(self.folder)?;
            self.bench.pieces.copy_to(self.folder)?;
        }
        self.save(&outcome)?;
        Ok(outcome)
    }

    /// Says in the folder what is trained on, and by whom. A training that goes on must have the
    /// same, and a new one must not take the place of an earlier one unasked.
    fn compare_inputs(&self) -> Result<()> {
        let path = self.folder.join("inputs.json");
        let now = Value::from(self.inputs.clone());
        if path.exists() && self.resume {
            let then: Value = serde_json::from_str(&disk::read(&path)?)
                .map_err(|error| Error::file(&path, error.to_string()))?;
            if then != now {
                let reason = format!(
                    "the training that is to go on had other inputs: {then} then, {now} now; give \
                     it the same, or another --output-dir"
                );
                return Err(Error::file(&path, reason));
            }
        } else if path.exists() && !self.overwrite {
            let reason = "there is an earlier training in it: --resume goes on with it, \
                          --overwrite replaces it, or give another --output-dir";
            return Err(Error::file(self.folder, reason));
        }
        disk::write(&path, format!("{now:#}\n").as_bytes())
    }

    fn save(&self, outcome: &Outcome) -> Result<()> {
        let path = self.results();
        let mut results =
            serde_json::to_value(outcome).map_err(|error| Error::file(&path, error.to_string()))?;
        let mut recipe = self.bench.recipe.clone();
        recipe.training = self.config();
        results["recipe"] =
            serde_json::to_value(recipe).map_err(|error| Error::file(&path, error.to_string()))?;
        disk::write(&path, format!("{results:#}\n").as_bytes())
    }

    fn results(&self) -> PathBuf {
        self.folder.join("results.json")
    }

    /// The configuration with the folders of this training.
    fn config(&self) -> TrainingConfig {
        let mut config = self.bench.recipe.training.clone();
        config.output_dir = self.folder.join("checkpoints");
        if config.log_dir.is_none() {
            config.log_dir = Some(self.folder.join("logs"));
        }
        config
    }
}

pub(crate) fn no_teacher() -> Error {
    Error::invalid("give a teacher: --teacher FOLDER")
}

/// The same for teacher and student, whose outputs are of one type.
fn adapt<T: Task>(
    inputs: &BertInputs,
    output: &<T::Head as Head>::Output,
) -> textbrewer::Result<AdaptorOutput> {
    output.adapt(inputs)
}

/// As BERT-EMD does it: what the layers return, not what the embeddings do.
fn adapt_layers<T: Task>(
    inputs: &BertInputs,
    output: &<T::Head as Head>::Output,
) -> textbrewer::Result<AdaptorOutput> {
    let mut adapted = output.adapt(inputs)?;
    if let Some(states) = adapted.features.get_mut("hidden") {
        if !states.is_empty() {
            drop(states.remove(0));
        }
    }
    Ok(adapted)
}

/// What the schedule must know beforehand.
fn steps_per_epoch(batches: u64, config: &TrainingConfig) -> u64 {
    match config.step_on_remainder {
        true => batches.div_ceil(config.gradient_accumulation_steps),
        false => batches / config.gradient_accumulation_steps,
    }
}
