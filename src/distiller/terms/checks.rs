//! What is checked of a user's terms, and how their errors are told.

use crate::distiller::WeightedLoss;
use crate::distiller::report::TOTAL_LOSS;
use crate::distiller::said::SOME_TERM;
use crate::error::{Error, Result};

pub(super) fn place(term: &str) -> String {
    format!("term `{term}`")
}

/// An error of a user's term is understood with its name; those of the crate's say where they
/// come from.
pub(super) fn of_term(is_users: bool, name: &str, error: Error) -> Error {
    if !is_users {
        return error;
    }
    let mut error = error.at(place(name));
    match &mut error {
        Error::MissingOutput { needed_by: of, .. }
        | Error::LayerOutOfRange { needed_by: of, .. }
        | Error::LayerNotKept { needed_by: of, .. }
        | Error::Protocol { what: of, .. }
            if of == SOME_TERM =>
        {
            *of = place(name);
        }
        _ => {}
    }
    error
}

/// Losses of one name would be one curve, and the total has its own.
pub(super) fn check_losses(term: &str, losses: &[WeightedLoss], before: usize) -> Result<()> {
    for (index, loss) in losses.iter().enumerate().skip(before) {
        let name = &loss.name;
        let mut earlier = losses.iter().take(index);
        if name == TOTAL_LOSS || earlier.any(|other| other.name == *name) {
            let reason =
                format!("there is a loss `{name}` already; give this one a name of its own");
            return Err(Error::protocol(place(term), reason));
        }
    }
    Ok(())
}
