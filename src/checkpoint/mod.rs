//! Checkpoints, from which a run resumes as if it had never stopped, and which of them are kept.
//!
//! A run writes into `output_dir`:
//!
//! ```text
//! gs20.safetensors            the student after 20 optimizer steps: weights only
//! best.safetensors            the student with the best metric (a hard link)
//! state/gs20/                 all else that the run needs to resume; complete or absent
//!     manifest.json           version, configuration, sizes and checksums
//!     progress.json           position in the run and in the data, losses, loss scale, metrics, log
//!     student.safetensors     gs20.safetensors (a hard link)
//!     optimizer.safetensors   the optimizer's state
//!     distiller.safetensors   projections, and whatever else the distiller saves
//!     random.safetensors      libtorch's random generators
//!     hooks.safetensors       the states of the run's hooks, if it has hooks
//! ```
//!
//! A state folder is written under a temporary name, every file is flushed to the disk, and the
//! folder is renamed when it is complete; only then are older ones removed. The states of the
//! newest two checkpoints are kept, so that there is another one if the newest is damaged; a
//! state that was found damaged when resuming does not count. [`Keep`] says which of the
//! students are kept.
//!
//! [`Run::resume`](crate::Run::resume) takes the newest state whose checksums are right.
//! Nothing in it is trusted: paths out of the folder, links, and sizes that do not fit are
//! refused before memory is allocated, and no file is executed.

mod description;
mod difference;
mod disk;
mod early_stopping;
mod folder;
mod keep;
mod manifest;
mod newest;
mod read;
mod saved_position;
mod states;
#[cfg(test)]
mod tests;

pub use early_stopping::EarlyStopping;
pub use keep::{Keep, Mode, Saved};

pub(crate) use description::{Description, GroupDescription, TensorDescription};
pub(crate) use difference::Difference;
pub(crate) use disk::{Disk, Written, examine};
pub(crate) use folder::{CheckpointFolder, SavedStudent, step_of};
pub(crate) use newest::Newest;
pub(crate) use saved_position::{SavedPosition, Stopped};
pub(crate) use states::{Content, StateTensors};
