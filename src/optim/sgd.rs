//! Stochastic gradient descent.

use crate::native::optim::Algorithm;

use super::grouped::{Grouped, Rule};
use super::{GroupOptions, Optimizer, forward_optimizer};

/// Gradient descent with optional momentum and weight decay, as `torch.optim.SGD` without
/// dampening and Nesterov momentum.
///
/// With learning rate γ, weight decay λ, momentum μ and gradient g of the parameter θ:
///
/// ```text
/// g ← g + λ θ
/// b ← μ b + g        (only with momentum; b starts at 0)
/// θ ← θ - γ b
/// ```
///
/// Defaults: no momentum, no weight decay. The options of a group override them.
///
/// ```
/// use tch::{nn::VarStore, Device, Kind};
/// use textbrewer::optim::{param_groups, Optimizer, Sgd};
///
/// let variables = VarStore::new(Device::Cpu);
/// let weight = variables.root().ones("weight", &[1]);
/// let mut optimizer = Sgd::new(0.25).momentum(0.5);
/// for group in param_groups(&variables, &[]) {
///     optimizer.add_group(group)?;
/// }
/// for after in [0.75, 0.375] {
///     optimizer.zero_grad()?;
///     weight.f_sum(Kind::Float)?.f_backward()?; // the gradient is 1
///     optimizer.step(1.0)?;
///     assert_eq!(weight.double_value(&[0]), after);
/// }
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Sgd(Grouped);

impl Sgd {
    /// An optimizer without parameters. Options are checked when a group is added.
    pub fn new(learning_rate: f64) -> Self {
        let rule = Rule {
            algorithm: Algorithm::Descent,
            quantities: &["momentum_buffer"],
            remembers: |hyper| hyper.momentum != 0.0,
        };
        let defaults = GroupOptions {
            learning_rate: Some(learning_rate),
            weight_decay: Some(0.0),
            momentum: Some(0.0),
            ..GroupOptions::default()
        };
        Sgd(Grouped::new(rule, defaults))
    }

    /// Sets the momentum of groups that are added later without their own.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.defaults.momentum = Some(momentum);
        self
    }

    /// Sets the weight decay of groups that are added later without their own.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.0.defaults.weight_decay = Some(weight_decay);
        self
    }
}

impl Optimizer for Sgd {
    forward_optimizer!(this => this.0);
}
