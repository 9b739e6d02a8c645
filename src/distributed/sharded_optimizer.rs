//! An optimizer whose state is divided among the processes (ZeRO stage 1).

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::owners::Owners;
use super::{NUMBERS, ProcessGroup};
use crate::error::{Error, Result};
use crate::native::optim::zero_grad;
use crate::optim::{Optimizer, ParamGroup};
use crate::weights::{to_dtype, to_kind};

/// An optimizer of which each process steps its own parameters only, and then sends them to the
/// others.
///
/// The inner optimizer has all parameters, so that its groups do not depend on the number of
/// processes. It sees the gradients of this process's own: a parameter without a gradient is not
/// stepped, and has no state.
pub(crate) struct ShardedOptimizer<'a> {
    inner: Box<dyn Optimizer + 'a>,
    group: &'a ProcessGroup,
    owners: Owners,
}

const SENDING: &str = "sending the stepped parameters";
const GATHERING: &str = "gathering the optimizer's state";

/// What is sent at once: a parameter, or small ones of one owner in one tensor, as each message takes
/// its time.
struct Pack {
    owner: usize,
    sent: Tensor,
    /// None where the parameter itself is sent.
    parameters: Vec<Tensor>,
}

/// Larger parameters are not copied.
const SMALL: usize = 1 << 20;

/// The same packs in all processes, which have the same parameters.
fn packed(all: &[(Tensor, usize)]) -> Result<Vec<Pack>> {
    let mut packs = Vec::new();
    let mut small: BTreeMap<(usize, String), Vec<Tensor>> = BTreeMap::new();
    for (tensor, owner) in all {
        let kind = tensor.f_kind()?;
        if tensor.numel() * kind.elt_size_in_bytes() > SMALL {
            packs.push(Pack {
                owner: *owner,
                sent: tensor.shallow_clone(),
                parameters: Vec::new(),
            });
        } else {
            let alike = (*owner, format!("{kind:?} on {:?}", tensor.device()));
            small.entry(alike).or_default().push(tensor.shallow_clone());
        }
    }
    for ((owner, _), parameters) in small {
        let flat = parameters.iter().map(|tensor| tensor.f_reshape([-1i64]));
        let flat = flat.collect::<std::result::Result<Vec<_>, _>>()?;
        packs.push(Pack {
            owner,
            sent: Tensor::f_cat(&flat, 0)?,
            parameters,
        });
    }
    Ok(packs)
}

impl Pack {
    /// Writes what came into the parameters.
    fn unpack(&self) -> Result<()> {
        let mut start = 0;
        for parameter in &self.parameters {
            let elements = i64::try_from(parameter.numel()).unwrap_or_default();
            let values = self.sent.f_narrow(0, start, elements)?;
            let values = values.f_view(parameter.size().as_slice())?;
            parameter.shallow_clone().f_copy_(&values)?;
            start += elements;
        }
        Ok(())
    }
}

/// A tensor that is sent.
#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    key: String,
    dtype: Dtype,
    size: Vec<i64>,
}

impl<'a> ShardedOptimizer<'a> {
    /// `inner` has no groups yet.
    pub(crate) fn new(inner: Box<dyn Optimizer + 'a>, group: &'a ProcessGroup) -> Self {
        ShardedOptimizer {
            inner,
            group,
            owners: Owners::new(group.world_size()),
        }
    }

