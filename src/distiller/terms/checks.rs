//! What is checked of a user's terms, and how their errors are told.

use crate::distiller::WeightedLoss;
use crate::distiller::report::{NAME_IS_TAKEN, NO_NAME, TOTAL_LOSS};
use crate::error::{Error, Result};

pub(super) fn name_of(term: &str) -> String {
    format!("term `{term}`")
}

/// An error of a user's term is understood with its name; those of the crate's say where they
/// come from.
pub(super) fn of_term(is_users: bool, name: &str, error: Error) -> Error {
    match is_users {
        true => Error::Term {
            term: name.to_owned(),
            source: Box::new(error),
        },
        false => error,
    }
}

/// Losses of one name would be one curve, and the total has its own.
pub(super) fn check_losses(losses: &[WeightedLoss], before: usize) -> Result<()> {
    for (index, loss) in losses.iter().enumerate().skip(before) {
        let name = &loss.name;
        let wrong = |reason: &str| Err(Error::protocol(format!("loss `{name}`"), reason));
        let mut earlier = losses.iter().take(index);
        if name.is_empty() {
            return wrong(NO_NAME);
        }
        if name == TOTAL_LOSS || earlier.any(|other| other.name == *name) {
            return wrong(NAME_IS_TAKEN);
        }
        if !loss.weight.is_finite() {
            return wrong(&format!(
                "its weight is {}; give a finite number",
                loss.weight
            ));
        }
    }
    Ok(())
}
