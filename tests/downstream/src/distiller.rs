//! A distiller of one's own: in the first epoch the student learns features alone.

use textbrewer::distiller::AnyCore;
use textbrewer::{AdaptorOutput, Batch, Core, Distiller, Error, LossReport, Result, StepInfo};

#[derive(Debug)]
pub struct FeaturesFirst<'a, B, S>(Core<'a, B, S>);

impl<'a, B, S> TryFrom<Core<'a, B, S>> for FeaturesFirst<'a, B, S> {
    type Error = Error;

    fn try_from(core: Core<'a, B, S>) -> Result<Self> {
        Ok(FeaturesFirst(core))
    }
}

impl<B: Batch, S> Distiller for FeaturesFirst<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn core(&self) -> &dyn AnyCore<S> {
        &self.0
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<S> {
        &mut self.0
    }

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let mut said = self.0.run_models(batch, step)?;
        if step.epoch == 1 {
            said.ensemble = AdaptorOutput::new();
            said.student.logits.clear();
        }
        self.0.losses(&said)
    }
}
