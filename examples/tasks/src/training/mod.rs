//! Training on labels, and on the outputs of teachers.

mod distillation;
mod inputs;
mod recorded;
mod soft_labels;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tch::nn::VarStore;
use textbrewer::checkpoint::{Keep, Mode};
use textbrewer::data::Uneven;
use textbrewer::distributed::ProcessGroup;
use textbrewer::models::{BertInputs, Head};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::weights::{LoadOptions, load_file};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DataLoader, Distiller, TeacherFile, TrainingConfig,
};

use crate::data::{Bench, Sources};
use crate::evaluate::evaluate;
use crate::models::{Model, Network};
use crate::outcome::{Outcome, RESULTS};
use crate::outputs::Answers;
use crate::recipe::{Kept, Recipe};
use crate::task::Task;
use crate::terminal::tell;
use crate::{Error, Result, disk, pieces};
pub use distillation::Teachers;
pub(crate) use distillation::{config, no_teacher};
pub use inputs::Inputs;
pub(crate) use recorded::{Facts, Kept as KeptOutputs, record};
pub(crate) use soft_labels::SoftLabels;

/// Parts of the names of parameters without weight decay.
const NO_DECAY: [&str; 3] = ["bias", "LayerNorm.weight", "layer_norm.weight"];

/// Those names that the model has.
fn no_decay(variables: &VarStore) -> Vec<&'static str> {
    let names = variables.variables();
    let there = |part: &&str| names.keys().any(|name| name.contains(*part));
    NO_DECAY.into_iter().filter(there).collect()
}

