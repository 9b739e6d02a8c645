//! What the crate asks of a teacher and of a student.

use std::fmt;
use std::rc::Rc;

use crate::error::Result;
use crate::teacher_file::Recorded;

/// A network that can be run on a batch.
///
/// `train` says whether dropout and the like are on. Teachers are always run
/// with `train = false` and without gradients; there is no mode to restore.
///
/// A closure becomes a model with [`from_fn`]; a reference to a model is a model.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::{Model, Result};
///
/// #[derive(Debug)]
/// struct Classifier {
///     layer: nn::Linear,
/// }
///
/// impl Model<Tensor> for Classifier {
///     type Output = Tensor;
///
///     fn forward(&self, batch: &Tensor, train: bool) -> Result<Tensor> {
///         let kept = batch.f_dropout(0.1, train)?;
///         Ok(kept.f_linear(&self.layer.ws, self.layer.bs.as_ref())?)
///     }
/// }
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let model = Classifier { layer: nn::linear(variables.root(), 3, 2, Default::default()) };
/// let logits = model.forward(&Tensor::ones([4, 3], (Kind::Float, Device::Cpu)), false)?;
/// assert_eq!(logits.size(), [4, 2]);
/// # Result::Ok(())
/// ```
pub trait Model<B: ?Sized> {
    /// What the network returns; an adaptor says what in it is logits, hidden states ….
    type Output;

    /// Runs the network.
    ///
    /// # Errors
    /// Whatever the network cannot do with this batch.
    fn forward(&self, batch: &B, train: bool) -> Result<Self::Output>;

    /// What is known of its outputs before it runs: a file of a teacher says it.
    #[doc(hidden)]
    fn recorded(&self) -> Option<Rc<Recorded>> {
        None
    }
}

impl<B: ?Sized, M: Model<B> + ?Sized> Model<B> for &M {
    type Output = M::Output;

    fn forward(&self, batch: &B, train: bool) -> Result<Self::Output> {
        (**self).forward(batch, train)
    }

    fn recorded(&self) -> Option<Rc<Recorded>> {
        (**self).recorded()
    }
}

impl<B: ?Sized, M: Model<B> + ?Sized> Model<B> for Box<M> {
    type Output = M::Output;

    fn forward(&self, batch: &B, train: bool) -> Result<Self::Output> {
        (**self).forward(batch, train)
    }

    fn recorded(&self) -> Option<Rc<Recorded>> {
        (**self).recorded()
    }
}

/// A closure as a model; made by [`from_fn`].
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::{from_fn, Model};
///
/// // Its type cannot be written down, but `impl Model` can.
/// fn scaled(factor: f64) -> impl Model<Tensor, Output = Tensor> {
///     from_fn(move |batch: &Tensor, _train| Ok(batch.times(factor)?))
/// }
/// assert_eq!(scaled(2.0).forward(&Tensor::from(1.5), false)?.double_value(&[]), 3.0);
/// # textbrewer::Result::Ok(())
/// ```
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn(..)")
    }
}

/// Makes a model of a closure `(batch, train) -> output`.
///
/// ```
/// use tch::{Kind, Tensor};
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::{from_fn, Model};
///
/// let doubler = from_fn(|batch: &Tensor, _train| Ok(batch.times(2.0)?));
/// let output = doubler.forward(&Tensor::from_slice(&[1f32, 2.0]), false)?;
/// assert_eq!(output.f_sum(Kind::Float)?.double_value(&[]), 6.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn from_fn<B: ?Sized, O, F: Fn(&B, bool) -> Result<O>>(f: F) -> FromFn<F> {
    FromFn(f)
}

impl<B: ?Sized, O, F: Fn(&B, bool) -> Result<O>> Model<B> for FromFn<F> {
    type Output = O;

    fn forward(&self, batch: &B, train: bool) -> Result<O> {
        (self.0)(batch, train)
    }
}
