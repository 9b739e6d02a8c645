//! The teacher as a file: what it says, computed once, kept on disk, and found by the example.
//!
//! A [`Recording`] asks a teacher about all examples of a loader and keeps what it says in a folder:
//! logits, or as much of them as a loss needs, probabilities, layers. A [`TeacherFile`] of it is then a
//! teacher like any other ([`TeacherFile::teacher`]).
//!
//! Everything is found by the id of the example ([`Ids`](crate::Ids)): shuffling, other batch sizes,
//! other lengths of padding and other numbers of processes do not matter.
//!
//! ```
//! use tch::{Device, Kind, Tensor, nn};
//! use textbrewer::data::{DataLoader, TensorLoader};
//! use textbrewer::teacher_file::{Recording, Stored};
//! use textbrewer::{AdaptorOutput, Distiller, GeneralDistiller, Ids, Sgd, TrainingConfig, from_fn};
//!
//! type Batch = (Ids, Vec<Tensor>);
//! let numbers = Tensor::f_randn([32, 3], (Kind::Float, Device::Cpu))?;
//! let loader = |batch_size| TensorLoader::new(vec![numbers.shallow_clone()], batch_size);
//! let teacher = from_fn(|(_, columns): &Batch, _| Ok(columns[0].f_narrow(1, 0, 2)?));
//!
//! // Once:
//! let folder = tempfile::tempdir()?;
//! let file = Recording::new(folder.path().join("teacher"))
//!     .logits(Stored::Float32)
//!     .device(Device::Cpu)
//!     .run(&teacher, |_, logits| Ok(AdaptorOutput::new().logits(logits)), &mut loader(8)?.with_ids())?;
//!
//! // Whenever a student is trained:
//! let variables = nn::VarStore::new(Device::Cpu);
//! let layer = nn::linear(variables.root(), 3, 2, Default::default());
//! let student = from_fn(|(_, columns): &Batch, _| {
//!     Ok(columns[0].f_linear(&layer.ws, layer.bs.as_ref())?)
//! });
//! let teacher = file.teacher(|_: &Batch| Ok(AdaptorOutput::new()));
//! let config = TrainingConfig::default().device(Device::Cpu);
//! let mut distiller = GeneralDistiller::builder(teacher, &student, &variables)
//!     .train_config(config.output_dir(folder.path().join("student")))
//!     .teacher_adaptor(|_, said| Ok(said.shallow_clone()))
//!     .student_adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
//!     .build()?;
//! let mut batches = loader(4)?.shuffle(7).with_ids();
//! distiller.train(&mut batches).epochs(1).optimizer(Sgd::new(0.1)).run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # In the folder
//!
//! `manifest.json` says what there is; each `shard-….safetensors` has some of the examples: a tensor for
//! each column, with the rows of one example after those of the other, `ids` (64 bits without a sign, in
//! an `I64`), and `NAME.positions`, the number of rows of each example where it differs. Logits and layers in
//! `Stored::Float32`, `BFloat16` and `Float16` are plain tensors, which any reader of safetensors reads.
//! Files are written under temporary names, flushed and renamed; every example has a checksum, which is
//! compared when it is read.

mod bits;
mod checks;
mod column;
mod content;
mod decode;
mod encode;
mod file;
mod hash;
mod keep;
mod manifest;
mod numbers;
mod opened;
mod others;
mod places;
mod read_at;
mod recorded;
mod recorder;
mod recording;
mod run;
mod sample_rows;
mod shard;
mod shard_file;
mod teacher;
mod top_k_rows;

pub use column::{Column, Form, Layout, Origin, Stored};
pub use file::TeacherFile;
pub use hash::{hash_of_file, hash_of_variables};
pub use others::{ClassScores, NpyRows, TopKLines};
#[doc(hidden)]
pub use recorded::Recorded;
pub use recorder::Recorder;
pub use recording::Recording;
pub use teacher::FileTeacher;

use std::path::Path;

use crate::error::Error;

fn wrong(path: &Path, reason: String) -> Error {
    Error::TeacherFile {
        path: path.to_path_buf(),
        reason,
    }
}
