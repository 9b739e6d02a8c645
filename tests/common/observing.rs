//! A user's own term that looks at the models and teaches nothing.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};
use textbrewer::distiller::{Needs, Said};
use textbrewer::losses::agreement;
use textbrewer::optim::ParamGroup;
use textbrewer::{LossReport, Result, StepInfo, Term};

/// Observes how often both models find the same class likeliest, and what `and` adds.
pub struct Observing<F> {
    and: F,
}

impl<F: FnMut(&mut LossReport, &StepInfo)> Observing<F> {
    pub fn new(and: F) -> Self {
        Observing { and }
    }
}

impl<F: FnMut(&mut LossReport, &StepInfo)> Term<Tensor> for Observing<F> {
    fn name(&self) -> &str {
        "observing"
    }

    fn needs(&self) -> Needs {
        Needs::new().logits()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, Tensor>) -> Result<()> {
        let (student, teacher) = (said.student_logits(0)?, said.teacher_logits(0)?);
        let agreement = agreement(&student, &teacher, 1)?;
        // One has a history, and is not learned from either.
        report
            .observe("best", agreement.best.f_mean(Kind::Float)?)
            .observe("size", student.f_square()?.f_mean(Kind::Float)?);
        (self.and)(report, said.step);
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
    }

    fn description(&self) -> String {
        String::new()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }

    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}
