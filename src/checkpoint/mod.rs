//! Checkpoints from which a run goes on as if it had never stopped, and which of them stay.
//!
//! A run writes into `output_dir`:
//!
//! ```text
//! gs20.safetensors            the student after 20 optimizer steps: weights only
//! best.safetensors            another name of the student with the best metric
//! state/gs20/                 all else that the run needs to go on; complete or absent
//!     manifest.json           version, configuration, sizes and checksums
//!     progress.json           position in the run and in the data, losses under way, their
//!                             scale, metrics
//!     student.safetensors     another name of gs20.safetensors
//!     optimizer.safetensors   what the optimizer remembers
//!     distiller.safetensors   projections, and whatever else the distiller keeps
//!     random.safetensors      libtorch's random generators
//!     hooks.safetensors       the states of the run's hooks, if it has hooks
//! ```
//!
//! A state folder is written under another name, every file flushed to the disk, and renamed
//! when it is whole; only then are older ones removed. The states of the newest two
//! checkpoints stay, so that there is another one when the newest is damaged; one that a resume
//! found damaged does not count. [`Keep`] says
//! which of the students stay.
//!
//! [`Run::resume`](crate::Run::resume) takes the newest state whose checksums are right.
//! Nothing in it is trusted: names that lead elsewhere, links and sizes that do not fit are
//! refused before memory is asked for, and no file is a program.

mod description;
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
pub(crate) use folder::{CheckpointFolder, SavedStudent, step_of};
pub(crate) use newest::Newest;
pub(crate) use saved_position::{SavedPosition, Stopped};
pub(crate) use states::{Content, StateTensors};
