//! A user's own term, with a parameter, and a state that follows its batches.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::distiller::{Needs, Said};
use textbrewer::optim::ParamGroup;
use textbrewer::{LossReport, Result, StepInfo, Term};

/// Draws the student's scaled logits to a number, and counts optimizer steps and batches.
#[derive(Debug)]
pub struct Remembering {
    variables: VarStore,
    target: Tensor,
    steps: Tensor,
    /// The sum of all batches that this process had.
    seen: Tensor,
    /// The same, for who looks at it from outside.
    pub shown: Rc<RefCell<f64>>,
}

impl Remembering {
    /// That of another process begins with another parameter and state.
    pub fn new(seed: f64) -> Self {
        let variables = VarStore::new(Device::Cpu);
        let _ = variables
            .root()
            .f_var_copy("scale", &Tensor::from_slice(&[1.0f32 + seed as f32]));
        Remembering {
            variables,
            target: Tensor::from_slice(&[0.3 + seed]),
            steps: Tensor::zeros([1], (Kind::Int64, Device::Cpu)),
            seen: Tensor::zeros([1], (Kind::Double, Device::Cpu)),
            shown: Rc::default(),
        }
    }

    fn scale(&self) -> Tensor {
        self.variables.variables()["scale"].shallow_clone()
    }
}

impl Term<Tensor> for Remembering {
    fn name(&self) -> &str {
        "remembering"
    }

    fn needs(&self) -> Needs {
        Needs::new().logits()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, Tensor>) -> Result<()> {
        let logits = said.student.logits[0].whole()?;
        let target = (&self.target + &self.steps).to_kind(Kind::Float);
        let loss = (logits * self.scale() - target).square().mean(Kind::Float);
        report.add("remembering", loss, 0.5);
        self.seen += said.batch.sum(Kind::Double);
        *self.shown.borrow_mut() = self.seen.double_value(&[0]);
        Ok(())
    }

    fn after_step(&mut self, _: &StepInfo) -> Result<()> {
        self.steps += 1;
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::new(
            "remembering",
            vec![("scale".to_owned(), self.scale())],
        )]
    }

    fn description(&self) -> String {
        String::new()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let named = [
            ("target", &self.target),
            ("steps", &self.steps),
            ("seen", &self.seen),
        ];
        let copies = named.map(|(name, tensor)| (name.to_owned(), tensor.copy()));
        Ok(copies.into())
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.target = state["target"].copy();
        self.steps = state["steps"].copy();
        self.seen = state["seen"].copy();
        *self.shown.borrow_mut() = self.seen.double_value(&[0]);
        Ok(())
    }
}
