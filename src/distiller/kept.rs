//! What is kept of a teacher's output.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::Needs;
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::config::{LayerSelection, NeededLayers};
use crate::error::Result;
use crate::feature::{Feature, FeatureMask};
use crate::kind::is_floating;
use crate::logits::Logits;

/// One output in main memory.
pub(super) struct KeptOutput {
    logits: Vec<KeptLogits>,
    logits_mask: Vec<Kept>,
    features: BTreeMap<String, KeptFeature>,
}

/// Layers of a feature.
struct KeptFeature {
    /// How many there were.
    len: usize,
    layers: BTreeMap<usize, Kept>,
    mask: KeptMask,
}

enum KeptMask {
    Inputs,
    Unmasked,
    Own(Kept),
}

/// Logits of any kind, whose tensors are those that are kept. An output matrix is shared by all
/// batches and not copied.
struct KeptLogits {
    form: Logits,
    tensors: Vec<Kept>,
}

/// A tensor in main memory, and where and what it was.
struct Kept {
    tensor: Tensor,
    device: Device,
    kind: Kind,
    bytes: u64,
}

impl KeptOutput {
    pub(super) fn new(
        output: &AdaptorOutput,
        kind: Option<Kind>,
        needs: &Needs,
        teacher: usize,
    ) -> Result<Self> {
        let keep = |tensors: &[Tensor]| {
            let kept = tensors.iter().filter(|_| needs.logits);
            let kept = kept.map(|tensor| Kept::new(tensor, kind));
            kept.collect::<Result<Vec<_>>>()
        };
        let mut features = BTreeMap::new();
        for (name, wanted) in needs.teachers.get(&teacher).unwrap_or(&NeededLayers::new()) {
            // What is missing is reported by the term that needs it.
            if let Some(feature) = output.features.get(name) {
                features.insert(name.clone(), KeptFeature::new(feature, wanted, kind)?);
            }
        }
        let logits = output.logits.iter().filter(|_| needs.logits);
        let logits = logits.map(|logits| KeptLogits::new(logits, kind));
        Ok(KeptOutput {
            logits: logits.collect::<Result<_>>()?,
            logits_mask: keep(&output.logits_mask)?,
            features,
        })
    }

    pub(super) fn restore(&self) -> Result<AdaptorOutput> {
        let mut output = AdaptorOutput::new();
        for kept in &self.logits {
            output.logits.push(kept.restore()?);
        }
        for kept in &self.logits_mask {
            output.logits_mask.push(kept.restore()?);
        }
        for (name, kept) in &self.features {
            output.features.insert(name.clone(), kept.restore()?);
        }
        Ok(output)
    }

    pub(super) fn bytes(&self) -> u64 {
        let features = self.features.values().flat_map(KeptFeature::tensors);
        let logits = self.logits.iter().flat_map(|logits| &logits.tensors);
        let tensors = logits.chain(&self.logits_mask).chain(features);
        tensors.map(|kept| kept.bytes).sum()
    }
}

impl KeptFeature {
    fn new(feature: &Feature, wanted: &LayerSelection, kind: Option<Kind>) -> Result<Self> {
        let len = feature.layers.len();
        let mut layers = BTreeMap::new();
        for (position, layer) in feature.layers.iter().enumerate() {
            if wanted.contains(position, len) && layer.defined() {
                layers.insert(position, Kept::new(layer, kind)?);
            }
        }
        let mask = match &feature.mask {
            FeatureMask::Inputs => KeptMask::Inputs,
            FeatureMask::Unmasked => KeptMask::Unmasked,
            FeatureMask::Own(mask) => KeptMask::Own(Kept::new(mask, None)?),
        };
        Ok(KeptFeature { len, layers, mask })
    }

    /// Layers that were not kept come back undefined, so that the others keep their places.
    fn restore(&self) -> Result<Feature> {
        let restore = |position| {
            let kept = self.layers.get(&position);
            kept.map_or(Ok(Tensor::new()), Kept::restore)
        };
        let mut feature = Feature::from((0..self.len).map(restore).collect::<Result<Vec<_>>>()?);
        feature.mask = match &self.mask {
            KeptMask::Inputs => FeatureMask::Inputs,
            KeptMask::Unmasked => FeatureMask::Unmasked,
            KeptMask::Own(mask) => FeatureMask::Own(mask.restore()?),
        };
        Ok(feature)
    }

    fn tensors(&self) -> impl Iterator<Item = &Kept> {
        let mask = match &self.mask {
            KeptMask::Own(mask) => Some(mask),
            _ => None,
        };
        self.layers.values().chain(mask)
    }
}

impl KeptLogits {
    fn new(logits: &Logits, kind: Option<Kind>) -> Result<Self> {
        let mut tensors = Vec::new();
        let form = logits.detached()?.try_map_positions(|tensor| {
            let kept = Kept::new(tensor, kind)?;
            let shared = kept.tensor.shallow_clone();
            tensors.push(kept);
            Ok(shared)
        })?;
        Ok(KeptLogits { form, tensors })
    }

    fn restore(&self) -> Result<Logits> {
        let mut kept = self.tensors.iter();
        self.form.try_map_positions(|tensor| match kept.next() {
            Some(kept) => kept.restore(),
            None => Ok(tensor.shallow_clone()), // cannot be: they come in the order above
        })
    }
}

impl Kept {
    /// Only floating point is stored in another type: masks are exact.
    fn new(tensor: &Tensor, kind: Option<Kind>) -> Result<Self> {
        let original = tensor.f_kind()?;
        let stored = kind.filter(|_| is_floating(original)).unwrap_or(original);
        let moved = tensor.f_detach()?.f_to_device(Device::Cpu)?;
        // A copy even on the CPU: the model may write into that memory in the next step.
        let copies = tensor.device() == Device::Cpu;
        Ok(Kept {
            tensor: moved.f_to_dtype(stored, false, copies)?,
            device: tensor.device(),
            kind: original,
            bytes: (tensor.numel() * stored.elt_size_in_bytes()) as u64,
        })
    }

    fn restore(&self) -> Result<Tensor> {
        let moved = Batch::to_device(&self.tensor, self.device)?;
        Ok(moved.f_to_kind(self.kind)?)
    }
}
