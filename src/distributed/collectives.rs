//! What a group of processes computes together.

use tch::{Device, Kind, Tensor};

use super::ProcessGroup;
use super::exchange::NUMBERS;
use crate::error::{Error, Result};
use crate::kind::{defined, is_floating};
use crate::native::process_group::Reduction;

/// How the tensors of all processes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reduce {
    /// Their sum.
    Sum,
    /// Their mean, of floating-point numbers.
    Mean,
    /// The least number at each place.
    Min,
    /// The largest number at each place.
    Max,
}

impl ProcessGroup {
    /// What all processes have in `tensor` together; the tensor itself stays as it is.
    ///
    /// # Errors
    /// [`Error::Distributed`] when another process brings another shape or kind, does something
    /// else, has ended, or does not answer in time; [`Error::Config`] for a mean of integers.
    pub fn all_reduce(&self, tensor: &Tensor, reduce: Reduce) -> Result<Tensor> {
        sendable("all_reduce", tensor)?;
        if reduce == Reduce::Mean && !is_floating(tensor.f_kind()?) {
            let reason = "a mean of integers would be cut; add them up, or convert them first";
            return Err(Error::config("all_reduce", reason));
        }
        self.check_alike("all_reduce", tensor, &format!(" ({reduce:?})"))?;
        let result = self.own_copy(tensor)?;
        let reduction = match reduce {
            Reduce::Sum => Reduction::Sum,
            Reduce::Mean => Reduction::Mean,
            Reduce::Min => Reduction::Min,
            Reduce::Max => Reduction::Max,
        };
        self.with_group("all_reduce", |group| {
            group.all_reduce(&[&result], reduction)
        })?;
        Ok(result)
    }

    /// The tensors of all processes, by rank.
    ///
    /// # Errors
    /// [`Error::Distributed`] as [`all_reduce`](Self::all_reduce).
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        sendable("all_gather", tensor)?;
        self.check_alike("all_gather", tensor, "")?;
        let own = self.own_copy(tensor)?;
        if self.is_alone() {
            return Ok(vec![own]);
        }
        let size = own.size();
        let count = self.world_size() as i64;
        let elements = i64::try_from(own.numel()).unwrap_or_default();
        let all = Tensor::f_empty([count * elements], (own.f_kind()?, own.device()))?;
        let flat = own.f_reshape([-1])?;
        self.with_group("all_gather", |group| group.all_gather(&all, &flat))?;
        let of = |rank| all.f_narrow(0, rank * elements, elements)?.f_reshape(&size);
        (0..count).map(|rank| Ok(of(rank)?)).collect()
    }

    /// The tensor of the process `root`, in all of them. The others bring one of the same shape and
    /// kind, whose numbers do not matter.
    ///
    /// # Errors
    /// [`Error::Distributed`] as [`all_reduce`](Self::all_reduce); [`Error::Config`] if there is no
    /// such process.
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Tensor> {
        if root >= self.world_size() {
            let last = self.world_size() - 1;
            let reason = format!("there is no process {root}; they are 0 to {last}");
            return Err(Error::config("broadcast", reason));
        }
        sendable("broadcast", tensor)?;
        self.check_alike("broadcast", tensor, &format!(" (of {root})"))?;
        let result = self.own_copy(tensor)?;
        self.with_group("broadcast", |group| group.broadcast(&[(&result, root)]))?;
        Ok(result)
    }

    /// Waits until all processes are here.
    ///
    /// # Errors
    /// [`Error::Distributed`] when another process does something else, has ended, or does not come
    /// in time.
    pub fn barrier(&self) -> Result<()> {
        self.exchange("barrier", [0; NUMBERS]).map(drop)
    }

    fn own_copy(&self, tensor: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let copy = tensor.f_detach_copy()?;
        Ok(copy.f_contiguous()?)
    }

    /// Fails in all processes if they bring different tensors, or differ in `option`.
    fn check_alike(&self, operation: &str, tensor: &Tensor, option: &str) -> Result<()> {
        defined(operation, tensor)?;
        let device = match tensor.device() {
            Device::Cpu => "CPU",
            _ => "GPU",
        };
        let (kind, size) = (tensor.f_kind()?, tensor.size());
        let own = format!("{kind:?} {size:?} on the {device}{option}");
        let all = self.exchange_bytes(operation, own.as_bytes())?;
        let differs = |other: &&(usize, Vec<u8>)| other.1 != own.as_bytes();
        let all: Vec<_> = all.into_iter().enumerate().collect();
        match all.iter().find(differs) {
            None => Ok(()),
            Some((rank, other)) => {
                let other = String::from_utf8_lossy(other);
                let reason = format!("this process brings {own}, process {rank} {other}");
                Err(self.error(operation, reason))
            }
        }
    }
}

/// Gloo knows these kinds of numbers, and dense tensors.
fn sendable(operation: &str, tensor: &Tensor) -> Result<()> {
    defined(operation, tensor)?;
    let kind = tensor.f_kind()?;
    let is_known = is_floating(kind)
        || matches!(
            kind,
            Kind::Int64 | Kind::Int | Kind::Int8 | Kind::Uint8 | Kind::Bool
        );
    match is_known && !tensor.is_sparse() {
        true => Ok(()),
        false => Err(Error::config(
            operation,
            format!(
                "a {} tensor of {kind:?} cannot be sent; convert it to a dense one of floating-point \
                 numbers, Int64, Int, Int8, Uint8 or Bool",
                if tensor.is_sparse() {
                    "sparse"
                } else {
                    "dense"
                }
            ),
        )),
    }
}
