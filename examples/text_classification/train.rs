//! The trainings: on labels, and on what a teacher says.

use std::cell::RefCell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use textbrewer::models::{BertForSequenceClassification, BertInputs, LogitsOutput};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    display_parameters, AdamW, AdaptorOutput, BasicTrainer, DataLoader, DistillationConfig,
    Distiller, ExampleLoader, GeneralDistiller, TrainingConfig,
};

use crate::classifier::Classifier;
use crate::evaluate::{accuracy, Outcome};
use crate::tokenize::{copy_files, Example, Pieces};

/// What all trainings have in common.
pub struct Workshop<'a> {
    pub config: TrainingConfig,
    pub pieces: Pieces,
    /// The folder of the tokenizer.
    pub tokenizer_dir: &'a Path,
    pub train: Vec<Example>,
    pub dev: Vec<Example>,
    pub batch_size: usize,
    pub seed: u32,
}

/// What one training is.
pub struct Stage {
    /// Its name in the table.
    pub name: &'static str,
    /// Its folder below those for models and logs.
    pub folder: &'static str,
    pub epochs: u64,
    pub learning_rate: f64,
}

impl Workshop<'_> {
    /// Trains a model on the labels, and saves it.
    pub fn fine_tune(&self, stage: &Stage, model: &Classifier) -> Result<Outcome, Box<dyn Error>> {
        let trainer = BasicTrainer::builder(&model.model, &model.variables)
            .train_config(self.stage_config(stage))
            .adaptor(adaptor)
            .build()?;
        self.run(stage, trainer, model, None)
    }

    /// Trains a student on what its teacher says, and saves it.
    pub fn distil(
        &self,
        stage: &Stage,
        config: DistillationConfig,
        (teacher, teacher_accuracy): (&Classifier, f64),
        student: &Classifier,
    ) -> Result<Outcome, Box<dyn Error>> {
        println!("\nDistillationConfig\n{config}");
        let distiller =
            GeneralDistiller::builder(&teacher.model, &student.model, &student.variables)
                .train_config(self.stage_config(stage))
                .distill_config(config)
                .adaptor(adaptor)
                .build()?;
        self.run(stage, distiller, student, Some(teacher_accuracy))
    }

    /// The accuracy of a model on the development set.
    pub fn accuracy(&self, model: &Classifier) -> textbrewer::Result<f64> {
        let collate = |examples: &[&Example]| self.pieces.batch(examples);
        let mut loader = ExampleLoader::new(self.dev.clone(), self.batch_size, collate)?;
        accuracy(&model.model, &mut loader, self.config.device)
    }

    /// The folder of a stage's model.
    pub fn model_dir(&self, stage: &Stage) -> PathBuf {
        self.config.output_dir.join(stage.folder)
    }

    fn stage_config(&self, stage: &Stage) -> TrainingConfig {
        let mut config = self.config.clone();
        config.output_dir = self.model_dir(stage).join("checkpoints");
        config.log_dir = config.log_dir.map(|folder| folder.join(stage.folder));
        config
    }

    fn run<D>(
        &self,
        stage: &Stage,
        mut distiller: D,
        trained: &Classifier,
        teacher_accuracy: Option<f64>,
    ) -> Result<Outcome, Box<dyn Error>>
    where
        D: Distiller<Batch = BertInputs, Student = BertForSequenceClassification>,
    {
        println!("\n{}", stage.name);
        // Every stage draws the same dropout and order whatever was trained before it.
        tch::manual_seed(i64::from(self.seed));
        let collate = |examples: &[&Example]| self.pieces.batch(examples);
        let mut dev = ExampleLoader::new(self.dev.clone(), self.batch_size, collate)?;
        let mut loader = ExampleLoader::new(self.train.clone(), self.batch_size, collate)?
            .shuffle(u64::from(self.seed))
            .drop_last();
        let batches = loader.num_batches().unwrap_or_default() as u64;
        let steps = stage.epochs * steps_per_epoch(batches, &self.config);

        let curve = RefCell::new(Vec::new());
        let mut evaluation_seconds = 0.0;
        let start = Instant::now();
        let summary = distiller
            .train(&mut loader)
            .epochs(stage.epochs)
            .optimizer(AdamW::new(stage.learning_rate).weight_decay(0.01))
            .no_decay(["bias", "LayerNorm.weight"])
            .schedule(linear_with_warmup(steps / 10, steps))
            .max_grad_norm(1.0)
            // The folder is this example's; running it again writes the same files.
            .overwrite(true)
            .callback(|model, checkpoint| {
                let start = Instant::now();
                let accuracy = accuracy(model, &mut dev, self.config.device)?;
                evaluation_seconds += start.elapsed().as_secs_f64();
                curve.borrow_mut().push(accuracy);
                let (epoch, step) = (checkpoint.epoch, checkpoint.global_step);
                print!(
                    "epoch {epoch}  step {step:>6}  accuracy {:.1} %",
                    100.0 * accuracy
                );
                match teacher_accuracy {
                    Some(teacher) => println!("  (teacher {:.1} %)", 100.0 * teacher),
                    None => println!(),
                }
                Ok(())
            })
            .run()?;
        let seconds = start.elapsed().as_secs_f64() - evaluation_seconds;

        let folder = self.model_dir(stage);
        trained.model.save_pretrained(&trained.variables, &folder)?;
        copy_files(self.tokenizer_dir, &folder)?;
        println!("saved in {}", folder.display());
        let curve = curve.into_inner();
        let accuracy = match curve.last() {
            Some(accuracy) => *accuracy,
            None => self.accuracy(trained)?,
        };
        Ok(Outcome {
            name: stage.name,
            accuracy,
            best: curve.into_iter().fold(accuracy, f64::max),
            parameters: display_parameters(&trained.variables, Some(0)).root.count,
            training: Some((seconds, summary.global_steps)),
        })
    }
}

/// The same for teacher and student, whose outputs are of one type.
fn adaptor(batch: &BertInputs, output: &LogitsOutput) -> textbrewer::Result<AdaptorOutput> {
    let mut adapted = AdaptorOutput::new()
        .logits(&output.logits)
        .hidden(&output.hidden_states);
    if let Some(mask) = &batch.attention_mask {
        adapted = adapted.inputs_mask(mask);
    }
    if let Some(labels) = &batch.labels {
        adapted = adapted.labels(labels);
    }
    if let Some(loss) = &output.loss {
        adapted = adapted.losses(loss);
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
