//! Who a process is among several, and where it finds the others.

use std::time::Duration;

use tch::{Cuda, Device};

use super::environment;
use crate::error::{Error, Result};

/// As long as PyTorch waits for an operation of a group: the others may be saving, or
/// evaluating.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// More than anybody has.
const MOST: usize = 1 << 20;
/// As long as PyTorch waits for all processes to come.
const STORE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Who this process is among those that train together, and how it finds them.
///
/// A program asks its environment, where those who start processes say it:
///
/// ```
/// use textbrewer::distributed::Rendezvous;
///
/// // Nobody started this test as one of several processes: it is alone.
/// let rendezvous = Rendezvous::from_env()?;
/// assert_eq!((rendezvous.rank(), rendezvous.world_size()), (0, 1));
/// # textbrewer::Result::Ok(())
/// ```
///
/// What has another source can be said:
///
/// ```
/// use std::time::Duration;
/// use tch::Device;
/// use textbrewer::distributed::Rendezvous;
///
/// let rendezvous = Rendezvous::new(5, 8)
///     .local_rank(1)
///     .address("node1", 29500)
///     .device(Device::Cpu)
///     .timeout(Duration::from_secs(600));
/// assert_eq!(rendezvous.rank(), 5);
/// ```
#[derive(Debug, Clone)]
pub struct Rendezvous {
    rank: usize,
    world_size: usize,
    local_rank: usize,
    host: String,
    port: Option<u16>,
    device: Option<Device>,
    timeout: Duration,
    store_timeout: Duration,
    agent_store: bool,
    restart_count: u64,
}

impl Rendezvous {
    /// Process `rank`, counted from 0, of `world_size`.
    ///
    /// Unless told otherwise, they are all on this machine, and each has the CUDA device of its
    /// number if there is one. More than one process need an [`address`](Self::address).
    pub fn new(rank: usize, world_size: usize) -> Self {
        Rendezvous {
            rank,
            world_size,
            local_rank: rank,
            host: "127.0.0.1".to_owned(),
            port: None,
            device: None,
            timeout: TIMEOUT,
            store_timeout: STORE_TIMEOUT,
            agent_store: false,
            restart_count: 0,
        }
    }

    /// What the environment says. The first of these that has set its variables counts:
    ///
    /// | started by | rank, world size, local rank |
    /// |---|---|
    /// | [`Launch`](super::Launch), torchrun, Kubernetes' PyTorchJob, by hand | `RANK`, `WORLD_SIZE`, `LOCAL_RANK` |
    /// | mpirun of Open MPI | `OMPI_COMM_WORLD_RANK`, `…_SIZE`, `…_LOCAL_RANK` |
    /// | mpirun of MPICH, Intel MPI | `PMI_RANK`, `PMI_SIZE`, `MPI_LOCALRANKID` |
    /// | mpirun of MVAPICH2 | `MV2_COMM_WORLD_RANK`, `…_SIZE`, `…_LOCAL_RANK` |
    /// | Slurm's srun | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS` or `SLURM_NTASKS`, `SLURM_LOCALID` |
    ///
    /// A local rank that nobody has set is 0. More than one process also need `MASTER_ADDR`, the
    /// machine of rank 0, and `MASTER_PORT`, a port that is free there. If none of the variables
    /// is set, the process trains alone; so does one in a batch script of Slurm, or in the shell
    /// that `salloc` opens, without `srun`. A variable that is empty is not set.
    ///
    /// # Errors
    /// [`Error::Config`], with the variable as its field, if one is missing among the others, is
    /// no number, or contradicts another.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| {
            // What is no Unicode is no number either, and is told as such.
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })
    }

    /// The same for an environment given as a function.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let Some(found) = environment::read(variable)? else {
            return Ok(Rendezvous::new(0, 1));
        };
        let (host, port) = found.address.unzip();
        let all_here = Rendezvous::new(found.rank, found.world_size);
        Ok(Rendezvous {
            local_rank: found.local_rank,
            host: host.unwrap_or(all_here.host),
            port,
            agent_store: found.agent_store,
            restart_count: found.restart_count,
            ..all_here
        })
    }

    /// The number of this process among those on its machine. By default its rank.
    #[must_use]
    pub fn local_rank(mut self, local_rank: usize) -> Self {
        self.local_rank = local_rank;
        self
    }

    /// Where rank 0 listens: the name or address of its machine, and a port that is free there.
    #[must_use]
    pub fn address(mut self, host: impl Into<String>, port: u16) -> Self {
        self.host = host.into();
        self.port = Some(port);
        self
    }

    /// How long an operation waits for the other processes: 30 minutes unless said otherwise.
    /// Longer than anything that one of them does alone, such as saving a checkpoint.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The device that this process trains on. By default the CUDA device with the number of
    /// its local rank, and the CPU if there is none.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// The number of this process among all, from 0 on.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Whether this process trains alone, and opens no connection: there is one, and nobody
    /// said where it listens. With an address, one process has a group of one.
    pub fn is_alone(&self) -> bool {
        self.world_size == 1 && self.port.is_none()
    }
}