/// A training that is about to start.
#[derive(Debug)]
pub struct Training<'a, T: Task> {
    /// The task, tokenizer and recipe.
    pub bench: Bench<'a, T>,
    /// The files. They are read when everything else is ready, so that other mistakes are
    /// reported first.
    pub sources: Sources,
    /// The folder for the model, its checkpoints and its results.
    pub folder: &'a Path,
    /// What must be the same when it is resumed.
    pub inputs: Inputs,
    /// The processes that do the same training together. The first one evaluates and writes files.
    pub group: &'a ProcessGroup,
    /// Whether an interrupted training is resumed.
    pub resume: bool,
    /// Whether what an earlier training left in the folder is overwritten.
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
        self.run(trainer, model, true, &[])
    }

    /// Runs a training, evaluates after every epoch, and saves the model and its results.
    ///
    /// `files` are those of teachers, which must have all examples.
    fn run<D>(
        &self,
        mut distiller: D,
        model: &Model<T::Head>,
        labels: bool,
        files: &[TeacherFile],
    ) -> Result<Outcome>
    where
        D: Distiller<Batch = BertInputs, Student = Network<T::Head>>,
    {
        let recipe = self.bench.recipe;
        let device = recipe.training.device;
        if self.group.is_first() {
            self.check_folder()?;
        }
        let train = self.bench.read_train(&self.sources.train, labels)?;
        for file in files {
            file.check_ids(train.iter().map(|example| example.id))?;
        }
        let dev = self.bench.read_dev(&self.sources.dev)?;
        let processes = self.group.world_size();
        let loader = self.bench.training(train, processes)?;
        // The run would take this process's share by itself; its length is wanted here.
        let mut loader = loader.shard(self.group.shard(Uneven::Pad)?);
        let steps = steps(loader.num_batches().unwrap_or_default() as u64, recipe)?;
        if self.group.is_first() {
            self.begin()?;
        }
        // Every training draws the same dropout, whatever ran before it.
        tch::manual_seed(recipe.seed as i64);
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
            .process_group(self.group)
            .callbacks_on_first()
            .callback(|network, checkpoint| {
                let start = Instant::now();
                let metrics = evaluate(&self.bench, network, device, &dev)?;
                evaluation += start.elapsed();
                let (epoch, step) = (checkpoint.epoch, checkpoint.global_step);
                tell(format_args!("epoch {epoch:>3}  step {step:>6}  {metrics}"));
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
        // A user who interrupts a training does not want to wait for an evaluation.
        let metrics = match summary.interrupted || !self.group.is_first() {
            true => None,
            false => {
                if let (Kept::Best, Some(best)) = (recipe.keep, &summary.best_path) {
                    load_file(&model.variables, best, &LoadOptions::new())?;
                }
                let last = curve.last();
                let last = last.filter(|(step, _)| *step == summary.global_steps);
                Some(match (recipe.keep, last) {
                    (Kept::Last, Some((_, metrics))) => metrics.clone(),
                    _ => evaluate(&self.bench, &model.network, device, &dev)?,
                })
            }
        };
        let done = summary.global_steps - summary.resumed_from.unwrap_or(0);
        let mut outcome = Outcome {
            metrics,
            curve,
            curve_before: Vec::new(),
            parameters: model.parameters(),
            steps: summary.global_steps,
            seconds,
            steps_per_second: done as f64 / seconds,
            interrupted: summary.interrupted,
        };
        if !self.group.is_first() {
            return Ok(outcome);
        }
        if summary.resumed_from.is_some() {
            outcome.go_on_from(&self.results());
        }
        // An incomplete model must not be mistaken for a complete one.
        if !outcome.interrupted {
            self.bench.pieces.copy_to(self.folder)?;
            self.save(&outcome)?;
            // The weights are written last: if they exist, so does everything else.
            model.save(self.folder)?;
        } else {
            self.save(&outcome)?;
        }
        Ok(outcome)
    }

    /// A resumed training must have the same inputs as before, and a new one must not overwrite
    /// anything without being asked to.
    fn check_folder(&self) -> Result<()> {
        // A folder that cannot be created is an error now.
        std::fs::create_dir_all(self.folder).map_err(|error| Error::io(self.folder, error))?;
        if self.overwrite {
            return Ok(());
        }
        let refuse = |reason| Err(Error::file(self.folder, reason));
        // A process that was killed may have left other names.
        let has_entries = |folder: PathBuf, prefix: &str| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut names = entries.map(|entry| entry.file_name());
            names.any(|name| name.to_string_lossy().starts_with(prefix))
        };
        let begins = || {
            let folder = self.folder.display();
            tell(format_args!(
                "nothing to resume in {folder}: starting a new training"
            ));
            Ok(())
        };
        let checkpoints = self.config().output_dir;
        let has_states = has_entries(checkpoints.join("state"), "gs");
        let has_model = self.model().exists();
        if self.resume && Inputs::file(self.folder).exists() {
            return match (has_states, has_model) {
                (true, _) => {
                    self.inputs.compare(self.folder)?;
                    tell(format_args!("resuming {}", self.folder.display()));
                    Ok(())
                }
                (false, true) => refuse(
                    "the training in it has ended, and its checkpoints are gone: --overwrite \
                     trains anew",
                ),
                // It had not reached its first checkpoint.
                (false, false) => begins(),
            };
        }
        let others = ["config.json", RESULTS].into_iter().chain(pieces::FILES);
        let is_taken = others.map(|name| self.folder.join(name).exists());
        if has_entries(checkpoints, "") || has_model || is_taken.into_iter().any(|taken| taken) {
            return refuse(match self.resume {
                true => {
                    "there is a model in it, and no `inputs.json` of a training to resume: \
                     --overwrite trains anew, or give another --output-dir"
                }
                false => {
                    "there is an earlier training or a model in it: --resume continues a \
                     training, --overwrite replaces what is there, or give another --output-dir"
                }
            });
        }
        match self.resume {
            true => begins(),
            false => Ok(()),
        }
    }

    /// Writes the inputs to the folder. Files of an earlier training must never be mistaken for
    /// those of this one, so its states are removed before its inputs are replaced.
    fn begin(&self) -> Result<()> {
        if self.overwrite {
            disk::remove(&Inputs::file(self.folder))?;
            let checkpoints = self.config().output_dir;
            disk::remove_folder(&checkpoints.join("state"))?;
            disk::remove(&checkpoints.join("best.safetensors"))?;
            disk::remove(&self.results())?;
            disk::remove(&self.model())?;
        }
        self.inputs.write(self.folder)
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
        self.folder.join(RESULTS)
    }

    fn model(&self) -> PathBuf {
        self.folder.join("model.safetensors")
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

/// The adaptor of teacher and student, whose outputs have the same type.
fn adapt<T: Task>(
    inputs: &BertInputs,
    output: &<T::Head as Head>::Output,
) -> textbrewer::Result<AdaptorOutput> {
    output.adapt(inputs)
}

/// Optimizer steps of all epochs, which the schedule needs in advance.
fn steps(batches: u64, recipe: &Recipe) -> Result<u64> {
    let config = &recipe.training;
    let each = config.gradient_accumulation_steps;
    let of_epoch = match config.step_on_remainder {
        true => batches.div_ceil(each),
        false => batches / each,
    };
    if of_epoch == 0 {
        return Err(Error::invalid(format!(
            "gradient_accumulation_steps: {each} batches are a step, and an epoch has {batches}"
        )));
    }
    let steps = of_epoch.checked_mul(recipe.epochs);
    steps.ok_or_else(|| Error::invalid("epochs: too many to count"))
}
