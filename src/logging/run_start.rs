//! What a log is told when a run begins.

/// By which steps a log counts. A value stands where so many steps were done before it was taken.
///
/// With gradient accumulation an optimizer step has several forward steps; otherwise the two are
/// the same.
///
/// ```
/// use textbrewer::logging::{LogAxis, LogSink, MemorySink, TensorBoardSink};
///
/// # let folder = tempfile::tempdir()?;
/// # let log_dir = folder.path();
/// // What they count by, unless `Run::log_axis` says otherwise.
/// assert_eq!(MemorySink::new().axis(), LogAxis::ForwardStep);
/// assert_eq!(TensorBoardSink::create(log_dir)?.axis(), LogAxis::OptimizerStep);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogAxis {
    /// Batches. Every batch has its losses, as in TextBrewer.
    ForwardStep,
    /// Optimizer steps. The losses of a step are the means of its batches.
    OptimizerStep,
}

/// What a log is told when a run begins; see [`LogSink::begin`](super::LogSink::begin).
///
/// ```
/// use textbrewer::logging::RunStart;
///
/// let start = RunStart::new(None, vec![("training".to_owned(), "{}".to_owned())]);
/// assert!(start.resumed_at.is_none());
/// assert_eq!(start.configuration[0].0, "training");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunStart {
    /// The steps that are done, by the axis of the log, if the run was resumed. Values at later
    /// steps are of the interrupted run, and come again. At this step itself stand what was logged
    /// with the checkpoint, which does not come again, and the values of the next step, which do
    /// if the interrupted run had come so far.
    pub resumed_at: Option<u64>,
    /// Name and JSON of the configurations: `training`, `distillation` where there is one, and
    /// `run` with what the program said.
    pub configuration: Vec<(String, String)>,
}

impl RunStart {
    /// The beginning of a run, for calling a log without the engine.
    pub fn new(resumed_at: Option<u64>, configuration: Vec<(String, String)>) -> Self {
        RunStart {
            resumed_at,
            configuration,
        }
    }
}
