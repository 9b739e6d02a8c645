//! The distillers of a recipe.

use textbrewer::models::{BertInputs, Head};
use textbrewer::teacher_file::{Column, FileTeacher, Origin};
use textbrewer::{
    AdaptorOutput, DistillationConfig, EmdConfig, EmdDistiller, GeneralDistiller, Logits,
    MultiTeacherDistiller, ProjectionSpec, Side, TeacherFile,
};

use super::recorded::shape;
use super::{Training, adapt};
use crate::models::Model;
use crate::outcome::Outcome;
use crate::outputs::Answers;
use crate::recipe::{DistillerKind, PROJECTION_RATE, Recipe};
use crate::task::Task;
use crate::terminal::tell;
use crate::{Error, Result};

/// Whom a student learns from.
#[derive(Debug)]
pub enum Teachers<H> {
    /// Models, which are asked about each batch.
    Live(Vec<Model<H>>),
    /// Files of what they said.
    Recorded(Vec<TeacherFile>),
}

impl<T: Task> Training<'_, T> {
    /// Trains a student on the outputs of teachers.
    ///
    /// # Errors
    /// Those of training, and of writing the model; when a file lacks what is needed of it.
    pub fn distill(&self, teachers: Teachers<T::Head>, student: Model<T::Head>) -> Result<Outcome> {
        match (self.bench.recipe.distiller, teachers) {
            (DistillerKind::General, Teachers::Live(teachers)) => {
                self.distill_models(teachers, student)
            }
            (DistillerKind::General, Teachers::Recorded(files)) => {
                self.distill_files(&files, student)
            }
            (DistillerKind::Emd, teachers) => self.distill_emd(teachers, student),
        }
    }

    fn distill_models(
        &self,
        teachers: Vec<Model<T::Head>>,
        student: Model<T::Head>,
    ) -> Result<Outcome> {
        let recipe = self.bench.recipe;
        let first = teachers.first().ok_or_else(no_teacher)?;
        let config = config(recipe, Some(first.shape()), &student)?;
        let student = showing(student, &config, Side::Student);
        let teachers: Vec<_> = teachers
            .into_iter()
            .map(|model| showing(model, &config, Side::Teacher))
            .collect();
        let labels = recipe.learns_labels();
        if let [teacher] = &teachers[..] {
            let builder =
                GeneralDistiller::builder(&teacher.network, &student.network, &student.variables);
            let distiller = builder
                .train_config(self.config())
                .distill_config(config)
                .adaptor(adapt::<T>)
                .build()?;
            return self.run(distiller, &student, labels, &[]);
        }
        let networks = teachers.iter().map(|teacher| &teacher.network);
        let distiller = MultiTeacherDistiller::builder(&student.network, &student.variables)
            .train_config(self.config())
            .distill_config(config)
            .teachers(networks, adapt::<T>)
            .student_adaptor(adapt::<T>)
            .build()?;
        self.run(distiller, &student, labels, &[])
    }

    fn distill_files(&self, files: &[TeacherFile], student: Model<T::Head>) -> Result<Outcome> {
        let recipe = self.bench.recipe;
        let first = files.first().ok_or_else(no_teacher)?;
        let config = config(recipe, shape(first), &student)?;
        let student = showing(student, &config, Side::Student);
        let labels = recipe.learns_labels();
        let task = self.bench.task;
        let said = move |inputs: &BertInputs, said: &AdaptorOutput| read(task, inputs, said);
        if let [file] = files {
            let teacher = as_teacher(file);
            let distiller =
                GeneralDistiller::builder(teacher, &student.network, &student.variables)
                    .train_config(self.config())
                    .distill_config(config)
                    .teacher_adaptor(said)
                    .student_adaptor(adapt::<T>)
                    .build()?;
            return self.run(distiller, &student, labels, files);
        }
        let distiller = MultiTeacherDistiller::builder(&student.network, &student.variables)
            .train_config(self.config())
            .distill_config(config)
            .teachers(files.iter().map(as_teacher), said)
            .student_adaptor(adapt::<T>)
            .build()?;
        self.run(distiller, &student, labels, files)
    }

    /// Distillation with layers matched by the earth mover's distance.
    fn distill_emd(&self, teachers: Teachers<T::Head>, student: Model<T::Head>) -> Result<Outcome> {
        let recipe = self.bench.recipe;
        let (count, width) = match &teachers {
            Teachers::Live(models) => (models.len(), models.first().map(Model::width)),
            Teachers::Recorded(files) => {
                let width = files.first().and_then(shape).map(|(_, width)| width);
                (files.len(), width)
            }
        };
        if count != 1 {
            return Err(Error::invalid("distiller `emd` takes one teacher"));
        }
        let Some(width) = width else {
            let reason = "distiller `emd` matches layers, and soft labels have none";
            return Err(Error::invalid(reason));
        };
        if !recipe.hidden_matches.is_empty() || student.layers().is_none() {
            let reason = "distiller `emd` matches all layers by itself: leave `hidden_matches` \
                          out, and take a student that has layers";
            return Err(Error::invalid(reason));
        }
        let config = recipe.distillation.emd.clone();
        let mut config = config.unwrap_or_else(|| EmdConfig::default().attention_weight(100.0));
        if student.width() != width && config.hidden_projection.is_none() {
            let projection = ProjectionSpec::linear(student.width(), width);
            config = config.hidden_projection(projection.learning_rate(PROJECTION_RATE));
        }
        let config = recipe.distillation.clone().emd(config);
        let student = student.showing(true, true);
        let labels = recipe.learns_labels();
        match teachers {
            Teachers::Live(teachers) => {
                let teacher = teachers.into_iter().next().ok_or_else(no_teacher)?;
                let teacher = teacher.showing(true, true);
                let (network, student_network) = (&teacher.network, &student.network);
                let distiller = EmdDistiller::builder(network, student_network, &student.variables)
                    .train_config(self.config())
                    .distill_config(config)
                    .adaptor(adapt_layers::<T>)
                    .build()?;
                self.run(distiller, &student, labels, &[])
            }
            Teachers::Recorded(files) => {
                let task = self.bench.task;
                let teacher = as_teacher(files.first().ok_or_else(no_teacher)?);
                let distiller =
                    EmdDistiller::builder(teacher, &student.network, &student.variables)
                        .train_config(self.config())
                        .distill_config(config)
                        .teacher_adaptor(|inputs, said| {
                            Ok(without_embeddings(read(task, inputs, said)?))
                        })
                        .student_adaptor(adapt_layers::<T>)
                        .build()?;
                self.run(distiller, &student, labels, &files)
            }
        }
    }
}

