//! Knowledge distillation of text models, on libtorch.
//!
//! A large *teacher* model is accurate and slow. This crate trains a small *student* to do what the
//! teacher does: on its logits softened by a temperature, on its hidden states and attention
//! matrices, and on the true labels, in any mixture. It mirrors
//! [TextBrewer](https://github.com/airaria/TextBrewer) 0.2.1 for Python: its configurations load as
//! they stand, and its losses have the same numbers.
//!
//! # A distillation
//!
//! ```
//! use tch::{nn, Device, Kind, Tensor};
//! use textbrewer::{
//!     from_fn, AdamW, AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller,
//!     TrainingConfig, VecLoader,
//! };
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! // Any model is a closure, or a type that implements `Model`.
//! let teacher = from_fn(|batch: &Tensor, _train| Ok(batch.f_narrow(-1, 0, 2)?));
//! let variables = nn::VarStore::new(Device::Cpu);
//! let layer = nn::linear(variables.root(), 3, 2, Default::default());
//! let student = from_fn(|batch: &Tensor, _train| {
//!     Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?)
//! });
//!
//! let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
//!     .train_config(TrainingConfig::default().device(Device::Cpu).output_dir(folder))
//!     .distill_config(DistillationConfig::from_json_str(r#"{"temperature": 8}"#)?)
//!     // Says what in a model's output is logits, hidden states and so on.
//!     .adaptor(|_batch, output| Ok(AdaptorOutput::new().logits(output)))
//!     .build()?;
//! let mut loader = VecLoader::new(vec![Tensor::f_randn([4, 3], (Kind::Float, Device::Cpu))?])?;
//! let summary = distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
//! assert!(summary.losses.contains_key("unweighted_kd_loss"));
//! # Ok::<(), textbrewer::BoxError>(())
//! ```
//!
//! With models of the BERT family it is the same: [`models::BertForSequenceClassification`] and the
//! others are read from Hugging Face's folders.
//!
//! # Concepts
//!
//! | | |
//! |---|---|
//! | [`Model`] | a network: anything with `forward`; [`from_fn`] makes one of a closure |
//! | [`Batch`] | what a model gets: tensors, tuples and maps of them, structs that derive it |
//! | [`DataLoader`] | gives the batches of each epoch |
//! | [`AdaptorOutput`] | what in a model's output is [`Logits`], a [`Feature`], losses, masks |
//! | [`TrainingConfig`], [`DistillationConfig`] | how to train, and what to learn |
//! | [`Presets`] | what names in a configuration stand for; where losses of your own get theirs |
//! | [`Distiller`] | turns a batch into a [`LossReport`] |
//! | [`Term`] | a part of the loss; [`distiller::loss_term`] makes one of a closure |
//! | [`Run`] | a training: optimizer, schedule, callbacks, [`Hook`]s, how it resumes |
//!
//! # Distillers
//!
//! | | |
//! |---|---|
//! | [`GeneralDistiller`] | one teacher: logits and intermediate features; the usual choice |
//! | [`BasicDistiller`] | the same, logits only |
//! | [`MultiTeacherDistiller`] | several teachers of one task |
//! | [`MultiTaskDistiller`] | several tasks, with teachers of their own |
//! | [`EmdDistiller`] | every layer learns from every layer, by optimal transport |
//! | [`BasicTrainer`] | no teacher |
//!
//! # Modules
//!
//! | | |
//! |---|---|
//! | [`config`] | configurations and their parts |
//! | [`losses`], [`schedule`] | what the names in them stand for, as plain functions |
//! | [`models`] | BERT and the models that share its layers |
//! | [`data`], [`augment`] | loaders, padding, prefetching; random changes to token sequences |
//! | [`distiller`], [`transport`] | distillers, terms, and what they are made of |
//! | [`optim`] | optimizers, groups of parameters, clipping, loss scaling |
//! | [`checkpoint`] | what is saved, kept and resumed from |
//! | [`weights`] | safetensors in and out; layers of a teacher into a student |
//! | [`logits`] | logits that are no whole tensor; selecting and shifting them |
//! | [`logging`] | TensorBoard, and logs of your own |
//! | [`distributed`] | several processes, GPUs or machines that train one student |
//! | [`backend`] | settings of libtorch for the whole process |
//!
//! # Errors
//!
//! Nothing here panics on what a user can cause: an [`Error`] names the thing, the place and the
//! remedy. Warnings go to the program's logger of the `log` crate; those that no logger takes are
//! written to standard error.
//!
//! # The book
//!
//! The package comes with a book in `docs/book/src`: a tutorial on real text, all losses and
//! schedules, configurations key by key, what differs from Python, resuming, performance.

// The code of `#[derive(Batch)]` names this crate as a user does.
extern crate self as textbrewer;

mod adaptor;
pub mod augment;
pub mod backend;
mod batch;
#[cfg(doctest)]
mod book;
pub mod checkpoint;
pub mod config;
pub mod data;
mod display;
pub mod distiller;
pub mod distributed;
mod engine;
mod error;
mod feature;
mod files;
mod ids;
mod kind;
mod likeness;
pub mod logging;
pub mod logits;
pub mod losses;
mod model;
pub mod models;
#[allow(dead_code, unused_imports)]
mod native;
pub mod optim;
mod presets;
mod projection;
mod scalar;
pub mod schedule;
mod signals;
mod step;
pub mod teacher_file;
pub mod transport;
pub mod weights;

pub use adaptor::AdaptorOutput;
pub use batch::{Batch, Split};
pub use config::{
    DistillationConfig, EmdConfig, IntermediateMatch, LayerMap, LayerSelection, LayerWeights,
    Layers, PresetSpec, ProjectionSpec, TrainingConfig, match_set,
};
pub use data::{
    DataLoader, ExampleLoader, FnLoader, LineLoader, StreamLoader, TaskBatch, TaskLoader,
    TensorLoader, VecLoader,
};
pub use display::{NamedTensors, ParameterNode, ParameterReport, display_parameters};
pub use distiller::{
    BasicDistiller, BasicTrainer, Core, Distiller, EmdDistiller, GeneralDistiller, LossReport,
    MultiTaskDistiller, MultiTeacherDistiller, Term,
};
pub use engine::{CheckpointInfo, Flow, Hook, NonFinite, OnNonFinite, Run, TrainSummary, Verdict};
pub use error::{BoxError, Error, Result, Side};
pub use feature::Feature;
pub use ids::Ids;
pub use likeness::LayerLikeness;
pub use logging::{LogSink, MemorySink, TensorBoardSink};
pub use logits::{Logits, probability_shift, select_logits_with_mask};
#[doc(hidden)]
pub use model::FromFn;
pub use model::{Model, from_fn};
pub use optim::{Adam, AdamW, Optimizer, Sgd};
pub use presets::{KdInput, KdLoss, MatchLoss, Presets, TemperatureSchedule, WeightFunction};
pub use projection::{Projection, ProjectionBuilder, ProjectionForward};
pub use step::StepInfo;
pub use teacher_file::TeacherFile;

/// For the examples on real tasks, whose files are as easily something else.
#[doc(hidden)]
pub use files::instead as __instead;

/// What the code of `#[derive(Batch)]` names besides, so that it needs no other dependency.
#[doc(hidden)]
pub mod __private {
    pub use tch::Device;
}
