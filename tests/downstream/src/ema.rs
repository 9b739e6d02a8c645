//! A teacher that is the moving average of the student.

use std::collections::BTreeMap;

use tch::Tensor;
use tch::nn::VarStore;
use textbrewer::{Hook, Result, StepInfo, weights};

#[derive(Debug)]
pub struct Average<'a> {
    of: &'a VarStore,
    kept_in: &'a VarStore,
    rate: Tensor,
}

impl<'a> Average<'a> {
    pub fn new(of: &'a VarStore, kept_in: &'a VarStore, rate: f32) -> Self {
        Average { of, kept_in, rate: Tensor::from(rate) }
    }
}

impl<S: ?Sized> Hook<S> for Average<'_> {
    fn name(&self) -> &str {
        "average"
    }

    fn after_step(&mut self, _student: &S, _step: &StepInfo) -> Result<()> {
        let pairs = weights::state_dict(self.of).into_iter().zip(weights::state_dict(self.kept_in));
        for ((_, student), (_, mut average)) in pairs {
            let _ = average.f_lerp_tensor_(&student, &self.rate)?;
        }
        Ok(())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(weights::state_dict(self.kept_in).into_iter().collect())
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        weights::load_into(self.kept_in, state, "the average", &weights::LoadOptions::new())?;
        Ok(())
    }
}
