//! A distiller of one's own: in the first epoch the student learns features alone.

use textbrewer::distiller::AnyCore;
use textbrewer::{Batch, Core, Distiller, LossReport, Result, StepInfo};

#[derive(Debug)]
pub struct FeaturesFirst<'a, B, S>(Core<'a, B, S>);

impl<'a, B, S> From<Core<'a, B, S>> for FeaturesFirst<'a, B, S> {
    fn from(core: Core<'a, B, S>) -> Self {
        FeaturesFirst(core)
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
        let said = self.0.run_models(batch, step)?;
        match step.epoch {
            1 => self.0.losses_of(&["intermediate_matches", "length"], &said),
            _ => self.0.losses(&said),
        }
    }
}