    /// Steps what is this process's own, and takes the rest from the others.
    fn step_own(
        &mut self,
        step: impl FnOnce(&mut (dyn Optimizer + 'a)) -> Result<()>,
    ) -> Result<()> {
        let all = self.with_gradients()?;
        let rank = self.group.rank();
        // Averages, like the parameters, so that the owner's step is everybody's.
        let others = all.iter().filter(|(_, owner)| *owner != rank);
        zero_grad(others.map(|(tensor, _)| tensor))?;
        step(&mut *self.inner)?;
        self.check_alike(&all)?;
        let _guard = tch::no_grad_guard();
        let packs = packed(&all)?;
        let sent: Vec<_> = packs.iter().map(|pack| (&pack.sent, pack.owner)).collect();
        self.group
            .with_group(SENDING, |group| group.broadcast(&sent))?;
        let mut received = packs.iter().filter(|pack| pack.owner != rank);
        received.try_for_each(Pack::unpack)
    }

    /// The parameters that are stepped, and their owners.
    fn with_gradients(&self) -> Result<Vec<(Tensor, usize)>> {
        let groups = self.inner.groups().iter();
        let mut found = Vec::new();
        for (name, tensor) in groups.flat_map(|group| &group.parameters) {
            if tensor.defined() && tensor.numel() > 0 && tensor.f_grad()?.defined() {
                let owner = self.owners.of(name).unwrap_or_default();
                found.push((tensor.shallow_clone(), owner));
            }
        }
        Ok(found)
    }

    /// Fails in all processes if another one is about to send other tensors.
    fn check_alike(&self, sent: &[(Tensor, usize)]) -> Result<()> {
        let mut hash = crc32fast::Hasher::new();
        for (tensor, owner) in sent {
            hash.update(&(tensor.numel() as u64).to_le_bytes());
            hash.update(&(*owner as u64).to_le_bytes());
        }
        let mut own = [0; NUMBERS];
        own[0] = sent.len() as i64;
        own[1] = i64::from(hash.finalize());
        let all = self.group.exchange(SENDING, own)?;
        match all.iter().position(|other| *other != own) {
            None => Ok(()),
            Some(rank) => {
                let theirs = all.get(rank).map_or(0, |numbers| numbers[0]);
                let reason = format!(
                    "this process has gradients for {} parameters, process {rank} for {theirs} or \
                     for others; give all of them the same student and losses",
                    own[0]
                );
                Err(self.group.error(SENDING, reason))
            }
        }
    }

    /// Adds what the other processes have to the state of the first. It goes through the memory of
    /// all, one tensor at a time.
    fn gather(&self, own: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let rank = self.group.rank();
        let mut announced = Vec::new();
        for (key, tensor) in own.iter() {
            if rank > 0 && self.owners.of_key(key) == Some(rank) {
                let kind = tensor.f_kind()?;
                let dtype = to_dtype(kind).ok_or_else(|| {
                    let reason = format!("is of kind {kind:?}, which cannot be saved");
                    Error::config(format!("optimizer's state, `{key}`"), reason)
                })?;
                announced.push(Announced {
                    key: key.clone(),
                    dtype,
                    size: tensor.size(),
                });
            }
        }
        let announced = serde_json::to_vec(&announced).map_err(Error::other)?;
        let all = self.group.exchange_bytes(GATHERING, &announced)?;
        for (root, announced) in all.iter().enumerate() {
            let announced: Vec<Announced> =
                serde_json::from_slice(announced).map_err(Error::other)?;
            for Announced { key, dtype, size } in announced {
                let kind = to_kind(dtype).unwrap_or(Kind::Uint8);
                let elements = size.iter().product::<i64>();
                let bytes = match own.get(&key) {
                    Some(tensor) if rank == root => bytes_of(tensor)?,
                    _ => {
                        let bytes = elements * kind.elt_size_in_bytes() as i64;
                        Tensor::f_empty([bytes], (Kind::Uint8, Device::Cpu))?
                    }
                };
                if elements > 0 {
                    self.group
                        .with_group(GATHERING, |group| group.broadcast(&[(&bytes, root)]))?;
                }
                if self.group.is_first() {
                    own.insert(key, bytes.f_view_dtype(kind)?.f_view(size.as_slice())?);
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a tensor on the CPU, through whose memory a state can be gathered that is too large
/// for one GPU.
fn bytes_of(tensor: &Tensor) -> Result<Tensor> {
    let here = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    Ok(here.f_reshape([-1])?.f_view_dtype(Kind::Uint8)?)
}

impl Optimizer for ShardedOptimizer<'_> {
    fn add_group(&mut self, group: ParamGroup) -> Result<()> {
        let known = self.inner.groups().len();
        self.inner.add_group(group)?;
        let added = self.inner.groups().get(known..).unwrap_or_default();
        self.owners.add(added)
    }

    fn groups(&self) -> &[ParamGroup] {
        self.inner.groups()
    }

    fn zero_grad(&mut self) -> Result<()> {
        self.inner.zero_grad()
    }

    fn step(&mut self, learning_rate_factor: f64) -> Result<()> {
        self.step_own(|inner| inner.step(learning_rate_factor))
    }

    fn step_unless(&mut self, learning_rate_factor: f64, found_infinity: &Tensor) -> Result<()> {
        self.step_own(|inner| inner.step_unless(learning_rate_factor, found_infinity))
    }

    /// All processes have to ask for it. The first gets all, the others what they have themselves.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let _guard = tch::no_grad_guard();
        let rank = self.group.rank();
        let mut own = self.inner.state()?;
        // What is of no parameter is the same everywhere. An optimizer of a user's own may have a
        // state for parameters that it never stepped.
        own.retain(|key, _| self.owners.of_key(key).is_none_or(|owner| owner == rank));
        self.gather(&mut own)?;
        Ok(own)
    }

    /// What belongs to others is left to them, and checked by them.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let rank = self.group.rank();
        let is_own = |key: &str| self.owners.of_key(key).is_none_or(|owner| owner == rank);
        let own = state.iter().filter(|(key, _)| is_own(key));
        let own = own.map(|(key, tensor)| (key.clone(), tensor.shallow_clone()));
        self.inner.load_state(&own.collect())
    }
}
