//! Losses between models whose tokenizers differ.

mod answers;
mod gold;
mod merged;
#[cfg(test)]
mod mistakes;
mod tokens;
mod uld;

pub use gold::{gold, gold_hybrid};
pub use tokens::{alignment_groups, byte_offsets, shared_tokens};
pub use uld::uld;
