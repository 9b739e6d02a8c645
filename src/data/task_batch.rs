//! A batch and the task that it is of.

use crate::batch::Batch;

/// A batch of one of several tasks.
///
/// ```
/// use tch::{Device, Tensor};
/// use textbrewer::data::TaskBatch;
/// use textbrewer::Batch;
///
/// let batch = TaskBatch::new("sentiment", Tensor::from_slice(&[101i64, 102]));
/// let moved = batch.to_device(Device::Cpu)?;
/// assert_eq!((moved.task.as_str(), moved.batch.size()), ("sentiment", vec![2]));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Batch)]
#[non_exhaustive]
pub struct TaskBatch<B> {
    /// The name of the task.
    pub task: String,
    /// What the task's loader gave.
    pub batch: B,
}

impl<B> TaskBatch<B> {
    /// `batch` as one of `task`.
    pub fn new(task: impl Into<String>, batch: B) -> Self {
        TaskBatch {
            task: task.into(),
            batch,
        }
    }
}
