//! What to record of a teacher, and where.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use tch::Device;

use super::column::{Form, Stored};
use super::keep::{Keep, Layers};
use super::manifest::{self, Manifest, Plan};
use super::recorder::{Limits, Recorder};
use super::shard::VERSION;
use super::{TeacherFile, wrong};
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::checkpoint::Disk;
use crate::config::Precision;
use crate::data::{DataLoader, Shard, Uneven};
use crate::distiller::{MixedPrecision, Teacher};
use crate::error::{Error, Result};
use crate::logging::{self, ProgressBar};
use crate::model::Model;

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
    folder: PathBuf,
    keep: Vec<Keep>,
    classes: Option<i64>,
    facts: BTreeMap<String, String>,
    labels: Option<Vec<String>>,
    limits: Limits,
    share: Option<Shard>,
    device: Device,
    precision: Precision,
    overwrite: bool,
    shows_progress: bool,
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
        self.keep(Keep::Feature(Layers {
            name: name.into(),
            layers: layers.into_iter().collect(),
            stored,
            is_attention: false,
        }))
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
        self.keep(Keep::Feature(Layers {
            name: name.into(),
            layers: layers.into_iter().collect(),
            stored,
            is_attention: true,
        }))
    }

    /// Says how many classes there are, where the teacher's adaptor returns a top k or a sample.
    #[must_use]
    pub fn classes(mut self, classes: i64) -> Self {
        self.classes = Some(classes);
        self
    }

    /// Says something that whoever reads can compare
    /// ([`TeacherFile::check_fact`]), such as a hash of the teacher's weights
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

    fn plan(&self) -> Result<Plan> {
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

    /// Begins to record, or goes on with what was recorded before in the folder.
    ///
    /// # Errors
    /// When nothing is to be kept, the folder has another recording, or it cannot be written.
    pub fn begin(self) -> Result<Recorder> {
        let plan = self.plan()?;
        if let Err(error) = plan.check_folder(&self.folder) {
            match self.overwrite {
                true => remove(&self.folder, &plan)?,
                false => return Err(error),
            }
        }
        Recorder::begin(self.folder, plan, self.limits, Disk::for_recordings())
    }

    /// Whether the folder has all of this recording already.
    fn is_complete(&self) -> Result<bool> {
        let plan = self.plan()?;
        let path = plan.manifest_path(&self.folder);
        // One that was killed between the manifest and its end is begun once more, to end.
        if !path.exists() || plan.path(&self.folder).exists() {
            return Ok(false);
        }
        if self.overwrite && plan.check_folder(&self.folder).is_err() {
            return Ok(false);
        }
        let manifest = Manifest::read(&path)?;
        plan.check_same(&self.folder, &manifest.plan)?;
        let is_there = |name: &String| self.folder.join(name).exists();
        Ok(manifest.shards.iter().all(|shard| is_there(&shard.name)))
    }

    /// Asks the teacher about all examples of the loader's first epoch, and returns the file. The
    /// teacher runs in evaluation mode and without gradients.
    ///
    /// A program that was killed can be started again at any time: what is written is not computed
    /// again, and the file is the same, to the byte, as one that was written undisturbed. If all
    /// examples of the loader are there, the teacher is not asked; those that are not are added.
    ///
    /// Say the teacher's hash as a fact. Without it nobody notices that what is there was said by
    /// another teacher, and a warning says so.
    ///
    /// # Errors
    /// Those of the loader, the model and the adaptor, of [`begin`](Self::begin) and of
    /// [`Recorder::add`]; when batches carry no ids.
    pub fn run<B, T, F, L>(self, teacher: &T, adaptor: F, loader: &mut L) -> Result<TeacherFile>
    where
        B: Batch,
        T: Model<B> + ?Sized,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput>,
        L: DataLoader<Batch = B>,
    {
        let folder = self.folder.clone();
        self.record(teacher, adaptor, loader)?;
        TeacherFile::open(folder)
    }

    /// As [`run`](Self::run), for one of several processes that record into one folder: it asks the
    /// teacher about a share of the examples, and writes files of its own. When all have ended,
    /// [`TeacherFile::open`] opens the whole; before that its error names those that have not.
    ///
    /// ```
    /// use tch::{Device, Tensor};
    /// use textbrewer::data::{DataLoader, Shard, TensorLoader};
    /// use textbrewer::teacher_file::{Recording, Stored};
    /// use textbrewer::{AdaptorOutput, Ids, TeacherFile, from_fn};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let teacher = from_fn(|(_, columns): &(Ids, Vec<Tensor>), _| Ok(columns[0].f_exp()?));
    /// // What each of two processes does.
    /// for rank in 0..2 {
    ///     let numbers = Tensor::from_slice2(&[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]);
    ///     let mut loader = TensorLoader::new(vec![numbers], 1)?.with_ids();
    ///     Recording::new(folder.path()).logits(Stored::Float32).device(Device::Cpu).run_share(
    ///         Shard::new(rank, 2)?,
    ///         &teacher,
    ///         |_, logits| Ok(AdaptorOutput::new().logits(logits)),
    ///         &mut loader,
    ///     )?;
    /// }
    /// assert_eq!(TeacherFile::open(folder.path())?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`run`](Self::run), but for those of opening the whole.
    pub fn run_share<B, T, F, L>(
        mut self,
        share: Shard,
        teacher: &T,
        adaptor: F,
        loader: &mut L,
    ) -> Result<()>
    where
        B: Batch,
        T: Model<B> + ?Sized,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput>,
        L: DataLoader<Batch = B>,
    {
        self.share = Some(share);
        self.record(teacher, adaptor, loader)
    }

    /// As [`begin`](Self::begin), for one of several processes that record into one folder; it ends
    /// with [`Recorder::end`].
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_share(mut self, share: Shard) -> Result<Recorder> {
        self.share = Some(share);
        self.begin()
    }

    fn record<B, T, F, L>(self, teacher: &T, adaptor: F, loader: &mut L) -> Result<()>
    where
        B: Batch,
        T: Model<B> + ?Sized,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput>,
        L: DataLoader<Batch = B>,
    {
        let share = self.share.unwrap_or(Shard::ALL).with_uneven(Uneven::Keep);
        let mut batches = loader.shard(share);
        if self.is_complete()? {
            let ids = self.plan()?.ids_in(&self.folder)?;
            if has_all(&ids, &mut batches)? {
                tell_of_teacher(&self.folder, &self.facts);
                return Ok(());
            }
        }
        let (device, shows_progress) = (self.device, self.shows_progress);
        let precision = MixedPrecision::new(self.precision, device);
        let teacher = Teacher::new(teacher, adaptor);
        let mut recorder = self.begin()?;
        let total = batches.num_batches().unwrap_or(0) as u64;
        let bar = match shows_progress {
            true => ProgressBar::new(total),
            false => ProgressBar::hidden(),
        };
        batches.start_epoch(1)?;
        bar.begin(1, 0);
        for number in 1.. {
            let in_batch = |error: Error| error.at(format!("recording batch {number}"));
            let Some(batch) = batches.next_batch().map_err(in_batch)? else {
                break;
            };
            let ids = batch.ids().cloned().ok_or_else(no_ids)?;
            if recorder.has_all(&ids) {
                recorder.pass_over(&ids)?;
            } else {
                let record = |recorder: &mut Recorder| {
                    let said = teacher.run(&batch.to_device(device)?, precision)?;
                    recorder.add(&ids, &said)
                };
                record(&mut recorder).map_err(in_batch)?;
            }
            bar.step(1, number);
        }
        bar.finish();
        recorder.end()
    }
}

