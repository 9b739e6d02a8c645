//! The processes that train one student together.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::thread;

use tch::Device;

use super::address::local_address;
use super::failure::{explained, tells_of_others};
use super::meeting::Meeting;
use super::{Rendezvous, error_file};
use crate::data::{Shard, Uneven};
use crate::error::{Error, Result};
use crate::native::process_group::{Group, Outcome};

/// The processes that train one student together.
///
/// Each process makes one and gives it to its run ([`Run::process_group`](crate::Run::process_group)).
/// The processes then average their gradients, agree on every decision, and each of them trains on
/// its share of the data; the first one logs and saves.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::distributed::{ProcessGroup, Reduce};
///
/// // One process alone unless it was started by torchrun, srun, mpirun or `Launch`.
/// let group = ProcessGroup::from_env()?;
/// let correct = group.all_reduce(&Tensor::from_slice(&[17i64]), Reduce::Sum)?;
/// if group.is_first() {
///     println!("{} right", correct.f_int64_value(&[0])?);
/// }
/// # textbrewer::Result::Ok(())
/// ```
///
/// What is done with the group has to be done by all processes, in the same order; who does
/// something else, or brings a tensor of another shape, gets an error, and so do the others. Tensors
/// may be on the CPU (Gloo) or on the group's CUDA device (NCCL).
///
/// A group may be handed to another thread, but is not shared by several.
pub struct ProcessGroup {
    about: Rendezvous,
    /// None where this process is alone.
    meeting: Option<Meeting>,
    /// None where this process is alone, and after a failure.
    group: RefCell<Option<Group>>,
    /// Whether an operation failed, so that others will have told of it, or cannot.
    lost: Cell<bool>,
    /// What ended the group.
    ended_by: RefCell<String>,
}

impl ProcessGroup {
    /// Meets the processes that the environment tells of, as [`Rendezvous::from_env`] reads it. If
    /// it tells of none, this process is alone, and everything that it does with the group is done
    /// at once.
    ///
    /// # Errors
    /// As [`Rendezvous::from_env`] and [`new`](Self::new).
    pub fn from_env() -> Result<Self> {
        ProcessGroup::new(&Rendezvous::from_env()?)
    }

    /// Meets the other processes.
    ///
    /// # Errors
    /// [`Error::Distributed`] when one of them does not come in time, two have the same rank, or
    /// they disagree on how many they are; then all of them fail that can be told. When the port of
    /// the first is in use, or the first does not answer. When NCCL is wanted and not there.
    pub fn new(rendezvous: &Rendezvous) -> Result<Self> {
        let about = rendezvous.clone();
        if about.is_alone() && about.rank() == 0 {
            return Ok(ProcessGroup {
                about,
                meeting: None,
                group: RefCell::default(),
                lost: Cell::default(),
                ended_by: RefCell::default(),
            });
        }
        let (host, port) = about.checked_address()?;
        let address = local_address(host, port);
        let device = about.chosen_device();
        // What cannot work is told before the others wait for this process.
        let able = || Group::check(address.as_deref(), device);
        let meeting = Meeting::new(&about, able)?;
        let group = Group::new(
            meeting.store(),
            meeting.prefix(),
            about.rank(),
            about.world_size(),
            about.operation_timeout(),
            address.as_deref(),
            device,
        )?;
        let joined = ProcessGroup {
            about,
            meeting: Some(meeting),
            group: RefCell::default(),
            lost: Cell::default(),
            ended_by: RefCell::default(),
        };
        let group = group.map_err(|error| joined.failed("connecting to the others", &error))?;
        joined.group.replace(Some(group));
        if joined.world_size() > 1 {
            MEMBER.with(|member| member.set(Some((joined.rank(), joined.world_size()))));
        }
        Ok(joined)
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.about.rank()
    }

    /// The number of processes.
    pub fn world_size(&self) -> usize {
        self.about.world_size()
    }

    /// The number of this process among those of its machine.
    pub fn local_rank(&self) -> usize {
        self.about.rank_here()
    }

    /// The device of this process: a GPU of its own, or the CPU.
    pub fn device(&self) -> Device {
        self.about.chosen_device()
    }

