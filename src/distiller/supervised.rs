//! The losses that a model computes itself, as the only term.

use std::collections::BTreeMap;

use tch::Tensor;

use super::report::{TOTAL_LOSS, sum_of_means};
use super::{LossReport, Needs, Said, Term};
use crate::error::{Error, Result, Side};
use crate::optim::ParamGroup;

/// The sum of the means of the adaptor's `losses`.
#[derive(Debug)]
pub(super) struct Supervised {
    /// Whether it is all there is: it is the total loss then.
    pub(super) is_alone: bool,
}

/// Its name in the logs beside others: that of the hard-label loss of the distillers.
const BESIDE_OTHERS: &str = "unweighted_hard_label_loss";

impl<B> Term<B> for Supervised {
    fn name(&self) -> &str {
        "losses"
    }

    fn needs(&self) -> Needs {
        Needs::new()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        report.weigh_by_labels(said)?;
        match (sum_of_means(&said.student.losses)?, self.is_alone) {
            (Some(total), true) => report.add(TOTAL_LOSS, total, 1.0),
            (Some(loss), false) => report.add(BESIDE_OTHERS, loss, 1.0),
            // Other terms may be all there is to learn from.
            (None, false) => report,
            (None, true) => {
                let needed_by = "training without a teacher";
                return Err(Error::missing(Side::Student, "losses", needed_by));
            }
        };
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
