//! One process's share of a loader.

use crate::error::{Error, Result};
use crate::ids::Ids;

use super::shard::{Shard, Uneven};
use super::{DataLoader, not_started};

/// What [`DataLoader::shard`] returns: the share of one process in a loader.
///
/// The loader is asked for that share ([`DataLoader::take_share`]). One that does not know of
/// shares makes all of its batches, or rather skips those of the other ranks, which makes none
/// where [`skip`](DataLoader::skip) need not: so [`map`](DataLoader::map) converts a process's own
/// batches only. Whole batches are dealt out in turn, also of a loader that is endless or does
/// not know how many it has. All processes find the end of the epoch in the same step, without a
/// word between them.
///
/// With [`Uneven::Pad`] a process that has no batch in the last step starts the same epoch of the
/// loader again, for a batch from its beginning; with [`Uneven::Drop`] a batch is given only when
/// those of the other ranks in its step are known to exist.
///
/// After an error in the batch of another rank the epoch has to be started again.
///
/// ```
/// use textbrewer::data::{DataLoader, FnLoader, Shard, Sharded, Uneven};
///
/// let letters = || FnLoader::new(|_epoch| Ok("abcde".chars().map(Ok)));
/// let of = |rank, uneven| -> textbrewer::Result<String> {
///     let mut share: Sharded<_> = letters().shard(Shard::new(rank, 2)?.with_uneven(uneven));
///     share.epoch(1)?.collect()
/// };
/// assert_eq!((of(0, Uneven::Pad)?, of(1, Uneven::Pad)?), ("ace".into(), "bda".into()));
/// assert_eq!((of(0, Uneven::Drop)?, of(1, Uneven::Drop)?), ("ac".into(), "bd".into()));
/// assert_eq!((of(0, Uneven::Keep)?, of(1, Uneven::Keep)?), ("ace".into(), "bd".into()));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Sharded<L> {
    loader: L,
    /// What the loader was asked for, if it was.
    shard: Option<Shard>,
    /// The share that is dealt out here, if the loader does not do it.
    deals: Option<Shard>,
    /// How far the epoch is that is dealt out.
    dealt: Option<Dealt>,
    /// Of the latest batch that was dealt out.
    latest: Latest,
}

/// What is known of a batch.
#[derive(Debug, Default)]
struct Latest {
    number: Option<u64>,
    ids: Option<Ids>,
}

impl Latest {
    /// Of the loader's latest batch.
    fn of<L: DataLoader>(loader: &L) -> Self {
        Latest {
            number: loader.batch_id(),
            ids: loader.example_ids(),
        }
    }
}

/// A place in an epoch whose batches are dealt out.
#[derive(Debug)]
struct Dealt {
    epoch: u64,
    /// How many batches of its own the process has had.
    given: u64,
    /// How many batches of all ranks were taken from the loader, or skipped.
    taken: u64,
    /// How many the epoch has, once its end was seen.
    len: Option<u64>,
}

impl Dealt {
    /// Goes to a place among the batches of all ranks; false if the epoch ends before it.
    fn go_to<L: DataLoader>(&mut self, place: u64, loader: &mut L) -> Result<bool> {
        let wanted = place.saturating_sub(self.taken);
        if wanted == 0 {
            return Ok(true);
        }
        let skipped = loader.skip(wanted)?;
        self.taken += skipped;
        if skipped < wanted {
            self.len = Some(self.taken);
        }
        Ok(skipped >= wanted)
    }
}

impl<L: DataLoader> Sharded<L> {
    pub(super) fn new(loader: L, shard: Shard) -> Self {
        let mut sharded = Sharded::as_it_is(loader);
        sharded.take_share(shard);
        sharded
    }

    /// What the loader gives, until a share is asked for.
    pub(super) fn as_it_is(loader: L) -> Self {
        Sharded {
            loader,
            shard: None,
            deals: None,
            dealt: None,
            latest: Latest::default(),
        }
    }

    /// What the loader was asked for, if it was.
    pub(super) fn share(&self) -> Option<Shard> {
        self.shard
    }

