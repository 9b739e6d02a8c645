//! What to record of a teacher, and where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Device;

use super::column::{Form, Stored};
use super::keep::{Keep, Layers};
use super::manifest::Plan;
use super::recorder::Limits;
use super::shard::VERSION;
use crate::config::Precision;
use crate::data::Shard;
use crate::error::{Error, Result};

/// Describes what is recorded of a teacher, and records it.
///
/// What can be kept, in any mixture:
///
/// | method | of each position, or example | bytes |
/// |---|---|---|
/// | [`logits`](Self::logits) | all logits | 4, 2 or 1 for each class |
/// | [`probabilities`](Self::probabilities) | all probabilities | 4, 2 or 1 for each class |
/// | [`top_k`](Self::top_k) | the most likely classes and the mass of all others | 70 for 16 of 151,936 |
/// | [`sample`](Self::sample) | classes drawn from the probabilities | about 36 for 50 draws of 128,256 |
/// | [`feature`](Self::feature) | hidden states, embeddings | 4, 2 or 1 for each number |
/// | [`attention`](Self::attention) | attentions | 4, 2 or 1 for each number |
///
/// Logits of token-level models are kept at the positions of the adaptor's `logits_mask`, layers at
/// those of `inputs_mask` or of their own mask. Without a mask all positions are kept, padding too; a
/// loss without one counts them, so that they have to be the same when the file is read.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::data::{DataLoader, TensorLoader};
/// use textbrewer::teacher_file::{Recording, Stored};
/// use textbrewer::{AdaptorOutput, Ids, from_fn};
///
/// let numbers = Tensor::f_randn([10, 3], (Kind::Float, Device::Cpu))?;
/// let mut loader = TensorLoader::new(vec![numbers], 4)?.with_ids();
/// let teacher = from_fn(|(_, columns): &(Ids, Vec<Tensor>), _| Ok(columns[0].f_exp()?));
///
/// let folder = tempfile::tempdir()?;
/// let file = Recording::new(folder.path())
///     .logits(Stored::Float32)
///     .fact("teacher", "the exponential function")
///     .device(Device::Cpu)
///     .run(&teacher, |_, logits| Ok(AdaptorOutput::new().logits(logits)), &mut loader)?;
/// assert_eq!(file.len(), 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Recording {
    pub(super) folder: PathBuf,
    keep: Vec<Keep>,
    classes: Option<i64>,
    pub(super) facts: BTreeMap<String, String>,
    labels: Option<Vec<String>>,
    pub(super) limits: Limits,
    pub(super) share: Option<Shard>,
    pub(super) device: Device,
    pub(super) precision: Precision,
    pub(super) overwrite: bool,
    pub(super) shows_progress: bool,
}

