//! Teacher outputs, computed once per batch and kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use tch::Kind;

use super::Needs;
use super::kept::KeptOutput;
use crate::adaptor::AdaptorOutput;
use crate::config::DistillationConfig;
use crate::error::{Error, Result};
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
    needs: Rc<Needs>,
}

impl TeacherCache {
    /// The cache that a configuration asks for, if it does, for what terms need.
    /// `needs_layers` names one of them that needs layers of a teacher.
    ///
    /// # Errors
    /// When a term needs features at every step and the configuration keeps logits only.
    pub(super) fn new(
        config: &DistillationConfig,
        needs: &Rc<Needs>,
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
            needs: Rc::clone(needs),
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
