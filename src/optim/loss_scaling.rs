//! Dynamic scaling of the loss.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::scaling_state::{LossScalingState, refuse_unless};
use crate::error::{Error, Result};
use crate::native::optim as native;

/// Multiplies the loss so that gradients in half precision do not underflow, and finds the
/// largest factor that does not overflow, as `torch.amp.GradScaler` does
/// (Micikevicius et al., [arXiv:1710.03740](https://arxiv.org/abs/1710.03740), section 3.2).
///
/// With scale s, growth γ, backoff β and interval n: a step is skipped when a gradient is
/// infinite or NaN, and
///
/// ```text
/// s ← β s     after a step that was skipped
/// s ← γ s     after n steps in a row that were not
/// ```
///
/// Defaults: s = 65536, γ = 2, β = 0.5, n = 2000, which are PyTorch's. Only
/// [`state`](Self::state) reads values from the device.
///
/// ```
/// use tch::{nn, Device, Tensor};
/// use textbrewer::optim::{param_groups, AdamW, LossScaling, Optimizer, ParamGroup};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 4, 2, Default::default());
/// let mut optimizer = AdamW::new(1e-3);
/// for group in param_groups(&variables, &[]) {
///     optimizer.add_group(group)?;
/// }
/// let mut scaling = LossScaling::new();
/// let output = Tensor::f_ones([3, 4], tch::kind::FLOAT_CPU)?.f_linear(&layer.ws, layer.bs.as_ref())?;
/// let loss = output.f_square()?.f_mean(None)?;
/// optimizer.zero_grad()?;
/// scaling.scale(&loss)?.f_backward()?;
/// let parameters = optimizer.groups().iter().flat_map(ParamGroup::tensors);
/// let found_infinity = scaling.unscale(parameters)?;
/// // Gradients are clipped here.
/// optimizer.step_unless(1.0, &found_infinity)?;
/// scaling.update(&found_infinity)?;
/// assert_eq!(scaling.state()?["growth_tracker"].int64_value(&[]), 1);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct LossScaling {
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: i64,
    /// The initial values of the tensors.
    begin: LossScalingState,
    tensors: Option<Tensors>,
}

#[derive(Debug)]
struct Tensors {
    scale: Tensor,
    growth_tracker: Tensor,
}

impl Default for LossScaling {
    fn default() -> Self {
        LossScaling {
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            begin: LossScalingState {
                scale: 65536.0,
                growth_tracker: 0,
            },
            tensors: None,
        }
    }
}

impl LossScaling {
    /// PyTorch's defaults. Options are checked when the first loss is scaled.
    pub fn new() -> Self {
        LossScaling::default()
    }

    /// Sets the initial scale.
    #[must_use]
    pub fn initial_scale(mut self, scale: f64) -> Self {
        self.begin.scale = scale;
        self
    }

    /// Sets the factor of the scale after enough steps.
    #[must_use]
    pub fn growth_factor(mut self, factor: f64) -> Self {
        self.growth_factor = factor;
        self
    }

    /// Sets the factor of the scale after a skipped step.
    #[must_use]
    pub fn backoff_factor(mut self, factor: f64) -> Self {
        self.backoff_factor = factor;
        self
    }

    /// Sets after how many steps in a row the scale grows.
    #[must_use]
    pub fn growth_interval(mut self, steps: i64) -> Self {
        self.growth_interval = steps;
        self
    }

    /// The options that do not change during training, for the description of a run.
    pub(crate) fn rule(&self) -> Value {
        json!({
            "backoff_factor": self.backoff_factor,
            "growth_factor": self.growth_factor,
            "growth_interval": self.growth_interval,
        })
    }

    /// The loss times the scale, on the device and of the kind of the loss. Its gradients are
    /// those of the loss times the scale.
    ///
    /// # Errors
    /// When an option is invalid, or libtorch fails.
    pub fn scale(&mut self, loss: &Tensor) -> Result<Tensor> {
        if self.tensors.is_none() {
            self.check()?;
            let device = loss.device();
            let scale = self.begin.scale as f32;
            let tracker = i32::try_from(self.begin.growth_tracker).unwrap_or(i32::MAX);
            self.tensors = Some(Tensors {
                scale: Tensor::from(scale).f_to_device(device)?,
                growth_tracker: Tensor::from(tracker).f_to_device(device)?,
            });
        }
        let scale = &self.started()?.scale;
        Ok(loss.f_mul(&scale.f_to_device(loss.device())?)?)
    }

