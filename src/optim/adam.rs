//! Adam and AdamW, which differ only in how weight decay is applied.

use crate::native::optim::Algorithm;

use super::grouped::{Grouped, Rule};
use super::{GroupOptions, Optimizer, forward_optimizer};

/// AdamW: Adam with decoupled weight decay, as `torch.optim.AdamW` computes it
/// (Loshchilov and Hutter, [arXiv:1711.05101](https://arxiv.org/abs/1711.05101)).
///
/// With learning rate γ, weight decay λ, gradient g and step t of the parameter θ:
///
/// ```text
/// θ ← θ (1 - γ λ)
/// m ← β₁ m + (1 - β₁) g
/// v ← β₂ v + (1 - β₂) g²
/// θ ← θ - γ / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
/// ```
///
/// Defaults: weight decay 0.01, betas (0.9, 0.999), eps 1e-8. The options of a group override
/// them.
///
/// ```
/// use tch::{nn, Device, Tensor};
/// use textbrewer::optim::{param_groups, AdamW, Optimizer};
///
/// # fn main() -> textbrewer::Result<()> {
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 4, 2, Default::default());
/// let mut optimizer = AdamW::new(1e-3).weight_decay(0.1);
/// for group in param_groups(&variables, &["bias"]) {
///     optimizer.add_group(group)?;
/// }
/// let output = Tensor::f_ones([3, 4], tch::kind::FLOAT_CPU)?.f_linear(&layer.ws, layer.bs.as_ref())?;
/// let loss = output.f_square()?.f_mean(None)?;
/// optimizer.zero_grad()?;
/// loss.f_backward()?;
/// optimizer.step(1.0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AdamW(Grouped);

/// Adam as `torch.optim.Adam` computes it: weight decay is added to the gradient
/// (Kingma and Ba, [arXiv:1412.6980](https://arxiv.org/abs/1412.6980)).
///
/// As [`AdamW`], but with g + λθ in place of g, and without the decay of θ.
/// Defaults: weight decay 0, betas (0.9, 0.999), eps 1e-8.
///
/// ```
/// use tch::{nn::VarStore, Device, Kind};
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::optim::{param_groups, Adam, Optimizer};
///
/// let variables = VarStore::new(Device::Cpu);
/// let weight = variables.root().ones("weight", &[1]);
/// let mut optimizer = Adam::new(0.1);
/// for group in param_groups(&variables, &[]) {
///     optimizer.add_group(group)?;
/// }
/// weight.times(1000.0)?.f_sum(Kind::Float)?.f_backward()?;
/// optimizer.step(1.0)?;
/// // The first step is as long as the learning rate, however large the gradient.
/// assert!((weight.double_value(&[0]) - 0.9).abs() < 1e-6);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Adam(Grouped);

impl AdamW {
    /// An optimizer without parameters. Options are checked when a group is added.
    pub fn new(learning_rate: f64) -> Self {
        let rule = rule(Algorithm::AdamW);
        AdamW(Grouped::new(rule, defaults(learning_rate, 0.01)))
    }
}

impl Adam {
    /// An optimizer without parameters. Options are checked when a group is added.
    pub fn new(learning_rate: f64) -> Self {
        let rule = rule(Algorithm::Adam);
        Adam(Grouped::new(rule, defaults(learning_rate, 0.0)))
    }
}

fn rule(algorithm: Algorithm) -> Rule {
    Rule {
        algorithm,
        quantities: &["exp_avg", "exp_avg_sq"],
        remembers: |_| true,
    }
}

macro_rules! builder {
    ($name:ident) => {
        impl $name {
            /// Sets the weight decay of groups that are added later without their own.
            #[must_use]
            pub fn weight_decay(mut self, weight_decay: f64) -> Self {
                self.0.defaults.weight_decay = Some(weight_decay);
                self
            }

            /// Sets the decay of the first and second moment, in groups that are added later
            /// without their own.
            #[must_use]
            pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
                self.0.defaults.betas = Some((beta1, beta2));
                self
            }

            /// Sets what is added to the denominator, in groups that are added later without
            /// their own.
            #[must_use]
            pub fn eps(mut self, eps: f64) -> Self {
                self.0.defaults.eps = Some(eps);
                self
            }
        }

        impl Optimizer for $name {
            forward_optimizer!(this => this.0);
        }
    };
}

builder!(AdamW);
builder!(Adam);

fn defaults(learning_rate: f64, weight_decay: f64) -> GroupOptions {
    GroupOptions {
        learning_rate: Some(learning_rate),
        weight_decay: Some(weight_decay),
        betas: Some((0.9, 0.999)),
        eps: Some(1e-8),
        momentum: None,
    }
}
