//! A batch and the name of its task.

use crate::batch::Batch;

/// A batch of one of several tasks. Its [`ids`](Batch::ids) are those of the batch inside: two tasks
/// may have the same.
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
    /// The batch from the task's loader.
    pub batch: B,
}

impl<B> TaskBatch<B> {
    /// A batch of the task named `task`.
    pub fn new(task: impl Into<String>, batch: B) -> Self {
        TaskBatch {
            task: task.into(),
            batch,
        }
    }
}
