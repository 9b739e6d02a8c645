//! A model's layers under one name.

use tch::Tensor;

/// A model's layers under one name, such as `hidden`, and which of their positions count.
///
/// `inputs_mask` of the [`AdaptorOutput`](crate::AdaptorOutput) is the mask of features that have
/// none of their own, where their layers have positions: three dimensions or more. A pooled
/// feature `[batch, size]` needs no mask and gets none. When two features are matched, what the
/// student's says of its mask (`mask`, `unmasked`) goes before what the teacher's says, and that
/// before the student's `inputs_mask`.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::{AdaptorOutput, Feature};
///
/// let state = |length| Tensor::f_zeros([2, length, 8], (Kind::Float, Device::Cpu));
/// let source_mask = Tensor::from_slice2(&[[1, 1, 0], [1, 0, 0]]);
/// let target_mask = Tensor::from_slice2(&[[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]);
/// // The padding of the encoder's inputs is not that of the decoder's.
/// let output = AdaptorOutput::new()
///     .inputs_mask(&source_mask)
///     .hidden(&[state(3)?])
///     .feature("decoder", Feature::new(&[state(5)?]).mask(&target_mask));
/// assert_eq!(output.features["decoder"].layers.len(), 1);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Feature {
    /// One tensor per layer; undefined where a layer was not kept.
    pub layers: Vec<Tensor>,
    /// Which positions of the layers count.
    pub(crate) mask: FeatureMask,
}

/// Which positions of a [`Feature`] count.
#[derive(Debug, Default)]
pub(crate) enum FeatureMask {
    /// Those of `inputs_mask`, if the layers have positions.
    #[default]
    Inputs,
    /// All of them, whatever `inputs_mask` says.
    Unmasked,
    /// Those of a mask of its own, `[batch, length]`.
    Own(Tensor),
}

impl Feature {
    /// Layers without a mask of their own.
    pub fn new(layers: &[Tensor]) -> Self {
        Feature {
            layers: layers.iter().map(Tensor::shallow_clone).collect(),
            mask: FeatureMask::Inputs,
        }
    }

    /// Sets which positions of the layers count, `[batch, length]`, 0 at padding.
    #[must_use]
    pub fn mask(mut self, mask: &Tensor) -> Self {
        self.mask = FeatureMask::Own(mask.shallow_clone());
        self
    }

    /// The same in a value of its own; no number is copied.
    pub(crate) fn shallow_clone(&self) -> Self {
        Feature {
            layers: self.layers.iter().map(Tensor::shallow_clone).collect(),
            mask: match &self.mask {
                FeatureMask::Own(mask) => FeatureMask::Own(mask.shallow_clone()),
                FeatureMask::Unmasked => FeatureMask::Unmasked,
                FeatureMask::Inputs => FeatureMask::Inputs,
            },
        }
    }

    pub(crate) fn own_mask(&self) -> Option<&Tensor> {
        match &self.mask {
            FeatureMask::Own(mask) => Some(mask),
            FeatureMask::Inputs | FeatureMask::Unmasked => None,
        }
    }

    /// Lets all positions count, although there is an `inputs_mask`.
    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.mask = FeatureMask::Unmasked;
        self
    }
}

impl From<&[Tensor]> for Feature {
    fn from(layers: &[Tensor]) -> Self {
        Feature::new(layers)
    }
}

impl<const N: usize> From<&[Tensor; N]> for Feature {
    fn from(layers: &[Tensor; N]) -> Self {
        Feature::new(layers)
    }
}

impl From<&Vec<Tensor>> for Feature {
    fn from(layers: &Vec<Tensor>) -> Self {
        Feature::new(layers)
    }
}

impl From<Vec<Tensor>> for Feature {
    fn from(layers: Vec<Tensor>) -> Self {
        Feature {
            layers,
            mask: FeatureMask::Inputs,
        }
    }
}