/// The configuration of a recipe with all its matches, for a teacher with this number of layers and
/// this width, if it has layers.
pub(crate) fn config<H: Head>(
    recipe: &Recipe,
    teacher: Option<(usize, i64)>,
    student: &Model<H>,
) -> Result<DistillationConfig> {
    let without_layers = match (teacher, student.layers()) {
        (Some(teacher), Some(_)) => return recipe.distill_config(teacher, student.shape()),
        (_, None) => "a BiGRU has",
        (None, Some(_)) => "soft labels have",
    };
    if !recipe.hidden_matches.is_empty() {
        tell(format_args!(
            "{without_layers} no layers: `hidden_matches` of the recipe are left out"
        ));
    }
    Ok(recipe.distillation.clone())
}

/// A model that returns the layers that the configuration needs of it.
fn showing<H: Head>(model: Model<H>, config: &DistillationConfig, side: Side) -> Model<H> {
    let layers = |feature| config.layers(side, feature);
    model.showing(layers("hidden"), layers("attention"))
}

/// A file as a teacher: what has masks was recorded at all pieces but padding.
fn as_teacher(file: &TeacherFile) -> FileTeacher<'static, BertInputs> {
    let of_logits = |column: &Column| matches!(column.of, Origin::Logits { .. });
    let mut columns = file.columns().iter();
    let has_mask = columns.any(|column| of_logits(column) && column.is_masked);
    file.teacher(move |inputs: &BertInputs| {
        let Some(mask) = &inputs.attention_mask else {
            return Ok(AdaptorOutput::new());
        };
        let masks = AdaptorOutput::new().inputs_mask(mask);
        Ok(match has_mask {
            true => masks.logits_mask(mask),
            false => masks,
        })
    })
}

/// What a file says of a batch: scores of places are there for the longest text, of which the batch
/// has some.
fn read<T: Task>(
    task: &T,
    inputs: &BertInputs,
    said: &AdaptorOutput,
) -> textbrewer::Result<AdaptorOutput> {
    let mut said = said.shallow_clone();
    if task.scores_places() {
        let (_, length) = inputs.input_ids.size2()?;
        for logits in &mut said.logits {
            let scores = logits.whole()?.f_narrow(1, 0, length)?.f_contiguous()?;
            *logits = Logits::Whole(scores);
        }
    }
    Ok(said)
}

pub(crate) fn no_teacher() -> Error {
    Error::invalid("give a teacher: --teacher FOLDER")
}

/// As in BERT-EMD: the outputs of the layers, without that of the embeddings.
fn adapt_layers<T: Task>(
    inputs: &BertInputs,
    output: &<T::Head as Head>::Output,
) -> textbrewer::Result<AdaptorOutput> {
    Ok(without_embeddings(output.adapt(inputs)?))
}

fn without_embeddings(mut adapted: AdaptorOutput) -> AdaptorOutput {
    if let Some(states) = adapted.features.get_mut("hidden")
        && !states.layers.is_empty()
    {
        drop(states.layers.remove(0));
    }
    adapted
}
