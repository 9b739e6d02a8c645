//! The log for TensorBoard.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::event_files::{event_files, new_event_file, new_run};
use super::events::Events;
use super::{LogAxis, LogSink, RunStart};
use crate::error::{Error, Result};

/// Writes an event file for TensorBoard.
///
/// [`create`](Self::create) makes a new folder inside the log folder: `run-0001`, `run-0002` and
/// so on, even when several processes start at the same moment. TensorBoard shows each as a run.
/// [`open`](Self::open) writes into a folder of your choice, and continues what is there.
///
/// A training with a `log_dir` makes a sink of its own. To log something beside it, call
/// [`CheckpointInfo::log`](crate::CheckpointInfo::log); or make the sink yourself and give the
/// training a clone of it, which writes the same file:
///
/// ```
/// # use tch::{nn, Device, Kind, Tensor};
/// # use textbrewer::{
/// #     from_fn, AdaptorOutput, BasicTrainer, Distiller, Sgd, TrainingConfig, VecLoader,
/// # };
/// use textbrewer::logging::{LogSink, TensorBoardSink};
///
/// # let folder = tempfile::tempdir()?;
/// # let logs = folder.path().join("logs");
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// # let mut trainer = BasicTrainer::builder(&model, &variables)
/// #     .train_config(config)
/// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
/// #     .build()?;
/// # let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
/// let mut sink = TensorBoardSink::create(&logs)?;
/// let run = trainer.train(&mut loader).epochs(2).optimizer(Sgd::new(0.1));
/// run.log_sink(sink.clone()).run()?;
/// sink.scalar("test/accuracy", 0.8, 2)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It counts by optimizer steps ([`LogAxis`]), shows the configurations of the run as text, and
/// after a resume values of the interrupted run at later steps than the checkpoint's are dropped.
/// At the step of the checkpoint itself stand what was logged with it, which does not come again,
/// and the values of the first step after it, which may be there twice.
///
/// Values are stored as 32-bit floats, TensorBoard's type of scalars.
///
/// ```
/// use textbrewer::logging::{LogSink, TensorBoardSink};
///
/// # fn main() -> textbrewer::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let log_dir = folder.path();
/// let mut sink = TensorBoardSink::create(log_dir)?;
/// sink.scalar("scalar/total_loss", 0.5, 1)?;
/// sink.flush()?;
/// assert_eq!(sink.path(), log_dir.join("run-0001"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TensorBoardSink {
    path: PathBuf,
    events: Arc<Mutex<Events<BufWriter<File>>>>,
}

/// By which a run finds its log again: the folder inside `log_dir`, and the first event file in
/// it, as the number of the folder may be that of another run elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFolder {
    folder: String,
    first_file: String,
}

impl TensorBoardSink {
    /// Creates `log_dir` if needed, a new folder for this run in it, and an event file in that.
    ///
    /// # Errors
    /// When a folder or the file cannot be created.
    pub fn create(log_dir: impl AsRef<Path>) -> Result<Self> {
        let log_dir = log_dir.as_ref();
        let path = new_run(log_dir).map_err(|error| failure(log_dir, &error))?;
        TensorBoardSink::open(path)
    }

    /// Creates this folder if needed, and an event file in it. TensorBoard shows the folder as one
    /// run, with what was written into it before: the way to one curve where a program goes on.
    ///
    /// ```
    /// use textbrewer::logging::TensorBoardSink;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let logs = folder.path();
    /// let first = TensorBoardSink::open(logs.join("student"))?;
    /// let later = TensorBoardSink::open(logs.join("student"))?;
    /// assert_eq!(first.path(), later.path());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the folder or the file cannot be created.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let path = folder.into();
        let open = || {
            fs::create_dir_all(&path)?;
            let file = new_event_file(&path)?;
            let mut events = Events::new(BufWriter::new(file));
            events.start()?;
            Ok(events)
        };
        let events = open().map_err(|error| failure(&path, &error))?;
        let events = Arc::new(Mutex::new(events));
        Ok(TensorBoardSink { path, events })
    }

    /// Continues the log of an earlier part of a run, if that is still there.
    pub(crate) fn continued(log_dir: &Path, log: &LogFolder) -> Result<Option<Self>> {
        // They were read from a file, and are to be names and not paths.
        let is_name = |name: &str| Path::new(name).file_name() == Some(name.as_ref());
        if !is_name(&log.folder) || !is_name(&log.first_file) {
            return Ok(None);
        }
        let path = log_dir.join(&log.folder);
        match path.join(&log.first_file).is_file() {
            true => TensorBoardSink::open(path).map(Some),
            false => Ok(None),
        }
    }

    /// By which [`continued`](Self::continued) finds the log again; none if it is gone.
    pub(crate) fn folder(&self) -> Option<LogFolder> {
        let folder = self.path.file_name()?.to_str()?.to_owned();
        let first_file = event_files(&self.path).ok()?.into_iter().min()?;
        Some(LogFolder { folder, first_file })
    }

    /// The folder of this run.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(
        &mut self,
        action: impl FnOnce(&mut Events<BufWriter<File>>) -> io::Result<()>,
    ) -> Result<()> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        action(&mut events).map_err(|error| failure(&self.path, &error))
    }
}

impl LogSink for TensorBoardSink {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        self.write(|events| events.scalar(tag, value, step))
    }

    fn flush(&mut self) -> Result<()> {
        self.write(Events::flush)
    }

    fn axis(&self) -> LogAxis {
        LogAxis::OptimizerStep
    }

    fn begin(&mut self, run: &RunStart) -> Result<()> {
        self.write(|events| {
            if let Some(step) = run.resumed_at {
                // What a checkpoint logged stands at its own step, and does not come again. So the
                // values of the first step after it, which stand there too, may be there twice.
                events.forget_from(step.saturating_add(1))?;
            }
            for (name, json) in &run.configuration {
                let tag = format!("configuration/{name}");
                events.text(&tag, json, run.resumed_at.unwrap_or(0))?;
            }
            events.flush()
        })
    }

    fn speed(&mut self, steps_per_second: f64, step: u64) -> Result<()> {
        self.scalar("scalar/steps_per_second", steps_per_second, step)
    }

    fn run_folder(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

impl fmt::Debug for TensorBoardSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorBoardSink")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn failure(path: &Path, error: &io::Error) -> Error {
    Error::Log {
        sink: format!("folder {}", path.display()),
        reason: format!("{error}; choose a folder that can be written (`log_dir`)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a checkpoint says of a log comes from a file, and leads nowhere else.
    #[test]
    fn a_log_is_continued_in_its_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        let sink = TensorBoardSink::create(&logs).unwrap();
        let good = sink.folder().unwrap();
        let continued = |log: &LogFolder| TensorBoardSink::continued(&logs, log).unwrap();
        assert_eq!(continued(&good).unwrap().path(), sink.path());
        let elsewhere = TensorBoardSink::create(folder.path().join("other")).unwrap();
        let paths = ["../other/run-0001", "..", ".", "", "/", "run-0002"];
        for path in paths {
            let mut bad = elsewhere.folder().unwrap();
            bad.folder = path.to_owned();
            assert!(continued(&bad).is_none(), "{path}");
        }
        let first_file = format!("../run-0001/{}", good.first_file);
        let folder = good.folder;
        assert!(continued(&LogFolder { folder, first_file }).is_none());
    }
}
