//! TensorBoard's events, as they stand in a file.
//!
//! Only the messages and the record format of tensorboard-rs are used; files are opened and
//! written by this crate. The writer of that one passes everything to a thread that panics at the
//! first error; after that its methods panic too, and its destructor aborts the process. None
//! of that can be caught from outside.

use std::io::{self, Write};

use protobuf::{Message, RepeatedField};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{Summary, Summary_Value};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::types::DataType;
use tensorboard_rs::record_writer::RecordWriter;
use tensorboard_rs::summary;

use super::event_files::now;

/// Writes records until the first error. A record that is cut short would corrupt all that
/// follow it.
pub(super) struct Events<W: Write> {
    records: Option<RecordWriter<W>>,
}

impl<W: Write> Events<W> {
    pub(super) fn new(writer: W) -> Self {
        Events {
            records: Some(RecordWriter::new(writer)),
        }
    }

    pub(super) fn start(&mut self) -> io::Result<()> {
        let mut event = Event::new();
        event.set_file_version("brain.Event:2".to_owned());
        self.write(event)?;
        self.flush()
    }

    pub(super) fn scalar(&mut self, tag: &str, value: f64, step: u64) -> io::Result<()> {
        let mut event = event_at(step);
        event.set_summary(summary::scalar(tag, value as f32));
        self.write(event)
    }

    /// Text that is shown as it is: TensorBoard takes it for Markdown, where four spaces begin
    /// a line of code.
    pub(super) fn text(&mut self, tag: &str, text: &str, step: u64) -> io::Result<()> {
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
    pub(super) fn forget_from(&mut self, step: u64) -> io::Result<()> {
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

    pub(super) fn flush(&mut self) -> io::Result<()> {
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
