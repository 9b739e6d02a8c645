//! What a run holds before it is resumed, so that a resume that is refused changes nothing.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::distiller::Distiller;
use crate::engine::hooks::Hooks;
use crate::error::Result;
use crate::logging;
use crate::optim::Optimizer;
use crate::weights::{self, LoadOptions};

/// Copies of all that a resume loads into. They share no memory with it.
#[derive(Debug)]
pub(in crate::engine) struct Before {
    hooks: BTreeMap<String, Tensor>,
    distiller: BTreeMap<String, Tensor>,
    optimizer: BTreeMap<String, Tensor>,
    student: BTreeMap<String, Tensor>,
}

impl Before {
    pub(super) fn of<D: Distiller + ?Sized>(
        distiller: &D,
        optimizer: &dyn Optimizer,
        hooks: &Hooks<'_, D::Student>,
    ) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let student = weights::state_dict(distiller.core().variables());
        Ok(Before {
            // No step was done yet.
            hooks: copies(hooks.state(0)?)?,
            distiller: copies(distiller.core().state()?)?,
            optimizer: copies(optimizer.state()?)?,
            student: copies(student)?,
        })
    }

    /// Puts everything back. What fails is only logged: why the resume was refused is the error
    /// to be told of, and the rest is to be put back too.
    pub(in crate::engine) fn put_back<D: Distiller + ?Sized>(
        &self,
        distiller: &mut D,
        optimizer: &mut dyn Optimizer,
        hooks: &mut Hooks<'_, D::Student>,
    ) {
        let _guard = tch::no_grad_guard();
        hooks.put_back(&self.hooks);
        let put_back = distiller.core_mut().load_state(&self.distiller);
        tell("distiller", put_back);
        tell("optimizer", optimizer.load_state(&self.optimizer));
        let variables = distiller.core().variables();
        let origin = "the student before the resume";
        let put_back = weights::load_into(variables, &self.student, origin, &LoadOptions::new());
        tell("student", put_back.map(drop));
    }
}

fn copies(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<BTreeMap<String, Tensor>> {
    let named = tensors.into_iter();
    let copies = named.map(|(name, tensor)| Ok((name, tensor.f_detach_copy()?)));
    copies.collect()
}

fn tell(what: &str, put_back: Result<()>) {
    if let Err(error) = put_back {
        logging::warn(format_args!(
            "the {what} could not be put back after a refused resume: {error}"
        ));
    }
}
