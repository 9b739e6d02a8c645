//! A closure as a term.

use std::collections::BTreeMap;
use std::fmt;

use tch::Tensor;

use super::{LossReport, Needs, Said, Term};
use crate::error::Result;
use crate::optim::ParamGroup;

/// Makes a term of a function of what the models said, which returns one number: a loss without
/// parameters and without a state. It is logged under `name`.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::distiller::{Needs, loss_term};
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, Distiller, GeneralDistiller, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let teacher = from_fn(|batch: &Tensor, _| Ok(batch.f_narrow(-1, 0, 2)?));
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// let small = loss_term("size", 0.1, Needs::new().logits(), |said| {
///     Ok(said.student_logits(0)?.f_square()?.f_mean(Kind::Float)?)
/// });
/// let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
///     .train_config(config)
///     .adaptor(|_batch, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .term(small)
///     .build()?;
/// # let mut loader = VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))])?;
/// let summary = distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
/// assert!(summary.losses.contains_key("size"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn loss_term<B, F>(name: impl Into<String>, weight: f64, needs: Needs, loss: F) -> LossTerm<F>
where
    F: Fn(&Said<'_, B>) -> Result<Tensor>,
{
    LossTerm {
        name: name.into(),
        weight,
        needs,
        loss,
    }
}

/// A closure as a term; made by [`loss_term`].
#[doc(hidden)]
pub struct LossTerm<F> {
    name: String,
    weight: f64,
    needs: Needs,
    loss: F,
}

impl<B, F: Fn(&Said<'_, B>) -> Result<Tensor>> Term<B> for LossTerm<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        report.add(self.name.clone(), (self.loss)(said)?, self.weight);
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
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

impl<F> fmt::Debug for LossTerm<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossTerm")
            .field("name", &self.name)
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}
