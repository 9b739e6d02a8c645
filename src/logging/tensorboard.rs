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
use std::time::SystemTime;

use protobuf::Message;
use tensorboard_proto::event::Event;
use tensorboard_rs::record_writer::RecordWriter;
use tensorboard_rs::summary;

use crate::error::{Error, Result};

use super::LogSink;

/// Writes an event file for TensorBoard.
///
/// Every sink has its own folder inside the log folder: `run-0001`, `run-0002` and so on, even
/// when several processes start at the same moment.
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
pub struct TensorBoardSink {
    path: PathBuf,
    events: Events<BufWriter<File>>,
}

impl TensorBoardSink {
    /// Creates `log_dir` if needed, a new folder for this run in it, and an event file in that.
    ///
    /// # Errors
    /// When a folder or the file cannot be created.
    pub fn create(log_dir: impl AsRef<Path>) -> Result<Self> {
        let log_dir = log_dir.as_ref();
        let path = new_run(log_dir).map_err(|error| failure(log_dir, &error))?;
        let open = || {
            let seconds = now().as_secs();
            let name = format!("events.out.tfevents.{seconds:010}.{}", std::process::id());
            let file = File::create_new(path.join(name))?;
            let mut events = Events::new(BufWriter::new(file));
            events.start()?;
            Ok(events)
        };
        let events = open().map_err(|error| failure(&path, &error))?;
        Ok(TensorBoardSink { path, events })
    }

    /// The folder of this run.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl LogSink for TensorBoardSink {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        let written = self.events.scalar(tag, value, step);
        written.map_err(|error| failure(&self.path, &error))
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = self.events.flush();
        flushed.map_err(|error| failure(&self.path, &error))
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
        let mut event = Event::new();
        event.set_step(i64::try_from(step).unwrap_or(i64::MAX));
        event.set_summary(summary::scalar(tag, value as f32));
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
}
