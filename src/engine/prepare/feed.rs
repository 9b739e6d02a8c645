//! The loader as the run uses it.

use crate::batch::Batch;
use crate::data::DataLoader;
use crate::engine::epochs::Feed;
use crate::engine::run::Postprocessor;
use crate::error::{Error, Result};

/// The loader with the postprocessor applied. Where teacher outputs are kept, the batches are
/// too, as they have to be the same in every epoch.
pub(super) fn feed<'a, B: Batch + 'a>(
    loader: Feed<'a, B>,
    postprocessor: Option<Postprocessor<'a, B>>,
    keeps_outputs: bool,
    seed: u64,
) -> Result<Feed<'a, B>> {
    let loader_keeps = loader.keeps_batches();
    let mut feed = loader;
    if let Some(mut postprocessor) = postprocessor {
        feed = Box::new(feed.map(move |batch| {
            postprocessor(batch).map_err(|error| Error::other(Postprocessing(error)))
        }));
    }
    if !keeps_outputs || feed.keeps_batches() {
        return Ok(feed);
    }
    if feed.num_batches().is_none() {
        let reason = match loader_keeps {
            true => {
                "batch_postprocessor may change a batch in another way each time, and the loader \
                 may be endless, so the batches cannot be kept; convert them in the loaders that \
                 it draws from, as `loader.map(..).fixed()`, or leave caching off"
            }
            false => {
                "the loader may be endless, so its batches cannot be kept; give each of \
                 the loaders that it draws from as `loader.fixed()`, or leave caching off"
            }
        };
        return Err(Error::config("is_caching_logits", reason));
    }
    Ok(Box::new(feed.fixed().shuffle(seed)))
}

/// Marks an error as one of the postprocessor and not of the loader.
#[derive(Debug, thiserror::Error)]
#[error("batch_postprocessor: {0}")]
struct Postprocessing(#[source] Error);
