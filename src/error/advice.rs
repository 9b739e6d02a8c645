//! What messages advise.

/// Why a layer may not be there.
pub(super) fn of_layer(feature: &str, index: i64, len: usize) -> &'static str {
    let is_one_after_last = usize::try_from(index).is_ok_and(|index| index == len);
    match feature {
        _ if len == 0 => " (was the model told to output them?)",
        "attention" if is_one_after_last => {
            ", counted from 0. TextBrewer's named sets of attention matches count from 1: use \
             `LayerMap::attention` in their place, or put an unused first element into the \
             adaptor's list"
        }
        _ => "",
    }
}

/// The value of a loss before the one that is not finite.
pub(super) fn value_before(before: Option<f64>) -> String {
    match before {
        None => String::new(),
        Some(value) if value == 0.0 || (1e-3..1e6).contains(&value.abs()) => {
            format!(" ({value:.4} before)")
        }
        Some(value) => format!(" ({value:.3e} before)"),
    }
}

/// Why a loss may not be finite, after so many optimizer steps.
pub(super) fn of_loss(optimizer_steps: u64) -> &'static str {
    match optimizer_steps {
        0 => {
            "The weights are still those it began with: look at what this term is computed from, \
             such as inputs or weights that are not finite, a mean over no position, a root or \
             logarithm of 0"
        }
        _ => {
            "If it grew before, lower the learning rate or clip gradients (`max_grad_norm`); if \
             not, look at the batch, such as inputs that are not finite, a mean over no position, \
             a root or logarithm of 0"
        }
    }
}
