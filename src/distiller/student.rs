//! A student with its adaptor.

use std::fmt;

use super::mixed_precision::MixedPrecision;
use crate::adaptor::AdaptorOutput;
use crate::config::TrainingConfig;
use crate::error::{Error, Result, Side};
use crate::feature::Feature;
use crate::logits::Logits;
use crate::model::Model;

/// A model and its adaptor in one. Only the model computes in another precision: what an
/// adaptor computes may be a loss, and is computed in `float32`.
pub(super) type Adapted<'a, B> = Box<dyn Fn(&B, MixedPrecision) -> Result<AdaptorOutput> + 'a>;

/// A student with its adaptor. It always runs in training mode and with gradients.
pub(super) struct Student<'a, B> {
    adapted: Adapted<'a, B>,
    precision: MixedPrecision,
}

impl<'a, B> Student<'a, B> {
    /// Puts a model and its adaptor together, in the precision of the configuration.
    pub(super) fn new<S, F>(model: &'a S, adaptor: F, config: &TrainingConfig) -> Self
    where
        S: Model<B> + ?Sized,
        F: Fn(&B, &S::Output) -> Result<AdaptorOutput> + 'a,
    {
        Student {
            adapted: Box::new(move |batch, precision| {
                let output = precision.run(|| model.forward(batch, true))?;
                precision.adapt(|| adaptor(batch, &output))
            }),
            precision: MixedPrecision::of(config, Side::Student),
        }
    }

    /// What the student says of a batch.
    ///
    /// # Errors
    /// Those of the model and of its adaptor.
    pub(super) fn run(&self, batch: &B) -> Result<AdaptorOutput> {
        defined((self.adapted)(batch, self.precision)?, Side::Student)
    }
}

impl<B> fmt::Debug for Student<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Student").finish_non_exhaustive()
    }
}

/// Refuses tensors that hold nothing: libtorch has no shape to give for them, and tch panics
/// where one is asked for. Undefined layers in features are allowed; the term that needs one
/// reports it.
pub(super) fn defined(output: AdaptorOutput, side: Side) -> Result<AdaptorOutput> {
    let logits = output.logits.iter().flat_map(Logits::tensors);
    let logits = logits.map(|tensor| ("logits", tensor));
    let lists = [
        ("logits_mask", &output.logits_mask),
        ("logits_weights", &output.logits_weights),
        ("labels", &output.labels),
        ("losses", &output.losses),
    ];
    let of_lists = lists
        .into_iter()
        .flat_map(|(key, tensors)| tensors.iter().map(move |tensor| (key, tensor)));
    let mask = output.inputs_mask.iter().map(|mask| ("inputs_mask", mask));
    let own_masks = output.features.values().filter_map(Feature::own_mask);
    let own_masks = own_masks.map(|mask| ("mask of a feature", mask));
    for (key, tensor) in logits.chain(of_lists).chain(mask).chain(own_masks) {
        if !tensor.defined() {
            let what = format!("`{key}` of the {side} adaptor");
            return Err(Error::shape(what, "a tensor", "an undefined one"));
        }
    }
    Ok(output)
}
