//! Which examples a batch is made of.

use std::ops::Deref;
use std::sync::Arc;

use tch::Device;

use crate::batch::Batch;
use crate::error::Result;

/// The ids of the examples of a batch, in their order: numbers that an example keeps, whatever the
/// batch size, the order, the epoch or the number of processes.
///
/// What is kept of an example outside a run, such as what a teacher said of it in a
/// [`TeacherFile`](crate::TeacherFile), is found by its id. An id is the place of the example in its
/// file, from 0, which the loaders of this crate know
/// ([`DataLoader::with_ids`](crate::DataLoader::with_ids)), or a number of a column of its own. Two
/// examples of a data set never have the same.
///
/// A batch carries ids by having them in a field, or in a tuple; [`Batch::ids`] finds them there, but
/// not in a `Vec` or a map of batches.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::{Batch, Ids};
///
/// #[derive(Debug, Batch)]
/// struct Sentences {
///     ids: Ids,
///     input_ids: Tensor,
/// }
///
/// let input_ids = Tensor::from_slice2(&[[101i64, 7, 102], [101, 9, 102]]);
/// let batch = Sentences { ids: Ids::from(vec![12, 4]), input_ids };
/// assert_eq!(Batch::ids(&batch).map(|ids| ids.to_vec()), Some(vec![12, 4]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ids(Arc<[u64]>);

impl From<Vec<u64>> for Ids {
    fn from(ids: Vec<u64>) -> Self {
        Ids(ids.into())
    }
}

impl FromIterator<u64> for Ids {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        Ids(ids.into_iter().collect())
    }
}

impl Deref for Ids {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

/// Ids stay in main memory, wherever the tensors beside them go.
impl Batch for Ids {
    fn to_device(&self, _device: Device) -> Result<Self> {
        Ok(self.clone())
    }

    fn ids(&self) -> Option<&Ids> {
        Some(self)
    }
}
