//! What the ranks make sure of before they train together.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::checkpoint::{Description, Difference, Newest, TensorDescription};
use crate::distiller::Distiller;
use crate::engine::ranks::Ranks;
use crate::error::{Error, Result};
use crate::logging;
use crate::native::Reducer;
use crate::optim::Optimizer;
use crate::weights;

/// What else must be alike, by name.
pub(super) type Also = Vec<(&'static str, Value)>;

const COMPARING: &str = "comparing the runs";

/// Fails in all ranks if one of them describes another run: tensors of another size would end the
/// process, and other lengths would make the ranks wait for each other.
pub(super) fn compare(ranks: Ranks<'_>, description: &Description, also: Also) -> Result<()> {
    if ranks.world_size() == 1 {
        return Ok(());
    }
    let own = json!({"run": description, "also": also});
    let mut all = Vec::new();
    for text in ranks.texts(COMPARING, &own.to_string())? {
        let mut parts: Value = serde_json::from_str(&text).map_err(Error::other)?;
        let run: Description = serde_json::from_value(parts["run"].take()).map_err(Error::other)?;
        let also: Vec<(String, Value)> =
            serde_json::from_value(parts["also"].take()).map_err(Error::other)?;
        all.push((run, also));
    }
    let Some((first, others)) = all.split_first() else {
        return Ok(());
    };
    // Each with the ranks that have it.
    let mut differences: Vec<(Difference, Vec<usize>)> = Vec::new();
    for (rank, (run, also)) in (1..).zip(others) {
        let mut found = first.0.compare(run)?;
        let both = first.1.iter().zip(also);
        found.extend(both.filter(|((_, one), (_, other))| one != other).map(
            |((name, one), (_, other))| Difference::new(name, one.to_string(), other.to_string()),
        ));
        for difference in found {
            match differences
                .iter_mut()
                .find(|(known, _)| *known == difference)
            {
                Some((_, of)) => of.push(rank),
                None => differences.push((difference, vec![rank])),
            }
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let shown = differences.iter().take(20);
    let shown = shown.map(|(difference, ranks)| {
        let text = difference.between("in process 0", &format!("in {}", processes(ranks)));
        format!("\n  {text}")
    });
    let reason = format!(
        "the processes describe different runs; give all of them the same program, arguments and \
         data. {} difference(s):{}",
        differences.len(),
        shown.collect::<String>()
    );
    Err(ranks.error(COMPARING, reason))
}

fn processes(ranks: &[usize]) -> String {
    let names: Vec<_> = ranks.iter().take(8).map(usize::to_string).collect();
    match (names.as_slice(), ranks.len() - names.len()) {
        ([one], _) => format!("process {one}"),
        ([all @ .., last], 0) => format!("processes {} and {last}", all.join(", ")),
        (all, more) => format!("processes {} and {more} more", all.join(", ")),
    }
}

/// Warns of processes on one machine that have more threads together than it has cores: they wait for
/// each other, and everything takes many times as long.
pub(super) fn look_at_threads(ranks: Ranks<'_>, device: Device) -> Result<()> {
    if ranks.world_size() == 1 || device != Device::Cpu {
        return Ok(());
    }
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let threads = u64::try_from(tch::get_num_threads()).unwrap_or(1);
    let own = format!("{threads} {}", machine.trim());
    let all = ranks.texts("looking at the threads", &own)?;
    let here = all.iter().filter_map(|text| text.split_once(' '));
    let here: Vec<u64> = here
        .filter(|(_, other)| *other == machine.trim())
        .filter_map(|(threads, _)| threads.parse().ok())
        .collect();
    let cores = std::thread::available_parallelism().map_or(u64::MAX, |cores| cores.get() as u64);
    let together: u64 = here.iter().sum();
    if together > cores && here.len() > 1 {
        logging::warn(format_args!(
            "{} processes on this machine have {together} threads for {cores} core(s), and will wait \
             for each other: set OMP_NUM_THREADS to {}",
            here.len(),
            (cores / here.len() as u64).max(1)
        ));
    }
    Ok(())
}

/// Fails in all ranks if they do not see the same checkpoint to resume from.
pub(super) fn same_checkpoint(ranks: Ranks<'_>, newest: Option<&Newest>) -> Result<()> {
    let own = match newest {
        None => "no checkpoint to resume from".to_owned(),
        Some(newest) => {
            let Newest { loaded, .. } = newest;
            let (run, step) = (&loaded.manifest.run, loaded.position.global_step);
            format!("the checkpoint of step {step} of run {run}")
        }
    };
    let text = |error| match error {
        Error::Distributed { reason, .. } => {
            let reason = format!("{reason}; all need to see one `output_dir`");
            ranks.error("resuming", reason)
        }
        other => other,
    };
    ranks.same("resuming", &own).map_err(text)
}

/// Gives all ranks the first one's student, projections and whatever else its terms remember.
pub(super) fn share_state<D: Distiller + ?Sized>(
    ranks: Ranks<'_>,
    distiller: &mut D,
) -> Result<()> {
    if ranks.world_size() == 1 {
        return Ok(());
    }
    let _guard = tch::no_grad_guard();
    let state = distiller.core().state()?;
    let shape = |(name, tensor): (&String, &Tensor)| {
        let shape = TensorDescription::new(tensor)?;
        Ok((name.clone(), shape))
    };
    let remembered = Description {
        state: state.iter().map(shape).collect::<Result<_>>()?,
        ..Description::default()
    };
    compare(ranks, &remembered, Also::new())?;
    let student = weights::state_dict(distiller.core().variables());
    let tensors: Vec<Tensor> = student.into_iter().map(|(_, tensor)| tensor).collect();
    ranks.copy_from_first("copying the student", &tensors)?;
    let tensors: Vec<Tensor> = state.values().map(Tensor::shallow_clone).collect();
    ranks.copy_from_first("copying the projections", &tensors)?;
    match ranks.is_first() {
        true => Ok(()),
        false => distiller.core_mut().load_state(&state),
    }
}

/// Gives all ranks the first one's state of the optimizer, which has one if it was lent and trained
/// with before. After a resume it is that of the checkpoint.
pub(super) fn share_optimizer(ranks: Ranks<'_>, optimizer: &mut dyn Optimizer) -> Result<()> {
    if ranks.world_size() == 1 {
        return Ok(());
    }
    let state = optimizer.state()?;
    let mut hash = crc32fast::Hasher::new();
    for (key, tensor) in &state {
        let shape = weights::kind_and_shape(tensor)?;
        hash.update(format!("{key} {shape}\n").as_bytes());
    }
    let own = match state.len() {
        0 => "an optimizer that has not stepped yet".to_owned(),
        count => format!(
            "one with a state of {count} tensors (names and shapes {:08x})",
            hash.finalize()
        ),
    };
    let text = |error| match error {
        Error::Distributed { reason, .. } => {
            let reason = format!(
                "{reason}; give all of them a new optimizer, or one that trained the same before, \
                 without `shard_optimizer`"
            );
            ranks.error(OPTIMIZERS, reason)
        }
        other => other,
    };
    ranks.same(OPTIMIZERS, &own).map_err(text)?;
    if state.is_empty() {
        return Ok(());
    }
    let tensors: Vec<Tensor> = state.values().map(Tensor::shallow_clone).collect();
    ranks.copy_from_first("copying the optimizer's state", &tensors)?;
    match ranks.is_first() {
        true => Ok(()),
        false => optimizer.load_state(&state),
    }
}

const OPTIMIZERS: &str = "comparing the optimizers";

/// What averages the gradients of all parameters that have some: those of the student that no
/// optimizer changes are clipped with the others. With it those that are frozen now: when one of
/// them is trained later, it takes another reducer.
pub(in crate::engine) fn reducer<D: Distiller + ?Sized>(
    ranks: Ranks<'_>,
    optimizer: &dyn Optimizer,
    distiller: &D,
) -> Result<(Option<Reducer>, Vec<Tensor>)> {
    if ranks.is_alone() {
        return Ok((None, Vec::new()));
    }
    let variables = distiller.core().variables();
    let mut names = HashMap::new();
    for (name, tensor) in variables.variables() {
        names.insert(address(&tensor), name);
    }
    // In the order in which the variables were made, which is mostly that of the forward pass:
    // buckets are filled from its end.
    let own = variables.trainable_variables().into_iter().map(|tensor| {
        let name = names.get(&address(&tensor)).cloned().unwrap_or_default();
        (name, tensor)
    });
    let optimized = optimizer
        .groups()
        .iter()
        .flat_map(|group| &group.parameters);
    let optimized = optimized.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    let extra = distiller.core().param_groups().into_iter();
    let others = optimized.chain(extra.flat_map(|group| group.parameters));
    let mut seen = HashSet::new();
    let (with_gradients, frozen): (Vec<_>, Vec<_>) = own
        .chain(others)
        .filter(|(_, tensor)| tensor.numel() > 0 && seen.insert(address(tensor)))
        .partition(|(_, tensor)| tensor.requires_grad());
    let frozen = frozen.into_iter().map(|(_, tensor)| tensor).collect();
    let mut hash = crc32fast::Hasher::new();
    for (name, tensor) in &with_gradients {
        // A bucket holds a parameter in the order of its memory.
        let (shape, strides) = (weights::kind_and_shape(tensor)?, tensor.stride());
        hash.update(format!("{name} {shape} {strides:?}\n").as_bytes());
    }
    let own = format!(
        "{} parameters, {:08x}",
        with_gradients.len(),
        hash.finalize()
    );
    ranks.same(IN_ORDER, &own)?;
    Ok((ranks.reducer(&with_gradients)?, frozen))
}

/// Buckets are filled by both, so that others would average one number with another.
const IN_ORDER: &str = "comparing the order and layout of the variables";

fn address(tensor: &Tensor) -> usize {
    tensor.data_ptr() as usize
}
