//! A distiller and a term of a user's own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::distiller::{AnyCore, DistillerBuilder, Needs, OnePair, Said, Task};
use textbrewer::optim::ParamGroup;
use textbrewer::{
    AdaptorOutput, Core, DistillationConfig, Distiller, IntermediateMatch, LossReport,
    ProjectionSpec, Result, StepInfo, Term, TrainingConfig, from_fn,
};

use crate::common::tiny::{Net, Output, adapt};

/// The usual losses, and the student's logits are kept small.
#[derive(Debug)]
pub struct Mine<'a>(pub Core<'a, Tensor, Net>);

impl<'a> From<Core<'a, Tensor, Net>> for Mine<'a> {
    fn from(core: Core<'a, Tensor, Net>) -> Self {
        Mine(core)
    }
}

impl Distiller for Mine<'_> {
    type Batch = Tensor;
    type Student = Net;

    fn core(&self) -> &dyn AnyCore<Net> {
        &self.0
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<Net> {
        &mut self.0
    }

    fn train_on_batch(&mut self, batch: &Tensor, step: &StepInfo) -> Result<LossReport> {
        let said = self.0.run_models(batch, step)?;
        let mut report = self.0.losses(&said)?;
        for logits in &said.student.logits {
            let size = logits.whole()?.f_square()?.f_mean(Kind::Float)?;
            report.add("size", size, 0.01);
        }
        Ok(report)
    }
}

/// A term with a parameter: the student's last state, scaled, is to be the teacher's mean.
#[derive(Debug)]
pub struct Scaled {
    name: &'static str,
    weight: f64,
    variables: VarStore,
    /// Whether it hands out another parameter each time.
    pub forgets: Rc<Cell<bool>>,
}

impl Scaled {
    pub fn new(weight: f64) -> Self {
        let variables = VarStore::new(Device::Cpu);
        let _ = variables.root().ones("scale", &[1]);
        Scaled {
            name: "scaled",
            weight,
            variables,
            forgets: Rc::default(),
        }
    }

    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    pub fn freeze(&mut self) {
        self.variables.freeze();
    }

    /// Shares memory with the parameter.
    pub fn scale(&self) -> Tensor {
        self.variables.variables()["scale"].shallow_clone()
    }
}

impl<B> Term<B> for Scaled {
    fn name(&self) -> &str {
        self.name
    }

    fn needs(&self) -> Needs {
        Needs::new()
            .teacher_layers(0, "hidden", [-1])
            .student_layers("hidden", [-1])
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        let teacher = said.teacher_layer(0, "hidden", -1)?.f_mean(None)?;
        let student = said.student_layer("hidden", -1)?.f_mul(&self.scale())?;
        let loss = student.f_sub(&teacher)?.f_square()?.f_mean(None)?;
        report.add(self.name, loss, self.weight);
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        let scale = match self.forgets.get() {
            true => Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true),
            false => self.scale(),
        };
        let parameters = vec![("scale".to_owned(), scale)];
        vec![ParamGroup::new(self.name, parameters)]
    }

    fn description(&self) -> String {
        format!("weight {}", self.weight)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }

    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}

pub fn nets() -> (Net, Net) {
    (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2))
}

pub fn distill_config() -> DistillationConfig {
    let projected = IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::linear(4, 5));
    DistillationConfig::default()
        .hard_label_weight(0.25)
        .intermediate_matches([projected])
}

pub fn with_losses(batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(adapt(batch, output)?.losses(&output.logits.exp()))
}

type Builder<'a> = DistillerBuilder<'a, Tensor, OnePair<'a, Tensor, &'a Net, Net>, Mine<'a>>;

/// With the crate's builder, for which `TryFrom<Core>` is enough.
pub fn mine<'a>(
    teacher: &'a Net,
    student: &'a Net,
    config: TrainingConfig,
    settings: impl FnOnce(Builder<'a>) -> Builder<'a>,
) -> Result<Mine<'a>> {
    let builder = DistillerBuilder::new(teacher, student, &student.variables);
    settings(builder.train_config(config).adaptor(with_losses)).build()
}

/// A task whose teacher is a function of the batch.
pub fn task<'a>() -> Task<'a, Tensor, Output> {
    let model =
        from_fn(|batch: &Tensor, _| Ok(batch.f_mean_dim([1i64].as_slice(), false, None)?));
    Task::new()
        .teacher(model, |_, mean: &Tensor| {
            Ok(AdaptorOutput::new().logits(&mean.f_narrow(-1, 0, 2)?))
        })
        .student_adaptor(adapt)
}
