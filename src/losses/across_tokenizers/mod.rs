//! Losses between models whose tokenizers differ.

mod gold;
mod merged;
mod tokens;
mod uld;

pub use gold::{gold, gold_hybrid};
pub use tokens::{alignment_groups, byte_offsets, shared_tokens};
pub use uld::uld;
