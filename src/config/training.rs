//! How to train: steps, checkpoints, folders, device.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::{Precision, device, is_false, json, or_null, write_aligned};
use crate::error::{Error, Result, Side};
use crate::files;

/// How to train: steps, checkpoints, folders, device.
///
/// The first eleven fields are TextBrewer's. Those from `clip_projections` on are this crate's
/// own. With their defaults the results are TextBrewer's, and a field that has its default is
/// left out of JSON, so that TextBrewer can read it.
///
/// ```
/// use textbrewer::TrainingConfig;
///
/// let config = TrainingConfig::default()
///     .gradient_accumulation_steps(2)
///     .log_dir("logs")
///     .output_dir("models");
/// config.validate()?;
/// assert_eq!(config, TrainingConfig::from_json_str(&config.to_json_string()?)?);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainingConfig {
    /// Batches whose gradients are accumulated for one optimizer step. Default 1.
    pub gradient_accumulation_steps: u64,
    /// Checkpoints per epoch. Default 1.
    pub ckpt_frequency: u64,
    /// Checkpoints are saved only in every nth epoch. Default 1.
    pub ckpt_epoch_frequency: u64,
    /// Optimizer steps between checkpoints, in runs of a given number of steps; the two
    /// frequencies are then ignored. Default none.
    pub ckpt_steps: Option<u64>,
    /// Folder for TensorBoard files; without it none are written. Default none.
    pub log_dir: Option<PathBuf>,
    /// Folder for checkpoints, created at the start of the run. Default `./saved_models`.
    pub output_dir: PathBuf,
    /// Where the models run: `"cpu"`, `"cuda"`, `"cuda:1"` in JSON. Default CUDA when
    /// there is one, else the CPU.
    #[serde(with = "device")]
    pub device: Device,
    /// TextBrewer's switch for mixed precision: `fp16` with dynamic loss scaling on CUDA,
    /// `bf16` on the CPU. Use either this or [`precision`](Self#structfield.precision); in JSON
    /// even `"precision": "float32"` beside `true` is an error. Default false.
    pub fp16: bool,
    /// Apex's levels `O0` to `O3`, used only when `fp16` is true. `O0` is `float32`; the
    /// others are all the same here: weights in `float32` and computation in 16 bits. Default
    /// `O1`.
    pub fp16_opt_level: String,
    /// Several devices: a process for each, which a run with a
    /// [process group](crate::Run::process_group) has. Without one, `true` is an error that says so.
    /// Default false.
    pub data_parallel: bool,
    /// The number of this process among those of its machine, which a run with a
    /// [process group](crate::Run::process_group) knows: another number than that of the group is
    /// an error, and so is any without a group. Default -1, which says nothing.
    pub local_rank: i64,
    /// Whether gradient clipping covers all parameters of the terms too: projections and those
    /// of your own terms. TextBrewer clips only the student's gradients. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub clip_projections: bool,
    /// Whether the optimizer takes a step on batches left over at the end of an epoch, too
    /// few for `gradient_accumulation_steps`. TextBrewer drops their gradients. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub step_on_remainder: bool,
    /// Batches between two reads of the losses from the device. The value of every batch is
    /// logged in any case, but each read waits for the device. With `null` they are read only
    /// at checkpoints and at the end. Default 20.
    #[serde(skip_serializing_if = "is_default_log_interval")]
    pub log_interval: Option<u64>,
    /// Precision of a model's forward pass. Weights, adaptors and losses stay in `float32`;
    /// libtorch's autocast chooses the precision of each operation of the model, and what an
    /// adaptor computes of an output of 16 bits is computed in `float32`, though the output itself
    /// is not converted. `fp16` scales the loss, see
    /// [`LossScaling`](crate::optim::LossScaling). Default `float32`.
    #[serde(skip_serializing_if = "is_float32")]
    pub precision: Precision,
    /// Precision of the teachers' forward passes, if not the student's. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_precision: Option<Precision>,
    /// Whether each batch weighs in an optimizer step by the number of positions (tokens, or
    /// examples) that its loss is a mean over, so that the loss of the step is the mean over all
    /// positions of its batches, of all processes, however they are divided into batches. If not,
    /// it is the mean of the batches' means, in which a token of a batch with few of them counts
    /// more. Weights of positions count as they do in the mean. Default none: as the
    /// loss on logits has it. Those that TextBrewer has are means of means, most that it lacks are over all
    /// positions; with several tasks none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weigh_by_positions: Option<bool>,
}

fn is_float32(precision: &Precision) -> bool {
    *precision == Precision::Float32
}

/// Linux's limit. Paths appear in messages, so they must not be endless.
const LONGEST_PATH: usize = 4096;

const DEFAULT_LOG_INTERVAL: Option<u64> = Some(20);

