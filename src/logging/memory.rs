//! Logging to memory.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Result;

use super::LogSink;

/// Keeps the logged values in memory. Clones share them, so one clone can be given to a training
/// and another read afterwards.
///
/// ```
/// use textbrewer::logging::{LogSink, MemorySink};
///
/// # fn main() -> textbrewer::Result<()> {
/// let losses = MemorySink::new();
/// let mut given = losses.clone();
/// given.scalar("scalar/total_loss", 0.5, 1)?;
/// given.scalar("scalar/accuracy", 1e-4, 1)?;
/// assert_eq!(losses.curve("scalar/total_loss"), [(1, 0.5)]);
/// assert_eq!(losses.scalars()[1], ("scalar/accuracy".to_owned(), 1e-4, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemorySink {
    scalars: Rc<RefCell<Vec<(String, f64, u64)>>>,
}

impl MemorySink {
    /// An empty sink.
    pub fn new() -> Self {
        MemorySink::default()
    }

    /// All values so far: tag, value and step, in the order they were logged.
    pub fn scalars(&self) -> Vec<(String, f64, u64)> {
        self.scalars.borrow().clone()
    }

    /// Steps and values under one tag.
    pub fn curve(&self, tag: &str) -> Vec<(u64, f64)> {
        let scalars = self.scalars.borrow();
        let of_tag = scalars.iter().filter(|scalar| scalar.0 == tag);
        of_tag.map(|&(_, value, step)| (step, value)).collect()
    }
}

impl LogSink for MemorySink {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        self.scalars
            .borrow_mut()
            .push((tag.to_owned(), value, step));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
