//! Optimizers, and the groups of parameters they work on.

mod group;

pub use group::{param_groups, GroupOptions, ParamGroup};

use std::collections::BTreeMap;

use tch::Tensor;

use crate::Result;

/// Changes parameters by their gradients.
///
/// The learning rate of a step is each group's own rate times the factor that the
/// engine got from the schedule, so groups that join late need no special care.
pub trait Optimizer {
    /// Adds parameters. Options that the group leaves open get the optimizer's defaults.
    ///
    /// # Errors
    /// When an option cannot work, or a parameter is in a group already.
    fn add_group(&mut self, group: ParamGroup) -> Result<()>;

    /// The groups so far, every option filled in.
    fn groups(&self) -> &[ParamGroup];

    /// Forgets all gradients.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn zero_grad(&mut self) -> Result<()>;

    /// Changes every parameter that has a gradient.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn step(&mut self, learning_rate_factor: f64) -> Result<()>;

    /// What the optimizer remembers between steps, by `parameter.quantity`.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Puts back what [`state`](Self::state) gave, after the groups were added.
    ///
    /// # Errors
    /// When a name, shape or kind does not fit; then nothing is changed.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}
