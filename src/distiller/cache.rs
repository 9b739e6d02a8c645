//! Teacher outputs, computed once per batch and kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::StepInfo;
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::config::{DistillationConfig, LayerSelection};
use crate::error::{Error, Result};
use crate::kind::is_floating;
use crate::logits::Logits;

/// Teacher outputs, computed once per batch and kept in main memory.
///
/// Kept are the logits, their masks, and those layers of the features that a match needs, or
/// all layers of the features that the distiller asked for
/// ([`keep_features`](Self::keep_features)). The layers that are not kept come
/// back as undefined tensors, so that the others keep their places.
/// Batches are told apart by [`StepInfo::batch_id`]; a batch without one is computed anew.
///
/// Clones are handles of one cache: several teachers share it and its limit, each at a
/// [place](CachePlace) of its own.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::distiller::{CachePlace, TeacherCache};
/// use textbrewer::{AdaptorOutput, DistillationConfig, StepInfo};
///
/// let config = DistillationConfig::default().is_caching_logits(true);
/// let cache = TeacherCache::new(&config)?.expect("the configuration asks for it");
/// let step = StepInfo::new(0, 0, 10, 1).with_batch_id(Some(7));
/// let mut computed = 0;
/// for _epoch in 0..3 {
///     let output = cache.get_or_compute(CachePlace::default(), &step, || {
///         computed += 1;
///         Ok(AdaptorOutput::new().logits(&Tensor::from_slice(&[1f32, 2.0])))
///     })?;
///     assert_eq!(output.logits[0].whole()?.double_value(&[1]), 2.0);
/// }
/// assert_eq!((computed, cache.len(), cache.bytes()), (1, 1, 8));
/// cache.clear();
/// assert!(cache.is_empty());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct TeacherCache(Rc<RefCell<Store>>);

/// Which of the teachers that share a cache.
///
/// ```
/// use textbrewer::distiller::CachePlace;
///
/// let place = CachePlace::new(0, 1); // the second teacher of the first task
/// assert_eq!((place.task, place.teacher), (0, 1));
/// assert_ne!(place, CachePlace::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct CachePlace {
    /// The task, in a distiller of several; no two have the same.
    pub task: usize,
    /// The teacher among those of its task, as matches name it.
    pub teacher: usize,
}

impl CachePlace {
    /// Teacher `teacher` of task `task`, both counted from 0.
    pub fn new(task: usize, teacher: usize) -> Self {
        CachePlace { task, teacher }
    }
}

/// The layers to keep, by feature.
type Layers = BTreeMap<String, LayerSelection>;

struct Store {
    entries: HashMap<(CachePlace, u64), KeptOutput>,
    bytes: u64,
    limit: Option<u64>,
    kind: Option<Kind>,
    /// What matches need, of each teacher.
    layers: BTreeMap<usize, Layers>,
    /// Features of which every layer is kept.
    whole_features: BTreeSet<String>,
}

/// One output in main memory.
struct KeptOutput {
    logits: Vec<KeptLogits>,
    logits_mask: Vec<Kept>,
    /// How many layers the feature has, and those that were kept.
    features: BTreeMap<String, (usize, BTreeMap<usize, Kept>)>,
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
    /// The cache that a configuration asks for, if it does.
    ///
    /// # Errors
    /// When matches need features at every step and the configuration keeps logits only.
    pub fn new(config: &DistillationConfig) -> Result<Option<Self>> {
        if !config.is_caching_logits {
            return Ok(None);
        }
        if !config.intermediate_matches.is_empty() && !config.cache_features {
            let reason = "it keeps logits only, but intermediate_matches need the teacher's \
                          features at every step; set `cache_features` as well, which takes \
                          more memory, or leave caching off";
            return Err(Error::config("is_caching_logits", reason));
        }
        let mut layers: BTreeMap<usize, Layers> = BTreeMap::new();
        for matched in &config.intermediate_matches {
            let (teacher, feature) = (matched.teacher, &matched.feature);
            let of_teacher = layers.entry(teacher).or_default();
            let needed = config.layers_of_teacher(teacher, feature);
            of_teacher.insert(feature.clone(), needed);
        }
        Ok(Some(TeacherCache(Rc::new(RefCell::new(Store {
            entries: HashMap::new(),
            bytes: 0,
            limit: config
                .cache_limit_mb
                .map(|limit| limit.saturating_mul(1 << 20)),
            kind: config.cache_dtype.map(|dtype| dtype.kind()),
            layers,
            whole_features: BTreeSet::new(),
        })))))
    }