    /// Whether this is the process that logs and saves.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The share of this process in what all of them do together, for
    /// [`DataLoader::shard`](crate::DataLoader::shard). A run asks for its share of the data by
    /// itself; this is for evaluation in shares, with [`Uneven::Keep`], so that every example counts
    /// once.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor};
    /// use textbrewer::data::Uneven;
    /// use textbrewer::distributed::{ProcessGroup, Reduce};
    /// use textbrewer::{DataLoader, TensorLoader};
    ///
    /// let group = ProcessGroup::from_env()?;
    /// let numbers = Tensor::f_arange(5, (Kind::Int64, Device::Cpu))?;
    /// let mut share = TensorLoader::new(vec![numbers], 2)?.shard(group.shard(Uneven::Keep)?);
    /// let mut sum = 0;
    /// for batch in share.epoch(1)? {
    ///     sum += batch?[0].f_sum(Kind::Int64)?.f_int64_value(&[])?;
    /// }
    /// let sum = group.all_reduce(&Tensor::from_slice(&[sum]), Reduce::Sum)?;
    /// assert_eq!(sum.f_int64_value(&[0])?, 10);
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// As [`Shard::new`].
    pub fn shard(&self, uneven: Uneven) -> Result<Shard> {
        Ok(Shard::new(self.rank(), self.world_size())?.with_uneven(uneven))
    }

    /// Whether there is no other process to talk to.
    pub(crate) fn is_alone(&self) -> bool {
        self.meeting.is_none()
    }

    /// Does something with c10d's group, unless this process is alone. That all do the same with
    /// tensors of the same size was made sure of before.
    pub(crate) fn with_group<T: Default>(
        &self,
        operation: &str,
        work: impl FnOnce(&Group) -> Outcome<T>,
    ) -> Result<T> {
        if self.is_alone() {
            return Ok(T::default());
        }
        let group = self.group.borrow();
        let Some(group) = group.as_ref().filter(|_| !self.lost.get()) else {
            let before = self.ended_by.borrow();
            let reason = format!(
                "the group came to an end by an earlier error; start the program anew ({before})"
            );
            return Err(self.error(operation, reason));
        };
        work(group).map_err(|error| self.failed(operation, &error))
    }

    /// An error of this process.
    pub(crate) fn error(&self, operation: &str, reason: impl Into<String>) -> Error {
        Error::Distributed {
            rank: self.rank(),
            world_size: self.world_size(),
            operation: operation.to_owned(),
            reason: reason.into(),
        }
    }

    /// What to tell of an operation that failed: what another process left to be read, or else what
    /// c10d says.
    pub(crate) fn failed(&self, operation: &str, error: &tch::TchError) -> Error {
        self.lost.set(true);
        let message = self.meeting.as_ref().and_then(Meeting::message);
        let reason = message.unwrap_or_else(|| explained(error, self.about.operation_timeout()));
        self.ended_by.replace(reason.clone());
        self.error(operation, reason)
    }

    /// Whether an error is of the work with the others, and not of this process's own.
    pub(crate) fn is_of_others(&self, error: &tch::TchError) -> bool {
        tells_of_others(error) || self.meeting.as_ref().is_some_and(|m| m.message().is_some())
    }

    /// Tells the others of an error of this process, and ends the group: they would wait for it.
    pub(crate) fn end_with(&self, error: &Error) {
        let Some(meeting) = &self.meeting else {
            return;
        };
        if self.group.borrow().is_none() {
            return;
        }
        let error = error.to_string();
        let first_line = error.lines().next().unwrap_or_default();
        self.ended_by.replace(first_line.to_owned());
        if !self.lost.get() {
            meeting.leave_message(&format!("process {} failed: {first_line}", self.rank()));
            error_file::write(&error);
        }
        // Whoever waits for this process now gets an error.
        self.group.replace(None);
        // Where one was killed there is nothing to be read.
        if meeting.message().is_some() {
            meeting.tell_all(0);
        }
    }
}

thread_local! {
    /// Rank and size of the group that this thread has made last.
    static MEMBER: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// The rank and the number of processes, where this thread has made a group of several that lives.
pub(crate) fn is_one_of_several() -> Option<(usize, usize)> {
    MEMBER.get()
}

impl Drop for ProcessGroup {
    /// Tells those who still wait for this process why they need not.
    fn drop(&mut self) {
        if self.meeting.is_some() {
            MEMBER.set(None);
        }
        let is_over = self.lost.get() || self.group.borrow().is_none();
        let Some(meeting) = self.meeting.as_ref().filter(|_| !is_over) else {
            return;
        };
        let rank = self.rank();
        if !thread::panicking() {
            meeting.leave_message(&format!(
                "process {rank} has left the group: it ended, or does less with it than the \
                 others; look at what it said last"
            ));
            return;
        }
        let panicked = format!("process {rank} panicked; it says itself where");
        meeting.leave_message(&panicked);
        error_file::write(&panicked);
        self.group.replace(None);
        meeting.tell_all(0);
    }
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessGroup")
            .field("rank", &self.rank())
            .field("world_size", &self.world_size())
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}
