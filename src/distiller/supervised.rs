//! The losses that a model computes itself, as the only term.

use super::report::{TOTAL_LOSS, sum_of_means};
use super::{LossReport, Needs, Said, Term};
use crate::error::{Error, Result, Side};
use crate::optim::ParamGroup;

/// The sum of the means of the adaptor's `losses`.
#[derive(Debug)]
pub(super) struct Supervised;

impl<B> Term<B> for Supervised {
    fn name(&self) -> &str {
        "losses"
    }

    fn needs(&self) -> Needs {
        Needs::new()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        let missing = || Error::missing(Side::Student, "losses", "BasicTrainer");
        let total = sum_of_means(&said.student.losses)?.ok_or_else(missing)?;
        report.add(TOTAL_LOSS, total, 1.0);
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
    }

    fn description(&self) -> String {
        String::new()
    }
}
