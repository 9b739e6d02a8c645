//! The options of a group, with defaults filled in and checked.

use crate::error::Result;
use crate::logging;

use super::{GroupOptions, ParamGroup};

/// A group's options as numbers. Those that its optimizer does not use are 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hyper {
    pub(super) learning_rate: f64,
    pub(super) weight_decay: f64,
    pub(super) betas: (f64, f64),
    pub(super) eps: f64,
    pub(super) momentum: f64,
}

/// Fills in the options that `group` leaves open, and checks the result.
///
/// `defaults` has a value for exactly those options that the optimizer knows. The others
/// are dropped with a warning, so that one configuration can be tried with several
/// optimizers.
pub(super) fn resolve(
    group: &ParamGroup,
    defaults: &GroupOptions,
) -> Result<(GroupOptions, Hyper)> {
    let pick = |option: &str, own: Option<f64>, default: Option<f64>| {
        warn_if_unused(group, option, own.is_some() && default.is_none());
        default.map(|default| own.unwrap_or(default))
    };
    let own = &group.options;
    warn_if_unused(
        group,
        "betas",
        own.betas.is_some() && defaults.betas.is_none(),
    );
    let options = GroupOptions {
        learning_rate: pick("lr", own.learning_rate, defaults.learning_rate),
        weight_decay: pick("weight_decay", own.weight_decay, defaults.weight_decay),
        betas: defaults.betas.map(|default| own.betas.unwrap_or(default)),
        eps: pick("eps", own.eps, defaults.eps),
        momentum: pick("momentum", own.momentum, defaults.momentum),
    };
    options.check(&format!("optimizer group `{}`: ", group.name))?;
    let hyper = Hyper {
        learning_rate: options.learning_rate.unwrap_or_default(),
        weight_decay: options.weight_decay.unwrap_or_default(),
        betas: options.betas.unwrap_or_default(),
        eps: options.eps.unwrap_or_default(),
        momentum: options.momentum.unwrap_or_default(),
    };
    Ok((options, hyper))
}

fn warn_if_unused(group: &ParamGroup, option: &str, unused: bool) {
    if unused {
        logging::warn(format_args!(
            "optimizer group `{}`: this optimizer has no `{option}`; the option is ignored",
            group.name
        ));
    }
}
