//! TensorBoard's event files.
//!
//! Only the messages and the record format of tensorboard-rs are used; the file is opened and
//! written here. The writer of that crate passes everything to a thread that panics at the
//! first error; after that its methods panic too, and its destructor aborts the process. None
//! of that can be caught from outside.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use protobuf::{Message, RepeatedField};
use serde::{Deserialize, Serialize};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{Summary, Summary_Value};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::types::DataType;
use tensorboard_rs::record_writer::RecordWriter;
use tensorboard_rs::summary;

use crate::error::{Error, Result};

use super::{LogAxis, LogSink, RunStart};

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

/// Writes records until the first error. A record that is cut short would corrupt all that
/// follow it.
struct Events<W: Write> {
    records: Option<RecordWriter<W>>,
}

impl<W: Write> Events<W> {
    fn new(writer: W) -> Self {
        Events {
            records: Some(RecordWriter::new(writer)),
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let mut event = Event::new();
        event.set_file_version("brain.Event:2".to_owned());
        self.write(event)?;
        self.flush()
    }

    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> io::Result<()> {
        let mut event = event_at(step);
        event.set_summary(summary::scalar(tag, value as f32));
        self.write(event)
    }

    /// Text that is shown as it is: TensorBoard takes it for Markdown, where four spaces begin
    /// a line of code.
    fn text(&mut self, tag: &str, text: &str, step: u64) -> io::Result<()> {
        let lines = text.lines().map(|line| format!("    {line}\n"));
        let mut tensor = TensorProto::new();
        tensor.set_dtype(DataType::DT_STRING);
        let text = lines.collect::<String>().into_bytes();
        tensor.set_string_val(RepeatedField::from_vec(vec![text]));
        let mut value = Summary_Value::new();
        value.set_tag(tag.to_owned());
        value.set_tensor(tensor);
        let plugin = value.mut_metadata().mut_plugin_data();
        plugin.set_plugin_name("text".to_owned());
        let mut summary = Summary::new();
        summary.set_value(RepeatedField::from_vec(vec![value]));
        let mut event = event_at(step);
        event.set_summary(summary);
        self.write(event)
    }

    /// Says that a process starts here: what earlier files of the folder have at this step and
    /// later is dropped by TensorBoard.
    fn forget_from(&mut self, step: u64) -> io::Result<()> {
        let mut session = SessionLog::new();
        session.set_status(SessionLog_SessionStatus::START);
        let mut event = event_at(step);
        event.set_session_log(session);
        self.write(event)
    }

    fn write(&mut self, mut event: Event) -> io::Result<()> {
        event.set_wall_time(now().as_secs_f64());
        let bytes = event.write_to_bytes()?;
        self.attempt(|records| records.write(&bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(RecordWriter::flush)
    }

    fn attempt(
        &mut self,
        action: impl FnOnce(&mut RecordWriter<W>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(records) = &mut self.records else {
            return Ok(());
        };
        let result = action(records);
        if result.is_err() {
            self.records = None;
        }
        result
    }
}

fn event_at(step: u64) -> Event {
    let mut event = Event::new();
    event.set_step(i64::try_from(step).unwrap_or(i64::MAX));
    event
}

const EVENT_FILE: &str = "events.out.tfevents.";

fn event_files(folder: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| name.starts_with(EVENT_FILE));
        files.extend(name.map(str::to_owned));
    }
    Ok(files)
}

/// How many event files this process has made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Creates an event file. TensorBoard reads those of a folder in the order of their names, in
/// which this one is the last. No other file has its name, wherever it is.
fn new_event_file(folder: &Path) -> io::Result<File> {
    let seconds_of = |name: &String| name.split('.').nth(3)?.parse::<u64>().ok();
    let latest = event_files(folder)?.iter().filter_map(seconds_of).max();
    let after = latest.map_or(0, |latest| latest.saturating_add(1));
    let mut seconds = now().as_secs().max(after);
    loop {
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let name = format!("{EVENT_FILE}{seconds:010}.{process}.{number}");
        match File::create_new(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && seconds < u64::MAX => {
                seconds += 1;
            }
            other => return other,
        }
    }
}

/// Creates the next free `run-NNNN`. Creating a folder fails if it exists, so two runs never
/// share one.
fn new_run(log_dir: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(log_dir)?;
    let mut number = 1;
    for entry in fs::read_dir(log_dir)? {
        let name = entry?.file_name();
        let taken = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if let Some(taken) = taken.and_then(|digits| digits.parse::<u64>().ok()) {
            number = number.max(taken.saturating_add(1));
        }
    }
    loop {
        let path = log_dir.join(format!("run-{number:04}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u64::MAX => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn now() -> std::time::Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
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
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A disk with room for a few bytes, and how often it was asked.
    #[derive(Clone)]
    struct Disk(Rc<RefCell<(usize, u32)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, writes) = &mut *self.0.borrow_mut();
            *writes += 1;
            let taken = bytes.len().min(*room);
            *room -= taken;
            match taken {
                0 => Err(io::Error::other("no space left")),
                _ => Ok(taken),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_reported_once_and_not_written_again() {
        let disk = Disk(Rc::new(RefCell::new((50, 0))));
        let mut events = Events::new(disk.clone());
        events.start().unwrap();
        let error = events.scalar("loss", 1.0, 1).unwrap_err();
        assert_eq!(error.to_string(), "no space left");
        // Even when there is room again: half a record is in the file.
        disk.0.borrow_mut().0 = 1000;
        let writes = disk.0.borrow().1;
        events.scalar("loss", 1.0, 2).unwrap();
        events.flush().unwrap();
        assert_eq!(disk.0.borrow().1, writes);
    }

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