impl Recording {
    /// Into this folder, which is made if it is not there. Nothing is kept yet.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Recording {
            folder: folder.as_ref().to_path_buf(),
            keep: Vec::new(),
            classes: None,
            facts: BTreeMap::new(),
            labels: None,
            limits: Limits {
                bytes: 128 << 20,
                examples: 8192,
            },
            share: None,
            device: Device::cuda_if_available(),
            precision: Precision::Float32,
            overwrite: false,
            shows_progress: true,
        }
    }

    fn keep(mut self, keep: Keep) -> Self {
        self.keep.push(keep);
        self
    }

    fn of_logits(self, form: Form, seed: u64) -> Self {
        self.keep(Keep::Logits { form, seed })
    }

    fn of_feature(
        self,
        (name, is_attention): (String, bool),
        layers: impl IntoIterator<Item = i64>,
        stored: Stored,
    ) -> Self {
        let layers = layers.into_iter().collect();
        self.keep(Keep::Feature(Layers {
            name,
            layers,
            stored,
            is_attention,
        }))
    }

    /// Keeps all logits.
    #[must_use]
    pub fn logits(self, stored: Stored) -> Self {
        self.of_logits(Form::Numbers { stored }, 0)
    }

    /// Keeps the probabilities of all classes, at a temperature of 1. Their logarithms are read as
    /// logits; that of a 0, which small ones become in 8 and 16 bits, as −10³⁰. They are for losses on
    /// probabilities, not for `mse`.
    #[must_use]
    pub fn probabilities(self, stored: Stored) -> Self {
        self.of_logits(Form::Probabilities { stored }, 0)
    }

    /// Keeps the `k` most likely classes at a temperature, and the probability of all others as a number
    /// of its own ([`TopK`](crate::logits::TopK)). Take the temperature of the loss. Logarithms of
    /// probabilities are kept in float16: within 2⁻¹¹ of each.
    #[must_use]
    pub fn top_k(self, k: i64, temperature: f64) -> Self {
        self.of_logits(Form::TopK { k, temperature }, 0)
    }

    /// Keeps classes drawn from the probabilities at a temperature, that of the loss
    /// ([`Sample`](crate::logits::Sample)). What is drawn for an example follows from `seed` and its id.
    #[must_use]
    pub fn sample(self, draws: i64, temperature: f64, seed: u64) -> Self {
        self.of_logits(Form::Sample { draws, temperature }, seed)
    }

    /// Keeps layers of a feature, such as `hidden`: by their places in the feature's list, where negative
    /// ones count from the end. They are kept at the positions of the teacher's mask, and are 0 elsewhere
    /// when they are read: the student's adaptor has to return the same mask, or padding counts in the
    /// match. For a pooled embedding let the adaptor return a feature of one layer
    /// `[batch, size]`.
    #[must_use]
    pub fn feature(
        self,
        name: impl Into<String>,
        layers: impl IntoIterator<Item = i64>,
        stored: Stored,
    ) -> Self {
        self.of_feature((name.into(), false), layers, stored)
    }

    /// As [`feature`](Self::feature), of layers `[batch, heads, length, length]`, of which both lengths
    /// are without padding in the file.
    #[must_use]
    pub fn attention(
        self,
        name: impl Into<String>,
        layers: impl IntoIterator<Item = i64>,
        stored: Stored,
    ) -> Self {
        self.of_feature((name.into(), true), layers, stored)
    }

    /// Says how many classes there are, where the teacher's adaptor returns a top k or a sample.
    #[must_use]
    pub fn classes(mut self, classes: i64) -> Self {
        self.classes = Some(classes);
        self
    }

    /// Says something that whoever reads can compare
    /// ([`TeacherFile::check_fact`](super::TeacherFile::check_fact)), such as a hash of the teacher's weights
    /// ([`hash_of_variables`](super::hash_of_variables)), of the tokenizer or of the data
    /// ([`hash_of_file`](super::hash_of_file)).
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }

    /// Says the names of the classes, in their order.
    #[must_use]
    pub fn labels<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.labels = Some(labels.into_iter().map(Into::into).collect());
        self
    }

    /// Sets at how many bytes a shard is written, 128 MiB by default. So many are in memory.
    #[must_use]
    pub fn shard_bytes(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets at how many examples a shard is written, 8,192 by default. What is not written when a
    /// program is killed is recorded again.
    #[must_use]
    pub fn shard_examples(mut self, examples: usize) -> Self {
        self.limits.examples = examples;
        self
    }

    /// Sets where the teacher is, and its batches go: CUDA where there is one by default.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets the precision of the teacher's forward pass, float32 by default.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Allows another recording in the folder to be replaced. Otherwise it is an error, and the same
    /// recording goes on.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Whether a progress bar is shown where there is a terminal; it is by default.
    #[must_use]
    pub fn progress(mut self, show: bool) -> Self {
        self.shows_progress = show;
        self
    }

    pub(super) fn plan(&self) -> Result<Plan> {
        if self.keep.is_empty() {
            let reason = "nothing is to be kept; call `logits`, `top_k`, `feature` …";
            return Err(Error::config("teacher file", reason));
        }
        self.keep.iter().try_for_each(Keep::check)?;
        let limits = &self.limits;
        if limits.examples == 0 || limits.bytes == 0 {
            let reason = "a shard has at least one example and one byte";
            return Err(Error::config("shard_examples", reason));
        }
        Ok(Plan {
            version: VERSION,
            part: self.share.map_or(0, |share| share.rank()),
            parts: self.share.map_or(1, |share| share.world_size()),
            keep: self.keep.clone(),
            classes: self.classes,
            facts: self.facts.clone(),
            labels: self.labels.clone(),
        })
    }

    /// For what others made: keeps this unless something is kept already, and says what was read.
    pub(super) fn of_others(mut self, keep: Keep, facts: Vec<(&str, String)>) -> Self {
        if self.keep.is_empty() {
            self.keep.push(keep);
        }
        for (name, value) in facts {
            self.facts.entry(name.to_owned()).or_insert(value);
        }
        self
    }

    /// How many of the most likely classes are kept, and at which temperature, if that was said.
    pub(super) fn said_top_k(&self) -> Option<(i64, f64)> {
        let mut keep = self.keep.iter();
        keep.find_map(|keep| match keep {
            Keep::Logits {
                form: Form::TopK { k, temperature },
                ..
            } => Some((*k, *temperature)),
            _ => None,
        })
    }
}
