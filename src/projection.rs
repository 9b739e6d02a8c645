//! Projections between the student's hidden size and the teacher's.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;
use tch::nn::{Init, Path};

use crate::error::{Error, Result};

/// What a projection does to a state.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::ProjectionForward;
///
/// let double: ProjectionForward = Box::new(|state| Ok(state.times(2.0)?));
/// assert_eq!(double(&Tensor::from(1.5))?.double_value(&[]), 3.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub type ProjectionForward = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// Makes a projection's variables under a path, from `dim_in` to `dim_out`.
///
/// ```
/// use tch::{nn::VarStore, Device};
/// use textbrewer::{Presets, ProjectionBuilder};
///
/// let build: ProjectionBuilder = Presets::default().find_projection("proj", "linear")?;
/// let variables = VarStore::new(Device::Cpu);
/// let _forward = build(&variables.root().sub("projection"), 4, 6)?;
/// assert_eq!(variables.variables()["projection.weight"].size(), [6, 4]);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub type ProjectionBuilder = Rc<dyn Fn(&Path<'_>, i64, i64) -> Result<ProjectionForward>>;

/// Standard deviation of a new projection's weights: TextBrewer's, after BERT.
const WEIGHT_STD: f64 = 0.02;

/// A trained map from `[.., dim_in]` to `[.., dim_out]`.
///
/// ```
/// use tch::{nn::VarStore, Device, Kind, Tensor};
/// use textbrewer::Presets;
///
/// let variables = VarStore::new(Device::Cpu);
/// let projection =
///     Presets::default().make_projection("proj", "tanh", &variables.root(), 4, 6)?;
/// assert_eq!((projection.name(), projection.dim_in(), projection.dim_out()), ("tanh", 4, 6));
/// let state = Tensor::ones([2, 3, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(projection.forward(&state)?.size(), [2, 3, 6]);
/// assert!(projection.forward(&state.f_narrow(-1, 0, 2)?).is_err());
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub struct Projection {
    name: String,
    dim_in: i64,
    dim_out: i64,
    forward: ProjectionForward,
}

impl Projection {
    /// A projection of one's own. Usually [`Presets::make_projection`](crate::Presets::make_projection)
    /// makes them.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor};
    /// use textbrewer::Projection;
    ///
    /// let halve = Projection::new("halve", 4, 2, Box::new(|state| Ok(state.f_narrow(-1, 0, 2)?)));
    /// let state = Tensor::zeros([3, 5, 4], (Kind::Float, Device::Cpu));
    /// assert_eq!(halve.forward(&state)?.size(), [3, 5, 2]);
    /// # Ok::<(), textbrewer::Error>(())
    /// ```
    pub fn new(
        name: impl Into<String>,
        dim_in: i64,
        dim_out: i64,
        forward: ProjectionForward,
    ) -> Self {
        Projection {
            name: name.into(),
            dim_in,
            dim_out,
            forward,
        }
    }

    /// The registered name, such as `linear`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size of the last dimension of what it takes.
    pub fn dim_in(&self) -> i64 {
        self.dim_in
    }

    /// The size of the last dimension of what it gives.
    pub fn dim_out(&self) -> i64 {
        self.dim_out
    }

    /// Projects a state.
    ///
    /// # Shape
    /// `[.., dim_in]` to `[.., dim_out]`.
    ///
    /// # Errors
    /// When the last dimension is not `dim_in`, or the result's is not `dim_out`.
    pub fn forward(&self, state: &Tensor) -> Result<Tensor> {
        let what = || {
            format!(
                "projection `{}` from {} to {}",
                self.name, self.dim_in, self.dim_out
            )
        };
        let size = state.size();
        if size.last() != Some(&self.dim_in) {
            return Err(Error::shape(
                what(),
                format!(
                    "the student's state [.., {}] (the second element of `proj` is the student's size, the third the teacher's)",
                    self.dim_in
                ),
                format!("{size:?}"),
            ));
        }
        let projected = (self.forward)(state)?;
        let size = projected.size();
        if size.last() != Some(&self.dim_out) {
            return Err(Error::shape(
                what(),
                format!("its function to return [.., {}]", self.dim_out),
                format!("{size:?}"),
            ));
        }
        Ok(projected)
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projection")
            .field("name", &self.name)
            .field("dim_in", &self.dim_in)
            .field("dim_out", &self.dim_out)
            .finish_non_exhaustive()
    }
}

/// `x Wᵀ + b`; variables `weight` `[dim_out, dim_in]` and `bias` `[dim_out]`.
pub(crate) fn linear(path: &Path<'_>, dim_in: i64, dim_out: i64) -> Result<ProjectionForward> {
    let weight = path.f_var(
        "weight",
        &[dim_out, dim_in],
        Init::Randn {
            mean: 0.0,
            stdev: WEIGHT_STD,
        },
    )?;
    let bias = path.f_var("bias", &[dim_out], Init::Const(0.0))?;
    Ok(Box::new(move |state| {
        Ok(state.f_linear(&weight, Some(&bias))?)
    }))
}

/// `max(0, x Wᵀ + b)`.
pub(crate) fn relu(path: &Path<'_>, dim_in: i64, dim_out: i64) -> Result<ProjectionForward> {
    let linear = linear(path, dim_in, dim_out)?;
    Ok(Box::new(move |state| Ok(linear(state)?.f_relu()?)))
}

/// `tanh(x Wᵀ + b)`.
pub(crate) fn tanh(path: &Path<'_>, dim_in: i64, dim_out: i64) -> Result<ProjectionForward> {
    let linear = linear(path, dim_in, dim_out)?;
    Ok(Box::new(move |state| Ok(linear(state)?.f_tanh()?)))
}
