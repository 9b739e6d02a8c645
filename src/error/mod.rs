//! What can go wrong, and where.

mod advice;
mod context;
mod make;
mod shown;

pub(crate) use context::Context;
use shown::paragraph;
pub(crate) use shown::{shortened, shown};

use std::fmt;
use std::path::PathBuf;

use tch::TchError;

/// The result of everything in this crate that can fail.
///
/// ```
/// use tch::Tensor;
///
/// // `?` takes libtorch's errors as well.
/// fn norm(tensor: &Tensor) -> textbrewer::Result<f64> {
///     Ok(tensor.f_norm()?.f_double_value(&[])?)
/// }
/// assert_eq!(norm(&Tensor::from_slice(&[3.0, 4.0]))?, 5.0);
/// # textbrewer::Result::Ok(())
/// ```
pub type Result<T> = std::result::Result<T, Error>;

/// Any error at all, as closures and foreign code return it.
///
/// ```
/// use textbrewer::{BoxError, Error};
///
/// let error: BoxError = "no such label".into();
/// assert_eq!(Error::from(error).to_string(), "no such label");
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Which of the two models something belongs to.
///
/// ```
/// use textbrewer::{Error, Side};
///
/// let error = Error::missing(Side::Student, "hidden", "my loss");
/// assert_eq!(error.to_string(), "the student adaptor returned no `hidden`, which my loss needs");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The large model that is imitated.
    Teacher,
    /// The small model that is trained.
    Student,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Teacher => "teacher",
            Side::Student => "student",
        })
    }
}