    /// Keeps every layer of these features, for a distiller that needs more than the
    /// configured matches, in place of those named in an earlier call. What is kept already
    /// is forgotten.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::distiller::{CachePlace, TeacherCache};
    /// use textbrewer::{AdaptorOutput, DistillationConfig, StepInfo};
    ///
    /// let config = DistillationConfig::default().is_caching_logits(true).cache_features(true);
    /// let cache = TeacherCache::new(&config)?.expect("the configuration asks for it");
    /// cache.keep_features(["hidden"]);
    /// let step = StepInfo::new(0, 0, 10, 1).with_batch_id(Some(0));
    /// let states = [Tensor::from(1f32), Tensor::from(2f32)];
    /// let place = CachePlace::default();
    /// cache.get_or_compute(place, &step, || Ok(AdaptorOutput::new().hidden(&states)))?;
    /// let kept = cache.get_or_compute(place, &step, || unreachable!())?;
    /// assert_eq!(kept.features["hidden"][1], states[1]);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn keep_features(&self, names: impl IntoIterator<Item = impl Into<String>>) {
        self.clear();
        self.0.borrow_mut().whole_features = names.into_iter().map(Into::into).collect();
    }

    /// The output of a batch: kept if there is one, else what `compute` gives, which is
    /// kept. Either way it is what the cache keeps that is returned, so that every epoch
    /// sees the same.
    ///
    /// `place` tells the teacher from the others that share the cache.
    ///
    /// # Errors
    /// Those of `compute`, and [`Error::CacheLimit`] when there is no room left.
    pub fn get_or_compute(
        &self,
        place: CachePlace,
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
    pub fn bytes(&self) -> u64 {
        self.0.borrow().bytes
    }

    /// How many outputs are kept: batches, times teachers.
    pub fn len(&self) -> usize {
        self.0.borrow().entries.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything. Every run does so at its start: its batches may be others.
    pub fn clear(&self) {
        let mut store = self.0.borrow_mut();
        store.entries.clear();
        store.bytes = 0;
    }
}

impl Store {
    fn keep(&mut self, key: (CachePlace, u64), output: &AdaptorOutput) -> Result<&KeptOutput> {
        let mut layers = self.layers.get(&key.0.teacher).cloned().unwrap_or_default();
        for name in &self.whole_features {
            layers.insert(name.clone(), LayerSelection::All);
        }
        let kept = KeptOutput::new(output, self.kind, &layers)?;
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
    fn new(output: &AdaptorOutput, kind: Option<Kind>, layers: &Layers) -> Result<Self> {
        let keep = |tensors: &[Tensor]| {
            let kept = tensors.iter().map(|tensor| Kept::new(tensor, kind));
            kept.collect::<Result<Vec<_>>>()
        };
        let mut features = BTreeMap::new();
        for (name, wanted) in layers {
            // What is missing is told of by the match that needs it.
            let Some(available) = output.features.get(name) else {
                continue;
            };
            let len = available.len();
            let mut kept = BTreeMap::new();
            for (position, layer) in available.iter().enumerate() {
                if wanted.contains(position, len) && layer.defined() {
                    kept.insert(position, Kept::new(layer, kind)?);
                }
            }
            features.insert(name.clone(), (len, kept));
        }
        let logits = output.logits.iter();
        let logits = logits.map(|logits| KeptLogits::new(logits, kind));
        Ok(KeptOutput {
            logits: logits.collect::<Result<_>>()?,
            logits_mask: keep(&output.logits_mask)?,
            features,
        })
    }

    /// Layers that were not kept come back undefined, so that the others keep their places.
    fn restore(&self) -> Result<AdaptorOutput> {
        let mut output = AdaptorOutput::new();
        for kept in &self.logits {
            output.logits.push(kept.restore()?);
        }
        for kept in &self.logits_mask {
            output.logits_mask.push(kept.restore()?);
        }
        for (name, (len, kept)) in &self.features {
            let restore = |position| kept.get(&position).map_or(Ok(Tensor::new()), Kept::restore);
            let layers = (0..*len).map(restore).collect::<Result<_>>()?;
            output.features.insert(name.clone(), layers);
        }
        Ok(output)
    }

    fn bytes(&self) -> u64 {
        let features = self.features.values().flat_map(|(_, kept)| kept.values());
        let logits = self.logits.iter().flat_map(|logits| &logits.tensors);
        let tensors = logits.chain(&self.logits_mask).chain(features);
        tensors.map(|kept| kept.bytes).sum()
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
