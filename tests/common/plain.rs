//! An optimizer that uses the provided methods of the trait.

use std::collections::BTreeMap;

use tch::Tensor;
use textbrewer::Result;
use textbrewer::optim::{Optimizer, ParamGroup};

/// Implements only the required methods, so that `step_unless` is the provided one.
pub struct Plain<O>(pub O);

impl<O: Optimizer> Optimizer for Plain<O> {
    fn add_group(&mut self, group: ParamGroup) -> Result<()> {
        self.0.add_group(group)
    }
    fn groups(&self) -> &[ParamGroup] {
        self.0.groups()
    }
    fn zero_grad(&mut self) -> Result<()> {
        self.0.zero_grad()
    }
    fn step(&mut self, factor: f64) -> Result<()> {
        self.0.step(factor)
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.0.state()
    }
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.0.load_state(state)
    }
}