    /// Divides the gradients of `parameters` by the scale. The result, on the device of the
    /// first loss, is 1 when one of them is infinite or NaN, and 0 otherwise.
    ///
    /// Call it once after the backward pass (or several that accumulate gradients), then clip,
    /// then call [`Optimizer::step_unless`](super::Optimizer::step_unless).
    ///
    /// # Errors
    /// [`Error::Protocol`] when no loss was scaled; [`Error::Config`] when a parameter is of kind
    /// Half (train it in Float; under mixed precision only the computations are in Half); when
    /// libtorch fails.
    pub fn unscale<'a>(&self, parameters: impl IntoIterator<Item = &'a Tensor>) -> Result<Tensor> {
        let parameters: Vec<_> = parameters.into_iter().collect();
        for parameter in &parameters {
            if parameter.f_kind()? == Kind::Half {
                let shape = parameter.size();
                return Err(Error::config(
                    "loss scaling",
                    format!(
                        "a parameter of shape {shape:?} is of kind Half, whose gradients cannot \
                         be scaled back; keep parameters in Float"
                    ),
                ));
            }
        }
        native::unscale(parameters, &self.started()?.scale)
    }

    /// Updates the scale after the step, with what [`unscale`](Self::unscale) returned.
    ///
    /// # Errors
    /// [`Error::Protocol`] when no loss was scaled; when libtorch fails.
    pub fn update(&mut self, found_infinity: &Tensor) -> Result<()> {
        let (growth, backoff) = (self.growth_factor, self.backoff_factor);
        let interval = self.growth_interval;
        let Some(tensors) = &mut self.tensors else {
            return Err(unstarted());
        };
        native::update_scale(
            &mut tensors.scale,
            &mut tensors.growth_tracker,
            found_infinity,
            growth,
            backoff,
            interval,
        )
    }

    /// The numbers that change during training, read from the device, to be saved with a
    /// checkpoint: `scale`, and in `growth_tracker` the steps since the last that was
    /// skipped or after which the scale grew.
    ///
    /// ```
    /// use textbrewer::optim::LossScaling;
    ///
    /// let state = LossScaling::new().initial_scale(8.0).state()?;
    /// let mut scaling = LossScaling::new();
    /// scaling.load_state(&state)?;
    /// assert_eq!(scaling.state()?["scale"].double_value(&[]), 8.0);
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(self.numbers()?.to_tensors())
    }

    /// Restores what [`state`](Self::state) returned. Growth, backoff and interval are not part of
    /// it.
    ///
    /// # Errors
    /// When one of the two numbers is missing or invalid; then nothing is changed.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.set_numbers(LossScalingState::from_tensors(state)?)
    }

    /// [`state`](Self::state) as numbers.
    pub(crate) fn numbers(&self) -> Result<LossScalingState> {
        match &self.tensors {
            None => Ok(self.begin),
            Some(tensors) => Ok(LossScalingState {
                scale: tensors.scale.f_double_value(&[])?,
                growth_tracker: tensors.growth_tracker.f_int64_value(&[])?,
            }),
        }
    }

    /// [`load_state`](Self::load_state) of numbers.
    pub(crate) fn set_numbers(&mut self, state: LossScalingState) -> Result<()> {
        state.check()?;
        self.begin = state;
        self.tensors = None;
        Ok(())
    }

    fn started(&self) -> Result<&Tensors> {
        self.tensors.as_ref().ok_or_else(unstarted)
    }

    fn check(&self) -> Result<()> {
        self.begin.check()?;
        refuse_unless(
            self.growth_factor >= 1.0 && self.growth_factor.is_finite(),
            "growth_factor",
            "a finite number, at least 1",
            self.growth_factor,
        )?;
        refuse_unless(
            self.backoff_factor > 0.0 && self.backoff_factor <= 1.0,
            "backoff_factor",
            "more than 0 and at most 1",
            self.backoff_factor,
        )?;
        refuse_unless(
            self.growth_interval > 0 && i32::try_from(self.growth_interval).is_ok(),
            "growth_interval",
            "at least 1 and less than 2³¹",
            self.growth_interval as f64,
        )
    }
}

fn unstarted() -> Error {
    Error::protocol(
        "loss scaling",
        "no loss was scaled yet; call `scale` before the backward pass",
    )
}