/// Whether these are all examples of the loader's first epoch.
fn has_all<B: Batch>(
    known: &HashSet<u64>,
    batches: &mut impl DataLoader<Batch = B>,
) -> Result<bool> {
    for batch in batches.epoch(1)? {
        let batch = batch?;
        let ids = batch.ids().ok_or_else(no_ids)?;
        if !ids.iter().all(|id| known.contains(id)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Warns where what is there may be of another teacher. `source` is what is said of files of others.
pub(super) fn tell_of_teacher(folder: &Path, facts: &BTreeMap<String, String>) {
    if !facts.contains_key("teacher") && !facts.contains_key("source") {
        logging::warn(format_args!(
            "{}: what was recorded before is taken as it is; say the teacher's hash with \
             `Recording::fact(\"teacher\", …)`, or another teacher is not noticed",
            folder.display()
        ));
    }
}

pub(super) fn no_ids() -> Error {
    let reason = "a batch has none, by which its examples could be found; give the batch a field of type \
                  `Ids`, or call `with_ids` on the loader";
    Error::protocol("ids", reason)
}

/// Removes what there is of any recording, and nothing else.
fn remove(folder: &Path, plan: &Plan) -> Result<()> {
    if plan.parts > 1 {
        let reason = "several processes cannot replace a recording; remove the folder first";
        return Err(wrong(folder, reason.to_owned()));
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    // The manifest and the plan last: whoever begins after a kill in between must not take shards of
    // another recording for its own.
    names.sort();
    for name in names
        .iter()
        .rev()
        .filter(|name| manifest::is_ours(&name.to_string_lossy()))
    {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
    }
    Ok(())
}
