//! What those who start processes tell each of them, in variables of its environment.

use crate::error::{Error, Result, shown};

/// What the environment says of this process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) rank: usize,
    pub(super) world_size: usize,
    pub(super) local_rank: usize,
    /// `MASTER_ADDR` and `MASTER_PORT`; there may be none where one process is all.
    pub(super) address: Option<(String, u16)>,
    /// torchrun serves the store itself.
    pub(super) agent_store: bool,
    pub(super) restart_count: u64,
}

/// Somebody who starts processes, and the variables that they tell their ranks by.
struct Starter {
    rank: &'static str,
    world_size: &'static [&'static str],
    local_rank: &'static [&'static str],
}

/// torchrun, Kubernetes' PyTorchJob (which has no `LOCAL_RANK`), a shell's loop.
const TORCH: Starter = Starter {
    rank: "RANK",
    world_size: &["WORLD_SIZE"],
    local_rank: &["LOCAL_RANK"],
};

/// All others, in the order in which they are asked: Accelerate's. `mpirun` inside a Slurm job has
/// Slurm's variables beside its own, and `srun --mpi=pmi2` has `PMI_RANK` without a local rank.
const OTHERS: [Starter; 4] = [
    // Open MPI
    Starter {
        rank: "OMPI_COMM_WORLD_RANK",
        world_size: &["OMPI_COMM_WORLD_SIZE"],
        local_rank: &["OMPI_COMM_WORLD_LOCAL_RANK"],
    },
    // MPICH, Intel MPI
    Starter {
        rank: "PMI_RANK",
        world_size: &["PMI_SIZE"],
        local_rank: &["MPI_LOCALRANKID", "SLURM_LOCALID"],
    },
    // MVAPICH2
    Starter {
        rank: "MV2_COMM_WORLD_RANK",
        world_size: &["MV2_COMM_WORLD_SIZE"],
        local_rank: &["MV2_COMM_WORLD_LOCAL_RANK"],
    },
    // A step has the number of its own tasks beside that of its job.
    Starter {
        rank: SLURM_RANK,
        world_size: &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"],
        local_rank: &["SLURM_LOCALID"],
    },
];

const SLURM_RANK: &str = "SLURM_PROCID";

/// From here on Slurm's numbers of steps are not those of an `srun`, but of the shell that
/// `salloc` opens on a node (0xfffffffa), of a batch script and the like.
const SLURM_NO_SRUN: u64 = 0xffff_fff0;

/// What the variables say; `None` if nobody started this process as one of several.
///
/// # Errors
/// [`Error::Config`], with the variable as its field.
pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Environment>> {
    let variables = Variables(|name: &str| variable(name).filter(|value| !value.is_empty()));
    let is_torch = variables.has(TORCH.rank);
    let starter = match is_torch {
        true => &TORCH,
        false => match variables.other_starter() {
            Some(other) => other,
            None => return variables.refuse_half().map(|()| None),
        },
    };
    let world_size = variables.world_size(starter)?;
    let rank = variables.rank(starter, world_size)?;
    if !is_torch {
        variables.compare_world_size(starter, world_size)?;
    }
    Ok(Some(Environment {
        rank,
        world_size,
        local_rank: variables.local_rank(starter)?,
        address: variables.address(starter, world_size)?,
        agent_store: is_torch && variables.value("TORCHELASTIC_USE_AGENT_STORE") == "True",
        restart_count: match is_torch {
            true => variables.number_or_0("TORCHELASTIC_RESTART_COUNT")?,
            false => 0,
        },
    }))
}

