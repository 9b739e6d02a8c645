//! What an adaptor says about a model's output.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use crate::batch::Batch;
use crate::error::Result;
use crate::feature::{Feature, FeatureMask};
use crate::logits::Logits;

/// Says what in a model's output is logits, hidden states, attentions and so on.
///
/// An adaptor is a closure `(batch, output) -> Result<AdaptorOutput>`; one for the
/// teacher, one for the student, or the same for both.
///
/// | TextBrewer's key | method | shape |
/// |---|---|---|
/// | `logits` | [`logits`](Self::logits), once per tensor | `[batch, labels]` or `[batch, length, labels]` |
/// | `logits_mask` | [`logits_mask`](Self::logits_mask), once for all or once per logits | `[batch, length]`, 0 where logits do not count |
/// | | [`logits_weights`](Self::logits_weights), once for all or once per logits | `[batch]` or `[batch, length]` |
/// | `labels` | [`labels`](Self::labels), once per logits | `[batch]` or `[batch, length]` |
/// | `losses` | [`losses`](Self::losses), once per loss | any; the mean is taken |
/// | `inputs_mask` | [`inputs_mask`](Self::inputs_mask) | `[batch, length]`, 0 at padding |
/// | `hidden` | [`hidden`](Self::hidden) | a list of `[batch, length, hidden]` |
/// | `attention` | [`attention`](Self::attention) | a list of `[batch, heads, length, length]` |
///
/// [`feature`](Self::feature) adds lists under names of the user's own, each with a mask of its
/// own where `inputs_mask` is not theirs ([`Feature`]). A layer of a feature that no term needs
/// may be an undefined tensor, so that the others keep their places.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::AdaptorOutput;
///
/// let logits = Tensor::zeros([4, 2], (Kind::Float, Device::Cpu));
/// let hidden = vec![Tensor::zeros([4, 7, 16], (Kind::Float, Device::Cpu))];
/// let output = AdaptorOutput::new().logits(&logits).hidden(&hidden);
/// assert_eq!(output.features["hidden"].layers.len(), 1);
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct AdaptorOutput {
    /// Scores before softmax, one of each head of the model.
    pub logits: Vec<Logits>,
    /// Which positions of the logits count.
    pub logits_mask: Vec<Tensor>,
    /// How much each of these positions counts.
    pub logits_weights: Vec<Tensor>,
    /// The ground truth, for `probability_shift` and for losses on logits that ask for it.
    pub labels: Vec<Tensor>,
    /// Losses on the ground truth, and any others of the user's own.
    pub losses: Vec<Tensor>,
    /// Which positions of the input are not padding; the mask of features that have none.
    pub inputs_mask: Option<Tensor>,
    /// The layers of a model by name: `hidden`, `attention`, and any other.
    pub features: BTreeMap<String, Feature>,
}

impl AdaptorOutput {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds logits: a tensor, or another kind of [`Logits`]. Call it again for a model that has
    /// several.
    #[must_use]
    pub fn logits(mut self, logits: impl Into<Logits>) -> Self {
        self.logits.push(logits.into());
        self
    }

    /// Adds a mask of logits; one serves all logits, or give one for each.
    #[must_use]
    pub fn logits_mask(mut self, mask: &Tensor) -> Self {
        self.logits_mask.push(mask.shallow_clone());
        self
    }

    /// Adds weights of the positions of logits, or of the examples; one serves all logits, or
    /// give one for each. The distillation loss is then `Σ w · l / Σ w` over the positions that
    /// the mask keeps. Those of the student count, the teacher's are not looked at.
    ///
    /// Weights are 0 or more. A weight of 0 leaves a position out unless its loss is infinite;
    /// where all are 0 the loss is 0, and so is its gradient.
    #[must_use]
    pub fn logits_weights(mut self, weights: &Tensor) -> Self {
        self.logits_weights.push(weights.shallow_clone());
        self
    }

    /// Adds labels; one for each of the logits.
    ///
    /// A negative one, such as −100, marks a position without a label.
    /// [`Presets::kd_loss_with_labels`](crate::Presets::kd_loss_with_labels) says what losses make
    /// of it, [`probability_shift`](crate::probability_shift) has its own rule.
    #[must_use]
    pub fn labels(mut self, labels: &Tensor) -> Self {
        self.labels.push(labels.shallow_clone());
        self
    }

