//! Optimizers and parameter groups.

mod adam;
mod clip;
mod group;
mod grouped;
mod hyper;
mod layer_wise;
mod loss_scaling;
mod scaling_state;
mod sgd;
mod split;

pub use adam::{Adam, AdamW};
pub use clip::clip_grad_norm;
pub use group::{GroupOptions, ParamGroup, param_groups, param_groups_by};
pub use layer_wise::layer_wise_decay;
pub use loss_scaling::LossScaling;
pub(crate) use scaling_state::LossScalingState;
pub use sgd::Sgd;
pub(crate) use split::SIDES;
pub use split::Split;

use std::collections::BTreeMap;

use tch::Tensor;

use crate::error::Result;

/// Updates parameters by their gradients.
///
/// The learning rate of a step is each group's own rate times the factor of the schedule, so
/// groups that are added late need no special care.
///
/// `&mut O` and `Box<O>` of an optimizer are optimizers too, so an optimizer can be lent to a
/// training and used again afterwards.
///
/// A minimal custom optimizer, which follows the sign of every gradient:
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::{nn::VarStore, Device, Kind, Tensor};
/// use textbrewer::optim::{param_groups, Optimizer, ParamGroup};
/// use textbrewer::Result;
///
/// struct SignDescent {
///     rate: f64,
///     groups: Vec<ParamGroup>,
/// }
///
/// impl Optimizer for SignDescent {
///     fn add_group(&mut self, mut group: ParamGroup) -> Result<()> {
///         group.options.learning_rate.get_or_insert(self.rate);
///         self.groups.push(group);
///         Ok(())
///     }
///
///     fn groups(&self) -> &[ParamGroup] {
///         &self.groups
///     }
///
///     fn zero_grad(&mut self) -> Result<()> {
///         let _guard = tch::no_grad_guard();
///         for tensor in self.groups.iter().flat_map(ParamGroup::tensors) {
///             let mut gradient = tensor.f_grad()?;
///             if gradient.defined() {
///                 let _ = gradient.f_zero_()?;
///             }
///         }
///         Ok(())
///     }
///
///     fn step(&mut self, factor: f64) -> Result<()> {
///         let _guard = tch::no_grad_guard();
///         for group in &self.groups {
///             let rate = factor * group.options.learning_rate.unwrap_or(self.rate);
///             for tensor in group.tensors() {
///                 let gradient = tensor.f_grad()?;
///                 if gradient.defined() {
///                     let change = gradient.f_sign()?.f_mul(&Tensor::from(-rate))?;
///                     let _ = tensor.shallow_clone().f_add_(&change)?;
///                 }
///             }
///         }
///         Ok(())
///     }
///
///     // It remembers nothing.
///     fn state(&self) -> Result<BTreeMap<String, Tensor>> {
///         Ok(BTreeMap::new())
///     }
///
///     fn load_state(&mut self, _state: &BTreeMap<String, Tensor>) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// let variables = VarStore::new(Device::Cpu);
/// let weight = variables.root().ones("weight", &[2]);
/// let mut optimizer = SignDescent { rate: 0.5, groups: Vec::new() };
/// for group in param_groups(&variables, &[]) {
///     optimizer.add_group(group)?;
/// }
/// optimizer.zero_grad()?;
/// weight.f_square()?.f_sum(Kind::Float)?.f_backward()?;
/// optimizer.step(1.0)?;
/// assert_eq!(weight.double_value(&[0]), 0.5);
/// # Result::Ok(())
/// ```
pub trait Optimizer {
    /// Adds parameters. Options that the group leaves open get the optimizer's defaults.
    ///
    /// # Errors
    /// When an option is invalid, or a parameter is already in a group.
    fn add_group(&mut self, group: ParamGroup) -> Result<()>;

    /// The groups so far, with all options filled in.
    fn groups(&self) -> &[ParamGroup];

    /// Removes all gradients, as PyTorch's `zero_grad(set_to_none=True)`: a parameter that the
    /// next backward pass does not reach has none, and [`step`](Self::step) leaves it alone.
    ///
    /// # Errors
    /// When libtorch fails.
    fn zero_grad(&mut self) -> Result<()>;

    /// Updates every parameter that has a gradient.
    ///
    /// # Errors
    /// When the factor is not a finite number, or libtorch fails. The optimizers of this crate
    /// return an error for a sparse gradient before any parameter changes.
    fn step(&mut self, learning_rate_factor: f64) -> Result<()>;

    /// As [`step`](Self::step), unless `found_infinity` (from [`LossScaling::unscale`]) is not
    /// 0: then nothing changes, and no step is counted.
    ///
    /// The optimizers of this crate decide on the device of the parameters, so the program does
    /// not wait for the value. The provided implementation reads it.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn step_unless(&mut self, learning_rate_factor: f64, found_infinity: &Tensor) -> Result<()> {
        if found_infinity.f_double_value(&[])? == 0.0 {
            self.step(learning_rate_factor)
        } else {
            Ok(())
        }
    }

    /// The state of the optimizer, by `parameter.quantity`.
    ///
    /// The tensors are copies, which later steps do not change. Parameters without a step so far
    /// are left out.
    ///
    /// # Errors
    /// When there is not enough memory for the copies.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Restores what [`state`](Self::state) returned, after the groups were added. Parameters
    /// that are not in it start afresh.
    ///
    /// # Errors
    /// When a name, shape or kind does not fit; then nothing is changed.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// Implements the methods of [`Optimizer`] by calls to the inner optimizer.
macro_rules! forward_optimizer {
    ($this:ident => $inner:expr) => {
        fn add_group(&mut self, group: $crate::optim::ParamGroup) -> $crate::error::Result<()> {
            let $this = self;
            $inner.add_group(group)
        }

        fn groups(&self) -> &[$crate::optim::ParamGroup] {
            let $this = self;
            $inner.groups()
        }

        fn zero_grad(&mut self) -> $crate::error::Result<()> {
            let $this = self;
            $inner.zero_grad()
        }

        fn step(&mut self, learning_rate_factor: f64) -> $crate::error::Result<()> {
            let $this = self;
            $inner.step(learning_rate_factor)
        }

        fn step_unless(
            &mut self,
            learning_rate_factor: f64,
            found_infinity: &tch::Tensor,
        ) -> $crate::error::Result<()> {
            let $this = self;
            $inner.step_unless(learning_rate_factor, found_infinity)
        }

        fn state(&self) -> $crate::error::Result<std::collections::BTreeMap<String, tch::Tensor>> {
            let $this = self;
            $inner.state()
        }

        fn load_state(
            &mut self,
            state: &std::collections::BTreeMap<String, tch::Tensor>,
        ) -> $crate::error::Result<()> {
            let $this = self;
            $inner.load_state(state)
        }
    };
}

use forward_optimizer;

impl<O: Optimizer + ?Sized> Optimizer for &mut O {
    forward_optimizer!(this => (**this));
}

impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    forward_optimizer!(this => (**this));
}
