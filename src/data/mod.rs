//! Loaders of batches: from memory, files or streams.
//!
//! | data | loader |
//! |---|---|
//! | finished batches | [`VecLoader`] |
//! | tensors, one row for each example | [`TensorLoader`] |
//! | examples of any type, such as token ids of different lengths | [`ExampleLoader`] with [`pad_to_longest`] |
//! | lines of text files, read on demand: JSONL, TSV, plain text | [`LineLoader`] |
//! | a stream of examples, shuffled in a buffer | [`StreamLoader`] |
//! | a stream of batches | [`FnLoader`] |
//! | several tasks | [`TaskLoader`] with a loader for each |
//!
//! [`map`](DataLoader::map) converts the batches of any loader, and
//! [`map_in_threads`](DataLoader::map_in_threads) does so in several threads, ahead of time;
//! [`prefetch`](DataLoader::prefetch) prepares batches ahead of time in one other thread.
//!
//! A run that is resumed passes over the batches that it had. What converts them is not called, so
//! the work that takes time, such as tokenising, belongs in `map` or `map_in_threads`, not in the
//! closure of a stream.
//!
//! [`with_ids`](DataLoader::with_ids) puts the [`Ids`] of its examples beside each batch:
//! their places in the data, by which an example is known in every order, in other runs, and in
//! files.
//!
//! [`shard`](DataLoader::shard) gives one of several processes its share of any loader. `batch_size`
//! is always that of one process.
//!
//! The order of a shuffled loader depends only on its seed and the epoch, so a training that is
//! resumed sees the same batches as an uninterrupted one.

mod batch_order;
mod collate;
mod epoch;
mod example_loader;
mod fixed;
mod fn_loader;
mod forward;
mod line;
mod line_file;
mod line_loader;
mod loader;
mod map;
mod map_in_threads;
mod order;
mod prefetch;
mod shard;
mod sharded;
mod stream;
mod stream_loader;
mod task_batch;
mod task_loader;
mod task_sampler;
mod tensor_loader;
mod vec_loader;
mod with_ids;
mod workers;

pub use collate::pad_to_longest;
pub use epoch::Epoch;
pub use example_loader::ExampleLoader;
pub use fixed::Fixed;
pub use fn_loader::FnLoader;
pub use line::Line;
pub use line_loader::LineLoader;
pub use loader::DataLoader;
pub use map::Map;
pub use map_in_threads::MapInThreads;
pub use prefetch::Prefetch;
pub use shard::{Shard, Uneven};
pub use sharded::Sharded;
pub use stream_loader::StreamLoader;
pub use task_batch::TaskBatch;
pub use task_loader::TaskLoader;
pub use tensor_loader::TensorLoader;
pub use vec_loader::VecLoader;
pub use with_ids::WithIds;

use crate::error::Error;
use crate::ids::Ids;

/// Skips up to `batches` items of an iterator and returns how many were skipped.
fn advance(rest: &mut impl ExactSizeIterator, batches: u64) -> u64 {
    let skipped = usize::try_from(batches)
        .unwrap_or(usize::MAX)
        .min(rest.len());
    if let Some(last) = skipped.checked_sub(1) {
        rest.nth(last);
    }
    skipped as u64
}

/// The ids of examples that are known by their places.
fn places(indices: &[usize]) -> Ids {
    indices.iter().map(|&index| index as u64).collect()
}

/// The error of a loader that is asked for a batch before an epoch was started.
fn not_started() -> Error {
    Error::protocol(
        "data loader",
        "`next_batch` was called before an epoch was started; call `start_epoch` first",
    )
}
