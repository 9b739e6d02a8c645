//! Training with other processes.

use tch::Device;

use super::Run;
use crate::config::TrainingConfig;
use crate::data::Uneven;
use crate::distiller::Distiller;
use crate::distributed::{ProcessGroup, is_one_of_several};
use crate::error::{Error, Result};
use crate::logging;

/// In which processes callbacks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) enum CallbackRanks {
    #[default]
    All,
    First,
}

/// How a run trains with other processes.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Processes<'a> {
    pub(in crate::engine) group: Option<&'a ProcessGroup>,
    pub(in crate::engine) uneven: Uneven,
    pub(in crate::engine) callback_ranks: CallbackRanks,
    pub(in crate::engine) shards_optimizer: bool,
}

impl Processes<'_> {
    /// TextBrewer's keys for several devices mean what the group does, or nothing.
    ///
    /// # Errors
    /// When the configuration asks for several processes and the run has no group, or for another
    /// local rank; when an option cannot work with several.
    pub(in crate::engine) fn check(&self, config: &TrainingConfig) -> Result<()> {
        let remedy = "start a process for each device (`torchrun`, `srun`, `distributed::Launch`) \
                      and give the run `.process_group(&ProcessGroup::from_env()?)`";
        let Some(group) = self.group else {
            if let Some((rank, world_size)) = is_one_of_several() {
                logging::warn(format_args!(
                    "this process is {rank} of {world_size}, but the run was not given its group \
                     and trains alone: add `.process_group(&group)`"
                ));
            }
            return match (config.local_rank, config.data_parallel) {
                (-1, false) => Ok(()),
                (-1, true) => Err(Error::config("data_parallel", format!("is true: {remedy}"))),
                (rank, _) => Err(Error::config("local_rank", format!("is {rank}: {remedy}"))),
            };
        };
        let local_rank = group.local_rank() as i64;
        if config.local_rank != -1 && config.local_rank != local_rank {
            let alone = match group.is_alone() {
                true => " (it trains alone: was it started by torchrun or `launch`?)",
                false => "",
            };
            let reason = format!(
                "is {}, but this process has {local_rank} in its group{alone}; leave it at -1, the \
                 group knows it",
                config.local_rank
            );
            return Err(Error::config("local_rank", reason));
        }
        if self.uneven == Uneven::Keep && group.world_size() > 1 {
            let reason = "`Keep` would leave some processes without a batch while others wait for \
                          their gradients; it is for evaluation, use `Pad` or `Drop`";
            return Err(Error::config("uneven", reason));
        }
        match (group.device(), config.device) {
            (Device::Cuda(_), device @ Device::Cuda(_)) if device == group.device() => Ok(()),
            (Device::Cuda(_), Device::Cpu) | (Device::Cpu, Device::Cpu) => Ok(()),
            (of_group, device) => {
                let reason = format!(
                    "is {device:?}, but the process group of this process has {of_group:?}; set it \
                     to `group.device()`"
                );
                Err(Error::config("device", reason))
            }
        }
    }
}

impl<'a, D: Distiller + ?Sized> Run<'a, D> {
    /// Trains together with the other processes of the group, each of which describes the same run.
    ///
    /// Every process trains on its share of the data, and gradients are averaged before each
    /// optimizer step, so that all have the same student at all times. The batch size stays that of
    /// one process: a step is made of the examples of `batch size × processes ×
    /// gradient_accumulation_steps`. The first process logs, shows progress and saves; losses that
    /// are logged are means over the processes. [Callbacks](Self::callback) run in all of them, and
    /// if one asks to stop all do; so it is with Ctrl-C and [stop flags](Self::stop_flag).
    ///
    /// Variables that no gradient changes, such as running means and variances, are those of the
    /// first process in all of them after every step, as in PyTorch: they are of its share of the
    /// data. What a [term](crate::Term) remembers stays each process's own, and checkpoints have
    /// that of each.
    ///
    /// At the start the processes compare what they are to do, and the student of the first is
    /// copied to the others. `output_dir` has to be a folder that all of them see. A loader keeps
    /// the share that it was given when the run is over.
    ///
    /// ```
    /// use tch::{nn, Device, Kind, Tensor};
    /// use textbrewer::distributed::ProcessGroup;
    /// use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, TensorLoader};
    /// use textbrewer::TrainingConfig;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let output_dir = folder.path();
    /// let group = ProcessGroup::from_env()?; // of one process, unless several were started
    /// let config = TrainingConfig::default().device(group.device()).output_dir(output_dir);
    /// let variables = nn::VarStore::new(group.device());
    /// let layer = nn::linear(variables.root(), 3, 2, Default::default());
    /// let model = from_fn(|batch: &Vec<Tensor>, _| {
    ///     Ok(batch[0].f_linear(&layer.ws, layer.bs.as_ref())?)
    /// });
    /// let mut trainer = BasicTrainer::builder(&model, &variables)
    ///     .train_config(config)
    ///     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
    ///     .build()?;
    /// let data = Tensor::f_randn([64, 3], (Kind::Float, Device::Cpu))?;
    /// let mut loader = TensorLoader::new(vec![data], 8)?.shuffle(42);
    /// let run = trainer.train(&mut loader).epochs(1).optimizer(AdamW::new(1e-3));
    /// let summary = run.process_group(&group).run()?;
    /// assert_eq!(summary.global_steps, 8 / group.world_size() as u64);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`run`](Self::run) fails with [`Error::Distributed`](crate::Error) when the processes describe
    /// different runs or do not see the same checkpoint, and in all of them when one fails; with
    /// [`Error::Config`](crate::Error) when the device is not the group's. The group has then come to
    /// its end.
    pub fn process_group(mut self, group: &'a ProcessGroup) -> Self {
        self.processes.group = Some(group);
        self
    }

    /// What happens at the end of an epoch whose examples do not suffice for all processes; by
    /// default ([`Uneven::Pad`]) some come twice, as with PyTorch's `DistributedSampler`.
    pub fn uneven(mut self, uneven: Uneven) -> Self {
        self.processes.uneven = uneven;
        self
    }

    /// Calls the [callbacks](Self::callback) in the first process only; the others wait. An
    /// evaluation must then take less time than the group's timeout.
    pub fn callbacks_on_first(mut self) -> Self {
        self.processes.callback_ranks = CallbackRanks::First;
        self
    }

    /// Whether each process keeps the state of the optimizer for its share of the parameters only
    /// (ZeRO stage 1, Rajbhandari et al., [arXiv:1910.02054](https://arxiv.org/abs/1910.02054)).
    /// The numbers are the same. Each parameter is stepped by one process, which then sends it to the
    /// others: memory for the state is divided by the number of processes, as evenly as whole
    /// parameters allow, and as much as the parameters' bytes is sent besides the gradients.
    /// Checkpoints hold the whole state, and can be resumed with or without this.
    ///
    /// The optimizer has to be without groups, as a new one is. One of your own that looks at all
    /// parameters together, such as at a norm over them, sees this process's gradients only.
    pub fn shard_optimizer(mut self, shard: bool) -> Self {
        self.processes.shards_optimizer = shard;
        self
    }
}