    /// Adds a loss; the sum of all is the hard-label loss.
    #[must_use]
    pub fn losses(mut self, loss: &Tensor) -> Self {
        self.losses.push(loss.shallow_clone());
        self
    }

    /// Sets which positions are not padding.
    #[must_use]
    pub fn inputs_mask(mut self, mask: &Tensor) -> Self {
        self.inputs_mask = Some(mask.shallow_clone());
        self
    }

    /// Sets the hidden states, one per layer.
    #[must_use]
    pub fn hidden(self, layers: impl Into<Feature>) -> Self {
        self.feature("hidden", layers)
    }

    /// Sets the attention matrices, one per layer.
    #[must_use]
    pub fn attention(self, layers: impl Into<Feature>) -> Self {
        self.feature("attention", layers)
    }

    /// Sets a list of tensors, one per layer, under a name that matches can use as their
    /// `feature`.
    #[must_use]
    pub fn feature(mut self, name: impl Into<String>, layers: impl Into<Feature>) -> Self {
        self.features.insert(name.into(), layers.into());
        self
    }

    /// The same in a value of its own; no number is copied.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::AdaptorOutput;
    ///
    /// let said = AdaptorOutput::new().logits(Tensor::from_slice(&[0.5, -0.5]));
    /// assert_eq!(said.shallow_clone().logits.len(), 1);
    /// ```
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let handles = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
        let features = self.features.iter();
        AdaptorOutput {
            logits: self.logits.iter().map(Logits::shallow_clone).collect(),
            logits_mask: handles(&self.logits_mask),
            logits_weights: handles(&self.logits_weights),
            labels: handles(&self.labels),
            losses: handles(&self.losses),
            inputs_mask: self.inputs_mask.as_ref().map(Tensor::shallow_clone),
            features: features
                .map(|(name, feature)| (name.clone(), feature.shallow_clone()))
                .collect(),
        }
    }

    /// The same, on this device.
    pub(crate) fn to_device(&self, device: Device) -> Result<Self> {
        let moved = |tensor: &Tensor| match tensor.defined() {
            true => Batch::to_device(tensor, device),
            false => Ok(Tensor::new()),
        };
        let all = |tensors: &[Tensor]| tensors.iter().map(moved).collect::<Result<Vec<_>>>();
        let logits = self.logits.iter();
        let logits = logits.map(|logits| logits.try_map_positions(moved));
        let features = self.features.iter().map(|(name, feature)| {
            let layers = all(&feature.layers)?;
            let mask = match &feature.mask {
                FeatureMask::Own(mask) => FeatureMask::Own(moved(mask)?),
                FeatureMask::Unmasked => FeatureMask::Unmasked,
                FeatureMask::Inputs => FeatureMask::Inputs,
            };
            Ok((name.clone(), Feature { layers, mask }))
        });
        Ok(AdaptorOutput {
            logits: logits.collect::<Result<_>>()?,
            logits_mask: all(&self.logits_mask)?,
            logits_weights: all(&self.logits_weights)?,
            labels: all(&self.labels)?,
            losses: all(&self.losses)?,
            inputs_mask: self.inputs_mask.as_ref().map(moved).transpose()?,
            features: features.collect::<Result<_>>()?,
        })
    }

    /// The mask of these logits, of which there may be several: one mask serves all.
    pub(crate) fn mask_of_logits(&self, head: usize) -> Option<&Tensor> {
        match &self.logits_mask[..] {
            [one] => Some(one),
            several => several.get(head),
        }
    }

    /// Which positions of a student's feature count beside a teacher's: the mask of the student's
    /// feature, else that of the teacher's, else the student's `inputs_mask` if the layers have
    /// positions.
    pub(crate) fn mask_beside<'a>(
        &'a self,
        teacher: Option<&'a AdaptorOutput>,
        feature: &str,
        have_positions: bool,
    ) -> Option<&'a Tensor> {
        let student = self.features.get(feature);
        let teacher = teacher.and_then(|output| output.features.get(feature));
        match (
            student.map(|feature| &feature.mask),
            teacher.map(|feature| &feature.mask),
        ) {
            (Some(FeatureMask::Own(mask)), _) => Some(mask),
            (Some(FeatureMask::Unmasked), _) => None,
            (_, Some(FeatureMask::Own(mask))) => Some(mask),
            (_, Some(FeatureMask::Unmasked)) => None,
            _ => self.inputs_mask.as_ref().filter(|_| have_positions),
        }
    }
}
