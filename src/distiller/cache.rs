//! Teacher outputs, computed once per batch and kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::Needs;
use super::needs::Layers;
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::config::{DistillationConfig, LayerSelection};
use crate::error::{Error, Result};
use crate::feature::{Feature, FeatureMask};
use crate::kind::is_floating;
use crate::logits::Logits;
use crate::step::StepInfo;

/// Teacher outputs, computed once per batch and kept in main memory.
///
/// Kept is what the terms of the distiller need: logits with their masks, and layers of features.
/// The layers that are not kept come back as undefined tensors, so that the others keep their
/// places. Batches are told apart by [`StepInfo::batch_id`]; a batch without one is computed
/// anew. Every run begins with an empty cache.
///
/// Clones are handles of one cache: several teachers share it and its limit, each at a
/// place of its own.
#[derive(Clone)]
pub(super) struct TeacherCache(Rc<RefCell<Store>>);

/// Which of the teachers that share a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Place {
    /// The task, in a distiller of several; no two have the same.
    pub(super) task: usize,
    /// The teacher among those of its task, as matches name it.
    pub(super) teacher: usize,
}

struct Store {
    entries: HashMap<(Place, u64), KeptOutput>,
    bytes: u64,
    limit: Option<u64>,
    kind: Option<Kind>,
    needs: Needs,
}

/// One output in main memory.
struct KeptOutput {
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

/// Logits of any kind, whose tensors are those that are kept. An output matrix, which the logits
/// of all batches share, stays where it is.
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

impl TeacherCache {
    /// The cache that a configuration asks for, if it does, for what terms need.
    /// `needs_layers` names one of them that needs layers of a teacher.
    ///
    /// # Errors
    /// When a term needs features at every step and the configuration keeps logits only.
    pub(super) fn new(
        config: &DistillationConfig,
        needs: Needs,
        needs_layers: Option<&str>,
    ) -> Result<Option<Self>> {
        if !config.is_caching_logits {
            return Ok(None);
        }
        if let Some(term) = needs_layers.filter(|_| !config.cache_features) {
            let reason = format!(
                "it keeps logits only, but `{term}` needs the teacher's features at every step; \
                 set `cache_features` as well, which takes more memory, or leave caching off"
            );
            return Err(Error::config("is_caching_logits", reason));
        }
        Ok(Some(TeacherCache(Rc::new(RefCell::new(Store {
            entries: HashMap::new(),
            bytes: 0,
            limit: config
                .cache_limit_mb
                .map(|limit| limit.saturating_mul(1 << 20)),
            kind: config.cache_dtype.map(|dtype| dtype.kind()),
            needs,
        })))))
    }

    /// The output of a batch: kept if there is one, else what `compute` gives, which is
    /// kept. Either way it is what the cache keeps that is returned, so that every epoch
    /// sees the same.
    ///
    /// `place` tells the teacher from the others that share the cache.
    ///
    /// # Errors
    /// Those of `compute`, and [`Error::CacheLimit`] when there is no room left.
    pub(super) fn get_or_compute(
        &self,
        place: Place,
        step: &StepInfo,
        compute: impl FnOnce() -> Result<AdaptorOutput>,
    ) -> Result<AdaptorOutput> {
        let Some(batch) = step.batch_id else {
            return compute();
        };
        let key = (place, batch);
        if let Some(kept) = self.0.borrow().entries.get(&key) {
            return kept.restore();
        }
        let output = compute()?;
        self.0.borrow_mut().keep(key, &output)?.restore()
    }

    /// How much memory the kept tensors take.
    pub(super) fn bytes(&self) -> u64 {
        self.0.borrow().bytes
    }

    /// Forgets everything. Every run does so at its start: its batches may be others.
    pub(super) fn clear(&self) {
        let mut store = self.0.borrow_mut();
        store.entries.clear();
        store.bytes = 0;
    }
}

impl Store {
    fn keep(&mut self, key: (Place, u64), output: &AdaptorOutput) -> Result<&KeptOutput> {
        let kept = KeptOutput::new(output, self.kind, &self.needs, key.0.teacher)?;
        let bytes = self.bytes + kept.bytes();
        if let Some(limit) = self.limit.filter(|limit| bytes > *limit) {
            return Err(Error::CacheLimit {
                outputs: self.entries.len(),
                bytes,
                limit,
            });
        }
        self.bytes = bytes;
        Ok(self.entries.entry(key).or_insert(kept))
    }
}

impl KeptOutput {
    fn new(
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
        for (name, wanted) in needs.teachers.get(&teacher).unwrap_or(&Layers::new()) {
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

    fn restore(&self) -> Result<AdaptorOutput> {
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

    fn bytes(&self) -> u64 {
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

impl fmt::Debug for TeacherCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.0.borrow();
        f.debug_struct("TeacherCache")
            .field("outputs", &store.entries.len())
            .field("megabytes", &(store.bytes >> 20))
            .field("limit", &store.limit)
            .finish_non_exhaustive()
    }
}