/// An environment in which what is empty is not there, as `RANK= program` means it.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn has(&self, name: &str) -> bool {
        (self.0)(name).is_some()
    }

    fn value(&self, name: &str) -> String {
        (self.0)(name).unwrap_or_default()
    }

    fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    fn other_starter(&self) -> Option<&'static Starter> {
        OTHERS.iter().find(|starter| {
            // A batch script is one process, whose number is 0 of all tasks that the job may
            // start; so is the shell that `salloc` opens.
            self.has(starter.rank) && (starter.rank != SLURM_RANK || self.is_srun())
        })
    }

    fn is_srun(&self) -> bool {
        ["SLURM_STEP_ID", "SLURM_STEPID"]
            .iter()
            .find_map(|name| self.value(name).parse::<u64>().ok())
            .is_some_and(|step| step < SLURM_NO_SRUN)
    }

    /// Without a rank, no other of PyTorch's variables of one process means anything.
    fn refuse_half(&self) -> Result<()> {
        match self.first(&["WORLD_SIZE", "LOCAL_RANK"]) {
            None => Ok(()),
            Some(other) => Err(Error::config(
                "RANK",
                format!(
                    "is not set, but {other} is `{}`: set RANK, the number of this process from \
                     0 on, or unset {other} to train with one process alone",
                    shown(&self.value(other))
                ),
            )),
        }
    }

    fn world_size(&self, starter: &Starter) -> Result<usize> {
        let Some(name) = self.first(starter.world_size) else {
            let (rank, missing) = (starter.rank, starter.world_size.join(" or "));
            return Err(Error::config(
                missing.clone(),
                format!(
                    "is not set, but {rank} is `{}`: set {missing}, the number of all processes, \
                     or unset {rank} to train with one process alone",
                    shown(&self.value(rank))
                ),
            ));
        };
        match self.number(name)? {
            0 => Err(Error::config(
                name,
                "is `0`: set it to the number of all processes, 1 or more",
            )),
            number => Ok(number),
        }
    }

    fn rank(&self, starter: &Starter, world_size: usize) -> Result<usize> {
        let rank: usize = self.number(starter.rank)?;
        if rank < world_size {
            return Ok(rank);
        }
        let size = self.first(starter.world_size).unwrap_or_default();
        Err(Error::config(
            starter.rank,
            format!(
                "is `{rank}`, but {size} says that there are {world_size} processes, which have \
                 the numbers 0 to {}: correct one of the two",
                world_size - 1
            ),
        ))
    }

    /// Scripts for Slurm often set WORLD_SIZE beside what srun sets.
    fn compare_world_size(&self, starter: &Starter, world_size: usize) -> Result<()> {
        let Some(other) = self.first(TORCH.world_size) else {
            return Ok(());
        };
        if self.number::<usize>(other)? == world_size {
            return Ok(());
        }
        let size = self.first(starter.world_size).unwrap_or_default();
        Err(Error::config(
            other,
            format!(
                "is `{}`, but {size} is `{world_size}`: unset {other}, or start as many processes",
                shown(&self.value(other))
            ),
        ))
    }

    fn local_rank(&self, starter: &Starter) -> Result<usize> {
        // LOCAL_RANK may be set by hand where mpirun or srun has no such number.
        let own = self.first(starter.local_rank);
        match own.or_else(|| self.first(TORCH.local_rank)) {
            Some(name) => self.number(name),
            None => Ok(0),
        }
    }

    fn address(&self, starter: &Starter, world_size: usize) -> Result<Option<(String, u16)>> {
        let missing = ["MASTER_ADDR", "MASTER_PORT"].map(|name| (name, !self.has(name)));
        if let Some((name, _)) = missing.iter().find(|(_, is_missing)| *is_missing) {
            return match world_size {
                1 => Ok(None),
                _ => Err(Error::config(
                    *name,
                    format!("is not set: {}", how_to_find_rank_0(starter, name)),
                )),
            };
        }
        let port = self.value("MASTER_PORT");
        match number(&port) {
            Some(port @ 1..) => Ok(Some((self.value("MASTER_ADDR"), port))),
            _ => Err(Error::config(
                "MASTER_PORT",
                format!(
                    "is `{}`: set it to a port that is free where rank 0 runs, 1 to 65535, the \
                     same for all processes",
                    shown(&port)
                ),
            )),
        }
    }

    fn number_or_0(&self, name: &str) -> Result<u64> {
        match self.has(name) {
            true => self.number(name),
            false => Ok(0),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let value = self.value(name);
        number(&value).ok_or_else(|| {
            Error::config(
                name,
                format!(
                    "is `{}`, which is not a number from 0 on: correct it where this process is \
                     started, or unset it to train with one process alone",
                    shown(&value)
                ),
            )
        })
    }
}

/// `parse` alone would accept "+1".
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    text.parse().ok()
}

fn how_to_find_rank_0(starter: &Starter, missing: &str) -> String {
    if starter.rank == SLURM_RANK {
        return "before srun, `export MASTER_ADDR=$(scontrol show hostnames \
                \"$SLURM_JOB_NODELIST\" | head -n 1) MASTER_PORT=29500`"
            .to_owned();
    }
    let value = match missing {
        "MASTER_ADDR" => {
            "the name or address of the machine of rank 0 (127.0.0.1 where all run on one)"
        }
        _ => "a port that is free on the machine of rank 0, such as 29500",
    };
    format!("set it to {value}, the same for all processes")
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