    /// This process's batch of the next step, if the epoch has one.
    fn deal(&mut self, shard: Shard, dealt: &mut Dealt) -> Result<Option<L::Batch>> {
        let (rank, ranks) = (shard.rank() as u64, shard.world_size() as u64);
        if dealt.len.is_some() {
            return self.repeated(shard, dealt);
        }
        let step = dealt.given.saturating_mul(ranks);
        let place = step.saturating_add(rank);
        if !dealt.go_to(place, &mut self.loader)? {
            return self.repeated(shard, dealt);
        }
        let batch = match self.loader.next_batch() {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                dealt.len = Some(place);
                return self.repeated(shard, dealt);
            }
            Err(error) => {
                // The loaders of the crate continue with the next batch.
                dealt.taken += 1;
                dealt.given += 1;
                return Err(error);
            }
        };
        dealt.taken += 1;
        // Asked now, for skipping the batches of the others may change it.
        let latest = Latest::of(&self.loader);
        if shard.uneven() == Uneven::Drop
            && !dealt.go_to(step.saturating_add(ranks), &mut self.loader)?
        {
            return Ok(None);
        }
        dealt.given += 1;
        self.latest = latest;
        Ok(Some(batch))
    }

    /// Behind the epoch's last batch: one from its beginning, if this process still lacks one.
    fn repeated(&mut self, shard: Shard, dealt: &mut Dealt) -> Result<Option<L::Batch>> {
        let len = dealt.len.unwrap_or_default();
        if dealt.given >= shard.batches_of(len) {
            return Ok(None);
        }
        let place = dealt.given * shard.world_size() as u64 + shard.rank() as u64;
        self.loader.start_epoch(dealt.epoch)?;
        // Once around and again, if there are fewer batches than ranks.
        self.loader.skip(place % len)?;
        let Some(batch) = self.loader.next_batch()? else {
            let reason = format!(
                "gave {len} batches, and fewer when the same epoch was started again to share \
                 them out evenly; give every epoch the same batches each time, or choose \
                 Uneven::Drop"
            );
            return Err(Error::protocol("data loader", reason));
        };
        self.latest = Latest::of(&self.loader);
        dealt.given += 1;
        Ok(Some(batch))
    }
}

impl<L: DataLoader> DataLoader for Sharded<L> {
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        let batches = self.loader.num_batches();
        match self.deals {
            // A share is no larger than the whole.
            Some(shard) => batches.map(|batches| shard.batches_of(batches as u64) as usize),
            None => batches,
        }
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.latest = Latest::default();
        self.dealt = None;
        self.loader.start_epoch(epoch)?;
        self.dealt = Some(Dealt {
            epoch,
            given: 0,
            taken: 0,
            len: None,
        });
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<L::Batch>> {
        let Some(shard) = self.deals else {
            return self.loader.next_batch();
        };
        self.latest = Latest::default();
        let mut dealt = self.dealt.take().ok_or_else(not_started)?;
        let given = dealt.given;
        let batch = self.deal(shard, &mut dealt);
        // After an error in its own batch the place is known, after one while skipping it is not.
        if batch.is_ok() || dealt.given > given {
            self.dealt = Some(dealt);
        }
        batch
    }

    /// Skips batches of this process, and those of the others between them.
    fn skip(&mut self, batches: u64) -> Result<u64> {
        let Some(shard) = self.deals else {
            return self.loader.skip(batches);
        };
        self.latest = Latest::default();
        let mut dealt = self.dealt.take().ok_or_else(not_started)?;
        let mut skipped = 0;
        if let Some(before) = batches.checked_sub(1)
            && dealt.len.is_none()
        {
            let ranks = shard.world_size() as u64;
            let step = dealt.given.saturating_add(before).saturating_mul(ranks);
            let behind = match shard.uneven() {
                Uneven::Drop => ranks,
                Uneven::Pad | Uneven::Keep => shard.rank() as u64 + 1,
            };
            skipped = match dealt.go_to(step.saturating_add(behind), &mut self.loader)? {
                true => batches,
                false => {
                    let all = shard.batches_of(dealt.len.unwrap_or_default());
                    all.saturating_sub(dealt.given).min(batches)
                }
            };
            dealt.given += skipped;
        }
        self.dealt = Some(dealt);
        Ok(skipped)
    }

    fn keeps_batches(&self) -> bool {
        self.loader.keeps_batches()
    }

    fn batch_id(&self) -> Option<u64> {
        match self.deals {
            Some(_) => self.latest.number,
            None => self.loader.batch_id(),
        }
    }

    fn example_ids(&self) -> Option<Ids> {
        match self.deals {
            Some(_) => self.latest.ids.clone(),
            None => self.loader.example_ids(),
        }
    }

    /// Another share in place of this one, not a share of it.
    fn take_share(&mut self, shard: Shard) -> bool {
        let takes = self.loader.take_share(shard);
        self.shard = Some(shard);
        self.deals = (!takes && shard.world_size() > 1).then_some(shard);
        self.dealt = None;
        self.latest = Latest::default();
        true
    }
}