fn is_default_log_interval(interval: &Option<u64>) -> bool {
    *interval == DEFAULT_LOG_INTERVAL
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            gradient_accumulation_steps: 1,
            ckpt_frequency: 1,
            ckpt_epoch_frequency: 1,
            ckpt_steps: None,
            log_dir: None,
            output_dir: PathBuf::from("./saved_models"),
            device: Device::cuda_if_available(),
            fp16: false,
            fp16_opt_level: "O1".to_owned(),
            data_parallel: false,
            local_rank: -1,
            clip_projections: false,
            step_on_remainder: false,
            log_interval: DEFAULT_LOG_INTERVAL,
            precision: Precision::Float32,
            teacher_precision: None,
            weigh_by_positions: None,
        }
    }
}

impl TrainingConfig {
    /// Reads a file in TextBrewer's JSON.
    ///
    /// `log_dir` and `output_dir` are used as they are, wherever they lead: overwrite them in a
    /// configuration that you do not trust.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Json`] when it is not JSON, a key
    /// is unknown or of the wrong type, or `fp16` contradicts a `precision` beside it.
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_text(&files::read_text(path)?, &path.display().to_string())
    }

    /// Reads TextBrewer's JSON.
    ///
    /// # Errors
    /// [`Error::Json`], as for [`from_json_file`](Self::from_json_file).
    pub fn from_json_str(text: &str) -> Result<Self> {
        Self::from_text(text, json::TEXT)
    }

    /// Only in the text is it visible whether `precision` was given as `float32` or left out.
    /// Other values beside `fp16` are refused by [`validate`](Self::validate).
    fn from_text(text: &str, place: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Given {
            precision: Option<IgnoredAny>,
        }
        let config: Self = json::from_text(text, place)?;
        let is_16_bits = config.fp16 && config.fp16_opt_level != "O0";
        if is_16_bits && config.precision == Precision::Float32 {
            let given: Given = json::from_text(text, place)?;
            if given.precision.is_some() {
                let reason = "fp16: is true, and `precision` is `float32`; give one of them";
                return Err(Error::Json {
                    place: place.to_owned(),
                    reason: reason.to_owned(),
                    source: serde_json::Error::custom(reason),
                });
            }
        }
        Ok(config)
    }

    /// Writes JSON that [`from_json_str`](Self::from_json_str) reads.
    ///
    /// # Errors
    /// [`Error::Json`] when a folder's name is not Unicode.
    pub fn to_json_string(&self) -> Result<String> {
        json::to_string(self)
    }

    /// Sets [`gradient_accumulation_steps`](Self#structfield.gradient_accumulation_steps).
    #[must_use]
    pub fn gradient_accumulation_steps(mut self, batches: u64) -> Self {
        self.gradient_accumulation_steps = batches;
        self
    }

    /// Sets [`ckpt_frequency`](Self#structfield.ckpt_frequency).
    #[must_use]
    pub fn ckpt_frequency(mut self, per_epoch: u64) -> Self {
        self.ckpt_frequency = per_epoch;
        self
    }

    /// Sets [`ckpt_epoch_frequency`](Self#structfield.ckpt_epoch_frequency).
    #[must_use]
    pub fn ckpt_epoch_frequency(mut self, epochs: u64) -> Self {
        self.ckpt_epoch_frequency = epochs;
        self
    }

    /// Sets [`ckpt_steps`](Self#structfield.ckpt_steps).
    #[must_use]
    pub fn ckpt_steps(mut self, steps: impl Into<Option<u64>>) -> Self {
        self.ckpt_steps = steps.into();
        self
    }

    /// Sets [`log_dir`](Self#structfield.log_dir).
    #[must_use]
    pub fn log_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.log_dir = Some(folder.into());
        self
    }

    /// Sets [`output_dir`](Self#structfield.output_dir).
    #[must_use]
    pub fn output_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.output_dir = folder.into();
        self
    }

    /// Sets [`device`](Self#structfield.device).
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets [`fp16`](Self#structfield.fp16).
    #[must_use]
    pub fn fp16(mut self, on: bool) -> Self {
        self.fp16 = on;
        self
    }

    /// Sets [`fp16_opt_level`](Self#structfield.fp16_opt_level).
    #[must_use]
    pub fn fp16_opt_level(mut self, level: impl Into<String>) -> Self {
        self.fp16_opt_level = level.into();
        self
    }

    /// Sets [`data_parallel`](Self#structfield.data_parallel).
    #[must_use]
    pub fn data_parallel(mut self, on: bool) -> Self {
        self.data_parallel = on;
        self
    }

    /// Sets [`local_rank`](Self#structfield.local_rank).
    #[must_use]
    pub fn local_rank(mut self, rank: i64) -> Self {
        self.local_rank = rank;
        self
    }

    /// Sets [`clip_projections`](Self#structfield.clip_projections).
    #[must_use]
    pub fn clip_projections(mut self, on: bool) -> Self {
        self.clip_projections = on;
        self
    }

    /// Sets [`weigh_by_positions`](Self#structfield.weigh_by_positions).
    #[must_use]
    pub fn weigh_by_positions(mut self, on: bool) -> Self {
        self.weigh_by_positions = Some(on);
        self
    }

    /// Sets [`step_on_remainder`](Self#structfield.step_on_remainder).
    #[must_use]
    pub fn step_on_remainder(mut self, on: bool) -> Self {
        self.step_on_remainder = on;
        self
    }

    /// Sets [`log_interval`](Self#structfield.log_interval).
    #[must_use]
    pub fn log_interval(mut self, batches: impl Into<Option<u64>>) -> Self {
        self.log_interval = batches.into();
        self
    }

    /// Sets [`precision`](Self#structfield.precision).
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets [`teacher_precision`](Self#structfield.teacher_precision).
    #[must_use]
    pub fn teacher_precision(mut self, precision: impl Into<Option<Precision>>) -> Self {
        self.teacher_precision = precision.into();
        self
    }

    /// The defaults of the keys that are left out of JSON when they have them.
    pub(crate) fn left_out() -> serde_json::Value {
        let config = Self::default();
        serde_json::json!({
            "clip_projections": config.clip_projections,
            "step_on_remainder": config.step_on_remainder,
            "log_interval": config.log_interval,
            "precision": config.precision,
            "teacher_precision": config.teacher_precision,
            "weigh_by_positions": config.weigh_by_positions,
        })
    }

    /// Precision of the forward pass on one side, taking `fp16` into account.
    ///
    /// ```
    /// use tch::Device;
    /// use textbrewer::config::Precision;
    /// use textbrewer::{Side, TrainingConfig};
    ///
    /// let config = TrainingConfig::default().device(Device::Cpu).fp16(true);
    /// assert_eq!(config.precision_of(Side::Student), Precision::Bf16);
    /// let config = config.teacher_precision(Precision::Float32);
    /// assert_eq!(config.precision_of(Side::Teacher), Precision::Float32);
    /// ```
    pub fn precision_of(&self, side: Side) -> Precision {
        let common = match self.device {
            _ if !self.fp16 || self.fp16_opt_level == "O0" => self.precision,
            Device::Cpu => Precision::Bf16,
            _ => Precision::Fp16,
        };
        match side {
            Side::Teacher => self.teacher_precision.unwrap_or(common),
            Side::Student => common,
        }
    }

    /// Checks every value, and that the device exists.
    ///
    /// # Errors
    /// [`Error::Config`] with the first invalid key; [`Error::Unsupported`] for a key whose
    /// feature is not supported yet.
    pub fn validate(&self) -> Result<()> {
        for (key, value) in [
            (
                "gradient_accumulation_steps",
                Some(self.gradient_accumulation_steps),
            ),
            ("ckpt_frequency", Some(self.ckpt_frequency)),
            ("ckpt_epoch_frequency", Some(self.ckpt_epoch_frequency)),
            ("ckpt_steps", self.ckpt_steps),
            ("log_interval", self.log_interval),
        ] {
            if value == Some(0) {
                return Err(Error::config(key, "must be at least 1, is 0"));
            }
        }
        for (key, folder) in [
            ("log_dir", self.log_dir.as_deref()),
            ("output_dir", Some(self.output_dir.as_path())),
        ] {
            match folder.map_or(1, |folder| folder.as_os_str().len()) {
                0 => return Err(Error::config(key, "must not be empty; give a folder")),
                1..=LONGEST_PATH => {}
                length => {
                    let reason = format!("{length} bytes are too long for the name of a folder");
                    return Err(Error::config(key, reason));
                }
            }
        }
        if self.fp16 && self.precision != Precision::Float32 {
            let reason = format!(
                "is true, and `precision` is `{}`; give one of them",
                self.precision
            );
            return Err(Error::config("fp16", reason));
        }
        if self.fp16 && !matches!(self.fp16_opt_level.as_str(), "O0" | "O1" | "O2" | "O3") {
            let reason = format!(
                "must be one of O0, O1, O2, O3, is `{}`",
                self.fp16_opt_level
            );
            return Err(Error::config("fp16_opt_level", reason));
        }
        device::check(self.device)
    }
}

/// A list of `key : value`, in TextBrewer's key names.
impl fmt::Display for TrainingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_aligned(
            f,
            &[
                (
                    "gradient_accumulation_steps",
                    self.gradient_accumulation_steps.to_string(),
                ),
                ("ckpt_frequency", self.ckpt_frequency.to_string()),
                (
                    "ckpt_epoch_frequency",
                    self.ckpt_epoch_frequency.to_string(),
                ),
                ("ckpt_steps", or_null(self.ckpt_steps)),
                (
                    "log_dir",
                    or_null(self.log_dir.as_ref().map(|dir| dir.display())),
                ),
                ("output_dir", self.output_dir.display().to_string()),
                ("device", device::name(self.device)),
                ("fp16", self.fp16.to_string()),
                ("fp16_opt_level", self.fp16_opt_level.clone()),
                ("data_parallel", self.data_parallel.to_string()),
                ("local_rank", self.local_rank.to_string()),
                ("clip_projections", self.clip_projections.to_string()),
                ("step_on_remainder", self.step_on_remainder.to_string()),
                ("log_interval", or_null(self.log_interval)),
                ("precision", self.precision.to_string()),
                ("teacher_precision", or_null(self.teacher_precision)),
                ("weigh_by_positions", or_null(self.weigh_by_positions)),
            ],
        )
    }
}
