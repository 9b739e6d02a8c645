//! The distillers of a recipe.

use textbrewer::models::{BertInputs, Head};
use textbrewer::{
    AdaptorOutput, EmdConfig, EmdDistiller, GeneralDistiller, MultiTeacherDistiller,
    ProjectionSpec, Side,
};

use super::{Training, adapt};
use crate::models::Model;
use crate::outcome::Outcome;
use crate::outputs::Answers;
use crate::recipe::{DistillerKind, PROJECTION_RATE};
use crate::task::Task;
use crate::terminal::tell;
use crate::{Error, Result};

impl<T: Task> Training<'_, T> {
    /// Trains a student on the outputs of teachers.
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
                tell("a BiGRU has no layers: `hidden_matches` of the recipe are left out");
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

    /// Distillation with layers matched by the earth mover's distance.
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
        let config = recipe.distillation.emd.clone();
        let mut config = config.unwrap_or_else(|| EmdConfig::default().attention_weight(100.0));
        if student.width() != teacher.width() && config.hidden_projection.is_none() {
            let projection = ProjectionSpec::linear(student.width(), teacher.width());
            config = config.hidden_projection(projection.learning_rate(PROJECTION_RATE));
        }
        let (teacher, student) = (teacher.showing(true, true), student.showing(true, true));
        let distiller =
            EmdDistiller::builder(&teacher.network, &student.network, &student.variables)
                .train_config(self.config())
                .distill_config(recipe.distillation.clone().emd(config))
                .adaptor(adapt_layers::<T>)
                .build()?;
        self.run(distiller, &student, recipe.learns_labels())
    }
}

pub(crate) fn no_teacher() -> Error {
    Error::invalid("give a teacher: --teacher FOLDER")
}

/// As in BERT-EMD: the outputs of the layers, without that of the embeddings.
fn adapt_layers<T: Task>(
    inputs: &BertInputs,
    output: &<T::Head as Head>::Output,
) -> textbrewer::Result<AdaptorOutput> {
    let mut adapted = output.adapt(inputs)?;
    if let Some(states) = adapted.features.get_mut("hidden")
        && !states.layers.is_empty()
    {
        drop(states.layers.remove(0));
    }
    Ok(adapted)
}
