//! Training with several processes, GPUs or machines.
//!
//! Each process runs the same program, one for each GPU or for some cores of a CPU. It joins the
//! others and hands the group to its run, which does the rest:
//!
//! ```
//! use tch::{nn, Device, Kind, Tensor};
//! use textbrewer::distributed::ProcessGroup;
//! use textbrewer::{from_fn, AdamW, AdaptorOutput, DistillationConfig, Distiller};
//! use textbrewer::{GeneralDistiller, TensorLoader, TrainingConfig};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let group = ProcessGroup::from_env()?; // alone, unless several were started
//! let config = TrainingConfig::default().device(group.device()).output_dir(folder);
//! let teacher = from_fn(|batch: &Vec<Tensor>, _| Ok(batch[0].f_narrow(-1, 0, 2)?));
//! let variables = nn::VarStore::new(group.device());
//! let layer = nn::linear(variables.root(), 3, 2, Default::default());
//! let student = from_fn(|batch: &Vec<Tensor>, _| {
//!     Ok(batch[0].f_linear(&layer.ws, layer.bs.as_ref())?)
//! });
//! // The same data in all of them; the run takes this process's share.
//! let data = Tensor::f_randn([64, 3], (Kind::Float, Device::Cpu))?;
//! let mut loader = TensorLoader::new(vec![data], 8)?.shuffle(42);
//! let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
//!     .train_config(config)
//!     .distill_config(DistillationConfig::default())
//!     .adaptor(|_batch, output| Ok(AdaptorOutput::new().logits(output)))
//!     .build()?;
//! let run = distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(1e-3));
//! let summary = run.process_group(&group).run()?;
//! if group.is_first() {
//!     println!("{} steps of {} processes", summary.global_steps, group.world_size());
//! }
//! # Ok::<(), textbrewer::BoxError>(())
//! ```
//!
//! | | |
//! |---|---|
//! | [`ProcessGroup`] | the processes: for [`Run::process_group`](crate::Run::process_group), and for evaluation in shares |
//! | [`Rendezvous`] | who a process is and where it finds the others: from the variables of torchrun, Slurm, MPI and Kubernetes, or by hand |
//! | [`Launch`] | starts the processes of one machine, without Python |
//! | [`data::Shard`](crate::data::Shard) | a process's share of a loader |
//!
//! The engine is libtorch's own, c10d: its Reducer averages gradients while the backward pass still
//! runs, over Gloo on CPUs and NCCL on GPUs. The book's chapter on processes says how they are
//! started and what becomes of batch sizes, callbacks and checkpoints.
//!
//! # Errors
//! Whatever fails in one process ends the others, with its reason:
//! [`Error::Distributed`](crate::Error::Distributed).

mod address;
mod collectives;
mod environment;
mod error_file;
mod exchange;
mod failure;
mod launch;
mod meeting;
mod owners;
mod patient_store;
mod process_group;
#[cfg(unix)]
mod processes;
mod rendezvous;
mod sharded_optimizer;

pub use collectives::Reduce;
pub(crate) use exchange::NUMBERS;
pub use launch::Launch;
pub use process_group::ProcessGroup;
pub(crate) use process_group::is_one_of_several;
pub use rendezvous::Rendezvous;
pub(crate) use sharded_optimizer::ShardedOptimizer;