/// What is needed to meet the others.
impl Rendezvous {
    /// The number of this process among those on its machine.
    pub(crate) fn rank_here(&self) -> usize {
        self.local_rank
    }

    /// The device to train on.
    pub(crate) fn chosen_device(&self) -> Device {
        self.device.unwrap_or_else(|| {
            let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
            default_device(self.local_rank, cuda_devices(), visible.as_deref())
        })
    }

    /// Whether there are CUDA devices, but none for this process.
    fn lacks_device(&self) -> bool {
        cuda_devices() > 0 && self.chosen_device() == Device::Cpu
    }

    /// The host and port where rank 0, or torchrun's agent, listens.
    ///
    /// # Errors
    /// [`Error::Config`] without a port, and for a rank and a world size that cannot be.
    pub(crate) fn checked_address(&self) -> Result<(&str, u16)> {
        let Rendezvous {
            rank, world_size, ..
        } = *self;
        if world_size == 0 {
            return Err(Error::config(
                "world_size",
                "is 0: there is at least one process",
            ));
        }
        if world_size > MOST {
            return Err(Error::config(
                "world_size",
                format!("is {world_size}; at most {MOST} processes can train together"),
            ));
        }
        if rank >= world_size {
            return Err(Error::config(
                "rank",
                format!(
                    "is {rank}, but {world_size} processes have the numbers 0 to {}",
                    world_size - 1
                ),
            ));
        }
        if self.device.is_none() && self.lacks_device() {
            return Err(Error::config(
                "local_rank",
                format!(
                    "is {}, but this machine has {} CUDA device(s): start one process for each of \
                     them, or choose the CPU with `Rendezvous::device`",
                    self.local_rank,
                    cuda_devices()
                ),
            ));
        }
        match self.port {
            Some(port @ 1..) if !self.host.is_empty() => Ok((&self.host, port)),
            _ => Err(Error::config(
                "address",
                "has no host or no port: tell each process where rank 0 listens, as \
                 `.address(\"node1\", 29500)`",
            )),
        }
    }

    /// Whether this process serves the store through which all find each other.
    pub(crate) fn serves_store(&self) -> bool {
        self.rank == 0 && !self.agent_store
    }

    /// What stands before all keys in the store: torchrun's outlives a restart, and holds what
    /// the processes before it wrote.
    pub(crate) fn prefix(&self) -> String {
        format!("textbrewer/{}", self.restart_count)
    }

    /// How long an operation waits.
    pub(crate) fn operation_timeout(&self) -> Duration {
        self.timeout
    }

    /// How long a process waits for all to come. Not longer than for an operation.
    pub(crate) fn store_timeout(&self) -> Duration {
        self.store_timeout.min(self.timeout)
    }
}

fn cuda_devices() -> usize {
    match Cuda::is_available() {
        true => usize::try_from(Cuda::device_count()).unwrap_or(0),
        false => 0,
    }
}

/// The CUDA device of a process by its number on the machine. Slurm may show each process
/// nothing but its own, which then is device 0 for all of them.
fn default_device(local_rank: usize, count: usize, visible: Option<&str>) -> Device {
    match count {
        1 if visible.is_some_and(|visible| !visible.is_empty()) => Device::Cuda(0),
        _ if local_rank < count => Device::Cuda(local_rank),
        _ => Device::Cpu,
    }
}

#[cfg(test)]
#[path = "rendezvous_tests.rs"]
mod tests;