/// Everything that a user of this crate can run into.
///
/// The first line of every message names the thing, the place and the remedy.
/// libtorch's messages carry a C++ stack: only their first line is shown, the
/// rest is kept in [`source`](std::error::Error::source).
///
/// ```
/// use textbrewer::{Error, Presets};
///
/// match Presets::default().find_kd_loss("kd_loss_type", "cee") {
///     Err(Error::UnknownPreset { field, name, known, .. }) => {
///         assert_eq!((field.as_str(), name.as_str()), ("kd_loss_type", "cee"));
///         assert!(known.contains(&"ce".to_owned()));
///     }
///     Err(other) => panic!("{other}"),
///     Ok(_) => panic!("nobody registered `cee`"),
/// }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration, or an argument of a builder, has a value that cannot work.
    #[error("{}: {}", shown(field), paragraph(reason, 2000))]
    #[non_exhaustive]
    Config {
        /// The key, or the path to it (`intermediate_matches[1].loss`).
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },

    /// A method was called before another that it needs, or an implementation of one of the
    /// crate's traits does not do what the trait asks of it. The program has to change, not its
    /// configuration.
    #[error("{}: {}", shown(what), paragraph(reason, 2000))]
    #[non_exhaustive]
    Protocol {
        /// What was called, or who did not keep to the rules, such as `data loader`.
        what: String,
        /// Which rule was broken, and what would be right.
        reason: String,
    },

    /// A loss, projection or schedule was asked for under a name that is not registered.
    #[error("{}: unknown {kind} `{}`; known: {}", shown(field), shown(name), known.join(", "))]
    #[non_exhaustive]
    UnknownPreset {
        /// The key that holds the name.
        field: String,
        /// What kind of thing was looked up, such as `match loss`.
        kind: &'static str,
        /// The name that was not found.
        name: String,
        /// The names that would have been found, sorted.
        known: Vec<String>,
    },

    /// An adaptor did not return something that a loss needs.
    #[error("the {side} adaptor returned no `{key}`, which {needed_by} needs")]
    #[non_exhaustive]
    MissingOutput {
        /// The model whose adaptor it is.
        side: Side,
        /// The missing key of [`AdaptorOutput`](crate::AdaptorOutput).
        key: String,
        /// What asked for it.
        needed_by: String,
    },

    /// A match names a layer that the adaptor did not return.
    #[error(
        "{needed_by}: {side} layer {index} of `{feature}` does not exist; the adaptor returned \
         {len}{}", advice::of_layer(feature, *index, *len)
    )]
    #[non_exhaustive]
    LayerOutOfRange {
        /// The model whose layer it is.
        side: Side,
        /// The feature, such as `hidden` or `attention`.
        feature: String,
        /// The index asked for; negative counts from the end.
        index: i64,
        /// How many layers there are.
        len: usize,
        /// What asked for it, such as `intermediate_matches[0]`.
        needed_by: String,
    },

    /// A layer was left out that a loss needs: the adaptor returned an undefined tensor.
    #[error(
        "{needed_by}: {side} layer {index} of `{feature}` was not kept; ask the model for it \
         (`layers` of the configuration lists those that are needed)"
    )]
    #[non_exhaustive]
    LayerNotKept {
        /// The model whose layer it is.
        side: Side,
        /// The feature, such as `hidden` or `attention`.
        feature: String,
        /// The index asked for; negative counts from the end.
        index: i64,
        /// What asked for it, such as `intermediate_matches[0]`.
        needed_by: String,
    },

    /// Tensors do not fit together.
    #[error("{what}: expected {expected}, got {got}")]
    #[non_exhaustive]
    Shape {
        /// What was being computed, and on which tensor.
        what: String,
        /// The shape or property that would fit.
        expected: String,
        /// What was given.
        got: String,
    },

    /// A loss became NaN or infinite.
    #[error(
        "`{term}` is {value} at training step {step}{}; nothing was saved after it. {}",
        advice::value_before(*before), advice::of_loss(*optimizer_steps)
    )]
    #[non_exhaustive]
    NonFiniteLoss {
        /// The first term of the loss that went bad.
        term: String,
        /// The forward step, counted from 0, as in the logs.
        step: u64,
        /// The value: NaN or an infinity.
        value: f64,
        /// The value of the term at the batch just before, if that batch had the term and its
        /// losses are known.
        before: Option<f64>,
        /// The optimizer steps before it. Without any, no learning rate is the cause.
        optimizer_steps: u64,
    },

    /// Keeping another teacher output would pass the configured limit.
    #[error(
        "teacher cache: output {} would make it {} MB, over `cache_limit_mb` = {}; \
         raise it, store them smaller (`cache_dtype`), or leave caching off",
        outputs + 1, bytes.div_ceil(1 << 20), limit >> 20
    )]
    #[non_exhaustive]
    CacheLimit {
        /// How many outputs are kept.
        outputs: usize,
        /// The size that the cache would have.
        bytes: u64,
        /// The size that it may have.
        limit: u64,
    },

    /// An optimizer step made a variable NaN or infinite, under a loss that was finite.
    #[error(
        "variable `{variable}` is not finite after optimizer step {step}; it was not saved. \
         Its gradient was NaN or infinite: lower the learning rate or look at the losses"
    )]
    #[non_exhaustive]
    NonFiniteVariable {
        /// The first variable, by name.
        variable: String,
        /// The optimizer step, counted from 1, at whose checkpoint it was found.
        step: u64,
    },

    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A JSON text is cut short, or does not say what it should.
    #[error("{place}: {}", shortened(reason, 3000))]
    #[non_exhaustive]
    Json {
        /// The file, or `JSON text`.
        place: String,
        /// The path inside the document, what is wrong there, line and column.
        reason: String,
        /// The parser's error.
        source: serde_json::Error,
    },

    /// A file of weights is damaged or is not what its name says.
    #[error("{}: {}", path.display(), shortened(reason, 2000))]
    #[non_exhaustive]
    WeightsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Weights do not fit the model they were to be loaded into. Nothing was loaded.
    #[error(
        "{origin} does not fit the model; nothing was loaded. {} difference(s):\n  {}",
        differences.len(), shown::lines(differences)
    )]
    #[non_exhaustive]
    WeightsMismatch {
        /// Where the weights come from: a file, or a model.
        origin: String,
        /// Every name, shape and dtype that differs; the message shows the first 40.
        differences: Vec<String>,
    },

    /// A file or folder of a checkpoint is missing, damaged, or not what it should be.
    #[error(
        "{}: {}. Resume from another checkpoint (remove this one), or start anew",
        path.display(), shortened(reason, 2000)
    )]
    #[non_exhaustive]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A checkpoint was written by a later version of this crate.
    #[error(
        "{}: has format {found}, written by version {} of this crate; this one reads \
         format {known} and earlier. Use that version, or another folder",
        path.display(), shown(written_by)
    )]
    #[non_exhaustive]
    CheckpointVersion {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that can be read.
        known: u64,
        /// The version that wrote it, as it says.
        written_by: String,
    },

    /// The run that is to go on is not the one that wrote the checkpoint. Nothing was changed.
    #[error(
        "{}: cannot be resumed by this run; nothing was loaded. {} difference(s):\n  {}",
        path.display(), differences.len(), shown::lines(differences)
    )]
    #[non_exhaustive]
    ResumeMismatch {
        /// The state folder.
        path: PathBuf,
        /// Everything that differs, with both values; the message shows the first 40.
        differences: Vec<String>,
    },

    /// A file of a teacher's outputs is damaged, or is not what it is asked for.
    #[error("{}: {}", path.display(), paragraph(reason, 2000))]
    #[non_exhaustive]
    TeacherFile {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },

    /// The data loader failed, ended early, or had nothing to give.
    #[error("data loader, batch {batch} of epoch {epoch}: {source}")]
    #[non_exhaustive]
    Data {
        /// The epoch, counted from 1.
        epoch: u64,
        /// The batch inside the epoch, counted from 1.
        batch: u64,
        /// The reason.
        source: BoxError,
    },

    /// The loader of one of several tasks failed, or a batch of it could not be trained on.
    #[error("task `{task}`: {source}")]
    #[non_exhaustive]
    Task {
        /// The name of the task.
        task: String,
        /// The reason.
        source: BoxError,
    },

    /// A callback failed. The checkpoint written before it is intact.
    #[error("callback at global step {step}: {source}")]
    #[non_exhaustive]
    Callback {
        /// The optimizer step after which it ran.
        step: u64,
        /// Its error.
        source: BoxError,
    },

    /// A user's term failed.
    #[error("term `{}`: {source}", shown(term))]
    #[non_exhaustive]
    Term {
        /// Its name.
        term: String,
        /// What went wrong in it.
        source: Box<Error>,
    },

    /// A hook failed, or did not restore its state when the run was resumed.
    #[error("hook `{}` at global step {step}: {source}", shown(hook))]
    #[non_exhaustive]
    Hook {
        /// The hook's name.
        hook: String,
        /// The optimizer step after which it ran, or whose checkpoint was resumed.
        step: u64,
        /// Its error.
        source: BoxError,
    },

    /// A log sink could not be opened or written.
    #[error("log {sink}: {reason}")]
    #[non_exhaustive]
    Log {
        /// The sink, and its folder or file if it has one.
        sink: String,
        /// What went wrong.
        reason: String,
    },

    /// One of several processes that train together cannot go on with the others.
    #[error(
        "process {rank} of {world_size}, {operation}: {}",
        paragraph(reason, 2000)
    )]
    #[non_exhaustive]
    Distributed {
        /// The process that tells of it, counted from 0.
        rank: usize,
        /// How many there are.
        world_size: usize,
        /// What it was doing with the others.
        operation: String,
        /// What went wrong, and what would be right.
        reason: String,
    },

    /// Something that TextBrewer has and this version of the crate has not.
    #[error("{} is not supported yet: {remedy}", shown(feature))]
    #[non_exhaustive]
    Unsupported {
        /// What was asked for.
        feature: String,
        /// What to do instead.
        remedy: String,
    },

    /// libtorch refused an operation.
    #[error("{context}: {}", first_line(source))]
    #[non_exhaustive]
    Torch {
        /// What was being done.
        context: String,
        /// libtorch's whole message.
        source: TchError,
    },

    /// An error of the user's own code, from a model, an adaptor or a loss.
    #[error(transparent)]
    Other(BoxError),
}

fn first_line(error: &TchError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("Internal torch error: ").to_owned()
}

/// The message, as `Display` has it: `fn main() -> Result<…>` and `unwrap` show errors by this.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn torch_errors_show_one_line_and_keep_the_rest() {
        let a = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let error = a.f_matmul(&a).context(|| "projection".into()).unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.starts_with("projection: mat1 and mat2 shapes"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), 1, "{shown}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.len() > shown.len(), "{source}");
    }

    #[test]
    fn an_error_of_ours_survives_boxing() {
        let boxed: BoxError = Box::new(Error::config("temperature", "must be positive"));
        assert!(matches!(Error::from(boxed), Error::Config { .. }));
    }

    #[test]
    fn a_main_that_returns_an_error_shows_its_message() {
        let error = Error::config("temperature", "must be positive");
        assert_eq!(format!("{error:?}"), error.to_string());
    }

    #[test]
    fn errors_can_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
    }
}
