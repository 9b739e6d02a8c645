//! Batches of rows of tensors.

use tch::Tensor;

use crate::error::{Context, Error, Result};
use crate::ids::Ids;

use super::batch_order::{BatchIndices, BatchOrder};
use super::shard::Shard;
use super::{DataLoader, advance, not_started, places};

/// Yields batches of rows of tensors, as PyTorch's `DataLoader` over a `TensorDataset`.
///
/// A batch is a vector with as many tensors as the data set has;
/// [`map`](DataLoader::map) makes a batch type of one's own from it. The id of an example is its row,
/// from 0 ([`with_ids`](DataLoader::with_ids)).
///
/// ```
/// use tch::Tensor;
/// use textbrewer::data::{DataLoader, TensorLoader};
///
/// # fn main() -> textbrewer::Result<()> {
/// let input_ids = Tensor::arange(50, tch::kind::INT64_CPU).reshape([10, 5]);
/// let labels = Tensor::arange(10, tch::kind::INT64_CPU);
/// let mut loader = TensorLoader::new(vec![input_ids, labels], 4)?.shuffle(42).drop_last();
/// assert_eq!(loader.num_batches(), Some(2));
/// for batch in loader.epoch(1)? {
///     let batch = batch?;
///     assert_eq!((batch[0].size(), batch[1].size()), (vec![4, 5], vec![4]));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorLoader {
    tensors: Vec<Tensor>,
    order: BatchOrder,
    rest: Option<BatchIndices>,
    /// The indices of the latest batch.
    latest: Option<Vec<usize>>,
}

impl TensorLoader {
    /// A loader of `batch_size` rows of each tensor; the last batch may have fewer. Of several
    /// processes each has so many ([`Shard`]).
    ///
    /// # Shape
    /// Each tensor is `[examples, ...]`.
    ///
    /// # Errors
    /// When there are no tensors, they have no rows or different numbers of rows, or
    /// `batch_size` is 0.
    pub fn new(tensors: Vec<Tensor>, batch_size: usize) -> Result<Self> {
        let mut len = None;
        for (index, tensor) in tensors.iter().enumerate() {
            let size = if tensor.defined() {
                tensor.size()
            } else {
                Vec::new()
            };
            let rows = size.first().copied();
            let expected = len.or(rows);
            if rows.is_none() || rows != expected {
                return Err(Error::shape(
                    format!("data set, tensor {index}"),
                    match expected {
                        Some(rows) => format!("{rows} rows, as tensor 0 has"),
                        None => "[examples, ...]".to_owned(),
                    },
                    format!("{size:?}"),
                ));
            }
            len = expected;
        }
        let len = usize::try_from(len.unwrap_or_default()).unwrap_or_default();
        Ok(TensorLoader {
            tensors,
            order: BatchOrder::new("data set", len, batch_size)?,
            rest: None,
            latest: None,
        })
    }

    /// Shuffles the rows anew in every epoch, from this seed.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.order.order.seed = Some(seed);
        self
    }

    /// Drops the last batch of an epoch if it is not full; of several processes, those of a step that
    /// are not all full.
    #[must_use]
    pub fn drop_last(mut self) -> Self {
        self.order.drop_last = true;
        self
    }
}

impl DataLoader for TensorLoader {
    type Batch = Vec<Tensor>;

    fn num_batches(&self) -> Option<usize> {
        Some(self.order.num_batches())
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        (self.rest, self.latest) = (None, None);
        self.rest = Some(self.order.batches(epoch, None)?);
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<Vec<Tensor>>> {
        self.latest = None;
        let Some(indices) = self.rest.as_mut().ok_or_else(not_started)?.next() else {
            return Ok(None);
        };
        let batch = rows(&self.tensors, &indices)?;
        self.latest = Some(indices);
        Ok(Some(batch))
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.latest = None;
        let rest = self.rest.as_mut().ok_or_else(not_started)?;
        Ok(advance(rest, batches))
    }

    /// Of each `world_size × batch_size` examples, those of the rank.
    fn take_share(&mut self, shard: Shard) -> bool {
        self.order.shard = shard;
        self.rest = None;
        self.latest = None;
        true
    }

    /// Their rows in the tensors.
    fn example_ids(&self) -> Option<Ids> {
        self.latest.as_deref().map(places)
    }
}

fn rows(tensors: &[Tensor], indices: &[usize]) -> Result<Vec<Tensor>> {
    let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    let indices = Tensor::f_from_slice(&indices)?;
    let select = |tensor: &Tensor| {
        let indices = indices.f_to_device(tensor.device())?;
        tensor.f_index_select(0, &indices)
    };
    tensors
        .iter()
        .map(|tensor| select(tensor).context(|| "rows of the data set".into()))
        .collect()
}
