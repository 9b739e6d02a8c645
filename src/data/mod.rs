//! Where batches come from: vectors of batches, tensors or examples in memory, streams.
//!
//! | data | loader |
//! |---|---|
//! | batches that are ready | [`VecLoader`] |
//! | tensors, one row for each example | [`TensorLoader`] |
//! | examples of any type, such as token ids of several lengths | [`ExampleLoader`] with [`pad_to_longest`] |
//! | a file, a generator, anything else | [`FnLoader`] |
//!
//! Shuffled loaders give an order that depends on their seed and the epoch alone, so a
//! training that is resumed at some epoch sees the batches it would have seen.

mod collate;
mod example_loader;
mod fn_loader;
mod map;
mod order;
mod tensor_loader;
mod vec_loader;

pub use collate::pad_to_longest;
pub use example_loader::ExampleLoader;
pub use fn_loader::FnLoader;
pub use map::Map;
pub use tensor_loader::TensorLoader;
pub use vec_loader::VecLoader;

use crate::Result;

/// Gives the batches of each epoch.
///
/// `&mut L` and `Box<L>` of a loader are loaders too.
pub trait DataLoader {
    /// What a model is called with.
    type Batch;

    /// How many batches an epoch has, if that is known beforehand.
    fn num_batches(&self) -> Option<usize>;

    /// The batches of an epoch; epochs count from 1.
    ///
    /// # Errors
    /// When there is nothing to give, or the source cannot be opened. An error at one
    /// batch is an item of the iterator.
    fn epoch<'a>(
        &'a mut self,
        epoch: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<Self::Batch>> + 'a>>;

    /// A loader whose batches have gone through `convert`, for instance from a vector of
    /// tensors to a batch type of one's own.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::data::{DataLoader, TensorLoader};
    /// use textbrewer::Error;
    ///
    /// # fn main() -> textbrewer::Result<()> {
    /// struct Sentences {
    ///     input_ids: Tensor,
    ///     labels: Tensor,
    /// }
    ///
    /// let (input_ids, labels) = (Tensor::from_slice(&[1i64, 2, 3]), Tensor::from_slice(&[0i64, 1, 0]));
    /// let mut loader = TensorLoader::new(vec![input_ids, labels], 2)?.map(|tensors| {
    ///     let [input_ids, labels] = tensors.try_into().map_err(|_| Error::other("two tensors"))?;
    ///     Ok(Sentences { input_ids, labels })
    /// });
    /// for batch in loader.epoch(1)? {
    ///     let batch = batch?;
    ///     assert_eq!(batch.input_ids.size(), batch.labels.size());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn map<F, B>(self, convert: F) -> Map<Self, F>
    where
        Self: Sized,
        F: FnMut(Self::Batch) -> Result<B>,
    {
        Map::new(self, convert)
    }
}

impl<L: DataLoader + ?Sized> DataLoader for &mut L {
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        (**self).num_batches()
    }

    fn epoch<'a>(
        &'a mut self,
        epoch: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<Self::Batch>> + 'a>> {
        (**self).epoch(epoch)
    }
}

impl<L: DataLoader + ?Sized> DataLoader for Box<L> {
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        (**self).num_batches()
    }

    fn epoch<'a>(
        &'a mut self,
        epoch: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<Self::Batch>> + 'a>> {
        (**self).epoch(epoch)
    }
}
